"""Check a stage again at every change, until Ctrl-C; one at a time in a workspace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from watchfiles import Change, DefaultFilter
from watchfiles import watch as changes

from grader import fast, progress
from grader.stages import Stage
from grader.submission import SKIPPED_ENDINGS, SKIPPED_FOLDERS
from grader.workspace import STATE, Workspace

LOCK = "watch.lock"
QUIET_MS, LOOK_MS = 120, 40  # how long nothing must change before a check starts, and how often that is looked at
END_SECONDS = 15
IGNORED_FOLDERS = ("data", "out", "briefs")  # what notebooks and the kit write


class Counts(DefaultFilter):
    """Changes of files that a submission consists of."""

    def __init__(self, folder: Path) -> None:
        super().__init__(ignore_dirs=(*DefaultFilter.ignore_dirs, *SKIPPED_FOLDERS))
        self._own = tuple(str(folder / name) + os.sep for name in IGNORED_FOLDERS)

    def __call__(self, change: Change, path: str) -> bool:
        name = Path(path).name
        if name.startswith(".") or name.endswith(SKIPPED_ENDINGS) or path.startswith(self._own):
            return False
        return super().__call__(change, path)


def watch(mine: Workspace, stage: Stage | None) -> int:
    """Run `mlekit check` of the stage (None: the one at work) now and after each change.

    A check under way is ended when files change.
    """
    from grader.cli import Refused

    path = mine.folder / STATE / LOCK
    try:
        path.parent.mkdir(exist_ok=True)
        lock = FileLock(path, timeout=0)
        lock.acquire()
    except Timeout:
        raise Refused(
            f"another `mlekit watch` runs in {mine.folder}; use its terminal, or end it there with Ctrl-C"
        ) from None
    except OSError as problem:
        raise Refused(f"{path} cannot be written ({problem.strerror})") from None
    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        _loop(mine, stage, stop)
    finally:
        signal.signal(signal.SIGINT, before)
        lock.release()
    fast.show("", "mlekit watch ended. Go on with `mlekit check` or `mlekit next`.")
    return 0


def _loop(mine: Workspace, stage: Stage | None, stop: threading.Event) -> None:
    running, told = _check(mine, stage), False
    try:
        for changed in _changes(mine.folder, stop):
            if changed:
                _end(running)
                names = ", ".join(sorted({Path(path).name for path in changed})[:3])
                fast.show("", f"{time.strftime('%H:%M:%S')} {names} changed; checking {_name(mine, stage)}")
                running, told = _check(mine, stage), False
            elif not told and running.poll() is not None:
                told = True
                fast.show(f"Waiting for changes of files in {mine.folder}; Ctrl-C ends.")
    finally:
        _end(running)


def _changes(folder: Path, stop: threading.Event) -> Iterator[set[str]]:
    """The paths that changed, or nothing at each look, until `stop` is set."""
    for found in changes(
        folder, watch_filter=Counts(folder), debounce=QUIET_MS, step=LOOK_MS, stop_event=stop, rust_timeout=200,
        yield_on_timeout=True, raise_interrupt=False,
    ):  # fmt: skip
        yield {path for _, path in found}


def _name(mine: Workspace, stage: Stage | None) -> str:
    found = stage or progress.current(mine)
    return found.folder.name if found else "nothing, since all is complete"


def _check(mine: Workspace, stage: Stage | None) -> subprocess.Popen[bytes]:
    """A check in a process of its own, which Ctrl-C in the terminal does not reach before us."""
    line = [sys.executable, "-m", "grader", "check", *([stage.id] if stage else [])]
    return subprocess.Popen(line, cwd=mine.folder, stdin=subprocess.DEVNULL, start_new_session=True)


def _end(running: subprocess.Popen[bytes]) -> None:
    if running.poll() is None:
        running.send_signal(signal.SIGINT)
        try:
            running.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
