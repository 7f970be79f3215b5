"""Feeds break exactly the rules that they say they break, in the rows and columns that they name."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from poolkit import POOL

from grader import home, stages
from grader.contract.rules import BY_NAME
from grader.world import feed_usecase, feeds, write_data
from grader.world.build import build, stream
from grader.world.feed_kinds import KINDS, LONGER, MANY_NULLS, PERSONAL, SOME_NULLS, SPOILED, TIMES, UNUSUAL, draft_of

SEEDS = (5, 91_002)
OTHER_ROWS = (
    "doubled_keys",
    "second_file",
    "last_months_flights",
    "last_months_weather",
    "empty_file",
    "empty_second_file",
)
USECASE = tomllib.loads((home.datasets() / "usecase.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def laid_down(tmp_path_factory):
    """Feeds and history of a world, written down; made once a world."""

    @cache
    def make(seed: int) -> tuple[feeds.Case, Path]:
        world, folder = feeds.with_an_airline_to_come(build(seed)), tmp_path_factory.mktemp(f"world-{seed}")
        write_data(world, folder / "history", feeds.months_of(world)[1], 3_000)
        case = feeds.make_feeds(world, folder / "history")
        for name, feed in case.feeds.items():
            feed.write(folder / "feeds" / name)
        (folder / "usecase.toml").write_text(case.usecase)
        return case, folder

    return make


def of_kind(case: feeds.Case, kind: str):
    return case.feeds[case.of_kind(kind)]


@cache
def source(seed: int, folder: Path):
    """Where the feeds of a world come from."""
    return feeds._source(
        feeds.with_an_airline_to_come(build(seed)),
        {t: pq.read_table(folder / "history" / t).to_pandas() for t in ("flights", "weather")},
    )


def before(seed: int, folder: Path, kind: str) -> dict[str, pa.Table]:
    """The clean sample that a feed was made from."""
    draft = draft_of(source(seed, folder), stream(seed, f"feed {kind}"))
    return draft.finished(kind, "").tables


def differing(one: pa.Table, other: pa.Table) -> dict[str, set[int]]:
    """The columns of two tables that differ, and in which rows; a column that only one has differs in all."""
    names = {*one.column_names, *other.column_names}
    found = {}
    for name in names:
        if name not in one.column_names or name not in other.column_names:
            found[name] = set(range(one.num_rows))
            continue
        pairs = zip(bytes_of(one.column(name)), bytes_of(other.column(name)), strict=True)
        if rows := {i for i, (a, b) in enumerate(pairs) if a != b and not (a != a and b != b)}:
            found[name] = rows
    return found


def kind_of(type_: pa.DataType) -> str:
    return "text" if pa.types.is_string(type_) else "number" if pa.types.is_floating(type_) else str(type_)


def bytes_of(column: pa.ChunkedArray) -> list[object]:
    return (column.cast(pa.binary()) if pa.types.is_string(column.type) else column).to_pylist()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", [k for k in (*SPOILED, *PERSONAL) if k not in OTHER_ROWS])
def test_a_spoiled_feed_differs_from_a_clean_one_where_it_says_and_nowhere_else(laid_down, kind, seed):
    case, folder = laid_down(seed)
    feed, clean = of_kind(case, kind), before(seed, folder, kind)
    for table in ("flights", "weather"):
        faults = [fault for fault in feed.faults if fault.table == table]
        came = feed.tables[table]
        if any(fault.rule in ("stale", "truncated") for fault in faults):
            own = next(file for file in feed.files if file.path == f"{table}/{case.month}.parquet")
            assert not differing(clean[table], own.table)
            continue
        changed = differing(clean[table], came)
        new = set(came.column_names) - set(clean[table].column_names)
        same = kind == "reals_for_whole_numbers"  # 7 is 7.0
        assert same or set(changed) - new == {f.column for f in faults if f.rule != "personal_data"}
        if [f.rule for f in faults] not in (["renamed_column"], ["missing_column"]):
            assert new == {f.column for f in faults if f.rule == "personal_data"}
        elif faults[0].rule == "missing_column":
            assert kind_of(came.schema.field(*new).type) != kind_of(clean[table].schema.field(faults[0].column).type)
        for fault in faults:
            if BY_NAME[fault.rule].scope == "row":
                rows = set().union(*(set(f.rows) for f in faults if f.column == fault.column))
                assert changed[fault.column] == rows
                assert len(rows) == came.num_rows if kind == "all_in_lower_case" else 0 < len(rows) < came.num_rows / 4


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_with_doubled_keys_are_all_named_and_half_of_them_contradict_each_other(laid_down, seed):
    feed = of_kind(laid_down(seed)[0], "doubled_keys")
    assert {fault.table for fault in feed.faults} == {"flights", "weather"}
    for fault in feed.faults:
        frame = feed.tables[fault.table].to_pandas()
        twice = frame.duplicated(list(feeds.KEYS[fault.table]), keep=False)
        if fault.rule == "out_of_range":  # one of the two is wrong in another column as well
            assert set(fault.rows) < set(twice.index[twice])
            continue
        assert set(fault.rows) == set(twice.index[twice])
        assert frame[list(feeds.KEYS[fault.table])].isna().any(axis=1)[list(fault.rows)].sum() >= 2
        exact = frame.duplicated(keep=False)
        assert 0 < exact.sum() < twice.sum()
        assert not (exact & ~twice).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_wrong_in_two_files_stands_in_the_second_one(laid_down, seed):
    feed = of_kind(laid_down(seed)[0], "second_file")
    for table in ("flights", "weather"):
        first, second = (file.table for file in feed.files if file.path.startswith(table))
        assert first.num_rows
        assert second.num_rows
        for fault in (f for f in feed.faults if f.table == table):
            some = sum(row < first.num_rows for row in fault.rows)
            assert (0 < some < len(fault.rows)) if fault.rule == "duplicate_key" else some == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_files_are_damaged_as_told(laid_down, seed):
    case, folder = laid_down(seed)
    for kind, damage in {
        "file_cut_off": "cut",
        "rows_lost": "short",
        "rows_added": "more",
        "file_not_there": "",
        "file_not_listed": "",
        "empty_file": "empty",
    }.items():
        name = case.of_kind(kind)
        (table,) = {fault.table for fault in case.feeds[name].faults}
        path = folder / "feeds" / name / table / f"{case.month}.parquet"
        listed = {
            f["path"]: f["rows"] for f in json.loads((folder / "feeds" / name / "manifest.json").read_text())["files"]
        }
        if damage == "cut":
            with pytest.raises(pa.ArrowInvalid):
                pq.read_table(path)
        elif damage == "short":
            assert 0 < pq.ParquetFile(path).metadata.num_rows < listed[f"{table}/{case.month}.parquet"]
        elif damage == "more":
            assert pq.ParquetFile(path).metadata.num_rows > listed[f"{table}/{case.month}.parquet"] > 0
        elif damage == "empty":
            assert pq.ParquetFile(path).metadata.num_rows == 0
        else:
            assert not path.exists()
            assert (f"{table}/{case.month}.parquet" in listed) == (kind == "file_not_there")
    assert not (folder / "feeds" / case.of_kind("no_manifest") / "manifest.json").exists()
    parts = sorted((folder / "feeds" / case.of_kind("empty_second_file") / "weather").iterdir())
    assert [pq.ParquetFile(path).metadata.num_rows == 0 for path in parts] == [False, True]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_manifest_does_not_list_files_by_their_names(laid_down, seed):
    case, folder = laid_down(seed)
    for kind in ("second_file", "two_files"):
        listed = json.loads((folder / "feeds" / case.of_kind(kind) / "manifest.json").read_text())["files"]
        paths = [file["path"] for file in listed if file["path"].startswith("flights")]
        assert len(paths) == 2
        assert paths != sorted(paths)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_clock_of_now_matters(laid_down, seed):
    """Rows lie on both sides of `now`, and whoever reads its clock without its distance from UTC has some on the wrong side."""
    case, _ = laid_down(seed)
    now = pd.Timestamp(case.now)
    misread = pd.Timestamp(case.now[:19] + "Z")
    assert abs(now - misread) >= pd.Timedelta(hours=2)
    for table, column in TIMES.items():
        times = pd.concat(
            [of_kind(case, kind).tables[table].to_pandas()[column] for kind in ("at_the_limits", "from_the_future")]
        )
        assert ((times > now) != (times > misread)).any()
        assert (of_kind(case, "at_the_limits").tables[table].to_pandas()[column] <= now).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["nulls_in_weather", "some_nulls"])
def test_most_nulls_of_real_numbers_come_as_nan(laid_down, kind, seed):
    rows = of_kind(laid_down(seed)[0], kind).tables["weather"]
    column = (
        rows.column("temp")
        if kind == "some_nulls"
        else next(rows.column(fault.column) for fault in of_kind(laid_down(seed)[0], kind).faults)
    )
    nan = sum(value is not None and value != value for value in column.to_pylist())
    assert nan > column.null_count > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_files_that_the_manifest_does_not_list_are_there_and_no_part_of_the_feed(laid_down, seed):
    case, folder = laid_down(seed)
    name = case.of_kind("stray_files")
    here = folder / "feeds" / name
    listed = {f["path"] for f in json.loads((here / "manifest.json").read_text())["files"]}
    there = {str(path.relative_to(here)) for path in here.rglob("*.parquet")}
    assert len(there) == 4
    assert len(listed & there) == len(listed) == 2
    assert case.feeds[name].rows == sum(pq.ParquetFile(here / path).metadata.num_rows for path in listed)


@pytest.mark.parametrize("seed", SEEDS)
def test_texts_that_are_not_utf8_are_so_on_disk(laid_down, seed):
    case, folder = laid_down(seed)
    for where in ("flights", "weather"):
        name = case.of_kind(f"latin_in_{where}")
        (fault,) = case.feeds[name].faults
        table = pq.read_table(folder / "feeds" / name / where / f"{case.month}.parquet")
        with pytest.raises(pa.ArrowInvalid, match="Invalid UTF8"):
            table.column(fault.column).validate(full=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_personal_data_is_found_by_the_patterns_of_the_use_case_and_unique_to_its_feed(laid_down, seed):
    case, _ = laid_down(seed)
    patterns = tomllib.loads(case.usecase)["feeds"]["personal_data"]
    for kind in (*PERSONAL, "personal_remarks"):
        feed = of_kind(case, kind)
        assert len(feed.secrets) > 20
        (fault,) = (f for f in feed.faults if f.rule == "personal_data")
        cells = [value for value in feed.tables[fault.table].column(fault.column).to_pylist() if value]
        known = patterns[-1:] if kind == "card_numbers" else patterns[:-1]
        assert any(re.search(pattern, cell) for pattern in known for cell in cells)
        assert all(any(secret in cell for cell in cells) for secret in feed.secrets)
        others = [f for f in case.feeds.values() if f is not feed]
        assert not set(feed.secrets) & {secret for other in others for secret in other.secrets}


@pytest.mark.parametrize("seed", SEEDS)
def test_names_of_folders_say_nothing_and_feeds_differ_in_size(laid_down, seed):
    case, _ = laid_down(seed)
    assert len(case.feeds) == len(KINDS) == len(SPOILED) + len(PERSONAL) + len(UNUSUAL)
    assert all(len(name) == 10 and set(name) <= set("0123456789abcdef") for name in case.feeds)
    assert list(case.feeds) == sorted(case.feeds)
    kinds = list(KINDS)
    assert [kinds.index(feed.kind) for feed in case.feeds.values()] != sorted(range(len(kinds)))
    assert len({feed.rows for feed in case.feeds.values()}) > 20


def test_the_same_seed_gives_the_same_feeds_and_another_one_others(laid_down):
    case, folder = laid_down(SEEDS[0])
    again = feeds.make_feeds(feeds.with_an_airline_to_come(build(SEEDS[0])), folder / "history")
    assert {n: (f.kind, f.faults) for n, f in again.feeds.items()} == {
        n: (f.kind, f.faults) for n, f in case.feeds.items()
    }
    other, _ = laid_down(SEEDS[1])
    assert {f.faults for f in other.feeds.values() if f.faults} != {f.faults for f in case.feeds.values() if f.faults}


def test_feeds_under_other_names_are_the_same_feeds(laid_down):
    case, _ = laid_down(SEEDS[0])
    some, old = feeds.renamed(case, list(case.feeds)[:4], 5, "again")
    assert not set(some.feeds) & set(case.feeds)
    assert {old[name]: feed for name, feed in some.feeds.items()} == dict(list(case.feeds.items())[:4])


def test_the_texts_count_the_feeds_rightly():
    brief = (home.exercises() / "03-data-contract" / "README.md").read_text(encoding="utf-8")
    assert f"on {len(KINDS)} feeds" in brief
    assert f"{len(SPOILED)} spoiled ones" in brief
    assert f"{len(PERSONAL)} with nothing wrong but a column" in brief
    assert f"{len(UNUSUAL)} that are right" in brief
    titles = {check.id.partition(".")[2]: check.title for check in stages.find("03").checks}
    assert titles["lets_nothing_wrong_in"].endswith(f"of {len(SPOILED)} spoiled feeds")
    assert f"accepts {len(UNUSUAL)} feeds" in titles["lets_the_unusual_in"]


def test_the_use_case_names_known_columns():
    for name in USECASE["feeds"]["tables"]:
        rules, columns = USECASE["tables"][name], set(feeds.COLUMNS[name])
        named = {*rules["steady"], *rules["values"], *rules.get("filled", {}).get("columns", ())}
        named |= set(rules.get("filled", {}).get("where", {}))
        assert named <= columns


@pytest.mark.parametrize("seed", SEEDS)
def test_all_rules_are_broken(laid_down, seed):
    case, _ = laid_down(seed)
    assert {fault.rule for feed in case.feeds.values() for fault in feed.faults} == set(BY_NAME)
    assert all(of_kind(case, kind).faults for kind in (*SPOILED, *PERSONAL))
    assert all(of_kind(case, kind).clean for kind in UNUSUAL)


def judged(folder: Path, program: list[str], case: feeds.Case, out: Path) -> list[str]:
    """Where the judgement of a program, run without a sandbox, differs from what the feeds say of themselves."""
    out.mkdir()
    words = [
        *program, "--usecase", folder / "usecase.toml", "--feeds", folder / "feeds", "--history", folder / "history",
        "--now", case.now, "--out", out,
    ]  # fmt: skip
    done = subprocess.run(
        [str(w) for w in words], capture_output=True, text=True, cwd=home.reference_solution(), check=False
    )
    assert done.returncode == 0, done.stderr
    wrong = []
    for name, feed in case.feeds.items():
        report = json.loads((out / name / "report.json").read_text())
        got = {
            (f["table"], f["column"] if BY_NAME[f["rule"]].names_column else None, f["rule"])
            for f in report["findings"]
        }
        expected = {(f.table, f.column, f.rule) for f in feed.faults}
        if report["status"] != feed.status or got != expected:
            wrong.append(f"{feed.kind}: {report['status']} {got}, expected {feed.status} {expected}")
    return wrong


PROGRAMS = {
    "reference": [sys.executable, "-m", "flightdelay.validate"],
    "rows as dictionaries": [sys.executable, str(POOL / "alternatives" / "03-arrow-rows-as-dicts" / "door.py")],
}


@pytest.mark.parametrize("seed", [*SEEDS, *(pytest.param(s, marks=pytest.mark.study) for s in range(700, 720))])
@pytest.mark.parametrize("program", PROGRAMS)
def test_two_programs_that_follow_the_contract_find_exactly_what_is_wrong(laid_down, program, seed, tmp_path):
    case, folder = laid_down(seed)
    assert judged(folder, PROGRAMS[program], case, tmp_path / "out") == []


def test_what_is_clean_stays_well_inside_the_limits_and_what_is_not_goes_well_beyond(laid_down):
    """Means and shares of nulls of right feeds keep half of the way to the limit free."""
    for seed in SEEDS:
        case, folder = laid_down(seed)
        limits = tomllib.loads(case.usecase)["feeds"]
        limit, factor = limits["null_share"], limits["mean_factor"]
        for table, rules in ((t, USECASE["tables"][t]) for t in USECASE["feeds"]["tables"]):
            history = pq.read_table(folder / "history" / table).to_pandas()
            for feed in case.feeds.values():
                if not feed.clean or feed.kind in ("some_nulls", "longer_flights"):
                    continue
                frame = feed.tables[table].to_pandas()
                if "filled" in rules:
                    frame, usual = frame[frame["outcome"] == "flown"], history[history["outcome"] == "flown"]
                else:
                    usual = history
                known = list(history.columns)
                more = frame[known].isna().mean() - usual[known].isna().mean()
                assert more.max() < limit / 2, (feed.kind, more.idxmax())
                apart = frame[rules["steady"]].mean() / usual[rules["steady"]].mean()
                assert apart.between(2 / (1 + factor), (1 + factor) / 2).all(), (feed.kind, apart)


def test_a_feed_without_faults_is_clean_and_one_with_a_column_left_out_is_accepted(laid_down):
    case, _ = laid_down(SEEDS[0])
    assert of_kind(case, "ordinary").status == "accepted"
    assert of_kind(case, "personal_column").status == "accepted"
    assert not of_kind(case, "personal_column").clean
    assert of_kind(case, "personal_remarks").status == "quarantined"
    assert replace(of_kind(case, "personal_remarks"), faults=()).clean


@pytest.mark.parametrize("seed", [*SEEDS, *range(60)])
def test_the_use_case_of_a_grading_is_the_published_one_with_other_numbers(seed):
    text = feed_usecase.drawn(stream(seed, "use case of the feeds"))
    ours, case = tomllib.loads(text), tomllib.loads(feed_usecase.published())
    assert ours != case
    assert [line.split("=")[0] for line in text.splitlines()] == [
        line.split("=")[0] for line in feed_usecase.published().splitlines()
    ]
    limits = ours["feeds"]
    assert limits["null_share"] - SOME_NULLS >= 0.0399
    assert SOME_NULLS - case["feeds"]["null_share"] >= 0.0399
    assert min(MANY_NULLS) - limits["null_share"] >= 0.1
    assert limits["mean_factor"] / LONGER > 1.04 < LONGER / case["feeds"]["mean_factor"]
    assert 1.58 / limits["mean_factor"] > 1.06
    assert limits["personal_data"][:-1] == case["feeds"]["personal_data"]
    assert ours["tables"]["flights"]["values"]["outcome"]["one_of"][:-1] == ["flown", "cancelled", "diverted"]
    for table, rules in ours["tables"].items():
        assert {**rules, "values": 0} == {**case["tables"][table], "values": 0}


@pytest.mark.parametrize("seed", SEEDS)
def test_feeds_lie_between_what_is_published_and_what_is_handed_over(laid_down, seed):
    """A program with its own copy of the use case stops some of what is right and accepts some of what is wrong."""
    case, folder = laid_down(seed)
    history = {t: pq.read_table(folder / "history" / t).to_pandas() for t in ("flights", "weather")}
    nulls, longer = (
        {t: rows.to_pandas() for t, rows in of_kind(case, k).tables.items()} for k in ("some_nulls", "longer_flights")
    )
    flown, usual = nulls["flights"], history["flights"]
    flown, usual_flown = flown[flown["outcome"] == "flown"], usual[usual["outcome"] == "flown"]
    for now, before, column in (
        (nulls["flights"], usual, "tailnum"), (flown, usual_flown, "arr_delay_min"), (nulls["weather"], history["weather"], "temp"),
    ):  # fmt: skip
        assert now[column].isna().mean() - before[column].isna().mean() == pytest.approx(SOME_NULLS, abs=0.002)
    for column in ("distance_miles", "air_time_min"):
        assert longer["flights"][column].mean() / usual[column].mean() == pytest.approx(LONGER)
    published = USECASE["tables"]["flights"]["values"]
    ours = tomllib.loads(case.usecase)["tables"]["flights"]["values"]
    most = of_kind(case, "too_large").tables["flights"].to_pandas()["distance_miles"].max()
    assert ours["distance_miles"]["max"] < most < published["distance_miles"]["max"]
    most = of_kind(case, "at_the_limits").tables["flights"].to_pandas()["dep_delay_min"].max()
    assert published["dep_delay_min"]["max"] < most == ours["dep_delay_min"]["max"]
    assert of_kind(case, "new_outcome").clean


def test_values_beyond_every_limit_are_there_whatever_the_world(laid_down):
    for seed in SEEDS:
        case, _ = laid_down(seed)
        tables = tomllib.loads(case.usecase)["tables"]
        for kind, bound in (("too_large", "max"), ("too_small", "min")):
            limited = {(t, c) for t in ("flights", "weather") for c, r in tables[t]["values"].items() if bound in r}
            assert {(f.table, f.column) for f in of_kind(case, kind).faults} == limited


DECIMAL = pa.decimal128(10, 2)
EDGES = {  # a change of the flights, the status that follows, and a finding of the report
    "no zone": (lambda t: cast(t, "sched_dep", pa.timestamp("us")), "refused", ("sched_dep", "wrong_type")),
    "plain bytes": (lambda t: cast(t, "carrier", pa.binary()), "refused", ("carrier", "wrong_type")),
    "decimals": (lambda t: cast(t, "distance_miles", DECIMAL), "refused", ("distance_miles", "wrong_type")),
    "no type": (lambda t: put(t, "tailnum", pa.nulls(t.num_rows)), "refused", ("tailnum", "wrong_type")),
    "no time": (lambda t: put(t, "sched_dep", pa.nulls(t.num_rows, t["sched_dep"].type)), "refused", (None, "stale")),
    "two null keys": (lambda t: without_keys(t, 2), "quarantined", (None, "duplicate_key")),
    "one null key": (lambda t: without_keys(t, 1), "accepted", None),
}


def cast(table: pa.Table, column: str, kind: pa.DataType) -> pa.Table:
    return put(table, column, table[column].cast(kind))


def without_keys(table: pa.Table, rows: int) -> pa.Table:
    return put(table, "flight_id", pa.array([None] * rows + table["flight_id"].to_pylist()[rows:]))


def put(table: pa.Table, column: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, values)


@pytest.mark.parametrize("program", ["reference", "rows as dictionaries"])
def test_programs_agree_where_the_contract_had_to_decide(laid_down, program, tmp_path):
    case, folder = laid_down(SEEDS[0])
    plain = of_kind(case, "ordinary")
    for name, (change, _, _) in EDGES.items():
        files = tuple(replace(f, table=change(f.table)) if "flights" in f.path else f for f in plain.files)
        replace(plain, files=files).write(tmp_path / "feeds" / name)
    two = of_kind(case, "two_files")
    first = next(f for f in two.files if f.path.startswith("flights"))
    other = put(first.table, "carrier", first.table["carrier"].dictionary_encode()).select(
        first.table.column_names[::-1]
    )
    files = tuple(replace(f, table=other) if f is first else f for f in two.files)
    replace(two, files=files).write(tmp_path / "feeds" / "two writers")
    for name in ("history", "usecase.toml"):
        (tmp_path / name).symlink_to(folder / name)
    ran = judged(tmp_path, PROGRAMS[program], replace(case, feeds={}), tmp_path / "out")
    assert ran == []
    for name, (status, broken) in {
        **{n: (s, b) for n, (_, s, b) in EDGES.items()},
        "two writers": ("accepted", None),
    }.items():
        report = json.loads((tmp_path / "out" / name / "report.json").read_text())
        assert report["status"] == status, (name, report)
        found = [(f["column"], f["rule"]) for f in report["findings"]]
        assert (broken in found) if broken else not found, (name, report)
