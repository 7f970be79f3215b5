"""The supervisor: starts the worker, keeps the verdict in its own memory, and always ends with a valid grade.

Between the two stands the keeper, which ends every process and removes every file of the run when either of them ends.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any

from grader import CONTRACT, __version__
from grader.engine.plan import Plan
from grader.rubric import assess
from grader.sandbox.base import MEBI, Limits
from grader.submission import submission_hash
from grader.verdict import CheckResult, Grade, Outcome, Submission, check_from

Watch = Callable[[dict[str, Any]], None]

KEEPER = Path(__file__).with_name("keeper.py")
JOBS_IN_A_ROW = 6  # no check waits for more jobs than that at their time limit, one after another
TICK_SECONDS = 1.0
PLAY_SECONDS = 600.0  # in which a plan that shows a fault has to say something
END_SECONDS = 20.0  # the keeper gives up after ten
MAX_LINE = MEBI
KEPT_ERRORS = 16 * 1024


def grade(
    plan: Plan,
    watch: Watch = lambda event: None,
    partial: Path | None = None,
    patience: float | None = None,
) -> Grade:
    """Run the plan and return the grade.

    `watch` is told of events as they happen: `started`, `check`, `done`, `ended` and a `tick` every second. `partial` is
    a file that holds a valid grade at any moment. SIGINT, SIGTERM and SIGHUP end the run: the grade so far comes back
    with `finished` False. A worker that comes to no verdict for `patience` seconds (by default as long as any check may
    take) is ended. In every case nothing of the run is left. Raises UnusableSubmission.
    """
    patience = patience or JOBS_IN_A_ROW * max(plan.command_seconds, Limits().seconds)
    with Interrupts() as interrupts:
        tally = Tally(plan, submission_hash(plan.submission))

        def keep(now: Grade) -> Grade:
            if partial is not None:
                now.write(partial)
            return now

        def hear(event: dict[str, Any]) -> bool:
            if isinstance(event, dict) and event.get("event") == "runs":
                watch(event)  # no news: a grading that only begins things comes to no verdict
                return False
            if not tally.accept(event):
                return False
            if event["event"] == "check":
                keep(tally.grade("it has not run yet"))
            watch(event)
            return True

        keep(tally.grade("it has not run yet"))
        ended = _drive(plan, hear, watch, interrupts, patience)
        if tally.open and not ended.interrupted:
            watch({"event": "ended", "why": ended.why, "details": ended.errors})
        if ended.interrupted:
            return keep(tally.grade("the grading was interrupted before this check came to a verdict"))
        return keep(tally.close(ended.why))


def attend(plan: Plan, watch: Watch) -> str:
    """Run a plan that shows a fault; `watch` is told what the worker tells, and of a `tick` every second.

    Returns why it ended early: an empty text where it came to its end, "interrupted" where somebody ended it. Nothing of it is left.
    """
    done = False

    def hear(event: dict[str, Any]) -> bool:
        nonlocal done
        done = done or event.get("event") in ("done", "cannot")
        watch(event)
        return True

    with Interrupts() as interrupts:
        ended = _drive(plan, hear, watch, interrupts, PLAY_SECONDS)
    return "interrupted" if ended.interrupted else "" if done else ended.why


@dataclass
class Tally:
    """The verdicts so far; only results of planned checks are taken, each once, and none can change what it counts for."""

    plan: Plan
    digest: str
    results: dict[str, CheckResult] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    submission_seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def open(self) -> bool:
        return len(self.results) < len(self.plan.checks)

    def accept(self, event: Any) -> bool:
        """Take in one event of the worker; returns whether it was news."""
        try:
            match event["event"]:
                case "started":
                    return self._start(event["id"])
                case "check":
                    self.submission_seconds = max(self.submission_seconds, float(event.get("submission_seconds", 0)))
                    return self._take(check_from(event["result"]))
                case "done":
                    self.submission_seconds = float(event["submission_seconds"])
                    return True
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError):
            pass  # not an event of ours: it says nothing
        return False

    def _start(self, check_id: str) -> bool:
        news = check_id not in self.started and any(spec.id == check_id for spec in self.plan.checks)
        if news:
            self.started.add(check_id)
        return news

    def _take(self, result: CheckResult) -> bool:
        if result.id in self.results or result.spec not in self.plan.checks:
            return False
        if result.outcome is Outcome.PASS and result.stage in self.plan.provided:
            result = replace(result, outcome=Outcome.PROVIDED)
        self.results[result.id] = replace(result, reproduce=self.plan.command_for(result.spec))
        return True

    def close(self, why: str) -> Grade:
        """The grade of a run that ended; a check without a verdict is our fault."""
        for spec in self.plan.checks:
            if spec.id not in self.results:
                self.results[spec.id] = CheckResult.of(spec, Outcome.GRADER_ERROR, reason=why)
        return self.grade(finished=True)

    def grade(self, why: str = "", finished: bool = False) -> Grade:
        """The grade as it stands; checks without a verdict are `not_run` because of `why`."""
        checks = tuple(
            self.results.get(spec.id) or CheckResult.of(spec, Outcome.NOT_RUN, reason=why) for spec in self.plan.checks
        )
        return assess(
            Grade(
                kit=__version__, contract=CONTRACT, world=self.plan.world_name, isolation=self.plan.rung,
                submission=Submission(str(self.plan.submission), self.digest),
                seconds=round(time.monotonic() - self.began, 3), submission_seconds=self.submission_seconds,
                checks=checks, finished=finished, notes=self.plan.notes,
            )
        )  # fmt: skip


class Interrupts:
    """Turns SIGINT, SIGTERM and SIGHUP into something to read, so that no exception lands in the middle of a write."""

    def __init__(self) -> None:
        self.seen = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        self.fd, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                    self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        try:
            os.write(self._wake, b"!")
        except BlockingIOError:
            pass

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before or signal.SIG_DFL)
        os.close(self.fd)
        os.close(self._wake)


@dataclass(frozen=True)
class Ended:
    """How the worker ended: the sentence for checks it left open, and the last it said."""

    interrupted: bool
    why: str = ""
    errors: str = ""


def _drive(
    plan: Plan, hear: Callable[[dict[str, Any]], bool], watch: Watch, interrupts: Interrupts, patience: float
) -> Ended:
    """Run the worker to its end, to an interrupt, or to the end of our patience."""
    with tempfile.TemporaryFile() as errors:
        keeper, events, lifeline = _start(plan, errors)
        try:
            ended = _listen(events, hear, watch, interrupts, patience)
            if ended is None:
                code = _wait(keeper, END_SECONDS)
                said = _tail(errors)
                last = said.splitlines()[-1] if said else "no message"
                ended = Ended(False, f"the grader's worker ended early (code {code}): {last}", said)
            return replace(ended, errors=ended.errors or _tail(errors))
        finally:
            os.close(events)
            os.close(lifeline)  # the keeper ends everything now
            if _wait(keeper, END_SECONDS) is None:
                keeper.kill()
                keeper.wait()


def _start(plan: Plan, errors: IO[bytes]) -> tuple[subprocess.Popen[bytes], int, int]:
    """Start keeper and worker and hand over the plan; returns the keeper, the events to read, and the lifeline to hold."""
    events, told = os.pipe()
    held, lifeline = os.pipe()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONSAFEPATH": "1"}
    with tempfile.TemporaryFile() as given:  # a file, not a pipe: nobody waits for the other to read
        given.write(plan.to_json().encode("utf-8", "surrogatepass"))
        given.seek(0)
        keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(KEEPER), str(told), str(held), *worker_command(told)],
            stdin=given, stdout=errors, stderr=errors, pass_fds=(told, held), start_new_session=True, env=environment,
        )  # fmt: skip
    os.close(told)
    os.close(held)
    return keeper, events, lifeline


def worker_command(event_fd: int) -> list[str]:
    """The command line of the worker."""
    return [sys.executable, "-m", "grader.engine.worker", str(event_fd)]


def _listen(
    events: int, hear: Callable[[dict[str, Any]], bool], watch: Watch, interrupts: Interrupts, patience: float
) -> Ended | None:
    """Hand on events until the worker closes its end; returns why it stopped before that, if it did."""
    lines = Lines()
    news = tick = time.monotonic()
    while not interrupts.seen:
        now = time.monotonic()
        if now - news > patience:
            return Ended(False, f"the grader came to no verdict for {patience:.0f} s and was ended")
        if now - tick >= TICK_SECONDS:
            tick = now
            watch({"event": "tick"})
        ready, _, _ = select.select([events, interrupts.fd], [], [], min(TICK_SECONDS, patience))
        if events in ready:
            chunk = os.read(events, 65536)
            if not chunk:
                return None
            for line in lines.feed(chunk):
                try:
                    event = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if hear(event):
                    news = time.monotonic()
    return Ended(True)


class Lines:
    """Cuts a stream into lines; one that is longer than an event can be is dropped."""

    def __init__(self) -> None:
        self._rest, self._dropping = b"", False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        for line in whole:
            if not self._dropping:
                yield line
            self._dropping = False
        if len(self._rest) > MAX_LINE:
            self._rest, self._dropping = b"", True


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _tail(errors: IO[bytes]) -> str:
    errors.seek(0, os.SEEK_END)
    errors.seek(max(0, errors.tell() - KEPT_ERRORS))
    return errors.read().decode("utf-8", "replace").strip()
