"""The keeper: a small process between supervisor and worker that leaves nothing behind, however either of them ends.

    python -I -S keeper.py EVENT_FD LIFELINE_FD COMMAND...

It runs COMMAND (the worker) with a temporary folder of its own. When the worker ends, or the supervisor lets go of the
lifeline (also by dying), it ends every process that is left and removes the folder. It imports nothing but the
standard library, so that it starts in a few milliseconds and cannot fail with the rest.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 1.0  # the worker owns nothing that outlives it; this lets it close what it can
GIVE_UP_SECONDS = 10.0  # a process the kernel does not let go of must not hold up the end
DAMAGED = 70


def main(event_fd: int, lifeline: int, command: Sequence[str]) -> int:
    """Run the command to its end or to the supervisor's; returns its exit code."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what the worker loses comes to us
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    scratch = tempfile.mkdtemp(prefix="mlekit-")
    try:
        worker = subprocess.Popen(
            command, pass_fds=(event_fd,), env={**os.environ, "TMPDIR": scratch}, start_new_session=True
        )
        os.close(event_fd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the plan on stdin is the worker's to read
        code = _wait(worker.pid, lifeline, woken)
        if code is None:
            os.kill(worker.pid, signal.SIGTERM)
            code = _ended(worker.pid, GRACE_SECONDS)
        return DAMAGED if code is None else code
    finally:
        _end_everything()
        shutil.rmtree(scratch, ignore_errors=True)


def _wait(pid: int, lifeline: int, woken: int) -> int | None:
    """The worker's exit code, or None when the supervisor let go first."""
    while True:
        ready, _, _ = select.select([lifeline, woken], [], [])
        if woken in ready:
            if signal.SIGTERM in os.read(woken, 4096):
                return None
            if (code := _reap(pid)) is not None:
                return code
        if lifeline in ready:
            return None


def _reap(pid: int) -> int | None:
    """Collect what has ended; returns the exit code of `pid` if it is among that."""
    found = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if ended == 0:
            return found
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def _ended(pid: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (code := _reap(pid)) is not None:
            return code
        time.sleep(0.01)
    return None


def _end_everything() -> None:
    """End all processes below this one, again until none is left."""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while time.monotonic() < deadline:
        for pid in _below(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        _reap(0)
        time.sleep(0.005)


def _below(root: int) -> list[int]:
    parents = _parents()
    found, row = [], {root}
    while row := {pid for pid, parent in parents.items() if parent in row and pid != root}:
        found += sorted(row)
    return found


def _parents() -> dict[int, int]:
    """The parent of every process of the machine that can be seen."""
    if not Path("/proc/self").exists():
        listed = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
        return {int(pid): int(parent) for pid, parent in (line.split() for line in listed.splitlines())}
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                pass  # it ended meanwhile
    return parents


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
