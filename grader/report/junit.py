"""JUnit XML, as CI systems read it; the exit code, not this file, decides whether a job fails."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from itertools import groupby

from grader.printable import printable
from grader.report.text import WORDS, Names
from grader.verdict import CheckResult, Grade, Outcome

ILLEGAL = re.compile("[^\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0; parsers drop CR
MAX_TEXT = 4_000  # characters of one text; GitLab refuses files over 30 MB
SKIPPED = (Outcome.BLOCKED, Outcome.NOT_RUN)


def junit(grade: Grade, names: Names) -> str:
    """The grade as JUnit XML: one suite a stage, one test case a check."""
    root = ET.Element("testsuites", {"name": "mlekit", **_counts(grade.checks)})
    for stage, checks in groupby(grade.checks, key=lambda check: check.stage):
        _suite(root, grade, names.folder(stage), list(checks))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, grade: Grade, name: str, checks: Sequence[CheckResult]) -> None:
    suite = ET.SubElement(root, "testsuite", {"name": _legal(name), **_counts(checks)})
    facts = {"kit": grade.kit, "world": grade.world, "isolation": grade.isolation, "submission": grade.submission.hash}
    _properties(suite, facts)
    for check in checks:
        _case(suite, check)


def _case(suite: ET.Element, check: CheckResult) -> None:
    place = f"mlekit.{check.row.replace('.', '-')}.{check.level}"
    case = ET.SubElement(
        suite, "testcase", {"classname": _legal(place), "name": _legal(check.id), "time": f"{check.seconds:.3f}"}
    )
    _properties(
        case,
        {"row": check.row, "level": check.level.value, "weight": str(check.weight), "outcome": check.outcome.value},
    )
    measured = f"measured {check.value or 'nothing'}; bar {check.bar}" if check.bar else check.value
    details = "\n".join(text for text in (check.title, check.reason, check.reproduce) if text)
    if check.outcome is Outcome.FAIL:
        _said(case, "failure", measured or check.reason, details)
    elif check.outcome is Outcome.GRADER_ERROR:
        _said(case, "error", check.reason, details)
    elif check.outcome in SKIPPED:
        ET.SubElement(case, "skipped", {"message": _legal(f"{WORDS[check.outcome]}: {check.reason}")})


def _said(case: ET.Element, tag: str, message: str, details: str) -> None:
    ET.SubElement(case, tag, {"message": _legal(message), "type": tag}).text = _legal(details)


def _properties(parent: ET.Element, values: dict[str, str]) -> None:
    properties = ET.SubElement(parent, "properties")
    for name, value in values.items():
        ET.SubElement(properties, "property", {"name": name, "value": _legal(value)})


def _counts(checks: Sequence[CheckResult]) -> dict[str, str]:
    outcomes = [check.outcome for check in checks]
    return {
        "tests": str(len(outcomes)),
        "failures": str(outcomes.count(Outcome.FAIL)),
        "errors": str(outcomes.count(Outcome.GRADER_ERROR)),
        "skipped": str(sum(outcome in SKIPPED for outcome in outcomes)),
        "time": f"{sum(check.seconds for check in checks):.3f}",
    }


def _legal(text: str) -> str:
    """The text without what XML 1.0 forbids or a viewer would obey, such as the reversal of a line; shortened where it is very long."""
    text = ILLEGAL.sub("", printable(text.encode("utf-8", "replace")))
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."
