"""The level rule, as pure functions over verdicts.

A level of a row is met when all its critical checks pass, the passing rest carries the quota of the weight, and the
passes come from enough stages. The level of a row is the highest that is met together with all below it. What
decides is a `Standing`; the sentence and the next steps are made from the same one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from grader.rubric.rubric import Row, Rubric, RubricProblem, load
from grader.verdict import LEVELS, OPEN, CheckResult, CheckSpec, Grade, Level, Outcome, RowResult, StageResult

Check = CheckSpec | CheckResult
State = tuple[int, frozenset[str] | None]  # points so far, and stages so far or None for enough of them


@dataclass(frozen=True)
class Rule:
    """Bars of the rule: the share of non-critical weight, and how many stages the passes must come from."""

    quota: float = 0.60
    stages: int = 2


@dataclass(frozen=True)
class Standing:
    """Where the checks of one level of one row stand, given which of them count as passed.

    `critical` are all critical checks and `gaps` those not passed; `points` of `total` is the passed weight of the
    rest, `needed` the bar; `stages` are those with a pass, `breadth` how many there have to be.
    """

    level: Level
    checks: tuple[Check, ...]
    critical: tuple[Check, ...]
    gaps: tuple[Check, ...]
    points: int
    needed: int
    total: int
    stages: frozenset[str]
    breadth: int

    @property
    def met(self) -> bool:
        """Whether the level is met; a level without checks never is."""
        return not self.gaps and self.enough_points and self.enough_stages

    @property
    def enough_points(self) -> bool:
        return self.points >= self.needed

    @property
    def enough_stages(self) -> bool:
        return len(self.stages) >= self.breadth


def standing(checks: Iterable[Check], passed: frozenset[str], level: Level, rule: Rule) -> Standing:
    """Where one level stands, for the checks of one row and the ids of those that count as passed."""
    at = tuple(c for c in checks if c.level == level)
    critical = tuple(c for c in at if c.critical)
    rest = [c for c in at if not c.critical]
    total = sum(c.weight for c in rest)
    return Standing(
        level=level,
        checks=at,
        critical=critical,
        gaps=tuple(c for c in critical if c.id not in passed),
        points=sum(c.weight for c in rest if c.id in passed),
        needed=math.ceil(round(rule.quota * total, 6)),  # .6 * 5 is a little more than 3 in binary
        total=total,
        stages=frozenset(c.stage for c in at if c.id in passed),
        breadth=max(1, min(rule.stages, len({c.stage for c in at}))),  # at least 1: no pass, no level
    )


def highest(standings: Iterable[Standing]) -> Level | None:
    """The highest level that is met together with all before it."""
    met = [at.level for at in takewhile(lambda at: at.met, standings)]
    return met[-1] if met else None


def assess(grade: Grade, rule: Rule | None = None, rubric: Rubric | None = None) -> Grade:
    """The grade with its stages and rows computed from its checks, one row for each row of the rubric.

    `grade.checks` is the manifest: a check of the route that did not run belongs in it, as not_run. Raises
    RubricProblem where the rubric's level names are not those that checks are tagged with.
    """
    rule, rubric = rule or Rule(), rubric or load()
    levels = _levels(rubric)
    rows = tuple(_assess_row(row, [c for c in grade.checks if c.row == row.id], levels, rule) for row in rubric.rows)
    names = sorted({c.stage for c in grade.checks})
    stages = tuple(StageResult(name, stage_complete(name, grade.checks)) for name in names)
    return replace(grade, rows=rows, stages=stages)


def stage_complete(stage: str, checks: Iterable[CheckResult]) -> bool:
    """Whether all required checks of a stage (critical ones and those so marked) pass or are provided.

    A stage without required checks among `checks` is not complete: nothing was shown.
    """
    required = [c for c in checks if c.stage == stage and (c.required or c.critical)]
    return bool(required) and all(c.outcome in (Outcome.PASS, Outcome.PROVIDED) for c in required)


def reach(checks: Iterable[Check], rule: Rule | None = None, rubric: Rubric | None = None) -> dict[str, Level | None]:
    """The most each row can show with these checks: the level when every one of them passes."""
    rule, rubric = rule or Rule(), rubric or load()
    levels, checks = _levels(rubric), tuple(checks)
    every = frozenset(c.id for c in checks)
    return {
        row.id: highest(standing((c for c in checks if c.row == row.id), every, level, rule) for level in levels)
        for row in rubric.rows
    }


def cheapest(at: Standing, passed: frozenset[str], rule: Rule) -> tuple[str, ...]:
    """The checks with the least effort whose passing, on top of `passed`, meets the level; critical ones first.

    Empty where the level is met or has no checks. The others follow by effort per weight. Equal efforts are settled
    by fewer checks, then by name, so that the answer does not change between runs.
    """
    if at.met or not at.checks:
        return ()
    chosen = frozenset(c.id for c in at.gaps)
    after = standing(at.checks, passed | chosen, at.level, rule)
    rest = sorted((c for c in at.checks if c.id not in passed | chosen), key=lambda c: c.id)

    # Cheapest way to each state (points, stages), check by check: a knapsack. Both parts stop growing once there is
    # enough (None), so a cell of twenty checks has some hundred states, not a million subsets.
    def state(points: int, stages: frozenset[str] | None) -> State:
        enough = stages is None or len(stages) >= after.breadth
        return min(points, after.needed), None if enough else stages

    best: dict[State, tuple[int, int, tuple[str, ...]]] = {state(after.points, after.stages): (0, 0, ())}
    for check in rest:
        for (points, stages), (effort, count, ids) in list(best.items()):
            key = state(points + check.weight, None if stages is None else stages | {check.stage})
            way = (effort + check.effort, count + 1, (*ids, check.id))
            best[key] = min(way, best.get(key, way))
    chosen |= set(best[after.needed, None][2])
    return tuple(c.id for c in sorted((c for c in at.checks if c.id in chosen), key=_order))


def _order(check: Check) -> tuple[bool, float, str]:
    """Critical first, then the least effort per weight; weight 0 last."""
    return not check.critical, check.effort / check.weight if check.weight else math.inf, check.id


def _levels(rubric: Rubric) -> tuple[Level, ...]:
    known = [level.value for level in LEVELS]
    if list(rubric.levels) != [name for name in known if name in rubric.levels]:
        raise RubricProblem(
            f"levels is {list(rubric.levels)!r}; checks are tagged with {', '.join(known)}, "
            "so a rubric that levels are computed with has some or all of these, in this order"
        )
    return tuple(Level(name) for name in rubric.levels)


def _assess_row(row: Row, checks: Sequence[CheckResult], levels: tuple[Level, ...], rule: Rule) -> RowResult:
    passed = frozenset(c.id for c in checks if c.outcome is Outcome.PASS)
    perhaps = passed | {c.id for c in checks if c.outcome in OPEN}
    now = [standing(checks, passed, level, rule) for level in levels]
    certain = highest(now)
    ceiling = highest(standing(checks, perhaps, level, rule) for level in levels)
    above = next((at for at in now if not at.met), None)
    return RowResult(
        row=row.id,
        certain=certain,
        ceiling=ceiling,
        because=_because(row, now, {c.id: c.outcome for c in checks}, passed, rule),
        next=() if above is None else cheapest(above, passed, rule),
    )


def _because(
    row: Row, now: Sequence[Standing], outcomes: Mapping[str, Outcome], passed: frozenset[str], rule: Rule
) -> str:
    """Why the row is where it is: the highest level met, then what keeps the next from being met."""
    reached = sum(1 for _ in takewhile(lambda at: at.met, now))
    sentences = [_met(now[reached - 1], rule)] if reached else []
    if reached < len(now):
        at = now[reached]
        sentences.append(_unmet(at, outcomes, rule) if at.checks else _for_people(row, at.level))
        higher = [c for other in now[reached + 1 :] for c in other.checks]
        if not at.checks and higher:
            count = sum(c.id in passed for c in higher)
            sentences.append(
                f"Above it {count} of {len(higher)} {_plural('check passes', 'checks pass', len(higher))}."
            )
    return " ".join(sentences)


def _met(at: Standing, rule: Rule) -> str:
    parts = []
    if len(at.critical) == 1:
        parts.append(f"the critical check {at.critical[0].id} passes")
    elif at.critical:
        parts.append(f"all {len(at.critical)} critical checks pass")
    if at.total or not parts:
        parts.append(_points(at, rule))
    return f"Work at {_name(at.level)} level: {' and '.join(parts)}."


def _unmet(at: Standing, outcomes: Mapping[str, Outcome], rule: Rule) -> str:
    parts = []
    for outcome, (one, more) in _WHY.items():
        ids = [c.id for c in at.gaps if outcomes[c.id] is outcome]
        if ids:
            parts.append(
                f"the critical {_plural('check', 'checks', len(ids))} {_and(ids)} {_plural(one, more, len(ids))}"
            )
    if not at.enough_points:
        parts.append(_points(at, rule))
    if not at.enough_stages and (at.stages or not parts):
        parts.append(f"passes come from {len(at.stages)} of the {at.breadth} stages needed")
    return f"Not yet {_name(at.level)}: {'; '.join(parts)}."


_WHY = {
    Outcome.FAIL: ("fails", "fail"),
    Outcome.BLOCKED: ("is blocked", "are blocked"),
    Outcome.NOT_RUN: ("was not run", "were not run"),
    Outcome.GRADER_ERROR: ("met an error of the grader", "met an error of the grader"),
    Outcome.PROVIDED: ("passes on provided work, which does not count", "pass on provided work, which does not count"),
}


def _for_people(row: Row, level: Level) -> str:
    if row.cell(level).machine == "none":
        return f"{_name(level)} is for people to judge: no check can show it."
    return f"No check for {_name(level)} in the stages graded."


def _points(at: Standing, rule: Rule) -> str:
    return f"{at.points} of {at.total} {_plural('point', 'points', at.total)} ({100 * rule.quota:g} % needed)"


def _name(level: Level) -> str:
    return level.value.capitalize()


def _plural(one: str, more: str, count: int) -> str:
    return one if count == 1 else more


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
