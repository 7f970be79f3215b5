"""The thinnest path through the whole house: a world, the sandbox, checks, verdicts, a level."""

from pathlib import Path

import pytest

from grader import home, stages
from grader.engine import Plan, grade
from grader.sandbox import detect
from grader.verdict import Outcome

ATTACKS = Path(__file__).parent / "pool" / "attacks"
RUNS, LEAK = "baseline.runs_top_to_bottom", "baseline.ignores_after_departure"


@pytest.mark.parametrize(
    ("folder", "passing"),
    [
        (home.exercises() / "01-baseline" / "solution", {RUNS, LEAK}),
        (home.exercises() / "01-baseline" / "starter", {RUNS}),
        (ATTACKS / "prints_passed", set()),
    ],
)
def test_grading_a_notebook_gives_the_verdict_it_earned(folder, passing):
    stage = stages.find("01")
    checks = tuple(c for c in stage.checks if c.id in (RUNS, LEAK))
    result = grade(Plan(folder, checks, 11, "test", detect().rung, 2))
    assert {c.id for c in result.checks if c.outcome is Outcome.PASS} == passing
    assert all(c.outcome in (Outcome.PASS, Outcome.FAIL, Outcome.BLOCKED) for c in result.checks)
