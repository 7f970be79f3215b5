"""The hints of a stage: three that ask before they tell, and one for each check that fails.

Imports only the standard library, so that a hint comes at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from grader.stages import Stage

FENCE = "```"
NUMBERED = re.compile(r"(\d+)\s+(.*)")


@dataclass(frozen=True)
class Hint:
    """`number` is its place among those of the stage, or None for one that belongs to the check `title`."""

    number: int | None
    title: str
    text: str


def read(stage: Stage) -> tuple[Hint, ...]:
    """All hints of a stage in the order of its `hints.md`; none where there is no such file."""
    try:
        text = (stage.folder / "hints.md").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    found: list[tuple[str, list[str]]] = []
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith(FENCE)
        if line.startswith("## ") and not fenced:
            found.append((line[3:].strip(), []))
        elif found:
            found[-1][1].append(line)
    return tuple(_hint(title, "\n".join(lines).strip()) for title, lines in found)


def _hint(title: str, text: str) -> Hint:
    numbered = NUMBERED.fullmatch(title)
    return Hint(int(numbered[1]), numbered[2], text) if numbered else Hint(None, title, text)


def of_stage(stage: Stage) -> tuple[Hint, ...]:
    """The numbered hints, in order."""
    return tuple(hint for hint in read(stage) if hint.number is not None)


def of_check(stage: Stage, check_id: str) -> Hint | None:
    """The hint for a check, if there is one."""
    return next((hint for hint in read(stage) if hint.number is None and hint.title == check_id), None)
