"""The grader is itself graded: mutants die by the checks that should notice, right work passes, attacks earn nothing.

The default run asks a part of the pool each time (`asked_each_time`), `-m study` the rest, and `mlekit selftest` all of it.
"""

from __future__ import annotations

from typing import Any

import pytest
from poolkit import POOL, graded, passing, said, seed_of

from grader import home, pool, selftest, stages
from grader.overlays import checkpoint
from grader.pool import Entry, Kind
from grader.sandbox import detect
from grader.verdict import Outcome

LONG = ("04", "05", "06", "07", "08", "09", "10", "11")  # half a minute a mutant
# The reference of these takes minutes; CI asks it each time, in a run of its own.
IN_CI = ("04", "05", "06", "07", "08", "11")
ALTERNATIVES_IN_CI = ("05", "06", "07", "08", "09", "10", "11")
SLOW = ("02-does_not_count_tests_that_could_not_run",)  # another mutant of the check takes a fifth of the time
LONGEST_ATTACK = 150  # seconds
STAGES = [stage.id for stage in stages.all_stages()]
NEWEST = STAGES[-1]


def ids(stage: str) -> set[str]:
    return {c.id for c in stages.find(stage).checks}


def asked_each_time() -> list[Entry]:
    """The quick part: references, an alternative of each stage, of each check the first mutant that it alone notices, an attack a family.

    Stages whose programs take long are asked by the self-test, a part with each commit.
    """
    first: dict[tuple[Any, ...], Entry] = {}
    for entry in pool.entries():
        match entry.kind:
            case Kind.REFERENCE if entry.stage not in IN_CI:
                first[entry.kind, entry.stage] = entry
            case Kind.ALTERNATIVE if entry.stage not in ALTERNATIVES_IN_CI:
                first.setdefault((entry.kind, entry.stage), entry)
            case Kind.MUTANT if len(entry.kills) == 1 and not entry.may:
                if entry.stage not in LONG and str(entry) not in SLOW:
                    first.setdefault((entry.kind, entry.kills), entry)
            case Kind.ATTACK if entry.stage not in LONG:
                first.setdefault((entry.kind, entry.stage, entry.family), entry)
    return list(first.values())


EACH_TIME = asked_each_time()


def asked() -> list[Any]:
    """All of the pool but what tests below ask more of; what is not asked each time is marked."""
    entries = [entry for entry in pool.entries() if entry.kind not in (Kind.STARTER, Kind.NOTHING)]
    return [
        pytest.param(
            entry, id=f"{entry.kind}-{entry.stage}-{entry.name}", marks=() if entry in EACH_TIME else pytest.mark.study
        )
        for entry in entries
    ]


@pytest.mark.parametrize("entry", asked())
def test_a_submission_of_the_pool_gets_what_it_should(entry: Entry):
    """A mutant that is asked each time meets only the check that should notice it; the long run asks all checks."""
    seen = selftest.run(entry, entry.seed, detect().rung, quick=entry in EACH_TIME)
    assert seen is not None
    assert not seen.problem, seen
    assert entry.kind is not Kind.ATTACK or seen.seconds < LONGEST_ATTACK or entry.stage in LONG


def test_every_check_has_a_mutant_that_only_it_kills():
    alone = {next(iter(m.kills)) for m in pool.mutants() if len(m.kills) == 1}
    assert alone == {c.id for c in stages.all_checks()}


@pytest.mark.study
def test_what_was_built_on_an_alternative_still_passes_its_stage(tmp_path):
    """The ledger of 07 is the one file of 06 gone on with."""
    ledger = next(entry for entry in pool.alternatives() if entry.name == "07-one-file-ledger")
    ledger.lay_down(tmp_path / "work")
    result = graded(tmp_path / "work", "06", seed_of("ledger in 06"))
    assert passing(result) == ids("06"), said(result)


@pytest.mark.parametrize(
    "stage",
    [pytest.param(stage, marks=pytest.mark.study if stage in LONG and stage != NEWEST else ()) for stage in STAGES],
)
def test_a_starter_fails_its_stage_and_says_what_to_do(stage, tmp_path):
    checkpoint(stage, tmp_path / "work", starter=True)
    result = graded(tmp_path / "work", stage, seed_of(f"starter {stage}"))
    required = {c.id for c in stages.find(stage).checks if c.required}
    assert not required <= passing(result), said(result)
    for check in result.checks:
        assert check.outcome in (Outcome.PASS, Outcome.FAIL, Outcome.BLOCKED), said(result)
        assert check.reason
        assert "Traceback" not in check.reason


@pytest.mark.parametrize("stage", STAGES)
def test_an_empty_submission_passes_nothing(stage, tmp_path):
    (tmp_path / "pyproject.toml").write_text(pool.EMPTY)
    result = graded(tmp_path, stage, 1)
    assert not passing(result), said(result)
    assert {c.outcome for c in result.checks} == {Outcome.BLOCKED}, said(result)


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        ("02", ("train", "predict", "test")),
        ("03", ("validate",)),
        ("05", ("train", "predict", "staleness")),
        ("06", ("train", "register", "promote", "rollback")),
        ("07", ("train", "pipeline")),
        ("08", ("train", "predict", "serve")),
        ("09", ("train", "predict", "serve", "export-log", "ops")),
        ("10", ("monitor",)),
        ("11", ("train", "predict", "serve", "loop")),
    ],
)
def test_commands_that_do_nothing_pass_nothing(stage, names, tmp_path):
    lines = "\n".join(f'{name} = "true"' for name in names)
    (tmp_path / "pyproject.toml").write_text(f"{pool.EMPTY}[tool.mlekit.commands]\n{lines}\n")
    result = graded(tmp_path, stage, 1)
    assert not passing(result), said(result)
    assert result.rows
    assert all(row.certain is None for row in result.rows)


@pytest.mark.parametrize("name", ["data_contract_throws_dice", "data_contract_links"])
def test_what_deceives_shows_no_level(name):
    result = graded(POOL / "leaks" / name, "03", seed_of(name), command_seconds=60)
    assert all(row.certain is None for row in result.rows), said(result)


def test_the_reference_overlays_merged_are_the_reference_solution(tmp_path):
    checkpoint(NEWEST, tmp_path)
    merged = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    home_folder = home.reference_solution()
    ours = {
        p.relative_to(home_folder): p.read_bytes() for p in home_folder.rglob("*") if p.is_file() and p.suffix != ".pyc"
    }
    assert merged == ours
