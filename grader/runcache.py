"""What a command wrote, kept under the hash of everything that went in; lets an interrupted or repeated `check` go on.

Only commands that ended well are kept, and only folders of plain files: a link or a FIFO is never carried from one run to
another. Verdicts are never kept here; the checks look at what was written anew each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from grader import __version__
from grader.printable import printable
from grader.reading import small_text, walk
from grader.sandbox import Finished, Mount
from grader.sandbox.base import MEBI, Argument

MAX_TOTAL_MB = 1024
MAX_ENTRY_MB = 128
MAX_GIVEN_MB = 512  # of what a run is given
MAX_DEPTH = 100  # of folders, which are copied by a function that calls itself


class NotKept(Exception):
    """What a run was given is too large or too odd to be told apart cheaply; the run is not kept."""


def content_of(path: Path) -> str:
    """SHA-256 over the relative paths and bytes of a file or of all files of a folder. Raises NotKept.

    Links, FIFOs and devices count by what they are, never by what they lead to.
    """
    digest, left = hashlib.sha256(), MAX_GIVEN_MB * MEBI
    try:
        for file in [path] if path.is_file() else sorted(_every_file(path)):
            found = file.lstat()
            left -= found.st_size
            if left < 0:
                raise NotKept
            inner = _digest(file) if stat.S_ISREG(found.st_mode) else f"{stat.S_IFMT(found.st_mode)}"
            digest.update(f"{file.relative_to(path)}\0{inner}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        raise NotKept from None
    return digest.hexdigest()


def _every_file(folder: Path) -> Iterator[Path]:
    for where, _, names in walk(folder, _raise):
        yield from (Path(where, name) for name in names)


def _raise(problem: OSError) -> None:
    raise problem


def _digest(path: Path) -> str:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class RunCache:
    """A folder of finished runs. Safe to share between gradings: an entry appears by a rename or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._prune()

    def key(
        self,
        label: str,
        argv: Sequence[Argument],
        env: dict[str, Argument],
        mounts: Iterable[Mount],
        rung: str,
        earlier: Mapping[str, Path] | None = None,
    ) -> str:
        """The hash of what decides the outcome of a run; `label` keeps two deliberate repetitions apart. Raises NotKept.

        `earlier` are the folders whose copies it goes on with.
        """
        described = {
            "label": label,
            "kit": __version__,
            "rung": rung,
            "argv": [_described(part) for part in argv],
            "env": {name: _described(value) for name, value in sorted(env.items())},
            "mounts": {mount.name: content_of(mount.source) for mount in mounts if not mount.writable},
            "earlier": {name: content_of(folder) for name, folder in (earlier or {}).items()},
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    def load(self, key: str, out: Path) -> Finished | None:
        """Lay a kept run's files down in `out` and say how it ended; None where there is none."""
        entry = self._folder / key
        try:
            finished = _finished(json.loads(small_text(entry / "finished.json")))
            shutil.copytree(entry / "written", out, dirs_exist_ok=True, symlinks=True)
            os.utime(entry)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return finished

    def keep(self, key: str, out: Path, finished: Finished) -> None:
        """Keep a run that ended well; quietly does nothing where it cannot."""
        if finished.ended != "exited" or not _plain_files(out):
            return
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=self._folder))
        try:
            shutil.copytree(out, partial / "written", symlinks=True)
            (partial / "finished.json").write_text(json.dumps(asdict(finished)), encoding="utf-8")
            partial.rename(self._folder / key)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)

    def _prune(self) -> None:
        """Forget the runs used longest ago where all together are too large."""
        entries = [e for e in self._folder.iterdir() if e.is_dir() and not e.is_symlink()]
        total = 0
        for entry in sorted(entries, key=lambda e: -e.lstat().st_mtime):
            try:
                total += sum(path.lstat().st_size for path in _every_file(entry))
            except OSError:
                total = MAX_TOTAL_MB * MEBI + 1  # nothing that this class has written
            if total > MAX_TOTAL_MB * MEBI:
                shutil.rmtree(entry, ignore_errors=True)


def _finished(kept: Any) -> Finished:
    """How a kept run ended. Raises TypeError, ValueError and KeyError: a learner's own command may have written there."""
    finished = Finished(**kept)
    whole = (finished.code, finished.peak_memory_mb, finished.peak_processes)
    seconds = finished.seconds
    if finished.ended != "exited" or not isinstance(finished.output, str) or not isinstance(seconds, int | float):
        raise ValueError("not a kept run")
    if any(type(number) is not int or abs(number) >= 1 << 31 for number in whole) or not 0 <= seconds < 1 << 31:
        raise ValueError("not a kept run")
    return replace(finished, output=printable(finished.output.encode("utf-8", "replace")))


def _described(value: Argument) -> str:
    return value.before + value.inside() if isinstance(value, Mount) else value


def _plain_files(folder: Path) -> bool:
    """Whether a folder holds regular files and folders only, and not too much of them."""
    total = 0
    try:
        for where, folders, names in walk(folder, _raise):
            if len(Path(where).parts) - len(folder.parts) > MAX_DEPTH:
                return False
            for name in (*folders, *names):
                found = Path(where, name).lstat()
                if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                    return False
                total += found.st_size
    except OSError:
        return False
    return total <= MAX_ENTRY_MB * MEBI
