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
FEW_ROWS = (3, 6)  # so few that means of steady columns stay where they are
MANY_NULLS = (0.45, 0.60)  # more than in the history; the rule begins at .28 to .32
SOME_NULLS = 0.24  # too many by the published use case, not by that of any grading
LONGER = 1.36  # the same of the means of steady columns: 1.3 is published, gradings have 1.42 to 1.48
CANCELLED_SHARE = (0.35, 0.50)
TABLES = ("flights", "weather")
TIMES = {"flights": "sched_dep", "weather": "observed_at"}
CLOSE_MINUTES = 110  # to `now`, which a grading writes by a clock that is two hours and more ahead or behind
KM, HOURS, INCHES_OF_MERCURY = 1.609344, 1 / 60, 1 / 33.8639
WRONG_DAYS = ("13-{day}", "00-{day}", "02-30", "{month}-32", "{month}-00")
WRONG_TIMES = ("24:60", "25:{minute}", "{hour}:60", "99:{minute}")
FIRST = ("ana", "ben", "chen", "dora", "emil", "farid", "gita", "hana", "ivan", "jana", "kofi", "lena", "mara", "noor")
LAST = ("abbott", "brandt", "castell", "dvorak", "eriksen", "fontane", "grieg", "haldane", "ibsen", "joyce", "keller")
PERSONAL_NAMES = ("contact", "booked_by", "remarks", "note", "agent_ref", "info", "handled_by", "comment")
OTHER_NAMES = ("gate", "stand", "belt", "runway", "tower_code")
NEW_NAMES = ("{name}_v2", "{name}_new", "x_{name}", "{name}_value", "src_{name}")


def day_after(month: str) -> str:
    """The morning of the day after the first that follows a month: by then the month has been delivered."""
    year, number = int(month[:4]), int(month[5:])
    return f"{year + number // 12}-{number % 12 + 1:02d}-02T06:00:00Z"


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
    cut_at: dict[str, int] = field(default_factory=dict)  # tables that come in two files
    manifest: bool = True

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
            start = f"{name}/{self.source.month}"
            if at := self.cut_at.get(name):
                files += [File(f"{start}-1.parquet", table.slice(0, at)), File(f"{start}-2.parquet", table.slice(at))]
            else:
                files.append(File(f"{start}.parquet", table, *self.damage.get(name, ())))
        return Feed(kind, says, tuple(files), tuple(self.faults), tuple(self.secrets), self.manifest)


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
    rules: dict[str, Any]  # the use case of this grading
    published: dict[str, Any]
    as_of: str | None = None  # RFC 3339, where that is not the day after the month

    def values(self, table: str) -> dict[str, dict[str, Any]]:
        """What the use case of this grading says of the values of a table."""
        found: dict[str, dict[str, Any]] = self.rules["tables"][table]["values"]
        return found

    @property
    def now(self) -> pd.Timestamp:
        import pandas as pd

        return pd.Timestamp(self.as_of or day_after(self.month)).as_unit("us")


# Feeds that break a rule


def unknown_carrier(draft: Draft) -> None:
    """Codes that nobody has, and those of airlines in another spelling."""
    rows, known = draft.some("flights"), draft.source.carriers
    strange = [code for a in "QXZJW" for b in "QXZ0123456789" if (code := a + b) not in known]
    one, other = draft.pick(strange), draft.pick(sorted(known))
    codes = [one, f"{other} ", draft.pick(strange), other.lower()]
    draft.set("flights", "carrier", rows, [codes[place % len(codes)] for place in range(len(rows))])
    draft.wrong("flights", "unknown_reference", "carrier", rows)


def all_in_lower_case(draft: Draft) -> None:
    """A source that writes its codes otherwise: no row of the table can be used."""
    import numpy as np

    draft.frames["flights"] = draft.frames["flights"].assign(carrier=draft.frames["flights"]["carrier"].str.lower())
    draft.wrong("flights", "unknown_reference", "carrier", np.arange(len(draft.frames["flights"])))


def impossible_day(draft: Draft) -> None:
    rows, form = draft.some("flights"), draft.pick(WRONG_DAYS)
    local = draft.frames["flights"]["sched_dep_local"].iloc[rows]
    values = [t[:5] + form.format(day=t[8:10], month=t[5:7]) + t[10:] for t in local]
    draft.set("flights", "sched_dep_local", rows, values)
    draft.wrong("flights", "out_of_range", "sched_dep_local", rows)


def impossible_time(draft: Draft) -> None:
    rows, form = draft.some("flights"), draft.pick(WRONG_TIMES)
    local = draft.frames["flights"]["sched_dep_local"].iloc[rows]
    values = [t[:11] + form.format(hour=t[11:13], minute=t[14:]) for t in local]
    # Times that exist, in another form than that of the use case.
    values[1::3] = [f"{t}:00" for t in local[1::3]]
    values[2::3] = [f"{t[:10]} {t[11:]}" for t in local[2::3]]
    draft.set("flights", "sched_dep_local", rows, values)
    draft.wrong("flights", "out_of_range", "sched_dep_local", rows)


def unknown_outcome(draft: Draft) -> None:
    """Names that nobody knows, and known ones in another spelling."""
    rows = draft.some("flights", 8, 30)
    wrong = ("landed", "departed", "unknown", "Flown", "flown ", "CANCELLED")
    draft.set("flights", "outcome", rows, [wrong[place % len(wrong)] for place in range(len(rows))])
    draft.wrong("flights", "out_of_range", "outcome", rows)


def too_large(draft: Draft) -> None:
    """In every column that has a largest value, a few that are above it."""
    _beyond(draft, "max", 1)


def too_small(draft: Draft) -> None:
    """In every column that has a smallest value, a few that are below it."""
    _beyond(draft, "min", -1)


def _beyond(draft: Draft, bound: str, way: int) -> None:
    """Values beyond a bound of this grading; where the published one lies farther out, between the two."""
    for table in TABLES:
        for column, rule in draft.source.values(table).items():
            if bound not in rule:
                continue
            own, known = rule[bound], draft.source.published["tables"][table]["values"][column][bound]
            room = (known - own) * way if (known - own) * way > 0 else (rule["max"] - rule["min"]) * 0.1
            rows = draft.some(table, *FEW_ROWS)
            values = own + way * room * draft.draw.uniform(0.2, 0.8, len(rows))
            draft.set(table, column, rows, values.round(1))
            draft.wrong(table, "out_of_range", column, rows)


def from_the_future(draft: Draft) -> None:
    """Half of them by minutes, so that it matters where the clock of `now` stands."""
    import numpy as np
    import pandas as pd

    for table, column in TIMES.items():
        rows = draft.some(table)
        later = draft.frames[table][column].iloc[rows] + pd.Timedelta(days=int(draft.draw.integers(60, 900)))
        near = pd.Series(draft.source.now + _minutes(draft, len(rows)), later.index)
        draft.set(table, column, rows, later.where(np.arange(len(rows)) % 2 == 0, near).dt.as_unit("us").to_numpy())
        draft.wrong(table, "out_of_range", column, rows)


def _minutes(draft: Draft, count: int) -> pd.TimedeltaIndex:
    """Different numbers of minutes, from one on, fewer than any clock of the gradings is ahead or behind."""
    import pandas as pd

    return pd.to_timedelta(1 + draft.draw.permutation(CLOSE_MINUTES)[:count], unit="min").as_unit("us")


def doubled_keys(draft: Draft) -> None:
    """In both tables some rows stand there again, half of them with another value, somewhere else in the file.

    The keys of some have a null, which is equal to a null. Of some one is wrong in another column as well.
    """
    import numpy as np
    import pandas as pd

    kinds = {
        "flights": ("flight_id", "distance_miles", "distance_miles", 0.0),
        "weather": ("origin", "temp", "humid", 134.0),
    }
    for table, (nulled, changed, spoiled, value) in kinds.items():
        rows = draft.some(table)
        draft.set(table, nulled, rows[-3:], None)
        frame = draft.frames[table]
        again = frame.iloc[rows].copy()
        again[changed] = again[changed] + (np.arange(len(again)) < len(again) // 2)
        order = draft.draw.permutation(len(frame) + len(again))
        draft.frames[table] = pd.concat([frame, again]).iloc[order].reset_index(drop=True)
        doubled = np.concatenate([rows, np.arange(len(frame), len(frame) + len(again))])
        draft.wrong(table, "duplicate_key", None, np.flatnonzero(np.isin(order, doubled)))
        twice_wrong = np.flatnonzero(np.isin(order, np.arange(len(frame), len(frame) + 2)))
        draft.set(table, spoiled, twice_wrong, value)
        draft.wrong(table, "out_of_range", spoiled, twice_wrong)


def several_faults(draft: Draft) -> None:
    """Three rules broken in one feed, some rows breaking two of them."""
    import numpy as np

    unknown_carrier(draft)
    carrier_rows = np.array(draft.faults[-1].rows)
    distances = np.union1d(carrier_rows[: 1 + len(carrier_rows) // 3], draft.some("flights", 5, 30))
    draft.set("flights", "distance_miles", distances, 0.0)
    draft.wrong("flights", "out_of_range", "distance_miles", distances)
    rows = draft.some("weather")
    draft.set("weather", "humid", rows, 134.0)
    draft.wrong("weather", "out_of_range", "humid", rows)


def second_file(draft: Draft) -> None:
    """Both tables come in two files, and what is wrong stands in the second; some flights of the first stand there again."""
    import numpy as np
    import pandas as pd

    flights, first = draft.frames["flights"], len(draft.frames["flights"]) // 2
    again = draft.some("flights", 5, 20)
    again = again[again < first] if (again < first).any() else np.arange(3)
    draft.frames["flights"] = pd.concat([flights, flights.iloc[again]]).reset_index(drop=True)
    draft.wrong(
        "flights", "duplicate_key", None, np.concatenate([again, np.arange(len(flights), len(flights) + len(again))])
    )
    for table, column, value in (("flights", "distance_miles", -300.0), ("weather", "humid", 134.0)):
        at = len(draft.frames[table]) // 2 if table == "weather" else first
        rows = at + np.sort(draft.draw.permutation(len(draft.frames[table]) - at - 30)[:12])
        draft.set(table, column, rows, value)
        draft.wrong(table, "out_of_range", column, rows)
        draft.cut_at[table] = at


def missing_in_flights(draft: Draft) -> None:
    """In both files of the table."""
    _missing(draft, "flights", ("tailnum", "dest", "distance_miles", "sched_arr", "outcome", "carrier"))
    draft.cut_at["flights"] = len(draft.frames["flights"]) // 2


def missing_in_weather(draft: Draft) -> None:
    _missing(draft, "weather", ("temp", "visib", "known_at"))


def _missing(draft: Draft, table: str, columns: Sequence[str]) -> None:
    """A column that is not there, and another one of another kind that nobody has asked for."""
    import pandas as pd

    column, frame = draft.pick(columns), draft.frames[table]
    text = pd.api.types.is_string_dtype(frame[column])
    more = draft.draw.integers(1, 60, len(frame)).astype(float)
    frame[draft.pick(OTHER_NAMES)] = more if text else [f"{draft.pick('ABCDE')}{number:.0f}" for number in more]
    draft.frames[table] = frame.drop(columns=column)
    draft.wrong(table, "missing_column", column)


def renamed_in_flights(draft: Draft) -> None:
    _renamed(draft, "flights", ("tailnum", "dest", "distance_miles", "dep_delay_min", "sched_dep", "flight_no"))


def renamed_in_weather(draft: Draft) -> None:
    _renamed(draft, "weather", ("temp", "humid", "observed_at"))


def _renamed(draft: Draft, table: str, columns: Sequence[str]) -> None:
    column = draft.pick(columns)
    draft.frames[table] = draft.frames[table].rename(columns={column: draft.pick(NEW_NAMES).format(name=column)})
    draft.wrong(table, "renamed_column", column)


def text_for_numbers(draft: Draft) -> None:
    import pyarrow as pa

    column = draft.pick(("distance_miles", "dep_delay_min", "flight_no", "sched_dep"))
    _other_kind(draft, "flights", column, pa.string())


def reals_for_whole_numbers(draft: Draft) -> None:
    """As they come from a program that keeps whole numbers with gaps as real ones."""
    import pyarrow as pa

    _other_kind(draft, "flights", "flight_no", pa.float64())


def without_type(draft: Draft) -> None:
    """A column without any value, of the type that Arrow then gives it."""
    import pyarrow as pa

    table, column = draft.pick((("flights", "tailnum"), ("weather", "wind_gust")))
    draft.arrow[table].append(lambda t: _with(t, column, pa.nulls(t.num_rows)))
    draft.wrong(table, "wrong_type", column)


def instants_without_zone(draft: Draft) -> None:
    import pyarrow as pa

    _other_kind(draft, "weather", "observed_at", pa.timestamp("us"))


def _other_kind(draft: Draft, table: str, column: str, kind: pa.DataType) -> None:
    draft.arrow[table].append(lambda t: _with(t, column, t.column(column).cast(kind)))
    draft.wrong(table, "wrong_type", column)


def nulls_in_flights(draft: Draft) -> None:
    _many_nulls(draft, "flights", ("carrier", "tailnum", "distance_miles", "sched_arr"))


def nulls_among_flown(draft: Draft) -> None:
    _many_nulls(draft, "flights", ("arr_delay_min", "dep_time", "air_time_min", "label_known_at"))


def nulls_in_weather(draft: Draft) -> None:
    _many_nulls(draft, "weather", ("temp", "wind_dir", "pressure", "visib"))


def _many_nulls(draft: Draft, table: str, columns: Sequence[str]) -> None:
    column = draft.pick(columns)
    _more_nulls(draft, table, column, float(draft.draw.uniform(*MANY_NULLS)))
    draft.wrong(table, "null_rate", column)


def _more_nulls(draft: Draft, table: str, column: str, more: float, at_the_end: bool = False) -> None:
    """Empty a column until its share of nulls is larger by `more` than in the history, among the rows that count.

    They are the last of these rows, or any. In a column of real numbers some of them come as NaN, which counts as null.
    """
    import numpy as np
    import pandas as pd

    def counted(frame: pd.DataFrame) -> np.ndarray:
        filled = draft.source.rules["tables"][table].get("filled", {"columns": []})
        where = frame["outcome"].eq("flown") if column in filled["columns"] else frame[column].notna() | True
        return np.flatnonzero(where)

    frame, history = draft.frames[table], draft.source.history[table]
    share = history[column].iloc[counted(history)].isna().mean() + more
    rows = counted(frame)
    there = rows[frame[column].iloc[rows].notna().to_numpy()]
    empty = round(share * len(rows)) - (len(rows) - len(there))
    emptied = there[-empty:] if at_the_end else np.sort(draft.draw.permutation(there)[:empty])
    draft.set(table, column, emptied, None)
    if pd.api.types.is_float_dtype(frame[column]):
        draft.arrow[table].append(lambda t: _with(t, column, _nan(t.column(column), emptied[::4].tolist())))


def kilometres(draft: Draft) -> None:
    _other_unit(draft, "flights", "distance_miles", KM)


def hours_in_the_air(draft: Draft) -> None:
    _other_unit(draft, "flights", "air_time_min", HOURS)


def inches_of_mercury(draft: Draft) -> None:
    _other_unit(draft, "weather", "pressure", INCHES_OF_MERCURY)


def _other_unit(draft: Draft, table: str, column: str, factor: float) -> None:
    """A column times a factor; its nulls come as NaN."""
    draft.frames[table] = draft.frames[table].assign(**{column: draft.frames[table][column] * factor})
    draft.arrow[table].append(lambda t: _with(t, column, _nan(t.column(column))))
    draft.wrong(table, "unit_change", column)


def short_flights(draft: Draft) -> None:
    """Nearer or shorter flights, whose mean lies below what is allowed and above what `2 - mean_factor` would allow."""
    column, allowed = draft.pick(("distance_miles", "air_time_min")), draft.source.rules["feeds"]["mean_factor"]
    frame, usual = draft.frames["flights"], draft.source.history["flights"][column].mean()
    factor = (1 / allowed + 2 - allowed) / 2 * usual / frame[column].mean()
    draft.frames["flights"] = frame.assign(**{column: frame[column] * factor})
    draft.wrong("flights", "unit_change", column)


def last_months_flights(draft: Draft) -> None:
    """What was delivered a month ago, under the new name."""
    _last_months(draft, "flights")


def last_months_weather(draft: Draft) -> None:
    _last_months(draft, "weather")


def _last_months(draft: Draft, table: str) -> None:
    draft.frames[table] = sample(draft.source.last[table], len(draft.frames[table]), draft.draw)
    draft.wrong(table, "stale")


def old_month_beside(draft: Draft) -> None:
    """The new month, and with it the one before again."""
    table = draft.pick(TABLES)
    draft.more.append(_old_file(draft, table))
    draft.wrong(table, "stale")


def _old_file(draft: Draft, table: str, damage: str = "") -> File:
    import pyarrow as pa

    again = sample(draft.source.last[table], len(draft.frames[table]) // 2, draft.draw)
    rows = pa.Table.from_pandas(again, preserve_index=False).replace_schema_metadata(None)
    return File(f"{table}/{draft.source.months[-1]}.parquet", rows, damage)


def file_cut_off(draft: Draft) -> None:
    _broken(draft, "flights", "cut", float(draft.draw.uniform(0.3, 0.95)))


def rows_lost(draft: Draft) -> None:
    _broken(draft, "weather", "short", float(draft.draw.uniform(0.5, 0.9)))


def file_not_there(draft: Draft) -> None:
    _broken(draft, "weather", "absent", 0.0)


def file_not_listed(draft: Draft) -> None:
    _broken(draft, "flights", "unlisted", 0.0)


def rows_added(draft: Draft) -> None:
    _broken(draft, "flights", "more", float(draft.draw.uniform(0.5, 0.9)))


def empty_file(draft: Draft) -> None:
    draft.arrow["flights"].append(lambda t: t.slice(0, 0))
    draft.wrong("flights", "truncated")


def empty_second_file(draft: Draft) -> None:
    draft.cut_at["weather"] = len(draft.frames["weather"])
    draft.wrong("weather", "truncated")


def no_manifest(draft: Draft) -> None:
    draft.manifest = False
    for table in TABLES:
        draft.wrong(table, "truncated")


def _broken(draft: Draft, table: str, damage: str, kept: float) -> None:
    draft.damage[table] = (damage, kept)
    draft.wrong(table, "truncated")


def latin_in_flights(draft: Draft) -> None:
    _latin_in(draft, "flights", draft.pick(["tailnum", "dest", "carrier", "outcome", "sched_dep_local"]))


def latin_in_weather(draft: Draft) -> None:
    _latin_in(draft, "weather", "origin")


def _latin_in(draft: Draft, table: str, column: str) -> None:
    """Some texts of a column come as Latin-1 in a file that says it is UTF-8."""
    rows = set(draft.some(table).tolist())
    draft.arrow[table].append(lambda t: _with(t, column, _latin(t.column(column).to_pylist(), rows)))
    draft.wrong(table, "encoding", column)


def personal_column(draft: Draft) -> None:
    """A column of mail addresses that nobody has asked for."""
    people = _people(draft)
    values = [f"{p.name}@{p.domain}" for p in (people[i] for i in _spread(draft, "flights", len(people)))]
    _add_personal(draft, "flights", values, people)


def observers(draft: Draft) -> None:
    """Who made an observation, in the weather; a text that is stored in a dictionary."""
    people = _people(draft)
    values = [f"{p.name}@{p.domain}" for p in (people[i] for i in _spread(draft, "weather", len(people)))]
    name = _add_personal(draft, "weather", values, people)
    draft.arrow["weather"].append(lambda t: _with(t, name, t.column(name).dictionary_encode()))


def card_numbers(draft: Draft) -> None:
    """Numbers of loyalty cards, which only the pattern of this grading's use case knows."""
    letters = draft.source.rules["feeds"]["personal_data"][-1][:2]
    people = _people(draft, letters)
    values = [people[i].card for i in _spread(draft, "flights", len(people))]
    _add_personal(draft, "flights", values, people)


def personal_remarks(draft: Draft) -> None:
    """Free text that holds a mail address or a telephone number now and then, also in rows that are wrong."""
    people, spread = _people(draft), _spread(draft, "flights", 400)
    said = ("seat changed", "gate agent informed", "wheelchair at gate", "late bag", None)
    values: list[str | None] = [said[i % len(said)] for i in spread]
    rows = draft.some("flights", 25, 50)
    for place, row in enumerate(rows):
        p = people[place % len(people)]
        values[row] = f"please call {p.phone}" if place % 2 else f"asked for {p.name}@{p.domain} to be told"
    _add_personal(draft, "flights", values, people)
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
    _without_flight(draft, draft.share("flights", *CANCELLED_SHARE), "cancelled")


def new_outcome(draft: Draft) -> None:
    """Some flights come to an outcome that no feed had before and this grading's use case allows."""
    _without_flight(draft, draft.some("flights", 20, 40), draft.source.values("flights")["outcome"]["one_of"][-1])


def _without_flight(draft: Draft, rows: np.ndarray, outcome: str) -> None:
    for column in draft.source.rules["tables"]["flights"]["filled"]["columns"]:
        draft.set("flights", column, rows, None)
    draft.set("flights", "outcome", rows, outcome)


def at_the_limits(draft: Draft) -> None:
    """A few values as small and as large as they may be, in every column with such limits, and rows of the last minutes before `now`."""
    import pandas as pd

    for table in TABLES:
        for column, rule in draft.source.values(table).items():
            for bound in ("min", "max"):
                if bound in rule:
                    draft.set(table, column, draft.some(table, 2, 3), float(rule[bound]))
        rows = draft.some(table, 4, 8)
        newest = pd.Series(draft.source.now - _minutes(draft, len(rows)) + pd.Timedelta(minutes=1))
        draft.set(table, TIMES[table], rows, newest.dt.as_unit("us").to_numpy())


def some_nulls(draft: Draft) -> None:
    """More nulls than usual in three columns, fewer than allowed; in the second of two files, taken for itself, they would be more."""
    for table, column in (("flights", "tailnum"), ("flights", "arr_delay_min"), ("weather", "temp")):
        _more_nulls(draft, table, column, SOME_NULLS, at_the_end=True)
        draft.cut_at[table] = len(draft.frames[table]) // 2


def longer_flights(draft: Draft) -> None:
    """Farther and longer flights than usual, by a third."""
    flights, usual = draft.frames["flights"], draft.source.history["flights"]
    for column in ("distance_miles", "air_time_min"):
        factor = LONGER * usual[column].mean() / flights[column].mean()
        flights = flights.assign(**{column: flights[column] * factor})
    draft.frames["flights"] = flights


def rows_that_came_late(draft: Draft) -> None:
    """Among the new ones a few of the month before, which nobody had delivered yet."""
    import pandas as pd

    for table, frame in draft.frames.items():
        late = sample(draft.source.last[table], 12, draft.draw)
        if table == "flights":  # the history has those of this name
            late = late.assign(flight_id=[f"{name}-late" for name in late["flight_id"]])
        rows = pd.concat([late, frame])
        draft.frames[table] = rows.iloc[draft.draw.permutation(len(rows))].reset_index(drop=True)


def two_files(draft: Draft) -> None:
    """Flights come by distance, so neither file has the usual mean."""
    draft.frames["flights"] = draft.frames["flights"].sort_values("distance_miles", ignore_index=True)
    for table in TABLES:
        rows = len(draft.frames[table])
        draft.cut_at[table] = int(draft.draw.integers(rows // 4, rows // 2))


def stray_files(draft: Draft) -> None:
    """What an earlier delivery left in the folder, and a second copy of a file; the manifest lists neither."""
    import pyarrow as pa

    copy = pa.Table.from_pandas(draft.frames["weather"], preserve_index=False).replace_schema_metadata(None)
    draft.more.append(_old_file(draft, "flights", "stray"))
    draft.more.append(File(f"weather/{draft.source.month}-copy.parquet", copy, "stray"))


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


def new_airline(draft: Draft) -> None:
    """Flights of an airline that there is, and that has not flown here before."""
    flown = set(draft.source.history["flights"]["carrier"]) | set(draft.source.flights["carrier"])
    draft.set("flights", "carrier", draft.some("flights", 15, 30), draft.pick(sorted(draft.source.carriers - flown)))


def airline_gone(draft: Draft) -> None:
    flights = draft.frames["flights"]
    carriers = flights["carrier"].value_counts()
    middle = carriers.index[len(carriers) // 2]
    draft.frames["flights"] = flights[flights["carrier"] != middle].reset_index(drop=True)


Change = Callable[[Draft], None]
SPOILED: dict[str, tuple[str, Change]] = {
    "unknown_carrier": ("an airline that is not in airlines", unknown_carrier),
    "all_in_lower_case": ("no airline of any flight is in airlines", all_in_lower_case),
    "impossible_day": ("a 13th month or a day that does not exist", impossible_day),
    "impossible_time": ("a time like 24:60", impossible_time),
    "unknown_outcome": ("outcomes that the use case does not know", unknown_outcome),
    "too_large": ("values above their max", too_large),
    "too_small": ("values below their min", too_small),
    "from_the_future": ("rows from the future", from_the_future),
    "doubled_keys": ("keys that occur twice", doubled_keys),
    "several_faults": ("three faults at once", several_faults),
    "second_file": ("wrong rows in the second file of a table", second_file),
    "personal_remarks": ("remarks with telephone numbers and wrong rows", personal_remarks),
    "missing_in_flights": ("a column is missing in both files of flights", missing_in_flights),
    "missing_in_weather": ("a column of the weather is missing", missing_in_weather),
    "renamed_in_flights": ("a column of flights has another name", renamed_in_flights),
    "renamed_in_weather": ("a column of the weather has another name", renamed_in_weather),
    "text_for_numbers": ("text in place of numbers or instants", text_for_numbers),
    "reals_for_whole_numbers": ("whole numbers that come as real ones", reals_for_whole_numbers),
    "without_type": ("a column without any value and without a type", without_type),
    "instants_without_zone": ("instants without a zone", instants_without_zone),
    "nulls_in_flights": ("half of a column is null", nulls_in_flights),
    "nulls_among_flown": ("half of a column is null among flown flights", nulls_among_flown),
    "nulls_in_weather": ("half of a column of the weather is null", nulls_in_weather),
    "kilometres": ("kilometres for miles", kilometres),
    "hours_in_the_air": ("hours for minutes", hours_in_the_air),
    "inches_of_mercury": ("inches of mercury for millibars", inches_of_mercury),
    "short_flights": ("flights much shorter than usual", short_flights),
    "last_months_flights": ("last month's flights again", last_months_flights),
    "last_months_weather": ("last month's weather again", last_months_weather),
    "old_month_beside": ("last month's file beside the new one", old_month_beside),
    "file_cut_off": ("a file that breaks off", file_cut_off),
    "rows_lost": ("fewer rows than the manifest says", rows_lost),
    "rows_added": ("more rows than the manifest says", rows_added),
    "file_not_there": ("a file that is listed and not there", file_not_there),
    "file_not_listed": ("no file of a table in the manifest", file_not_listed),
    "empty_file": ("a file without rows", empty_file),
    "empty_second_file": ("a second file without rows", empty_second_file),
    "no_manifest": ("no manifest", no_manifest),
    "latin_in_flights": ("texts of flights that are not UTF-8", latin_in_flights),
    "latin_in_weather": ("texts of the weather that are not UTF-8", latin_in_weather),
}
PERSONAL: dict[str, tuple[str, Change]] = {
    "personal_column": ("a column of mail addresses", personal_column),
    "observers": ("a column of mail addresses in the weather", observers),
    "card_numbers": ("a column of card numbers", card_numbers),
}
UNUSUAL: dict[str, tuple[str, Change]] = {
    "ordinary": ("an ordinary month", ordinary),
    "storm": ("a storm", storm),
    "strike": ("a strike", strike),
    "new_outcome": ("an outcome that is new and allowed", new_outcome),
    "at_the_limits": ("values as large and as small as allowed", at_the_limits),
    "some_nulls": ("more nulls than usual, fewer than allowed, most in the second file", some_nulls),
    "longer_flights": ("flights longer than usual by a third", longer_flights),
    "new_destination": ("a new destination", new_destination),
    "new_aircraft": ("new aircraft", new_aircraft),
    "quiet_month": ("few flights", quiet_month),
    "clocks_change": ("flights while the clocks change", clocks_change),
    "other_order": ("rows and columns in another order", other_order),
    "more_columns": ("more columns", more_columns),
    "other_writer": ("another program wrote it", other_writer),
    "new_airline": ("an airline that is in airlines and has not flown before", new_airline),
    "airline_gone": ("an airline stopped flying", airline_gone),
    "rows_that_came_late": ("rows of the month before among the new ones", rows_that_came_late),
    "two_files": ("each table in two files, the near flights in one and the far ones in the other", two_files),
    "stray_files": ("files that the manifest does not list", stray_files),
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


@dataclass(frozen=True)
class Person:
    """Somebody who does not exist."""

    name: str
    domain: str
    phone: str
    card: str


def _people(draft: Draft, letters: str = "") -> list[Person]:
    """Invented people: name in a mail address, domain, telephone number, card; all of it unique to this feed."""
    domain = f"{''.join(draft.draw.choice(list('abcdefghkmnpqrstuvw'), 9))}.example"
    people = []
    for number in draft.draw.choice(10**5, 30, replace=False):
        name = f"{draft.pick(FIRST)}.{draft.pick(LAST)}{number:05d}"
        phone = f"+1 {draft.draw.integers(200, 999)} 555 {draft.draw.integers(1_000_000, 9_999_999)}"
        card = f"{letters}-{draft.draw.integers(1_000, 9_999)}-{draft.draw.integers(1_000, 9_999)}"
        people.append(Person(name, domain, phone, card))
    return people


def _spread(draft: Draft, table: str, count: int) -> np.ndarray:
    """For each row of a table a number below `count`."""
    found: np.ndarray = draft.draw.integers(0, count, len(draft.frames[table]))
    return found


def _add_personal(draft: Draft, table: str, values: Sequence[str | None], people: list[Person]) -> str:
    """Put a column of texts between the others; its name."""
    name: str = draft.pick(PERSONAL_NAMES)
    frame = draft.frames[table].copy()
    frame.insert(int(draft.draw.integers(1, frame.shape[1])), name, list(values))
    draft.frames[table] = frame
    there = "\n".join(value for value in values if value)
    texts = {text for p in people for text in (p.name, p.domain, p.phone, p.card) if len(text) > 10}
    draft.secrets = sorted(text for text in texts if text in there)
    draft.wrong(table, "personal_data", name)
    return name


def _with(table: pa.Table, column: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, values)


def _nan(values: pa.ChunkedArray, but: Sequence[int] = ()) -> pa.Array:
    """Real numbers with NaN for nulls, except in some rows."""
    import numpy as np
    import pyarrow as pa

    return pa.array(values.to_numpy(), mask=np.isin(np.arange(len(values)), np.array(but, int)))


def _latin(values: Sequence[str | None], rows: set[int]) -> pa.Array:
    """Texts, those in `rows` with a letter of Latin-1 that is no UTF-8."""
    import pyarrow as pa
    import pyarrow.compute as pc

    said = [
        None if value is None else value[:-1].encode() + b"\xe9" + value[-1:].encode() if row in rows else value.encode()
        for row, value in enumerate(values)
    ]  # fmt: skip
    return pc.cast(pa.array(said, pa.binary()), options=pc.CastOptions(pa.string(), allow_invalid_utf8=True))
