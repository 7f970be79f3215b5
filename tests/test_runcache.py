"""Finished runs are gone on from when nothing changed, and never otherwise."""

from __future__ import annotations

import os
import shutil

import pytest
from poolkit import POOL, passing, said

from grader import home, stages
from grader.engine import Plan, grade
from grader.runcache import NotKept, RunCache, content_of
from grader.sandbox import Finished, detect

ENDED = Finished("exited", 0, 1.5, "said")


def test_a_second_grading_in_the_same_world_runs_nothing_again_and_finds_the_same(tmp_path):
    plan = Plan(home.reference_solution(), stages.find("01").checks, 3, "3", detect().rung, 2, cache=tmp_path / "runs")
    first, second = grade(plan), grade(plan)
    assert passing(first) == passing(second) == {c.id for c in first.checks}, said(second)
    assert first.submission_seconds > 0
    assert second.submission_seconds == 0


def test_an_edit_of_the_submission_runs_it_again(tmp_path):
    work = tmp_path / "work"
    shutil.copytree(POOL / "attacks" / "prints_passed", work)
    checks = stages.find("01").checks[:1]
    plan = Plan(work, checks, 3, "3", detect().rung, 2, cache=tmp_path / "runs")
    first = grade(plan)
    (work / "note.txt").write_text("changed")
    assert grade(plan).submission_seconds > 0
    assert not passing(first)


@pytest.mark.parametrize("trap", ["link", "fifo"])
def test_only_plain_files_are_kept(tmp_path, trap):
    out = tmp_path / "out"
    out.mkdir()
    (out / "x").symlink_to("/etc/passwd") if trap == "link" else os.mkfifo(out / "x")
    cache = RunCache(tmp_path / "runs")
    cache.keep("k", out, ENDED)
    assert cache.load("k", tmp_path / "again") is None


def test_a_run_that_was_stopped_is_not_kept(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    cache = RunCache(tmp_path / "runs")
    cache.keep("k", out, Finished("time", None, 9.0, ""))
    assert cache.load("k", tmp_path / "again") is None
    cache.keep("k", out, ENDED)
    assert cache.load("k", tmp_path / "again") == ENDED


def test_a_damaged_entry_is_run_again(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    cache = RunCache(tmp_path / "runs")
    cache.keep("k", out, ENDED)
    (tmp_path / "runs" / "k" / "finished.json").write_text("{")
    assert cache.load("k", tmp_path / "again") is None


def test_what_is_given_is_told_apart_by_content_and_never_by_what_a_link_leads_to(tmp_path):
    folder, other = tmp_path / "given", tmp_path / "other"
    folder.mkdir()
    (folder / "a").write_text("1")
    before = content_of(folder)
    (folder / "a").write_text("2")
    assert content_of(folder) != before
    other.write_text("x")
    (folder / "link").symlink_to(other)
    linked = content_of(folder)
    other.write_text("y")
    assert content_of(folder) == linked


@pytest.mark.parametrize("what", ["without end", "deep"])
def test_what_is_too_large_or_too_deep_is_not_kept(tmp_path, what):
    folder = tmp_path / "given"
    folder.mkdir()
    if what == "deep":
        here = os.open(folder, os.O_RDONLY)
        for _ in range(30):
            os.mkdir("d" * 200, dir_fd=here)
            here, before = os.open("d" * 200, os.O_RDONLY, dir_fd=here), here
            os.close(before)
        os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.close(here)
    else:
        with (folder / "large").open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(NotKept):
        content_of(folder)


def test_a_link_among_the_kept_runs_leads_nowhere(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a").symlink_to("/")
    RunCache(tmp_path / "runs")
    assert (tmp_path / "runs" / "a").is_symlink()
