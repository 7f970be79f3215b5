"""What moved between two gradings: checks, values, stages and levels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from grader.report.text import BOLD, GREEN, RED, WORDS, Names, Style, count, level_word
from grader.verdict import LEVELS, OPEN, CheckResult, Grade, Level, Outcome

GOOD = (Outcome.PASS, Outcome.PROVIDED)


@dataclass(frozen=True)
class Moved:
    """One difference: `better` is None where it is neither better nor worse."""

    kind: str
    name: str
    before: str
    after: str
    better: bool | None


def differences(first: Grade, second: Grade) -> list[Moved]:
    """What the second grading says otherwise than the first, levels first, then stages, then checks in their order."""
    levels = _levels(first, second) if comparable(first, second) else []
    return [*levels, *_stages(first, second), *_checks(first, second)]


def comparable(first: Grade, second: Grade) -> bool:
    """Whether both gradings came to an end and ran the same checks, so that their levels can be set side by side."""
    same = {check.id for check in first.checks} == {check.id for check in second.checks}
    return same and first.finished and second.finished


def _levels(first: Grade, second: Grade) -> Iterator[Moved]:
    before = {row.row: row.certain for row in first.rows}
    for row in second.rows:
        old = before.get(row.row)
        if old != row.certain:
            yield Moved("level", row.row, level_word(old), level_word(row.certain), _rank(row.certain) > _rank(old))


def _rank(level: Level | None) -> int:
    return -1 if level is None else LEVELS.index(level)


def _stages(first: Grade, second: Grade) -> Iterator[Moved]:
    before = {stage.id: stage.complete for stage in first.stages}
    words = {True: "complete", False: "not complete", None: "not graded"}
    after = {stage.id: stage.complete for stage in second.stages}
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield Moved("stage", name, words[old], words[new], None if None in (old, new) else bool(new))


def _checks(first: Grade, second: Grade) -> Iterator[Moved]:
    before, after = ({check.id: check for check in grade.checks} for grade in (first, second))
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        if _said(old) != _said(new):
            better = None
            judged = old and new and not {old.outcome, new.outcome} & OPEN
            if old and new and judged and (old.outcome in GOOD) != (new.outcome in GOOD):
                better = new.outcome in GOOD
            yield Moved("check", name, _said(old), _said(new), better)


def _said(check: CheckResult | None) -> str:
    if check is None:
        return "not graded"
    return WORDS[check.outcome] + (f" ({check.value})" if check.value else "")


def report(first: Grade, second: Grade, names: Names, style: Style) -> str:
    """The differences for a terminal, ending with one sentence."""
    moved, lines = differences(first, second), []
    for title, kind in (("Levels", "level"), ("Stages", "stage"), ("Checks", "check")):
        chosen = [one for one in moved if one.kind == kind]
        if chosen:
            lines += [style.paint(title, BOLD), *(line for one in chosen for line in _lines(one, names, style)), ""]
    if not comparable(first, second):
        lines += style.wrap("One did not finish, or they ran other checks: levels are not compared.")
    if first.submission.hash == second.submission.hash:
        lines += style.wrap("Both gradings are of the same files: what moved comes from the world or the machine.")
    if first.world != second.world:
        lines += style.wrap("The worlds differ, so values move a little even where nothing changed.")
    better, worse = (sum(one.better is wanted and one.kind == "check" for one in moved) for wanted in (True, False))
    lines += style.wrap(f"{count(better, 'check')} better, {worse} worse, {count(len(moved), 'difference')} in all.")
    return "\n".join(lines) + "\n"


def _lines(one: Moved, names: Names, style: Style) -> list[str]:
    name = {"level": names.row, "stage": names.folder}.get(one.kind, str)(one.name)
    mark, colour = {True: ("+", GREEN), False: ("-", RED), None: (" ", "")}[one.better]
    return style.wrap(f"{name}: {one.before} -> {one.after}", 4, f"  {mark}", colour)
