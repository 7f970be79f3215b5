"""The fifteen features of stage 04 for every flight of a year, with pandas, Polars and DuckDB side by side.

python benchmarks/features.py [--world 5] [--rounds 5] [--out benchmarks/results/features.md]

Polars is the reference solution, DuckDB the alternative of the pool, pandas the same way of asking written here. Each engine has a process
of its own in each round, in turn, on two threads; that the three agree on every value is asserted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grader import home
from grader.contract.features import REQUIRED as DEFINITIONS
from grader.contract.features import duration, required

ROOT = Path(__file__).parents[1]
ENGINES = ("pandas", "Polars", "DuckDB")
PHASES = ("read", "build", "write")
THREADS = {"POLARS_MAX_THREADS": "2", "OMP_NUM_THREADS": "2"}
Phases = tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]


def with_polars(folder: Path, out: Path) -> Phases:
    sys.path.insert(0, str(ROOT / "reference_solution"))
    from flightdelay.data import DataFolder, read_table
    from flightdelay.definitions import read_definitions
    from flightdelay.features import compute_features
    from flightdelay.usecase import read_usecase

    data, usecase = DataFolder(folder / "data"), read_usecase(folder / "usecase.toml")
    definitions = read_definitions(folder / "spec.toml")
    kept: dict[str, Any] = {}

    def read() -> None:
        kept["rows"] = read_table(folder / "rows.parquet")
        for table in ("flights", "weather"):
            data.table(table)

    def build() -> None:
        kept["found"] = compute_features(definitions, usecase, data, kept["rows"])

    def write() -> None:
        kept["found"].insert_column(0, kept["rows"]["row_id"]).write_parquet(out)

    return read, build, write


def with_duckdb(folder: Path, out: Path) -> Phases:
    sys.path.insert(0, str(ROOT / "tests/pool/alternatives/04-duckdb-sql"))
    import delay

    kept: dict[str, Any] = {}
    wanted = delay.definitions(folder / "spec.toml")

    def read() -> None:
        kept["base"] = delay.Base(folder / "usecase.toml", folder / "data")
        kept["base"].load("given", [str(folder / "rows.parquet")])
        kept["base"].ask("SELECT * FROM given")

    def build() -> None:
        kept["base"].features(wanted)

    def write() -> None:
        names = ", ".join(f'found."{feature["name"]}"' for feature in wanted)
        kept["base"].sql.execute(
            f"COPY (SELECT row_id, {names} FROM asked JOIN found USING (n) ORDER BY n) TO '{out}' (FORMAT parquet)"
        )

    return read, build, write


def with_pandas(folder: Path, out: Path) -> Phases:
    import pandas as pd

    lead = pd.Timedelta(hours=2)
    known = {"dep_delay_min": "dep_known_at", "label": "label_known_at"}
    time_of, key_of = {"flights": "sched_dep", "weather": "observed_at"}, {"flights": "flight_id", "weather": "origin"}
    kept: dict[str, Any] = {}

    def read() -> None:
        kept["rows"] = pd.read_parquet(folder / "rows.parquet")
        for name in ("flights", "weather"):
            kept[name] = pd.read_parquet(folder / "data" / name)
        kept["flights"]["label"] = (kept["flights"]["arr_delay_min"] > 15).where(
            kept["flights"]["arr_delay_min"].notna()
        )

    def values(feature: Any) -> pd.DataFrame:
        """The values that ever became known: `value`, `known`, `time`, `key` and the columns `by`."""
        table = kept[feature.table]
        found = table[list(feature.by)].assign(
            value=table[feature.column].astype(float),
            known=table[known.get(feature.column, "known_at")],
            time=table[time_of[feature.table]],
            key=table[key_of[feature.table]],
        )
        return found.dropna()

    def last_event(asked: pd.DataFrame, events: pd.DataFrame, by: list[str]) -> pd.DataFrame:
        """For each question the last event known at `at`, in the order of the questions."""
        placed = asked.assign(place=range(len(asked))).sort_values("at", kind="stable")
        placed = placed[placed[by].notna().all(axis=1)]
        found = pd.merge_asof(placed, events, left_on="at", right_on="known", by=by)
        return found.set_index("place").reindex(range(len(asked)))

    def latest(feature: Any, asked: pd.DataFrame) -> pd.Series:
        by = list(feature.by)
        found = values(feature).sort_values(["time", "known", "key"], ignore_index=True)
        events = found.assign(newest=found.index).sort_values("known", kind="stable")
        events["newest"] = events.groupby(by, sort=False)["newest"].cummax()
        newest = last_event(asked, events[["known", "newest", *by]], by)["newest"]
        chosen = found.reindex(newest.to_numpy())
        age = (asked["at"] - chosen["time"].reset_index(drop=True)).dt.total_seconds() / 3600
        value = age if feature.kind == "age" else pd.Series(chosen["value"].to_numpy())
        return value.where(age <= duration(feature.max_age).total_seconds() / 3600)

    def window(feature: Any, asked: pd.DataFrame) -> pd.Series:
        by = list(feature.by)
        events = values(feature).sort_values(["known", "value"])
        groups = events.groupby(by, sort=False)["value"]
        events = events.assign(count=groups.cumcount() + 1, total=groups.cumsum())[["known", "count", "total", *by]]
        end = last_event(asked, events, by)[["count", "total"]].fillna(0)
        start = last_event(asked.assign(at=asked["at"] - duration(feature.window)), events, by)[
            ["count", "total"]
        ].fillna(0)
        inside = end - start
        return (inside["total"] / inside["count"]).where(inside["count"] > 0)

    def one(feature: Any) -> pd.Series:
        rows = kept["rows"]
        if feature.kind == "column":
            return rows[feature.column]
        if feature.kind == "calendar":
            local = rows[feature.of].dt.tz_convert(feature.zone).dt
            return local.hour if feature.part == "hour" else local.dayofweek
        asked = rows[list(feature.by)].assign(at=rows["sched_dep"] - lead)
        return (latest if feature.kind in ("asof", "age") else window)(feature, asked)

    def build() -> None:
        kept["found"] = pd.DataFrame({feature.name: one(feature) for feature in required()})

    def write() -> None:
        kept["found"].insert(0, "row_id", kept["rows"]["row_id"])
        kept["found"].to_parquet(out, index=False)

    return read, build, write


def child(engine: str, folder: Path) -> None:
    """One engine once: seconds by phase and the peak of memory, as JSON on standard output."""
    makers = {"pandas": with_pandas, "Polars": with_polars, "DuckDB": with_duckdb}
    seconds = {}
    for name, phase in zip(PHASES, makers[engine](folder, folder / f"{engine}.parquet"), strict=True):
        began = time.perf_counter()
        phase()
        seconds[name] = time.perf_counter() - began
    print(json.dumps({**seconds, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def lay_down(folder: Path, world: int) -> int:
    """A year as a data folder, and all of its flights as rows; how many they are."""
    from grader.world import build, write_data
    from grader.world.layout import SCHEDULE

    year = build(world)
    write_data(year, folder / "data")
    rows = year.flights[["flight_id", *SCHEDULE]].rename(columns={"flight_id": "row_id"})
    rows.sample(frac=1, random_state=0).to_parquet(folder / "rows.parquet", index=False)
    (folder / "usecase.toml").write_bytes((home.datasets() / "usecase.toml").read_bytes())
    (folder / "spec.toml").write_text(DEFINITIONS)
    return len(rows)


def assert_equal(folder: Path) -> int:
    """All engines say the same of every row; how many values that are."""
    import numpy as np
    import pandas as pd

    first, *others = (pd.read_parquet(folder / f"{engine}.parquet") for engine in ENGINES)
    for other in others:
        assert list(other) == list(first)
        for name in first:
            ours, theirs = first[name].to_numpy(), other[name].to_numpy()
            if ours.dtype.kind in "fi":
                np.testing.assert_allclose(theirs.astype(float), ours.astype(float), rtol=1e-9, err_msg=name)
            else:
                assert (ours == theirs).all(), name
    return first.size - len(first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(arguments.child[0], Path(arguments.child[1]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = lay_down(folder, arguments.world)
        runs: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
        for _ in range(arguments.rounds):  # in turn, so that a slow minute slows them all
            for engine in ENGINES:
                argv = [sys.executable, __file__, "--child", engine, str(folder)]
                began = time.perf_counter()
                done = subprocess.run(
                    argv, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **THREADS}
                )
                runs[engine].append({**json.loads(done.stdout), "process": time.perf_counter() - began})
        values = assert_equal(folder)
    text = report(runs, rows, values, arguments.rounds)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    return None


def report(runs: dict[str, list[dict[str, float]]], rows: int, values: int, rounds: int) -> str:
    lines = [
        "# Features of a year",
        "",
        f"`python benchmarks/features.py --rounds {rounds}`",
        "",
        f"The fifteen definitions of stage 04 for all {rows:,} flights of a year, shuffled, with that year as data. Medians of {rounds}",
        f"rounds on two threads; ratios are medians of the ratios within a round. All three agree on all {values:,} values.",
        "",
        "| engine | read s | build s | write s | rows/s built | build, times Polars | whole process s | times Polars | peak MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for engine, taken in runs.items():
        median = {name: statistics.median(run[name] for run in taken) for name in taken[0]}
        ratio = {
            name: statistics.median(run[name] / base[name] for run, base in zip(taken, runs["Polars"], strict=True))
            for name in ("build", "process")
        }
        seconds = " | ".join(f"{median[name]:.2f}" for name in PHASES)
        speed = math.floor(rows / median["build"] / 1000) * 1000
        lines.append(
            f"| {engine} | {seconds} | {speed:,} | {ratio['build']:.1f} | {median['process']:.1f} | {ratio['process']:.1f} "
            f"| {max(run['mb'] for run in taken):,.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
