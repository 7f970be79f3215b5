"""Lay parts of a world down as the files the contract names: DATA folders and rows to score."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grader.world.build import LATE_MINUTES, World, stream
from grader.world.content import folder_hash

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SCHEDULE = [
    "carrier", "flight_no", "tailnum", "origin", "dest", "sched_dep", "sched_arr", "sched_dep_local", "distance_miles",
]  # fmt: skip
AFTER_DEPARTURE = [
    "dep_time", "dep_delay_min", "dep_known_at", "arr_time", "arr_delay_min", "air_time_min", "outcome", "label_known_at",
]  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """Rows to score and what only the grader knows about them.

    Attributes
    ----------
    table : rows as handed out, `row_id` first; never a label.
    late : (n,) bool, whether the flight arrived more than 15 minutes late.
    after : (n, 8) the columns known only after departure, for checks that plant or scramble them.
    """

    table: pd.DataFrame
    late: np.ndarray
    after: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    def take(self, positions: Sequence[int] | np.ndarray) -> Rows:
        """The rows at these positions, in this order."""
        import numpy as np

        at = np.asarray(positions, dtype=np.intp)
        table, after = (frame.iloc[at].reset_index(drop=True) for frame in (self.table, self.after))
        return Rows(table, self.late[at], after)

    def write(self, path: Path) -> None:
        """Write the rows as the Parquet file a submission is given."""
        _write(self.table, path)


def draw_rows(world: World, months: list[str], count: int, name: str, careless: bool = False) -> Rows:
    """`count` landed flights of `months` in a random order under opaque row ids; `name` chooses the draw.

    `careless` leaves the after-departure columns in, as a dump made after the fact has them.
    """
    import numpy as np

    flights = world.flights
    eligible = flights[world.month_of(flights).isin(months) & flights["outcome"].eq("flown")]
    draw = stream(world.seed or 0, f"rows {name}")
    chosen = eligible.iloc[draw.permutation(len(eligible))[:count]].reset_index(drop=True)
    ids = [f"r{value:012x}" for value in draw.choice(2**40, len(chosen), replace=False)]
    table = chosen[SCHEDULE].copy()
    table.insert(0, "row_id", ids)
    late = (chosen["arr_delay_min"] > LATE_MINUTES).to_numpy(np.bool_)
    after = chosen[AFTER_DEPARTURE].copy()
    return Rows(table.join(after) if careless else table, late, after)


def scrambled(rows: Rows, share: float) -> Rows:
    """The same rows where the first `share` of them exchanged their after-departure columns among themselves."""
    import numpy as np

    count = int(len(rows) * share)
    order = np.arange(len(rows))
    order[:count] = np.roll(order[:count], count // 2 or 1)
    after = rows.after.iloc[order].reset_index(drop=True)
    return Rows(rows.table.assign(**{name: after[name] for name in AFTER_DEPARTURE}), rows.late, after)


def write_data(world: World, out: Path, months: list[str] | None = None, flights_per_month: int | None = None) -> str:
    """Write a DATA folder (flights and weather by month, planes, airports, airlines, manifest); return its hash.

    `flights_per_month` keeps an even random share, for gradings that must be quick.
    """
    flights, weather = world.flights, world.weather
    months = months or world.months
    month = world.month_of(flights)
    weather_month = weather["observed_at"].dt.tz_convert("America/New_York").dt.strftime("%Y-%m")
    files = []
    for name in months:
        part = flights[month == name]
        if flights_per_month is not None and len(part) > flights_per_month:
            keep = stream(world.seed or 0, f"sample {name}").permutation(len(part))[:flights_per_month]
            keep.sort()
            part = part.iloc[keep]
        files.append((f"flights/{name}.parquet", part))
        files.append((f"weather/{name}.parquet", weather[weather_month == name]))
    for name in ("planes", "airports", "airlines"):
        files.append((f"{name}.parquet", getattr(world, name)))
    records = []
    for path, frame in files:
        _write(frame, out / path)
        digest = hashlib.sha256((out / path).read_bytes()).hexdigest()
        records.append({"path": path, "rows": len(frame), "sha256": digest})
    manifest = {"usecase": "flights", "dataset_hash": folder_hash(out), "months": months, "files": records}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return str(manifest["dataset_hash"])


def _write(frame: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, path, compression="zstd")
