"""GitHub Actions: annotations, the summary of a step, foreign output behind a fence, and the action itself."""
# ruff: noqa: E501 (golden lines are as long as they are)

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
import yaml
from gradekit import EVERY_OUTCOME, HOSTILE, NAMES, check, graded, hostile_grade, real_grade

from grader.cli import app
from grader.report.github import MOST_BYTES, annotations, escape, fenced, summary
from grader.verdict import Outcome

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = ACTION["runs"]["steps"]

ANNOTATIONS = """\
::error title=FAIL%3A baseline.honest (01-baseline)::does what baseline.honest says. this is too good to be true. measured AUC 0.93; bar below 0.85
::warning title=not run%3A package.fast (02-package)::does what package.fast says. this machine has no container engine
::error title=GRADER ERROR%3A package.odd (02-package)::does what package.odd says. the check itself failed
::warning title=blocked%3A package.trains (02-package)::does what package.trains says. the command train is not declared
"""

SUMMARY = """\
## mlekit: work

**Result: 1.3 Implementation of the end-to-end ML workflow: no level yet; 1.4 System design and implementation: no level yet; 1 of 2 checks passed, 1 fail in 1 stage.**

### Levels the work shows

| row | certain | at most | because |
| --- | --- | --- | --- |
| 1.3 Implementation of the end-to-end ML workflow | not yet | not yet | Not yet Junior: the critical check baseline.honest fails. |
| 1.4 System design and implementation | - | - | No check for Junior in the stages graded. |

### Next

1. **does what baseline.honest says** (01-baseline, baseline.honest, about 30 min)

### 01-baseline: A model you can trust

01-baseline is not complete yet: 1 of 2 required checks pass.

|  | check | measured | bar | why |
| --- | --- | --- | --- | --- |
| pass | does what baseline.runs says | 8,000 probabilities | one per row |  |
| FAIL | does what baseline.honest says | AUC 0.93 | below 0.85 | this is too good to be true (baseline.honest) |

World 11; 12.5 s, 9.8 s of them in the submission's own processes; isolation: bubblewrap.

A level speaks of the work in this submission, not of a person.
"""


def test_annotations_of_a_grade_are_this_text():
    assert annotations(EVERY_OUTCOME, NAMES) == ANNOTATIONS


def test_a_grade_where_all_passed_has_no_annotations():
    assert annotations(graded(check("baseline.runs"), check("baseline.laid", Outcome.PROVIDED)), NAMES) == ""


def test_at_most_nine_checks_are_annotated_and_the_rest_is_counted():
    checks = [check(f"baseline.c{n:02d}", Outcome.FAIL, critical=n == 29) for n in range(30)]
    lines = annotations(graded(*checks), NAMES).splitlines()
    assert len(lines) == 10
    assert "baseline.c29" in lines[0]  # the critical one leads up first
    assert lines[-1] == "::notice title=mlekit::21 more checks did not pass; see the summary"


def test_annotations_of_hostile_texts_are_one_command_a_line():
    text = annotations(hostile_grade(), NAMES)
    lines = text.splitlines()
    assert len(lines) == 5
    assert all(re.fullmatch(r"::(error|warning) title=[^:,\r\n]*::[^\r\n]*", line) for line in lines)
    assert all(re.fullmatch(r"(25|0D|0A|3A|2C)", found) for found in re.findall("%(..)", text))
    assert max(map(len, lines)) < 5_000


def test_percent_colon_and_comma_are_escaped_where_they_would_be_read():
    grade = graded(check("a:b,c%d", Outcome.FAIL, reason="50% :: of, it"))
    (line,) = annotations(grade, NAMES).splitlines()
    assert line == "::error title=FAIL%3A a%3Ab%2Cc%25d (01-baseline)::does what a:b,c%25d says. 50%25 :: of, it"


def test_the_summary_of_a_grade_is_this_text():
    assert summary(graded(*EVERY_OUTCOME.checks[:2]), NAMES) == SUMMARY


def test_the_summary_says_first_what_weakens_the_grade():
    lines = summary(replace(EVERY_OUTCOME, isolation="plain"), NAMES).splitlines()
    assert lines[2].startswith("> **NOT ISOLATED**")
    assert lines[4].startswith("> **PROVISIONAL**")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a|b `c` *d* _e_ ~f~ [g](h)", r"a\|b \`c\` \*d\* \_e\_ \~f\~ \[g\](h)"),
        ("<b>&lt;", "&lt;b>&amp;lt;"),
        ("@team and a@b.c", "@<!-- -->team and a@<!-- -->b.c"),
        ("#12 me/it#3 GH-4", r"\#<!-- -->12 me/it\#<!-- -->3 GH<!-- -->-4"),
        ("https://x.y www.z.de :tada:", "https:<!-- -->//x.y www<!-- -->.z.de :<!-- -->tada:"),
        ("<!-- -->@x -->", "&lt;!-- -->@<!-- -->x -->"),
        ("two\nlines\r\n\x1b[31mred", "two lines red"),
        ("\\", "\\\\"),
    ],
)
def test_markdown_shows_the_text_of_a_submission_as_it_is(given, shown):
    assert escape(given) == shown


def test_the_summary_of_hostile_texts_holds_no_markup_of_theirs():
    text = summary(hostile_grade(), NAMES)
    assert "<" not in text.replace("<!-- -->", "")
    assert not re.search(r"(?<!\\)[`\[\]]", text)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")} == {5, 6}
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)


def test_the_summary_of_a_huge_grade_is_cut_at_a_line_below_the_limit():
    said = {"value": "ü|" * 1000, "bar": "|" * 1000, "reason": "@a" * 1000}
    text = summary(graded(*(check(f"baseline.c{n}", Outcome.FAIL, **said) for n in range(1000))), NAMES)
    assert MOST_BYTES - 10_000 < len(text.encode()) <= MOST_BYTES
    assert text.endswith("|\n\nThe rest does not fit here; it is in the report.\n")


def test_foreign_output_stands_between_a_fence_that_it_cannot_know():
    first, second = (fenced("::error::mine\n::set-output name=x::y\x1b[2J\r\nlast") for _ in range(2))
    token = re.match(r"::stop-commands::([0-9a-f]{32})\n", first)[1]
    assert first.splitlines()[1:] == ["::error::mine", "::set-output name=x::y", "last", f"::{token}::"]
    assert first != second


def test_the_action_is_composite_and_its_inputs_are_used_as_environment_only():
    assert ACTION["runs"]["using"] == "composite"
    assert {"path", "stages", "want", "row", "secret"} <= set(ACTION["inputs"])
    assert not [step["run"] for step in STEPS if "${{" in step.get("run", "")]
    used = set(re.findall(r"inputs\.([\w-]+)", (ROOT / "action.yml").read_text()))
    assert used == set(ACTION["inputs"])


def test_the_steps_of_the_action_use_options_that_exist():
    command = typer.main.get_command(app).commands["grade"]
    known = {name for option in command.params for name in option.opts}
    named = {option for step in STEPS for line in step.get("run", "").splitlines() for option in _options(line)}
    assert {"--out", "--format", "--stage", "--want", "--row", "--secret"} == named
    assert named <= known


def _options(line):
    return re.findall(r"(?<!\S)\(?(--[a-z-]+)", line.replace("options=(", "options=( ").replace("+=(", "+=( "))


@pytest.mark.skipif(shutil.which("bash") is None, reason="the steps of the action need bash")
@pytest.mark.parametrize("step", [step for step in STEPS if "run" in step], ids=lambda step: step["name"])
def test_the_shell_of_a_step_can_be_read(step):
    assert step["shell"] == "bash"
    subprocess.run(["bash", "-n"], input=step["run"], text=True, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="the steps of the action need bash")
def test_the_grading_step_hands_its_inputs_to_mlekit(tmp_path):
    (step,) = [step for step in STEPS if step.get("name") == "Grade"]
    (tmp_path / "mlekit" / "bin").mkdir(parents=True)
    (tmp_path / "mlekit" / "bin" / "mlekit").symlink_to(Path(sys.executable).with_name("mlekit"))
    secret = "0123456789abcdef"
    given = {"PATH": "no $(such) folder", "STAGES": "01 02", "WANT": "junior", "ROW": "1.3", "SECRET": secret}
    environment = {**os.environ, "RUNNER_TEMP": str(tmp_path), **{f"MLEKIT_{k}": v for k, v in given.items()}}
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(shell, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no $(such) folder" in done.stderr
    assert not (tmp_path / "mlekit-secret").exists()
    assert set(step["env"]) == {f"MLEKIT_{name}" for name in given}


def test_a_real_grade_has_a_summary_with_its_levels():
    text = summary(real_grade(), NAMES)
    assert "| 1.3 Implementation of the end-to-end ML workflow | junior | junior |" in text
    assert HOSTILE not in text
