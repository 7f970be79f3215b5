"""The grader is itself graded: mutants die by the checks that should notice, right work passes, attacks earn nothing."""

from __future__ import annotations

import zlib

import pytest
from poolkit import POOL, Mutant, alternative, failing, graded, mutants, passing, said

from grader import home, pool, selftest, stages
from grader.overlays import checkpoint
from grader.sandbox import detect
from grader.verdict import Outcome

STUDIED_LEAKS = (
    "signals_its_twin_by_locks",
)  # as long as, and no other in kind than, the one that meets its twin on a socket
LONG = ("04", "05", "06", "07", "08", "09", "10", "11")  # half a minute a mutant; the long run asks all
IN_CI = (
    "04",
    "05",
    "06",
    "07",
    "08",
)  # the reference here takes minutes; CI asks each time, the default run what comes before and after
CRITICAL = {check.id for check in stages.all_checks() if check.critical}

STAGES = [stage.id for stage in stages.all_stages()]


def seed_of(name: str) -> int:
    """A world of its own for each case, the same in every run."""
    return zlib.crc32(str(name).encode())


def ids(stage: str) -> set[str]:
    return {c.id for c in stages.find(stage).checks}


@pytest.mark.parametrize("stage", [pytest.param(s, marks=pytest.mark.study if s in IN_CI else ()) for s in STAGES])
def test_the_reference_passes_every_check(stage):
    result = graded(home.reference_solution(), stage, seed_of(f"reference {stage}"))
    assert passing(result) == ids(stage), said(result)


def first_of_each_check() -> list[Mutant]:
    """For each check the first mutant that dies by it alone; of stages whose programs take long, for critical checks of the newest only."""
    first: dict[frozenset[str], Mutant] = {}
    for mutant in mutants():
        if len(mutant.kills) == 1 and not mutant.may and (mutant.stage not in LONG or is_asked(mutant)):
            first.setdefault(mutant.kills, mutant)
    return list(first.values())


def is_asked(mutant: Mutant) -> bool:
    return mutant.stage == STAGES[-1] and mutant.kills <= CRITICAL


@pytest.mark.parametrize("mutant", first_of_each_check(), ids=str)
def test_a_check_notices_what_it_is_there_for(mutant: Mutant, tmp_path):
    """The short run: only the check that should notice is asked."""
    mutant.lay_down(tmp_path / "submission")
    result = graded(tmp_path / "submission", mutant.stage, seed_of(mutant), only=mutant.kills)
    assert failing(result) == mutant.kills, said(result)


@pytest.mark.study
@pytest.mark.parametrize("mutant", mutants(), ids=str)
def test_a_mutant_fails_the_checks_that_should_notice_and_no_other(mutant: Mutant):
    seen = selftest.run(mutant, detect().rung)
    assert seen is not None
    assert not seen.problem, seen


def test_every_check_has_a_mutant_that_only_it_kills():
    alone = {next(iter(m.kills)) for m in mutants() if len(m.kills) == 1}
    assert alone == {c.id for c in stages.all_checks()}


ALTERNATIVES = [path.name for path in sorted((POOL / "alternatives").iterdir()) if path.is_dir()]


@pytest.mark.parametrize(
    ("name", "stage"),
    [  # of the stages that take longest, the default run asks the newest
        pytest.param(name, name[:2], marks=pytest.mark.study if "04" < name[:2] < STAGES[-1] else ())
        for name in ALTERNATIVES
    ],
)
def test_an_independent_right_submission_passes(name, stage, tmp_path):
    alternative(name, tmp_path / "other work")
    result = graded(tmp_path / "other work", stage, seed_of(name))
    assert passing(result) == ids(stage), said(result)


@pytest.mark.study
def test_what_was_built_on_an_alternative_still_passes_its_stage(tmp_path):
    """The ledger of 07 is the one file of 06 gone on with."""
    alternative("07-one-file-ledger", tmp_path / "work")
    result = graded(tmp_path / "work", "06", seed_of("ledger in 06"))
    assert passing(result) == ids("06"), said(result)


@pytest.mark.parametrize(
    "stage",
    [pytest.param(stage, marks=pytest.mark.study if stage in LONG and stage != STAGES[-1] else ()) for stage in STAGES],
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
    (tmp_path / "pyproject.toml").write_text("[tool.mlekit]\ncontract = 1\n")
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
    (tmp_path / "pyproject.toml").write_text(f"[tool.mlekit]\ncontract = 1\n[tool.mlekit.commands]\n{lines}\n")
    result = graded(tmp_path, stage, 1)
    assert not passing(result), said(result)
    assert result.rows
    assert all(row.certain is None for row in result.rows)


def first_of_each_family() -> list[pool.Entry]:
    """Of the attacks on a stage that go against the same, the first; the self-test asks all."""
    first: dict[tuple[str, str], pool.Entry] = {}
    for entry in pool.attacks():
        if entry.stage not in LONG and not entry.folder.startswith("leaks"):  # those have tests of their own
            first.setdefault((entry.stage, entry.family), entry)
    return list(first.values())


@pytest.mark.parametrize("attack", first_of_each_family(), ids=str)
def test_an_attack_earns_nothing(attack):
    seen = selftest.run(attack, detect().rung)
    assert seen is not None
    assert not seen.problem, seen
    assert seen.seconds < 150


def test_the_reference_overlays_merged_are_the_reference_solution(tmp_path):
    checkpoint(stages.all_stages()[-1].id, tmp_path)
    merged = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    home_folder = home.reference_solution()
    ours = {
        p.relative_to(home_folder): p.read_bytes() for p in home_folder.rglob("*") if p.is_file() and p.suffix != ".pyc"
    }
    assert merged == ours


LEAKS = [p.name for p in sorted((POOL / "leaks").iterdir()) if not p.name.startswith(("package", "data_contract"))]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.study if name in STUDIED_LEAKS else ()) for name in LEAKS]
)
def test_a_leak_that_tries_to_behave_when_watched_is_seen(name):
    result = graded(POOL / "leaks" / name, "01", seed_of(name), command_seconds=60)
    assert "baseline.ignores_after_departure" in failing(result), said(result)
    assert not next(s for s in result.stages if s.id == "01").complete


def test_a_package_that_does_none_of_the_work_is_not_complete():
    result = graded(POOL / "leaks" / "package_without_work", "02", seed_of("package_without_work"))
    noticed = {
        "package.reproducible", "package.survives_odd_rows", "package.refuses_bad_config", "package.tests_catch_faults",
    }  # fmt: skip
    assert noticed <= failing(result), said(result)
    assert not next(s for s in result.stages if s.id == "02").complete


@pytest.mark.parametrize(
    ("name", "earned"),
    [
        ("data_contract_throws_dice", {"data_contract.adds_up", "data_contract.changes_nothing"}),
        ("data_contract_hides_keys", {"data_contract.adds_up"}),
        ("data_contract_links", set()),
    ],
)
def test_a_door_that_only_looks_like_one_is_seen(name, earned):
    result = graded(POOL / "leaks" / name, "03", seed_of(name), command_seconds=60)
    assert passing(result) <= earned, said(result)
    assert not [c for c in result.checks if c.outcome is Outcome.GRADER_ERROR], said(result)
    assert all(row.certain is None for row in result.rows), said(result)
