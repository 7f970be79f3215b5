"""The `mlekit` program, as people and CI systems meet it."""

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from clikit import MLEKIT, imported, mlekit, refused, stored_check

from grader import cli, fast, home, stages, workspace
from grader.rubric import assess
from grader.verdict import CheckResult, CheckSpec, Grade, Level, Outcome, Submission, read_grade

SOLUTION = home.exercises() / "01-baseline" / "solution"
STARTER = home.exercises() / "01-baseline" / "starter"
HEAVY = ("typer", "rich", "pydantic", "pytest", "pandas", "numpy", "psutil", "sklearn", "mlflow")


@pytest.fixture
def submission(tmp_path):
    folder = tmp_path / "work"
    shutil.copytree(SOLUTION, folder)
    return folder


# Commands that cannot be carried out as given


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["grade"], ["Missing argument", "path"]),
        (["grade", "nowhere"], ["nowhere", "is not a folder", "pyproject.toml"]),
        (["grade", "."], ["has no pyproject.toml", "[tool.mlekit]"]),
        (["grade", "good", "--stage", "77"], ["77", "01-baseline"]),
        (["grade", "good", "--world", "soon"], ["--world", "integer"]),
        (["grade", "good", "--world", "-4"], ["--world"]),
        (["grade", "good", "--secret", "nowhere"], ["secret nowhere", "cannot be read"]),
        (["grade", "good", "--secret", "."], ["secret .", "cannot be read"]),
        (["grade", "good", "--secret", "short"], ["holds 3 bytes", "at least 16"]),
        (["grade", "good", "--secret", "long", "--world", "1"], ["not both"]),
        (["grade", "good", "--secret", "/dev/zero"], ["only 1 different bytes", "random"]),
        (["grade", "good", "--label", "x"], ["--secret"]),
        (["grade", "good", "--out", "short"], ["--out short", "cannot be written"]),
        (["grade", "good", "--out", "short/below"], ["--out short/below", "cannot be written"]),
        (["grade", "good", "--out", "good/results"], ["lies in the submission", ".mlekit"]),
        (["grade", "good", "--out", "taken"], ["taken/grade.json is a folder"]),
        (["grade", "good", "--want", "wizard"], ["--want", "junior"]),
        (["grade", "good", "--want", "senior", "--row", "9.9"], ["9.9", "1.3"]),
        (["grade", "good", "--row", "1.4"], ["--row", "--want"]),
        (["grade", "good", "--stage", "01", "--want", "lead"], ["1.3", "cannot show lead"]),
        (["grade", "good", "--isolation", "hope"], ["--isolation", "bubblewrap"]),
        (["grade", "broken"], ["broken/pyproject.toml", "not valid TOML"]),
        (["grade", "foreign"], ["foreign/pyproject.toml", "[tool.mlekit]"]),
        (["check"], ["not in a workspace", "mlekit grade"]),
        (["check", "--fresh"], ["not in a workspace", "mlekit grade"]),
        (["verify", "nowhere.json"], ["nowhere.json", "cannot be read"]),
        (["verify", "short"], ["short", "not JSON"]),
        (["data", "build", "--out", "taken"], ["taken", "is there already"]),
        (["data", "verify", "nowhere"], ["nowhere", "is not a folder"]),
        (["conjure"], ["conjure"]),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(tmp_path, arguments, words):
    for name, text in {"good": "[tool.mlekit]\ncontract = 1\n", "broken": "[tool.mlekit\n", "foreign": ""}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyproject.toml").write_text(text)
    (tmp_path / "short").write_text("abc")
    (tmp_path / "long").write_text("0123456789abcdef")
    (tmp_path / "taken" / "grade.json").mkdir(parents=True)
    refused(mlekit(*arguments, cwd=tmp_path), *words)


def test_an_unknown_stage_of_a_workspace_is_refused(submission):
    refused(mlekit("check", "77", cwd=submission), "77", "01-baseline")


def test_a_broken_manifest_of_a_workspace_is_refused(submission):
    (submission / "pyproject.toml").write_text('[tool.mlekit]\ncontract = 1\nnotebok = "x"\n')
    refused(mlekit("check", cwd=submission), "notebok", "allowed")


def test_a_name_that_would_harm_the_terminal_is_shown_without_harm(tmp_path):
    result = mlekit("grade", tmp_path / "\x1b[31mred\x07")
    refused(result, "red")
    assert "\x1b" not in result.stderr
    assert "\x07" not in result.stderr


def test_a_path_that_is_not_utf8_is_refused_without_a_traceback(tmp_path):
    refused(mlekit("grade", os.fsdecode(os.fsencode(tmp_path) + b"/\xff")), "is not a folder")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_fault_of_the_kit_is_one_sentence_and_a_file_of_details(tmp_path):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [MLEKIT, "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )  # fmt: skip
    assert result.returncode == 3
    assert "fault of the kit" in result.stderr
    assert "Traceback" not in result.stderr
    (details,) = tmp_path.glob("mlekit-fault-*.txt")
    assert "Traceback" in details.read_text()


def test_a_reader_that_goes_away_is_no_fault():
    shell = subprocess.run(
        ["bash", "-c", f"set -o pipefail; '{MLEKIT}' list | head -c 1"], capture_output=True, text=True, check=False
    )
    assert shell.stderr == ""
    assert shell.returncode in (0, 141)


# Answers that need no grading


def test_list_names_every_stage_within_80_columns(tmp_path):
    result = mlekit("list", cwd=tmp_path)
    assert result.returncode == 0
    for stage in stages.all_stages():
        assert re.search(rf"^{stage.id}  +{stage.hours:g} h +\S", result.stdout, re.MULTILINE)
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["grade", "--help"], ["data", "--help"], ["check", "--help"]])
def test_help_fits_80_columns(arguments):
    result = mlekit(*arguments)
    assert result.returncode == 0
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_version_is_printed():
    assert mlekit("version").stdout == mlekit("--version").stdout
    assert mlekit("version").stdout.startswith("mlekit 0.")


def test_list_imports_nothing_heavy(tmp_path):
    assert imported("list", cwd=tmp_path) == "0 []"


def test_help_imports_no_science(tmp_path):
    assert imported("--help", cwd=tmp_path) == "0 ['typer']"


# A workspace


def test_an_unchanged_check_answers_from_the_store_and_imports_nothing_heavy(submission):
    stored_check(submission)
    result = mlekit("check", "01", cwd=submission)
    assert result.returncode == 0
    assert "01-baseline is complete" in result.stdout
    assert result.stdout.endswith("unchanged since 2026-01-01 10:00:00; --fresh draws new data\n")
    assert imported("check", "01", cwd=submission / "notebooks") == "0 []"


def test_an_unchanged_check_that_failed_still_fails(submission):
    stored_check(submission, Outcome.FAIL)
    result = mlekit("check", cwd=submission)
    assert result.returncode == 1
    assert "we looked" in result.stdout


def test_an_unchanged_check_prints_json(submission):
    stored_check(submission)
    result = mlekit("check", "baseline", "--json", cwd=submission)
    assert json.loads(result.stdout)["world"] == "7"
    assert "unchanged since" in result.stderr


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "new.py").write_text(""),
        lambda folder: (folder / "pyproject.toml").write_text("[tool.mlekit]\ncontract = 1\n"),
        lambda folder: (folder / "notebooks" / "baseline.ipynb").unlink(),
        lambda folder: os.utime(folder / "pyproject.toml"),
        lambda folder: (folder / "notebooks").rename(folder / "books"),
    ],
)
def test_any_change_of_a_file_ends_the_stored_verdict(submission, change):
    mine, stage = stored_check(submission)
    assert workspace.unchanged(mine, stage, mine.load(stage))
    change(submission)
    assert not workspace.unchanged(mine, stage, mine.load(stage))


def test_caches_and_histories_do_not_end_it(submission):
    mine, stage = stored_check(submission)
    (submission / ".mlekit" / "other").write_text("")
    (submission / "x.pyc").write_text("")
    assert workspace.unchanged(mine, stage, mine.load(stage))


def test_a_verdict_of_another_kit_or_with_something_open_is_not_repeated(submission):
    mine, stage = stored_check(submission, key="0.0.1 x")
    assert not workspace.unchanged(mine, stage, mine.load(stage))
    mine, stage = stored_check(submission, Outcome.NOT_RUN)
    assert not workspace.unchanged(mine, stage, mine.load(stage))
    mine, stage = stored_check(submission, grade=None)
    assert not workspace.unchanged(mine, stage, mine.load(stage))


def test_the_first_incomplete_stage_is_next(submission):
    mine, _ = stored_check(submission, Outcome.FAIL)
    assert workspace.first_incomplete(mine, stages.all_stages()).id == "01"
    mine, _ = stored_check(submission)
    following = workspace.first_incomplete(mine, stages.all_stages())
    assert following is None or following.id == "02"


def test_list_shows_where_each_stage_stands(submission):
    stored_check(submission)
    assert re.search(r"^01  complete  ", mlekit("list", cwd=submission).stdout, re.MULTILINE)
    stored_check(submission, Outcome.FAIL)
    assert re.search(r"^01  begun \(here\)  ", mlekit("list", cwd=submission).stdout, re.MULTILINE)


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"format": 1}', '{"format": 9, "seed": 1}', "\udcff", "[" * 100_000]
)
def test_a_damaged_state_file_is_set_aside_with_a_sentence(submission, damage):
    mine, stage = stored_check(submission)
    mine.state_file(stage).write_bytes(damage.encode("utf-8", "surrogateescape"))
    result = mlekit("list", cwd=submission)
    assert result.returncode == 0
    assert "was damaged" in result.stderr
    assert "Traceback" not in result.stderr
    assert (submission / ".mlekit" / "check-01.json.damaged").exists()
    assert not mine.state_file(stage).exists()


def test_a_state_folder_that_is_a_file_is_refused(submission):
    (submission / ".mlekit").write_text("")
    result = mlekit("check", "01", cwd=submission)
    assert result.returncode == 2
    assert "cannot be written" in result.stderr
    assert "Traceback" not in result.stderr


# Gradings


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """One grading of the starter, with its output and its folder of results."""
    out = tmp_path_factory.mktemp("graded") / "made" / "for it"
    return mlekit("grade", STARTER, "--stage", "01", "--world", "11", "--out", out, "--json", "--want", "complete"), out


def test_a_grading_leaves_the_same_grade_on_stdout_and_in_its_folder(graded):
    result, out = graded
    assert result.returncode == 1, result.stderr
    assert json.loads(result.stdout) == json.loads((out / "grade.json").read_text())
    given = read_grade(out / "grade.json")
    assert given.finished
    assert given.world == "11"
    assert any("small number" in note for note in given.notes)
    assert all(check.reproduce == f"mlekit grade {STARTER} --world 11 --stage 01" for check in given.checks)
    assert sorted(path.name for path in out.iterdir()) == ["grade.json", "report.html", "report.xml"]


def test_a_grading_leaves_a_junit_report(graded):
    root = ET.parse(graded[1] / "report.xml").getroot()
    assert [suite.get("name") for suite in root] == ["01-baseline"]
    assert len(root.findall(".//testcase")) == len(stages.find("01").checks)


def test_progress_without_a_terminal_is_a_line_a_check_on_stderr(graded):
    count = len(stages.find("01").checks)
    lines = [line for line in graded[0].stderr.splitlines() if re.match(r"\[\d+/\d+\] \w+: ", line)]
    assert lines[0].startswith(f"[1/{count}] ")
    assert len(lines) == count
    assert "\x1b" not in graded[0].stderr


def test_verify_agrees_with_an_honest_grade(graded):
    result = mlekit("verify", graded[1] / "grade.json", "--submission", STARTER)
    assert result.returncode == 0, result.stdout
    assert "is consistent" in result.stdout


def test_verify_names_what_was_edited(graded, tmp_path):
    data = json.loads((graded[1] / "grade.json").read_text())
    data["rows"][0]["certain"] = "lead"
    (tmp_path / "edited.json").write_text(json.dumps(data))
    result = mlekit("verify", tmp_path / "edited.json", "--submission", SOLUTION)
    assert result.returncode == 1
    assert "1.1" in result.stdout
    assert "submission" in result.stdout
    assert result.stdout.strip().splitlines()[-1].endswith("is not consistent: 2 differences.")


def test_verify_is_json_for_programs(graded, tmp_path):
    said = json.loads(mlekit("verify", graded[1], "--json").stdout)
    assert said == {"consistent": True, "provisional": False, "differences": []}
    data = json.loads((graded[1] / "grade.json").read_text())
    data["rows"][0]["certain"] = "lead"
    (tmp_path / "odd.json").write_text(json.dumps(data))
    result = mlekit("verify", tmp_path / "odd.json", "--json")
    assert (result.returncode, json.loads(result.stdout)["consistent"]) == (1, False)


@pytest.mark.parametrize(
    "edit",
    [
        lambda data: data.update(format=2),
        lambda data: data.update(checks=None),
        lambda data: data.update(checks=["x"]),
        lambda data: data.update(submission="x"),
        lambda data: data.update(seconds="long"),
        lambda data: data.update(rows=7),
        lambda data: data["checks"][0].update(weight="many"),
        lambda data: data["checks"][0].update(extra=1),
        lambda data: data["checks"][0].pop("stage"),
        lambda data: data.pop("world"),
    ],
)
def test_verify_refuses_what_is_no_grade(graded, tmp_path, edit):
    data = json.loads((graded[1] / "grade.json").read_text())
    edit(data)
    (tmp_path / "odd.json").write_text(json.dumps(data))
    refused(mlekit("verify", tmp_path / "odd.json"), "odd.json")


def test_two_gradings_at_once_in_a_folder_of_any_name(tmp_path):
    folder = tmp_path / "Größe & 変数 (1)"
    shutil.copytree(SOLUTION, folder)
    (folder / "mine.txt").write_text("")
    (tmp_path / "secret").write_bytes(bytes(range(32)))
    options = [["--world", "11", "--want", "complete"], ["--secret", "../secret", "--format", "text"]]
    running = [
        subprocess.Popen(
            [MLEKIT, "grade", folder, "--stage", "01", *more], cwd=folder, text=True, encoding="utf-8",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
        )
        for more in options
    ]  # fmt: skip
    (out, errors), (secret_out, secret_errors) = (process.communicate(timeout=120) for process in running)
    assert [process.returncode for process in running] == [0, 0], errors + secret_errors
    for text in (out, secret_out):
        assert max(map(len, text.splitlines())) <= 80
        assert "\x1b" not in text
        assert text.count("  provided  ") == len(stages.find("01").checks)  # the kit's own work does not count
    assert re.search(r"World secret:[0-9a-f]{8};", secret_out)


def test_a_check_keeps_its_seed_until_a_fresh_one_is_asked_for(submission, monkeypatch, capsys):
    monkeypatch.chdir(submission)
    seeds = []

    def run(folder, checks, drawn, isolation, out=None, cache=None, count_provided=False):
        seeds.append(drawn.seed)
        results = tuple(CheckResult.of(spec, Outcome.FAIL) for spec in checks)
        return assess(
            Grade("0.1.0", 1, drawn.name, "plain", Submission(str(folder), str(len(seeds))), 1.0, 0.5, results)
        ), cli_progress()

    monkeypatch.setattr(cli, "_run", run)
    assert cli.run(["check", "01"]) == 1
    (submission / "new.py").write_text("x = 1")
    assert cli.run(["check", "01"]) == 1
    assert cli.run(["check", "01", "--fresh"]) == 1
    assert seeds[0] == seeds[1] != seeds[2]
    assert fast.answer(["check", "01"]) == 1
    assert "unchanged since" in capsys.readouterr().out
    assert len(seeds) == 3


def test_a_check_during_which_files_change_is_not_stored(submission, monkeypatch, capsys):
    monkeypatch.chdir(submission)

    def run(folder, checks, drawn, isolation, out=None, cache=None, count_provided=False):
        (submission / "meanwhile.py").write_text("")
        results = tuple(CheckResult.of(spec, Outcome.PASS) for spec in checks)
        return assess(Grade("0.1.0", 1, drawn.name, "plain", Submission("x", "y"), 1.0, 0.5, results)), cli_progress()

    monkeypatch.setattr(cli, "_run", run)
    assert cli.run(["check", "01"]) == 0
    assert "files changed while the check ran" in capsys.readouterr().err
    assert fast.answer(["check", "01"]) is None


def cli_progress():
    from grader.report.progress import Progress
    from grader.report.text import Style

    return Progress({}, sys.stderr, Style())


# Exit codes


def outcome_grade(*outcomes, finished=True):
    checks = tuple(
        CheckResult.of(
            CheckSpec(f"baseline.c{n}", "01", "does it", "1.3", Level.JUNIOR, critical=True, required=True), outcome
        )
        for n, outcome in enumerate(outcomes)
    )
    return assess(Grade("0.1.0", 1, "1", "plain", Submission("x", "y"), 1.0, 0.5, checks, finished=finished))


@pytest.mark.parametrize(
    ("outcomes", "want", "code"),
    [
        (["pass", "fail"], None, 0),
        (["pass", "not_run"], None, 0),
        (["pass", "grader_error"], None, 3),
        (["pass", "pass"], "junior", 0),
        (["pass", "fail"], "junior", 1),
        (["pass", "blocked"], "junior", 1),
        (["pass", "not_run"], "junior", 3),
        (["fail", "not_run"], "junior", 1),
        (["pass", "provided"], "junior", 1),
        (["pass", "pass"], "senior", 1),
        (["pass", "provided"], "complete", 0),
        (["pass", "fail"], "complete", 1),
        (["pass", "not_run"], "complete", 3),
        (["fail", "not_run"], "complete", 1),
        (["pass", "grader_error"], "complete", 3),
    ],
)
def test_the_exit_code_says_whether_what_was_wanted_is_reached(outcomes, want, code):
    assert cli.exit_code(outcome_grade(*map(Outcome, outcomes)), want, "1.3") == code


def test_an_interrupted_grading_is_provisional_whatever_it_reached():
    assert cli.exit_code(outcome_grade(Outcome.PASS, finished=False), "junior", "1.3") == 3
