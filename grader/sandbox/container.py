"""The docker rung: a whole grading in a container of its own, and each command under bubblewrap inside it.

For machines that have an engine and forbid namespaces to ordinary programs; the engine, which is allowed to, makes them.
The container has no network but its own loopback, and caps on memory, processes and processor time that the kernel holds.
Its image is empty: what a grading needs of the machine is mounted, read-only, as bubblewrap does it.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from grader.sandbox.base import MEBI, Limits
from grader.sandbox.bubblewrap import ETC, OWN_ETC, SYSTEM, interpreter_folders
from grader.sandbox.process import THREADS_PER_PROCESS

IMAGE = "mlekit-empty"
EMPTY_TAR = bytes(10_240)
ENGINE_SECONDS = 20
FOR_THE_JUDGE_MB = 2_048  # beside what commands may use, and what is written into memory
FOR_THE_JUDGE_PROCESSES = 512
TMP_MB = 64
# What the judge needs to make namespaces for commands and to hand files to whoever asked for the grading; commands have none.
CAPABILITIES = ("SYS_ADMIN", "SETFCAP", "CHOWN", "DAC_OVERRIDE")
# The default profiles forbid what bubblewrap does (pivot_root, a fresh /proc) also to who has the capability, and
# SELinux has no label with which a container reads the machine's own folders.
UNCONFINED = ("seccomp=unconfined", "apparmor=unconfined", "label=disable", "systempaths=unconfined")
NOT_STARTED = 125  # the exit code of `docker run` where it made no container


class NoEngine(Exception):
    """There is no engine, or it does not answer; the message says which."""


def engine() -> str:
    """The docker program, with an engine that answers and our image in it. Raises NoEngine."""
    program = shutil.which("docker")
    if program is None:
        raise NoEngine("there is no docker program")
    version = _ask([program, "version", "--format", "{{.Server.Version}} {{.Server.Os}}"])
    if not version.endswith("linux"):
        raise NoEngine(f"the engine runs containers of another system than Linux ({version})")
    if not _ask([program, "images", "--quiet", IMAGE]):
        _ask([program, "import", "-", IMAGE], EMPTY_TAR)
    return program


def _ask(line: Sequence[str], given: bytes = b"") -> str:
    try:
        ran = subprocess.run(line, input=given, capture_output=True, timeout=ENGINE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise NoEngine(f"the engine did not answer within {ENGINE_SECONDS} s") from None
    except OSError as problem:
        raise NoEngine(f"docker could not be started: {problem.strerror}") from None
    if ran.returncode:
        said = ran.stderr.decode(errors="replace").strip().splitlines()
        raise NoEngine(said[-1] if said else f"docker ended with exit code {ran.returncode}")
    return ran.stdout.decode(errors="replace").strip()


def memory_mb(cores: int, written_mb: int) -> int:
    """What a grading may use together: commands at their limits, what is written into memory, and the judge."""
    wanted = cores * Limits().memory_mb + written_mb + FOR_THE_JUDGE_MB
    return min(wanted, psutil.virtual_memory().total // MEBI)


def line(
    program: str,
    name: str,
    command: Sequence[str],
    pythons: Iterable[Path],
    shown: Iterable[Path] = (),
    writable: Iterable[Path] = (),
    environment: Mapping[str, str] | None = None,
    cores: int = 1,
    written_mb: int = 0,
) -> list[str]:
    """The command line that runs `command` in a container called `name`, which reads our stdin.

    It sees the environments of `pythons`, and the folders `shown` and `writable` under their own names. It may use what `cores`
    commands at once may use, and `written_mb` MB more for files in memory.
    """
    limits = ["--memory", f"{memory_mb(cores, written_mb)}m", "--cpus", str(cores)]
    processes = cores * Limits().processes * THREADS_PER_PROCESS + FOR_THE_JUDGE_PROCESSES
    given = [part for key, value in (environment or {}).items() for part in ("--env", f"{key}={value}")]
    return [
        program, "run", "--rm", "--interactive", "--name", name, "--hostname", "grading", "--label", "mlekit=grading",
        "--network", "none", "--read-only", "--log-driver", "none", "--workdir", "/tmp",
        "--tmpfs", f"/tmp:rw,nosuid,nodev,size={TMP_MB}m",
        "--cap-drop", "ALL", *(part for name in CAPABILITIES for part in ("--cap-add", name)),
        "--security-opt", "no-new-privileges", *(part for option in UNCONFINED for part in ("--security-opt", option)),
        *limits, "--pids-limit", str(processes), *given, *_mounts(pythons, shown, writable), IMAGE, *command,
    ]  # fmt: skip


def _mounts(pythons: Iterable[Path], shown: Iterable[Path], writable: Iterable[Path]) -> list[str]:
    places = {path: os.path.realpath(path) for path in (*SYSTEM, *ETC) if os.path.exists(path)}
    places |= {f"/etc/{name}": str(OWN_ETC / name) for name in ("passwd", "group", "nsswitch.conf")}
    for folder in (*(folder for python in pythons for folder in interpreter_folders(python)), *shown):
        if not folder.is_relative_to("/usr"):
            places[str(folder)] = str(folder)
    rights = dict.fromkeys(places, "readonly") | {str(folder): "" for folder in writable}
    found = []
    for target in sorted(rights, key=lambda path: len(Path(path).parts)):
        found += ["--mount", _fields("type=bind", f"src={places.get(target, target)}", f"dst={target}", rights[target])]
    return found


def _fields(*fields: str) -> str:
    """What `--mount` takes: one line of CSV, so that a comma in a path is no harm."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([field for field in fields if field])
    return text.getvalue()
