"""A submission under test: a clean copy of its files, its commands run in the sandbox, and what it wrote.

Nothing here imports, evaluates or opens for parsing anything that a submission made; `sandbox.reader` does the reading.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grader.contract import Manifest
from grader.sandbox import Finished, Job, Limits, Mount, Sandbox
from grader.sandbox.base import MEBI, Argument

SKIPPED_FOLDERS = frozenset({
    ".git", ".hg", ".svn", ".venv", "venv", ".mlekit", "__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".mypy_cache",
    ".ruff_cache", ".tox", ".nox", ".hypothesis", "node_modules", "mlruns", "mlartifacts",
})  # fmt: skip
SKIPPED_ENDINGS = (".pyc", ".pyo", ".egg-info")
MAX_FILES = 5_000
MAX_TOTAL_MB = 256
CONTRACT_EXIT_REFUSED = 2


class UnusableSubmission(Exception):
    """The folder cannot be graded at all; the message says what to change."""


def files_of(folder: Path) -> Iterator[Path]:
    """The files of a submission that count, in a fixed order: regular ones, outside caches and histories.

    Links, FIFOs and devices are left out, so a link can never bring in what it points to.
    """
    for where, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(f for f in folders if f not in SKIPPED_FOLDERS and not f.endswith(SKIPPED_ENDINGS))
        for name in sorted(names):
            path = Path(where, name)
            if not name.endswith(SKIPPED_ENDINGS) and stat.S_ISREG(path.lstat().st_mode):
                yield path


def submission_hash(folder: Path) -> str:
    """SHA-256 over the relative paths and bytes of the files that count."""
    digest = hashlib.sha256()
    for path in files_of(folder):
        inner = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                inner.update(block)
        digest.update(
            f"{path.relative_to(folder).as_posix()}\0{inner.hexdigest()}\n".encode("utf-8", "surrogateescape")
        )
    return digest.hexdigest()


def clean_copy(folder: Path, target: Path) -> None:
    """Copy the files that count, without links, owners, or times. Raises UnusableSubmission when they are too many."""
    total = count = 0
    for path in files_of(folder):
        count, total = count + 1, total + path.lstat().st_size
        if count > MAX_FILES or total > MAX_TOTAL_MB * MEBI:
            raise UnusableSubmission(
                f"{folder} holds more than {MAX_FILES} files or {MAX_TOTAL_MB} MB; move data, models and environments out of it"
            )
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy, follow_symlinks=False)
        copy.chmod(0o755 if path.lstat().st_mode & 0o100 else 0o644)


@dataclass(frozen=True)
class Ran:
    """One finished command: how it ended and the folder it was given to write in."""

    command: str
    finished: Finished
    out: Path
    refusal: Path

    @property
    def ok(self) -> bool:
        return self.finished.ok


@dataclass
class Submission:
    """The clean copy and the sandbox its commands run in.

    `seconds` sums what its own processes took.
    """

    folder: Path
    manifest: Manifest
    sandbox: Sandbox
    python: Path | None = None
    hidden: Sequence[Path] = ()
    seconds: float = field(default=0.0)

    def run(
        self,
        command: str,
        argv: Sequence[Argument],
        reads: Sequence[Mount],
        out: Path,
        limits: Limits,
        env: dict[str, Argument] | None = None,
        tools: Sequence[Mount] = (),
    ) -> Ran:
        """Run one command line with `reads` visible and `out` writable; never raises for what the submission does."""
        for name in ("out", "state"):
            (out / name).mkdir(parents=True, exist_ok=True)
        home = Mount(self.folder, "submission")
        written, state = Mount(out / "out", "out", writable=True), Mount(out / "state", "state", writable=True)
        job = Job(
            argv,
            [home, *reads, *tools, written, state],
            cwd=home,
            env={**self.environment(state), **(env or {})},
            limits=limits,
            python=self.python,
            hidden=self.hidden,
        )
        finished = self.sandbox.run(job)
        self.seconds += finished.seconds
        return Ran(command, finished, out / "out", out / "state" / "refusal.json")

    def environment(self, state: Mount) -> dict[str, Argument]:
        """The whole environment of a command; nothing of the judge's own is passed on."""
        return {
            "MLEKIT_CONTRACT": "1",
            "MLEKIT_REFUSAL": state / "refusal.json",
            "MLEKIT_STATE": state,
            "HOME": state,
            "TMPDIR": "/tmp",
            "TZ": "UTC",
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "PYTHONSAFEPATH": "1",
            "PYTHONNOUSERSITE": "1",
            "PATH": f"{self.python.parent}:/usr/bin:/bin" if self.python else _kit_path(),
        }


def _kit_path() -> str:
    import sys

    return f"{Path(sys.executable).parent}:/usr/bin:/bin"
