"""Feeds break exactly the rules that they say they break, in the rows and columns that they name."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from poolkit import POOL

from grader import home
from grader.contract.rules import BY_NAME
from grader.world import feeds, write_data
from grader.world.build import build, stream
from grader.world.feed_kinds import KINDS, PERSONAL, SPOILED, UNUSUAL, draft_of

SEEDS = (5, 91_002)
USECASE = tomllib.loads((home.datasets() / "usecase.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def laid_down(tmp_path_factory):
    """Feeds and history of a world, written down; made once a world."""

    @cache
    def make(seed: int) -> tuple[feeds.Case, Path]:
        world, folder = build(seed), tmp_path_factory.mktemp(f"world-{seed}")
        write_data(world, folder / "history", feeds.months_of(world)[1], 3_000)
        case = feeds.make_feeds(world, folder / "history")
        for name, feed in case.feeds.items():
            feed.write(folder / "feeds" / name)
        return case, folder

    return make


def of_kind(case: feeds.Case, kind: str):
    return case.feeds[case.of_kind(kind)]


def before(seed: int, folder: Path, kind: str) -> dict[str, pa.Table]:
    """The clean sample that a feed was made from."""
    history = {t: pq.read_table(folder / "history" / t).to_pandas() for t in ("flights", "weather")}
    draft = draft_of(feeds._source(build(seed), history), stream(seed, f"feed {kind}"))
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


def bytes_of(column: pa.ChunkedArray) -> list[object]:
    return (column.cast(pa.binary()) if pa.types.is_string(column.type) else column).to_pylist()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "kind", [k for k in (*SPOILED, *PERSONAL) if k not in ("doubled_keys", "last_months_file", "empty_file")]
)
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
        assert set(changed) - new == {f.column for f in faults if f.rule != "personal_data"}
        assert new == {f.column for f in faults if f.rule == "personal_data"} or [f.rule for f in faults] == [
            "renamed_column"
        ]
        for fault in faults:
            if BY_NAME[fault.rule].scope == "row":
                rows = set().union(*(set(f.rows) for f in faults if f.column == fault.column))
                assert changed[fault.column] == rows
                assert 0 < len(rows) < came.num_rows / 4


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_with_doubled_keys_are_all_named_and_half_of_them_contradict_each_other(laid_down, seed):
    feed = of_kind(laid_down(seed)[0], "doubled_keys")
    (fault,) = feed.faults
    frame = feed.tables[fault.table].to_pandas()
    twice = frame.duplicated(list(feeds.KEYS[fault.table]), keep=False)
    assert set(fault.rows) == set(twice.index[twice])
    exact = frame.duplicated(keep=False)
    assert 0 < exact.sum() < twice.sum()
    assert not (exact & ~twice).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_files_are_damaged_as_told(laid_down, seed):
    case, folder = laid_down(seed)
    for kind, damage in {
        "file_cut_off": "cut",
        "rows_lost": "short",
        "file_not_there": "",
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
        elif damage == "empty":
            assert pq.ParquetFile(path).metadata.num_rows == 0
        else:
            assert not path.exists()


@pytest.mark.parametrize("seed", SEEDS)
def test_texts_that_are_not_utf8_are_so_on_disk(laid_down, seed):
    case, folder = laid_down(seed)
    name = case.of_kind("mixed_encodings")
    (fault,) = case.feeds[name].faults
    table = pq.read_table(folder / "feeds" / name / "flights" / f"{case.month}.parquet")
    with pytest.raises(pa.ArrowInvalid, match="Invalid UTF8"):
        table.column(fault.column).validate(full=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_personal_data_is_found_by_the_patterns_of_the_use_case_and_unique_to_its_feed(laid_down, seed):
    case, _ = laid_down(seed)
    for kind in PERSONAL:
        feed = of_kind(case, kind)
        assert len(feed.secrets) > 20
        (column,) = {f.column for f in feed.faults if f.rule == "personal_data"}
        cells = [value for value in feed.tables["flights"].column(column).to_pylist() if value]
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
    again = feeds.make_feeds(build(SEEDS[0]), folder / "history")
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
    assert f"{len(SPOILED) + len(PERSONAL)} spoiled ones" in brief
    assert f"{len(UNUSUAL)} that are right" in brief


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
        *program, "--usecase", home.datasets() / "usecase.toml", "--feeds", folder / "feeds", "--history", folder / "history",
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
    limit, factor = USECASE["feeds"]["null_share"], USECASE["feeds"]["mean_factor"]
    for seed in SEEDS:
        case, folder = laid_down(seed)
        for table, rules in ((t, USECASE["tables"][t]) for t in USECASE["feeds"]["tables"]):
            history = pq.read_table(folder / "history" / table).to_pandas()
            for feed in case.feeds.values():
                if not feed.clean:
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
