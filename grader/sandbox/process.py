"""Run one process tree with a capped output and a watcher; shared by all rungs."""

from __future__ import annotations

import errno
import heapq
import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from grader.printable import printable
from grader.reading import walk
from grader.sandbox.base import MEBI, Finished, Limits, SandboxFault
from grader.sandbox.members import Family

KEPT_OUTPUT = 16 * 1024  # bytes of the end of the output that are kept for messages
POLL_SECONDS = 0.02
POLL_SHARE = 0.05  # of one core goes into watching; it is looked less often where a look costs more
LONGEST_POLL = 0.25
ACCOUNT_SECONDS = 0.5  # proportional memory and folder sizes cost more, so they are looked at less often
THREADS_PER_PROCESS = 32  # a job may have this many threads for every process that its limit allows
NOT_RUNNABLE = (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC, errno.ELOOP)
planned: ContextVar[int] = ContextVar(
    "planned", default=0
)  # place in the plan of the work that a thread does; 0 goes first
# bwrap ends with the thread that started it, so all are started by one that stays
_starter = ThreadPoolExecutor(1, thread_name_prefix="mlekit-start")


class Process:
    """A running process tree.

    `members` tells who belongs to it, `kill_all` ends whatever of it is left, `judge_end` says what an exit code means
    (`exited` or `missing`, or raises SandboxFault), `disk` are folders whose sizes are watched, and all output is appended to
    `printed`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        limits: Limits,
        members: Family,
        kill_all: Callable[[subprocess.Popen[bytes]], None],
        judge_end: Callable[[int, str], str] = lambda code, output: "exited",
        cwd: str | None = None,
        disk: Sequence[Path] = (),
        pass_fds: Sequence[int] = (),
        printed: Path | None = None,
    ) -> None:
        self._limits, self._members, self._kill_all, self._judge_end = limits, members, kill_all, judge_end
        self._disk, self._printed = disk, printed
        self._tail, self._seen = bytearray(), 0
        self._stopped_by: str | None = None
        self._peak_memory = self._peak_processes = 0
        self._finished: Finished | None = None
        self._fault: SandboxFault | None = None
        self._over, self._ending = threading.Event(), threading.Lock()
        self._began = time.monotonic()
        self._popen = _starter.submit(
            subprocess.Popen, argv, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True, pass_fds=pass_fds,
        ).result()  # fmt: skip
        members.attach(self._popen.pid)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._reader.start()
        self._watcher.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as stream, open(self._printed or os.devnull, "ab", 0) as whole:
            while chunk := os.read(stream.fileno(), 65536):
                whole.write(chunk)
                self._seen += len(chunk)
                self._tail += chunk
                del self._tail[:-KEPT_OUTPUT]
                if self._seen > self._limits.output_kb * 1024:
                    self._end("output")
                    return

    def _watch(self) -> None:
        next_account = 0.0
        while not self._over.is_set():
            now, spent = time.monotonic(), time.thread_time()
            if now - self._began > self._limits.seconds:
                return self._end("time")
            resident = self._watch_processes()
            if resident is None:
                return self._end("processes")
            if now >= next_account or resident > self._limits.memory_mb:
                if why := self._account():
                    return self._end(why)
                next_account = time.monotonic() + max(ACCOUNT_SECONDS, (time.thread_time() - spent) / POLL_SHARE)
            pause = min(LONGEST_POLL, max(POLL_SECONDS, (time.thread_time() - spent) / POLL_SHARE))
            left = self._began + self._limits.seconds - time.monotonic()
            self._over.wait(max(0.0, min(pause, left)))
        return None

    def _watch_processes(self) -> int | None:
        """Summed resident memory in MB, or None when there are too many processes or threads."""
        use, allowed = self._members.use(), self._limits.processes
        self._peak_processes = max(self._peak_processes, use.processes)
        too_many = use.processes > allowed or use.threads > allowed * THREADS_PER_PROCESS
        return None if too_many else use.resident_mb

    def _account(self) -> str:
        """What a slower look finds over its limit."""
        self._peak_memory = max(self._peak_memory, self._members.proportional_mb())
        if self._peak_memory > self._limits.memory_mb:
            return "memory"
        return "disk" if sum(_size_mb(folder) for folder in self._disk) > self._limits.disk_mb else ""

    def _end(self, why: str) -> None:
        if self._stopped_by is None and self._popen.poll() is None:
            self._stopped_by = why
        self._kill_all(self._popen)

    def poll(self) -> Finished | None:
        return self.wait() if self._popen.poll() is not None else None

    def wait(self) -> Finished:
        """Wait for the end (the watcher bounds it) and say how it came. Raises SandboxFault."""
        self._popen.wait()
        with self._ending:
            if self._finished is None and self._fault is None:
                self._settle()
        if self._fault is not None:
            raise self._fault
        assert self._finished is not None
        return self._finished

    def _settle(self) -> None:
        seconds = time.monotonic() - self._began
        self._over.set()
        self._kill_all(self._popen)
        gone = self._members.gone()
        self._reader.join(timeout=2)
        self._watcher.join(timeout=2)
        self._members.close()
        code = self._popen.returncode if self._popen.returncode >= 0 else 128 - self._popen.returncode
        output = printable(bytes(self._tail))
        try:
            if not gone:
                raise SandboxFault("a process of the command could not be ended")
            ended = self._stopped_by or self._judge_end(code, output)
        except SandboxFault as fault:
            self._fault = fault
            return
        self._finished = Finished(
            ended, code if ended == "exited" else None, seconds, output, self._peak_memory, self._peak_processes
        )

    def pause(self) -> None:
        """Let none of its processes go on."""
        if self._popen.poll() is None:
            self._members.pause()

    def resume(self) -> None:
        """Let its processes go on."""
        if self._popen.poll() is None:
            self._members.resume()

    def stop(self, grace_seconds: float = 5.0) -> Finished:
        """Ask the job to end, then end it."""
        if self._popen.poll() is None and grace_seconds > 0:
            self._members.signal(signal.SIGTERM)
            deadline = time.monotonic() + grace_seconds
            while self._popen.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
        if self._popen.poll() is None:
            self._end("cancelled")
        return self.wait()


class Ended:
    """A service that was over before it began."""

    def __init__(self, finished: Finished) -> None:
        self._finished = finished

    def poll(self) -> Finished | None:
        return self._finished

    def wait(self) -> Finished:
        return self._finished

    def stop(self, grace_seconds: float = 5.0) -> Finished:
        return self._finished

    def pause(self) -> None:
        """Nothing goes on."""

    def resume(self) -> None:
        """Nothing goes on."""


CANCELLED = Ended(Finished("cancelled", None, 0.0, ""))


class Turns:
    """At most so many at once; of those who wait, the one whose work was planned first goes first.

    Whoever has a turn must not wait for another: he who wants all of them would wait for him, and he for that one.
    """

    def __init__(self, slots: int) -> None:
        self._slots, self._free, self._waiting = slots, slots, list[tuple[int, int]]()
        self._changed, self._arrivals, self._only_one = threading.Condition(), itertools.count(), threading.Lock()
        self._mine = threading.local()

    def __enter__(self) -> None:
        if getattr(self._mine, "held", False):
            raise RuntimeError("a thread that has its turn asks for another one; give the first one back before")
        self._take()
        self._mine.held = True

    def __exit__(self, *_: object) -> None:
        self._mine.held = False
        self._give_back()

    def _take(self) -> None:
        with self._changed:
            mine = (planned.get(), next(self._arrivals))
            heapq.heappush(self._waiting, mine)
            self._changed.wait_for(lambda: self._free > 0 and self._waiting[0] == mine)
            heapq.heappop(self._waiting)
            self._free -= 1
            self._changed.notify_all()

    def _give_back(self) -> None:
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    @contextmanager
    def all(self) -> Iterator[None]:
        """All turns at once: nothing else runs, which is what timing needs."""
        taken = 0
        with self._only_one:
            try:
                while taken < self._slots:
                    self._take()
                    taken += 1
                self._mine.held = True
                yield
            finally:
                self._mine.held = False
                for _ in range(taken):
                    self._give_back()


class Slots:
    """At most so many jobs of a sandbox at once, and all of them ended together."""

    def __init__(self, slots: int) -> None:
        self.turn = Turns(slots)
        self._running: set[Process] = set()
        self._lock = threading.Lock()
        self._closed = False

    def start(self, make: Callable[[], Process]) -> Process | Ended:
        with self._lock:
            if self._closed:
                return CANCELLED
            process = make()
            self._running = {p for p in self._running if p._finished is None and p._fault is None} | {process}
            return process

    def close(self) -> None:
        with self._lock:
            self._closed = True
            running, self._running = self._running, set()
        for process in running:
            try:
                process.stop(0)
            except SandboxFault:
                pass


def _size_mb(folder: Path) -> int:
    total = 0
    for where, _, names in walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except OSError:
                pass
    return total // MEBI
