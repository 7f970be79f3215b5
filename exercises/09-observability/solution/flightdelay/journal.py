"""The record of what was answered, in lines of JSON: one for each request, each start of the service a file of its own.

A line is written before its answer is sent. What the operating system has taken is there after the process was killed; only a power cut
could take it back, and waiting for the disk (fsync) would cost more than that is worth here. A kill in the middle of a line leaves half a
line at the end of a file to which nobody writes any more.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = "predictions"  # in MLEKIT_STATE


@dataclass(frozen=True)
class Entry:
    """One request to predict and its answer; `rows` are pairs of row id and probability.

    `at` are seconds since the epoch, to the microsecond: as fine as they are exported, so that bounds mean the same everywhere.
    """

    request_id: str
    at: float
    seconds: float
    status: int
    model_version: str | None
    rows: Sequence[tuple[str, float]]


class Journal:
    """Writes entries; every start has a file of its own, so that it never goes on in the middle of a line."""

    def __init__(self, state: Path) -> None:
        folder = state / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{os.getpid()}.jsonl"
        self._file = os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND)
        self._size = 0

    def append(self, entries: Sequence[Entry]) -> list[None]:
        """Write entries, all or none. Raises OSError, for instance where the disk is full."""
        data = b"".join(json.dumps(asdict(entry)).encode() + b"\n" for entry in entries)
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)
        return [None] * len(entries)


def entries(state: Path) -> Iterator[Entry]:
    """All entries, in the order of the starts; a service may be writing more meanwhile."""
    for path in sorted((state / FOLDER).glob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):
                    yield Entry(**json.loads(line))
