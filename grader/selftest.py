"""The grader graded: every submission of the pool, what it should get and what it got, and how often the grader is wrong.

Results are kept with a digest of the kit and of the submission, so that a run that was ended goes on, and several runs
together cover the pool.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import signal
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from multiprocessing import get_context, parent_process
from pathlib import Path

from grader import home, stages
from grader.engine import Plan, grade
from grader.pool import Entry, Kind
from grader.report.text import measured
from grader.sandbox.base import Limits
from grader.verdict import CheckSpec, Outcome

ALPHA = 0.05
GRADING = threading.Lock()  # held while there is one in this process
PATIENCE_SECONDS = 20
ENGINE, CHECKS = "grader.engine", "grader.checks"
EXPENSIVE = (
    "package.tests_catch_faults"  # five runs of the submission's tests; asked of the mutants that it should notice
)
ACCEPTED = (
    "not noticed by",
    "wrong, and complete",
    "an attack that earned",
    "nothing, and passed",
)  # how such a problem begins


@dataclass(frozen=True)
class Seen:
    """What one submission of the pool got.

    Attributes
    ----------
    kit, entry : digests of the kit's code and of the submission.
    outcomes : by check.
    seconds : of the whole grading, and by check.
    complete : whether the stage was, with all its required checks.
    """

    name: str
    kind: Kind
    stage: str
    seed: int
    rung: str
    kit: str
    entry: str
    outcomes: dict[str, Outcome]
    check_seconds: dict[str, float]
    seconds: float
    complete: bool
    problem: str = ""  # what is not as it should be; empty where all is
    quick: bool = False  # only the checks that should notice were asked
    reasons: dict[str, str] = field(
        default_factory=dict
    )  # of checks that did not pass: what was measured, the bar, the sentence
    load: float = 0.0  # processes that wanted a core, for each core, in the last minute of the grading

    @classmethod
    def from_json(cls, line: str) -> Seen:
        data = json.loads(line)
        data["outcomes"] = {check: Outcome(outcome) for check, outcome in data["outcomes"].items()}
        return cls(**{**data, "kind": Kind(data["kind"])})


@cache
def kit_digest(stage: str) -> str:
    """What tells whether a result of this stage still stands: the code that judges it, its bars, what mutants are made of, the data.

    The code is the engine and the stage's module of checks with all that they import, so that work on a page, on a command or on
    another stage's checks leaves results as they are.
    """
    found = hashlib.sha256()
    for path in judged_by(stage):
        found.update(str(path.name).encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


def judged_by(stage: str) -> list[Path]:
    """All files that a verdict of the stage depends on."""
    engine = [f"{ENGINE}.{path.stem}" for path in (home.PACKAGE / "engine").glob("*.py") if path.stem != "__init__"]
    code = {*_imported(engine, without=CHECKS), *_imported([f"{CHECKS}.{stages.find(stage).module}"])}
    inside = home.PACKAGE / "sandbox" / "inside"
    named = "\n".join(path.read_text(encoding="utf-8") for path in code)
    folders = [(home.datasets(), "*.parquet"), (inside / "etc", "*")]
    folders += [(inside, path.name) for path in inside.glob("*.py") if path.stem in named]
    for other in stages.all_stages():
        if other.id <= stage:
            folders += [(other.folder / "solution", "**/*"), (other.folder / "starter", "**/*")]
    data = {
        path
        for folder, pattern in folders
        for path in folder.glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }
    return sorted(code | data | {stages.find(stage).folder / "stage.toml"})


def _imported(modules: Iterable[str], without: str = "") -> set[Path]:
    """The files of these modules and of all modules of the kit that they import, at once or later; below `without` none is followed."""
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if name in found or path is None or (without and f"{name}.".startswith(f"{without}.")):
            continue
        found[name] = path
        waiting.append(name.rpartition(".")[0])
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return set(found.values())


def _file_of(module: str) -> Path | None:
    first, *rest = module.split(".")
    if first != home.PACKAGE.name:
        return None
    path = home.PACKAGE.joinpath(*rest)
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def asked_of(entry: Entry, quick: bool) -> tuple[CheckSpec, ...]:
    """The checks to ask: all of the stage; of a mutant, if it is to be quick, only those that should notice."""
    checks = stages.find(entry.stage).checks
    if entry.kind is not Kind.MUTANT:
        return tuple(checks)
    return tuple(check for check in checks if check.id in entry.kills or not (quick or check.id == EXPENSIVE))


def worlds(entry: Entry, number: int) -> list[int]:
    """Seeds of the worlds to grade it in: its own, and for a right submission `number` - 1 more."""
    more = range(1, number if entry.kind.right else 1)
    return [entry.seed, *(zlib.crc32(f"{entry} again {k}".encode()) for k in more)]


def run(entry: Entry, seed: int, rung: str, quick: bool = False, cores: int = 2) -> Seen | None:
    """Grade a submission of the pool; None where somebody interrupted that."""
    began = time.monotonic()
    with GRADING, tempfile.TemporaryDirectory(prefix="mlekit-pool-") as folder:
        entry.lay_down(there := Path(folder, "submission"))
        checks = asked_of(entry, quick)
        result = grade(
            Plan(there, checks, seed, str(seed), rung, cores, command_seconds=entry.seconds or Limits().seconds)
        )
    if not result.finished:
        return None
    outcomes = {check.id: check.outcome for check in result.checks}
    complete = all(outcomes[check.id] is Outcome.PASS for check in checks if check.required) and not quick
    return Seen(
        str(entry), entry.kind, entry.stage, seed, rung, kit_digest(entry.stage), entry.digest, outcomes,
        {check.id: check.seconds for check in result.checks}, round(time.monotonic() - began, 1), complete,
        problem(entry, outcomes, complete), quick,
        {check.id: f"{measured(check)}: {check.reason}" for check in result.checks if check.outcome is not Outcome.PASS},
        round(os.getloadavg()[0] / (os.cpu_count() or 1), 1),
    )  # fmt: skip


def problem(entry: Entry, outcomes: dict[str, Outcome], complete: bool) -> str:
    """What is wrong with the verdicts about a submission; empty where nothing is."""
    if broken := sorted(check for check, outcome in outcomes.items() if outcome is Outcome.GRADER_ERROR):
        return f"the grader failed in {', '.join(broken)}"
    failed = {check for check, outcome in outcomes.items() if outcome is Outcome.FAIL}
    passed = {check for check, outcome in outcomes.items() if outcome is Outcome.PASS}
    if entry.kind.right:
        lost = sorted(set(outcomes) - passed)
        return f"right, and not passed: {', '.join(lost)}" if lost else ""
    if missed := sorted(entry.kills - failed):
        return f"{ACCEPTED[0]} {', '.join(missed)}"
    if complete and not entry.kills:  # a fault that only checks notice which are not required leaves the stage complete
        return ACCEPTED[1]
    if entry.kind is Kind.MUTANT and (more := sorted(failed - entry.kills - entry.may)):
        return f"also noticed by {', '.join(more)}"
    if entry.kind is Kind.NOTHING and passed:
        return f"{ACCEPTED[3]} {', '.join(sorted(passed))}"
    if entry.earns is not None and (more := sorted(passed - entry.earns)):
        return f"{ACCEPTED[2]} {', '.join(more)}"
    return ""


class Results:
    """What was seen, a line each in a file; what belongs to another kit or to a submission that has changed is left out."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, pool: Sequence[Entry]) -> list[Seen]:
        """The newest result of each submission, world and rung; one of all checks before one of some.

        What is not as it should be is said by what is expected now.
        """
        known = {(str(entry), entry.kind): entry for entry in pool}
        found: dict[tuple[object, ...], Seen] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else ():
            try:
                seen = Seen.from_json(line)
            except (ValueError, TypeError, KeyError):
                continue  # a line that a full disk or a kill left half written
            entry = known.get((seen.name, seen.kind))
            if entry is None or entry.digest != seen.entry or kit_digest(seen.stage) != seen.kit:
                continue
            if any(check.id not in seen.outcomes for check in asked_of(entry, seen.quick)):
                continue
            seen = replace(seen, problem=problem(entry, seen.outcomes, seen.complete))
            before = found.get(key := (seen.name, seen.kind, seen.seed, seen.rung))
            found[key] = seen if before is None or before.quick >= seen.quick else before
        return list(found.values())

    def add(self, seen: Seen) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(seen)) + "\n")


def shard(pool: Sequence[Entry], number: int, of: int) -> list[Entry]:
    """Each `of`-th submission, so that every shard has some of each stage."""
    return list(pool[number - 1 :: of])


def _end_with_the_parent() -> None:
    """A process of the pool ends with the one that wanted it, however that one ended; the grading in it is ended first, and clears up."""

    def watch() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)
            GRADING.acquire(timeout=PATIENCE_SECONDS)
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_all(
    gradings: Sequence[tuple[Entry, int]],
    rung: str,
    quick: bool,
    jobs: int,
    deadline: float,
    tell: Callable[[Seen], None],
) -> bool:
    """Grade submissions, each in a world, `jobs` at a time; none is begun after the deadline (monotonic seconds).

    Whether all came to their end.
    """
    waiting, running = list(gradings), set[Future[Seen | None]]()
    whole = True
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_the_parent) as workers:
        try:
            while waiting or running:
                while waiting and len(running) < jobs and time.monotonic() < deadline:
                    running.add(workers.submit(run, *waiting.pop(0), rung, quick))
                if not running:
                    return False
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    seen = future.result()
                    if seen is None:
                        waiting, whole = [], False
                    else:
                        tell(seen)
        except KeyboardInterrupt:  # the gradings have it too, and end by themselves
            for future in running:
                if (seen := future.result()) is not None:
                    tell(seen)
            return False
    return whole


@dataclass(frozen=True)
class Rate:
    """How often something happened, with an exact interval (Clopper and Pearson 1934)."""

    times: int
    of: int

    @property
    def interval(self) -> tuple[float, float]:
        """Bounds of the share, 95 % in all; without any trial nothing is known."""
        from scipy.stats import beta

        if not self.of:
            return 0.0, 1.0
        low = 0.0 if self.times == 0 else float(beta.ppf(ALPHA / 2, self.times, self.of - self.times + 1))
        high = 1.0 if self.times == self.of else float(beta.ppf(1 - ALPHA / 2, self.times + 1, self.of - self.times))
        return low, high

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.times} of {self.of} ({low:.2%} to {high:.2%})" if self.of else "none was asked"


@dataclass(frozen=True)
class Summary:
    """What all results together say.

    Attributes
    ----------
    accepted : wrong submissions that a check which should notice did not, or that completed their stage though none was to let them.
    rejected : right submissions that lost a check.
    strayed : verdicts that a fault is noticed, by checks that have nothing to do with it.
    """

    seen: tuple[Seen, ...]

    def _of(self, *kinds: Kind) -> list[Seen]:
        return [seen for seen in self.seen if seen.kind in kinds]

    @property
    def accepted(self) -> Rate:
        wrong = [seen for seen in self.seen if not seen.kind.right]
        return Rate(sum(seen.problem.startswith(ACCEPTED) for seen in wrong), len(wrong))

    @property
    def rejected(self) -> Rate:
        right = [seen for seen in self.seen if seen.kind.right]
        return Rate(sum(bool(seen.problem) for seen in right), len(right))

    def strayed(self, pool: Iterable[Entry]) -> dict[str, Rate]:
        """By check: how often it failed where it had no reason to, in right submissions and in mutants that others should notice."""
        of, wrong = Counter[str](), Counter[str]()
        known = {(str(entry), entry.kind): entry for entry in pool}
        for seen in self._of(*(kind for kind in Kind if kind.right), Kind.MUTANT):
            entry = known[(seen.name, seen.kind)]
            for check, outcome in seen.outcomes.items():
                if check not in entry.kills | entry.may and outcome in (Outcome.PASS, Outcome.FAIL):
                    of[check] += 1
                    wrong[check] += outcome is Outcome.FAIL
        return {check: Rate(wrong[check], of[check]) for check in of}

    def noticed_by(self) -> dict[str, list[str]]:
        """By check, the mutants that it fails: the discrimination matrix, by rows."""
        found: dict[str, list[str]] = {check.id: [] for check in stages.all_checks()}
        for seen in self._of(Kind.MUTANT):
            for check, outcome in seen.outcomes.items():
                if outcome is Outcome.FAIL:
                    found[check].append(seen.name)
        return found

    def needed(self, pool: Iterable[Entry]) -> dict[str, bool | None]:
        """By check: whether there is a mutant that it alone notices; None while some that it should notice were not graded.

        A mutant that was asked only the checks that should notice counts if no other is said to notice, too.
        """
        mutants = {str(entry): entry for entry in pool if entry.kind is Kind.MUTANT}
        graded, alone = set[str](), set[str]()
        for seen in self._of(Kind.MUTANT):
            graded.add(seen.name)
            failed = {check for check, outcome in seen.outcomes.items() if outcome is Outcome.FAIL}
            noticing = failed | mutants[seen.name].may if seen.quick else failed
            alone |= noticing if len(noticing) == 1 else set()
        waiting = {check for name, entry in mutants.items() if name not in graded for check in entry.kills}
        return {
            check.id: True if check.id in alone else None if check.id in waiting else False
            for check in stages.all_checks()
        }

    def slow(self) -> dict[str, float]:
        """By check, the median seconds that it took in submissions that passed it, the slowest first."""
        from statistics import median

        taken: dict[str, list[float]] = {}
        for seen in self.seen:
            for check, outcome in seen.outcomes.items():
                if outcome is Outcome.PASS:
                    taken.setdefault(check, []).append(seen.check_seconds[check])
        found = {check: median(seconds) for check, seconds in taken.items()}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def problems(self) -> Iterator[Seen]:
        return (seen for seen in self.seen if seen.problem)
