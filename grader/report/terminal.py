"""The report in a terminal: levels first, then checks by stage, then what to do next, ending with the result in one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from grader.report.text import (
    BOLD,
    COLOURS,
    RED,
    WORDS,
    Names,
    Style,
    clean,
    count,
    headline_first,
    level_word,
    measured,
    minutes,
    next_checks,
)  # fmt: skip
from grader.verdict import CheckResult, Grade, Level, Outcome, RowResult

WORD_WIDTH = max(len(word) for word in WORDS.values()) + 4
LEVEL_WIDTH = 9
COUNTED = (Outcome.PROVIDED, Outcome.FAIL, Outcome.BLOCKED, Outcome.NOT_RUN, Outcome.GRADER_ERROR)


def grade_report(grade: Grade, names: Names, style: Style) -> str:
    """The whole report of a grading; of one that did not finish only what came to a verdict."""
    if not grade.finished:
        done = tuple(check for check in grade.checks if check.outcome is not Outcome.NOT_RUN)
        parts = [stages(replace(grade, checks=done), names, style), style.wrap(result_sentence(grade, names))]
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"
    parts = [
        level_map(grade, names, style),
        stages(grade, names, style),
        next_steps(grade, names, style),
        circumstances(grade, style),
        style.wrap(result_sentence(grade, names)),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def check_report(grade: Grade, names: Names, style: Style) -> str:
    """The report of `mlekit check`: the checks, and how far the stage is."""
    sentences = [completeness(grade, stage.id, names) for stage in grade.stages]
    parts = [stages(grade, names, style), circumstances(grade, style), style.wrap(" ".join(sentences))]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def level_map(grade: Grade, names: Names, style: Style) -> list[str]:
    """One line a row: the level met for certain and the most it can be; the headline rows first, with their reasons."""
    if not grade.rows:
        return []
    titles = style.width - 2 * LEVEL_WIDTH - 2
    lines = [style.paint(f"{'Level the work shows':<{titles}}  {'certain':<{LEVEL_WIDTH}}{'at most'}", BOLD)]
    checked = {check.row for check in grade.checks}
    for row in headline_first(grade.rows, names):
        title = clean(names.row(row.row))
        title = title if len(title) <= titles else title[: titles - 3] + "..."
        certain, ceiling = (level_word(level) if row.row in checked else "-" for level in (row.certain, row.ceiling))
        word = f"{certain:<{LEVEL_WIDTH}}"
        lines.append(f"{title:<{titles}}  {style.paint(word, BOLD) if row.certain else word}{ceiling}".rstrip())
        if row.row in names.headline:
            lines += style.wrap(row.because, indent=4)
    if not checked.issuperset(row.row for row in grade.rows):
        lines += style.wrap("- means that no check of this grading belongs to the row.")
    return lines


def stages(grade: Grade, names: Names, style: Style) -> list[str]:
    """The checks by stage; what did not pass says what was measured, the bar, and why."""
    complete = {stage.id: stage.complete for stage in grade.stages}
    lines: list[str] = []
    for stage, checks in groupby(grade.checks, key=lambda check: check.stage):
        state = "complete" if complete.get(stage) else "not complete"
        heading = f"{names.folder(stage)}: {names.stages.get(stage, '')}".rstrip(": ") + f" ({state})"
        lines += ["", *(style.paint(line, BOLD) for line in style.wrap(heading))]
        for _, some in groupby(checks, key=_waits):
            waiting = list(some)
            lines += _check(waiting[0], style)
            if len(waiting) > 1:
                lines += style.wrap(f"{len(waiting) - 1} more wait for the same", WORD_WIDTH)
    return lines[1:]


def _waits(check: CheckResult) -> tuple[str, str]:
    """The same for blocked checks that wait for the same thing, different for all others."""
    return ("", check.reason) if check.outcome is Outcome.BLOCKED and check.reason else (check.id, "")


def _check(check: CheckResult, style: Style) -> list[str]:
    title = check.title if check.required or check.critical else f"{check.title} (not required)"
    lines = style.wrap(title, WORD_WIDTH, f"  {WORDS[check.outcome]}", COLOURS[check.outcome])
    if check.outcome in (Outcome.PASS, Outcome.PROVIDED):
        return lines
    for said in (check.id, measured(check), check.reason):
        lines += style.wrap(said, WORD_WIDTH)
    return lines


def next_steps(grade: Grade, names: Names, style: Style) -> list[str]:
    """At most three checks whose passing leads up, those of the headline rows first."""
    steps = next_checks(grade, names)
    if not steps:
        return []
    lines = [style.paint("Next", BOLD)]
    for number, check in enumerate(steps, 1):
        said = f"{check.title} ({names.folder(check.stage)}, {check.id}, {minutes(check.effort)})"
        lines += style.wrap(said, 5, f"  {number}.")
    return lines


def circumstances(grade: Grade, style: Style) -> list[str]:
    """Where and how it was measured; no isolation is said loudly."""
    lines = style.wrap(
        f"World {grade.world}; {grade.seconds:.1f} s, in which the submission's processes ran {grade.submission_seconds:.1f} s in "
        f"all; isolation: {grade.isolation}."
    )
    if grade.isolation == "plain":
        warning = "NOT ISOLATED: the submission ran as ordinary processes of yours. Grade only code you trust this way."
        lines += [style.paint(line, RED) for line in style.wrap(warning)]
    for note in grade.notes:
        lines += style.wrap(note)
    return lines


def completeness(grade: Grade, stage: str, names: Names) -> str:
    """Whether a stage is complete, and which of its open checks it does not need for that."""
    here = [c for c in grade.checks if c.stage == stage]
    required = [c for c in here if c.required or c.critical]
    passed = sum(c.outcome in (Outcome.PASS, Outcome.PROVIDED) for c in required)
    complete = any(s.id == stage and s.complete for s in grade.stages)
    state = "complete" if complete else "not complete yet"
    verb = "passes" if passed == len(required) == 1 else "pass"
    said = f"{names.folder(stage)} is {state}: {passed} of {count(len(required), 'required check')} {verb}."
    open_ = [c.id for c in here if c not in required and c.outcome not in (Outcome.PASS, Outcome.PROVIDED)]
    return f"{said} Not required, for the level alone: {', '.join(open_)}." if open_ else said


def result_sentence(grade: Grade, names: Names) -> str:
    """The result: the headline levels and the count of outcomes."""
    parts = [f"{names.row(row.row)}: {_level_phrase(row)}" for row in grade.rows if row.row in names.headline]
    levels = "; ".join(parts)
    counts = f"{_counts(grade.checks)} in {count(len(grade.stages), 'stage')}."
    said = f"{levels}; {counts}" if levels else counts
    if not grade.finished:
        return f"Provisional, the grading did not finish: {said}"
    return f"Result: {said}"


def _level_phrase(row: RowResult) -> str:
    if row.certain == row.ceiling:
        return _work(row.certain)
    return f"{_work(row.certain)}, at most {level_word(row.ceiling)}"


def _work(level: Level | None) -> str:
    return "no level yet" if level is None else f"work at {level.value} level"


def _counts(checks: Iterable[CheckResult]) -> str:
    outcomes = [check.outcome for check in checks]
    parts = [f"{outcomes.count(Outcome.PASS)} of {count(len(outcomes), 'check')} passed"]
    parts += [f"{outcomes.count(o)} {WORDS[o].lower()}" for o in COUNTED if o in outcomes]
    return ", ".join(parts)
