"""Lay parts of a world down as the files the contract names: DATA folders and rows to score."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    after : (n, 9) `flight_id` and the columns known only after departure, for checks that plant or scramble them.
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


def as_objects(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table of rows as the JSON objects of a request: times in RFC 3339, null where there is nothing."""
    import pandas as pd

    found = []
    for row in table.to_dict("records"):
        plain: dict[str, Any] = {}
        for name, value in row.items():
            if not isinstance(value, str) and pd.isna(value):
                plain[str(name)] = None
            else:
                plain[str(name)] = value.isoformat() if isinstance(value, pd.Timestamp) else value
        found.append(plain)
    return found


def draw_rows(world: World, months: list[str], count: int, name: str, careless: bool = False) -> Rows:
    """`count` landed flights of `months` in a random order under opaque row ids; `name` chooses the draw.

    `careless` leaves the after-departure columns in, as a dump made after the fact has them.
    """
    flights = world.flights
    eligible = flights[world.month_of(flights).isin(months) & flights["outcome"].eq("flown")]
    draw = stream(world.seed or 0, f"rows {name}")
    return rows_of(world, eligible.iloc[draw.permutation(len(eligible))[:count]], name, careless)


def rows_of(world: World, flights: pd.DataFrame, name: str, careless: bool = False) -> Rows:
    """These flights as rows to score, in their order, under opaque row ids; `name` chooses the ids."""
    import numpy as np

    chosen = flights.reset_index(drop=True)
    draw = stream(world.seed or 0, f"ids {name}")
    ids = [f"r{value:012x}" for value in draw.choice(2**40, len(chosen), replace=False)]
    table = chosen[SCHEDULE].copy()
    table.insert(0, "row_id", ids)
    late = (chosen["arr_delay_min"] > LATE_MINUTES).to_numpy(np.bool_)
    after = chosen[["flight_id", *AFTER_DEPARTURE]].copy()
    return Rows(table.join(after[AFTER_DEPARTURE]) if careless else table, late, after)


@dataclass(frozen=True)
class Scrambled:
    """Rows of which some exchanged what is only known after departure, and which; `touched` is (n,) bool."""

    rows: Rows
    touched: np.ndarray


def scrambled(rows: Rows, share: float, seed: int) -> Scrambled:
    """The same rows where a random `share` of them exchanged their after-departure columns among themselves.

    A row takes those of a flight to the same destination at a similar hour, with times and minutes in the air moved to its own schedule,
    so that neither a row nor a batch shows that it was touched.
    """
    import numpy as np
    import pandas as pd

    count = int(len(rows) * share)
    chosen = stream(seed, "scrambled").permutation(len(rows))[:count]
    schedule = rows.table.iloc[chosen]
    alike = np.lexsort((schedule["sched_dep_local"].str.slice(11), schedule["dest"]))
    order = np.arange(len(rows))
    order[chosen[alike]] = np.roll(chosen[alike], 1)
    minute = pd.Timedelta(minutes=1)
    gates = (rows.after["arr_time"] - rows.after["dep_time"]).dt.total_seconds() / 60
    ground = gates - rows.after["air_time_min"]
    after = rows.after.iloc[order].reset_index(drop=True)
    departed = rows.table["sched_dep"] + after["dep_delay_min"] * minute
    arrived = rows.table["sched_arr"] + after["arr_delay_min"] * minute
    times = {"dep_time": departed, "dep_known_at": departed, "arr_time": arrived, "label_known_at": arrived}
    after = after.assign(**{name: value.dt.as_unit("us") for name, value in times.items()})
    air = (arrived - departed).dt.total_seconds() / 60 - ground.iloc[order].reset_index(drop=True)
    after["air_time_min"] = air.clip(lower=15)
    table = rows.table.assign(**{name: after[name] for name in AFTER_DEPARTURE})
    touched = np.zeros(len(rows), dtype=np.bool_)
    touched[chosen] = True
    return Scrambled(Rows(table, rows.late, after), touched)


def exchange_outcomes(
    path: Path,
    which: Callable[[pd.DataFrame], pd.Series],
    draw: np.random.Generator,
    shuffle: bool = False,
    turned: bool = False,
) -> None:
    """Rewrite a flights file so that landed flights among `which` exchange what became known after departure.

    Which flights landed stays as it was, and times and minutes in the air are moved to each flight's own schedule. `turned` gives
    late flights outcomes of punctual ones and the reverse, so that not even how many were late is left, and what fitted best fits
    worst; `shuffle` also puts the rows into another order.
    """
    import numpy as np
    import pandas as pd

    flights = pd.read_parquet(path)
    chosen = np.flatnonzero((which(flights) & flights["outcome"].eq("flown")).to_numpy())
    late = (flights["arr_delay_min"] > LATE_MINUTES).to_numpy()[chosen]
    other = draw.permutation(chosen)
    if turned and late.any() and not late.all():
        other = np.where(late, draw.choice(chosen[~late], len(chosen)), draw.choice(chosen[late], len(chosen)))
    minute = pd.Timedelta(minutes=1)
    ground = (flights["arr_time"] - flights["dep_time"]).dt.total_seconds() / 60 - flights["air_time_min"]
    for name in ("dep_delay_min", "arr_delay_min"):
        flights.loc[chosen, name] = flights[name].to_numpy()[other]
    landed = flights["outcome"].eq("flown")
    departed = flights["sched_dep"] + flights["dep_delay_min"] * minute
    arrived = flights["sched_arr"] + flights["arr_delay_min"] * minute
    for name, value in {
        "dep_time": departed,
        "dep_known_at": departed,
        "arr_time": arrived,
        "label_known_at": arrived,
    }.items():
        flights[name] = flights[name].where(~landed, value.dt.as_unit("us"))
    air = ((arrived - departed).dt.total_seconds() / 60 - ground).clip(lower=15)
    flights.loc[chosen, "air_time_min"] = air.iloc[chosen]
    _write(flights.iloc[draw.permutation(len(flights))] if shuffle else flights, path)


def copy_with_exchanged_outcomes(
    world: World,
    source: Path,
    target: Path,
    name: str,
    which: Callable[[pd.DataFrame], pd.Series],
    shuffle: bool = False,
    turned: bool = False,
) -> Path:
    """Copy a DATA folder, exchanging outcomes among `which` flights of each month; `name` chooses the draw."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    for path in sorted((target / "flights").glob("*.parquet")):
        exchange_outcomes(path, which, stream(world.seed or 0, f"{name} {path.name}"), shuffle, turned)
    write_manifest(target)
    return target


def delay_all_from(path: Path, moment: pd.Timestamp, minutes: float) -> None:
    """Rewrite a flights file so that whatever departed or landed after a moment did so `minutes` later; before it nothing changes."""
    import pandas as pd

    flights = pd.read_parquet(path)
    landing, leaving = flights["label_known_at"] > moment, flights["dep_known_at"] > moment
    for columns, which, minute in (
        (("arr_time", "label_known_at"), landing, pd.Timedelta(minutes=minutes)),
        (("arr_delay_min",), landing, minutes),
        (("dep_time", "dep_known_at"), leaving, pd.Timedelta(minutes=minutes)),
        (("dep_delay_min",), leaving, minutes),
        (("air_time_min",), landing & ~leaving, minutes),
    ):
        for name in columns:
            flights[name] = flights[name].mask(which, flights[name] + minute).astype(flights[name].dtype)
    _write(flights, path)


def with_many_just_in_time(world: World) -> World:
    """A world in which many punctual flights arrive just so late that they still are; no label is another.

    They are those of carriers and hours that are seldom late, so a model that takes them for late puts flights in a wrong order.
    """
    import pandas as pd

    flights = world.flights.copy()
    late = (flights["arr_delay_min"] > LATE_MINUTES).where(flights["outcome"].eq("flown")).astype(float)
    rate = late.groupby([flights["carrier"], flights["sched_dep_local"].str.slice(11, 13)]).transform("mean")
    near = (rate <= rate.median()) & flights["arr_delay_min"].between(-3, LATE_MINUTES)
    longer = (LATE_MINUTES - flights["arr_delay_min"]).where(near, 0.0)
    flights["arr_delay_min"] += longer
    flights["air_time_min"] += longer
    for name in ("arr_time", "label_known_at"):
        flights[name] = (flights[name] + pd.to_timedelta(longer, unit="m")).dt.as_unit("us")
    return replace(world, flights=flights)


def exchange_schedules(path: Path, draw: np.random.Generator) -> None:
    """Rewrite a flights file so that each destination is flown to about as often as any other; times and outcomes stay."""
    import numpy as np
    import pandas as pd

    flights = pd.read_parquet(path)
    order = np.argsort(flights["dest"].to_numpy(object), kind="stable")
    sizes = flights["dest"].value_counts().sort_index().to_numpy()
    chosen = draw.integers(len(sizes), size=len(flights))
    donor = order[(np.cumsum(sizes) - sizes)[chosen] + (draw.random(len(flights)) * sizes[chosen]).astype(int)]
    columns = ["carrier", "flight_no", "tailnum", "dest", "distance_miles"]
    flights[columns] = flights[columns].iloc[donor].reset_index(drop=True)
    _write(flights, path)


def write_data(
    world: World,
    out: Path,
    months: list[str] | None = None,
    flights_per_month: int | None = None,
    without: Rows | None = None,
) -> str:
    """Write a DATA folder (flights and weather by month, planes, airports, airlines, manifest); return its hash.

    `flights_per_month` keeps an even random share, for gradings that must be quick; the flights of `without` are left out.
    """
    flights, weather = world.flights, world.weather
    if without is not None:
        flights = flights[~flights["flight_id"].isin(without.after["flight_id"])]
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
    for path, frame in files:
        _write(frame, out / path)
    return write_manifest(out)


def write_manifest(folder: Path) -> str:
    """Write the manifest of a DATA folder in which all tables are, anew if need be; return its hash."""
    import pyarrow.parquet as pq

    records = []
    for file in sorted(folder.rglob("*.parquet")):
        digest, rows = hashlib.sha256(file.read_bytes()).hexdigest(), pq.ParquetFile(file).metadata.num_rows
        records.append({"path": file.relative_to(folder).as_posix(), "rows": rows, "sha256": digest})
    months = sorted(file.stem for file in (folder / "flights").glob("*.parquet"))
    manifest = {"usecase": "flights", "dataset_hash": folder_hash(folder), "months": months, "files": records}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return str(manifest["dataset_hash"])


def _write(frame: pd.DataFrame, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, path, compression="zstd")
