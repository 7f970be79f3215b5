"""The plain rung: ordinary processes with limits, for machines without namespaces. It isolates nothing: own code only."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

import psutil

from grader.sandbox.base import Argument, Finished, Job, Mount, SandboxFault
from grader.sandbox.members import Family
from grader.sandbox.process import NOT_RUNNABLE, Ended, Process, Slots, Turns

TOKEN = "MLEKIT_JOB"  # marks every process of one job, so that none of another is ended
KILL_SECONDS = 3.0


class Plain:
    """Run jobs as ordinary processes in a session of their own; orphans come back to us and are ended.

    A process that leaves its session, clears its environment and loses its parent between two looks can get away:
    this rung keeps honest mistakes from doing harm, not intent.
    """

    name = "plain"

    def __init__(self, slots: int = 2) -> None:
        from grader.sandbox import namespaces

        namespaces.adopt_orphans()
        self._slots = Slots(slots)

    def start(self, job: Job) -> Process | Ended:
        """Start a job; one whose program is missing is over at once. Raises SandboxFault."""
        cwd = job.cwd.outside()
        if not cwd.is_dir():
            raise SandboxFault(f"{cwd}, to be started in, is not there")
        try:
            return self._slots.start(lambda: self._start(job, str(cwd)))
        except OSError as problem:
            if problem.errno in NOT_RUNNABLE:
                return Ended(Finished("missing", None, 0.0, f"{problem.filename}: {problem.strerror}"))
            raise SandboxFault(f"the command could not be started: {problem.strerror}") from None

    def run(self, job: Job) -> Finished:
        with self._slots.turn:
            return self.start(job).wait()

    def path(self, mount: Mount) -> str:
        """Where the job sees a mount."""
        return str(mount.outside())

    @property
    def turn(self) -> Turns:
        """Held while one of the few jobs runs that may run at once."""
        return self._slots.turn

    def alone(self) -> AbstractContextManager[None]:
        """Held while a job runs that is timed."""
        return self._slots.turn.all()

    def close(self) -> None:
        self._slots.close()

    def _start(self, job: Job, cwd: str) -> Process:
        argv = [_outside(part) for part in job.argv]
        python = job.python or Path(sys.executable)
        if argv and argv[0] == "python":
            argv[0] = str(python)
        token, family = secrets.token_hex(8), Family()
        own_tmp = Path(tempfile.mkdtemp(prefix="mlekit-job-"))
        environment = {k: _outside(v) for k, v in job.env.items()}
        environment |= {"PATH": f"{python.parent}{os.pathsep}{os.defpath}", TOKEN: token}
        if not isinstance(job.env.get("TMPDIR"), Mount):
            environment["TMPDIR"] = str(own_tmp)

        def kill_all(popen: subprocess.Popen[bytes]) -> None:
            _kill(popen, token, family)
            if popen.poll() is not None:
                shutil.rmtree(own_tmp, ignore_errors=True)

        writable = (own_tmp, *(m.source for m in job.mounts if m.writable))
        try:
            return Process(argv, environment, job.limits, family, kill_all, cwd=cwd, disk=writable, printed=job.printed)
        except OSError:
            shutil.rmtree(own_tmp, ignore_errors=True)
            raise


def _kill(popen: subprocess.Popen[bytes], token: str, family: Family) -> None:
    """End the job's session, everyone seen below it, and whatever of it came back to us as an orphan."""
    deadline = time.monotonic() + KILL_SECONDS
    while True:
        try:
            os.killpg(popen.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        family.kill()
        left = _orphans(token, popen.pid)
        for process in left:
            try:
                process.kill()
            except psutil.Error:
                pass
        _, left = psutil.wait_procs(left, timeout=0.2)
        if (not left and not _orphans(token, popen.pid)) or time.monotonic() > deadline:
            return


def _orphans(token: str, own: int) -> list[psutil.Process]:
    """Processes of the job `token` below us, other than its first (which is waited for elsewhere)."""
    found = []
    try:
        below = psutil.Process().children(recursive=True)
    except psutil.Error:
        return []
    for process in below:
        try:
            if (
                process.pid != own
                and process.status() != psutil.STATUS_ZOMBIE
                and process.environ().get(TOKEN) == token
            ):
                found.append(process)
        except psutil.Error:
            pass
    return found


def _outside(value: Argument) -> str:
    return f"{value.before}{value.outside()}" if isinstance(value, Mount) else value
