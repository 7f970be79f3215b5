"""What a grading says, as plain data: JSON in, JSON out, no behaviour beyond reading and writing itself.

Others build on `grade.json`, so its shape is fixed and carries `format = 1`.
"""

from __future__ import annotations

import json
import os
import reprlib
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from grader.printable import one_line
from grader.reading import small_text

FORMAT = 1


class Outcome(StrEnum):
    """What one check came to."""

    PASS = "pass"
    FAIL = "fail"
    BLOCKED = "blocked"  # something the submission owes first is missing
    NOT_RUN = "not_run"  # this machine lacks something, or the run ended or was told to skip it
    GRADER_ERROR = "grader_error"  # our fault: never a pass, never held against the submission
    PROVIDED = "provided"  # passed on work the kit laid down: it unblocks, it never counts


OPEN = frozenset({Outcome.NOT_RUN, Outcome.GRADER_ERROR})  # what might have passed elsewhere


class Level(StrEnum):
    """The three levels of a rubric row, in order."""

    JUNIOR = "junior"
    SENIOR = "senior"
    LEAD = "lead"


LEVELS = tuple(Level)


@dataclass(frozen=True)
class CheckSpec:
    """What is known of a check before it runs; the single source is `exercises/*/stage.toml`.

    `effort` is an author's estimate in minutes of the work behind the check; it orders next steps.
    """

    id: str
    stage: str
    title: str
    row: str
    level: Level
    critical: bool = False
    required: bool = False
    weight: int = 1
    effort: int = 30


class ChartKind(StrEnum):
    """How the series of a chart are drawn."""

    LINE = "line"
    POINTS = "points"  # joined by a thin line
    BARS = "bars"
    SPANS = "spans"  # one row a series, from each x to its y
    TABLE = "table"  # one row for each x, one column a series, in words


@dataclass(frozen=True)
class Series:
    """One named series; `x` and `y` are equally long, numbers or texts (dates as YYYY-MM-DD, times as ISO 8601)."""

    name: str
    x: tuple[float | str, ...]
    y: tuple[float | str, ...]


@dataclass(frozen=True)
class Chart:
    """A picture of what a check measured, as numbers: aggregates, never rows of data.

    `says` tells what it shows to whoever cannot see it; `reference` is the series that stands for the bar or the ideal;
    `marks` are points on a line chart at which something happened, one series for each kind of thing.
    """

    kind: ChartKind
    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    says: str
    reference: Series | None = None
    marks: tuple[Series, ...] = ()


@dataclass(frozen=True)
class CheckResult:
    """A check and what came of it; `value` and `bar` are texts a person reads side by side."""

    id: str
    stage: str
    title: str
    row: str
    level: Level
    critical: bool
    required: bool
    weight: int
    effort: int
    outcome: Outcome
    value: str = ""
    bar: str = ""
    reason: str = ""
    reproduce: str = ""
    seconds: float = 0.0
    charts: tuple[Chart, ...] = ()

    @classmethod
    def of(cls, spec: CheckSpec, outcome: Outcome, **said: Any) -> CheckResult:
        return cls(**asdict(spec), outcome=outcome, **said)

    @property
    def spec(self) -> CheckSpec:
        return CheckSpec(**{f.name: getattr(self, f.name) for f in fields(CheckSpec)})


@dataclass(frozen=True)
class StageResult:
    id: str
    complete: bool


@dataclass(frozen=True)
class RowResult:
    """One rubric row: the level met for certain, the most it can be, why, and the cheapest way up."""

    row: str
    certain: Level | None
    ceiling: Level | None
    because: str
    next: tuple[str, ...] = ()


@dataclass(frozen=True)
class Submission:
    path: str
    hash: str


@dataclass(frozen=True)
class Grade:
    """Everything one grading found; `finished` is False while it runs and when it was interrupted."""

    kit: str
    contract: int
    world: str
    isolation: str
    submission: Submission
    seconds: float
    submission_seconds: float
    checks: tuple[CheckResult, ...]
    stages: tuple[StageResult, ...] = ()
    rows: tuple[RowResult, ...] = ()
    finished: bool = True
    notes: tuple[str, ...] = ()
    format: int = field(default=FORMAT)

    @property
    def provisional(self) -> bool:
        """Whether something that belongs to the grading did not come to a verdict on the work."""
        return not self.finished or any(check.outcome in OPEN for check in self.checks)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    def write(self, path: Path) -> None:
        """Write atomically: a reader sees the old grade or the new one, never half of one."""
        write_atomically(path, self.to_json())


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, never meets half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8", errors="replace")
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


class UnreadableGrade(ValueError):
    """The file is not a grade this kit can read; the message says what is wrong with it."""


def read_grade(path: Path) -> Grade:
    """Read a grade; raises UnreadableGrade with a sentence for a person."""
    try:
        data = json.loads(small_text(path, MOST_BYTES))
    except (OSError, UnicodeDecodeError) as problem:
        raise UnreadableGrade(f"{path} cannot be read ({getattr(problem, 'strerror', None) or 'not UTF-8'})") from None
    except RecursionError:
        raise UnreadableGrade(f"{path} is not JSON: it is nested too deeply") from None
    except ValueError as problem:  # also an integer of thousands of digits, which is no JSONDecodeError
        raise UnreadableGrade(f"{path} is not JSON: {problem}") from None
    try:
        return grade_from(data)
    except UnreadableGrade as problem:
        raise UnreadableGrade(f"{path} {problem}") from None


def grade_from(data: Any) -> Grade:
    """The grade that parsed JSON stands for; raises UnreadableGrade with the end of a sentence."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        given = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise UnreadableGrade(f"has format {_shown(given)}; this kit reads format {FORMAT}")
    try:
        return _grade(data)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as problem:
        said = "it is nested too deeply" if isinstance(problem, RecursionError) else one_line(str(problem), LONGEST)
        raise UnreadableGrade(f"does not have the shape of a grade: {said}") from None


def check_from(data: dict[str, Any]) -> CheckResult:
    """The result that parsed JSON stands for; raises TypeError, ValueError, KeyError, AttributeError or RecursionError."""
    level, outcome = Level(data["level"]), Outcome(data["outcome"])
    return _make(CheckResult, data, level=level, outcome=outcome, charts=tuple(_chart(c) for c in data["charts"]))


T = TypeVar("T")


def _grade(data: dict[str, Any]) -> Grade:
    return _make(
        Grade,
        data,
        submission=_make(Submission, data["submission"]),
        checks=tuple(check_from(c) for c in data["checks"]),
        stages=tuple(_make(StageResult, s) for s in data["stages"]),
        rows=tuple(
            _make(RowResult, r, certain=_level(r["certain"]), ceiling=_level(r["ceiling"]), next=tuple(r["next"]))
            for r in data["rows"]
        ),
        notes=tuple(data["notes"]),
    )


def _chart(data: dict[str, Any]) -> Chart:
    reference = None if data["reference"] is None else _series(data["reference"])
    series = tuple(_series(one) for one in data["series"])
    marks = tuple(_series(one) for one in data.get("marks", ()))
    return _make(Chart, data, kind=ChartKind(data["kind"]), series=series, reference=reference, marks=marks)


def _series(data: dict[str, Any]) -> Series:
    x, y = tuple(data["x"]), tuple(data["y"])
    if len(x) != len(y) or not all(isinstance(v, str) or _is_number(v) for v in (*x, *y)):
        raise ValueError("a series of a chart has numbers or texts as x and equally many as y")
    return _make(Series, data, x=x, y=y)


def _level(value: str | None) -> Level | None:
    return None if value is None else Level(value)


def _is_number(value: object) -> bool:
    """Whether this is a number that can be counted with and shown: no whole number that is beyond all floats."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 1 << 64)


def _shown(value: object) -> str:
    """A value of a file as a message shows it, whatever that is."""
    return one_line(_short.repr(value), LONGEST)


LONGEST = 300  # characters of what a message shows of a file
MOST_BYTES = 256 << 20  # of a grade
_short = reprlib.Repr()
_short.maxlevel = 2
PLAIN: dict[str, tuple[type, ...]] = {"str": (str,), "bool": (bool,), "int": (int,), "float": (int, float)}


def _make(kind: type[T], data: dict[str, Any], /, **over: Any) -> T:
    values = {**data, **over}
    types = {f.name: str(f.type) for f in fields(kind)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in types:
            raise ValueError(f"unknown key {_shown(name)} in {kind.__name__}")
        allowed = PLAIN.get(types[name])
        if allowed and (not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed)):
            raise ValueError(f"{kind.__name__}.{name} is {_shown(value)}, which is not of type {types[name]}")
        if allowed and isinstance(value, (int, float)) and not isinstance(value, bool) and not _is_number(value):
            raise ValueError(f"{kind.__name__}.{name} is a number too long to show")
        if types[name] == "tuple[str, ...]" and not all(isinstance(part, str) for part in value):
            raise ValueError(f"{kind.__name__}.{name} holds something that is not text")
    return kind(**values)
