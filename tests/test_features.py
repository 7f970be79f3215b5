"""The judge's own computation of features agrees, value by value, with one that filters the tables row by row."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from grader import home
from grader.contract.features import MAX_FEATURES, FeatureProblem, duration, parse_features, required
from grader.world import build, draw_rows, write_data
from grader.world.features import compute
from grader.world.timely import BROKEN_ZONES, draw_definitions, draw_timely

USECASE = home.datasets() / "usecase.toml"
MORE = """
feature = [
  { name = "busy", kind = "count", table = "flights", by = ["carrier", "origin"], column = "dep_delay_min", window = "PT36H" },
  { name = "landed", kind = "count", table = "flights", by = ["tailnum"], column = "label", window = "P3D" },
  { name = "gusts", kind = "mean", table = "weather", by = ["origin"], column = "wind_gust", window = "PT12H" },
  { name = "gust_age", kind = "age", table = "weather", by = ["origin"], column = "wind_gust", max_age = "PT4H" },
  { name = "last_tail", kind = "asof", table = "flights", by = ["origin"], column = "tailnum", max_age = "PT12H" },
  { name = "last_late", kind = "asof", table = "flights", by = ["origin", "dest"], column = "label", max_age = "P1DT12H" },
  { name = "seats", kind = "lookup", table = "planes", by = ["tailnum"], column = "seats" },
  { name = "maker", kind = "lookup", table = "planes", by = ["tailnum"], column = "manufacturer" },
  { name = "arrives", kind = "calendar", of = "sched_arr", part = "hour", zone = "Pacific/Auckland" },
  { name = "month", kind = "calendar", of = "sched_dep", part = "month", zone = "America/St_Johns" },
]
"""


@dataclass
class Slow:
    """One feature of one row by looking through whole tables."""

    data: Path

    @cached_property
    def rules(self):
        return tomllib.loads(USECASE.read_text())

    @cached_property
    def tables(self):
        paths = {name: self.data / name for name in self.rules["tables"]}
        return {n: pd.read_parquet(p if p.is_dir() else p.with_suffix(".parquet")) for n, p in paths.items()}

    def value(self, feature, row):
        decision = row["sched_dep"] - pd.Timedelta(hours=2)
        if feature.kind == "column":
            return row[feature.column]
        if feature.kind == "calendar":
            local = row[feature.of]
            if pd.isna(local):
                return None
            local = local.tz_convert(feature.zone)
            return {"hour": local.hour, "dow": local.dayofweek, "month": local.month}[feature.part]
        table, rules = self.tables[feature.table], self.rules["tables"][feature.table]
        for name in feature.by:
            if pd.isna(row[name]):
                return None
            table = table[table[name] == row[name]]
        if feature.kind == "lookup":
            return table[feature.column].iloc[0] if len(table) else None
        if feature.column == "label":
            values, known = (table["arr_delay_min"] > 15).astype(float), table["label_known_at"]
            values = values.where(table["arr_delay_min"].notna())
        else:
            values = table[feature.column]
            known = table[rules.get("known", {}).get(feature.column, rules["known_at"])]
        there = values.notna() & known.notna() & (known <= decision)
        if feature.kind in ("asof", "age"):
            past = table.assign(value=values, known=known)[there].sort_values([rules["time"], "known", *rules["key"]])
            if past.empty or decision - past[rules["time"]].iloc[-1] > duration(feature.max_age):
                return None
            age = (decision - past[rules["time"]].iloc[-1]).total_seconds() / 3600
            return age if feature.kind == "age" else past["value"].iloc[-1]
        inside = values[there & (known > decision - duration(feature.window))]
        if feature.kind == "count":
            return len(inside)
        return inside.mean() if len(inside) else None


def same(one, two) -> bool:
    if pd.isna(one) or pd.isna(two):
        return bool(pd.isna(one) and pd.isna(two))
    return one == two if isinstance(one, str) else abs(one - two) <= 1e-9 * max(1, abs(one))


@pytest.mark.parametrize("seed", [3, 11])
def test_features_are_those_of_a_search_through_whole_tables(tmp_path, seed):
    world = build(seed)
    months = world.months[1:3]
    write_data(world, tmp_path, months, 4_000)
    late_files(tmp_path)
    rows = draw_rows(world, months, 30, "features").table
    rows.loc[:3, "tailnum"] = None
    rows.loc[4:5, "carrier"] = "QQ"
    rows.loc[6, "sched_arr"] = pd.NaT
    features, slow = required() + parse_features(MORE), Slow(tmp_path)
    found = compute(features, USECASE, tmp_path, rows)
    assert found["row_id"].tolist() == rows["row_id"].tolist()
    for feature in features:
        expected = [slow.value(feature, row) for _, row in rows.iterrows()]
        wrong = [(e, g) for e, g in zip(expected, found[feature.name], strict=True) if not same(e, g)]
        assert not wrong, (feature, wrong[:5])
        assert any(not pd.isna(value) for value in expected), feature


def late_files(data: Path) -> None:
    """Let some observations become known long after newer ones, and some at the same moment."""
    for path in (data / "weather").glob("*.parquet"):
        weather = pd.read_parquet(path)
        draw = np.random.default_rng(1)
        late = draw.random(len(weather)) < 0.3
        weather.loc[late, "known_at"] = weather.loc[late, "known_at"].dt.ceil("12h")
        weather.to_parquet(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("feature = 3", "1 to 200 entries"),
        ("[[feature]]\nname = ", "not valid TOML"),
        ("other = 1\n[[feature]]\nname = 'a'\nkind = 'column'\ncolumn = 'b'\n", "nothing else"),
        ("[[feature]]\nname = 'a'\nkind = 'colum'\ncolumn = 'b'\n", "'a'"),
        ("[[feature]]\nname = 'a'\nkind = 'column'\n", "column: Field required"),
        ("[[feature]]\nname = 'row_id'\nkind = 'column'\ncolumn = 'b'\n", "row_id"),
        ("[[feature]]\nname = 'A b'\nkind = 'column'\ncolumn = 'b'\n", "name"),
        ("[[feature]]\nname = 'a'\nkind = 'column'\ncolumn = 'b'\n" * 2, "defines a 2 times"),
        ("[[feature]]\nname = 'a'\nkind = 'column'\ncolumn = 'b'\nby = 3\n", "by"),
        ("feature = [{ name = 'a', kind = 'calendar', of = 'b', part = 'hour', zone = 'Mars/Utopia' }]", "IANA"),
        ("feature = [{ name = 'a', kind = 'mean', table = 't', by = ['c'], column = 'd', window = '7 days' }]", "P7D"),
        ("feature = [{ name = 'a', kind = 'mean', table = 't', by = ['c'], column = 'd', window = 'P0D' }]", "P7D"),
        ("feature = [{ name = 'a', kind = 'mean', table = 't', by = [], column = 'd', window = 'P1D' }]", "by"),
        ("[[feature]]\nname = 'a'\nkind = 'column'\ncolumn = 'b'\n" * (MAX_FEATURES + 1), "1 to 200"),
    ],
)
def test_wrong_definitions_are_refused_with_what_is_wrong(text, said):
    with pytest.raises(FeatureProblem) as problem:
        parse_features(text)
    assert said in str(problem.value)


@pytest.mark.parametrize("name", ["_", "7d", "_late_7d", "a" * 60])
def test_a_name_is_of_letters_digits_and_underscores_in_any_order(name):
    (feature,) = parse_features(f"feature = [{{ name = '{name}', kind = 'column', column = 'b' }}]")
    assert feature.name == name


@pytest.mark.parametrize(
    "entry",
    [
        "kind = 'column', column = 'arr_delay_min'",
        "kind = 'calendar', of = 'carrier', part = 'hour', zone = 'UTC'",
        "kind = 'lookup', table = 'planes', by = ['origin'], column = 'seats'",
        "kind = 'lookup', table = 'planes', by = ['tailnum'], column = 'wings'",
        "kind = 'asof', table = 'planes', by = ['tailnum'], column = 'seats', max_age = 'P1D'",
        "kind = 'mean', table = 'flights', by = ['carrier'], column = 'tailnum', window = 'P1D'",
        "kind = 'mean', table = 'fleet', by = ['carrier'], column = 'tailnum', window = 'P1D'",
        "kind = 'mean', table = 'weather', by = ['carrier'], column = 'temp', window = 'P1D'",
    ],
)
def test_definitions_that_the_data_does_not_have_are_a_problem(tmp_path, entry):
    world = build(3)
    write_data(world, tmp_path, world.months[:1], 50)
    rows = draw_rows(world, world.months[:1], 5, "features").table
    with pytest.raises(FeatureProblem, match="feature odd"):
        compute(parse_features(f"feature = [{{ name = 'odd', {entry} }}]"), USECASE, tmp_path, rows)


@pytest.mark.parametrize("seed", [3, 11])
def test_the_case_holds_what_seldom_happens(seed):
    """Values of one time that became known at once, departures before their time, ages on the edge, long durations, nulls to count."""
    case = draw_timely(build(seed), 0.5, 100)
    flights = case.flights[case.flights["label_known_at"].notna()]
    at_once = flights.duplicated(["origin", "sched_dep", "label_known_at"], keep=False)
    assert at_once.mean() > 0.05
    assert (flights["arr_time"] == flights["label_known_at"]).all()
    delay = (flights["arr_time"] - flights["sched_arr"]).dt.total_seconds() / 60
    assert delay.equals(flights["arr_delay_min"])  # no label is another
    drawn = draw_definitions(case)
    assert any(f.kind == "calendar" and f.part == "hour" and f.zone in BROKEN_ZONES for f in drawn)
    assert any(f.kind == "count" and f.column == "wind_gust" for f in drawn)
    spans = [f.max_age for f in drawn if f.kind in ("asof", "age")] + [
        f.window for f in drawn if f.kind in ("mean", "count")
    ]
    assert sum(duration(span) > pd.Timedelta(days=32) for span in spans) >= 3
    assert sum(sum(map(str.isdigit, span)) >= 4 for span in spans) >= 3
    age = case.usual_rows(500).table["sched_dep"].dt.minute.isin([0, 15, 30])
    assert age.sum() > 50
