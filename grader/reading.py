"""Read a small file that anyone may have put there, never waiting for a FIFO or a file without end; walk through folders however deep.

Imports only the standard library, since every answer passes through it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""  # of a dotted key
MOST_PARTS = 50
LONG_KEY = re.compile(rf"{PART}(?:\.[ \t]*+{PART}){{{MOST_PARTS}}}")
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


def toml_of(text: str) -> dict[str, Any]:
    """The tables of a TOML file that anyone may have written. Raises ValueError, and RecursionError where it is nested too deeply.

    `tomllib` takes time with the square of the parts of a dotted key: for one of 100,000 it takes an hour.
    """
    if LONG_KEY.search(text):
        raise ValueError(f"a key has more than {MOST_PARTS} parts")
    return tomllib.loads(text)


def walk(
    top: Path | str, onerror: Callable[[OSError], object] = lambda problem: None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, which calls itself for each folder until Python 3.12: a submission can make them deeper than Python calls go."""
    waiting = [os.fspath(top)]
    while waiting:
        where = waiting.pop()
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(where) as listing:
                for entry in listing:
                    (folders if entry.is_dir() else files).append(entry.name)
        except OSError as problem:
            onerror(problem)
            continue
        yield where, folders, files
        below = (os.path.join(where, name) for name in folders)
        waiting += [path for path in below if not Path(path).is_symlink()]
