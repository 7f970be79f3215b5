"""Worlds: what every one of them must hold, whatever its seed."""

import hashlib
import json
import shutil
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from grader.checks import yardstick
from grader.world import build, draw_rows, folder_hash, seed_from_secret, table_hash, write_data
from grader.world import verify as verification
from grader.world.build import _shift, public_tables, true_chances
from grader.world.layout import AFTER_DEPARTURE, delay_all_from, exchange_schedules, scrambled, with_many_just_in_time
from grader.world.verify import verify_datasets, verify_folder

NEW_YORK = ZoneInfo("America/New_York")
SEED, OTHER = 7, 104
built = lru_cache(build)  # worlds are shared: no test changes one
# Content of the first month of two worlds, 500 flights each: another machine or library that draws differently shows here.
PINNED = {
    SEED: "6f5dcf74ea6d2b182648d6a9363fac3e8ef06e77c1bc7ac88096c29373ba010b",
    OTHER: "142dc88ae3b8e9c2b8864017e526f2daafc5ca80c9956a35e740b367df9225a6",
}


@pytest.fixture(scope="module")
def world():
    return built(SEED)


@pytest.fixture(scope="module")
def real():
    return built(None)


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    """A small DATA folder; tests that spoil it work on a copy."""
    out = tmp_path_factory.mktemp("data")
    write_data(world, out, world.months[:2], 500)
    return out


def content(table):
    return table_hash(pa.Table.from_pandas(table, preserve_index=False))


def late_by_month(world):
    landed = yardstick.labelled(world.flights)
    return landed.groupby(world.month_of(landed))["late"].mean().to_numpy()


def test_equal_seeds_give_equal_worlds_and_others_do_not(world):
    again = build(SEED)
    for name in ("flights", "weather", "planes", "airlines"):
        assert content(getattr(again, name)) == content(getattr(world, name))
    assert content(built(OTHER).flights) != content(world.flights)


@pytest.mark.parametrize("seed", sorted(PINNED))
def test_a_world_is_the_same_on_every_machine(seed, tmp_path):
    other = built(seed)
    assert write_data(other, tmp_path, other.months[:1], 500) == PINNED[seed]


def test_the_real_year_is_complete(real):
    flights = real.flights
    assert (real.year, len(flights), len(real.weather), len(real.planes)) == (2013, 336_776, 26_115, 3_322)
    assert flights["outcome"].value_counts().to_dict() == {"flown": 327_346, "cancelled": 8_255, "diverted": 1_175}
    assert "UA" in set(flights["carrier"])


@pytest.mark.parametrize("which", ["world", "real"])
def test_local_text_and_utc_agree_across_daylight_saving(which, request):
    world = request.getfixturevalue(which)
    flights = world.flights
    wall_clock = flights["sched_dep"].dt.tz_convert(NEW_YORK).dt.tz_localize(None)
    assert (wall_clock == pd.to_datetime(flights["sched_dep_local"], format="%Y-%m-%dT%H:%M")).all()
    assert flights["sched_dep_local"].str.len().eq(16).all()
    assert (flights["sched_dep_local"].str.slice(0, 4) == str(world.year)).all()


@pytest.mark.parametrize("seed", [SEED, OTHER])
def test_no_flight_is_scheduled_in_the_hour_that_spring_skips(seed):
    world = built(seed)
    spring = (
        pd.date_range(f"{world.year}-03-08", f"{world.year}-03-14").to_series().loc[lambda day: day.dt.dayofweek == 6]
    )
    text = world.flights["sched_dep_local"]
    day = text.str.startswith(f"{spring.iloc[0]:%Y-%m-%d}T")
    assert day.any()
    assert not text[day].str.slice(11, 13).eq("02").any()


@pytest.mark.parametrize("seed", [SEED, OTHER])
def test_the_calendar_is_a_whole_year_with_the_weekdays_kept(seed):
    world = built(seed)
    days = pd.to_datetime(world.flights["sched_dep_local"].str.slice(0, 10))
    assert days.nunique() >= 362
    assert sorted(days.dt.month.unique()) == list(range(1, 13))
    per_weekday = world.flights.groupby(days.dt.dayofweek).size()
    assert per_weekday.idxmin() == 5  # Saturday, as in the real year


def test_flights_are_ordered_and_their_ids_unique_and_opaque(world):
    flights = world.flights
    assert flights["flight_id"].is_unique
    assert flights["flight_id"].str.fullmatch(r"F\d{9}").all()
    assert flights["sched_dep"].is_monotonic_increasing
    order = flights["flight_id"].str.slice(1).astype(int)
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.02


@pytest.mark.parametrize("which", ["world", "real"])
def test_arrival_follows_departure(which, request):
    flown = request.getfixturevalue(which).flights.query("outcome == 'flown'")
    assert (flown["arr_time"] > flown["dep_time"]).all()
    assert (flown["sched_arr"] > flown["sched_dep"]).all()
    assert (flown["dep_time"] == flown["sched_dep"] + pd.to_timedelta(flown["dep_delay_min"], unit="m")).all()
    assert (flown["arr_time"] == flown["sched_arr"] + pd.to_timedelta(flown["arr_delay_min"], unit="m")).all()


def test_a_redrawn_flight_is_in_the_air_for_less_than_its_whole_way(world):
    flown = world.flights.query("outcome == 'flown'")
    minutes = (flown["arr_time"] - flown["dep_time"]).dt.total_seconds() / 60
    assert (flown["air_time_min"] < minutes).all()
    assert (flown["air_time_min"] > 0).all()


@pytest.mark.parametrize("which", ["world", "real"])
def test_a_label_is_known_on_landing_and_never_for_a_flight_that_did_not_land(which, request):
    flights = request.getfixturevalue(which).flights
    flown = flights["outcome"].eq("flown")
    assert (flights["label_known_at"].notna() == flown).all()
    assert (flights["arr_delay_min"].notna() == flown).all()
    assert (flights["label_known_at"] == flights["arr_time"])[flown].all()
    departed = ~flights["outcome"].eq("cancelled")
    assert flights.loc[~departed, ["dep_time", "dep_known_at"]].isna().all(axis=None)
    assert (flights["dep_known_at"] == flights["dep_time"])[departed & flights["dep_time"].notna()].all()


@pytest.mark.parametrize("which", ["world", "real"])
def test_weather_is_known_after_it_was_observed_and_has_one_row_an_hour(which, request):
    weather = request.getfixturevalue(which).weather
    assert (weather["known_at"] > weather["observed_at"]).all()
    assert not weather.duplicated(["origin", "observed_at"]).any()
    assert len(weather) > 25_800


@pytest.mark.parametrize("seed", [SEED, OTHER])
def test_each_month_is_as_late_as_the_real_one(seed, real):
    assert np.abs(late_by_month(built(seed)) - late_by_month(real)).max() < 0.02


def test_cancelled_and_diverted_flights_are_about_as_many_as_in_the_real_year(world, real):
    for outcome in ("cancelled", "diverted"):
        shares = [(w.flights["outcome"] == outcome).mean() for w in (world, real)]
        assert shares[0] == pytest.approx(shares[1], rel=0.25)


def test_nothing_keeps_its_original_name(world, real):
    for name in ("carrier", "tailnum"):
        assert not set(world.flights[name].dropna()) & set(real.flights[name].dropna())
    assert set(world.flights["carrier"]) <= set(world.airlines["carrier"])
    shared = world.flights["tailnum"].dropna().isin(world.planes["tailnum"]).mean()
    assert shared == pytest.approx(real.flights["tailnum"].dropna().isin(real.planes["tailnum"]).mean(), abs=0.01)
    assert not set(world.airlines["name"]) & set(real.airlines["name"])


def test_rows_to_score_carry_a_label_only_when_careless(world):
    rows = draw_rows(world, world.months[:2], 500, "a draw")
    assert not set(rows.table.columns) & {*AFTER_DEPARTURE, "flight_id"}
    assert set(AFTER_DEPARTURE) <= set(draw_rows(world, world.months[:2], 500, "a draw", careless=True).table.columns)


def test_rows_to_score_are_unique_opaque_and_in_no_order(world):
    rows = draw_rows(world, world.months[:2], 500, "a draw")
    assert len(rows) == len(rows.late) == len(rows.after) == 500
    assert rows.table["row_id"].is_unique
    assert rows.table["row_id"].str.fullmatch(r"r[0-9a-f]{12}").all()
    assert not rows.table["sched_dep"].is_monotonic_increasing
    assert set(rows.table["sched_dep_local"].str.slice(0, 7)) == set(world.months[:2])
    assert rows.table.equals(draw_rows(world, world.months[:2], 500, "a draw").table)
    assert not rows.table.equals(draw_rows(world, world.months[:2], 500, "another").table)


def test_scrambling_exchanges_values_where_it_says_and_leaves_no_trace(world):
    rows = draw_rows(world, world.months[:2], 2_000, "a draw", careless=True)
    other = scrambled(rows, share=0.5, seed=1)
    table, touched = other.rows.table, other.touched
    assert touched.sum() == 1_000
    for name in ("dep_delay_min", "arr_delay_min", "arr_time", "air_time_min"):
        assert (table[name] != rows.table[name])[touched].mean() > 0.9, name
    for name in ("dep_delay_min", "arr_delay_min"):
        assert sorted(table[name]) == sorted(rows.table[name])
    assert table[~touched].equals(rows.table[~touched])
    untouched = [name for name in rows.table.columns if name not in AFTER_DEPARTURE]
    assert table[untouched].equals(rows.table[untouched])
    late = (table["dep_time"] - table["sched_dep"]).dt.total_seconds() / 60
    assert (late == table["dep_delay_min"]).all()
    ground = (table["arr_time"] - table["dep_time"]).dt.total_seconds() / 60 - table["air_time_min"]
    assert abs(ground[touched].mean() - ground[~touched].mean()) < 2


def test_a_secret_gives_a_seed_of_its_own_to_each_label():
    assert seed_from_secret(b"one", "ada") == seed_from_secret(b"one", "ada")
    assert len({seed_from_secret(s, label) for s in (b"one", b"two") for label in ("ada", "bob")}) == 4


def test_written_data_is_the_world_in_its_order(world, tmp_path):
    out = tmp_path / "data"
    digest = write_data(world, out, world.months[:1])
    first = world.flights[world.month_of(world.flights) == world.months[0]].reset_index(drop=True)
    assert pd.read_parquet(out / "flights" / f"{world.months[0]}.parquet").equals(first)
    schema = pq.read_schema(out / "flights" / f"{world.months[0]}.parquet")
    assert {schema.field(n).type for n in ("sched_dep", "arr_time", "label_known_at")} == {pa.timestamp("us", tz="UTC")}
    assert digest == folder_hash(out) == json.loads((out / "manifest.json").read_text())["dataset_hash"]


def test_a_share_of_a_month_keeps_the_order_of_time(folder, world):
    part = pd.read_parquet(folder / "flights" / f"{world.months[0]}.parquet")
    assert len(part) == 500
    assert part["sched_dep"].is_monotonic_increasing


def test_row_order_is_part_of_a_content_hash(world):
    table = pa.Table.from_pandas(world.airlines, preserve_index=False)
    assert table_hash(table) != table_hash(table.take(list(range(table.num_rows))[::-1]))
    assert table_hash(table) == table_hash(table.select(table.column_names[::-1]))


def test_the_shipped_data_is_what_its_manifest_says():
    assert verify_datasets() == []


@pytest.fixture
def spoilable(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "data")


def test_a_written_folder_is_what_its_manifest_says(spoilable):
    assert verify_folder(spoilable) == []


def test_a_flipped_byte_is_named(spoilable):
    path = spoilable / "planes.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (problem,) = verify_folder(spoilable)
    assert "planes.parquet has changed" in problem


def test_a_missing_a_foreign_and_an_unreadable_file_are_named(spoilable):
    (spoilable / "airports.parquet").unlink()
    shutil.copy(spoilable / "planes.parquet", spoilable / "more.parquet")
    (spoilable / "airlines.parquet").write_bytes(b"PAR1")
    said = " ".join(verify_folder(spoilable))
    for sentence in (
        "airports.parquet is missing",
        "more.parquet is not in manifest",
        "airlines.parquet has changed and",
    ):
        assert sentence in said


def test_an_extra_row_is_counted(spoilable):
    path = next((spoilable / "flights").iterdir())
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)
    (problem,) = verify_folder(spoilable)
    assert "501 rows" in problem
    assert "500" in problem


def test_a_manifest_that_was_edited_along_with_a_file_still_shows(spoilable):
    path = spoilable / "airlines.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    manifest = json.loads((spoilable / "manifest.json").read_text())
    for record in manifest["files"]:
        if record["path"] == "airlines.parquet":
            record.update(rows=15, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    (spoilable / "manifest.json").write_text(json.dumps(manifest))
    (problem,) = verify_folder(spoilable)
    assert "dataset_hash" in problem


@pytest.mark.parametrize("text", [None, "no json", "[]", "{}", '{"files": [1]}', '{"files": [{"path": "../x"}]}'])
def test_a_broken_manifest_is_a_sentence(spoilable, text):
    path = spoilable / "manifest.json"
    path.unlink() if text is None else path.write_text(text)
    assert verify_folder(spoilable)


def test_shipped_data_that_changed_is_named(tmp_path, monkeypatch):
    shutil.copytree(verification.home.datasets(), tmp_path / "datasets")
    monkeypatch.setattr(verification.home, "datasets", lambda: tmp_path / "datasets")
    path = tmp_path / "datasets" / "nycflights13" / "shocks.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    (problem,) = verify_datasets()
    assert "shocks.parquet" in problem


def test_the_public_year_says_less_than_a_model_of_the_worlds_own_past(world):
    """The adaptive lookup of `benchmarks/worlds.py`, on one month, aligned by the true shift."""
    landed = yardstick.labelled(world.flights)
    past = landed[world.month_of(landed).isin(world.months[:3])]
    rows = draw_rows(world, world.months[5:6], 8_000, "lookup")
    local = pd.to_datetime(rows.table["sched_dep_local"]) - _shift(world.year)
    public = public_tables()
    flights = public["flights"]
    known = pd.DataFrame(
        {
            "at": flights["sched_dep_local"],
            "origin": flights["origin"],
            "dest": flights["dest"],
            "label": flights["arr_delay_min"].astype(float).fillna(0),
            "model": public["generator"]["logit_milli"],
        }
    ).sort_values("at", kind="stable")
    mine = rows.table[["origin", "dest"]].assign(at=local, row=np.arange(len(rows))).sort_values("at", kind="stable")
    found = pd.merge_asof(mine, known, on="at", by=["origin", "dest"], direction="nearest").sort_values("row")
    honest = roc_auc_score(rows.late, yardstick.honest_model(past, rows))
    for column in ("label", "model"):
        assert roc_auc_score(rows.late, found[column].fillna(0)) < honest - 0.01, column


def test_the_true_chances_are_those_of_the_labels(world):
    landed = yardstick.labelled(world.flights)
    chance = landed["flight_id"].map(true_chances(SEED))
    assert chance.notna().all()
    assert chance.between(0, 1).all()
    assert chance.mean() == pytest.approx(landed["late"].mean(), abs=0.003)
    assert 0.76 < roc_auc_score(landed["late"], chance) < 0.86
    tenths = pd.cut(chance, np.linspace(0, 1, 11))
    gap = landed.groupby(tenths, observed=True)["late"].mean() - chance.groupby(tenths, observed=True).mean()
    assert gap.abs().max() < 0.03


def test_many_flights_are_just_in_time_and_none_is_late_for_it(world):
    other = with_many_just_in_time(world).flights
    before, after = yardstick.labelled(world.flights), yardstick.labelled(other)
    assert after["late"].equals(before["late"])
    just = after["arr_delay_min"].eq(15)
    assert just.mean() > 0.08 > before["arr_delay_min"].eq(15).mean()
    moved = after["arr_time"] - before["arr_time"]
    assert moved.dt.total_seconds().div(60).equals(after["arr_delay_min"] - before["arr_delay_min"])
    assert after["label_known_at"].equals(after["arr_time"])
    assert other[~other["outcome"].eq("flown")].equals(world.flights[~world.flights["outcome"].eq("flown")])


def test_another_schedule_flies_everywhere_about_as_often(folder, tmp_path):
    path = tmp_path / "flights.parquet"
    shutil.copy(next((folder / "flights").glob("*.parquet")), path)
    before = pd.read_parquet(path)
    exchange_schedules(path, np.random.default_rng(1))
    after = pd.read_parquet(path)
    counts = after["dest"].value_counts()
    assert counts.max() < 0.5 * before["dest"].value_counts().max()
    assert set(after["dest"]) <= set(before["dest"])
    schedule = ["carrier", "flight_no", "tailnum", "dest", "distance_miles"]
    assert after.drop(columns=schedule).equals(before.drop(columns=schedule))
    known = before[["dest", "distance_miles", "origin"]].groupby("dest")["distance_miles"].agg(set)
    assert all(distance in known[dest] for dest, distance in zip(after["dest"], after["distance_miles"], strict=True))


def test_what_was_known_by_a_moment_stays_when_all_else_is_late(folder, tmp_path):
    path = tmp_path / "flights.parquet"
    shutil.copy(next(folder.glob("flights/*.parquet")), path)
    before = pd.read_parquet(path)
    moment = before["label_known_at"].median()
    delay_all_from(path, moment, 60.0)
    after = pd.read_parquet(path)
    assert (after.dtypes == before.dtypes).all()
    known = {
        "label_known_at": ["arr_time", "arr_delay_min", "air_time_min"],
        "dep_known_at": ["dep_time", "dep_delay_min"],
    }
    for told, columns in known.items():
        later = (before[told] > moment).to_numpy()
        assert 0.4 < later.mean() < 0.6
        pd.testing.assert_frame_equal(after.loc[~later, [told, *columns]], before.loc[~later, [told, *columns]])
        assert (after.loc[later, told] - before.loc[later, told] == pd.Timedelta(minutes=60)).all()
    later = before["label_known_at"] > moment
    assert (after.loc[later, "arr_delay_min"] - before.loc[later, "arr_delay_min"] == 60.0).all()
    flown = after[after["outcome"] == "flown"]
    assert (flown["arr_time"] - flown["dep_time"] >= pd.to_timedelta(flown["air_time_min"] - 1, unit="m")).all()
    same = before.columns.difference([*known, *known["label_known_at"], *known["dep_known_at"]])
    pd.testing.assert_frame_equal(after[same], before[same])
