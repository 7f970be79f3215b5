"""The level rule, its explanations and next steps, the rubric file, and the second look at a grade."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grader import CONTRACT, __version__, stages
from grader.rubric import RubricProblem, Rule, assess, load, reach, stage_complete
from grader.rubric.rubric import BUILT_IN
from grader.rubric.verify import MOST, MOST_CHECKS, recompute
from grader.verdict import LEVELS, OPEN, CheckResult, CheckSpec, Grade, Level, Outcome, Submission, read_grade

PASS, FAIL, BLOCKED = Outcome.PASS, Outcome.FAIL, Outcome.BLOCKED
NOT_RUN, ERROR, PROVIDED = Outcome.NOT_RUN, Outcome.GRADER_ERROR, Outcome.PROVIDED
JUNIOR, SENIOR, LEAD = LEVELS
ROWS = ("1.1", "1.4")


def check(id, outcome=PASS, stage="01", row="1.1", level=JUNIOR, reason="it does", **tags):
    return CheckResult.of(CheckSpec(id, stage, id, row, level, **tags), outcome, reason=reason)


def grade(*checks):
    return Grade(__version__, CONTRACT, "test", "plain", Submission("x", "abc"), 1.0, 1.0, checks)


def row_of(*checks, row="1.1", **more):
    return next(r for r in assess(grade(*checks), **more).rows if r.row == row)


def rank(level):
    return -1 if level is None else LEVELS.index(level)


def with_outcomes(checks, ids, outcome):
    return [replace(c, outcome=outcome) if c.id in ids else c for c in checks]


def cell(checks, row, level):
    return [c for c in checks if c.row == row and c.level == level]


@st.composite
def gradings(draw):
    """Up to a dozen checks in two rows; passes are common, so that levels are reached."""
    outcomes = st.sampled_from([PASS] * 6 + list(Outcome))
    tags = st.tuples(
        outcomes, st.sampled_from(["01", "02", "03"]), st.sampled_from(ROWS), st.sampled_from([JUNIOR, JUNIOR, SENIOR, LEAD]),
        st.booleans(), st.integers(0, 4), st.integers(0, 60),
    )  # fmt: skip
    return [
        check(f"c{n:02}", outcome, stage, row, level, critical=critical, weight=weight, effort=effort)
        for n, (outcome, stage, row, level, critical, weight, effort) in enumerate(draw(st.lists(tags, max_size=12)))
    ]


@st.composite
def cells(draw):
    """A handful of checks in one cell, few of them passed: many ways to lift it."""
    tags = st.tuples(
        st.sampled_from([FAIL, FAIL, PASS]), st.sampled_from(["01", "02"]), st.integers(1, 4), st.integers(0, 60)
    )
    return [
        check(f"c{n}", outcome, stage, critical=n == 0, weight=weight, effort=effort)
        for n, (outcome, stage, weight, effort) in enumerate(draw(st.lists(tags, min_size=3, max_size=7)))
    ]


# The rule


@given(gradings(), st.data())
def test_one_more_pass_never_lowers_a_row(checks, data):
    if not checks:
        return
    better = with_outcomes(checks, {data.draw(st.sampled_from(checks)).id}, PASS)
    for before, after in zip(assess(grade(*checks)).rows, assess(grade(*better)).rows, strict=True):
        assert rank(after.certain) >= rank(before.certain)
        assert rank(after.ceiling) >= rank(before.ceiling)


@given(gradings(), st.sampled_from([NOT_RUN, ERROR, BLOCKED, PROVIDED]), st.sets(st.integers(0, 11)))
def test_not_running_crashing_or_getting_work_provided_never_helps(checks, outcome, which):
    worse = with_outcomes(checks, {f"c{n:02}" for n in which}, outcome)
    for before, after in zip(assess(grade(*checks)).rows, assess(grade(*worse)).rows, strict=True):
        assert rank(after.certain) <= rank(before.certain)
        if outcome not in OPEN:
            assert rank(after.ceiling) <= rank(before.ceiling)


@given(gradings())
def test_what_is_certain_depends_on_passes_alone(checks):
    plain = [c if c.outcome is PASS else replace(c, outcome=FAIL) for c in checks]
    certain = [r.certain for r in assess(grade(*checks)).rows]
    assert certain == [r.certain for r in assess(grade(*plain)).rows]


@given(gradings())
def test_the_ceiling_is_the_level_if_what_is_open_passed(checks):
    hoped = with_outcomes(checks, {c.id for c in checks if c.outcome in OPEN}, PASS)
    for row, best in zip(assess(grade(*checks)).rows, assess(grade(*hoped)).rows, strict=True):
        assert row.ceiling == best.certain
        assert rank(row.ceiling) >= rank(row.certain)


@given(gradings())
def test_without_a_pass_no_level_is_met(checks):
    failed = with_outcomes(checks, {c.id for c in checks if c.outcome is PASS}, FAIL)
    assert all(row.certain is None for row in assess(grade(*failed)).rows)


def test_an_empty_manifest_meets_nothing_and_still_shows_every_row():
    result = assess(grade())
    assert [r.row for r in result.rows] == [r.id for r in load().rows]
    assert all(r.certain is None and r.ceiling is None and r.next == () for r in result.rows)
    assert all(r.because.startswith(("No check for", "Junior is for people")) for r in result.rows)
    assert result.stages == ()


@pytest.mark.parametrize("outcome", [FAIL, BLOCKED, NOT_RUN, ERROR, PROVIDED])
def test_a_critical_check_that_does_not_pass_keeps_the_level_away(outcome):
    row = row_of(check("a", outcome, critical=True), check("b", weight=9))
    assert row.certain is None
    assert row.ceiling == (JUNIOR if outcome in OPEN else None)


@pytest.mark.parametrize(
    ("passed", "failed", "met"),
    [(3, 2, True), (6, 4, True), (5, 4, False), (4, 3, False), (59, 41, False), (60, 40, True)],
)
def test_the_quota_is_sixty_percent_of_the_weight_of_the_rest(passed, failed, met):
    row = row_of(check("a", critical=True, weight=50), check("b", weight=passed), check("c", FAIL, weight=failed))
    assert row.certain == (JUNIOR if met else None)


@pytest.mark.parametrize("outcome", [FAIL, BLOCKED, NOT_RUN, ERROR, PROVIDED])
def test_what_does_not_pass_stays_in_the_denominator(outcome):
    row = row_of(check("a", weight=1), check("b", outcome, weight=2))
    assert row.certain is None
    assert "1 of 3 points" in row.because


def test_passes_come_from_two_stages_where_two_have_checks():
    one = [check("a", weight=9), check("b", FAIL, stage="02")]
    assert row_of(*one).certain is None
    assert row_of(*one[:1]).certain is JUNIOR
    assert row_of(one[0], check("b", stage="02")).certain is JUNIOR
    assert row_of(one[0], check("b", stage="02"), check("c", FAIL, stage="03")).certain is JUNIOR
    assert row_of(*one, rule=Rule(stages=1)).certain is JUNIOR


def test_a_level_is_met_with_all_below_it_or_not_at_all():
    high = [check("s", level=SENIOR), check("l", level=LEAD)]
    assert row_of(check("j"), *high).certain is LEAD
    assert row_of(check("j", FAIL), *high).certain is None
    assert row_of(*high).certain is None
    assert row_of(check("j"), high[1]).certain is JUNIOR


# Next steps


@given(gradings())
def test_doing_exactly_the_listed_checks_lifts_the_row(checks):
    for row in assess(grade(*checks)).rows:
        if row.next:
            done = with_outcomes(checks, set(row.next), PASS)
            assert rank(row_of(*done, row=row.row).certain) > rank(row.certain)
        else:
            above = LEVELS[rank(row.certain) + 1 :]
            assert not above or not cell(checks, row.row, above[0])


@given(cells())
def test_no_other_set_of_checks_lifts_the_row_for_less_effort(checks):
    for row in assess(grade(*checks)).rows:
        if not row.next:
            continue
        gaps = [c for c in cell(checks, row.row, LEVELS[rank(row.certain) + 1]) if c.outcome is not PASS]
        listed = sum(c.effort for c in gaps if c.id in row.next)
        for size in range(len(gaps) + 1):
            for chosen in itertools.combinations(gaps, size):
                if sum(c.effort for c in chosen) < listed:
                    done = with_outcomes(checks, {c.id for c in chosen}, PASS)
                    assert row_of(*done, row=row.row).certain == row.certain


def test_next_names_critical_gaps_first_then_the_cheapest_for_their_weight():
    checks = [
        check("cheap", FAIL, effort=10, weight=2),
        check("cheaper", FAIL, effort=5, weight=2),
        check("dear", FAIL, effort=500, weight=3),
        check("must", FAIL, critical=True, effort=900),
        check("done", weight=1),
    ]
    assert row_of(*checks).next == ("must", "cheaper", "cheap")


def test_next_is_the_least_effort_in_all_not_the_best_check_first():
    checks = [
        check("big", FAIL, weight=3, effort=100),
        check("some", FAIL, weight=2, effort=10),
        check("more", FAIL, weight=2, effort=11),
        check("done"),
    ]
    assert row_of(*checks).next == ("some", "more")
    checks = [check("big", FAIL, weight=4, effort=8), check("small", FAIL, effort=3), check("done", weight=5)]
    assert row_of(*checks).next == ("small",)


def test_next_takes_a_check_of_another_stage_when_breadth_is_what_lacks():
    checks = [check("a", weight=8), check("b", FAIL, weight=1, effort=5), check("c", FAIL, stage="02", effort=50)]
    assert row_of(*checks).next == ("c",)


def test_next_is_empty_at_the_top_and_where_the_next_level_is_for_people():
    assert row_of(check("j"), check("s", level=SENIOR), check("l", level=LEAD)).next == ()
    assert row_of(check("j"), check("l", FAIL, level=LEAD)).next == ()


# Texts


@given(gradings())
def test_the_explanation_names_every_critical_check_that_keeps_the_level_away(checks):
    for row in assess(grade(*checks)).rows:
        for level in LEVELS[rank(row.certain) + 1 :][:1]:
            gaps = [c.id for c in cell(checks, row.row, level) if c.critical and c.outcome is not PASS]
            assert all(id in row.because for id in gaps)
        assert row.because.endswith(".")
        assert "Outcome" not in row.because


def test_because_of_a_level_met_and_one_for_people():
    checks = [
        check("a", critical=True),
        check("b", critical=True, stage="02"),
        check("c", weight=5),
        check("d", FAIL, weight=1),
    ]
    assert row_of(*checks).because == (
        "Work at Junior level: all 2 critical checks pass and 5 of 6 points (60 % needed). "
        "No check for Senior in the stages graded."
    )


def test_because_of_levels_that_are_not_met():
    assert row_of(check("baseline.x", FAIL, critical=True)).because == (
        "Not yet Junior: the critical check baseline.x fails."
    )
    checks = [
        check("a", critical=True),
        check("b", FAIL, level=SENIOR, critical=True),
        check("c", FAIL, level=SENIOR, critical=True),
        check("d", NOT_RUN, level=SENIOR, critical=True),
        check("e", level=SENIOR, weight=3),
        check("f", PROVIDED, level=SENIOR, stage="02", weight=7),
    ]
    assert row_of(*checks).because == (
        "Work at Junior level: the critical check a passes. "
        "Not yet Senior: the critical checks b and c fail; the critical check d was not run; "
        "3 of 10 points (60 % needed); passes come from 1 of the 2 stages needed."
    )


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (BLOCKED, "is blocked"),
        (NOT_RUN, "was not run"),
        (ERROR, "met an error of the grader"),
        (PROVIDED, "passes on provided work, which does not count"),
    ],
)
def test_because_says_what_came_of_a_critical_check(outcome, words):
    assert row_of(check("a", outcome, critical=True)).because == f"Not yet Junior: the critical check a {words}."


def test_because_of_lead_is_one_sentence():
    checks = [check("j"), check("s", level=SENIOR), check("l", level=LEAD, weight=2)]
    assert row_of(*checks).because == "Work at Lead level: 2 of 2 points (60 % needed)."


def test_because_of_a_row_no_machine_judges():
    assert row_of(row="4.1").because == "Junior is for people to judge: no check can show it."
    row = row_of(check("a", row="3.2", level=SENIOR), row="3.2")
    assert row.because == "Junior is for people to judge: no check can show it. Above it 1 of 1 check passes."


@given(gradings())
def test_no_text_speaks_of_the_person(checks):
    for row in assess(grade(*checks)).rows:
        assert " is a " not in row.because
        assert "engineer" not in row.because


# Stages and routes


def test_a_stage_is_complete_when_its_required_checks_pass_or_are_provided():
    required = [check("a", required=True), check("b", PROVIDED, critical=True), check("c", FAIL)]
    assert stage_complete("01", required)
    assert [s.complete for s in assess(grade(*required)).stages] == [True]


@pytest.mark.parametrize("outcome", [FAIL, BLOCKED, NOT_RUN, ERROR])
@pytest.mark.parametrize("tag", ["required", "critical"])
def test_a_stage_is_not_complete_while_a_required_check_does_not_pass(outcome, tag):
    assert not stage_complete("01", [check("a", required=True), check("b", outcome, **{tag: True})])


def test_a_stage_of_which_nothing_required_was_checked_is_not_complete():
    assert not stage_complete("01", [check("a")])
    assert not stage_complete("02", [check("a", required=True)])


@given(gradings())
def test_reach_is_what_passing_everything_gives(checks):
    best = assess(grade(*with_outcomes(checks, {c.id for c in checks}, PASS)))
    assert reach(c.spec for c in checks) == {r.row: r.certain for r in best.rows}


# The rubric


def test_the_rubric_has_all_48_cells():
    rubric = load()
    assert (len(rubric.rows), len(rubric.cells)) == (16, 48)
    assert rubric.levels == ("junior", "senior", "lead")
    assert [r.id for r in rubric.rows if r.headline] == ["1.3", "1.4"]
    assert [r.id for r in rubric.rows] == [
        "1.1", "1.2", "1.3", "1.4", "2.1", "2.2", "2.3", "3.1", "3.2", "3.3", "3.4", "3.5", "4.1", "4.2", "4.3", "4.4",
    ]  # fmt: skip
    assert len({c.question for c in rubric.cells}) == len({c.text for c in rubric.cells}) == 48
    assert all("  " not in c.check + c.text + c.question for c in rubric.cells)


@pytest.mark.parametrize("spec", stages.all_checks(), ids=lambda spec: spec.id)
def test_every_check_of_the_kit_belongs_to_a_cell_that_a_machine_can_judge(spec):
    assert spec.row in {r.id for r in load().rows}
    assert load().row(spec.row).cell(spec.level).machine != "none"
    assert 0 < spec.weight <= MOST["weight"]
    assert 0 <= spec.effort <= MOST["effort"]


SMALL = """
levels = ["low", "high"]
[[row]]
id = "a"
category = "c"
title = "t"
[row.low]
text = "x"
machine = "full"
check = "y"
question = "z?"
[row.high]
text = "x"
machine = "none"
check = ""
question = "z?"
"""


def rubric_file(tmp_path, text):
    path = tmp_path / "rubric.toml"
    path.write_text(text)
    return path


def test_a_rubric_may_have_other_rows_and_levels(tmp_path):
    rubric = load(rubric_file(tmp_path, SMALL))
    assert rubric.levels == ("low", "high")
    assert [c.level for c in rubric.cells] == ["low", "high"]
    assert not rubric.row("a").headline


def test_levels_are_computed_only_with_level_names_that_checks_are_tagged_with(tmp_path):
    with pytest.raises(RubricProblem, match=r"\['low', 'high'\].*junior, senior, lead"):
        assess(grade(), rubric=load(rubric_file(tmp_path, SMALL)))
    turned = SMALL.replace("high", "junior").replace("low", "senior")
    with pytest.raises(RubricProblem, match="in this order"):
        assess(grade(), rubric=load(rubric_file(tmp_path, turned)))
    fewer = load(rubric_file(tmp_path, SMALL.replace("high", "lead").replace("low", "senior")))
    assert row_of(check("s", row="a", level=SENIOR), row="a", rubric=fewer).certain is SENIOR


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"low", "high"', '"low", "low"', "levels holds 'low' more than once"),
        ('["low", "high"]', "[]", "at least one name"),
        ('["low", "high"]', '["id"]', "levels holds 'id'"),
        ('levels = ["low", "high"]', "", "the file has no 'levels'; its keys are levels, row"),
        ("[[row]]", "[row]", "row is not a list of tables"),
        ("[row.high]", "[row.higher]", "row a has no 'high'; its keys are id, category, title, low, high, headline"),
        ('title = "t"', 'title = "t"\nweight = 1', "row a has the unknown key 'weight'"),
        ('title = "t"', 'title = ""', "row a: title is ''"),
        ('id = "a"', "id = 1", "row 1: id is 1"),
        ('title = "t"', 'title = "t"\nheadline = "yes"', "headline is 'yes'; allowed are true and false"),
        ('machine = "full"', 'machine = "F"', "row a, low: machine is 'F'; allowed are full, partly, none"),
        ('check = "y"', 'check = ""', "check is empty exactly where machine is 'none'"),
        ('check = ""', 'check = "y"', "check is empty exactly where machine is 'none'"),
        ('question = "z?"', "question = 3", "question is 3"),
        ('question = "z?"', 'questoin = "z?"', "row a, low has no 'question'"),
        ('levels = ["low", "high"]', "levels = [", "is not TOML"),
    ],
)
def test_a_wrong_rubric_is_refused_by_name(tmp_path, old, new, message):
    assert old in SMALL
    path = rubric_file(tmp_path, SMALL.replace(old, new, 1))
    with pytest.raises(RubricProblem) as problem:
        load(path)
    assert message in str(problem.value)
    assert str(path) in str(problem.value)


def test_a_rubric_that_names_a_row_twice_or_is_not_there_is_refused(tmp_path):
    rows = BUILT_IN.read_text().replace('id = "1.2"', 'id = "1.1"')
    with pytest.raises(RubricProblem, match=r"row\.id holds '1\.1' more than once"):
        load(rubric_file(tmp_path, rows))
    with pytest.raises(RubricProblem, match="cannot be read"):
        load(tmp_path / "none.toml")


# The second look


def honest():
    """A consistent grade over the checks of stage 01: the first fails, the rest pass."""
    specs = stages.find("01").checks
    return assess(grade(*(CheckResult.of(s, PASS if n else FAIL, reason="r") for n, s in enumerate(specs))))


def changed(result, **changes):
    """The grade with its first check changed, and its levels computed again as a careful forger would."""
    return assess(replace(result, checks=(replace(result.checks[0], **changes), *result.checks[1:])))


def test_a_grade_as_computed_is_consistent(tmp_path):
    assert recompute(honest()) == []
    honest().write(tmp_path / "grade.json")
    assert recompute(read_grade(tmp_path / "grade.json")) == []


@given(gradings())
def test_a_grade_of_another_version_is_held_against_itself(checks):
    known = [replace(c, stage=min(c.stage, "02")) for c in checks]
    result = assess(replace(grade(*known), kit="0.0.0"))
    assert recompute(result) == []
    first = result.rows[0]
    other = JUNIOR if first.certain is not JUNIOR else LEAD
    edited = replace(result, rows=(replace(first, certain=other, because="trust me"), *result.rows[1:]))
    (problem,) = recompute(edited)
    assert problem.startswith(f"row 1.1: certain is given as '{other}'; the checks make it")


def test_an_edited_level_stage_or_outcome_is_found():
    result = honest()
    lifted = replace(result, rows=tuple(replace(r, certain=LEAD) if r.row == "1.3" else r for r in result.rows))
    assert any(p.startswith("row 1.3: certain is given as 'lead'") for p in recompute(lifted))
    turned = replace(result, stages=(replace(result.stages[0], complete=not result.stages[0].complete),))
    assert any(p.startswith("stage 01 is given as") for p in recompute(turned))
    passing = replace(result, checks=(replace(result.checks[0], outcome=PASS), *result.checks[1:]))
    assert recompute(passing)
    for key in ("ceiling", "because", "next"):
        blank = {"ceiling": LEAD, "because": "?", "next": ("x",)}[key]
        rows = (replace(result.rows[-1], **{key: blank}), *result.rows[:-1])
        assert any(f"row 4.4: {key} is given as" in p for p in recompute(replace(result, rows=rows)))


def test_missing_and_added_rows_and_stages_are_found():
    result = honest()
    assert recompute(replace(result, rows=result.rows[1:])) == ["row 1.1 of the rubric is not in the grade"]
    more = (*result.rows, replace(result.rows[0], row="9.9"))
    assert recompute(replace(result, rows=more)) == ["row 9.9 is in the grade but not in the rubric"]
    assert recompute(replace(result, rows=(*result.rows, result.rows[0]))) == ["row 1.1 is in the grade 2 times"]
    assert recompute(replace(result, stages=())) == ["stage 01 has checks in the grade but is not among its stages"]
    more = (*result.stages, replace(result.stages[0], id="02"))
    assert recompute(replace(result, stages=more)) == [
        "stage 02 is among the stages of the grade but has no check in it"
    ]


def test_a_check_with_other_tags_than_the_kits_is_found():
    spec = stages.find("01").checks[0]
    for key, value in (("critical", not spec.critical), ("required", not spec.required), ("weight", spec.weight + 1)):
        assert any(f"{spec.id}: {key} is" in p for p in recompute(changed(honest(), **{key: value})))
    assert any(f"{spec.id}: row is '4.4'" in p for p in recompute(changed(honest(), row="4.4")))
    level = next(x for x in Level if x is not spec.level)
    assert any(f"{spec.id}: level is '{level}'" in p for p in recompute(changed(honest(), level=level)))
    free = recompute(changed(honest(), id="free.pass"))
    assert f"free.pass is not a check of this kit ({__version__})" in free


def test_a_check_left_out_is_found():
    result = honest()
    left = assess(replace(result, checks=result.checks[1:]))
    assert [p.split(";")[0] for p in recompute(left)] == [f"{result.checks[0].id} of stage 01 is not in the grade"]
    assert recompute(left, manifest=stages.find("01").checks[1:]) == []
    assert recompute(assess(grade()), manifest=stages.find("01").checks)
    older = replace(left, kit="0.0.0")
    assert recompute(older) == []
    assert len(recompute(older, manifest=stages.find("01").checks)) == 1


def test_duplicates_unknown_stages_and_empty_passes_are_found():
    result = honest()
    twice = assess(replace(result, checks=(*result.checks, replace(result.checks[0], outcome=PASS))))
    assert f"{result.checks[0].id} is in the grade 2 times; each check has one verdict" in recompute(twice)
    assert any("there is no stage '77'" in p for p in recompute(changed(result, stage="77")))
    assert any("passes without a reason" in p for p in recompute(changed(result, outcome=PASS, reason=" ")))
    nobody = replace(result, submission=Submission("x", ""))
    assert any("names no submission" in p for p in recompute(nobody))


@pytest.mark.parametrize(
    "changes", [{"weight": -5}, {"weight": "3"}, {"weight": True}, {"critical": "no"}, {"row": 1}, {"effort": 10**9}]
)
def test_values_of_the_wrong_kind_are_refused_before_anything_is_computed(changes):
    result = honest()
    odd = replace(result, checks=(replace(result.checks[0], **changes), *result.checks[1:]))
    (problem,) = recompute(odd)
    assert f"{next(iter(changes))} is {next(iter(changes.values()))!r}" in problem


def test_a_grade_with_more_checks_than_any_kit_has_is_refused():
    (problem,) = recompute(grade(*(check(f"c{n}") for n in range(MOST_CHECKS + 1))))
    assert problem == f"the grade has {MOST_CHECKS + 1} checks; this kit reads at most {MOST_CHECKS}"
