"""A learner's folder: made, moved between stages, hinted at, explained; and nothing of theirs is ever lost."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from clikit import MLEKIT, imported, mlekit, refused, stored_check

from grader import fast, hints, home, laying, progress, stages, workspace
from grader.overlays import checkpoint
from grader.verdict import Outcome
from grader.world.verify import verify_folder

FIRST, SECOND = stages.find("01"), stages.find("02")
NOTEBOOK = Path("notebooks/baseline.ipynb")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace as `mlekit new` makes it, and what it said."""
    folder = tmp_path_factory.mktemp("made")
    return folder / "my work", mlekit("new", "my work", cwd=folder)


@pytest.fixture
def mine(made, tmp_path):
    """A copy of it to work in."""
    shutil.copytree(made[0], tmp_path / "mine")
    return workspace.Workspace(tmp_path / "mine")


def tree(folder):
    """Every file below a folder, with what it holds, except the kit's own state."""
    files = (p for p in folder.rglob("*") if p.is_file() and workspace.STATE not in p.parts)
    return {p.relative_to(folder): p.read_bytes() for p in files}


def backups(mine):
    return sorted((mine.folder / ".mlekit" / "backups").glob("*"))


# new


def test_new_lays_down_a_workspace_with_the_starter_briefs_data_and_workflow(made):
    folder, result = made
    assert result.returncode == 0, result.stderr
    assert "cd 'my work'" in result.stdout
    assert "briefs/01-baseline/README.md, then notebooks/baseline.ipynb" in result.stdout
    assert (folder / NOTEBOOK).read_bytes() == (FIRST.folder / "starter" / NOTEBOOK).read_bytes()
    assert [p.name for p in sorted((folder / "data" / "flights").iterdir())] == [
        f"2013-0{m}.parquet" for m in range(1, 7)
    ]
    assert list(verify_folder(folder / "data")) == []
    assert (folder / "rows.parquet").is_file()
    assert not list(folder.parent.glob(".my work*"))


def test_links_of_the_briefs_lead_somewhere_in_the_workspace(made):
    folder, _ = made
    pages = list((folder / "briefs").rglob("*.md"))
    assert len(pages) == 2 + len(stages.all_stages())
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page}: {link}"


def test_the_workflow_of_a_workspace_calls_the_installed_version_with_options_that_exist(made):
    written = yaml.safe_load((made[0] / ".github/workflows/mlekit.yml").read_text())
    runs = [step["run"] for step in written["jobs"]["grade"]["steps"] if "run" in step]
    assert runs[-2] == 'pip install "mlekit==0.1.0"'
    said = mlekit("grade", "--help").stdout
    assert all(option in said for option in re.findall(r"--[a-z]+", runs[-1]))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("full", ["full is there already"]),
        ("file", ["file is there already"]),
        ("file/below", ["file/below", "cannot be made"]),
        ("full/.mlekit/inner", ["would lie in the workspace", "--inside"]),
        ("full/inner", ["would lie in the workspace", "--inside"]),
    ],
)
def test_new_refuses_a_place_that_is_taken_or_lies_in_another_workspace(tmp_path, given, words):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "pyproject.toml").write_text("[tool.mlekit]\ncontract = 1\n")
    (tmp_path / "file").write_text("mine")
    before = tree(tmp_path)
    refused(mlekit("new", given, cwd=tmp_path), *words)
    assert tree(tmp_path) == before


def test_new_makes_a_workspace_of_a_later_stage_on_the_kits_work_for_those_before(tmp_path):
    assert mlekit("new", "here", "--stage", "02", cwd=tmp_path).returncode == 0
    (tmp_path / "empty").mkdir()
    files = tree(tmp_path / "here")
    assert files[NOTEBOOK] == (FIRST.folder / "solution" / NOTEBOOK).read_bytes()
    assert files[Path("flightdelay/train.py")] == (SECOND.folder / "starter/flightdelay/train.py").read_bytes()
    assert progress.load(workspace.find(tmp_path / "here")).stage == "02"


def test_an_interrupted_new_leaves_nothing(tmp_path):
    running = subprocess.Popen([MLEKIT, "new", "work"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".work-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=30)
    assert running.returncode == 130, errors
    assert list(tmp_path.iterdir()) == []


# Where one is


def test_commands_work_from_any_folder_below(mine):
    for command in (["list"], ["next"], ["hint"]):
        result = mlekit(*command, cwd=mine.folder / "data" / "flights")
        assert result.returncode == 0, result.stderr
        assert result.stdout


@pytest.mark.parametrize(
    "command", [["next"], ["hint"], ["why", "baseline.calibrated"], ["goto", "02"], ["reset"], ["solution"], ["watch"]]
)
def test_outside_a_workspace_they_say_how_to_get_into_one(tmp_path, command):
    refused(mlekit(*command, cwd=tmp_path), "is not in a workspace", "mlekit new")


def test_list_next_and_hint_import_nothing_heavy(mine):
    for command in ("list", "next", "hint"):
        assert imported(command, cwd=mine.folder) == "0 []"


def test_next_names_the_check_to_look_at_first(mine):
    result = mlekit("next", cwd=mine.folder)
    assert "mlekit check" in result.stdout
    stored_check(mine.folder, Outcome.FAIL)
    result = mlekit("next", cwd=mine.folder)
    first = next(c for c in FIRST.checks if c.required or c.critical)
    assert f"mlekit hint {first.id}" in result.stdout
    assert "Files have changed" not in result.stdout
    assert json.loads(mlekit("next", "--json", cwd=mine.folder).stdout)["check"] == first.id
    assert progress.load(mine).stage == "01"


def test_next_says_that_files_have_changed_since_the_check_it_speaks_of(mine):
    stored_check(mine.folder, Outcome.FAIL)
    (mine.folder / NOTEBOOK).write_text("changed since")
    assert "Files have changed since you checked" in mlekit("next", cwd=mine.folder).stdout


def test_next_lays_down_the_following_stage_once_the_one_at_work_is_complete(mine):
    notebook = mine.folder / NOTEBOOK
    notebook.write_text("my own")
    (mine.folder / "flightdelay").mkdir()
    (mine.folder / "flightdelay" / "train.py").write_text("my own")
    stored_check(mine.folder)
    result = mlekit("next", cwd=mine.folder)
    assert result.returncode == 0, result.stderr
    assert notebook.read_text() == (mine.folder / "flightdelay" / "train.py").read_text() == "my own"
    aside = mine.folder / ".mlekit/starters/02-package/flightdelay/train.py"
    assert aside.read_bytes() == (SECOND.folder / "starter/flightdelay/train.py").read_bytes()
    assert ".mlekit/starters/02-package/flightdelay/train.py" in result.stdout
    assert (mine.folder / "flightdelay" / "predict.py").is_file()
    assert progress.load(mine).stage == "02"
    assert not backups(mine)


def test_nothing_advances_by_itself(mine):
    stored_check(mine.folder)
    assert "mlekit next" in mlekit("check", cwd=mine.folder).stdout
    assert "01  complete (here)" in mlekit("list", cwd=mine.folder).stdout
    assert progress.load(mine).stage == "01"


def test_list_is_json_for_programs(mine, tmp_path):
    stored_check(mine.folder)
    rows = json.loads(mlekit("list", "--json", cwd=mine.folder).stdout)
    assert [row["stage"] for row in rows] == [stage.id for stage in stages.all_stages()]
    assert (rows[0]["state"], rows[0]["here"], rows[1]["state"]) == ("complete", True, "-")
    assert json.loads(mlekit("list", "--json", cwd=tmp_path).stdout)[0]["state"] is None


# goto and reset


def test_going_to_a_stage_and_back_loses_nothing(mine):
    (mine.folder / NOTEBOOK).write_text("my own")
    (mine.folder / "mine.py").write_text("x = 1")
    assert mlekit("goto", "2", cwd=mine.folder).returncode == 0
    files = tree(mine.folder)
    assert files[NOTEBOOK] == (FIRST.folder / "solution" / NOTEBOOK).read_bytes()
    assert files[Path("mine.py")] == b"x = 1"
    (kept,) = backups(mine)
    assert (kept / NOTEBOOK).read_text() == "my own"
    (mine.folder / "flightdelay" / "train.py").write_text("my package")
    result = mlekit("goto", "baseline", cwd=mine.folder)
    assert "moved away  flightdelay/train.py" in result.stdout
    assert not (mine.folder / "flightdelay" / "train.py").exists()
    (kept,) = (b for b in backups(mine) if b.name.endswith("goto-01-baseline"))
    assert (kept / "flightdelay" / "train.py").read_text() == "my package"
    assert (mine.folder / "mine.py").read_text() == "x = 1"
    assert progress.load(mine).stage == "01"


def test_a_reset_keeps_what_was_there_and_touches_only_the_starter(mine):
    (mine.folder / NOTEBOOK).write_text("my own")
    (mine.folder / "README.md").write_text("mine")
    result = mlekit("reset", "--json", cwd=mine.folder)
    said = json.loads(result.stdout)
    assert said["replaced"] == [str(NOTEBOOK)]
    assert (mine.folder / said["backup"] / NOTEBOOK).read_text() == "my own"
    assert (mine.folder / NOTEBOOK).read_bytes() == (FIRST.folder / "starter" / NOTEBOOK).read_bytes()
    assert (mine.folder / "README.md").read_text() == "mine"
    assert mlekit("reset", cwd=mine.folder).returncode == 0
    assert len(backups(mine)) == 1  # nothing was changed the second time, so nothing had to be kept


def test_two_backups_of_one_second_do_not_meet(mine):
    for text in ("one", "two", "three"):
        (mine.folder / NOTEBOOK).write_text(text)
        laying.restore(mine, laying.starter(FIRST), "reset")
    assert sorted((b / NOTEBOOK).read_text() for b in backups(mine)) == ["one", "three", "two"]


@pytest.mark.parametrize("what", ["folder", "link"])
def test_what_cannot_be_replaced_is_refused_before_anything_changes(mine, tmp_path, what):
    shutil.rmtree(mine.folder / "notebooks")
    (tmp_path / "elsewhere").mkdir()
    if what == "folder":
        (mine.folder / NOTEBOOK).mkdir(parents=True)
    else:
        (mine.folder / "notebooks").symlink_to(tmp_path / "elsewhere")
    before = tree(mine.folder)
    refused(mlekit("goto", "02", cwd=mine.folder), str(mine.folder / "notebooks"), "move it away")
    assert tree(mine.folder) == before
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_link_in_place_of_a_file_is_replaced_and_what_it_points_to_stays(mine, tmp_path):
    (tmp_path / "target").write_text("mine")
    (mine.folder / NOTEBOOK).unlink()
    (mine.folder / NOTEBOOK).symlink_to(tmp_path / "target")
    assert mlekit("reset", cwd=mine.folder).returncode == 0
    assert (tmp_path / "target").read_text() == "mine"
    assert not (mine.folder / NOTEBOOK).is_symlink()


# hint


def test_hints_come_one_by_one_and_the_last_stays(mine):
    titles = [hint.title for hint in hints.of_stage(FIRST)]
    said = [mlekit("hint", cwd=mine.folder).stdout for _ in range(4)]
    for text, title in zip(said, [*titles, titles[-1]], strict=True):
        assert " ".join(title.split()) in " ".join(text.split())
    assert "That was the last" in said[-1]
    again = " ".join(mlekit("hint", "--again", cwd=mine.folder).stdout.split())
    assert all(title in again for title in titles)
    assert progress.load(mine).hints == {"01": 3}


def test_a_hint_for_a_check_does_not_count(mine):
    result = mlekit("hint", "baseline.calibrated", cwd=mine.folder)
    assert result.stdout.startswith("baseline.calibrated\n")
    assert progress.load(mine).hints == {}
    refused(mlekit("hint", "baseline.calibrate", cwd=mine.folder), "baseline.calibrate", "baseline.calibrated")


def test_hints_fit_the_page(mine):
    for stage in stages.all_stages():
        for check in stage.checks:
            for line in mlekit("hint", check.id, cwd=mine.folder).stdout.splitlines():
                assert len(line) <= 80 or line.startswith("    "), line


def test_at_the_end_stages_that_goto_skipped_are_told_apart_from_those_that_are_open(tmp_path, capsys):
    checkpoint("03", tmp_path / "w", starter=True)
    assert fast._at_the_end(workspace.Workspace(tmp_path / "w"), stages.all_stages()[-1]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Not checked or not complete: 03-data-contract" in said
    assert "Skipped with goto, so the kit's work stands there: 01-baseline, 02-package." in said
    assert "Next: mlekit check 03" in said


# why


def test_why_lays_down_rows_files_a_report_and_a_script_that_runs_again(mine):
    result = mlekit("why", "baseline.ignores_after_departure", cwd=mine.folder)
    assert result.returncode == 1, result.stderr
    case = mine.folder / ".mlekit/why/baseline.ignores_after_departure"
    rows = (case / "moved.csv").read_text().splitlines()
    assert rows[0].startswith("row_id,probability,probability_again")
    assert 1 < len(rows) <= 51
    assert "<svg" in (case / "report.html").read_text() or "after-departure" in (case / "report.html").read_text()
    (script,) = case.glob("*-run/run.sh")
    assert f"sh {script.relative_to(mine.folder)}" in result.stdout
    written = script.parent / "wrote" / "out" / "predictions.parquet"
    written.unlink()
    left = written.with_name("of-the-last-run")
    for _ in range(2):
        left.write_text("a program may rely on an empty folder")
        assert subprocess.run(["sh", script], capture_output=True, check=False, cwd=mine.folder.parent).returncode == 0
        assert written.is_file()
        assert not left.exists()
    report = (case / "report.html").read_text()
    assert "mlekit</span> <span>why</span>" in report
    assert "mlekit</span> <span>grade" not in report
    assert not [p for p in case.rglob("*") if "hidden" in p.name]


def test_why_of_an_unknown_check_lists_those_that_exist(mine):
    refused(mlekit("why", "baseline.xyzzy", cwd=mine.folder), "baseline.xyzzy", "baseline.calibrated")


# solution


def test_a_solution_is_shown_after_the_stage_is_complete_or_early_on_record(mine):
    refused(mlekit("solution", cwd=mine.folder), "not complete", "--early")
    assert not (mine.folder / ".mlekit/solutions").exists()
    early = mlekit("solution", "--early", cwd=mine.folder)
    assert early.returncode == 0, early.stderr
    assert "01" in progress.load(mine).solutions
    laid = mine.folder / ".mlekit/solutions/01-baseline" / NOTEBOOK
    assert laid.read_bytes() == (home.exercises() / "01-baseline/solution" / NOTEBOOK).read_bytes()
    diff = mlekit("solution", "--early", "--diff", cwd=mine.folder).stdout
    assert re.search(r'^-.*"dep_delay": table\["dep_delay_min"\],$', diff, re.MULTILINE)


def test_a_solution_seen_after_completion_is_not_recorded(mine):
    stored_check(mine.folder)
    assert mlekit("solution", cwd=mine.folder).returncode == 0
    assert progress.load(mine).solutions == {}


# What was damaged, made by another kit, or cannot be written


@pytest.mark.parametrize(
    "text",
    [
        "",
        "stage = 3",
        "kit = ",
        "kit = '1'\n[hints]\n01 = 'x'",
        "kit='1'\nhints = 3",
        "\x00",
        "kit = '1'\n[hints]\n01 = true",
    ],
)
def test_a_damaged_progress_file_is_set_aside_and_said_so(mine, text):
    path = progress.path_of(mine)
    path.write_text(text)
    result = mlekit("next", cwd=mine.folder)
    assert result.returncode == 0
    assert "Traceback" not in result.stderr
    assert "damaged" in result.stderr
    assert path.with_name("progress.toml.damaged").read_text() == text


def test_progress_names_of_stages_that_do_not_exist_are_not_trusted(mine):
    progress.save(mine, replace(progress.load(mine), stage="99"))
    assert progress.current(mine) == FIRST


def test_a_workspace_of_another_kit_is_told_by_the_doctor(mine):
    path = progress.path_of(mine)
    path.write_text(path.read_text().replace('kit = "0.1.0"', 'kit = "0.0.9"'))
    result = mlekit("doctor", "--json", cwd=mine.folder)
    (found,) = [one for one in json.loads(result.stdout)["found"] if one["name"] == "workspace"]
    assert found["state"] == "warning"
    assert "0.0.9" in found["found"]
    assert "mlekit goto 01" in found["fix"]


def test_the_doctor_looks_at_everything_and_says_what_to_do(tmp_path):
    result = mlekit("doctor", cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    for name in ("python", "packages", "isolation", "containers", "ports", "disk", "memory", "data", "workspace"):
        assert re.search(rf"^{name} ", result.stdout, re.MULTILINE)
    assert "mlekit new DIR" in result.stdout


def test_the_doctor_tells_packages_without_bytecode_and_how_to_compile_them(monkeypatch, tmp_path):
    from grader import doctor

    for name in ("__init__", "a", "b"):
        (tmp_path / f"{name}.py").write_text("VALUE = 1\n")
    monkeypatch.setattr(doctor, "_folder_of", lambda package: tmp_path)
    (found,) = doctor._bytecode()
    assert found.state == "warning"
    assert "mlflow" in found.found
    assert "-m compileall" in found.fix
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(tmp_path)], check=True)
    assert [found.state for found in doctor._bytecode()] == ["ok"]


def test_the_doctor_tells_a_package_of_another_version(monkeypatch):
    from grader import doctor

    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda name: "0.0.1" if name == "pandas" else "999")
    (found,) = doctor._packages()
    assert found.state == "wrong"
    assert "pandas is 0.0.1" in found.found


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_workspace_that_cannot_be_written_is_refused_with_the_reason(mine):
    (mine.folder / ".mlekit").chmod(0o555)
    try:
        refused(mlekit("check", cwd=mine.folder), "cannot be written")
        assert mlekit("hint", cwd=mine.folder).returncode == 0
    finally:
        (mine.folder / ".mlekit").chmod(0o755)


# What is not what it seems


def test_briefs_that_were_edited_stay(mine):
    brief = mine.folder / "briefs/01-baseline/README.md"
    brief.write_text("my notes")
    (mine.folder / "briefs/CONTRACT.md").unlink()
    for command in (["reset"], ["goto", "02"], ["goto", "01"]):
        assert mlekit(*command, cwd=mine.folder).returncode == 0
        assert brief.read_text() == "my notes"
    assert (mine.folder / "briefs/CONTRACT.md").is_file()


@pytest.mark.parametrize(
    ("link", "command"),
    [
        ("briefs", ["reset"]),
        (".mlekit/solutions", ["solution", "--early"]),
        (".mlekit/why", ["why", "baseline.calibrated"]),
        (".mlekit/runs", ["check"]),
        (".mlekit/backups", ["reset"]),
        (".mlekit", ["hint"]),
        (".mlekit", ["next"]),
    ],
)
def test_nothing_is_written_or_removed_through_a_link(mine, tmp_path, link, command):
    (mine.folder / NOTEBOOK).write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    for name in ("01-baseline", "baseline.calibrated", "a"):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "thesis.txt").write_text("mine")
    place = mine.folder / link
    if place.is_dir():
        shutil.rmtree(place)
    place.symlink_to(elsewhere)
    before = tree(elsewhere)
    refused(mlekit(*command, cwd=mine.folder), link, "link")
    assert tree(elsewhere) == before
    assert (mine.folder / NOTEBOOK).read_text() == "mine"


@pytest.mark.parametrize("name", ["pyproject.toml", ".mlekit/progress.toml", ".mlekit/check-01.json"])
@pytest.mark.parametrize("what", ["fifo", "without end", "brackets"])
def test_an_odd_file_makes_nobody_wait(mine, name, what):
    path = mine.folder / name
    path.unlink(missing_ok=True)
    if what == "fifo":
        os.mkfifo(path)
    elif what == "brackets":
        path.write_text("x = " + "[" * 100_000)
    else:
        with path.open("wb") as file:
            file.truncate(1 << 33)
    for command in ("list", "next", "hint"):
        began = time.monotonic()
        result = mlekit(command, cwd=mine.folder)
        assert result.returncode in (0, 2), result.stderr
        assert "Traceback" not in result.stderr
        assert "fault of the kit" not in result.stderr
        assert time.monotonic() - began < 20


def test_a_folder_that_is_gone_is_said_so(tmp_path):
    (tmp_path / "gone").mkdir()
    for command in ("hint", "next", "check", "doctor", "new x"):
        line = f"cd gone && rmdir ../gone && {MLEKIT} {command}; mkdir ../gone"
        done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "is not there any more" in done.stderr, done.stderr


def test_a_missing_pyproject_is_laid_down_again_by_a_reset(mine):
    (mine.folder / "pyproject.toml").unlink()
    refused(mlekit("check", cwd=mine.folder), "pyproject.toml")
    assert mlekit("reset", cwd=mine.folder).returncode == 0
    assert "contract = 1" in (mine.folder / "pyproject.toml").read_text()


def test_an_interrupted_check_keeps_what_was_found_before(mine):
    stored_check(mine.folder)
    notebook = mine.folder / NOTEBOOK
    notebook.write_text(notebook.read_text() + " ")
    running = subprocess.Popen(
        [MLEKIT, "check"], cwd=mine.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(4)
    running.send_signal(signal.SIGINT)
    out, errors = running.communicate(timeout=60)
    assert "interrupted" in errors
    assert out == ""
    kept = mine.load(FIRST)
    assert kept is not None
    assert kept.complete
    assert "changed (here)" in mlekit("list", cwd=mine.folder).stdout


def test_going_to_a_stage_forgets_what_was_found_of_it(mine):
    stored_check(mine.folder)
    assert mlekit("goto", "01", cwd=mine.folder).returncode == 0
    assert mine.load(FIRST) is None


def test_names_that_nearly_fit_are_suggested_and_endings_are_enough(mine):
    refused(mlekit("hint", "baseline.calibratd", cwd=mine.folder), "did you mean baseline.calibrated")
    assert mlekit("hint", "calibrated", cwd=mine.folder).stdout.startswith("baseline.calibrated")
    following = f"{len(stages.all_stages()) + 1:02d}"
    if int(following) <= stages.PLANNED:
        refused(mlekit("check", following, cwd=mine.folder), f"stage {following} is not there yet")


# watch


class Watching:
    """`mlekit watch` in a terminal of its own."""

    def __init__(self, folder):
        master, slave = pty.openpty()
        self.running = subprocess.Popen(
            [MLEKIT, "watch"], cwd=folder, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**os.environ, "COLUMNS": "80"},
        )  # fmt: skip
        os.close(slave)
        os.set_blocking(master, False)
        self.master, self.text = master, ""

    def until(self, pattern, seconds=60):
        """What was printed up to the pattern."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self.text += os.read(self.master, 65536).decode(errors="replace")
            except (BlockingIOError, OSError):
                time.sleep(0.02)
            found = re.search(pattern, self.text)
            if found:
                seen, self.text = self.text[: found.end()], self.text[found.end() :]
                return seen
        raise AssertionError(f"{pattern!r} did not come: {self.text[-2000:]}")

    def end(self):
        self.running.send_signal(signal.SIGINT)
        self.running.wait(30)
        os.close(self.master)


def test_watch_checks_at_a_change_one_at_a_time_and_ends_clean(mine):
    notebook = mine.folder / NOTEBOOK
    broken = {
        "cells": [{"cell_type": "code", "source": "stop", "metadata": {}, "outputs": [], "execution_count": None}]
    }
    notebook.write_text(json.dumps({**broken, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}))
    watching = Watching(mine.folder)
    try:
        assert "FAIL" in watching.until("Waiting for changes")
        refused(mlekit("watch", cwd=mine.folder), "another `mlekit watch`")
        (mine.folder / "data" / "new.parquet").write_text("notebooks write here, and that is no change of the work")
        notebook.write_text(notebook.read_text().replace("stop", "stop_there"))
        assert "baseline.ipynb changed" in " ".join(watching.until("Waiting for changes").split())
    finally:
        watching.end()
    assert watching.running.returncode == 0
    assert mlekit("hint", cwd=mine.folder).returncode == 0
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(mine.folder) not in left


FULL = """
mount -t tmpfs -o size=200k tmpfs "$1" && cp -r "$2/." "$1" && cd "$1" || exit 99
dd if=/dev/zero of=fill bs=1k count=1000 2>/dev/null
for line in "check" "next" "hint" "list" "goto 02" "reset" "why baseline.calibrated" "solution --early" "new other"; do
    "$3" $line >/dev/null 2>"$1.said"; echo "$line: $? $(tail -n 1 "$1.said")"
done
cmp notebooks/baseline.ipynb "$2/notebooks/baseline.ipynb" && echo kept
"""


def test_on_a_full_disk_commands_say_so_and_nothing_is_lost(tmp_path):
    (tmp_path / "disk").mkdir()
    line = ["unshare", "-Urm", "sh", "-c", FULL, "sh", tmp_path / "disk", FIRST.folder / "starter", MLEKIT]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tmp_path)
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("this machine lets nobody mount a small disk")
    answers = dict(re.findall(r"^([a-z]+).*: (\d+) ", done.stdout, re.MULTILINE))
    assert answers == {
        "check": "2",
        "next": "0",
        "hint": "0",
        "list": "0",
        "goto": "2",
        "reset": "2",
        "why": "2",
        "solution": "2",
        "new": "2",
    }
    assert "kept" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
