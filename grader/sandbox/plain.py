"""The plain rung: ordinary processes with limits, for machines without namespaces. It isolates nothing: own code only."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil

from grader.sandbox.base import Argument, Finished, Job, Mount
from grader.sandbox.process import Process

TOKEN = "MLEKIT_JOB"  # marks every process of one job, so that none of another is ended


class Plain:
    """Run jobs as ordinary processes in a session of their own; orphans come back to us and are ended."""

    name = "plain"

    def __init__(self, slots: int = 2) -> None:
        from grader.sandbox import namespaces

        namespaces.adopt_orphans()
        self._slots = threading.BoundedSemaphore(slots)
        self._running: set[Process] = set()
        self._lock = threading.Lock()

    def start(self, job: Job) -> Process:
        argv = [_outside(part) for part in job.argv]
        python = job.python or Path(sys.executable)
        if argv and argv[0] == "python":
            argv[0] = str(python)
        token = secrets.token_hex(8)
        environment = {k: _outside(v) for k, v in job.env.items()}
        environment |= {"PATH": f"{python.parent}{os.pathsep}{os.defpath}", TOKEN: token}
        writable = tuple(m.source for m in job.mounts if m.writable)
        process = Process(
            argv, environment, job.limits, lambda popen: _kill(popen, token), cwd=str(job.cwd.outside()), disk=writable
        )
        with self._lock:
            self._running = {p for p in self._running if p.poll() is None} | {process}
        return process

    def run(self, job: Job) -> Finished:
        try:
            with self._slots:
                return self.start(job).wait()
        except (FileNotFoundError, PermissionError, NotADirectoryError) as problem:
            return Finished("missing", None, 0.0, f"{problem.strerror}: {problem.filename}")

    def close(self) -> None:
        with self._lock:
            running, self._running = self._running, set()
        for process in running:
            process.stop(0)


def _kill(popen: subprocess.Popen[bytes], token: str) -> None:
    """End the job's session, and whatever of it changed its session and so came back to us as an orphan."""
    try:
        os.killpg(popen.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    try:
        below = psutil.Process().children(recursive=True)
    except psutil.Error:
        return
    for process in below:
        try:
            if process.pid == popen.pid or process.environ().get(TOKEN) == token:
                process.kill()
        except psutil.Error:
            pass


def _outside(value: Argument) -> str:
    return str(value.outside()) if isinstance(value, Mount) else value
