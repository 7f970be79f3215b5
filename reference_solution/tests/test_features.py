"""What features promise, each on a handful of rows. These call functions: it is values that they are about, not commands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from conftest import write_world

from flightdelay.data import DataFolder, read_table
from flightdelay.definitions import own_definitions, read_definitions
from flightdelay.features import compute_features
from flightdelay.usecase import read_usecase

DECIDED = datetime(2013, 1, 20, 12, tzinfo=UTC)
LATEST = 'kind = "asof"\ntable = "weather"\nby = ["origin"]\ncolumn = "temp"\nmax_age = "PT6H"'
AGE = LATEST.replace("asof", "age")
MEAN = 'kind = "mean"\ntable = "weather"\nby = ["origin"]\ncolumn = "temp"\nwindow = "PT6H"'
COUNT = MEAN.replace("mean", "count")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    write_world(folder)
    return folder


@pytest.fixture
def value_of(world, tmp_path):
    """The value of one definition for one row that is decided on at DECIDED, in weather of the test's own making."""

    def compute(definition: str, *weather: tuple[float, float, float | None], origin: str | None = "JFK") -> object:
        """`weather` are triples: hours from the decision to the observation, and to when it became known; temperature."""
        data = DataFolder(tmp_path)
        hours = [[DECIDED + timedelta(hours=row[i]) for row in weather] for i in (0, 1)]
        table = {
            "origin": ["JFK"] * len(weather),
            "observed_at": hours[0],
            "known_at": hours[1],
            "temp": [r[2] for r in weather],
        }
        types = {"observed_at": pl.Datetime("us", "UTC"), "known_at": pl.Datetime("us", "UTC"), "temp": pl.Float64}
        (tmp_path / "weather").mkdir(exist_ok=True)
        pl.DataFrame(table, schema_overrides=types).write_parquet(tmp_path / "weather" / "2013-01.parquet")
        row = pl.DataFrame({"origin": [origin], "sched_dep": [DECIDED + timedelta(hours=2)]})
        spec = written(tmp_path, definition)
        return compute_features(read_definitions(spec), read_usecase(world / "usecase.toml"), data, row)["x"][0]

    return compute


def written(folder: Path, definition: str) -> Path:
    path = folder / "spec.toml"
    path.write_text(f'[[feature]]\nname = "x"\n{definition}\n')
    return path


def test_a_value_counts_from_the_instant_at_which_it_is_known(value_of):
    assert value_of(LATEST, (-3, -2, 10.0), (-1, 0, 20.0)) == 20
    assert value_of(LATEST, (-3, -2, 10.0), (-1, 0.001, 20.0)) == 10
    assert value_of(LATEST, (-1, 0.001, 20.0)) is None


def test_an_old_value_that_arrives_late_replaces_no_newer_one(value_of):
    assert value_of(LATEST, (-2, -1.5, 20.0), (-3, -0.5, 10.0)) == 20


def test_of_two_values_for_one_time_the_correction_counts(value_of):
    assert value_of(LATEST, (-2, -1, 10.0), (-2, -0.5, 20.0)) == 20


def test_a_gap_is_looked_behind_but_not_for_ever(value_of):
    assert value_of(LATEST, (-2, -1, 10.0), (-1, 0, None)) == 10
    assert value_of(LATEST, (-6, -5, 10.0)) == 10
    assert value_of(LATEST, (-6.001, -5, 10.0)) is None


def test_age_is_counted_in_hours_from_what_the_value_is_about(value_of):
    assert value_of(AGE, (-2.5, -1, 10.0)) == 2.5
    assert value_of(AGE, (-7, -1, 10.0)) is None


def test_a_window_includes_the_decision_and_not_its_other_end(value_of):
    weather = [(-7, -6, 1.0), (-7, -5.999, 10.0), (-1, 0, 20.0), (-1, 0.001, 100.0)]
    assert value_of(MEAN, *weather) == 15
    assert value_of(COUNT, *weather) == 2


def test_an_empty_window_has_no_mean_and_a_count_of_none(value_of):
    assert value_of(MEAN, (-9, -8, 1.0)) is None
    assert value_of(COUNT, (-9, -8, 1.0), (-1, 0, None)) == 0


def test_a_row_without_an_origin_belongs_to_no_group(value_of):
    assert value_of(COUNT, (-1, 0, 1.0), origin=None) is None
    assert value_of(COUNT, (-1, 0, 1.0), origin="XXX") == 0


@pytest.mark.parametrize(
    ("instant", "hour"),
    [("2013-03-10T06:30", 1), ("2013-03-10T07:30", 3), ("2013-11-03T05:30", 1), ("2013-11-03T06:30", 1)],
)
def test_the_clock_in_new_york_is_put_forward_and_back(world, tmp_path, instant, hour):
    rows = pl.DataFrame({"sched_dep": [datetime.fromisoformat(instant).replace(tzinfo=UTC)]})
    spec = written(tmp_path, 'kind = "calendar"\nof = "sched_dep"\npart = "hour"\nzone = "America/New_York"')
    found = compute_features(read_definitions(spec), read_usecase(world / "usecase.toml"), DataFolder(tmp_path), rows)
    assert found["x"][0] == hour


def test_what_becomes_known_after_the_decisions_changes_nothing(world, tmp_path):
    """Nor does the order of rows: not of those in the data, and not of those that are asked about."""
    usecase, definitions = read_usecase(world / "usecase.toml"), read_definitions(own_definitions())
    flights = read_table(world / "data" / "flights" / "2013-01.parquet")
    rows = flights.filter(pl.col("sched_dep") < DECIDED)
    before = compute_features(definitions, usecase, DataFolder(world / "data"), rows)
    for table, known in (("flights", "dep_known_at"), ("flights", "label_known_at"), ("weather", "known_at")):
        values = (
            ["temp", "precip"]
            if table == "weather"
            else ["dep_delay_min"]
            if known == "dep_known_at"
            else ["arr_delay_min"]
        )
        path = tmp_path / table / "2013-01.parquet"
        path.parent.mkdir(exist_ok=True)
        given = read_table(path if path.exists() else world / "data" / table / "2013-01.parquet")
        later = pl.when(pl.col(known) > DECIDED - usecase.decision_lead)
        given.with_columns(later.then(999.0).otherwise(pl.col(v)).alias(v) for v in values).reverse().write_parquet(
            path
        )
    after = compute_features(definitions, usecase, DataFolder(tmp_path), rows.reverse())
    assert after.reverse().equals(before)


@pytest.mark.parametrize(
    "definition",
    [
        'kind = "median"', LATEST.replace('"temp"', '"tempo"'), LATEST.replace('"weather"', '"wether"'), LATEST + "\nunit = 1",
        LATEST.replace("PT6H", "6 hours"), LATEST.replace("PT6H", "P0D"), MEAN.replace('["origin"]', '["seats"]'),
        LATEST.replace('"weather"', '"planes"'), 'kind = "lookup"\ntable = "weather"\nby = ["origin"]\ncolumn = "temp"',
        'kind = "column"\ncolumn = "dep_delay_min"', 'kind = "calendar"\nof = "sched_dep"\npart = "hour"\nzone = "New York"',
    ],
)  # fmt: skip
def test_a_wrong_definition_is_refused_by_the_name_of_the_feature(world, tmp_path, monkeypatch, definition):
    monkeypatch.setenv("MLEKIT_REFUSAL", str(tmp_path / "refusal.json"))
    rows = read_table(world / "data" / "flights" / "2013-01.parquet")
    with pytest.raises(SystemExit) as ended:
        compute_features(
            read_definitions(written(tmp_path, definition)),
            read_usecase(world / "usecase.toml"),
            DataFolder(world / "data"),
            rows,
        )
    assert ended.value.code == 2
    assert '"key": "x"' in (tmp_path / "refusal.json").read_text()
