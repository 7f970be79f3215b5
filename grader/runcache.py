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
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from grader import __version__
from grader.sandbox import Finished, Mount
from grader.sandbox.base import MEBI, Argument

MAX_TOTAL_MB = 1024
MAX_ENTRY_MB = 128


def content_of(path: Path) -> str:
    """SHA-256 over the relative paths and bytes of a file or of all files of a folder."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        inner = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(path)}\0{inner}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class RunCache:
    """A folder of finished runs. Safe to share between gradings: an entry appears by a rename or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._prune()

    def key(
        self, label: str, argv: Sequence[Argument], env: dict[str, Argument], mounts: Iterable[Mount], rung: str
    ) -> str:
        """The hash of what decides the outcome of a run; `label` keeps two deliberate repetitions apart."""
        described = {
            "label": label,
            "kit": __version__,
            "rung": rung,
            "argv": [_described(part) for part in argv],
            "env": {name: _described(value) for name, value in sorted(env.items())},
            "mounts": {mount.name: content_of(mount.source) for mount in mounts if not mount.writable},
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    def load(self, key: str, out: Path) -> Finished | None:
        """Lay a kept run's files down in `out` and say how it ended; None where there is none."""
        entry = self._folder / key
        try:
            finished = Finished(**json.loads((entry / "finished.json").read_text(encoding="utf-8")))
            shutil.copytree(entry / "written", out, dirs_exist_ok=True, symlinks=True)
            os.utime(entry)
        except (OSError, ValueError, TypeError):
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
        entries = sorted((e for e in self._folder.iterdir() if e.is_dir()), key=lambda e: -e.stat().st_mtime)
        total = 0
        for entry in entries:
            total += sum(p.stat().st_size for p in entry.rglob("*") if p.is_file())
            if total > MAX_TOTAL_MB * MEBI:
                shutil.rmtree(entry, ignore_errors=True)


def _described(value: Argument) -> str:
    return value.inside() if isinstance(value, Mount) else value


def _plain_files(folder: Path) -> bool:
    """Whether a folder holds regular files and folders only, and not too much of them."""
    total = 0
    for where, folders, names in os.walk(folder):
        for name in (*folders, *names):
            found = Path(where, name).lstat()
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                return False
            total += found.st_size
    return total <= MAX_ENTRY_MB * MEBI
