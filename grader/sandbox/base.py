"""The interface of the sandbox: what to run, within which limits, and how it ended."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

MEBI = 1024 * 1024
ROOT = "/mlekit"  # below it lies what a job is given: no folder of the machine that a job must see is called so


@dataclass(frozen=True)
class Limits:
    """Caps on one process tree; seconds are wall-clock, memory is the summed proportional set size."""

    seconds: float = 300.0
    memory_mb: int = 4096
    processes: int = 128
    disk_mb: int = 512
    output_kb: int = 16_384


@dataclass(frozen=True)
class Mount:
    """A folder or file of the judge that the job may see under `/mlekit/<name>` (on the plain rung: where it is).

    `Mount / "file"` in an argument vector becomes the path as the job sees it, with `before` in front of it (`sqlite:///`).
    """

    source: Path
    name: str
    writable: bool = False
    below: str = ""
    before: str = ""

    def __truediv__(self, below: str) -> Mount:
        return replace(self, below=f"{self.below}/{below}" if self.below else below)

    def inside(self) -> str:
        """The path as a job in a mount namespace sees it."""
        return f"{ROOT}/{self.name}/{self.below}".rstrip("/")

    def outside(self) -> Path:
        """The path as the judge sees it."""
        return self.source / self.below if self.below else self.source


Argument = str | Mount


class SandboxFault(Exception):
    """The sandbox itself failed, which is no fault of the submission; becomes `grader_error` with this sentence."""


@dataclass(frozen=True)
class Job:
    """One command of a submission.

    `argv[0]` may be `python`, which stands for the interpreter of the submission's environment.
    """

    argv: Sequence[Argument]
    mounts: Sequence[Mount]
    cwd: Mount
    env: Mapping[str, Argument] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    python: Path | None = None  # an interpreter other than the kit's (a locked environment)
    also_python: Path | None = None  # one more interpreter to make visible, for the kit's tools
    hidden: Sequence[Path] = ()  # folders that the job must not see though they lie in one that it does
    network: bool = True  # the loopback of the grading (on the plain rung: of the machine, always)
    printed: Path | None = None  # a file of the judge to which all that it prints is appended


@dataclass(frozen=True)
class Finished:
    """How a job ended.

    `ended` is `exited`, or what stopped it: `time`, `memory`, `processes`, `output`, `disk`, `cancelled`,
    `missing` (the program does not exist or cannot be run). `code` is None unless it exited, and 128 + the signal's
    number when a signal ended it. `disk` is seen on the plain rung only; elsewhere the job itself meets a full disk.
    """

    ended: str
    code: int | None
    seconds: float
    output: str  # the last part of stdout and stderr together, printable characters only
    peak_memory_mb: int = 0
    peak_processes: int = 0

    @property
    def ok(self) -> bool:
        return self.ended == "exited" and self.code == 0

    def sentence(self) -> str:
        """What happened, for a person."""
        return {
            "exited": f"it ended with exit code {self.code}{_signal(self.code)}",
            "time": f"it was still running after {self.seconds:.0f} s and was stopped",
            "memory": f"it used more memory than allowed ({self.peak_memory_mb} MB seen) and was stopped",
            "processes": f"it started more processes than allowed ({self.peak_processes} seen) and was stopped",
            "output": "it printed more than allowed and was stopped",
            "disk": "it wrote more to disk than allowed and was stopped",
            "cancelled": "it was ended by the grader",
            "missing": "the program it names was not found",
        }[self.ended]


def _signal(code: int | None) -> str:
    try:
        return f" ({signal.Signals((code or 0) - 128).name})"
    except ValueError:
        return ""


class Service(Protocol):
    """A job that goes on while the judge talks to it."""

    def poll(self) -> Finished | None: ...

    def wait(self) -> Finished: ...

    def stop(self, grace_seconds: float = 5.0) -> Finished: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Sandbox(Protocol):
    """One rung of the isolation ladder; `turn` is held while one of the few jobs runs that may run at once.

    `alone` is all turns: while it is held, no other job has one.
    """

    name: str

    @property
    def turn(self) -> AbstractContextManager[None]: ...

    def alone(self) -> AbstractContextManager[None]: ...

    def run(self, job: Job) -> Finished:
        """Run to the end, or to a limit; nothing of it is left afterwards. Raises SandboxFault."""

    def start(self, job: Job) -> Service:
        """Start and return at once. Raises SandboxFault."""

    def path(self, mount: Mount) -> str:
        """The path of a mount as the job sees it."""

    def close(self) -> None:
        """End everything that still runs."""
