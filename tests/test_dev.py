"""The authoring linter names what is broken, one thing at a time, and finds nothing on the kit itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from grader import dev, stages
from grader.dev import NotPossible, dev_check, new_stage
from grader.rubric import assess
from grader.verdict import CheckResult, Grade, Outcome, Submission

ROOT = Path(__file__).parents[1]
BRIEF, TOML, HINTS, EXPLAINED = (
    f"exercises/01-baseline/{name}" for name in ("README.md", "stage.toml", "hints.md", "explained.md")
)
MAP, CHECKS, MUTANTS = "exercises/README.md", "grader/checks/s01_baseline.py", "tests/pool/mutants/01.toml"
TEST = "reference_solution/flightdelay/test.py"


def copy_of_the_kit(root: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("exercises", "reference_solution", "grader/checks", "tests/pool/mutants"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    return root


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    return copy_of_the_kit(tmp_path)


@dataclass(frozen=True)
class Broken:
    """One thing that is wrong in a tree: an edit, the rule that should notice, and what its sentence says."""

    rule: Callable[..., object]
    file: str
    find: str | None
    put: str | None  # None: the file is removed
    says: str

    def break_it(self, root: Path) -> None:
        path = root / self.file
        if self.put is None:
            path.unlink()
        elif self.find is None:
            path.write_text(path.read_text() + self.put)
        else:
            text = path.read_text()
            assert self.find in text
            path.write_text(text.replace(self.find, self.put, 1))


UNBOUND = '@check("baseline.guesses", uses=[case])\ndef guesses(grading):\n    """Catches: a.\n\n    Accepts: b."""\n'
VARIANTS = [
    Broken(dev.readable, TOML, None, None, "is missing"),
    Broken(dev.readable, TOML, "hours = 2\n", "", "the key 'hours' is missing"),
    Broken(dev.readable, TOML, 'level = "junior"', 'level = "wizard"', "'wizard'"),
    Broken(dev.readable, TOML, "effort = 20", "efort = 20", "efort"),
    Broken(dev.readable, TOML, "hours = 2", 'hours = "two"', "hours: Input should be a valid number"),
    Broken(dev.readable, TOML, "weight = 2", "weight = true", "checks.0.weight: Input should be a valid integer"),
    Broken(dev.readable, TOML, 'id = "baseline.calibrated"', "id = 5", "checks.4.id: Input should be a valid string"),
    Broken(dev.readable, TOML, "[bars]", "[bars", "cannot be read"),
    Broken(dev.contract_is_written, "exercises/CONTRACT.md", "# The contract", "# A contract", "grader.contract.document"),
    Broken(dev.contract_is_written, "exercises/schemas/model.json", None, None, "grader.contract.document"),
    Broken(dev.shared_links_lead_somewhere, MAP, "(CONTRACT.md)", "(CONTRACTS.md)", "the link CONTRACTS.md leads nowhere"),
    Broken(dev.reference_is_all_solutions, TEST, None, None, "copy exercises/02-package/solution/flightdelay/test.py"),
    Broken(dev.reference_is_all_solutions, TEST, "def main(", "def go(", "copy exercises/02-package/solution"),
    Broken(dev.texts_exist, HINTS, None, None, "is missing; write it"),
    Broken(dev.texts_exist, EXPLAINED, None, None, "is missing; write it"),
    Broken(dev.brief_has_its_shape, BRIEF, "# 01 baseline:", "# Baseline:", "# 01 baseline: "),
    Broken(dev.brief_has_its_shape, BRIEF, "About 2 hours", "About 4 hours", "About 2 hours"),
    Broken(dev.brief_has_its_shape, BRIEF, "## What you may ignore for now", "## Ignore", '"What you may ignore for now"'),
    Broken(dev.brief_has_its_shape, BRIEF, "## Read on", "### Read on", '"Read on"'),
    Broken(dev.hints_help, HINTS, "## 3 What", "# 3 What", "hint 3 is missing"),
    Broken(dev.hints_help, HINTS, "two hours before departure?", "two hours before.", "a hint is a question"),
    Broken(dev.hints_help, HINTS, "## baseline.split_by_time\n", "# More\n", "baseline.split_by_time has no section"),
    Broken(dev.hints_help, HINTS, "## baseline.calibrated", "## calibration", "neither hint 1 to 3 nor a check"),
    Broken(dev.hints_help, HINTS, "\n## baseline.calibrated", "\nMore.\n\n## baseline.calibrated", "one paragraph"),
    Broken(dev.check_ids_exist, EXPLAINED, "`baseline.calibrated`", "`baseline.calibration`", "no check baseline.calibration"),
    Broken(dev.check_ids_exist, BRIEF, "Runs on the same", "See package.repeats. Runs on the same", "no check package.repeats"),
    Broken(dev.table_names_are_in_the_contract, BRIEF, "`MLEKIT_OUT`", "`MLEKIT_OUTPUT`", "`MLEKIT_OUTPUT` is not in CONTRACT.md"),
    Broken(dev.table_names_are_in_the_contract, BRIEF, "`base_rate`", "`baserate`", "`baserate` is not in CONTRACT.md"),
    Broken(dev.links_lead_somewhere, BRIEF, "(../CONTRACT.md)", "(CONTRACT.md)", "the link CONTRACT.md leads nowhere"),
    Broken(dev.links_lead_somewhere, HINTS, "#flights)", "#flight)", "names a heading that is not there"),
    Broken(dev.code_works, HINTS, "landed = flights[", "landed == = flights[", "does not compile"),
    Broken(dev.code_works, EXPLAINED, "import numpy as np", "import numpi as np", "No module named 'numpi'"),
    Broken(dev.map_names_the_stage, MAP, "(01-baseline/README.md)", "(01-baseline/stage.toml)", "does not link to 01-baseline"),
    Broken(dev.rows_are_in_the_rubric, TOML, 'row = "1.3"', 'row = "9.9"', "'9.9'; the rows are 1.1"),
    Broken(dev.checks_are_bound, CHECKS, None, f"\n\n{UNBOUND}", "guesses is bound to baseline.guesses"),
    Broken(dev.checks_are_bound, CHECKS, '@check("baseline.calibrated"', '@chek("baseline.calibrated"', "to baseline.calibrated"),
    Broken(dev.checks_are_bound, CHECKS, None, "\ndef (", "cannot be read as Python"),
    Broken(dev.checks_are_bound, CHECKS, None, None, "is missing"),
    Broken(dev.checks_say_what_they_catch, CHECKS, "Accepts: a notebook", "Takes: a notebook", "docstring of runs_top_to_bottom"),
    Broken(dev.checks_have_mutants, MUTANTS, 'kills = ["baseline.beats_simple_rules"]', "kills = []", "baseline.beats_simple_rules"),
    Broken(dev.checks_have_mutants, MUTANTS, 'kills = ["baseline.runs_top_to_bottom"]', 'kills = ["baseline.runs"]', "baseline.runs,"),
    Broken(dev.checks_have_mutants, MUTANTS, 'name = "writes_nan"', 'name = "writes_nan', "cannot be read"),
    Broken(dev.checks_have_mutants, MUTANTS, None, None, "one mutant for each check"),
    Broken(dev.nothing_is_left_to_write, EXPLAINED, "## Common mistakes", "## Common mistakes\n\nTODO: more of them", "TODO: more of them"),
    Broken(dev.nothing_is_left_to_write, CHECKS, '"""Stage 01', '"""TODO: Stage 01', "TODO: Stage 01"),
]  # fmt: skip


@pytest.mark.parametrize("broken", VARIANTS, ids=lambda b: f"{b.rule.__name__}-{b.says[:24]}")
def test_one_broken_thing_is_named_and_nothing_else(kit, broken):
    broken.break_it(kit)
    problems = dev_check(["01"], root=kit, grade=False)
    assert len(problems) == 1, problems
    where, said = problems[0].split(": ", 1)
    assert broken.file in where or where.startswith(TOML), problems
    assert broken.says in said


def test_what_a_solution_leaves_open_is_named_and_what_a_starter_does_is_not(kit):
    shutil.rmtree(kit / "reference_solution")
    for part in ("starter", "solution"):
        with (kit / "exercises/01-baseline" / part / "pyproject.toml").open("a") as file:
            file.write("# TODO: name the authors\n")
    (problem,) = dev_check(["01"], root=kit, grade=False)
    assert problem.startswith("exercises/01-baseline/solution/pyproject.toml:")
    assert "TODO: name the authors" in problem


def test_a_stage_that_requires_nothing_is_named(kit):
    path = kit / TOML
    path.write_text(path.read_text().replace("required = true\n", ""))
    assert any("requires no check" in problem for problem in dev_check(["01"], root=kit, grade=False))


def test_every_rule_has_a_variant_that_breaks_it():
    assert {v.rule for v in VARIANTS} | {dev.something_is_required} == set(dev.RULES)


def test_the_kit_itself_has_no_problem():
    seen: list[str] = []
    assert dev_check([], grade=False, watch=seen.append) == []
    assert len(seen) == 1 + len(stages.all_stages())


def test_only_the_named_stage_is_looked_at(kit):
    (kit / HINTS).unlink()
    assert dev_check(["package"], root=kit, grade=False) == []
    assert len(dev_check(["1"], root=kit, grade=False)) == 1


def test_an_unknown_stage_is_refused(kit):
    with pytest.raises(stages.UnknownStage, match=r"77.*01-baseline"):
        dev_check(["77"], root=kit, grade=False)


def test_a_file_of_the_reference_that_is_in_no_solution_is_named(kit):
    (kit / "reference_solution/notes.md").write_text("mine")
    (problem,) = dev_check([], root=kit, grade=False)
    assert problem.startswith("reference_solution/notes.md: is in no solution")


def test_pool_and_reference_are_not_asked_for_where_they_are_not(kit):
    shutil.rmtree(kit / "tests")
    shutil.rmtree(kit / "reference_solution")
    assert dev_check([], root=kit, grade=False) == []


def test_a_runnable_block_runs_in_an_empty_folder(kit):
    block = "\n```python run\nfrom pathlib import Path\n\nassert not list(Path.cwd().iterdir())\n```\n"
    (kit / EXPLAINED).write_text((kit / EXPLAINED).read_text() + block)
    assert dev_check(["01"], root=kit, grade=False) == []


# Grading


def verdict(**outcomes: Outcome | str) -> Grade:
    """A grade of stage 01 in which all checks pass, except those named: an outcome, or a failure with this reason."""
    results = []
    for spec in stages.find("01").checks:
        said = outcomes.get(spec.id.partition(".")[2], Outcome.PASS)
        outcome = said if isinstance(said, Outcome) else Outcome.FAIL
        results.append(CheckResult.of(spec, outcome, reason="so it is" if isinstance(said, Outcome) else said))
    unassessed = Grade(
        kit="0", contract=1, world="1", isolation="plain", submission=Submission("x", "0"), seconds=1.0,
        submission_seconds=1.0, checks=tuple(results), finished=True, notes=(),
    )  # fmt: skip
    return assess(unassessed)


DRAFT = dev.Draft(dev.Kit(ROOT), stages.find("01"))


@pytest.mark.parametrize(
    ("outcomes", "says"),
    [
        ({}, "passes every required check"),
        ({"calibrated": "it is not calibrated"}, "passes every required check"),
        ({"split_by_time": ""}, "baseline.split_by_time does not give a reason"),
        ({"split_by_time": "Traceback (most recent call last)"}, "does not give a reason"),
        (
            {"split_by_time": "it does not hold", "calibrated": Outcome.GRADER_ERROR},
            "baseline.calibrated itself failed",
        ),
    ],
)
def test_a_starter_that_teaches_nothing_is_named(outcomes, says):
    (problem,) = dev.starter_fails_with_reasons(DRAFT, verdict(**outcomes))
    assert problem.startswith("exercises/01-baseline/starter: ")
    assert says in problem


def test_a_starter_that_fails_with_a_reason_is_right():
    assert not list(dev.starter_fails_with_reasons(DRAFT, verdict(split_by_time="it does not hold")))


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.BLOCKED, Outcome.GRADER_ERROR])
def test_a_solution_that_does_not_pass_is_named(outcome):
    (problem,) = dev.solution_passes(DRAFT, verdict(calibrated=outcome))
    assert problem.startswith("exercises/01-baseline/solution: baseline.calibrated ends with")


def test_a_solution_passes_where_a_check_could_not_run():
    assert not list(dev.solution_passes(DRAFT, verdict(calibrated=Outcome.NOT_RUN)))


@pytest.mark.study
def test_the_kit_itself_has_no_problem_when_graded():
    assert dev_check([]) == []


def test_a_solution_without_a_manifest_fails_when_really_graded(kit):
    shutil.rmtree(kit / "reference_solution")
    for part in ("starter", "solution"):
        (kit / "exercises/01-baseline" / part / "pyproject.toml").unlink()
    problems = dev_check(["01"], root=kit)
    assert len(problems) == len(stages.find("01").checks), problems
    assert all("01-baseline/solution: baseline." in problem for problem in problems)
    assert all("ends with blocked" in problem and "pyproject.toml" in problem for problem in problems)


# A new stage


def test_a_new_stage_says_what_is_to_be_written(kit):
    made = new_stage("91-tide-tables", kit)
    assert all(path.is_file() for path in made)
    problems = dev_check(["91"], root=kit, grade=False)
    open_ = [path for path in made if "starter" not in path.parts]
    for path in open_:
        mine = [p for p in problems if p.startswith(path.relative_to(kit).as_posix()) and "TODO: " in p]
        assert mine, path
    others = [p for p in problems if "TODO: " not in p]
    assert [p.split(": ")[0] for p in others] == ["reference_solution/flightdelay/tide_tables.py", MAP], others


def test_a_new_stage_is_found_by_stages_and_graded(tmp_path):
    kit = copy_of_the_kit(tmp_path)
    ignored = shutil.ignore_patterns("__pycache__", ".*", "checks")
    shutil.copytree(ROOT / "grader", kit / "grader", ignore=ignored, dirs_exist_ok=True)
    (kit / "datasets").symlink_to(ROOT / "datasets")
    assert run(kit, "new-stage", "91-tide-tables").returncode == 0
    again = run(kit, "new-stage", "91-tide-tables")
    assert again.returncode == 2
    assert "91-tide-tables is there already" in again.stderr
    assert "Traceback" not in again.stderr
    found = python(kit, "-c", "from grader import stages; print(stages.find('tide-tables').folder.name)")
    assert found.stdout.strip() == "91-tide-tables", found.stderr
    checked = run(kit, "check", "91")
    assert checked.returncode == 1
    assert "tide_tables.does_its_work ends with fail" in checked.stdout, checked.stdout
    assert "91-tide-tables: grading the starter" in checked.stderr
    assert "Traceback" not in checked.stderr


def run(kit: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return python(kit, "-m", "grader.dev_cli", *arguments)


def python(kit: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the kit that stands in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(kit), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=kit, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_nothing_is_overwritten(kit):
    new_stage("91-tide-tables", kit)
    before = {path: path.read_bytes() for path in kit.rglob("*") if path.is_file()}
    for name in ("91-tide-tables", "91-other", "92-tide-tables", "01-baseline"):
        with pytest.raises(NotPossible, match="is there already"):
            new_stage(name, kit)
    assert before == {path: path.read_bytes() for path in kit.rglob("*") if path.is_file()}


def test_one_file_in_the_way_keeps_all_others_from_being_written(kit):
    (kit / "grader/checks/s16_system.py").write_text("mine")
    with pytest.raises(NotPossible, match=r"s16_system\.py is there already"):
        new_stage("16-system", kit)
    assert not (kit / "exercises/16-system").exists()


@pytest.mark.parametrize(
    "name", ["features", "4-features", "04", "04-", "04_features", "04-Features", "04-a/../b", "../04-x"]
)
def test_a_name_that_is_none_is_refused(kit, name):
    with pytest.raises(NotPossible, match="is no name for a stage"):
        new_stage(name, kit)


def test_an_installed_kit_takes_no_new_stage(tmp_path):
    shutil.copytree(ROOT / "exercises", tmp_path / "exercises")
    with pytest.raises(NotPossible, match="checkout"):
        new_stage("91-tide-tables", tmp_path)


def test_the_command_says_how_much_it_found():
    result = run(ROOT, "check", "--no-grade")
    assert (result.returncode, result.stdout.strip()) == (0, "nothing is missing or wrong")
    assert run(ROOT, "check", "77").returncode == 2
