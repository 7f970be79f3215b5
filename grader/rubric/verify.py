"""Whether a grade says what its own checks say: levels and stages are computed again, and differences are named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields

from grader import __version__, stages
from grader.rubric.levels import Rule, assess
from grader.rubric.rubric import Rubric, load
from grader.verdict import CheckResult, CheckSpec, Grade, Outcome, RowResult

# Above any author's numbers; they bound the search for next steps that a forged grade could ask for.
MOST_CHECKS = 400
MOST = {"weight": 20, "effort": 10_000}


def recompute(
    grade: Grade,
    manifest: Iterable[CheckSpec] | None = None,
    rule: Rule | None = None,
    rubric: Rubric | None = None,
) -> list[str]:
    """Every way in which a grade contradicts itself or this kit, as sentences; empty when it is consistent.

    No check of `manifest`, what the route was to run, may be left out: that would shrink a denominator. When not given
    it is every check of the stages in the grade. A grade by this version of the kit is also held against
    `exercises/*/stage.toml`: each check has to be tagged as there. A grade by another version is held only against
    itself and a manifest that is given; of its rows only the levels are compared, as texts and next steps change
    between versions.

    A forged grade can be consistent. This finds edits, not lies: to know what the work shows, grade it again.
    """
    same = grade.kit == __version__
    problems = list(_shapes(grade)) or list(_unknown_stages(grade))
    if problems:
        return problems  # what follows computes with these values
    problems += _duplicates(grade)
    problems += _empty_passes(grade)
    if same:
        problems += _tags(grade, rubric or load())
    if same or manifest is not None:
        problems += _left_out(grade, manifest)
    expected = assess(grade, rule, rubric)
    problems += _stage_differences(grade, expected)
    problems += _row_differences(grade, expected, same)
    return problems


def _shapes(grade: Grade) -> Iterator[str]:
    if len(grade.checks) > MOST_CHECKS:
        yield f"the grade has {len(grade.checks)} checks; this kit reads at most {MOST_CHECKS}"
        return
    names = [("submission.hash", grade.submission.hash)]
    names += [("a stage's id", s.id) for s in grade.stages] + [("a row's name", r.row) for r in grade.rows]
    for check in grade.checks:
        names += [(f"{check.id}: {key}", getattr(check, key)) for key in ("id", "stage", "row", "reason")]
        for key in ("critical", "required"):
            if not isinstance(getattr(check, key), bool):
                yield f"{check.id}: {key} is {getattr(check, key)!r}; allowed are true and false"
        for key, most in MOST.items():
            value = getattr(check, key)
            if type(value) is not int or not 0 <= value <= most:
                yield f"{check.id}: {key} is {value!r}; it is a whole number from 0 to {most}"
    yield from (f"{key} is {value!r}; it is text" for key, value in names if not isinstance(value, str))


def _duplicates(grade: Grade) -> Iterator[str]:
    for name, count in Counter(c.id for c in grade.checks).items():
        if count > 1:
            yield f"{name} is in the grade {count} times; each check has one verdict"
    for name, count in Counter(s.id for s in grade.stages).items():
        if count > 1:
            yield f"stage {name} is in the grade {count} times"
    for name, count in Counter(r.row for r in grade.rows).items():
        if count > 1:
            yield f"row {name} is in the grade {count} times"


def _unknown_stages(grade: Grade) -> Iterator[str]:
    known = {s.id for s in stages.all_stages()}
    for check in grade.checks:
        if check.stage not in known:
            yield f"{check.id}: there is no stage {check.stage!r}; the stages are {', '.join(sorted(known))}"


def _empty_passes(grade: Grade) -> Iterator[str]:
    """Passes that no grading of ours writes: without a reason, or on no submission."""
    for check in grade.checks:
        if check.outcome is Outcome.PASS and not check.reason.strip():
            yield f"{check.id} passes without a reason; every verdict says what was found"
    if not grade.submission.hash and any(c.outcome is Outcome.PASS for c in grade.checks):
        yield "checks pass, but the grade names no submission they were run on (submission.hash is empty)"


def _tags(grade: Grade, rubric: Rubric) -> Iterator[str]:
    known = {c.id: c for c in stages.all_checks()}
    rows = {row.id: row for row in rubric.rows}
    for check in grade.checks:
        if check.id not in known:
            yield f"{check.id} is not a check of this kit ({__version__})"
            continue
        yield from _spec_differences(check, known[check.id])
        if check.row in rows and check.level in rubric.levels and rows[check.row].cell(check.level).machine == "none":
            yield f"{check.id} is tagged with row {check.row}, {check.level}, which the rubric leaves to people"


def _spec_differences(check: CheckResult, spec: CheckSpec) -> Iterator[str]:
    for key in (f.name for f in fields(CheckSpec)):
        given, wanted = getattr(check, key), getattr(spec, key)
        if given != wanted:
            yield f"{check.id}: {key} is {_show(given)} in the grade and {_show(wanted)} in this kit's stage.toml"


def _left_out(grade: Grade, manifest: Iterable[CheckSpec] | None) -> Iterator[str]:
    if manifest is None:
        begun = {c.stage for c in grade.checks}
        manifest = [c for c in stages.all_checks() if c.stage in begun]
    given = {c.id for c in grade.checks}
    for spec in manifest:
        if spec.id not in given:
            yield f"{spec.id} of stage {spec.stage} is not in the grade; leaving a check out would shrink what it counts against"


def _stage_differences(grade: Grade, expected: Grade) -> Iterator[str]:
    given, computed = ({s.id: s.complete for s in g.stages} for g in (grade, expected))
    for name in sorted(given.keys() | computed.keys()):
        if name not in given:
            yield f"stage {name} has checks in the grade but is not among its stages"
        elif name not in computed:
            yield f"stage {name} is among the stages of the grade but has no check in it"
        elif given[name] != computed[name]:
            yield f"stage {name} is given as {_complete(given[name])}; its checks make it {_complete(computed[name])}"


def _row_differences(grade: Grade, expected: Grade, same: bool) -> Iterator[str]:
    given, computed = ({r.row: r for r in g.rows} for g in (grade, expected))
    for name in sorted(given.keys() | computed.keys()):
        if name not in given:
            yield f"row {name} of the rubric is not in the grade"
        elif name not in computed:
            yield f"row {name} is in the grade but not in the rubric"
        else:
            yield from _differences(given[name], computed[name], same)


def _differences(given: RowResult, computed: RowResult, same: bool) -> Iterator[str]:
    for key in ("certain", "ceiling", *(("because", "next") if same else ())):
        left, right = getattr(given, key), getattr(computed, key)
        if left != right:
            yield f"row {given.row}: {key} is given as {_show(left)}; the checks make it {_show(right)}"


def _complete(value: bool) -> str:
    return "complete" if value else "not complete"


def _show(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "empty"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(str(value)) if isinstance(value, str) else str(value)
