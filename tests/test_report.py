"""Reports: the same grade for a terminal and as JUnit, whatever a submission put into its texts."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from grader.report.junit import junit
from grader.report.progress import Progress
from grader.report.terminal import check_report, completeness, grade_report
from grader.report.text import Names, Style, clean
from grader.rubric import assess
from grader.verdict import CheckResult, CheckSpec, Grade, Level, Outcome, Submission

NAMES = Names(
    rows={"1.3": "Implementation of the end-to-end ML workflow", "1.4": "System design and implementation"},
    stages={"01": "A model you can trust", "02": "From notebook to package"},
    folders={"01": "01-baseline", "02": "02-package"},
    headline=("1.3", "1.4"),
)
HOSTILE = "\x1b[2J\x1b]0;owned\x07\x00 \ufffe \u202egpj ]]> <b>&amp; \udcff \x9b31m \r\nnext\x08"


def check(name, outcome, stage="01", level=Level.JUNIOR, **said):
    spec = CheckSpec(name, stage, f"does what {name} says", "1.3", level, critical=True, required=True, weight=2)
    return CheckResult.of(spec, outcome, seconds=1.25, **said)


def graded(*checks, finished=True, isolation="bubblewrap", notes=()):
    return assess(
        Grade(
            "0.1.0", 1, "11", isolation, Submission("/home/me/work", "abc123"), 12.5, 9.75, checks,
            finished=finished, notes=notes,
        )
    )  # fmt: skip


EXAMPLE = graded(
    check("baseline.runs", Outcome.PASS, value="8,000 probabilities", bar="one per row"),
    check(
        "baseline.honest", Outcome.FAIL, value="AUC 0.93", bar="below 0.85", reason="this is too good to be true",
        reproduce="mlekit grade /home/me/work --world 11 --stage 01",
    ),
    check("package.trains", Outcome.BLOCKED, "02", reason="the command train is not declared"),
    check("package.fast", Outcome.NOT_RUN, "02", reason="this machine has no container engine"),
    check("package.odd", Outcome.GRADER_ERROR, "02", reason="the check itself failed"),
    check("package.laid", Outcome.PROVIDED, "02"),
)  # fmt: skip

GOLDEN = """\
<?xml version="1.0" encoding="utf-8"?>
<testsuites name="mlekit" tests="2" failures="1" errors="0" skipped="0" time="2.500">
  <testsuite name="01-baseline" tests="2" failures="1" errors="0" skipped="0" time="2.500">
    <properties>
      <property name="kit" value="0.1.0" />
      <property name="world" value="11" />
      <property name="isolation" value="bubblewrap" />
      <property name="submission" value="abc123" />
    </properties>
    <testcase classname="mlekit.1-3.junior" name="baseline.runs" time="1.250">
      <properties>
        <property name="row" value="1.3" />
        <property name="level" value="junior" />
        <property name="weight" value="2" />
        <property name="outcome" value="pass" />
      </properties>
    </testcase>
    <testcase classname="mlekit.1-3.junior" name="baseline.honest" time="1.250">
      <properties>
        <property name="row" value="1.3" />
        <property name="level" value="junior" />
        <property name="weight" value="2" />
        <property name="outcome" value="fail" />
      </properties>
      <failure message="measured AUC 0.93; bar below 0.85" type="failure">does what baseline.honest says
this is too good to be true
mlekit grade /home/me/work --world 11 --stage 01</failure>
    </testcase>
  </testsuite>
</testsuites>
"""


def test_junit_of_a_grade_is_this_text():
    assert junit(replace(EXAMPLE, checks=EXAMPLE.checks[:2]), NAMES) == GOLDEN


def test_junit_tells_blocked_and_not_run_from_errors_of_the_grader():
    cases = {case.get("name"): case for case in ET.fromstring(junit(EXAMPLE, NAMES)).iter("testcase")}
    said = {name: [child.tag for child in case if child.tag != "properties"] for name, case in cases.items()}
    assert said == {
        "baseline.runs": [],
        "baseline.honest": ["failure"],
        "package.trains": ["skipped"],
        "package.fast": ["skipped"],
        "package.odd": ["error"],
        "package.laid": [],
    }
    assert cases["package.trains"].find("skipped").get("message") == "blocked: the command train is not declared"


def hostile_grade():
    said = {"value": HOSTILE, "bar": HOSTILE, "reason": HOSTILE * 2000, "reproduce": HOSTILE}
    grade = graded(*(check(f"baseline.x{n}", outcome, **said) for n, outcome in enumerate(Outcome)), notes=(HOSTILE,))
    return replace(grade, world=HOSTILE, submission=Submission(HOSTILE, HOSTILE))


def test_junit_of_hostile_texts_is_well_formed_and_small():
    text = junit(hostile_grade(), NAMES)
    assert len(ET.fromstring(text.encode("utf-8")).findall(".//testcase")) == len(Outcome)
    assert len(text) < 200_000
    assert not re.search("[\x00-\x08\x0b-\x1f\ufffe\uffff\ud800-\udfff]", text)
    assert "]]&gt;" in text
    assert "]]>" not in text


def test_a_terminal_is_safe_from_hostile_texts():
    text = grade_report(hostile_grade(), NAMES, Style(80))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert "owned" in text  # harmless as plain text


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("report", [grade_report, check_report])
def test_no_line_is_wider_than_the_terminal(width, report):
    long = graded(*EXAMPLE.checks, check("baseline." + "x" * 300, Outcome.FAIL, reason="y" * 500), notes=("z " * 200,))
    assert max(map(len, report(long, NAMES, Style(width)).splitlines())) <= width


def test_the_terminal_report_says_outcomes_in_words_with_value_bar_and_reason():
    text = grade_report(EXAMPLE, NAMES, Style(80))
    assert "  pass          does what baseline.runs says" in text
    assert "  FAIL          does what baseline.honest says" in text
    assert "measured AUC 0.93; bar below 0.85" in text
    assert "this is too good to be true" in text
    assert "  blocked " in text
    assert "  not run " in text
    assert "  GRADER ERROR " in text
    assert "  provided " in text
    assert "\x1b" not in text


def test_blocked_checks_that_wait_for_the_same_are_told_once():
    first, *more = (check(f"package.{n}", Outcome.BLOCKED, "02", reason="see package.trains") for n in "abcd")
    other = check("package.e", Outcome.BLOCKED, "02", reason="something else")
    text = grade_report(graded(first, *more, other), NAMES, Style(80))
    assert text.count("see package.trains") == 1
    assert "3 more wait for the same" in text
    assert "something else" in text


def test_the_terminal_report_begins_with_the_headline_rows_and_ends_with_the_result():
    text = grade_report(EXAMPLE, NAMES, Style(120))
    lines = text.splitlines()
    assert lines[1].startswith("1.3 Implementation of the end-to-end ML workflow")
    assert len([line for line in lines if re.match(r"\d\.\d ", line)]) == 16
    assert last_paragraph(text).startswith("Result: 1.3 Implementation")
    assert last_paragraph(text).endswith(
        "1 of 6 checks passed, 1 provided, 1 fail, 1 blocked, 1 not run, 1 grader error in 2 stages."
    )


def last_paragraph(text):
    return " ".join(text.split("\n\n")[-1].split())


def test_open_checks_that_a_stage_does_not_need_are_named():
    extra = [replace(check(name, outcome), required=False, critical=False)
             for name, outcome in (("a.fast", Outcome.FAIL), ("a.neat", Outcome.PASS), ("a.safe", Outcome.BLOCKED))]  # fmt: skip
    said = completeness(graded(check("a.runs", Outcome.PASS), *extra), "01", NAMES)
    assert said == (
        "01-baseline is complete: 1 of 1 required check passes. Not required, for the level alone: a.fast, a.safe."
    )
    assert "Not required" not in completeness(graded(check("a.runs", Outcome.FAIL), extra[1]), "01", NAMES)


def test_at_most_three_next_steps_are_named():
    checks = [check(f"baseline.c{n}", Outcome.FAIL) for n in range(9)]
    text = grade_report(graded(*checks), NAMES, Style(80))
    assert re.findall(r"^  (\d)\. ", text, re.MULTILINE) == ["1", "2", "3"]


def test_a_grade_that_did_not_finish_says_so():
    text = grade_report(graded(*EXAMPLE.checks, finished=False), NAMES, Style(80))
    assert last_paragraph(text).startswith("Provisional, the grading did not finish: ")


def test_no_isolation_is_said_loudly_with_the_reason():
    given = graded(*EXAMPLE.checks, isolation="plain", notes=("It is not isolated because the system forbids it.",))
    text = grade_report(given, NAMES, Style(80))
    assert "NOT ISOLATED" in text
    assert "only code you trust" in " ".join(text.split())
    assert "because the system forbids it" in text
    assert "NOT ISOLATED" not in grade_report(EXAMPLE, NAMES, Style(80))


def test_colour_only_repeats_what_the_words_say():
    plain, coloured = (grade_report(EXAMPLE, NAMES, Style(80, colour)) for colour in (False, True))
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_is_left_out_where_it_is_not_wanted(monkeypatch, variable, value):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Style.of(Terminal()).colour
    monkeypatch.setenv(variable, value)
    assert not Style.of(Terminal()).colour


def test_clean_keeps_letters_of_every_language():
    assert clean("Größe  変数\tу\n") == "Größe 変数 у"


class Terminal:
    """A stream that says it is a terminal."""

    def __init__(self, tty=True):
        self.text, self._tty = "", tty

    def isatty(self):
        return self._tty

    def write(self, text):
        self.text += text

    def flush(self):
        pass


EVENTS = [
    {"event": "started", "id": "a"},
    {"event": "tick"},
    {"event": "check", "result": {"id": "a", "outcome": "fail", "seconds": 2.0}, "details": "a traceback"},
    {"event": "done", "submission_seconds": 1.0},
]


def test_progress_is_one_live_line_in_a_terminal():
    stream = Terminal()
    progress = Progress({"a": "runs " + "x" * 200, "b": "ends"}, stream, Style(80, True))
    for event in EVENTS:
        progress(event)
    progress.close()
    assert "\n" not in stream.text
    assert "[1/2] 0 s  runs" in stream.text
    assert max(len(part) for part in stream.text.split("\r\x1b[K")) < 80
    assert stream.text.endswith("\r\x1b[K")


def test_where_nothing_was_said_for_long_a_line_tells_what_goes_on(monkeypatch):
    stream = Terminal(tty=False)
    progress = Progress({"a": "runs", "b": "ends"}, stream, Style(80))
    progress({"event": "started", "id": "a"})
    progress({"event": "runs", "what": "train-\x1b[2Janother-seed"})
    progress({"event": "tick"})
    assert stream.text == ""
    monkeypatch.setattr("grader.report.progress.QUIET_SECONDS", 0.0)
    progress({"event": "tick"})
    assert stream.text.startswith("[1/2] 0 s (train-")
    assert stream.text.endswith("another-seed)  runs\n")
    assert "\x1b" not in stream.text


def test_progress_is_a_line_a_check_elsewhere():
    stream = Terminal(tty=False)
    progress = Progress({"a": "runs", "b": "ends"}, stream, Style(80))
    for event in EVENTS:
        progress(event)
    progress.close()
    assert stream.text == "[1/2] FAIL: a (2.0 s)\n"
    assert progress.faults == ["a\na traceback"]
