"""What checks are written with: `@check`, `@work`, findings, and the `Grading` they are handed.

A check is a function that takes the grading and returns a Finding. Work that several checks share (a command run, a
trained model, a reference score) is a function marked `@work`: it is done once a grading, in parallel with others.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from grader.sandbox import Limits, Sandbox
from grader.sandbox.process import planned
from grader.sandbox.reader import Reader
from grader.submission import Submission
from grader.verdict import Chart, Outcome
from grader.world import World

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


@dataclass(frozen=True)
class CaseRows:
    """The rows at fault, for the learner whose world they are from; never part of a grade."""

    name: str
    table: pd.DataFrame

    MOST: ClassVar[int] = 50  # of rows at fault; a table that lists what was given may be longer


@dataclass(frozen=True)
class Finding:
    """What a check found: the verdict, what was measured, the bar, and one sentence for the person who reads it."""

    outcome: Outcome
    reason: str
    value: str = ""
    bar: str = ""
    charts: tuple[Chart, ...] = ()
    rows: tuple[CaseRows, ...] = ()

    def showing(self, name: str, table: pd.DataFrame) -> Finding:
        """The same with the first of these rows laid beside it as `name`.csv, when a learner asks why."""
        return replace(self, rows=(*self.rows, CaseRows(name, table.head(CaseRows.MOST))))


def passed(reason: str, value: object = "", bar: object = "", *charts: Chart) -> Finding:
    return Finding(Outcome.PASS, reason, str(value), str(bar), charts)


def failed(reason: str, value: object = "", bar: object = "", *charts: Chart) -> Finding:
    return Finding(Outcome.FAIL, reason, str(value), str(bar), charts)


class Fault(Exception):
    """The submission did something wrong that ends the check; becomes `fail` with this sentence."""


class Owed(Exception):
    """Something the submission owes first is missing; becomes `blocked` with this sentence."""


class Unavailable(Exception):
    """This machine lacks what the check needs; becomes `not_run` with this sentence."""


class Work(Generic[T]):
    """Shared work: a function of the grading whose result, or fault, every check that uses it gets."""

    def __init__(self, function: Callable[[Grading], T]) -> None:
        self.function = function
        self.name = function.__name__
        self.__doc__ = function.__doc__


def work(function: Callable[[Grading], T]) -> Work[T]:
    """Mark a function as work that is done once a grading and shared."""
    return Work(function)


@dataclass(frozen=True)
class Check:
    """A check function bound to its id in stage.toml."""

    id: str
    function: Callable[[Grading], Finding]
    uses: tuple[Work[Any], ...]


def check(
    id: str, uses: Sequence[Work[Any]] = ()
) -> Callable[[Callable[[Grading], Finding]], Callable[[Grading], Finding]]:
    """Bind a function to the check `id` of stage.toml; `uses` names the work to start ahead of time."""

    def bind(function: Callable[[Grading], Finding]) -> Callable[[Grading], Finding]:
        function.__mlekit_check__ = Check(id, function, tuple(uses))  # type: ignore[attr-defined]
        return function

    return bind


def with_list(
    name: str, table: Callable[[Grading], pd.DataFrame], first: bool = False
) -> Callable[[Callable[[Grading], Finding]], Callable[[Grading], Finding]]:
    """Let a check lay a table of all that was given beside its verdict as `name`.csv, whatever the verdict, when a learner asks why.

    It stands after the rows at fault, or `first`.
    """

    def bind(function: Callable[[Grading], Finding]) -> Callable[[Grading], Finding]:
        @wraps(function)
        def listed(grading: Grading) -> Finding:
            if not grading.own:
                return function(grading)
            try:
                finding = function(grading)
            except Fault as fault:
                finding = Finding(Outcome.FAIL, str(fault))
            except Owed as owed:
                grading.rows.append(CaseRows(name, table(grading)))
                raise owed
            every = CaseRows(name, table(grading))
            return replace(finding, rows=(every, *finding.rows) if first else (*finding.rows, every))

        return listed

    return bind


@dataclass
class Grading:
    """One grading of one submission: the toolbox that checks and work are handed."""

    submission: Submission
    sandbox: Sandbox
    reader: Reader
    world: Callable[[], World]
    world_name: str
    scratch: Path
    pool: Executor
    limits: Limits = field(default_factory=Limits)
    disk: Callable[[Path, int], None] = lambda path, size_mb: path.mkdir(parents=True)
    own: bool = False
    rows: list[CaseRows] = field(default_factory=list)
    _done: dict[Work[Any], Future[Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, work: Work[T]) -> Future[T]:
        """Start shared work if it has not been, without waiting for it."""
        with self._lock:
            if work not in self._done:
                self._done[work] = self.pool.submit(self._do, work, len(self._done) + 1)
            return self._done[work]

    def _do(self, work: Work[T], place: int) -> T:
        """Do work in its turn: of jobs that wait for a core, the one whose check comes first goes first."""
        planned.set(place)
        return work.function(self)

    def get(self, work: Work[T]) -> T:
        """The result of shared work; raises what the work raised.

        Work may use other work as long as that was started before it: the pool takes them in order.
        """
        return self.start(work).result()

    def settle(self, *works: Work[Any]) -> None:
        """Wait until shared work has ended, however it ended, as far as it was started."""
        with self._lock:
            started = [self._done[work] for work in works if work in self._done]
        for future in started:
            future.exception()

    def after(self, work: Work[Any]) -> None:
        """Wait for work whose runs those of the caller are compared with, so that two runs cannot tell each other what they got.

        Learners who check their own work (`own`) could only fool themselves, and need not wait.
        """
        if not self.own:
            self.get(work)

    def folder(self, label: str, size_mb: int | None = None) -> Path:
        """A new empty folder of the judge; size-capped where the sandbox can (`size_mb`).

        Its path says nothing: a job can read the sources of its mounts, and must not learn which run it is.
        """
        path = self.scratch / secrets.token_hex(8)
        self.submission.labels[path] = label
        if size_mb is None:
            path.mkdir(parents=True)
        else:
            self.disk(path, size_mb)
        return path
