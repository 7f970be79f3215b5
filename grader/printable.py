"""Text from a stranger made fit to print; imports nothing heavy, since every answer passes through it."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|[^\n\t\x20-\x7e\u00a0-\u2027\u202f-\u2065\u2070-\ud7ff\ue000-\uffff]"
)


def printable(data: bytes) -> str:
    """Text that cannot move a cursor, recolour a terminal or reverse a line."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    return _UNPRINTABLE.sub("", text)
