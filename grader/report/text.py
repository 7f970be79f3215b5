"""Words for reports: names of rows and stages, wrapping, and text that cannot harm a terminal."""

from __future__ import annotations

import os
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from grader.printable import printable
from grader.verdict import CheckResult, Grade, Level, Outcome, RowResult

WORDS = {
    Outcome.PASS: "pass", Outcome.FAIL: "FAIL", Outcome.BLOCKED: "blocked", Outcome.NOT_RUN: "not run",
    Outcome.GRADER_ERROR: "GRADER ERROR", Outcome.PROVIDED: "provided",
}  # fmt: skip
GREEN, YELLOW, RED, CYAN, BOLD = "32", "33", "31", "36", "1"
COLOURS = {
    Outcome.PASS: GREEN, Outcome.FAIL: RED, Outcome.BLOCKED: YELLOW, Outcome.NOT_RUN: YELLOW,
    Outcome.GRADER_ERROR: RED, Outcome.PROVIDED: GREEN,
}  # fmt: skip
NARROWEST, WIDEST = 40, 120
NEXT_STEPS = 3
COMMAND = re.compile(
    r"(?<!\S):(?=:)|#(?=#\[)"
)  # what begins a workflow command of GitHub, once it stands at the beginning of a line


@dataclass(frozen=True)
class Names:
    """Titles by row id and by stage id, the folder names of stages, and the rows that stand first."""

    rows: Mapping[str, str] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    headline: tuple[str, ...] = ()

    def row(self, row: str) -> str:
        return f"{row} {self.rows[row]}" if row in self.rows else row

    def folder(self, stage: str) -> str:
        return self.folders.get(stage, stage)


@dataclass(frozen=True)
class Style:
    """The width of the page and whether it has colour."""

    width: int = 80
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        """The style a stream can show; NO_COLOR and COLUMNS are respected."""
        width = min(WIDEST, max(NARROWEST, shutil.get_terminal_size().columns))
        colour = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return cls(width, colour)

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text

    def wrap(self, text: str, indent: int = 0, lead: str = "", code: str = "") -> list[str]:
        """Clean text in lines that fit, indented; `lead` stands in the indentation of the first, painted with `code`."""
        room = " " * indent
        lines = textwrap.wrap(
            COMMAND.sub(r"\g<0> ", clean(text)),
            self.width,
            initial_indent=room,
            subsequent_indent=room,
            break_on_hyphens=False,
        )
        if lead:
            first, *rest = lines or [room]
            padded = f"{lead:<{indent}}"
            lines = [(self.paint(padded, code) if code else padded) + first[indent:], *rest]
        return lines


def clean(text: str) -> str:
    """The text on one line, without what could move a cursor, recolour a terminal or reverse a line."""
    if not (text.isascii() and text.isprintable()):
        text = printable(text.encode("utf-8", "replace"))
    return " ".join(text.split())


def level_word(level: Level | None) -> str:
    return "not yet" if level is None else level.value


def count(number: int, one: str, more: str = "") -> str:
    """`1 check`, `2 checks`."""
    return f"{number} {one if number == 1 else more or one + 's'}"


def minutes(effort: int) -> str:
    """An author's estimate of effort, rounded as one would say it."""
    return f"about {effort} min" if effort < 90 else f"about {effort / 60:.0f} h"


def headline_first(rows: Sequence[RowResult], names: Names) -> list[RowResult]:
    """The rows of the rubric in their order, after those that stand first."""
    return sorted(rows, key=lambda row: row.row not in names.headline)


def next_checks(grade: Grade, names: Names) -> list[CheckResult]:
    """At most three checks whose passing leads up, those of the headline rows first."""
    by_id = {check.id: check for check in grade.checks}
    wanted = [by_id[i] for row in headline_first(grade.rows, names) for i in row.next if i in by_id]
    first = [step for check in wanted for step in _what_blocks(check, grade)]
    return list(dict.fromkeys(first))[:NEXT_STEPS]


def _what_blocks(check: CheckResult, grade: Grade) -> list[CheckResult]:
    """The checks to mend before a blocked one: those of its stage that fail; the check itself where there are none."""
    if check.outcome is not Outcome.BLOCKED:
        return [check]
    return [one for one in grade.checks if one.stage == check.stage and one.outcome is Outcome.FAIL] or [check]


def measured(check: CheckResult) -> str:
    """What was measured and the bar, side by side."""
    parts = [f"measured {check.value}" if check.value else "", f"bar {check.bar}" if check.bar else ""]
    return "; ".join(part for part in parts if part)
