"""The self-test: what the pool expects, how rates are counted, and the command on a few real submissions."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from clikit import mlekit

from grader import home, pool, stages
from grader.pool import Entry, Kind
from grader.selftest import Rate, Results, Seen, Summary, judged_by, kit_digest, problem, shard, worlds
from grader.selftest_page import lines, page
from grader.verdict import Outcome

PASS, FAIL, BLOCKED, BROKEN = Outcome.PASS, Outcome.FAIL, Outcome.BLOCKED, Outcome.GRADER_ERROR


def mutant(name="cuts_a_corner", kills=("a",), may=()) -> Entry:
    return Entry(Kind.MUTANT, "01", name, frozenset(kills), frozenset(may))


@pytest.mark.parametrize(
    ("entry", "outcomes", "complete", "words"),
    [
        (mutant(), {"a": FAIL, "b": PASS}, False, ""),
        (mutant(), {"a": PASS, "b": PASS}, True, "not noticed by a"),
        (mutant(), {"a": FAIL, "b": PASS}, True, ""),  # by a check that is not required
        (Entry(Kind.ATTACK, "01", "x"), {"a": PASS, "b": PASS}, True, "wrong, and complete"),
        (mutant(), {"a": FAIL, "b": FAIL}, False, "also noticed by b"),
        (mutant(may=("b",)), {"a": FAIL, "b": FAIL}, False, ""),
        (mutant(kills=("a", "b")), {"a": FAIL, "b": PASS}, False, "not noticed by b"),
        (mutant(), {"a": FAIL, "b": BLOCKED}, False, ""),
        (mutant(), {"a": FAIL, "b": BROKEN}, False, "the grader failed in b"),
        (Entry(Kind.REFERENCE, "01", "01"), {"a": PASS, "b": PASS}, True, ""),
        (Entry(Kind.REFERENCE, "01", "01"), {"a": PASS, "b": FAIL}, False, "right, and not passed: b"),
        (Entry(Kind.ALTERNATIVE, "01", "01-other"), {"a": BLOCKED}, False, "right, and not passed: a"),
        (Entry(Kind.STARTER, "01", "01"), {"a": PASS, "b": FAIL}, False, ""),
        (Entry(Kind.STARTER, "01", "01"), {"a": PASS, "b": PASS}, True, "wrong, and complete"),
        (Entry(Kind.NOTHING, "01", "01"), {"a": BLOCKED, "b": BLOCKED}, False, ""),
        (Entry(Kind.NOTHING, "01", "01"), {"a": PASS, "b": BLOCKED}, False, "nothing, and passed a"),
        (Entry(Kind.ATTACK, "01", "x", earns=frozenset({"b"})), {"a": FAIL, "b": PASS}, False, ""),
        (Entry(Kind.ATTACK, "01", "x", earns=frozenset()), {"a": FAIL, "b": PASS}, False, "an attack that earned b"),
        (Entry(Kind.ATTACK, "01", "x"), {"a": FAIL, "b": PASS}, False, ""),
    ],
)  # fmt: skip
def test_what_is_wrong_with_verdicts_is_said(entry, outcomes, complete, words):
    assert problem(entry, outcomes, complete) == words


def test_an_interval_is_exact():
    assert Rate(0, 100).interval == pytest.approx((0.0, 0.036217), abs=1e-6)
    assert Rate(5, 50).interval == pytest.approx((0.033275, 0.218135), abs=1e-6)  # as R's binom.test(5, 50) has it
    assert Rate(7, 7).interval == pytest.approx((0.590384, 1.0), abs=1e-6)
    assert Rate(0, 0).interval == (0.0, 1.0)
    assert str(Rate(0, 0)) == "none was asked"


def seen(entry: Entry, outcomes: dict[str, Outcome], **more) -> Seen:
    found = Seen(
        str(entry), entry.kind, entry.stage, 5, "bubblewrap", kit_digest(entry.stage), entry.digest, outcomes,
        dict.fromkeys(outcomes, 1.0), 2.0, False, problem(entry, outcomes, False),
    )  # fmt: skip
    return replace(found, **more)


NAMES = [check.id for check in stages.find("01").checks]


def test_rates_and_matrix():
    a, b, c = NAMES[:3]
    one, two = mutant("one", (a,)), mutant("two", (b,), (c,))
    right = Entry(Kind.REFERENCE, "01", "01")
    found = Summary((
        seen(one, {a: FAIL, b: PASS, c: PASS}), seen(two, {a: FAIL, b: PASS, c: FAIL}), seen(right, {a: PASS, b: FAIL, c: PASS}),
    ))  # fmt: skip
    assert (found.accepted.times, found.accepted.of) == (1, 2)
    assert (found.rejected.times, found.rejected.of) == (1, 1)
    strayed = found.strayed([one, two, right])
    assert {check: (rate.times, rate.of) for check, rate in strayed.items()} == {a: (1, 2), b: (1, 2), c: (0, 2)}
    assert found.noticed_by()[a] == [str(one), str(two)]
    needed = found.needed([one, two, right, mutant("three", (c,))])
    assert (needed[a], needed[b], needed[c]) == (True, False, None)
    asked_in_part = replace(
        found, seen=(seen(two, {b: FAIL}, quick=True), seen(mutant("four", (c,)), {c: FAIL}, quick=True))
    )
    needed = asked_in_part.needed([two, mutant("four", (c,))])
    assert (needed[b], needed[c]) == (False, True)
    told = "\n".join(lines(found, [one, two, right]))
    assert "wrong ones accepted: 1 of 2" in told
    assert "mutant 01-two (world 5): not noticed by" in told
    made = page(found, [one, two, right, Entry(Kind.ATTACK, "01", "floods", family="stores")])
    assert "| stores | 1 | 0 | 0 |" in made
    assert f"| `{a}` |  | 2 | yes | 1 of 2" in made
    assert "- reference `reference 01`, world 5: right, and not passed" in made


def test_results_of_another_kit_or_of_what_has_changed_do_not_count(tmp_path):
    a, *others = NAMES
    kept, entry = Results(tmp_path / "deep" / "results.jsonl"), mutant("one", (a,))
    assert kept.of([entry]) == []
    good = seen(entry, {a: FAIL, **dict.fromkeys(others, PASS)})
    kept.add(replace(good, seconds=1.0))
    kept.add(good)
    kept.add(replace(good, kit="another"))
    kept.add(replace(good, name="01-gone"))
    with kept.path.open("a") as file:
        file.write('{"half')
    assert kept.of([entry]) == [good]
    kept.add(replace(good, quick=True))
    assert kept.of([entry]) == [good]
    assert kept.of([replace(entry, delete=("other.py",))]) == []


def test_results_stand_when_only_what_is_expected_has_changed(tmp_path):
    a, b, *others = NAMES
    kept, entry = Results(tmp_path / "results.jsonl"), mutant("one", (a,))
    kept.add(seen(entry, {a: FAIL, b: FAIL, **dict.fromkeys(others, PASS)}))
    (before,) = kept.of([entry])
    assert before.problem == f"also noticed by {b}"
    (after,) = kept.of([replace(entry, may=frozenset({b}))])
    assert after.problem == ""
    kept.path.unlink()
    kept.add(seen(entry, {a: FAIL}, quick=True))
    assert len(kept.of([entry])) == 1
    assert kept.of([replace(entry, kills=frozenset({a, b}))]) == []  # nobody has asked b


def test_the_digest_of_a_submission_is_the_same_in_every_process():
    program = (
        "from grader.pool import entries\nfor e in entries():\n    if e.stage == '01': print(e.kind.value, e, e.digest)"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(told) == 1
    assert len(told.pop().splitlines()) > 80


LOADED = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*(module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "grader" and module.__file__), sep="\\n")
"""


@pytest.mark.parametrize("stage", ["01", "08", "11"])
def test_a_verdict_depends_on_all_that_is_loaded_for_it_and_not_on_the_rest_of_the_kit(stage):
    told = set(judged_by(stage))
    modules = ["engine.worker", "engine.plugin", "engine.supervisor", f"checks.{stages.find(stage).module}"]
    line = [sys.executable, "-c", LOADED, *(f"grader.{module}" for module in modules)]
    loaded = subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {Path(file) for file in loaded} <= told
    assert {home.PACKAGE / "sandbox" / "inside" / "read.py", stages.find(stage).folder / "stage.toml"} <= told
    assert not {"s10_monitoring.py", "breaking.py", "selftest_page.py", "cli.py"} & {path.name for path in told}
    tools = {path.name for path in told if path.parent.name == "inside"}
    assert ("alter_registry.py" in tools) == (stage != "01")
    assert len({kit_digest(other.id) for other in stages.all_stages()}) == len(stages.all_stages())


def test_shards_are_all_of_it_and_each_has_some_of_each_stage():
    whole = pool.entries()
    parts = [shard(whole, number, 4) for number in (1, 2, 3, 4)]
    assert sorted(str(e) for part in parts for e in part) == sorted(map(str, whole))
    for part in parts:
        assert {entry.stage for entry in part} == {stage.id for stage in stages.all_stages()}


def test_right_submissions_are_graded_in_as_many_worlds_as_one_likes():
    right = Entry(Kind.REFERENCE, "01", "01")
    assert len(set(worlds(right, 4))) == 4
    assert worlds(right, 4)[:2] == worlds(right, 2)
    assert worlds(right, 1) == [right.seed]
    assert worlds(mutant(), 4) == [mutant().seed]
    told = lines(Summary(tuple(seen(right, {NAMES[0]: PASS}, seed=seed) for seed in worlds(right, 4))), [right])
    assert told[0] == "graded: 1 of 1 references in 4 worlds"
    assert told[2].startswith("right ones rejected: 0 of 4 (")


def test_entries_of_the_pool_are_what_they_say():
    whole = pool.entries()
    known = {check.id: check.stage for check in stages.all_checks()}
    assert len({(str(entry), entry.kind) for entry in whole}) == len(whole)
    for entry in whole:
        named = entry.kills | entry.may | (entry.earns or set())
        assert {known[check] for check in named} <= {entry.stage}, entry
        if entry.kind is Kind.MUTANT:
            assert entry.kills, entry
    folders = {path.name for part in ("attacks", "leaks") for path in (home.pool() / part).iterdir() if path.is_dir()}
    assert folders == {Path(entry.folder).name for entry in pool.attacks() if entry.folder}


def test_each_submission_can_be_laid_down(tmp_path):
    """An edit of a mutant finds its place exactly once; otherwise this says which."""
    for number, entry in enumerate(pool.entries()):
        entry.lay_down(tmp_path / str(number))
        assert (tmp_path / str(number) / "pyproject.toml").exists(), entry


# The command


def test_the_command_grades_keeps_and_goes_on(tmp_path):
    results, written = tmp_path / "results.jsonl", tmp_path / "page.md"
    line = ["selftest", "01", "--quick", "--name", "pickled_predictions", "--name", "nothing", "--name", "01-sorts_its_answers",
            "--results", str(results)]  # fmt: skip
    done = mlekit(*line, "--page", str(written), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrong ones accepted: 0 of 3" in done.stdout
    assert len(results.read_text().splitlines()) == 3
    assert "as it should be" in done.stderr
    assert "`01-sorts" not in written.read_text()
    assert "sorts its answers" in written.read_text()
    began = time.monotonic()
    again = mlekit(*line, "--json", cwd=tmp_path)
    assert time.monotonic() - began < 10
    assert "3 of 3 were graded before" in again.stderr
    assert {json.loads(text)["kind"] for text in again.stdout.splitlines()} == {"attack", "nothing", "mutant"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--shard", "5/4"], "'5/4' is no shard; give one like 1/4 to 4/4"),
        (["--shard", "x"], "is no shard"),
        (["--isolation", "jail"], "there is no isolation 'jail'; it is one of auto"),
        (["--name", "nobody at all"], "no submission of the pool is left"),
        (["77"], "77"),
    ],
)
def test_what_cannot_be_asked_is_told(given, words, tmp_path):
    done = mlekit("selftest", *given, "--results", str(tmp_path / "r"), cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def begun(folder: Path) -> subprocess.Popen[str]:
    """A run of several mutants, one at a time, in a process group of its own; its results go into the file r."""
    line = ["selftest", "01", "--name", "01-", "--results", str(folder / "r"), "--jobs", "1", "--quick"]
    return subprocess.Popen(
        [sys.executable, "-m", "grader", *line], cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip


def test_an_interrupted_run_keeps_what_it_has_and_says_how_to_go_on(tmp_path):
    running = begun(tmp_path)
    assert running.stderr is not None
    assert re.match(r"1/\d+ ", running.stderr.readline())
    time.sleep(2)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all of the group
    rest = running.stderr.read()
    assert running.wait(60) in (0, 1)
    assert "the same command goes on" in rest
    assert "Traceback" not in rest, rest
    assert (tmp_path / "r").read_text().count("\n") >= 1


def test_gradings_end_with_a_run_that_is_killed(tmp_path):
    """As a time limit of CI does it: the run alone gets the signal."""
    running = begun(tmp_path)

    def below() -> list[psutil.Process]:
        return psutil.Process(running.pid).children(recursive=True)

    until = time.monotonic() + 60
    while not any("grader.engine.worker" in " ".join(child.cmdline()) for child in below()):
        assert time.monotonic() < until
        time.sleep(0.2)
    mine = below()
    running.kill()
    running.wait()
    _, left = psutil.wait_procs(mine, timeout=30)
    assert not left, [child.cmdline() for child in left]


def test_a_run_that_has_no_minute_left_grades_nothing(tmp_path):
    done = mlekit("selftest", "01", "--minutes", "0", "--results", str(tmp_path / "r"), cwd=tmp_path)
    assert done.returncode == 0
    assert "not all were graded" in done.stderr
    assert "wrong ones accepted: none was asked" in done.stdout
