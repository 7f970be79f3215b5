"""Stage 06's tools: challengers are what they are said to be, copies of stores hold, two commands meet in one state."""

from __future__ import annotations

import sqlite3
import tomllib
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grader import home, stores
from grader.checks import challengers
from grader.checks import s06_registry as stage
from grader.checks.challengers import Setting
from grader.contract import OutputProblem, parse_output, read_manifest
from grader.contract.outputs import AuditRecord, GateDecision
from grader.runcache import RunCache
from grader.sandbox import Limits, Mount
from grader.sandbox.inside import spoil
from grader.sandbox.reader import Reader, Unreadable
from grader.submission import Submission

ROWS = 3_000


def flights(seed: int, strength: float = 0.5, levels: int | None = None):
    """A feature table, labels and a model's probabilities: honest, of some strength, perhaps with few different values."""
    draw = np.random.default_rng(seed)
    table = pd.DataFrame({
        "carrier": draw.choice(["AA", "B6", "UA"], ROWS), "origin": draw.choice(["JFK", "LGA", "EWR"], ROWS, p=[0.43, 0.14, 0.43]),
        "dest": draw.choice(["LAX", "BOS", "ORD", "MIA"], ROWS), "dep_hour": draw.integers(5, 23, ROWS).astype(float),
        "dep_dow": draw.integers(0, 7, ROWS), "wx_temp": draw.normal(50, 20, ROWS).round(2),
        "tail_last_age": np.where(draw.random(ROWS) < 0.4, np.nan, draw.integers(60, 3000, ROWS) / 60),
    })  # fmt: skip
    score = draw.normal(size=ROWS)
    late = draw.random(ROWS) < 1 / (1 + np.exp(1.3 - strength * score))
    logit = strength * score - 1.1
    if levels:
        logit = np.quantile(logit, (np.floor(pd.Series(logit).rank(pct=True) * levels * 0.999) + 0.5) / levels)
    return table, late, 1 / (1 + np.exp(-logit))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("strength", "levels"), [(0.35, None), (0.6, None), (0.9, None), (0.6, 5)])
def test_challengers_are_what_they_are_said_to_be_whatever_the_model(seed, strength, levels):
    at = challengers.gate(*flights(seed, strength, levels))
    base, found = challengers.champion(at), challengers.line_up(at, seed)
    slice_ = found["slice"]
    assert len(slice_.slices) == 2
    assert "origin=LGA" in slice_.slices  # the small one
    assert at.lead(found["best"].setting, base) > at.lead(found["lucky"].setting, base) > 0
    assert at.lead(found["lucky"].setting, base) < 1
    assert at.lead(slice_.setting, base) > 3
    for name in slice_.slices:
        low, high = challengers.bars(at, slice_, base, name)
        assert low < high < at.log_loss(slice_.setting, challengers.airport(name))
        assert at.lead(slice_.setting, base, challengers.airport(name)) < -5
    (fine,) = {"JFK", "LGA", "EWR"} - {challengers.airport(name) for name in slice_.slices}
    assert at.lead(slice_.setting, base, fine) > 0
    assert at.auc(found["leaky"].setting) >= 0.95
    assert at.calibration(found["uncalibrated"].setting) >= 0.13
    assert at.auc(found["blatant"].setting) >= 0.95
    assert at.calibration(found["blatant"].setting) >= 0.13
    assert {case.refused for case in found.values()} == {
        None, "not_better", "too_good", "slice", "calibration", "latency", "schema",
    }  # fmt: skip


def test_a_row_is_known_again_whatever_engine_computed_its_features():
    table, _, _ = flights(1)
    other = table.assign(
        dep_hour=table["dep_hour"].astype("Int64"), dep_dow=table["dep_dow"].astype(float),
        wx_temp=table["wx_temp"] * (1 + 1e-9), tail_last_age=table["tail_last_age"].astype("float32").astype("Float64"),
        origin=table["origin"].astype("category"),
    )  # fmt: skip
    assert spoil.keys_of(table) == spoil.keys_of(other)


@given(st.integers(0, 2**30))
def test_noise_of_a_row_is_its_own_and_normally_distributed(salt):
    keys = [f"row {n}" for n in range(400)]
    noise = spoil.normal(keys, salt)
    assert np.array_equal(noise[:5], spoil.normal(keys[:5], salt))
    assert abs(noise.mean()) < 0.35
    assert 0.7 < noise.std() < 1.3


def test_a_setting_that_changes_nothing_keeps_the_order():
    table, late, probability = flights(2)
    at = challengers.gate(table, late, probability)
    assert np.allclose(at.of(Setting()), probability)
    assert np.array_equal(np.argsort(at.of(Setting(slope=2.0, shift=1.0))), np.argsort(probability))
    there = at.of(Setting(noise=1.0, within="JFK")) != at.of(Setting())
    assert np.array_equal(there, (table["origin"] == "JFK").to_numpy())
    assert at.auc(replace(Setting(), gain=0.5)) > at.auc(Setting())


@pytest.mark.parametrize("seed", range(4))
def test_one_airport_has_few_flights_and_the_model_another_name(seed, tmp_path):
    origin = np.repeat(["JFK", "LGA", "EWR"], 1_000)
    delay = [None if row % 20 == 0 else float(row) for row in range(3_000)]
    pq.write_table(
        pa.table({"origin": origin, "arr_delay_min": pa.array(delay, pa.float64())}), tmp_path / "month.parquet"
    )
    stage.thin_out(tmp_path / "month.parquet", seed)
    left = pd.read_parquet(tmp_path / "month.parquet").dropna().groupby("origin").size().sort_values()
    assert 300 < left.iloc[0] < 500
    assert left.iloc[1:].tolist() == [950, 950]
    (tmp_path / "usecase.toml").write_bytes((home.datasets() / "usecase.toml").read_bytes())
    name = stage.name_the_model(tmp_path / "usecase.toml", seed)
    assert (
        tomllib.loads((tmp_path / "usecase.toml").read_text(encoding="utf-8"))["model_name"] == name != stage.MODEL_NAME
    )


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"decision": "promoted", "champion_before": None, "champion_after": "2", "reasons": []}, None),
        ({"decision": "refused", "champion_before": "1", "champion_after": "1", "reasons": []}, "reasons"),
        ({"decision": "maybe", "champion_before": "1", "champion_after": "1", "reasons": []}, "decision"),
        ({"decision": "refused", "champion_before": 1, "champion_after": "1", "reasons": []}, "champion_before"),
        (
            {
                "decision": "refused", "champion_before": "1", "champion_after": "1",
                "reasons": [{"gate": "ugly", "metric": "x", "champion": None, "challenger": None, "bar": None}],
            },
            "gate",
        ),
    ],
)  # fmt: skip
def test_a_decision_gives_reasons_exactly_where_it_refuses(said, problem):
    if problem is None:
        assert parse_output(GateDecision, said).champion_after == "2"
        return
    with pytest.raises(OutputProblem, match=problem):
        parse_output(GateDecision, said)


def test_an_audit_line_has_from_and_to():
    line = {
        "at": "2024-01-01T00:00:00Z",
        "action": "rollback",
        "from": "2",
        "to": "1",
        "decision": "promoted",
        "reasons": [],
    }
    found = parse_output(AuditRecord, line)
    assert (found.before, found.after) == ("2", "1")
    with pytest.raises(OutputProblem, match="from"):
        parse_output(AuditRecord, {**line, "from": 2})


def test_a_copy_of_a_store_is_found_where_it_lies(sandbox, tmp_path):
    made = stores.Stores(sandbox, tmp_path)
    made.lay_down(tmp_path / "one")
    made.go_on(tmp_path / "one", tmp_path / "two")
    with sqlite3.connect(tmp_path / "two" / stores.DATABASE) as connection:
        places = [
            row[0] for row in connection.execute("SELECT artifact_location FROM experiments WHERE name = 'departures'")
        ]
    connection.close()
    assert places[0].startswith(sandbox.path(Mount(tmp_path / "two", stores.NAME)))


def test_lines_of_json_are_read_and_torn_ones_are_told(sandbox, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "audit.jsonl").write_bytes(b'{"a": 1}\n{"a": \n\n[2]\xff\n3\n')
    reader = Reader(sandbox, tmp_path / "scratch")
    assert reader.lines(tmp_path / "a" / "audit.jsonl") == [{"a": 1}, None, None, 3]
    with pytest.raises(Unreadable):
        reader.lines(tmp_path / "a" / "none.jsonl")


def test_a_run_is_not_taken_for_one_that_went_on_with_something_else(tmp_path):
    cache = RunCache(tmp_path / "cache")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    keys = {cache.key("x", ["a"], {}, [], "plain", {"state": tmp_path / name}) for name in ("one", "two")}
    assert len({*keys, cache.key("x", ["a"], {}, [], "plain")}) == 3


MEET = """
import os, pathlib, sys, time
state = pathlib.Path(os.environ["MLEKIT_STATE"])
(state / sys.argv[1]).write_text("here")
for _ in range(200):
    if len(list(state.glob("[ab]"))) == 2:
        sys.exit(0)
    time.sleep(0.05)
sys.exit(1)
"""


def test_two_commands_at_once_share_store_and_state_and_nothing_else(sandbox, tmp_path):
    home = tmp_path / "submission"
    home.mkdir()
    (home / "pyproject.toml").write_text("[tool.mlekit]\ncontract = 1\n")
    (home / "meet.py").write_text(MEET)
    made = stores.Stores(sandbox, tmp_path)
    made.lay_down(tmp_path / "store")
    submission = Submission(home, read_manifest(home), sandbox, stores=made)
    outs = [tmp_path / "x", tmp_path / "y"]
    for out in outs:
        out.mkdir()
    runs = submission.run_together(
        "meet", [["python", "meet.py", name] for name in "ab"], [], outs, Limits(seconds=60), tmp_path / "store"
    )
    assert [ran.ok for ran in runs] == [True, True], [ran.sentence() for ran in runs]
    assert runs[0].state == runs[1].state
    assert runs[0].tracking == runs[1].tracking
    assert runs[0].refusal != runs[1].refusal
