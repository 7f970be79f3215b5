"""The report as GitHub Actions reads it: annotations, the summary of a step, and a fence around foreign output."""

import re
import secrets
from collections.abc import Sequence
from itertools import groupby
from pathlib import PurePath

from grader.printable import printable
from grader.report.terminal import circumstances, completeness, result_sentence
from grader.report.text import WORDS, Names, Style, clean, count, headline_first, level_word, measured, minutes
from grader.report.text import next_checks as steps
from grader.verdict import CheckResult, Grade, Outcome

MOST_ANNOTATIONS = 9  # GitHub shows ten of a kind and drops the others; the tenth says how many there are
MOST_BYTES = 900_000  # of a summary; at 1 MiB the upload fails as a whole
MAX_TEXT = 500  # characters of one text
COMMANDS = {
    Outcome.FAIL: "error", Outcome.GRADER_ERROR: "error", Outcome.BLOCKED: "warning", Outcome.NOT_RUN: "warning",
}  # fmt: skip
PUNCTUATION = re.compile(r"([\\`*_\[\]#|~$])")
REFERENCES = re.compile(r"(?<=[@#:])(?=[\w/-])|(?<=\bwww)(?=\.)|(?<=\bGH)(?=-\d)", re.IGNORECASE)
NOTHING = "<!-- -->"  # breaks a mention, a number or an address without showing


def annotations(grade: Grade, names: Names) -> str:
    """Workflow commands for what did not pass: the nine most useful, then how many more there are.

    A failed check, or a fault of the grader, is an error; a blocked check, or one that was not run, is a warning.
    Empty where everything passed.
    """
    wanted = _most_useful_first(grade, names)
    lines = [_annotation(check, names) for check in wanted[:MOST_ANNOTATIONS]]
    if len(wanted) > MOST_ANNOTATIONS:
        more = count(len(wanted) - MOST_ANNOTATIONS, "more check", "more checks")
        lines.append(_command("notice", "mlekit", f"{more} did not pass; see the summary"))
    return "".join(f"{line}\n" for line in lines)


def _most_useful_first(grade: Grade, names: Names) -> list[CheckResult]:
    """What did not pass: next steps, then failures, critical and required checks before the others."""
    first = [check.id for check in steps(grade, names)]
    kinds = list(COMMANDS)

    def order(check: CheckResult) -> tuple[int, int, bool, bool]:
        step = first.index(check.id) if check.id in first else len(first)
        return step, kinds.index(check.outcome), not check.critical, not check.required

    return sorted((check for check in grade.checks if check.outcome in COMMANDS), key=order)


def _annotation(check: CheckResult, names: Names) -> str:
    title = f"{WORDS[check.outcome]}: {check.id} ({names.folder(check.stage)})"
    said = ". ".join(text for text in (check.title, check.reason, measured(check)) if text)
    return _command(COMMANDS[check.outcome], title, said)


def _command(command: str, title: str, message: str) -> str:
    return f"::{command} title={_property(_short(title))}::{_message(_short(message))}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def summary(grade: Grade, names: Names) -> str:
    """The grade as Markdown for `$GITHUB_STEP_SUMMARY`, below the size at which GitHub refuses it."""
    name = escape(PurePath(grade.submission.path).name or "submission")
    parts = [
        [f"## mlekit: {name}"],
        _warnings(grade),
        [f"**{escape(result_sentence(grade, names))}**"],
        _levels(grade, names),
        _next(grade, names),
        *_checks(grade, names),
        [escape(" ".join(circumstances(grade, Style())))],
        ["A level speaks of the work in this submission, not of a person."],
    ]
    return _capped([line for part in parts if part for line in (*part, "")])


def _warnings(grade: Grade) -> list[str]:
    lines = []
    if grade.isolation == "plain":
        lines.append(
            "> **NOT ISOLATED**: the submission ran as ordinary processes; grade only code you trust this way."
        )
    if grade.provisional:
        lines.append("> **PROVISIONAL**: not every check came to a verdict on the work.")
    return [line for one in lines for line in (one, ">")][:-1]


def _levels(grade: Grade, names: Names) -> list[str]:
    """The rows that checks of this grading belong to, and the headline rows always."""
    checked = {check.row for check in grade.checks}
    shown = [row for row in headline_first(grade.rows, names) if row.row in checked or row.row in names.headline]
    cells = []
    for row in shown:
        levels = [level_word(level) if row.row in checked else "-" for level in (row.certain, row.ceiling)]
        cells.append((names.row(row.row), *levels, row.because))
    return ["### Levels the work shows", "", *_table(("row", "certain", "at most", "because"), cells)] if cells else []


def _next(grade: Grade, names: Names) -> list[str]:
    lines = [
        f"{number}. **{escape(check.title)}** ({escape(names.folder(check.stage))}, {escape(check.id)}, "
        f"{minutes(check.effort)})"
        for number, check in enumerate(steps(grade, names), 1)
    ]
    return ["### Next", "", *lines] if lines else []


def _checks(grade: Grade, names: Names) -> list[list[str]]:
    parts = []
    for stage, checks in groupby(grade.checks, key=lambda check: check.stage):
        heading = f"### {escape(names.folder(stage))}: {escape(names.stages.get(stage, ''))}".rstrip(": ")
        cells = [(WORDS[c.outcome], c.title, c.value, c.bar, _why(c)) for c in checks]
        table = _table(("", "check", "measured", "bar", "why"), cells)
        parts.append([heading, "", escape(completeness(grade, stage, names)), "", *table])
    return parts


def _why(check: CheckResult) -> str:
    return "" if check.outcome in (Outcome.PASS, Outcome.PROVIDED) else f"{check.reason} ({check.id})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return lines + [f"| {' | '.join(escape(cell) for cell in row)} |" for row in rows]


def escape(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no cell of a table, no mention, number or address that links."""
    text = _short(text).replace("&", "&amp;")
    text = NOTHING.join(part.replace("<", "&lt;") for part in REFERENCES.split(text))
    return "".join(
        part if part == NOTHING else PUNCTUATION.sub(r"\\\1", part) for part in re.split(f"({NOTHING})", text)
    )


def _short(text: str) -> str:
    text = clean(text[: 4 * MAX_TEXT])
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


def _capped(lines: Sequence[str]) -> str:
    """As many lines as fit, and a word where some did not."""
    rest = "The rest does not fit here; it is in the report."
    size = len(rest) + 2
    kept: list[str] = []
    for line in lines:
        size += len(line.encode()) + 1
        if size > MOST_BYTES:
            return "\n".join([*kept, "", rest]) + "\n"
        kept.append(line)
    return "\n".join(kept).rstrip() + "\n"


COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#\[)", re.MULTILINE)  # how a workflow command begins, of today and of old


def inert(document: str, format: str) -> str:
    """A file of a grade with no line that is taken for a workflow command where it is printed in a job; it says the same."""
    if format == "json":  # each line begins with a bracket or a key there
        return document.replace("##[", "\\u0023#[")
    return COMMAND.sub(lambda found: f"{found[1]}&#58;" if found[1] is not None else "&#35;", document)


def fenced(text: str) -> str:
    """Output of a submission, so that no line of it is taken for a workflow command."""
    token = secrets.token_hex(16)
    shown = printable(text.encode("utf-8", "replace")).rstrip("\n")
    return f"::stop-commands::{token}\n{shown}\n::{token}::\n"
