"""Stage 11, retraining: `loop` lives through most of a year, month by month, in which a few things are planted, and answers each step.

What it did is told by the registry, by its own answers, and by how well the champions of its steps do on flights that nobody was given.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grader import services, stages, stores
from grader.checks import charts, running, served, statistics, tracked
from grader.checks.api import Fault, Finding, Grading, Owed, check, failed, passed, with_list, work
from grader.checks.asking import predicted, question, rows_of
from grader.checks.s06_registry import MODEL_NAME, Registered, audited, registered
from grader.checks.s07_pipeline import environment, prefect, source_with, watcher_of
from grader.contract.outputs import AuditRecord, LoopAnswer, MonthRecord, OutputProblem, parse_output
from grader.contract.retraining import NAME, STEP_SECONDS
from grader.contract.serving import PATIENCE_SECONDS, START_SECONDS
from grader.inplace import Written
from grader.sandbox import Mount
from grader.sandbox.base import Argument, Finished, SandboxFault
from grader.sandbox.base import Service as Tool
from grader.sandbox.reader import Unreadable
from grader.submission import Ran, Running
from grader.verdict import Chart, Series
from grader.world import features, replay
from grader.world.boosting import Boosting
from grader.world.build import LATE_MINUTES, stream
from grader.world.replay import HISTORY, STEPS, Season

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pandas as pd

BARS = stages.find("11").bars
MOST_FILES = 200  # that are looked at in the mailbox
STOP_SECONDS = 10
LIFE_SECONDS = 3600  # of one start of the loop
POLL_SECONDS = 0.05
CLIP = 1e-6
ASKED = 20  # flights that the service is asked about, of each champion
_GOES_ON = Finished("exited", 0, 0.0, "")


# The replay


@dataclass
class Step:
    """What happened at one step: the answer, and what was there when it had come.

    Attributes
    ----------
    took : seconds to the answer.
    there : the registry when it had come.
    served : the version that the service answered with, where the champion had changed.
    killed : when the loop was killed at this step, in words; empty if it was not.
    store : a copy of the MLflow store as it was then, where a version was made that is scored: what it answers is not altered later.
    """

    number: int
    took: float
    answer: LoopAnswer
    raw: Any
    there: Registered
    served: str | None = None
    killed: tuple[str, ...] = ()
    store: Path | None = None


@dataclass(frozen=True)
class Before:
    """What lay there when the loop had answered the step before the change: its store and its state, and copies of mailbox and source."""

    store: Path
    state: Path
    mailbox: Path
    source: Path


@dataclass
class Played:
    """All steps, until the last or until something went wrong, which `problem` says."""

    season: Season
    steps: list[Step] = field(default_factory=list)
    problem: str = ""
    blame: str = ""  # the check that the problem belongs to, where it is not that of the answers
    changed: str = ""  # an answer that is another one than before
    in_place: str = ""  # an answer that was written under its name, step by step
    early: str = ""  # what it asked the source for before any message had named it, as a sentence
    last: Ran | None = None
    service: str = ""  # what was wrong with the service, as a sentence
    said: dict[str, tuple[float, ...]] = field(default_factory=dict)  # what it answered to the same rows, by version
    before: Before | None = None
    seconds: float = 0.0

    @property
    def story(self) -> replay.Story:
        return self.season.story

    def at(self, step: int) -> Step:
        return self.steps[step]

    @property
    def trained_and_killed(self) -> bool:
        """Whether it was killed in a training already."""
        return any(step.killed and step.number != self.story.down for step in self.steps)

    def champion(self, step: int) -> str:
        """The version that the alias pointed to after a step, whatever the answer says."""
        return self.at(step).there.champion or ""

    def made(self, step: int) -> list[str]:
        """The versions that were made between a step and the one before, also those that were deleted since."""
        before = _all_of(self.at(step - 1).there) if step else frozenset()
        return sorted(_all_of(self.at(step).there) - before, key=lambda version: (len(version), version))

    def own(self, step: int) -> bool:
        """Whether it trained at a step of its own accord: more than an order asks for."""
        return len(self.made(step)) > (step == self.story.order)

    def crowned(self, step: int) -> bool:
        """Whether another version, or the first, became champion at a step."""
        return not step or self.champion(step) != self.champion(step - 1)

    @cached_property
    def flapped(self) -> list[int]:
        """The quiet steps at which it trained."""
        return [step for step in self.story.quiet if self.own(step)]

    def waiting_for_repair(self, step: int) -> bool:
        """Whether the world had changed before a step, and the first champion was still there."""
        return step > self.story.change and self.champion(step - 1) == self.champion(0)

    @cached_property
    def retrainings(self) -> list[int]:
        """The steps at which it trained of its own accord, after the first champion."""
        return [step for step in range(1, len(self.steps)) if self.own(step)]


def _all_of(there: Registered) -> frozenset[str]:
    return there.versions | there.deleted


@work
def season(grading: Grading) -> Season:
    return replay.make_season(grading.world().seed or 0)


@dataclass(frozen=True)
class Given:
    """What the loop is given: the months before, the use case, and the folder that the source hands out.

    `year` has what it hands out at each step, for who asks why.
    """

    history: Path
    settings: Path
    source: Path
    year: Path


@work
def given(grading: Grading) -> Given:
    history, settings, source, year = (grading.folder(name) for name in ("history", "given", "source", "year"))
    made = grading.get(season)
    replay.lay_down(made, made.history, history)
    (settings / "usecase.toml").write_text(made.usecase, encoding="utf-8")
    if grading.own:
        lay_down_year(made, year)
    return Given(history, settings, source, year)


def lay_down_year(made: Season, year: Path, steps: Sequence[int] = range(STEPS + 1)) -> None:
    """Each step's message, and the months as the source has them then, for learners to try on; also where nothing answers yet."""
    holds = {step: planted(made, step) for step in steps}
    (year / "planted.json").write_text(json.dumps(holds, indent=1), encoding="utf-8")
    for step in holds:
        here = year / f"step-{step}"
        here.mkdir()
        (here / "message.json").write_text(json.dumps(made.message(step), indent=1), encoding="utf-8")
        if step:
            made.deliver(step, here)


@dataclass
class Loop:
    """The submission's loop, its mailbox, and the service beside it."""

    grading: Grading
    source: services.Source
    out: Path
    printed: Path
    running: Running | None = None
    asked: set[str] = field(default_factory=set)

    @property
    def mailbox(self) -> Path:
        return self.out / "mailbox"

    def start(self, tracking: Path | None = None, state: Path | None = None) -> None:
        """Start it, or start it again where it left off; at first with copies of a store and a state, if they are given. Raises Owed."""
        given_ = self.grading.get(given)
        history, settings = Mount(given_.history, "history"), Mount(given_.settings, "given")
        mailbox = Mount(self.mailbox, "mailbox")
        answers = Mount(self.mailbox / "out", "mailbox/out", writable=True)
        argv: list[Argument] = [
            *running.command(self.grading, "loop"), "--usecase", settings / "usecase.toml", "--mailbox", mailbox,
            "--source", self.source.url, "--history", history, "--seed", str(running.SEED),
        ]  # fmt: skip
        limits = replace(self.grading.limits, seconds=LIFE_SECONDS)
        self.running = self.grading.submission.start(
            "loop",
            argv,
            [history, settings, mailbox, answers],
            self.out,
            limits,
            environment(self.grading, self.out),
            tracking,
            state,
            printed=self.printed,
        )

    def put(self, message: Mapping[str, object]) -> None:
        """Lay a message into the mailbox, whole."""
        name = NAME.format(step=message["step"])
        aside = self.mailbox / "in" / f".{name}.part"
        aside.write_text(json.dumps(message, indent=1), encoding="utf-8")
        aside.rename(self.mailbox / "in" / name)
        self.asked.add(name)

    def answered(self, step: int) -> bool:
        return os.path.lexists(self.mailbox / "out" / NAME.format(step=step))

    def ended(self) -> Ran | None:
        assert self.running is not None
        return self.running.ended()

    def stop(self, grace_seconds: float = 0.0) -> Ran:
        assert self.running is not None
        return self.running.stop(grace_seconds)

    def ran(self) -> Ran:
        """The folders as after a command, for those who read them while it goes on."""
        assert self.running is not None
        return Ran(
            "loop", _GOES_ON, self.out / "out", self.out / "none", None, self.out / stores.NAME, self.out / "state"
        )

    def unasked(self) -> str:
        """An answer to what was not asked; empty if there is none."""
        try:
            with os.scandir(self.mailbox / "out") as found:
                names = [entry.name for entry, _ in zip(found, range(MOST_FILES), strict=False)]
        except OSError:
            return ""
        return next((name for name in sorted(names) if name.endswith(".json") and name not in self.asked), "")


@work
def played(grading: Grading) -> Played:
    """The whole replay. Raises Owed where there is no such command."""
    running.command(grading, "loop")
    made = grading.get(season)
    out = grading.folder("loop", grading.limits.disk_mb)
    for name in ("in", "out"):
        (out / "mailbox" / name).mkdir(parents=True)
    found = Played(made)
    given_ = grading.get(given)
    with source_with(grading, given_.source, "source-own", made.hiccups, given_.year) as source:
        loop = Loop(grading, source, out, grading.folder("loop-printed") / "printed.txt")
        written = Written(loop.mailbox / "out")
        beside: served.Service | None = None
        began = time.monotonic()
        try:
            loop.start()
            for number in range(STEPS + 1):
                found.early = found.early or asked_early(loop, found, number)
                step = play(grading, loop, found, number)
                if step is None:
                    break
                found.steps.append(step)
                found.in_place = found.in_place or next((n for n in written.names() if n.endswith(".json")), "")
                beside = beside or serve(grading, loop)
                follow(found, step, beside)
                keep(grading, loop, found, step)
        finally:
            found.seconds = time.monotonic() - began
            written.close()
            if beside is not None and beside.running is not None:
                beside.stop()
            found.last = loop.stop(STOP_SECONDS)
            found.early = found.early or asked_early(loop, found, len(found.steps))
    if found.last.absent:
        raise Owed(f"there is no loop command yet; {found.last.sentence()}")
    if not found.problem:
        found.changed = changed(grading, loop, found)
    return found


def asked_early(loop: Loop, found: Played, number: int) -> str:
    """What was asked of the source before the message of a step that no message had named; empty if there is nothing."""
    named = {month for step in range(number) for month in found.season.months(step)}
    to_come = {found.season.month(step) for step in range(1, STEPS + 2)} - named
    early = next((call.path for call in loop.source.calls() if call.path.split("/")[0] in to_come), None)
    return f"before the message of step {number} it asked the source for {early[:60]}" if early else ""


def play(grading: Grading, loop: Loop, found: Played, number: int) -> Step | None:
    """One step; None where there is no answer that can be read, and then it is said what was wrong."""
    made, story = found.season, found.story
    killed: list[str] = []
    if number:
        made.deliver(number, grading.get(given).source)
    training = number in story.settling and not found.trained_and_killed
    # it has its turn while it works, and not while its answer is read: who reads has to wait for a turn too
    with moments(grading, loop, training) as watched, grading.sandbox.turn:
        # at the change too, since it is played again without the change from a start: nothing is to tell these two apart
        started_anew = number in (story.down, story.change)
        if started_anew:
            loop.stop()
        loop.put(made.message(number))
        if started_anew:
            loop.start()
        if number == story.down:
            killed.append("while it waited, before the message came")
        for says, watcher in watched:
            if seen(loop, number, watcher):
                loop.stop()
                loop.start()
                killed.append(says)
        began = time.monotonic()
        problem = wait(loop, number, f", killed {' and '.join(killed)} and started again," if killed else "")
    if problem:
        found.problem = problem
        found.blame = "restart" if killed or started_anew else "failed_month" if number == story.lacking else ""
        return None
    took = time.monotonic() - began
    try:
        raw = grading.reader.json(loop.mailbox / "out" / NAME.format(step=number))
        answer = parse_output(LoopAnswer, raw, f"the answer to step {number}")
        if name := loop.unasked():
            raise Fault(f"out/{name[:40]} is there after step {number}, and was not asked for")
        there = registered(grading, loop.ran())
    except Unreadable as unread:
        found.problem = f"the answer to step {number} {unread}"
    except (OutputProblem, Fault) as wrong:
        found.problem = str(wrong)
    else:
        return Step(number, took, answer, raw, there, killed=tuple(killed))
    return None


def keep(grading: Grading, loop: Loop, found: Played, step: Step) -> None:
    """Copy what is asked about later as it is now, while the loop waits."""

    def copied(folder: Path, label: str) -> Path:
        target = grading.folder(label)
        stores.copy_files(folder, target)
        return target

    if found.crowned(step.number) or step.number == found.story.order:
        step.store = copied(loop.out / stores.NAME, f"store-at-step-{step.number}")
    if step.number == found.story.change - 1:
        found.before = Before(
            copied(loop.out / stores.NAME, "store-before-the-change"),
            copied(loop.out / "state", "state-before-the-change"),
            copied(loop.mailbox, "mailbox-before-the-change"),
            copied(grading.get(given).source, "source-before-the-change"),
        )


def wait(loop: Loop, step: int, who: str) -> str:
    """Wait for an answer; what is wrong if there is none."""
    deadline = time.monotonic() + STEP_SECONDS
    while not loop.answered(step):
        if (ended := loop.ended()) is not None:
            return f"the loop{who} ended at step {step} without an answer; {ended.finished.sentence()}: {ended.telling_line}"
        if time.monotonic() > deadline:
            return f"the loop{who} did not answer step {step} within {STEP_SECONDS} s"
        time.sleep(POLL_SECONDS)
    return ""


@contextmanager
def moments(grading: Grading, loop: Loop, wanted: bool) -> Iterator[list[tuple[str, Tool]]]:
    """Moments of a training at which the loop is killed, each with a tool of ours, in a sandbox of its own, that ends when it has come.

    None if they are not `wanted`.
    """
    if not wanted:
        yield []
        return
    try:
        runs = len(grading.reader.store(loop.out / stores.NAME, stores.NAME, "", "")["runs"])
        registry = grading.reader.registry(loop.out / stores.NAME, stores.NAME, MODEL_NAME)
        versions, champion = len(registry["versions"]), str(registry["aliases"].get("champion", ""))
    except Unreadable:
        runs, versions, champion = 0, 0, ""
    found = [
        ("when it had begun to train", watcher_of(grading, loop.out, f"runs:{runs}")),
        ("when the version was there", watcher_of(grading, loop.out, f"model_versions:{versions}")),
        ("when it had become champion", watcher_of(grading, loop.out, f"champion:{champion}")),
    ]
    try:
        yield found
    finally:
        for _, watcher in found:
            watcher.stop(0)


def seen(loop: Loop, step: int, watcher: Tool) -> bool:
    """Wait until a moment has come; False if the answer, the end of the loop or of its time came before."""
    deadline = time.monotonic() + STEP_SECONDS
    while not loop.answered(step) and loop.ended() is None and time.monotonic() < deadline:
        if (ended := watcher.poll()) is not None:
            if not ended.ok:
                raise SandboxFault(f"our tool could not look at the store: {ended.output[-200:]}")
            return True
        time.sleep(POLL_SECONDS / 5)
    return False


def serve(grading: Grading, loop: Loop) -> served.Service:
    """The service of stage 08 beside the loop, on its store. Raises Owed."""
    given_ = grading.get(given)
    made = served.service(grading, "service-beside", loop.out)
    made.beside, made.reads = loop.running, (given_.history, given_.settings)
    with suppress(Owed):
        made.start()
    return made


def follow(found: Played, step: Step, service: served.Service) -> None:
    """See that the service answers with the champion, wherever that has changed."""
    champion = found.champion(step.number)
    if found.service or not found.crowned(step.number):
        return
    if service.running is None:
        found.service = "the command serve is not declared"
        return
    allowed = served.FOLLOWED if step.number else START_SECONDS + served.FOLLOWED
    deadline, version = time.monotonic() + allowed, None
    while time.monotonic() < deadline and service.ended() is None:
        version = served.version_of(service.ask(served.VERSION)[0])
        if version == champion:
            step.served = version
            found.service = said_by(found, version, service)
            return
        time.sleep(POLL_SECONDS)
    ended = service.ended()
    found.service = f"after step {step.number} version {champion} is champion, and the service " + (
        f"has ended; {ended.sentence()}" if ended else f"says {version or 'nothing'} after {allowed:.0f} s"
    )


def said_by(found: Played, version: str, service: served.Service) -> str:
    """Ask the service about flights; what is wrong with its answer, as a sentence, or nothing.

    Two versions never agree on all to the last digit, unless one answers under the name of the other.
    """
    rows = rows_of(found.season.scored[found.season.month(1)].table.head(ASKED))
    what = f"version {version} is champion, and the service says so; we asked it about {ASKED} flights"
    try:
        answer = predicted(service.ask(question(rows), deadline=PATIENCE_SECONDS)[0], rows, what)
    except Fault as problem:
        return str(problem)
    said = tuple(prediction.probability for prediction in answer.predictions)
    if twin := next((other for other, before in found.said.items() if before == said and other != version), None):
        return f"{what}, and it says of each what version {twin} said"
    found.said[version] = said
    return ""


def changed(grading: Grading, loop: Loop, found: Played) -> str:
    """An answer that is no longer what it was, or one too many; empty if there is none."""
    if name := loop.unasked():
        return f"out/{name[:40]} was not asked for"
    for step in found.steps:
        name = NAME.format(step=step.number)
        try:
            if repr(grading.reader.json(loop.mailbox / "out" / name)) != repr(step.raw):  # NaN is not equal to itself
                return f"out/{name} says something else than when it came"
        except Unreadable as problem:
            return f"out/{name} {problem}"
    return ""


@dataclass(frozen=True)
class Again:
    """The steps from the change to the first training after it, played again from a copy in a year in which nothing changes.

    `trained` is the step at which it trained there too, with what it said, or None; `problem` what went wrong otherwise.
    """

    steps: tuple[int, ...]
    trained: int | None = None
    trigger: str = ""
    problem: str = ""


@work
def again(grading: Grading) -> Again | None:
    """Whether it trains by what the months say or by the calendar; None where it has not trained in time. Raises Owed."""
    found = grading.get(told)
    change, before = found.story.change, found.before
    first = next((step for step in found.retrainings if step >= change), STEPS + 1)
    if first not in found.story.settling or before is None:
        return None
    made = found.season.as_before
    steps = tuple(range(change, first + 1))
    out, source, year = (
        grading.folder("loop-in-a-year-without-change", grading.limits.disk_mb),
        grading.folder("source-without-change"),
        grading.folder("year-without-change"),
    )
    stores.copy_files(before.source, source)
    stores.copy_files(before.mailbox, out / "mailbox")
    if grading.own:
        lay_down_year(made, year, steps)
    with source_with(grading, source, "source-without-change-own", {}, year) as server:
        loop = Loop(grading, server, out, grading.folder("loop-without-change-printed") / "printed.txt")
        try:
            for step in steps:
                made.deliver(step, source)
                with grading.sandbox.turn:
                    loop.put(made.message(step))
                    if loop.running is None:
                        loop.start(before.store, before.state)
                    problem = wait(loop, step, ", started on a copy of its store and state,")
                if problem:
                    return Again(steps, problem=problem)
                if _all_of(registered(grading, loop.ran())) - _all_of(found.at(change - 1).there):
                    answer = grading.reader.json(loop.mailbox / "out" / NAME.format(step=step))
                    said = answer.get("trigger") if isinstance(answer, dict) else ""
                    return Again(steps, step, str(said)[:200])
        except (Unreadable, Fault) as problem_:
            return Again(steps, problem=str(problem_))
        finally:
            if loop.running is not None:
                loop.stop(STOP_SECONDS)
    return Again(steps)


@work
def told(grading: Grading) -> Played:
    """The replay, to its end; for the checks that need all of it. Raises Owed."""
    found = grading.get(played)
    if found.problem:
        checks = {"restart": "survives_a_restart", "failed_month": "survives_a_failed_month"}
        raise Owed(
            f"every step has to be answered first: see retraining.{checks.get(found.blame, 'answers_every_step')}"
        )
    return found


# What the champions are worth


@dataclass(frozen=True)
class Losses:
    """Log loss, flight by flight, of each version that was champion, and of two models of the judge.

    Attributes
    ----------
    month, day : (n,) of each flight.
    of : by version, (n,).
    rate, frozen, hindsight : of the rate of late flights in the history, of the judge's plain model of it, and of its models that learned
        in each month from what held then, (n,).
    champion : by month, the version that answers in it.
    change : the month from which on other flights are late.
    """

    month: np.ndarray
    day: np.ndarray
    of: Mapping[str, np.ndarray]
    rate: np.ndarray
    frozen: np.ndarray
    hindsight: np.ndarray
    champion: Mapping[str, str]
    change: str

    @property
    def first(self) -> np.ndarray:
        return self.of[next(iter(self.champion.values()))]

    @cached_property
    def loop(self) -> np.ndarray:
        """Of whoever was champion, (n,)."""
        import numpy as np

        found = np.empty(len(self.month))
        for month, version in self.champion.items():
            at = self.month == month
            found[at] = self.of[version][at]
        return found

    @cached_property
    def kept(self) -> np.ndarray:
        """Of the first champion, and after the change of the rate of late flights in months where that is better, (n,).

        So a first champion that is bad on purpose makes nobody's gain larger.
        """
        found = self.first.copy()
        for month in self.champion:
            at = self.month == month
            if month > self.change and self.rate[at].mean() < self.first[at].mean():
                found[at] = self.rate[at]
        return found

    @cached_property
    def after_change(self) -> np.ndarray:
        """Of hindsight: the first champion as long as it holds, then the judge's plain models of what has come since, (n,)."""
        import numpy as np

        found: np.ndarray = np.where(self.month > self.change, self.hindsight, self.first)
        return found

    def since(self, month: str) -> np.ndarray:
        found: np.ndarray = self.month >= month
        return found

    def by_month(self, values: np.ndarray) -> list[float]:
        return [float(values[self.month == month].mean()) for month in self.champion]


def loss(late: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Log loss of each flight, (n,)."""
    import numpy as np

    p = np.clip(probability, CLIP, 1 - CLIP)
    found: np.ndarray = -np.where(late, np.log(p), np.log1p(-p))
    return found


@dataclass(frozen=True)
class Scored:
    """The flights that are scored, with their features, and what the judge's own models lose on them, (n,)."""

    table: pd.DataFrame
    month: np.ndarray
    day: np.ndarray
    late: np.ndarray
    rate: np.ndarray
    frozen: np.ndarray
    hindsight: np.ndarray


@work
def scored(grading: Grading) -> Scored:
    """Raises Owed where the submission's features are not to be computed."""
    import numpy as np
    import pandas as pd

    from grader.checks.s05_tracking import own_features
    from grader.contract.features import FeatureProblem, required

    made, folder = grading.get(season), grading.folder("data-as-they-were")
    replay.lay_down(made, made.world.months, folder)
    usecase = grading.get(given).settings / "usecase.toml"
    rows = pd.concat([rows.table for rows in made.scored.values()], ignore_index=True)
    late = np.concatenate([rows.late for rows in made.scored.values()])
    mixed = stream(made.world.seed or 0, "order of what is scored").permutation(len(rows))  # a place tells no month
    rows, late = rows.iloc[mixed].reset_index(drop=True), late[mixed]
    day = rows["sched_dep_local"].str.slice(0, 10).to_numpy(str)
    month = np.array([text[:7] for text in day])
    try:
        table = features.compute(own_features(grading), usecase, folder, rows)
    except FeatureProblem as problem:
        raise Owed(f"{problem}; features.toml is owed from stage 04") from None
    landed = made.flights[made.flights["outcome"].eq("flown")].reset_index(drop=True)
    learnt = features.compute(required(), usecase, folder, landed.assign(row_id=landed["flight_id"])).drop(
        columns="row_id"
    )
    asked = features.compute(required(), usecase, folder, rows).drop(columns="row_id")
    known, was_late = made.world.month_of(landed).to_numpy(str), (landed["arr_delay_min"] > LATE_MINUTES).to_numpy()
    names, change = list(made.world.months), made.month(made.story.change)

    def learned(at: np.ndarray) -> Boosting:
        return Boosting.fit(learnt[at], was_late[at])

    frozen = learned(np.isin(known, names[:HISTORY]))
    of_frozen = loss(late, frozen.answers(asked))
    hindsight = of_frozen.copy()
    for name in names[HISTORY:]:
        if name > change:  # what held before does not hold, and what holds now is known from the first month of it on
            at = month == name
            model = learned((known >= change) & (known < name))
            hindsight[at] = loss(late[at], model.answers(asked[at]))
    rate = loss(late, np.full(len(late), was_late[np.isin(known, names[:HISTORY])].mean()))
    return Scored(table, month, day, late, rate, of_frozen, hindsight)


@work
def losses(grading: Grading) -> Losses:
    """Raises Owed."""
    found, on = grading.get(told), grading.get(scored)
    months = sorted(set(on.month))
    champion = {month: found.champion(step) for step, month in enumerate(months)}
    assert found.last is not None
    try:
        answers = answers_of(grading, found, on.table)
    except Fault as problem:
        raise Owed(f"{problem}; what a logged model has to do stands in stage 05") from None
    if missing := set(champion.values()) - set(answers):
        raise Owed(f"version {min(missing)[:20]} is champion and was deleted; see retraining.keeps_the_audit")
    of = {version: loss(on.late, probability) for version, probability in answers.items()}
    change = found.season.month(found.story.change)
    return Losses(on.month, on.day, of, on.rate, on.frozen, on.hindsight, champion, change)


def answers_of(grading: Grading, found: Played, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """What champions, and the versions of an order, say of features in the submission's environment, each alone. Raises Fault.

    They come from the store as it was when they were made or became champion, so that nothing that was learned later is in them.
    """
    assert found.last is not None
    answers: dict[str, np.ndarray] = {}
    for step in found.steps:
        if step.store is None:
            continue
        ran = replace(found.last, tracking=step.store)
        asked = {found.champion(step.number), *(found.made(step.number) if step.number == found.story.order else ())}
        for version in sorted((asked & step.there.versions) - answers.keys()):
            plan = [(tracked.Model(ran, f"models:/{MODEL_NAME}/{version}"), {"flights": table})]
            answers[version] = tracked.scored(tracked.score(grading, plan, step.store)[0])["flights"]
    return answers


# What a learner is shown


def _all_steps(grading: Grading) -> pd.DataFrame:
    """One row a step: what was planted, what was answered, what the champion was worth."""
    import pandas as pd

    try:
        found = grading.get(played)
    except Owed:
        return pd.DataFrame()
    try:
        worth = grading.get(losses)
    except (Owed, Fault):
        worth = None
    records = []
    for step in found.steps:
        answer, serves = step.answer, found.season.month(step.number + 1)
        record = {
            "step": step.number, "planted": "; ".join(planted(found.season, step.number)), "decision": answer.decision,
            "trigger": answer.trigger[:300], "versions": " ".join(answer.versions), "champion": answer.champion,
            "months": "; ".join(_said(month) for month in answer.months), "seconds": round(step.took, 1),
        }  # fmt: skip
        if worth is not None:
            at = worth.month == serves
            record |= {
                "answers_in": serves, "loss_of_champion": round(float(worth.loop[at].mean()), 4),
                "loss_of_first_champion": round(float(worth.first[at].mean()), 4),
                "loss_of_late_rate": round(float(worth.rate[at].mean()), 4),
            }  # fmt: skip
        records.append(record)
    return pd.DataFrame(records)


with_all_steps = with_list("steps", _all_steps)


def planted(made: Season, step: int) -> list[str]:
    """What a step holds, in words."""
    story, found = made.story, []
    if step == story.change and made.flights is not made.unchanged:
        found.append("from this month on other flights are late")
    if step in (story.wrong, story.wrong + 1):
        found.append(f"the labels of {made.month(story.wrong)} belong to other flights")
    if step == story.corrected:
        found.append(f"the labels of {made.month(story.wrong)} have been put right")
    if step == story.lacking:
        found.append(f"{made.month(step)} cannot be had")
    if step == story.order:
        found.append("somebody asks for a model of days before the change")
    if step == story.again:
        found.append(
            f"{made.month(step - 1)} comes again without the column {replay.GONE}, so what came of it before stays"
        )
    return found


def arrival(found: Played, step: int, month: str) -> MonthRecord | None:
    """What was answered about a month at a step."""
    return next((record for record in found.at(step).answer.months if record.month == month), None)


def status(record: MonthRecord | None) -> str:
    return record.status if record else "not named"


def _said(record: MonthRecord | None) -> str:
    return (
        f"{record.month[:10]} {record.status} ({record.rows_accepted:,} of {record.rows_in:,} rows)" if record else ""
    )


def of_step(found: Played, step: int) -> str:
    """A step as messages speak of it."""
    month = f" ({found.season.month(step)})" if step else ""
    return f"step {step}{month}"


# Checks

RUN = (prefect, season, given, played)
TO_THE_END = (*RUN, told)
WITH_LOSSES = (*TO_THE_END, scored, losses)


@check("retraining.answers_every_step", uses=RUN)
@with_all_steps
def answers_every_step(grading: Grading) -> Finding:
    """Each step gets one answer, in time and in form, that agrees with the registry; told to stop, the loop ends.

    Catches: no answer; an answer to another step, or before the question; a champion or versions that are not there; a training with
    another seed than the loop's; an answer that is written in place, where the system tells of it; a loop that dies.
    Accepts: any decision.
    """
    found = grading.get(played)
    if found.problem and not found.blame:
        value = f"{len(found.steps)} steps answered"
        return failed(f"we began to play {STEPS + 1} steps; {found.problem}", value, f"{STEPS + 1}")
    for step in found.steps:
        answer, where = step.answer, f"after {of_step(found, step.number)}"
        if answer.step != step.number:
            return failed(
                f"the answer to step {step.number} says that it is about step {answer.step}", answer.step, step.number
            )
        if answer.champion != step.there.champion:
            return failed(
                f"{where} the answer says that version {answer.champion[:20]} is champion, and the alias points to "
                f"{step.there.champion or 'nothing'}",
                answer.champion[:20], step.there.champion,
            )  # fmt: skip
        made = found.made(step.number)
        if missing := set(answer.versions) - set(made):
            said = f"{where} the answer names version {min(missing)[:20]}, which was not made at this step"
            return failed(said, "", "a new version")
        if not step.killed and (more := set(made) - set(answer.versions)):
            return failed(
                f"{where} the registry has version {min(more)[:20]} more, and the answer does not name it", "", "named"
            )
    if found.in_place:
        return failed(
            f"out/{found.in_place[:40]} was written under its name: whoever looked meanwhile saw half of it. Write it under another name, "
            "and rename it when it is whole",
            "written in place", "by rename",
        )  # fmt: skip
    if not found.problem and (wrong := other_seed(grading, found)):
        return failed(*wrong)
    assert found.last is not None
    if not found.problem and found.last.finished.ended == "cancelled":
        return failed(f"we sent SIGTERM; the loop did not end within {STOP_SECONDS} s", "", f"{STOP_SECONDS} s")
    if not found.problem and found.last.finished.code not in (0, 143):
        return failed(f"we sent SIGTERM; {found.last.sentence()}", found.last.finished.code, "0, or ended by SIGTERM")
    took = sorted(step.took for step in found.steps)
    value = f"{len(found.steps)} steps, half within {took[len(took) // 2]:.1f} s, all in {found.seconds:.0f} s"
    return passed("every step is answered", value, f"{STEP_SECONDS} s each")


def other_seed(grading: Grading, found: Played) -> tuple[str, str, str] | None:
    """A version whose run says another seed than that of the command: reason, value and bar; None if there is none."""
    for step in found.steps:
        for version in step.answer.versions:
            if version in found.at(STEPS).there.versions:
                said = str(params_of(grading, found, version).get("seed"))
                if said != str(running.SEED):
                    return (
                        f"version {version[:20]} was made at step {step.number}, and its run says that its seed is {said[:20]}; --seed is "
                        f"{running.SEED}, for every training",
                        said[:20], str(running.SEED),
                    )  # fmt: skip
    return None


@check("retraining.takes_months_as_they_come", uses=TO_THE_END)
@with_all_steps
def takes_months_as_they_come(grading: Grading) -> Finding:
    """Each month is brought in as it came, without its last days at first and whole at the next step, whatever has changed in it.

    Catches: months that came before and are not looked at again; the month of the change refused for being strange; a source asked once,
    or for months that nobody has named; a month that is dropped when it comes again and cannot be used. Accepts: fetching only what has
    changed.
    """
    found = grading.get(told)
    special = {(found.story.lacking + n, found.season.month(found.story.lacking)) for n in (0, 1)}
    special |= {(found.story.wrong + n, found.season.month(found.story.wrong)) for n in (0, 1, 2)}
    special.add(came_again := (found.story.again, found.season.month(found.story.again - 1)))
    if found.early:
        return failed(f"{found.early}, and no message had named that month", "asked for", "nothing before it is named")
    counted = 0
    for step in found.steps[1:]:
        wanted = found.season.months(step.number)
        got = [record.month for record in step.answer.months]
        if got != wanted:
            return failed(
                f"at {of_step(found, step.number)} the answer speaks of {', '.join(got)[:80] or 'no month'}",
                "",
                ", ".join(wanted),
            )
        for record in step.answer.months:
            if (step.number, record.month) not in special:
                if wrong := wrong_arrival(found, step.number, record):
                    return failed(wrong, _said(record), "accepted, as it came")
                counted += 1
            elif record.status != "refused" and (step.number, record.month) == came_again:
                return failed(
                    f"at step {step.number} {record.month} came again without the column {replay.GONE}, and it is {record.status}",
                    _said(record), "refused",
                )  # fmt: skip
            elif record.status == "refused" and record.month == found.season.month(found.story.wrong):
                came = found.season.feed(record.month, step.number).rows
                if (record.rows_in, record.rows_accepted, record.rows_quarantined) != (came, 0, 0):
                    return failed(
                        f"at step {step.number} {record.month} is refused for its labels: {record.rows_in:,} rows in, "
                        f"{record.rows_accepted:,} accepted, {record.rows_quarantined:,} quarantined; it came with {came:,} rows, and none "
                        "of them is in the data",
                        _said(record), f"0 of {came:,} rows",
                    )  # fmt: skip
    if wrong := lost_day(grading, found):
        return failed(wrong, "not there", "kept as it was")
    return passed(
        "months are brought in as they come, and again when they are whole",
        f"{counted} deliveries of {STEPS} months",
        "all",
    )


def lost_day(grading: Grading, found: Played) -> str:
    """Whether days of a month are gone that came once, and again so that they could not be used; empty if they are there.

    What was ordered ends with such a day, so its flights have to be among the rows that the run was validated on.
    """
    story, (_, day) = found.story, found.season.ordered
    came = found.season.delivered(found.season.month(story.again - 1), story.again - 1)
    landed = came[came["outcome"].eq("flown") & came["sched_dep_local"].str.startswith(day)]
    for version in found.made(story.order):
        run = run_of(grading, found, version) if version in found.at(STEPS).there.versions else {}
        if (run.get("params") or {}).get("train_end") == day:
            what = f"at step {story.order} somebody asked for a model of days to {day}"
            rows = tracked.validation_of(run["validation"], f"{what}; the run of version {version[:20]}")
            if gone := set(landed["flight_id"]) - set(rows.ids):
                return (
                    f"{what}; {len(gone):,} of the {len(landed):,} landed flights of this day are not among the validation rows of version "
                    f"{version[:20]}. They came at step {story.again - 1}; at step {story.again} the month came again and could not be "
                    "used, and then what was there before stays"
                )
    return ""


def wrong_arrival(found: Played, step: int, record: MonthRecord) -> str:
    """What is wrong with the record of a month that is as it should be; empty if nothing."""
    feed = found.season.feed(record.month, step)
    if (record.status, record.rows_in, record.rows_accepted, record.rows_quarantined) == (
        "accepted",
        feed.rows,
        feed.rows,
        0,
    ):
        return ""
    changed = (
        " from this month on other flights are late, which is no fault of the month"
        if step == found.story.change
        else ""
    )
    why = f" (its reason: {(record.reason or '')[:200]})" if record.reason else ""
    again = ", which came again whole," if record.month != found.season.month(step) else ""
    return (
        f"at step {step} {record.month}{again} is {record.status}, {record.rows_in:,} rows in, {record.rows_accepted:,} accepted{why}; it "
        f"came with {feed.rows:,} right ones{';' + changed if changed else ''}"
    )


SETTLED = 3  # months after the first of the change from which on its champion has to be another one


@dataclass(frozen=True)
class Repair:
    """What the champions are worth where there was time to learn what holds now.

    Attributes
    ----------
    gain, error : by how much their log loss is lower than that of the first champion, and the standard error, by days.
    knows, could : by how much it is lower than that of the rate of late flights; and that of a plain model of what holds now.
    first : what the first champion is worth before anything has changed, in the same way.
    weak : why it is no measure of others; empty if it is one.
    """

    gain: float
    error: float
    knows: float
    could: float
    first: float
    weak: str

    @property
    def done(self) -> bool:
        enough = self.gain > BARS["errors"] * self.error and self.knows >= BARS["repaired"] * self.could
        return enough and not self.weak


@work
def repaired(grading: Grading) -> Repair:
    found, worth = grading.get(told), grading.get(losses)
    at, before = (worth.since(found.season.month(found.story.change + n)) for n in (SETTLED, 0))
    at &= ~worth.since(found.season.month(found.story.order + 1))  # what an order does is another question
    gain, error = statistics.mean_by_cluster((worth.first - worth.loop)[at], worth.day[at])
    knows, could = (float((worth.rate - other)[at].mean()) for other in (worth.loop, worth.hindsight))
    first, plain = (float((worth.rate - other)[~before].mean()) for other in (worth.first, worth.frozen))
    weak = "" if first >= BARS["first"] * plain else (
        f"before anything had changed, the first champion's log loss is {first:.3f} below that of the rate of late flights, and that of "
        f"a plain model of the history {plain:.3f}"
    )  # fmt: skip
    return Repair(gain, error, knows, could, first, weak)


@check("retraining.replaces_a_stale_model", uses=[*WITH_LOSSES, repaired])
@with_all_steps
def replaces_a_stale_model(grading: Grading) -> Finding:
    """When other flights are late than before, and stay so, another champion answers two months later that is much better.

    Catches: a loop that never trains; drift awaited where only the relation has changed; a challenger that is never promoted, or learned
    mostly from what no longer holds. Accepts: any trigger, any window, any number of trainings.
    """
    found, worth = grading.get(told), grading.get(losses)
    repair, change = grading.get(repaired), found.story.change
    if repair.weak:
        return failed(
            repair.weak, f"{repair.first:.3f}", f"at least {BARS['first']:.0%} of that", *story_charts(found, worth)
        )
    side = "below" if repair.knows >= 0 else "above"
    value = (
        f"log loss {repair.gain:.3f} ± {repair.error:.3f} below the first champion's, and {abs(repair.knows):.3f} {side} that of the rate "
        "of late flights"
    )
    bar = (
        f"{BARS['errors']:.0f} standard errors below, and {BARS['repaired'] * repair.could:.3f} below the rate: {BARS['repaired']:.0%} of "
        "what a plain model reaches"
    )
    if not repair.done:
        trained = [step for step in found.retrainings if step >= change]
        did = f"it trained at step {', '.join(map(str, trained))}" if trained else "it has not trained since"
        kept = found.champion(STEPS) == found.champion(0)
        return failed(
            f"from {of_step(found, change)} on other flights are late than before; {did}, and its last champion is "
            f"{'the first one' if kept else 'version ' + found.champion(STEPS)[:20]}",
            value, bar, *story_charts(found, worth),
        )  # fmt: skip
    return passed("a model that no longer holds is replaced", value, bar, *story_charts(found, worth))


def story_charts(found: Played, worth: Losses) -> list[Chart]:
    """What was gained over the first champion, summed over months, with each decision; and the decisions in words."""
    import numpy as np

    months = list(worth.champion)
    days = [f"{month}-15" for month in months]

    def summed(values: np.ndarray) -> tuple[float, ...]:
        return tuple(round(float(v), 4) for v in np.cumsum(worth.by_month(values)))

    loop, plain = summed(worth.loop - worth.first), summed(worth.after_change - worth.first)
    lines = [Series("your champions", tuple(days), loop), Series("with hindsight", tuple(days), plain)]
    begins = [
        f"{month}-01" for month in months
    ]  # a decision is made when one month is over and counts from the next on
    marks = []
    for name, at, place in (
        ("trained and promoted", [s for s in found.retrainings if found.crowned(s)], begins),
        ("trained, not promoted", [s for s in found.retrainings if not found.crowned(s)], begins),
        ("order", [found.story.order], begins),
        ("change", [found.story.change - 1], days),
        ("wrong labels", [found.story.wrong - 1], days),
        ("month lacking", [found.story.lacking - 1], days),
    ):
        height = loop if place is days else (0.0, *((a + b) / 2 for a, b in pairwise(loop)))
        if at:
            marks.append(Series(name, tuple(place[s] for s in at), tuple(height[s] for s in at)))
    says = "; ".join(f"{month}: {value:+.3f}" for month, value in zip(months, loop, strict=True))
    rows = [
        (
            str(step.number), "; ".join(planted(found.season, step.number)) or ("the beginning" if not step.number else ""),
            step.answer.decision, step.answer.trigger[:160], found.champion(step.number)[:20],
        )
        for step in found.steps
    ]  # fmt: skip
    return [
        charts.marked(
            "Log loss beside that of the first champion, summed over months", "month answered", "sum of differences; lower is better",
            lines, marks, says,
        ),
        charts.table("What was decided", ("step", "planted", "did", "on what", "version"), rows, f"{len(rows)} steps"),
    ]  # fmt: skip


def replacing(grading: Grading) -> Played:
    """The replay of a loop that trains when it must; only then it means something when it does not. Raises Owed."""
    found = grading.get(told)
    if not grading.get(repaired).done:
        raise Owed("a stale model has to be replaced first: see retraining.replaces_a_stale_model")
    return found


@check("retraining.stays_calm", uses=[*WITH_LOSSES, repaired, again])
@with_all_steps
def stays_calm(grading: Grading) -> Finding:
    """In months in which nothing has changed nothing is trained, nor would it have been at the change without the change.

    Catches: training each month, or by the calendar; an alarm at every storm. Accepts: one training too many in the year itself.
    """
    found = replacing(grading)
    flapped = found.flapped
    value, bar = f"trained at {len(flapped)} of {len(found.story.quiet)} quiet steps", f"at most {BARS['flaps']:.0f}"
    if len(flapped) > BARS["flaps"]:
        one = found.at(flapped[0])
        return failed(
            f"it trained at step {', '.join(map(str, flapped))}, where nothing had changed; at {of_step(found, one.number)} it said: "
            f"{one.answer.trigger[:200]}",
            value, bar,
        )  # fmt: skip
    if (repeated := grading.get(again)) is not None and (repeated.problem or repeated.trained is not None):
        steps = " to ".join(map(str, dict.fromkeys((repeated.steps[0], repeated.steps[-1]))))
        return failed(
            f"we played step {steps} again from copies of your store and state, with months in which nothing had changed; "
            + (repeated.problem or f"it trained at step {repeated.trained} there too, and said: {repeated.trigger}"),
            f"trained at step {repeated.trained}" if repeated.trained else "no answer", "no training",
        )  # fmt: skip
    return passed("nothing is trained where nothing has changed", value, bar)


def trained_since(found: Played, step: int) -> str:
    """At which steps it trained while wrong labels were there, as the end of a sentence."""
    if not (steps := [n for n in range(step, found.story.corrected) if found.own(n)]):
        return ""
    return f"; it trained at step {' and '.join(map(str, steps))}"


def calm(grading: Grading) -> Played:
    """Raises Owed."""
    found = replacing(grading)
    if len(found.flapped) > BARS["flaps"]:
        raise Owed("it has to be calm in quiet months first, or training shows nothing: see retraining.stays_calm")
    return found


@check("retraining.does_not_learn_from_wrong_labels", uses=[*WITH_LOSSES, repaired])
@with_all_steps
def does_not_learn_from_wrong_labels(grading: Grading) -> Finding:
    """A month whose labels belong to other flights is refused until they are put right, and is no reason to train.

    Catches: labels that are never doubted; a bad month taken for a stale model; a month that is refused for good.
    Accepts: any way to doubt them.
    """
    found = grading.get(told)
    story, month = found.story, found.season.month(found.story.wrong)
    for step in (story.wrong, story.wrong + 1):
        record = arrival(found, step, month)
        if record is None or record.status != "refused":
            return failed(
                f"at step {step} the labels of {month} belong to other flights (late ones have those of punctual ones, and the reverse), "
                f"and it is {status(record)}{trained_since(found, step)}",
                _said(record), "refused",
            )  # fmt: skip
    record = arrival(found, story.corrected, month)
    if record is None or wrong_arrival(found, story.corrected, record):
        return failed(
            f"at step {story.corrected} {month} came again with the right labels, and is {status(record)}",
            _said(record), "accepted",
        )  # fmt: skip
    calm(grading)
    for step in (story.wrong, story.wrong + 1):
        if found.own(step):
            return failed(
                f"at step {step} the labels of {month} belong to other flights, and it trained: {found.at(step).answer.trigger[:200]}",
                "retrain", "keep",
            )  # fmt: skip
    return passed(
        "wrong labels are refused, and taken once they are right", f"{month} refused twice, then accepted", "all three"
    )


@check("retraining.promotes_nothing_worse", uses=[*WITH_LOSSES, repaired])
@with_all_steps
def promotes_nothing_worse(grading: Grading) -> Finding:
    """Somebody asks for a model of days that no longer hold: it is made, and does not become champion; nor does anything worse.

    Catches: whatever is trained is promoted; a challenger judged on its own days; orders that are ignored. Accepts: any gate that holds.
    """
    found, worth = replacing(grading), grading.get(losses)
    order = found.story.order
    made, wanted = found.made(order), found.season.ordered
    learned = [window_of(grading, found, version) for version in made]
    said = (
        "; ".join(f"version {v[:20]}: {w[0][:10]} to {w[1][:10]}" for v, w in zip(made, learned, strict=True)) or "none"
    )
    if wanted not in learned:
        return failed(f"at step {order} somebody asked for a model of {wanted[0]} to {wanted[1]}, and none was made; versions made: {said}",
                      said, f"{wanted[0]} to {wanted[1]}")  # fmt: skip
    if wrong := no_model_of(
        found, worth, [version for version, window in zip(made, learned, strict=True) if window == wanted]
    ):
        return failed(*wrong)
    for step in range(1, STEPS + 1):
        before, after = found.champion(step - 1), found.champion(step)
        if before == after or step in (found.story.wrong, found.story.wrong + 1):  # that is a matter of labels
            continue
        at = worth.since(found.season.month(step + 1))
        worse, error = statistics.mean_by_cluster((worth.of[after] - worth.of[before])[at], worth.day[at])
        if worse > BARS["worse"] and worse > BARS["errors"] * error:
            asked = ", which somebody had asked for, from days that no longer hold," if step == order else ""
            return failed(
                f"at {of_step(found, step)} version {after[:20]}{asked} became champion in place of version {before[:20]}, and is worse",
                f"log loss higher by {worse:.3f} ± {error:.3f}", f"at most {BARS['worse']}", *story_charts(found, worth),
            )  # fmt: skip
    return passed(
        "nothing worse became champion",
        f"of {len(found.at(STEPS).there.versions)} versions, one that somebody asked for",
        "none",
    )


def no_model_of(found: Played, worth: Losses, versions: Sequence[str]) -> tuple[str, str, str] | None:
    """Why none of some versions is a model that learned from the days of the order: reason, value and bar; None if one is."""
    import numpy as np

    wrong = None
    before = ~worth.since(found.season.month(found.story.change))
    plain = float((worth.rate - worth.frozen)[before].mean())
    what = f"at step {found.story.order} somebody asked for a model of {' to '.join(found.season.ordered)}"
    for version in versions:
        if version not in worth.of:
            wrong = (f"{what}; version {version[:20]} was made for that, and deleted", "deleted", "kept")
            continue
        knows = float((worth.rate - worth.of[version])[before].mean())
        copied = [
            other for other, loss in worth.of.items() if other != version and np.array_equal(loss, worth.of[version])
        ]
        if copied:
            wrong = (
                f"{what}; version {version[:20]} answers exactly as version {copied[0][:20]}",
                "the same answers",
                "its own",
            )
        elif knows < BARS["first"] * plain:
            wrong = (
                f"{what}; version {version[:20]} says that it learned from these days. In months like them its log loss is {knows:.3f} "
                f"below that of the rate of late flights, and that of a plain model of the history {plain:.3f}",
                f"{knows:.3f}", f"at least {BARS['first']:.0%} of that",
            )  # fmt: skip
        else:
            return None
    return wrong


def window_of(grading: Grading, found: Played, version: str) -> tuple[str, str]:
    """The days that the run of a version says it learned from. Raises Fault."""
    params = params_of(grading, found, version)
    return str(params.get("train_start")), str(params.get("train_end"))


def params_of(grading: Grading, found: Played, version: str) -> Mapping[str, object]:
    """The parameters of the run of a version. Raises Fault."""
    params = run_of(grading, found, version).get("params", {})
    return params if isinstance(params, dict) else {}


def run_of(grading: Grading, found: Played, version: str) -> Mapping[str, Any]:
    """What the run of a version logged. Raises Fault."""
    assert found.last is not None
    assert found.last.tracking is not None
    run_id = found.at(STEPS).there.runs.get(version, "")
    try:
        run = grading.reader.store(found.last.tracking, stores.NAME, run_id, "").get("run")
    except Unreadable as problem:
        raise Fault(f"the MLflow store {problem}") from None
    return run if isinstance(run, dict) else {}


@check("retraining.survives_a_failed_month", uses=RUN)
@with_all_steps
def survives_a_failed_month(grading: Grading) -> Finding:
    """A month that cannot be had is failed, the rest of the step is done, and the month is there a step later.

    Catches: a loop that dies of it; a month marked as there; one that is never asked for again. Accepts: any reason.
    """
    found = grading.get(played)
    step, month = found.story.lacking, found.season.month(found.story.lacking)
    if found.blame == "failed_month":
        return failed(f"at step {step} {month} cannot be had; {found.problem}", "no answer", "failed")
    grading.get(told)
    record, again = arrival(found, step, month), arrival(found, step + 1, month)
    if record is None or record.status != "failed":
        return failed(f"at step {step} {month} cannot be had, and it is {status(record)}", _said(record), "failed")
    wrong = wrong_arrival(found, step + 1, again) if again else f"at step {step + 1} {month} is not named"
    if wrong:
        return failed(wrong, _said(again), "accepted, a step later")
    return passed("a month that could not be had is caught up with", f"{month} failed, then accepted", "both")


@check("retraining.survives_a_restart", uses=RUN)
@with_all_steps
def survives_a_restart(grading: Grading) -> Finding:
    """Killed while it trains, promotes and waits, and started again, it goes on where it was.

    Catches: a model in memory; answers given twice; a training done twice, or lost; a first champion made anew. Accepts: any way to
    remember.
    """
    found = grading.get(played)
    if found.blame == "restart":
        return failed(found.problem, f"{len(found.steps)} steps answered", f"{STEPS + 1}")
    grading.get(told)
    kills = [step for step in found.steps if step.killed]
    count = sum(len(step.killed) for step in kills)
    if found.changed:
        return failed(f"we killed the loop {count} times; {found.changed}", "", "answers stay as they are")
    for step in kills:
        before, made = found.champion(step.number - 1), found.made(step.number)
        what = f"we killed the loop at step {step.number} {' and '.join(step.killed)}, and started it again"
        if unnamed := [version for version in made if version not in step.answer.versions]:
            return failed(
                f"{what}; the registry has {len(made)} versions more, and the answer does not name {unnamed[0][:20]}",
                f"{len(made)} new", f"{len(step.answer.versions)} named",
            )  # fmt: skip
        if step.number != found.story.down:
            if not made:
                said = f"{what}; what it had begun is lost: the answer is {step.answer.decision}"
                return failed(said, "no version", "one")
        elif found.flapped == [step.number] and not found.waiting_for_repair(step.number):
            said = f"{what}; nothing had changed, and it trained, as at no other such step: {step.answer.trigger[:200]}"
            return failed(said, "retrain", "keep")
        elif found.champion(step.number) != before and not made:
            now = found.champion(step.number)[:20]
            return failed(f"{what}; its champion is version {now} now", now, before)
    if not found.trained_and_killed:
        raise Owed(
            "it has to train when the world changes, to be killed in that: see retraining.replaces_a_stale_model"
        )
    value = f"{count} kills, {len(found.at(STEPS).there.versions)} versions, all named"
    return passed("it goes on where it was killed", value, "nothing lost or done twice")


@check("retraining.keeps_the_audit", uses=TO_THE_END)
@with_all_steps
def keeps_the_audit(grading: Grading) -> Finding:
    """Each version that was made has one line in the audit log, and the lines lead from one champion to the next as the answers do.

    Catches: an alias moved past the gate; a decision that is noted twice. Accepts: rollbacks, and several champions
    at one step, one after the other.
    """
    found = grading.get(told)
    assert found.last is not None
    lines = [line for line in audited(grading, found.last) if line is not None]
    judged = [line.after for line in lines if line.action == "promote"]
    for step in found.steps:
        for version in step.answer.versions:  # one that no answer names is a matter of restarts
            if judged.count(version) != 1:
                return failed(
                    f"version {version[:20]} was made at step {step.number}, and the audit log has {judged.count(version)} lines about it",
                    judged.count(version), 1,
                )  # fmt: skip
    ever = _all_of(found.at(STEPS).there)
    if strange := [str(version) for version in judged if version not in ever]:
        return failed(
            f"the audit log tells of version {strange[0][:20]}, which was never there", strange[0][:20], "named"
        )
    champions = [found.champion(step.number) for step in found.steps if found.crowned(step.number)]
    noted = _noted(lines)
    if not leads_to(noted, found):
        return failed("by the audit log, other versions became champion than by the alias", " → ".join(v[:20] for v in noted) or "none",
                      " → ".join(v[:20] for v in champions))  # fmt: skip
    return passed(
        "every decision is in the audit log", f"{len(lines)} lines, {len(champions)} champions", "one line each"
    )


def leads_to(noted: Sequence[str], found: Played) -> bool:
    """Whether versions that became champion one after the other can be those of the steps: of several at a step the last one stays."""
    at, before = {0}, ""
    for step in found.steps:
        after, there = found.champion(step.number), _all_of(step.there)
        reached = set()
        for first in at:
            if after == before:
                reached.add(first)
            for last in range(first + 1, len(noted) + 1):
                if noted[last - 1] not in there:
                    break
                if noted[last - 1] == after:
                    reached.add(last)
        at, before = reached, after
    return len(noted) in at


def _noted(lines: Sequence[AuditRecord]) -> list[str]:
    """The champions by the audit log, one after the other."""
    return [str(line.after) for line in lines if line.decision == "promoted"]


@check("retraining.the_service_follows", uses=TO_THE_END)
@with_all_steps
def the_service_follows(grading: Grading) -> Finding:
    """The service beside the loop answers with each new champion, on the same store.

    Catches: a registry that is locked while the loop works; a champion that cannot be loaded. Accepts: whatever stage 08 does.
    """
    found = grading.get(told)
    changes = [step for step in found.steps if found.crowned(step.number)]
    if len(changes) < 2:
        raise Owed("a stale model has to be replaced first: see retraining.replaces_a_stale_model")
    if found.service:
        return failed(
            found.service, f"{sum(step.served is not None for step in changes)} of {len(changes)} champions", "all"
        )
    return passed("the service answers with each champion", f"{len(changes)} champions", "all")


@check("retraining.has_little_regret", uses=[*WITH_LOSSES, repaired])
@with_all_steps
def has_little_regret(grading: Grading) -> Finding:
    """Over the whole time, the trainings paid for, most of what hindsight would have gained over the first champion is gained.

    Catches: a repair that comes late; one that learned mostly from what no longer holds; trainings that cost more than they bring.
    Accepts: a month or two to be sure.
    """
    import tomllib

    found, worth = replacing(grading), grading.get(losses)
    cost = float(tomllib.loads(found.season.usecase)["retraining"]["cost"])
    gained, possible = (sum(worth.by_month(worth.kept - other)) for other in (worth.loop, worth.after_change))
    paid = cost * len(found.retrainings)
    share = (gained - paid) / (possible - cost)
    value = f"{share:.0%}: {gained:.3f} less {len(found.retrainings)} trainings at {cost}, of {possible:.3f} less one"
    bar = f"at least {BARS['regret']:.0%}"
    if share < BARS["regret"]:
        return failed(
            f"from {of_step(found, found.story.change)} on other flights are late; a plain model that learned in each month from what had "
            f"come since would have gained {possible:.3f} of log loss on your first champion, over the months; yours gained {gained:.3f}",
            value, bar, *story_charts(found, worth),
        )  # fmt: skip
    return passed("most of what hindsight would have gained is gained", value, bar, *story_charts(found, worth))
