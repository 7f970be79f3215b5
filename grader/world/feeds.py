"""Feeds for `validate`: months as a source delivers them, spoiled in known ways or merely unusual.

A feed is drafted from a clean sample of one month, changed by one function, and knows what is wrong with it (its `faults`): which
rule, in which table and column, in which rows. Each kind breaks exactly the rules of the contract that its faults name; the tests
hold that for many worlds. Sizes, rows and columns are drawn from the world's seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grader.contract import tables
from grader.contract.rules import BY_NAME, RuleName, Status
from grader.world.build import ZONE, World, stream
from grader.world.content import folder_hash

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

MONTHS_OF_FEEDS = (3, 11)  # those in which the clocks change
MONTHS_OF_HISTORY = 2
FLIGHTS, WEATHER = (800, 1_300), (500, 800)  # rows of a feed
QUIET = (180, 260)
WRONG_ROWS = (5, 60)
NULL_SHARE = (0.42, 0.60)  # the rule begins at .20 above the history
CANCELLED_SHARE = (0.35, 0.50)
TABLES = ("flights", "weather")
KEYS = {table.name: table.key for table in tables.DATA}
COLUMNS = {table.name: [column.name for column in table.columns] for table in tables.DATA}
KM, SECONDS, INCHES_OF_MERCURY = 1.609344, 60.0, 1 / 33.8639
WRONG_DAYS = ("13-{day}", "00-{day}", "02-30", "{month}-32", "{month}-00")
WRONG_TIMES = ("24:60", "25:{minute}", "{hour}:60", "99:{minute}")
FIRST = ("ana", "ben", "chen", "dora", "emil", "farid", "gita", "hana", "ivan", "jana", "kofi", "lena", "mara", "noor")
LAST = ("abbott", "brandt", "castell", "dvorak", "eriksen", "fontane", "grieg", "haldane", "ibsen", "joyce", "keller")
PERSONAL_NAMES = ("contact", "booked_by", "remarks", "note", "agent_ref", "info", "handled_by", "comment")
OTHER_NAMES = ("gate", "stand", "belt", "runway", "tower_code")
NEW_NAMES = ("{name}_v2", "{name}_new", "x_{name}", "{name}_value", "src_{name}")


@dataclass(frozen=True)
class Fault:
    """A rule that a feed breaks; `rows` are positions in the table, for rules about rows."""

    table: str
    rule: RuleName
    column: str | None = None
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class File:
    """One file of a feed: what the manifest says is in it, and what became of it on the way."""

    path: str
    table: pa.Table
    damage: str = ""  # cut, short, absent, or unlisted as well
    kept: float = 1.0


@dataclass(frozen=True)
class Feed:
    """One delivery. `says` is its kind in words, `secrets` the personal data that stands in it."""

    kind: str
    says: str
    files: tuple[File, ...]
    faults: tuple[Fault, ...] = ()
    secrets: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        return not self.faults

    @property
    def status(self) -> Status:
        """What has to become of it, by the contract."""
        scopes = {BY_NAME[fault.rule].scope for fault in self.faults}
        return "refused" if "feed" in scopes else "quarantined" if "row" in scopes else "accepted"

    @cached_property
    def tables(self) -> dict[str, pa.Table]:
        """Its rows by table, files in the order of their names."""
        import pyarrow as pa

        found: dict[str, list[pa.Table]] = {}
        for file in sorted(self.files, key=lambda file: file.path):
            found.setdefault(file.path.split("/")[0], []).append(file.table)
        return {name: pa.concat_tables(parts) for name, parts in found.items()}

    @property
    def rows(self) -> int:
        return sum(table.num_rows for table in self.tables.values())

    def wrong_rows(self, table: str) -> set[int]:
        """Positions of the rows of a table that have to be quarantined."""
        return {row for fault in self.faults if fault.table == table for row in fault.rows}

    def write(self, folder: Path) -> None:
        """Write it down as it arrives."""
        records = []
        for file in self.files:
            path = folder / file.path
            _write(file.table, path)
            record = {"path": file.path, "rows": file.table.num_rows, "sha256": _sha256(path)}
            records += [] if file.damage == "unlisted" else [record]
        months = sorted({Path(file.path).stem for file in self.files})
        manifest = {"usecase": "flights", "dataset_hash": folder_hash(folder), "months": months, "files": records}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        for file in self.files:
            _damage(file, folder / file.path)


@dataclass(frozen=True)
class Case:
    """What one call of `validate` is given: feeds under names that say nothing, a history, and the time."""

    feeds: dict[str, Feed]
    month: str
    history: list[str]
    now: str

    def of_kind(self, *kinds: str) -> str:
        """The name of the first feed of one of these kinds."""
        return next(name for kind in kinds for name, feed in self.feeds.items() if feed.kind == kind)


@dataclass
class Draft:
    """A feed in the making: tables to change, what to do to them once they are Arrow, and the faults so far."""

    draw: np.random.Generator
    source: Source
    frames: dict[str, pd.DataFrame]
    arrow: dict[str, list[Callable[[pa.Table], pa.Table]]] = field(default_factory=lambda: {t: [] for t in TABLES})
    more: list[File] = field(default_factory=list)
    damage: dict[str, tuple[str, float]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)

    def some(self, table: str, low: int = WRONG_ROWS[0], high: int = WRONG_ROWS[1]) -> np.ndarray:
        """Some row positions, sorted."""
        import numpy as np

        count = min(int(self.draw.integers(low, high + 1)), len(self.frames[table]) - 1)
        return np.sort(self.draw.permutation(len(self.frames[table]))[:count])

    def share(self, table: str, least: float, most: float) -> np.ndarray:
        """Row positions of a drawn share of a table, sorted."""
        count = int(self.draw.uniform(least, most) * len(self.frames[table]))
        return self.some(table, count, count)

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.draw.integers(len(choices)))]

    def set(self, table: str, column: str, rows: np.ndarray, values: Any) -> None:
        frame = self.frames[table]
        changed = frame[column].copy()
        changed.iloc[rows] = values
        self.frames[table] = frame.assign(**{column: changed})

    def wrong(self, table: str, rule: RuleName, column: str | None = None, rows: np.ndarray | None = None) -> None:
        self.faults.append(Fault(table, rule, column, () if rows is None else tuple(int(row) for row in rows)))

    def finished(self, kind: str, says: str) -> Feed:
        import pyarrow as pa

        files = list(self.more)
        for name, frame in self.frames.items():
            table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
            for change in self.arrow[name]:
                table = change(table)
            files.append(File(f"{name}/{self.source.month}.parquet", table, *self.damage.get(name, ())))
        return Feed(kind, says, tuple(files), tuple(self.faults), tuple(self.secrets))


@dataclass(frozen=True)
class Source:
    """The month that feeds are drawn from, and the history before it."""

    month: str
    months: list[str]
    flights: pd.DataFrame
    weather: pd.DataFrame
    last: dict[str, pd.DataFrame]  # rows of the last month of the history
    history: dict[str, pd.DataFrame]
    airports: frozenset[str]
    carriers: frozenset[str]

    @property
    def now(self) -> str:
        year, month = int(self.month[:4]), int(self.month[5:])
        return f"{year + month // 12}-{month % 12 + 1:02d}-02T06:00:00Z"


# Feeds that break a rule


def unknown_carrier(draft: Draft) -> None:
    rows = draft.some("flights")
    known = draft.source.carriers
    strange = [code for a in "QXZJW" for b in "QXZ0123456789" if (code := a + b) not in known]
    codes = [draft.pick(strange) for _ in range(2)]
    draft.set("flights", "carrier", rows, [draft.pick(codes) for _ in rows])
    draft.wrong("flights", "unknown_reference", "carrier", rows)


def impossible_day(draft: Draft) -> None:
    rows, form = draft.some("flights"), draft.pick(WRONG_DAYS)
    local = draft.frames["flights"]["sched_dep_local"].iloc[rows]
    values = [t[:5] + form.format(day=t[8:10], month=t[5:7]) + t[10:] for t in local]
    draft.set("flights", "sched_dep_local", rows, values)
    draft.wrong("flights", "out_of_range", "sched_dep_local", rows)


def impossible_time(draft: Draft) -> None:
    rows, form = draft.some("flights"), draft.pick(WRONG_TIMES)
    local = draft.frames["flights"]["sched_dep_local"].iloc[rows]
    draft.set("flights", "sched_dep_local", rows, [t[:11] + form.format(hour=t[11:13], minute=t[14:]) for t in local])
    draft.wrong("flights", "out_of_range", "sched_dep_local", rows)


def negative_distance(draft: Draft) -> None:
    rows = draft.some("flights")
    draft.set("flights", "distance_miles", rows, -draft.frames["flights"]["distance_miles"].to_numpy()[rows])
    draft.wrong("flights", "out_of_range", "distance_miles", rows)


def from_the_future(draft: Draft) -> None:
    import pandas as pd

    table = draft.pick(TABLES)
    column = {"flights": "sched_dep", "weather": "observed_at"}[table]
    rows = draft.some(table)
    later = draft.frames[table][column].iloc[rows] + pd.Timedelta(days=int(draft.draw.integers(60, 900)))
    draft.set(table, column, rows, later.to_numpy())
    draft.wrong(table, "out_of_range", column, rows)


def impossible_weather(draft: Draft) -> None:
    column, value = draft.pick([("humid", 134.0), ("wind_dir", 990.0), ("visib", 99.9), ("precip", -1.0), ("temp", 999.0)])
    rows = draft.some("weather")
    draft.set("weather", column, rows, value + draft.draw.integers(0, 1))
    draft.wrong("weather", "out_of_range", column, rows)


def doubled_keys(draft: Draft) -> None:
    """Some rows stand there again, half of them with another value, somewhere else in the file."""
    import numpy as np
    import pandas as pd

    table = draft.pick(TABLES)
    changed = {"flights": "distance_miles", "weather": "temp"}[table]
    frame, rows = draft.frames[table], draft.some(table)
    again = frame.iloc[rows].copy()
    half = len(again) // 2
    again.iloc[:half, again.columns.get_loc(changed)] += 1.0
    order = draft.draw.permutation(len(frame) + len(again))
    draft.frames[table] = pd.concat([frame, again]).iloc[order].reset_index(drop=True)
    doubled = np.concatenate([rows, np.arange(len(frame), len(frame) + len(again))])
    draft.wrong(table, "duplicate_key", None, np.flatnonzero(np.isin(order, doubled)))


def several_faults(draft: Draft) -> None:
    """Three rules broken in one feed, some rows breaking two of them."""
    import numpy as np

    unknown_carrier(draft)
    carrier_rows = np.array(draft.faults[-1].rows)
    distances = np.union1d(carrier_rows[: 1 + len(carrier_rows) // 3], draft.some("flights"))
    draft.set("flights", "distance_miles", distances, 0.0)
    draft.wrong("flights", "out_of_range", "distance_miles", distances)
    impossible_weather(draft)


def missing_column(draft: Draft) -> None:
    table, column = draft.pick(
        [("flights", c) for c in ("tailnum", "dest", "distance_miles", "sched_arr", "outcome", "carrier")]
        + [("weather", c) for c in ("temp", "visib", "known_at")]
    )  # fmt: skip
    draft.frames[table] = draft.frames[table].drop(columns=column)
    draft.wrong(table, "missing_column", column)


def renamed_column(draft: Draft) -> None:
    table, column = draft.pick(
        [("flights", c) for c in ("tailnum", "dest", "distance_miles", "dep_delay_min", "sched_dep", "flight_no")]
        + [("weather", c) for c in ("temp", "humid", "observed_at")]
    )  # fmt: skip
    draft.frames[table] = draft.frames[table].rename(columns={column: draft.pick(NEW_NAMES).format(name=column)})
    draft.wrong(table, "renamed_column", column)


def text_for_numbers(draft: Draft) -> None:
    import pyarrow as pa

    table, column = draft.pick(
        [("flights", c) for c in ("distance_miles", "dep_delay_min", "flight_no", "sched_dep")]
        + [("weather", c) for c in ("temp", "wind_speed", "observed_at")]
    )  # fmt: skip
    draft.arrow[table].append(lambda t: _with(t, column, t.column(column).cast(pa.string())))
    draft.wrong(table, "wrong_type", column)


def many_nulls(draft: Draft) -> None:
    table, column = draft.pick(
        [("flights", c) for c in ("carrier", "tailnum", "distance_miles", "sched_arr", "arr_delay_min", "dep_time")]
        + [("weather", c) for c in ("temp", "wind_dir", "pressure", "visib")]
    )  # fmt: skip
    draft.set(table, column, draft.share(table, *NULL_SHARE), None)
    draft.wrong(table, "null_rate", column)


def other_unit(draft: Draft) -> None:
    table, column, factor = draft.pick(
        [("flights", "distance_miles", KM)] * 2
        + [("flights", "air_time_min", SECONDS), ("weather", "pressure", INCHES_OF_MERCURY)]
    )  # fmt: skip
    draft.frames[table] = draft.frames[table].assign(**{column: draft.frames[table][column] * factor})
    draft.wrong(table, "unit_change", column)


def last_months_file(draft: Draft) -> None:
    """What was delivered a month ago, under the new name."""
    for table in draft.pick([("flights",), ("weather",), TABLES]):
        draft.frames[table] = _sample(draft.source.last[table], len(draft.frames[table]), draft.draw)
        draft.wrong(table, "stale")


def old_month_beside(draft: Draft) -> None:
    """The new month, and with it the one before again."""
    import pyarrow as pa

    table = draft.pick(TABLES)
    again = _sample(draft.source.last[table], len(draft.frames[table]) // 2, draft.draw)
    path = f"{table}/{draft.source.months[-1]}.parquet"
    draft.more.append(File(path, pa.Table.from_pandas(again, preserve_index=False).replace_schema_metadata(None)))
    draft.wrong(table, "stale")


def file_cut_off(draft: Draft) -> None:
    _broken(draft, "cut", float(draft.draw.uniform(0.3, 0.95)))


def rows_lost(draft: Draft) -> None:
    _broken(draft, "short", float(draft.draw.uniform(0.5, 0.9)))


def file_not_there(draft: Draft) -> None:
    _broken(draft, draft.pick(["absent", "unlisted"]), 0.0)


def empty_file(draft: Draft) -> None:
    table = draft.pick(TABLES)
    draft.arrow[table].append(lambda t: t.slice(0, 0))
    draft.wrong(table, "truncated")


def _broken(draft: Draft, damage: str, kept: float) -> None:
    table = draft.pick(TABLES)
    draft.damage[table] = (damage, kept)
    draft.wrong(table, "truncated")


def mixed_encodings(draft: Draft) -> None:
    """Some texts of a column come as Latin-1 in a file that says it is UTF-8."""
    column = draft.pick(["tailnum", "dest", "carrier", "outcome", "sched_dep_local"])
    rows = set(draft.some("flights").tolist())
    draft.arrow["flights"].append(lambda t: _with(t, column, _latin(t.column(column).to_pylist(), rows)))
    draft.wrong("flights", "encoding", column)


def personal_column(draft: Draft) -> None:
    """A column of mail addresses that nobody has asked for."""
    people = _people(draft)
    values = [f"{name}@{domain}" for name, domain, _ in (people[i] for i in _spread(draft, len(people)))]
    _add_personal(draft, values, people)


def personal_remarks(draft: Draft) -> None:
    """Free text that holds a mail address or a telephone number now and then, also in rows that are wrong."""
    people, spread = _people(draft), _spread(draft, 400)
    said = ("seat changed", "gate agent informed", "wheelchair at gate", "late bag", None)
    values: list[str | None] = [said[i % len(said)] for i in spread]
    rows = draft.some("flights", 25, 50)
    for place, row in enumerate(rows):
        name, domain, phone = people[place % len(people)]
        values[row] = f"please call {phone}" if place % 2 else f"asked for {name}@{domain} to be told"
    _add_personal(draft, values, people)
    wrong = rows[: int(draft.draw.integers(6, 12))]
    draft.set("flights", "distance_miles", wrong, -1.0)
    draft.wrong("flights", "out_of_range", "distance_miles", wrong)


# Feeds that are only unusual


def ordinary(draft: Draft) -> None:
    """Nothing happened."""


def storm(draft: Draft) -> None:
    """Two days of delays of many hours, and the weather that goes with them."""
    import numpy as np
    import pandas as pd

    flights = draft.frames["flights"].copy()
    day = flights["sched_dep_local"].str.slice(0, 10)
    days = draft.draw.permutation(sorted(day.unique()))[:2]
    hit = (day.isin(days) & flights["outcome"].eq("flown")).to_numpy()
    extra = np.where(hit, draft.draw.uniform(180, 1_100, len(flights)).round(), 0.0)
    for name in ("dep_delay_min", "arr_delay_min"):
        flights[name] += extra
    for name in ("dep_time", "dep_known_at", "arr_time", "label_known_at"):
        flights[name] = (flights[name] + pd.to_timedelta(extra, unit="m")).dt.as_unit("us")
    draft.frames["flights"] = flights
    weather = draft.frames["weather"]
    rough = np.flatnonzero(weather["observed_at"].dt.strftime("%Y-%m-%d").isin(days))
    values = {"wind_speed": 61.0, "wind_gust": 88.0, "visib": 0.06, "precip": 1.4, "pressure": 968.0, "humid": 100.0}
    for column, value in values.items():
        draft.set("weather", column, rough, value)


def strike(draft: Draft) -> None:
    """Two flights of five do not take place, so they have no departure, no arrival and no delay."""
    rows = draft.share("flights", *CANCELLED_SHARE)
    for column in ("dep_time", "dep_delay_min", "dep_known_at", "arr_time", "arr_delay_min", "air_time_min", "label_known_at"):
        draft.set("flights", column, rows, None)
    draft.set("flights", "outcome", rows, "cancelled")


def new_destination(draft: Draft) -> None:
    known = draft.source.airports | set(draft.source.flights["dest"])
    code = next(c for c in ("".join(draft.draw.choice(list("QXZVK"), 3)) for _ in range(999)) if c not in known)
    rows = draft.some("flights", 30, 60)
    draft.set("flights", "dest", rows, code)
    draft.set("flights", "distance_miles", rows, float(draft.draw.integers(300, 5_500)))


def new_aircraft(draft: Draft) -> None:
    rows = draft.some("flights", 40, 80)
    draft.set("flights", "tailnum", rows, [f"N{draft.draw.integers(10_000, 99_999)}ZZ" for _ in rows])


def quiet_month(draft: Draft) -> None:
    for table in TABLES:
        draft.frames[table] = _sample(draft.frames[table], int(draft.draw.integers(*QUIET)), draft.draw)


def clocks_change(draft: Draft) -> None:
    """Flights around the hour that is missing or comes twice."""
    import pandas as pd

    flights = draft.frames["flights"].copy()
    rows = draft.some("flights", 10, 16)
    minutes = pd.to_timedelta(draft.draw.permutation(60)[: len(rows)] * 4 - 120, unit="m")
    moved = pd.Series(_clock_change(draft.source.month) + minutes).dt.as_unit("us")
    shift = moved - flights["sched_dep"].iloc[rows].reset_index(drop=True)
    for column in ("sched_dep", "sched_arr", "dep_time", "dep_known_at", "arr_time", "label_known_at"):
        value = (flights[column].iloc[rows].reset_index(drop=True) + shift).dt.as_unit("us")
        flights.iloc[rows, flights.columns.get_loc(column)] = value.to_numpy()
    local = moved.dt.tz_convert(ZONE).dt.strftime("%Y-%m-%dT%H:%M")
    flights.iloc[rows, flights.columns.get_loc("sched_dep_local")] = local.to_numpy()
    draft.frames["flights"] = flights


def other_order(draft: Draft) -> None:
    for table, frame in draft.frames.items():
        columns = list(draft.draw.permutation(frame.columns.to_numpy()))
        draft.frames[table] = frame.iloc[draft.draw.permutation(len(frame))][columns].reset_index(drop=True)


def more_columns(draft: Draft) -> None:
    """Two columns nobody has asked for, half empty, about nobody."""
    flights = draft.frames["flights"]
    text = [f"{draft.pick('ABCDE')}{draft.draw.integers(1, 60)}" if draft.draw.random() < 0.5 else None for _ in flights.index]
    number = [float(draft.draw.integers(0, 200)) if draft.draw.random() < 0.5 else None for _ in flights.index]
    draft.frames["flights"] = flights.assign(**{draft.pick(OTHER_NAMES): text, "bags": number})


def other_writer(draft: Draft) -> None:
    """The same values from another program: texts in dictionaries, wider numbers, finer instants."""
    import pyarrow as pa

    kinds = {"flight_no": pa.int64(), "sched_dep": pa.timestamp("ns", "UTC"), "flight_id": pa.large_string()}
    for column, kind in kinds.items():
        draft.arrow["flights"].append(lambda t, c=column, k=kind: _with(t, c, t.column(c).cast(k)))
    for column in ("carrier", "dest", "outcome"):
        draft.arrow["flights"].append(lambda t, c=column: _with(t, c, t.column(c).dictionary_encode()))


def airline_gone(draft: Draft) -> None:
    flights = draft.frames["flights"]
    carriers = flights["carrier"].value_counts()
    middle = carriers.index[len(carriers) // 2]
    draft.frames["flights"] = flights[flights["carrier"] != middle].reset_index(drop=True)


Change = Callable[[Draft], None]
SPOILED: dict[str, tuple[str, Change]] = {
    "unknown_carrier": ("an airline that is not in airlines", unknown_carrier),
    "impossible_day": ("a 13th month or a day that does not exist", impossible_day),
    "impossible_time": ("a time like 24:60", impossible_time),
    "negative_distance": ("negative distances", negative_distance),
    "from_the_future": ("rows from the future", from_the_future),
    "impossible_weather": ("weather outside its range", impossible_weather),
    "doubled_keys": ("keys that occur twice", doubled_keys),
    "several_faults": ("three faults at once", several_faults),
    "missing_column": ("a column is missing", missing_column),
    "renamed_column": ("a column has another name", renamed_column),
    "text_for_numbers": ("text in place of numbers or instants", text_for_numbers),
    "many_nulls": ("half of a column is null", many_nulls),
    "other_unit": ("a column in another unit", other_unit),
    "last_months_file": ("last month's file again", last_months_file),
    "old_month_beside": ("last month's file beside the new one", old_month_beside),
    "file_cut_off": ("a file that breaks off", file_cut_off),
    "rows_lost": ("fewer rows than the manifest says", rows_lost),
    "file_not_there": ("a file that is not there", file_not_there),
    "empty_file": ("a file without rows", empty_file),
    "mixed_encodings": ("texts that are not UTF-8", mixed_encodings),
}
PERSONAL: dict[str, tuple[str, Change]] = {
    "personal_column": ("a column of mail addresses", personal_column),
    "personal_remarks": ("remarks with telephone numbers and wrong rows", personal_remarks),
}
UNUSUAL: dict[str, tuple[str, Change]] = {
    "ordinary": ("an ordinary month", ordinary),
    "storm": ("a storm", storm),
    "strike": ("a strike", strike),
    "new_destination": ("a new destination", new_destination),
    "new_aircraft": ("new aircraft", new_aircraft),
    "quiet_month": ("few flights", quiet_month),
    "clocks_change": ("flights while the clocks change", clocks_change),
    "other_order": ("rows and columns in another order", other_order),
    "more_columns": ("more columns", more_columns),
    "other_writer": ("another program wrote it", other_writer),
    "airline_gone": ("an airline stopped flying", airline_gone),
}
KINDS = {**SPOILED, **PERSONAL, **UNUSUAL}


def make_feeds(world: World, history: Path) -> Case:
    """One feed of each kind for the month after `history`, a data folder that `write_history` has laid down."""
    import pandas as pd

    source = _source(world, {t: pd.read_parquet(history / t) for t in TABLES})
    names = stream(world.seed or 0, "feed names")
    feeds: dict[str, Feed] = {}
    for kind, (says, change) in KINDS.items():
        draft = _draft(source, stream(world.seed or 0, f"feed {kind}"))
        change(draft)
        feeds[f"{names.integers(2**40):010x}"] = draft.finished(kind, says)
    return Case(dict(sorted(feeds.items())), source.month, source.months, source.now)


def months_of(world: World) -> tuple[str, list[str]]:
    """The month that feeds bring, one in which the clocks change, and the months of the history before it."""
    number = int(stream(world.seed or 0, "month of the feeds").choice(MONTHS_OF_FEEDS))
    return world.months[number - 1], world.months[number - 1 - MONTHS_OF_HISTORY : number - 1]


def _source(world: World, history: dict[str, pd.DataFrame]) -> Source:
    month, months = months_of(world)
    flights = world.flights[world.month_of(world.flights) == month]
    observed = world.weather["observed_at"].dt.tz_convert(ZONE).dt.strftime("%Y-%m")
    weather = world.weather[observed == month]
    last = {
        "flights": history["flights"][world.month_of(history["flights"]) == months[-1]],
        "weather": history["weather"][history["weather"]["observed_at"].dt.tz_convert(ZONE).dt.strftime("%Y-%m") == months[-1]],
    }
    airports, carriers = frozenset(world.airports["airport"]), frozenset(world.airlines["carrier"])
    return Source(month, months, flights, weather, last, history, airports, carriers)


def _draft(source: Source, draw: np.random.Generator) -> Draft:
    frames = {
        "flights": _sample(source.flights, int(draw.integers(*FLIGHTS)), draw),
        "weather": _sample(source.weather, int(draw.integers(*WEATHER)), draw),
    }
    return Draft(draw, source, frames)


def _sample(frame: pd.DataFrame, count: int, draw: np.random.Generator) -> pd.DataFrame:
    """An even random share of the rows, in their order."""
    import numpy as np

    return frame.iloc[np.sort(draw.permutation(len(frame))[:count])].reset_index(drop=True)


def _clock_change(month: str) -> pd.Timestamp:
    """The instant at which the clocks of New York change in this month."""
    import pandas as pd

    hours = pd.date_range(f"{month}-01", periods=24 * 28, freq="h", tz="UTC")
    offset = hours.tz_convert(ZONE).strftime("%z")
    return pd.Timestamp(hours[1:][offset[1:] != offset[:-1]][0])


def _people(draft: Draft) -> list[tuple[str, str, str]]:
    """Invented people: name in a mail address, domain, telephone number; all of it unique to this feed."""
    domain = f"{''.join(draft.draw.choice(list('abcdefghkmnpqrstuvw'), 9))}.example"
    people = []
    for number in draft.draw.choice(10**5, 30, replace=False):
        name = f"{draft.pick(FIRST)}.{draft.pick(LAST)}{number:05d}"
        phone = f"+1 {draft.draw.integers(200, 999)} 555 {draft.draw.integers(1_000_000, 9_999_999)}"
        people.append((name, domain, phone))
    return people


def _spread(draft: Draft, count: int) -> np.ndarray:
    """For each flight a number below `count`."""
    found: np.ndarray = draft.draw.integers(0, count, len(draft.frames["flights"]))
    return found


def _add_personal(draft: Draft, values: Sequence[str | None], people: list[tuple[str, str, str]]) -> None:
    name = draft.pick(PERSONAL_NAMES)
    frame = draft.frames["flights"].copy()
    frame.insert(int(draft.draw.integers(1, frame.shape[1])), name, list(values))
    draft.frames["flights"] = frame
    there = "\n".join(value for value in values if value)
    draft.secrets += [text for person in people for text in person if text in there]
    draft.secrets = sorted(set(draft.secrets))
    draft.wrong("flights", "personal_data", name)


def _with(table: pa.Table, column: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, values)


def _latin(values: Sequence[str | None], rows: set[int]) -> pa.Array:
    """Texts, those in `rows` with a letter of Latin-1 that is no UTF-8."""
    import pyarrow as pa
    import pyarrow.compute as pc

    said = [
        None if value is None else value[:-1].encode() + b"\xe9" + value[-1:].encode() if row in rows else value.encode()
        for row, value in enumerate(values)
    ]  # fmt: skip
    return pc.cast(pa.array(said, pa.binary()), options=pc.CastOptions(pa.string(), allow_invalid_utf8=True))


def _write(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")


def _damage(file: File, path: Path) -> None:
    if file.damage in ("absent", "unlisted"):
        path.unlink()
    elif file.damage == "cut":
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * file.kept)])
    elif file.damage == "short":
        _write(file.table.slice(0, int(file.table.num_rows * file.kept)), path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def renamed(case: Case, names: Sequence[str], seed: int, label: str) -> tuple[Case, dict[str, str]]:
    """Some feeds of a case under new names that say nothing, and which new name belongs to which old one."""
    draw = stream(seed, f"feed names {label}")
    new = {f"{draw.integers(2**40):010x}": name for name in names}
    feeds = {fresh: case.feeds[name] for fresh, name in sorted(new.items())}
    return replace(case, feeds=feeds), new
