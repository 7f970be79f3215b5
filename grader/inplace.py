"""Whether files of a folder are written in place, as far as the system tells: Linux does, by inotify; elsewhere nothing is seen.

A file that is moved there whole is never changed under its name. One that is opened there and written is, and who looks in between
finds half of it.
"""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import suppress
from pathlib import Path

IN_MODIFY = 0x2
EVENT = struct.Struct("iIII")  # watch, what happened, cookie, length of the name that follows
MOST_BYTES = 1 << 16


class Written:
    """Watches a folder from now on; `close` when it is no longer needed."""

    def __init__(self, folder: Path) -> None:
        self._fd = -1
        with suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None, use_errno=True)
            self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self._fd >= 0 and libc.inotify_add_watch(self._fd, os.fsencode(folder), IN_MODIFY) < 0:
                self.close()

    def names(self) -> list[str]:
        """The files whose content changed under the name that they had in the folder, since the last call."""
        found: list[str] = []
        while self._fd >= 0:
            try:
                events = os.read(self._fd, MOST_BYTES)
            except OSError:
                break
            at = 0
            while at < len(events):
                *_, length = EVENT.unpack_from(events, at)
                name = events[at + EVENT.size : at + EVENT.size + length]
                found.append(os.fsdecode(name.rstrip(b"\0")))
                at += EVENT.size + length
        return found

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
