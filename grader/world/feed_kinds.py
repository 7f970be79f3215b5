"""The kinds of feeds: how each spoils a clean sample of one month, or only makes it unusual.

Each kind breaks exactly the rules of the contract that it says it breaks; the tests hold that for many worlds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from grader.contract.rules import RuleName
from grader.world.build import ZONE
from grader.world.delivery import Fault, Feed, File

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

FLIGHTS, WEATHER = (800, 1_300), (500, 800)  # rows of a feed
QUIET = (300, 420)
WRONG_ROWS = (5, 60)
NULL_SHARE = (0.42, 0.60)  # the rule begins at .20 above the history
CANCELLED_SHARE = (0.35, 0.50)
TABLES = ("flights", "weather")
KM, SECONDS, INCHES_OF_MERCURY = 1.609344, 60.0, 1 / 33.8639
WRONG_DAYS = ("13-{day}", "00-{day}", "02-30", "{month}-32", "{month}-00")
WRONG_TIMES = ("24:60", "25:{minute}", "{hour}:60", "99:{minute}")
FIRST = ("ana", "ben", "chen", "dora", "emil", "farid", "gita", "hana", "ivan", "jana", "kofi", "lena", "mara", "noor")
LAST = ("abbott", "brandt", "castell", "dvorak", "eriksen", "fontane", "grieg", "haldane", "ibsen", "joyce", "keller")
PERSONAL_NAMES = ("contact", "booked_by", "remarks", "note", "agent_ref", "info", "handled_by", "comment")
OTHER_NAMES = ("gate", "stand", "belt", "runway", "tower_code")
NEW_NAMES = ("{name}_v2", "{name}_new", "x_{name}", "{name}_value", "src_{name}")


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
    rows = draft.some("flights", 5, 30)
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
    column, value = draft.pick(
        [("humid", 134.0), ("wind_dir", 990.0), ("visib", 99.9), ("precip", -1.0), ("temp", 999.0)]
    )
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
    again[changed] = again[changed] + (np.arange(len(again)) < len(again) // 2)
    order = draft.draw.permutation(len(frame) + len(again))
    draft.frames[table] = pd.concat([frame, again]).iloc[order].reset_index(drop=True)
    doubled = np.concatenate([rows, np.arange(len(frame), len(frame) + len(again))])
    draft.wrong(table, "duplicate_key", None, np.flatnonzero(np.isin(order, doubled)))


def several_faults(draft: Draft) -> None:
    """Three rules broken in one feed, some rows breaking two of them."""
    import numpy as np

    unknown_carrier(draft)
    carrier_rows = np.array(draft.faults[-1].rows)
    distances = np.union1d(carrier_rows[: 1 + len(carrier_rows) // 3], draft.some("flights", 5, 30))
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
        draft.frames[table] = sample(draft.source.last[table], len(draft.frames[table]), draft.draw)
        draft.wrong(table, "stale")


def old_month_beside(draft: Draft) -> None:
    """The new month, and with it the one before again."""
    import pyarrow as pa

    table = draft.pick(TABLES)
    again = sample(draft.source.last[table], len(draft.frames[table]) // 2, draft.draw)
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
    extra = np.where(hit, draft.draw.uniform(300, 1_500, len(flights)).round(), 0.0)
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
    for column in (
        "dep_time",
        "dep_delay_min",
        "dep_known_at",
        "arr_time",
        "arr_delay_min",
        "air_time_min",
        "label_known_at",
    ):
        draft.set("flights", column, rows, None)
    draft.set("flights", "outcome", rows, "cancelled")


def new_destination(draft: Draft) -> None:
    known = draft.source.airports | set(draft.source.flights["dest"])
    code = next(c for c in ("".join(draft.draw.choice(list("QXZVK"), 3)) for _ in range(999)) if c not in known)
    rows = draft.some("flights", 15, 30)
    draft.set("flights", "dest", rows, code)
    draft.set("flights", "distance_miles", rows, float(draft.draw.integers(300, 3_500)))


def new_aircraft(draft: Draft) -> None:
    rows = draft.some("flights", 40, 80)
    draft.set("flights", "tailnum", rows, [f"N{draft.draw.integers(10_000, 99_999)}ZZ" for _ in rows])


def quiet_month(draft: Draft) -> None:
    for table in TABLES:
        draft.frames[table] = sample(draft.frames[table], int(draft.draw.integers(*QUIET)), draft.draw)


def clocks_change(draft: Draft) -> None:
    """Flights around the hour that is missing or comes twice."""
    import pandas as pd

    flights, rows = draft.frames["flights"], draft.some("flights", 10, 16)
    minutes = pd.to_timedelta(draft.draw.permutation(60)[: len(rows)] * 4 - 120, unit="m")
    moved = pd.Series(_clock_change(draft.source.month) + minutes).dt.as_unit("us")
    shift = moved - flights["sched_dep"].iloc[rows].reset_index(drop=True)
    for column in ("sched_dep", "sched_arr", "dep_time", "dep_known_at", "arr_time", "label_known_at"):
        value = (flights[column].iloc[rows].reset_index(drop=True) + shift).dt.as_unit("us")
        draft.set("flights", column, rows, value.to_numpy())
    draft.set("flights", "sched_dep_local", rows, moved.dt.tz_convert(ZONE).dt.strftime("%Y-%m-%dT%H:%M").to_numpy())


def other_order(draft: Draft) -> None:
    for table, frame in draft.frames.items():
        columns = list(draft.draw.permutation(frame.columns.to_numpy()))
        draft.frames[table] = frame.iloc[draft.draw.permutation(len(frame))][columns].reset_index(drop=True)


def more_columns(draft: Draft) -> None:
    """Two columns nobody has asked for, half empty, about nobody."""
    flights = draft.frames["flights"].copy()
    text = [
        f"{draft.pick('ABCDE')}{draft.draw.integers(1, 60)}" if draft.draw.random() < 0.5 else None
        for _ in flights.index
    ]
    number = [float(draft.draw.integers(0, 200)) if draft.draw.random() < 0.5 else None for _ in flights.index]
    flights[draft.pick(OTHER_NAMES)], flights["bags"] = text, number
    draft.frames["flights"] = flights


def other_writer(draft: Draft) -> None:
    """The same values from another program: texts in dictionaries, wider numbers, finer instants."""
    import pyarrow as pa

    kinds = {"flight_no": pa.int64(), "sched_dep": pa.timestamp("ns", "UTC"), "flight_id": pa.large_string()}

    def rewrite(table: pa.Table) -> pa.Table:
        for column, kind in kinds.items():
            table = _with(table, column, table.column(column).cast(kind))
        for column in ("carrier", "dest", "outcome"):
            table = _with(table, column, table.column(column).dictionary_encode())
        return table

    draft.arrow["flights"].append(rewrite)


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


def draft_of(source: Source, draw: np.random.Generator) -> Draft:
    frames = {
        "flights": sample(source.flights, int(draw.integers(*FLIGHTS)), draw),
        "weather": sample(source.weather, int(draw.integers(*WEATHER)), draw),
    }
    return Draft(draw, source, frames)


def sample(frame: pd.DataFrame, count: int, draw: np.random.Generator) -> pd.DataFrame:
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
