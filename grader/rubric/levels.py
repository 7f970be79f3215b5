"""The level rule, as pure functions over verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from grader.verdict import LEVELS, OPEN, CheckResult, Grade, Level, Outcome, RowResult, StageResult


@dataclass(frozen=True)
class Rule:
    """Bars of the rule: the share of non-critical weight, and how many stages the passes must come from."""

    quota: float = 0.60
    stages: int = 2


def met(checks: Iterable[CheckResult], passed: frozenset[str], level: Level, rule: Rule) -> bool:
    """Whether one level is met, given which checks passed."""
    at = [c for c in checks if c.level == level]
    rest = [c for c in at if not c.critical]
    need = min(rule.stages, len({c.stage for c in at}))
    return (
        bool(at)
        and all(c.id in passed for c in at if c.critical)
        and sum(c.weight for c in rest if c.id in passed) >= rule.quota * sum(c.weight for c in rest) - 1e-9
        and len({c.stage for c in at if c.id in passed}) >= need
    )


def level_of(checks: Iterable[CheckResult], passed: frozenset[str], rule: Rule) -> Level | None:
    """The highest level that is met together with all lower ones."""
    checks = list(checks)
    reached = None
    for level in LEVELS:
        if not met(checks, passed, level, rule):
            break
        reached = level
    return reached


def assess(grade: Grade, rule: Rule | None = None) -> Grade:
    """The grade with its stages and rows computed from its checks."""
    rule = rule or Rule()
    rows = []
    for row in sorted({c.row for c in grade.checks}):
        mine = [c for c in grade.checks if c.row == row]
        sure = frozenset(c.id for c in mine if c.outcome is Outcome.PASS)
        perhaps = sure | {c.id for c in mine if c.outcome in OPEN}
        rows.append(RowResult(row, level_of(mine, sure, rule), level_of(mine, perhaps, rule), ""))
    stages = [
        StageResult(
            s, all(c.outcome in (Outcome.PASS, Outcome.PROVIDED) for c in grade.checks if c.stage == s and c.required)
        )
        for s in sorted({c.stage for c in grade.checks})
    ]
    return replace(grade, rows=tuple(rows), stages=tuple(stages))
