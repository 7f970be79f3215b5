"""Give the judge's own worker process a network and mount namespace for one grading.

Inside it every grading has its own loopback (fixed ports never clash, nothing leaves the machine), and size-capped
tmpfs that vanish with the worker. Uses only the kernel's calls, through ctypes: `os.unshare` needs Python 3.12.
"""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
import sys
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 16384, 1 << 18
MNT_DETACH = 2
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

# Arguments of bwrap: a program that does nothing, with all that a job gets
PROBE = (
    "--ro-bind", "/", "/", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--disable-userns", "--cap-drop", "ALL",
    "--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev", "--tmpfs", "/tmp", "--remount-ro", "/", "true",
)  # fmt: skip


class Refused(OSError):
    """The system does not allow this process to make namespaces; the message says what refused."""


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc(), name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise Refused(code, f"{name}: {os.strerror(code)}")


def supported() -> bool:
    return sys.platform == "linux"


def enter() -> None:
    """Move this single-threaded process into new network and mount namespaces with loopback up.

    Raises Refused where the system forbids it.
    """
    if not supported():
        raise Refused(0, f"{platform.system()} has no namespaces")
    flags = CLONE_NEWNS | CLONE_NEWNET
    uid, gid = os.getuid(), os.getgid()
    try:
        if uid != 0:
            raise Refused(1, "unshare: only root does without a user namespace")
        _call("unshare", flags)
    except Refused:
        _call("unshare", flags | CLONE_NEWUSER)
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        except OSError as problem:
            raise Refused(problem.errno or 0, f"user namespace: {problem.strerror}") from None
    _call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    _loopback_up()


def _loopback_up() -> None:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sh14x", b"lo", IFF_UP)
        fcntl.ioctl(handle, SIOCSIFFLAGS, request)


def mount_tmpfs(at: Path, size_mb: int) -> None:
    """Mount a size-capped tmpfs; it vanishes with the namespace. Raises Refused."""
    at.mkdir(parents=True, exist_ok=True)
    options = f"size={size_mb}m,nr_inodes={size_mb * 64},mode=700".encode()
    _call("mount", b"tmpfs", bytes(at), b"tmpfs", MS_NOSUID | MS_NODEV, options)


def unmount(at: Path) -> None:
    _call("umount2", bytes(at), MNT_DETACH)


def die_with_parent() -> None:
    """Ask the kernel to end this process when the one that started it ends, however it ends."""
    if supported():
        import signal

        _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of whatever a job leaves behind in another session, so that it can be ended."""
    if supported():
        _libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def main(bwrap: str) -> int:
    """Try what a grading needs, in a process of its own; says on stderr what refused."""
    try:
        enter()
    except OSError as problem:
        print(problem.strerror or problem, file=sys.stderr)
        return 1
    import subprocess

    return subprocess.run([bwrap, *PROBE], check=False).returncode


if __name__ == "__main__":  # grader.sandbox.choose runs this file, without the package: nothing else need be imported
    sys.exit(main(sys.argv[1]))
