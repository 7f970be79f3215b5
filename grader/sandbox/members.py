"""Who belongs to a running job and what they use: by descent (any system), or by process namespace (bubblewrap)."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil

from grader.sandbox.base import MEBI

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
NAMESPACE_PATIENCE = 1.0  # seconds until a namespace that cannot be opened is watched by descent instead
GONE_SECONDS = 10
PAUSE_ROUNDS, PAUSE_SECONDS = 100, 0.01  # looks at who still goes on, and between two of them


@dataclass(frozen=True)
class Use:
    """What a job uses at one moment; resident memory counts shared pages several times, so it is an upper bound."""

    processes: int
    threads: int
    resident_mb: int


class Family:
    """The descendants of a job's first process; who was seen once stays a member when its parent ends."""

    def __init__(self) -> None:
        self._root: psutil.Process | None = None
        self._seen: dict[int, psutil.Process] = {}

    def attach(self, pid: int) -> None:
        try:
            self._root = psutil.Process(pid)
        except psutil.Error:
            self._root = None

    def refresh(self) -> list[psutil.Process]:
        """The members that are alive now."""
        members = {pid: process for pid, process in self._seen.items() if process.is_running()}
        if self._root is not None:
            members[self._root.pid] = self._root
        try:
            below = psutil.Process().children(recursive=True)  # one look at all processes; parents come before children
        except psutil.Error:
            below = []
        for process in below:
            try:
                if process.pid not in members and process.ppid() in members:
                    members[process.pid] = process
            except psutil.Error:
                pass
        self._seen = members
        return list(members.values())

    def use(self) -> Use:
        threads = resident = processes = 0
        for process in self.refresh():
            try:
                with process.oneshot():
                    processes, threads = processes + 1, threads + process.num_threads()
                    resident += process.memory_info().rss
            except psutil.Error:
                pass
        return Use(processes, threads, resident // MEBI)

    def proportional_mb(self) -> int:
        """Memory with every shared page counted once over all who share it, where the system tells; else resident."""
        total = 0
        for process in list(self._seen.values()):
            try:
                total += _proportional(f"/proc/{process.pid}/smaps_rollup", None) or process.memory_info().rss
            except psutil.Error:
                pass
        return total // MEBI

    def kill(self) -> None:
        _each(self.refresh(), lambda process: process.kill())

    def signal(self, number: signal.Signals) -> None:
        """Signal the job's own first process."""
        if self._root is not None:
            _each([self._root], lambda process: process.send_signal(number))

    def pause(self) -> None:
        """Stop all members, also those that others begin meanwhile."""
        for _ in range(PAUSE_ROUNDS):
            going = [process for process in self.everyone() if not _stands(process)]
            if not going:
                return
            _each(going, lambda process: process.suspend())
            time.sleep(PAUSE_SECONDS)

    def resume(self) -> None:
        """Let all members go on."""
        _each(self.everyone(), lambda process: process.resume())

    def everyone(self) -> list[psutil.Process]:
        """The members that are alive now, as processes that can be signalled."""
        return self.refresh()

    def gone(self) -> bool:
        """Whether nobody of the job is left, after waiting for a moment."""
        return True

    def close(self) -> None:
        """Give back what the watching holds."""


class Namespace(Family):
    """The members of a process namespace, read from its own `/proc`: whoever changed session or parent is there too.

    `first` gives the host's id of the namespace's first process, which belongs to the sandbox, once it is known.
    """

    WRAPPERS = 2  # bwrap itself and the first process inside, where the namespace has to be watched by descent

    def __init__(self, first: Callable[[], int | None]) -> None:
        super().__init__()
        self._first = first
        self._proc: int | None = None
        self._began = time.monotonic()

    def _opened(self) -> int | None:
        if self._proc is not None or (first := self._first()) is None:
            return self._proc
        try:
            handle = os.open(f"/proc/{first}/root/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:  # before the sandbox has changed its root this is the machine's /proc, where we have an id ourselves
            os.readlink("self", dir_fd=handle)
        except OSError:
            self._proc = handle
        else:
            os.close(handle)
        return self._proc

    def _ids(self, proc: int) -> list[str]:
        return [name for name in os.listdir(proc) if name.isdigit()]

    def use(self) -> Use:
        proc = self._opened()
        if proc is None:
            if time.monotonic() - self._began < NAMESPACE_PATIENCE:
                return Use(0, 0, 0)
            found = super().use()
            return Use(max(0, found.processes - self.WRAPPERS), found.threads, found.resident_mb)
        threads = resident = 0
        ids = self._ids(proc)
        for pid in ids:
            stat = _read(f"{pid}/stat", proc).rpartition(b")")[2].split()
            if len(stat) > 21:
                threads, resident = threads + int(stat[17]), resident + int(stat[21]) * PAGE
        return Use(len(ids) - ("1" in ids), threads, resident // MEBI)

    def proportional_mb(self) -> int:
        proc = self._opened()
        if proc is None:
            return super().proportional_mb()
        total = 0
        for pid in self._ids(proc):
            resident = _read(f"{pid}/statm", proc).split()[1:2]
            total += _proportional(f"{pid}/smaps_rollup", proc) or (int(resident[0]) * PAGE if resident else 0)
        return total // MEBI

    def everyone(self) -> list[psutil.Process]:
        first = self._first()
        try:
            return psutil.Process(first).children(recursive=True) if first is not None else []
        except psutil.Error:
            return []

    def signal(self, number: signal.Signals) -> None:
        first = self._first()
        if first is not None:
            try:
                _each(psutil.Process(first).children()[:1], lambda process: process.send_signal(number))
            except psutil.Error:
                pass

    def gone(self) -> bool:
        """Wait for the namespace's first process, which the kernel lets end only after all others have.

        bwrap itself ends a little earlier, and in that moment a process that was left could still write.
        """
        first = self._first()
        if first is None:
            return True
        try:
            handle = os.pidfd_open(first)
        except ProcessLookupError:
            return True
        try:
            waiting = select.poll()
            waiting.register(handle, select.POLLIN)
            return bool(waiting.poll(GONE_SECONDS * 1000))
        finally:
            os.close(handle)

    def close(self) -> None:
        handle, self._proc = self._proc, None
        if handle is not None:
            os.close(handle)


def _each(processes: Iterable[psutil.Process], act: Callable[[psutil.Process], object]) -> None:
    for process in processes:
        try:
            act(process)
        except psutil.Error:
            pass


def _stands(process: psutil.Process) -> bool:
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return True


def _read(path: str, within: int | None) -> bytes:
    """A small file of /proc, empty where its process has gone or may not be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=within)
    except OSError:
        return b""
    try:
        return os.read(handle, 4096)
    except OSError:
        return b""
    finally:
        os.close(handle)


def _proportional(path: str, within: int | None) -> int:
    if sys.platform != "linux":
        return 0
    for line in _read(path, within).splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return 0
