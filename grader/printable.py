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


def one_line(text: str, most: int) -> str:
    """Text from a stranger as part of a sentence: on one line, without what a terminal would obey, of at most `most` characters."""
    text = " ".join(printable(text[: 4 * most].encode("utf-8", "replace")).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."
