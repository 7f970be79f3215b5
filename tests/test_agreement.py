"""`check`, `grade`, what CI runs and another rung of the sandbox say the same of the same work.

What is graded in the same world gets the same verdicts, check by check; `check` draws a world of its own, and there the verdicts are
those that the pool says are right. Attacks are not run as ordinary processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from poolkit import said

from grader import pool, selftest, stages
from grader.pool import Entry, Kind
from grader.sandbox import detect, detect_engine
from grader.verdict import Grade, Outcome, read_grade

EACH = 23  # of the pool, in the long run
SECONDS = 1500
DEFAULT = ("01-sorts_its_answers",)


def asked() -> list[pytest.param]:
    sample = [e for e in pool.entries() if e.kind.right or e.kind is Kind.MUTANT]
    first = [entry for entry in sample if str(entry) in DEFAULT]
    rest = [entry for entry in sample[::EACH] if entry not in first]
    return [pytest.param(entry, id=str(entry)) for entry in first] + [
        pytest.param(entry, id=str(entry), marks=pytest.mark.study) for entry in rest
    ]


def run(*words: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "grader", *map(str, words)], capture_output=True, text=True, check=False, timeout=SECONDS,
        stdin=subprocess.DEVNULL, env={**os.environ, **env},
    )  # fmt: skip


def verdicts(grade: Grade, stage: str) -> dict[str, Outcome]:
    return {check.id: check.outcome for check in grade.checks if check.stage == stage}


def graded(folder: Path, entry: Entry, out: Path, *more: object, **env: str) -> Grade:
    ran = run("grade", folder, "--stage", entry.stage, "--world", entry.seed, "--out", out, *more, **env)
    assert "Traceback" not in ran.stderr, ran.stderr
    return read_grade(out / "grade.json")


@pytest.mark.parametrize("entry", asked())
def test_all_ways_to_grade_say_the_same(entry: Entry, tmp_path):
    entry.lay_down(folder := tmp_path / "submission")
    here = graded(folder, entry, tmp_path / "here")
    wanted = verdicts(here, entry.stage)
    complete = next(stage for stage in here.stages if stage.id == entry.stage).complete
    assert not selftest.problem(entry, wanted, complete), said(here)
    in_ci = graded(folder, entry, tmp_path / "ci", "--format", "github", GITHUB_ACTIONS="true",
                   GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"))  # fmt: skip
    assert verdicts(in_ci, entry.stage) == wanted, said(in_ci)
    for rung in ("plain", *(["docker"] if detect_engine().rung == "docker" else [])):
        if rung != detect().rung:
            other = graded(folder, entry, tmp_path / rung, "--isolation", rung)
            assert verdicts(other, entry.stage) == wanted, f"{rung}: {said(other)}"

    work = tmp_path / "workspace"
    assert run("new", work).returncode == 0
    entry.lay_down(work)
    checked = subprocess.run(
        [sys.executable, "-m", "grader", "check", entry.stage, "--json"], cwd=work, capture_output=True, text=True,
        check=False, timeout=SECONDS, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    (path := tmp_path / "check.json").write_text(checked.stdout)
    mine = read_grade(path)
    found = verdicts(mine, entry.stage)
    assert set(found) == {check.id for check in stages.find(entry.stage).checks}
    problem = selftest.problem(
        entry, found, all(found[c.id] is Outcome.PASS for c in stages.find(entry.stage).checks if c.required)
    )
    assert not problem, f"world {json.loads(checked.stdout).get('world')}: {problem}\n{said(mine)}"
