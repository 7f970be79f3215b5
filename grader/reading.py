"""Read a small file that anyone may have put there: never wait for a FIFO, never swallow a file without end.

Imports only the standard library, since every answer passes through it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_BYTES = 16 * 1024 * 1024


def small_file(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file of at most `most`. Raises OSError, also for what is no file or too large."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a file", str(path))
        if found.st_size > most:
            raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MB", str(path))
        return file.read(most)


def small_text(path: Path, most: int = MOST_BYTES) -> str:
    """The same as text in UTF-8. Raises OSError and UnicodeDecodeError."""
    return small_file(path, most).decode("utf-8")
