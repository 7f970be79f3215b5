"""The MLflow store that every command is given: an SQLite file and a folder of artifacts, with the experiment already there.

A store that MLflow makes itself costs a command three seconds of migrations, lies in the working directory, which is read-only,
and crashes when two processes make it at once. So an empty one is made once for each version of MLflow, and copied.
"""

from __future__ import annotations

import errno
import fcntl
import filecmp
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from grader.reading import walk
from grader.sandbox import Limits, Mount, Sandbox
from grader.sandbox.base import Argument, Job, SandboxFault
from grader.sandbox.reader import INSIDE, TOOL_ENVIRONMENT

NAME = "tracking"  # of the folder, beside those of --out and MLEKIT_STATE
DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"
EXPERIMENT = "departures"
# MLflow and its libraries ask a server for their news and look for git; neither is there.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet"}
MAKE_SECONDS = 300


def environment(tracking: Mount) -> dict[str, Argument]:
    """What tells MLflow where to log, and to keep to itself."""
    uri = replace(tracking / DATABASE, before="sqlite:///")
    return {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": EXPERIMENT, **QUIET}


@dataclass
class Stores:
    """Lays down empty stores for one submission; `python` is its interpreter, None for the kit's.

    `scratch` is a private folder of the judge.
    """

    sandbox: Sandbox
    scratch: Path
    python: Path | None = None
    cache: Path | None = None  # where templates are kept; the user's cache by default
    _template: Path | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lay_down(self, folder: Path) -> Mount:
        """Put an empty store into a new `folder`, whose artifacts lie where a job will see them. Raises SandboxFault."""
        folder.mkdir(parents=True)
        (folder / ARTIFACTS).mkdir()
        mount = Mount(folder, NAME, writable=True)
        shutil.copyfile(self.template(), folder / DATABASE)
        _locate(folder / DATABASE, self.sandbox.path(mount / ARTIFACTS))
        return mount

    def go_on(self, earlier: Path, folder: Path) -> Mount:
        """Put a copy of an earlier store into a new `folder`. Raises SandboxFault.

        MLflow keeps absolute paths: where a job sees folders at their real paths, the copy is told that it lies elsewhere.
        """
        copy_files(earlier, folder)
        mount = Mount(folder, NAME, writable=True)
        if self.sandbox.name == "plain":
            kit = Mount(INSIDE, "kit")
            was, now = (self.sandbox.path(Mount(place, NAME)) for place in (earlier, folder))
            job = Job(
                ["python", kit / "move_store.py", mount / DATABASE, was, now],
                [kit, mount],
                cwd=mount,
                env={**TOOL_ENVIRONMENT, "HOME": "/tmp"},
                limits=Limits(seconds=MAKE_SECONDS),
                network=False,
            )
            finished = self.sandbox.start(job).wait()
            if not finished.ok:
                raise SandboxFault(f"a copied MLflow store could not be told where it lies: {finished.output[-300:]}")
        return mount

    def untouched(self, folder: Path) -> bool:
        """Whether nothing was logged to a store since it was laid down."""
        database = folder / DATABASE
        if (
            not folder.is_dir()
            or {entry.name for entry in os.scandir(folder)} != {DATABASE, ARTIFACTS}
            or database.is_symlink()
        ):
            return False
        if (folder / ARTIFACTS).is_symlink() or any(os.scandir(folder / ARTIFACTS)):
            return False
        with tempfile.TemporaryDirectory(dir=self.scratch) as place:
            fresh = Path(place, DATABASE)
            shutil.copyfile(self.template(), fresh)
            _locate(fresh, self.sandbox.path(Mount(folder, NAME) / ARTIFACTS))
            return filecmp.cmp(fresh, database, shallow=False)

    def template(self) -> Path:
        """The empty store that all are copied from, made now if it is not there. Raises SandboxFault."""
        with self._lock:
            if self._template is None:
                own = _version_of(self.python) if self.python else None
                kit = metadata.version("mlflow")
                if own in (None, kit):
                    self._template = kept(f"mlflow-{kit}.db", DATABASE, _make, self.scratch / "store", self.cache)
                else:
                    self._template = self._made_for_it()
            return self._template

    def _made_for_it(self) -> Path:
        """A template made by the submission's own MLflow, in its sandbox, for this grading alone."""
        place = self.scratch / "store"
        place.mkdir(parents=True, exist_ok=True)
        kit, written = Mount(INSIDE, "kit"), Mount(place, NAME, writable=True)
        job = Job(
            ["python", kit / "make_store.py", written, EXPERIMENT],
            [kit, written],
            cwd=written,
            env={**TOOL_ENVIRONMENT, **QUIET, "HOME": "/tmp"},
            limits=Limits(seconds=MAKE_SECONDS),
            python=self.python,
            network=False,
        )
        finished = self.sandbox.start(job).wait()
        made = place / DATABASE
        if not finished.ok or made.is_symlink() or not made.is_file():
            raise SandboxFault(f"the submission's MLflow could not make an empty store: {finished.output[-300:]}")
        return made


class TooMuch(Exception):
    """A command left more behind than there is room for, or than anybody reads; the message says how much."""


def copy_files(earlier: Path, folder: Path, without: Collection[str] = ()) -> None:
    """Copy the regular files below a folder that a submission wrote to.

    What is no plain file or folder stays behind, and what has a name that cannot be copied. Raises TooMuch where all of it is larger
    than the disk (a file may have holes), and OSError where the disk is full for another reason.
    """
    size = 0
    for where, _, names in walk(earlier):
        target = folder / Path(where).relative_to(earlier)
        for path in (Path(where, name) for name in names if name not in without):
            try:
                make_folder(target)
                if path.is_file() and not path.is_symlink():
                    size += path.stat().st_size
                    shutil.copyfile(path, target / path.name, follow_symlinks=False)
            except OSError as problem:
                if problem.errno == errno.ENOSPC:
                    disk = os.statvfs(folder)
                    if size > disk.f_blocks * disk.f_frsize:
                        raise TooMuch(
                            f"what a command left behind has {size >> 20:,} MB (holes in files count), and the next one has room for "
                            f"{disk.f_blocks * disk.f_frsize >> 20:,} MB"
                        ) from None
                    raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it, however deep: `mkdir(parents=True)` calls itself for each."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)


def kept(name: str, made: str, make: Callable[[Path], None], own: Path, cache: Path | None = None) -> Path:
    """A database that takes long to make, made once for each user: `make` leaves it in a folder as `made`, and it is kept as `name`.

    Where the user's cache cannot be written it is made anew, in the folder `own`.
    """
    import platformdirs

    cache = cache or Path(platformdirs.user_cache_dir("mlekit")) / "stores"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f"lock-{name}").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not (cache / name).is_file():
                with tempfile.TemporaryDirectory(dir=cache) as place:
                    make(Path(place))
                    Path(place, made).rename(cache / name)
        return cache / name
    except OSError:  # a home that cannot be written
        own.mkdir(parents=True, exist_ok=True)
        make(own)
        return own / made


def _make(folder: Path) -> None:
    """Make an empty store with the kit's own MLflow. Raises SandboxFault."""
    line = [sys.executable, "-P", str(INSIDE / "make_store.py"), str(folder), EXPERIMENT]
    try:
        made = subprocess.run(
            line, cwd=folder, env=_own_environment(os.environ), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=MAKE_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SandboxFault(f"MLflow did not make an empty store within {MAKE_SECONDS} s") from None
    if made.returncode:
        raise SandboxFault(f"MLflow could not make an empty store: {made.stderr.strip()[-300:]}")


def _own_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The judge's environment without settings of MLflow, which could lead to another store."""
    return {**{k: v for k, v in environ.items() if not k.startswith("MLFLOW_")}, **QUIET}


def _version_of(python: Path) -> str | None:
    """The version of MLflow in a virtual environment, read off the names of its folders."""
    found = sorted(python.parent.parent.glob("lib/python*/site-packages/mlflow-*.dist-info"))
    return found[0].name.removeprefix("mlflow-").removesuffix(".dist-info") if found else None


def _locate(database: Path, artifacts: str) -> None:
    """Say in an empty store of our own where artifacts go: MLflow keeps absolute paths."""
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE experiments SET artifact_location = ? || '/' || experiment_id", (artifacts,))
    connection.close()
