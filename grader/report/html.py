"""The report as one HTML file: no script, no network, and a policy that forbids both."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from grader.report.junit import ILLEGAL
from grader.report.plots import drawings
from grader.report.terminal import completeness, result_sentence
from grader.report.text import WORDS, Names, clean, count, headline_first, measured, minutes, next_checks
from grader.verdict import LEVELS, OPEN, Chart, ChartKind, CheckResult, Grade, Level, Outcome, RowResult

if TYPE_CHECKING:
    from grader.rubric import Cell, Rubric

TEMPLATES = Path(__file__).parent / "templates"
MAX_TEXT, MAX_BRIEF = 1_000, 200  # characters of one text; the whole file stays below a megabyte
MAX_CHARTS = 60
MAX_TABLE, MAX_COLUMNS = 100, 6  # rows and columns of a table
MAX_NOTES = 20
ADVICE = {
    Outcome.PASS: "What was found", Outcome.PROVIDED: "What was found", Outcome.FAIL: "What to do",
    Outcome.BLOCKED: "What to do", Outcome.NOT_RUN: "Why there is no verdict",
    Outcome.GRADER_ERROR: "Why there is no verdict",
}  # fmt: skip
LEGEND = (
    ("shown", "shown", "the checks of this level pass, and those of all levels below"),
    ("perhaps", "at most", "it may be reached: some checks came to no verdict"),
    ("missing", "not yet", "the checks of this level are not enough"),
    ("unchecked", "no check", "this grading has no check for it"),
    ("people", "for people", "no machine can judge it: see the scorecard"),
)


@dataclass(frozen=True)
class Square:
    """One cell of the level map."""

    level: str
    state: str
    word: str


@dataclass(frozen=True)
class MapRow:
    """One row of the level map; `because` and `next` tell how it came about and what leads up."""

    title: str
    squares: tuple[Square, ...]
    headline: bool
    checked: bool
    because: str
    next: tuple[tuple[str, str], ...]  # anchor and title of a check


@dataclass(frozen=True)
class Step:
    """One next step."""

    anchor: str
    title: str
    effort: str
    where: str
    measured: str
    reason: str


@dataclass(frozen=True)
class Rung:
    """One stage of the ladder."""

    title: str
    state: str
    word: str
    said: str


@dataclass(frozen=True)
class Figure:
    """A chart: its drawing where there is one, or its table (the first row holds the headings), and always its text."""

    title: str
    says: str
    drawing: Markup
    table: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Card:
    """One check."""

    anchor: str
    id: str
    title: str
    state: str
    word: str
    value: str
    bar: str
    advice: str
    reason: str
    reproduce: tuple[str, ...]  # word by word, so that a narrow page breaks it between words
    facts: str
    open: bool
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Question:
    """What a person asks about one cell of the rubric."""

    level: str
    text: str
    question: str
    anchor: str
    alone: bool  # no check can show any of it


def html(grade: Grade, names: Names, rubric: Rubric | None = None, one_check: bool = False) -> str:
    """The grade as one self-contained HTML page.

    Parameters
    ----------
    grade
        The grade; its texts may come from a submission and are shown as text, whatever they hold.
    names
        Titles of rows and stages; all of its stages stand on the ladder, graded or not.
    rubric
        Where the scorecard's questions come from; without it the kit's own.
    one_check
        Whether the page is about a single check, which shows no levels, stages and questions.

    Returns
    -------
    str
        A page without script that loads nothing, in light and dark, for screens from 360 pixels and for paper.
    """
    if rubric is None:
        from grader.rubric import load  # late: only this report asks people

        rubric = load()
    css = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8").strip())
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            css=css,
            policy=f"default-src 'none'; style-src 'sha256-{_digest(css)}'; base-uri 'none'; form-action 'none'",
            name=brief(PurePath(grade.submission.path).name or "submission"),
            result=text(f"{grade.checks[0].title}" if one_check else result_sentence(grade, names)),
            warnings=warnings(grade),
            legend=LEGEND,
            map=[] if one_check else level_map(grade, names, rubric),
            steps=[] if one_check else steps(grade, names),
            ladder=[] if one_check else ladder(grade, names),
            stages=cards(grade, names, everything_open=one_check),
            scorecard=[] if one_check else scorecard(names, rubric),
            method=method(grade),
            notes=[text(note) for note in grade.notes[:MAX_NOTES]],
            graded=bool(grade.checks),
        )
    )


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _digest(css: str) -> str:
    return base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()


def text(said: str) -> str:
    """A text of the grade on one line, without what could reverse or hide it, and not endless."""
    return _cut(ILLEGAL.sub("", clean(said[: 4 * MAX_TEXT])), MAX_TEXT)


def brief(said: str) -> str:
    """A text that stands in a heading or a line."""
    return _cut(text(said), MAX_BRIEF)


def _cut(said: str, most: int) -> str:
    return said if len(said) <= most else said[: most - 3] + "..."


def warnings(grade: Grade) -> list[tuple[str, str]]:
    """What a reader has to know before the result: in a word, and in a sentence."""
    said = []
    if grade.isolation == "plain":
        why = "The submission ran as ordinary processes. Grade only code you trust this way."
        said.append(("NOT ISOLATED", why))
    if not grade.finished:
        said.append(("PROVISIONAL", "The grading did not finish."))
    elif grade.provisional:
        open_ones = sum(check.outcome in OPEN for check in grade.checks)
        without = "came to no verdict on the work, so a level may be higher than what is certain"
        said.append(("PROVISIONAL", f"{count(open_ones, 'check')} of {len(grade.checks)} {without}."))
    return said


def level_map(grade: Grade, names: Names, rubric: Rubric) -> list[MapRow]:
    """The rows of the rubric with a square for each level, the headline rows first."""
    titles = {check.id: check.title for check in grade.checks}
    cells = {(cell.row, cell.level): cell for cell in rubric.cells}
    checked = {(check.row, check.level) for check in grade.checks}
    return [
        MapRow(
            title=brief(names.row(row.row)),
            squares=tuple(
                _square(row, level, (row.row, level) in checked, cells.get((row.row, level.value))) for level in LEVELS
            ),
            headline=row.row in names.headline,
            checked=any(check.row == row.row for check in grade.checks),
            because=text(row.because),
            next=tuple((_anchor(id), brief(titles[id])) for id in row.next if id in titles),
        )
        for row in headline_first(grade.rows, names)
    ]


def _square(row: RowResult, level: Level, checked: bool, cell: Cell | None) -> Square:
    if _reaches(row.certain, level):
        state = "shown"
    elif _reaches(row.ceiling, level):
        state = "perhaps"
    elif checked:
        state = "missing"
    else:
        state = "people" if cell is not None and cell.machine == "none" else "unchecked"
    word = next(word for name, word, _ in LEGEND if name == state)
    return Square(level.value, state, word)


def _reaches(found: Level | None, level: Level) -> bool:
    return found is not None and LEVELS.index(found) >= LEVELS.index(level)


def steps(grade: Grade, names: Names) -> list[Step]:
    """What to do next, cheapest first."""
    return [
        Step(
            anchor=_anchor(check.id),
            title=brief(check.title),
            effort=minutes(check.effort),
            where=f"stage {brief(names.folder(check.stage))}; counts for {check.level} in row {brief(check.row)}",
            measured=text(measured(check)),
            reason=text(check.reason),
        )
        for check in next_checks(grade, names)
    ]


def ladder(grade: Grade, names: Names) -> list[Rung]:
    """All stages there are, and those of the grade that the kit does not know."""
    complete = {stage.id: stage.complete for stage in grade.stages}
    known = [*names.stages, *(stage for stage in complete if stage not in names.stages)]
    return [_rung(stage, complete.get(stage), grade, names) for stage in known]


def _rung(stage: str, complete: bool | None, grade: Grade, names: Names) -> Rung:
    title = brief(_stage_title(stage, names))
    if complete is None:
        return Rung(title, "unchecked", "not graded", "")
    said = completeness(grade, stage, names).partition(": ")[2].rstrip(".")
    state, word = ("shown", "complete") if complete else ("missing", "not complete")
    return Rung(title, state, word, said)


def _stage_title(stage: str, names: Names) -> str:
    return f"{stage} {names.stages.get(stage, '')}".rstrip()


def cards(grade: Grade, names: Names, everything_open: bool = False) -> list[tuple[str, list[Card]]]:
    """The checks of each stage; those that are next, and those with charts, are open."""
    next_ids = {check.id for check in next_checks(grade, names)}
    drawn = iter(drawings([chart for check in grade.checks for chart in check.charts][:MAX_CHARTS]))
    found: dict[str, list[Card]] = {}
    for check in grade.checks:
        figures = tuple(_figure(chart, next(drawn, "")) for chart in check.charts)
        found.setdefault(check.stage, []).append(_card(check, everything_open or check.id in next_ids, names, figures))
    return [(brief(_stage_title(stage, names)), made) for stage, made in found.items()]


def _figure(chart: Chart, drawing: str) -> Figure:
    return Figure(brief(chart.title), text(chart.says), Markup(drawing), _table(chart))


def _table(chart: Chart) -> tuple[tuple[str, ...], ...]:
    """The rows of a table, headings first; nothing for a chart that is drawn, or has no row."""
    if chart.kind is not ChartKind.TABLE or not chart.series or not chart.series[0].x:
        return ()
    columns = (chart.series[0].x, *(one.y for one in chart.series[:MAX_COLUMNS]))
    told = [row for row in zip(*columns, strict=False) if all(isinstance(cell, str) or isfinite(cell) for cell in row)]
    rows = [tuple(brief(str(cell)) for cell in row) for row in told]
    return (
        ()
        if not rows
        else ((brief(chart.x), *(brief(one.name) for one in chart.series[:MAX_COLUMNS])), *rows[:MAX_TABLE])
    )


def _card(check: CheckResult, opened: bool, names: Names, figures: tuple[Figure, ...]) -> Card:
    return Card(
        anchor=_anchor(check.id),
        id=brief(check.id),
        title=brief(check.title),
        state=check.outcome.value,
        word=WORDS[check.outcome],
        value=text(check.value),
        bar=text(check.bar),
        advice=ADVICE[check.outcome],
        reason=text(check.reason),
        reproduce=tuple(text(check.reproduce).split()),
        facts=_facts(check, names),
        open=opened or bool(figures),
        figures=figures,
    )


def _facts(check: CheckResult, names: Names) -> str:
    needed = "critical" if check.critical else "required" if check.required else "counts by weight"
    return f"{needed}; weight {check.weight}; {check.level} in row {brief(names.row(check.row))}; {check.seconds:.1f} s"


def _anchor(id: str) -> str:
    """A fragment for a check that is safe and distinct, whatever its id holds."""
    if re.fullmatch(r"[a-z0-9_.-]{1,80}", id):
        return f"check-{id}"
    return f"check-{hashlib.sha256(id.encode('utf-8', 'replace')).hexdigest()[:16]}"


def scorecard(names: Names, rubric: Rubric) -> list[tuple[str, list[Question]]]:
    """The questions for a person, by row: of each cell that checks cannot verify in full."""
    rows = sorted(rubric.rows, key=lambda row: row.id not in names.headline)
    asked = [(row, [_question(cell) for cell in row.cells if cell.machine != "full"]) for row in rows]
    return [(f"{row.id} {row.title}", questions) for row, questions in asked if questions]


def _question(cell: Cell) -> Question:
    return Question(cell.level, cell.text, cell.question, cell.anchor, cell.machine == "none")


def method(grade: Grade) -> Sequence[tuple[str, str]]:
    """Where and how it was measured."""
    own = f"the submission's processes ran {grade.submission_seconds:.1f} s in all"
    isolation = "plain: NOT ISOLATED" if grade.isolation == "plain" else text(grade.isolation)
    return (
        ("Kit", f"mlekit {text(grade.kit)}, contract {grade.contract}"),
        ("World", text(grade.world)),
        ("Isolation", isolation),
        ("Time", f"{grade.seconds:.1f} s, {own}"),
        ("Submission", text(grade.submission.path)),
        ("Content hash", text(grade.submission.hash)),
    )
