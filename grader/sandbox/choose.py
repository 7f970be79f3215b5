"""Find the best rung this machine allows, by trying it, and say in words what it found."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

from grader.sandbox import bubblewrap, namespaces
from grader.sandbox.base import Sandbox
from grader.sandbox.plain import Plain

UBUNTU = (
    "Ubuntu 24.04 and later forbid it to programs without a profile; "
    "`sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` allows it until the next start."
)


@dataclass(frozen=True)
class Detection:
    """Which rung is possible, and why not a better one."""

    rung: str
    why: str


def detect() -> Detection:
    """Try to enter a namespace and to run a program under bubblewrap there, in a child process."""
    if not namespaces.supported():
        return Detection("plain", f"{sys.platform} has no namespaces; a container or a Linux machine isolates")
    bwrap = bubblewrap.program()
    if bwrap is None:
        return Detection("plain", "bubblewrap was not found: install the Debian package bubblewrap")
    probe = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _PROBE.format(paths=sys.path, bwrap=bwrap)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    if probe.returncode == 0:
        return Detection("bubblewrap", "own processes, mounts and network")
    last = (probe.stderr.strip().splitlines() or ["no reason given"])[-1]
    return Detection("plain", f"the system forbids namespaces ({last}). {UBUNTU}")


_PROBE = """
import subprocess, sys
sys.path[:] = {paths!r}
from grader.sandbox import namespaces
try:
    namespaces.enter()
except OSError as problem:
    sys.exit(problem.strerror or str(problem))
sys.exit(subprocess.run([{bwrap!r}, "--ro-bind", "/", "/", "--unshare-user", "--unshare-pid", "--disable-userns",
    "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/", "true"]).returncode)
"""


def choose(rung: str, slots: int = 2) -> Sandbox:
    """The sandbox of a detected rung; at most `slots` jobs run at once, the others wait their turn."""
    if rung == "bubblewrap":
        found = bubblewrap.program()
        assert found is not None
        return bubblewrap.Bubblewrap(found, slots)
    return Plain(slots)
