"""Run one process tree with a capped output and a watcher; shared by all rungs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from grader.sandbox.base import MEBI, Finished, Limits

KEPT_OUTPUT = 16 * 1024  # bytes of the end of the output that are kept for messages
POLL_SECONDS = 0.05
_UNPRINTABLE = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|[^\n\t\x20-\x7e\u00a0-\u2027\u202f-\u2065\u2070-\ud7ff\ue000-\uffff]"
)


def printable(data: bytes) -> str:
    """Text that cannot move a cursor, recolour a terminal or reverse a line."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    return _UNPRINTABLE.sub("", text)


class Process:
    """A running process tree. `kill_all` ends whatever of it is left, also what changed its session."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        limits: Limits,
        kill_all: Callable[[subprocess.Popen[bytes]], None],
        cwd: str | None = None,
        uncounted: int = 0,
        disk: Sequence[Path] = (),
    ) -> None:
        """`uncounted` processes at the root belong to the sandbox; `disk` are folders whose sizes are watched."""
        self._disk = disk
        self._limits, self._kill_all, self._uncounted = limits, kill_all, uncounted
        self._tail, self._seen = bytearray(), 0
        self._stopped_by: str | None = None
        self._peak_memory = self._peak_processes = 0
        self._began = time.monotonic()
        self._finished: Finished | None = None
        self._popen = subprocess.Popen(
            argv, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._reader.start()
        self._watcher.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def _read(self) -> None:
        assert self._popen.stdout is not None
        while chunk := os.read(self._popen.stdout.fileno(), 65536):
            self._seen += len(chunk)
            self._tail += chunk
            del self._tail[:-KEPT_OUTPUT]
            if self._seen > self._limits.output_kb * 1024:
                self._end("output")
                return

    def _watch(self) -> None:
        limits = self._limits
        next_memory = 0.0
        while self._popen.poll() is None:
            now = time.monotonic()
            if now - self._began > limits.seconds:
                return self._end("time")
            tree = self._tree()
            self._peak_processes = max(self._peak_processes, len(tree) - self._uncounted)
            if self._peak_processes > limits.processes:
                return self._end("processes")
            if now >= next_memory:  # proportional set sizes cost a millisecond a process
                self._peak_memory = max(self._peak_memory, _memory_mb(tree))
                if self._peak_memory > limits.memory_mb:
                    return self._end("memory")
                if sum(_size_mb(folder) for folder in self._disk) > limits.disk_mb:
                    return self._end("disk")
                next_memory = time.monotonic() + 4 * (time.monotonic() - now) + POLL_SECONDS
            time.sleep(POLL_SECONDS)
        return None

    def _tree(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self._popen.pid)
            return [root, *root.children(recursive=True)]
        except psutil.Error:
            return []

    def _end(self, why: str) -> None:
        if self._stopped_by is None and self._popen.poll() is None:
            self._stopped_by = why
        self._kill_all(self._popen)

    def poll(self) -> Finished | None:
        return self.wait() if self._popen.poll() is not None else None

    def wait(self) -> Finished:
        """Wait for the end (the watcher bounds it) and say how it came."""
        if self._finished is None:
            self._popen.wait()
            self._kill_all(self._popen)
            self._reader.join(timeout=2)
            self._watcher.join(timeout=2)
            ended = self._stopped_by or "exited"
            self._finished = Finished(
                ended,
                self._popen.returncode if ended == "exited" else None,
                time.monotonic() - self._began,
                printable(bytes(self._tail)),
                self._peak_memory,
                self._peak_processes,
            )
        return self._finished

    def stop(self, grace_seconds: float = 5.0) -> Finished:
        """Ask the job to end, then end it."""
        if self._popen.poll() is None and grace_seconds > 0:
            self.signal(signal.SIGTERM)
            deadline = time.monotonic() + grace_seconds
            while self._popen.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
        if self._popen.poll() is None:
            self._end("cancelled")
        return self.wait()

    def signal(self, number: int) -> None:
        """Signal the job's own first process (behind the uncounted ones of the sandbox)."""
        tree = self._tree()
        if len(tree) > self._uncounted:
            try:
                tree[self._uncounted].send_signal(number)
            except psutil.Error:
                pass


def _memory_mb(tree: Sequence[psutil.Process]) -> int:
    total = 0
    for process in tree:
        try:
            with open(f"/proc/{process.pid}/smaps_rollup", "rb") as rollup:
                total += next((int(line.split()[1]) * 1024 for line in rollup if line.startswith(b"Pss:")), 0)
        except OSError:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                pass
    return total // MEBI


def _size_mb(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except OSError:
                pass
    return total // MEBI
