"""A remembered answer is given only while everything it depends on is as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from grader import recall, submission
from grader.overlays import checkpoint

MLEKIT = Path(sys.executable).with_name("mlekit")


def mlekit(folder: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MLEKIT, *argv], cwd=folder, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin", **env}
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A workspace in which stage 01 has been checked once."""
    folder = tmp_path_factory.mktemp("work")
    checkpoint("01", folder)
    first = mlekit(folder, "check", "01")
    assert "ignores" in first.stdout or "uses nothing" in first.stdout
    return folder


def test_what_does_not_count_is_the_same_here_and_in_the_grader():
    assert recall.SKIPPED_FOLDERS == submission.SKIPPED_FOLDERS
    assert recall.SKIPPED_ENDINGS == submission.SKIPPED_ENDINGS


def test_the_remembered_answer_is_word_for_word_the_computed_one(work):
    first, second = mlekit(work, "check", "01"), mlekit(work, "check", "01")
    assert "unchanged since" in first.stdout
    assert (second.stdout, second.returncode) == (first.stdout, first.returncode)
    assert (work / ".mlekit" / "answers" / "check-01").is_file()
    narrow = mlekit(work, "check", "01", COLUMNS="60")
    assert narrow.stdout != first.stdout
    assert max(map(len, narrow.stdout.splitlines())) <= 60


def test_a_changed_progress_is_told_at_once(work):
    first = mlekit(work, "list")
    assert mlekit(work, "list").stdout == first.stdout
    (work / ".mlekit" / "check-01.json").rename(work / "kept")
    assert mlekit(work, "list").stdout != first.stdout
    (work / "kept").rename(work / ".mlekit" / "check-01.json")


def test_an_edited_a_new_and_a_deleted_file_are_noticed(work):
    argv = ["check", "01"]
    before = recall._depends_on(argv, str(work))
    (work / "new.txt").write_text("x")
    added = recall._depends_on(argv, str(work))
    (work / "new.txt").write_text("y" * 9)
    edited = recall._depends_on(argv, str(work))
    (work / "new.txt").unlink()
    assert len({before, added, edited}) == 3
    assert recall._depends_on(argv, str(work)) == before


def test_a_damaged_memory_is_computed_again(work):
    first = mlekit(work, "list")
    (work / ".mlekit" / "answers" / "list").write_bytes(b"\n\0\n")
    assert mlekit(work, "list").stdout == first.stdout


def test_remembering_imports_next_to_nothing(work):
    mlekit(work, "list")
    code = (
        "import sys; sys.argv = ['mlekit', 'list']\nfrom grader.entry import main\nmain()\nprint(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=work, capture_output=True, text=True, check=True, env={})
    loaded = done.stdout.splitlines()[-1].split()
    assert not {"json", "tomllib", "re", "dataclasses", "pathlib", "enum", "typer", "pandas"} & set(loaded)
