"""What was known when: the latest known value, and the values that became known in a stretch of time.

The events of a table are put in order once: by group, and in each group as they became known, each with what holds from then on. A
question is then a search for the last event of its group before the decision, a few microseconds for one row as for each of a million.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import polars as pl

from flightdelay.clock import HOUR, MICROSECOND, NEVER
from flightdelay.data import DataFolder, label_of
from flightdelay.definitions import Age, AsOf, Count, FromTable, Lookup, Mean
from flightdelay.usecase import LABEL, UseCase


@dataclass(frozen=True)
class Asked:
    """Rows, shape (n, ...), that are decided on at the instants `at`, shape (n,), in microseconds."""

    rows: pl.DataFrame
    at: np.ndarray
    _keys: dict[tuple[str, ...], list[tuple]] = field(default_factory=dict)

    def keys(self, by: list[str], schema: Any) -> list[tuple]:
        """The values of the columns `by` of each row, in the types that a table has for them."""
        name = tuple(f"{column} {schema[column]}" for column in by)
        if name not in self._keys:
            columns = [self.rows[column].cast(schema[column], strict=False).to_list() for column in by]
            self._keys[name] = list(zip(*columns, strict=True))
        return self._keys[name]


def decided(rows: pl.DataFrame, usecase: UseCase) -> Asked:
    """The rows with the instants of their decisions; a row without a time is decided on before anything was known."""
    times = instants(rows[usecase.event_time])
    return Asked(rows, np.where(times == NEVER, NEVER, times - usecase.decision_lead // MICROSECOND))


def instants(times: pl.Series) -> np.ndarray:
    """Times as microseconds, shape (n,); NEVER where there is none."""
    return times.to_numpy().astype("datetime64[us]").view(np.int64)


class Ready(Protocol):
    """A definition with all that the data say about it; it gives an array (n,) for n rows, in which None or NaN is nothing.

    `kind` is the type of what is in it, where that is no number.
    """

    kind: pl.DataType

    def of(self, asked: Asked) -> np.ndarray: ...


def ready(wanted: FromTable, usecase: UseCase, data: DataFolder) -> Ready:
    match wanted:
        case Lookup():
            return ReadyLookup(wanted, data.table(wanted.table))
        case AsOf():
            return ReadyLatest(wanted, values_of(wanted, usecase, data), data.table(wanted.table).schema)
        case Count():
            return ReadyWindow(wanted, values_of(wanted, usecase, data), data.table(wanted.table).schema)
    raise TypeError(f"{wanted} is no kind of definition")


class ReadyLookup:
    """The value in the row of the table with this key; null where there is no such row."""

    def __init__(self, wanted: Lookup, table: pl.DataFrame) -> None:
        self.wanted, self.schema, self.kind = wanted, table.schema, table[wanted.column].dtype
        self.values = with_nothing(table[wanted.column])
        self.places = {key: place for place, key in enumerate(table.select(wanted.by).rows())}
        if len(self.places) != len(table):
            raise ValueError(f"the key of {wanted.table} is not unique")

    def of(self, asked: Asked) -> np.ndarray:
        found = [-1 if None in key else self.places.get(key, -1) for key in asked.keys(self.wanted.by, self.schema)]
        return self.values[found]


class Events:
    """Instants at which something became known, in groups. `table` has `group` and `known` (int64), sorted by both."""

    def __init__(self, groups: pl.DataFrame, table: pl.DataFrame) -> None:
        self.numbers = {key: number for number, key in enumerate(groups.rows())}
        self.group, known = table["group"].to_numpy(), table["known"].to_numpy()
        self.instants = np.unique(known)
        self.steps = len(self.instants) + 1
        # group and instant as one number that grows in their order, so that one search finds both
        self.order = self.group * self.steps + np.searchsorted(self.instants, known, side="right")

    def groups(self, keys: list[tuple]) -> np.ndarray:
        """The group of each key, shape (n,); -1 where there is none."""
        return np.array([self.numbers.get(key, -1) for key in keys], dtype=np.int64)

    def last(self, groups: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The place of the last event of each group that was known at that instant, shape (n,); -1 if there is none."""
        if not len(self.order):
            return np.full(len(groups), -1)
        wanted = groups * self.steps + np.searchsorted(self.instants, at, side="right")
        found = np.searchsorted(self.order, wanted, side="right") - 1
        return np.where((found >= 0) & (self.group[found] == groups), found, -1)


class ReadyLatest:
    """The newest of the values known at each decision, or its age in hours.

    Which is newest is asked of `time`, which are known of `known`: a report of yesterday that arrives today replaces
    nothing newer. So an event does not carry its own value, but the newest of its group that is known by then.
    """

    def __init__(self, wanted: AsOf, values: pl.DataFrame, schema: Any) -> None:
        self.wanted, self.schema, self.kind = wanted, schema, values["value"].dtype
        values = values.sort("time", "known", "^key.*$").with_row_index("newness")
        groups, numbered = grouped(values)
        events = numbered.sort("group", "known").with_columns(newest=pl.col("newness").cum_max().over("group"))
        self.events = Events(groups, events)
        self.newest = np.append(events["newest"].cast(pl.Int64).to_numpy(), -1)
        self.times, self.values = np.append(values["time"].to_physical().to_numpy(), 0), with_nothing(values["value"])

    def of(self, asked: Asked) -> np.ndarray:
        last = self.events.last(self.events.groups(asked.keys(self.wanted.by, self.schema)), asked.at)
        newest = self.newest[last]
        age = asked.at - self.times[newest]
        there = (newest >= 0) & (age <= self.wanted.max_age // MICROSECOND)
        if isinstance(self.wanted, Age):
            return np.where(there, age / HOUR, np.nan)
        return self.values[np.where(there, newest, -1)]


class ReadyWindow:
    """How many values became known in `(decided_at - window, decided_at]`, or their mean.

    Both come from running counts and sums: that at the end of the window less that at its start. So a long window costs no
    more than a short one.
    """

    def __init__(self, wanted: Count, values: pl.DataFrame, schema: Any) -> None:
        self.wanted, self.schema, self.kind = wanted, schema, pl.Float64()
        groups, numbered = grouped(values)
        # Ties in an order of their own, so that the last digit of a sum does not depend on the order in the file.
        events = numbered.sort("group", "known", "value").with_columns(count=pl.col("known").cum_count().over("group"))
        self.events = Events(groups, events)
        self.counts = np.append(events["count"].cast(pl.Int64).to_numpy(), 0)  # the last one is for "none": place -1
        if isinstance(wanted, Mean):
            total = events.select(pl.col("value").cast(pl.Float64).cum_sum().over("group")).to_series()
            self.totals = np.append(total.to_numpy(), 0.0)

    def of(self, asked: Asked) -> np.ndarray:
        at, keys = asked.at, asked.keys(self.wanted.by, self.schema)
        groups, back = self.events.groups(keys), self.wanted.window // MICROSECOND
        end, start = self.events.last(groups, at), self.events.last(groups, np.maximum(at, NEVER + back) - back)
        count = self.counts[end] - self.counts[start]
        askable = np.array([None not in key for key in keys], dtype=bool) & (at != NEVER)
        if not isinstance(self.wanted, Mean):
            return np.where(askable, count, np.nan)
        with np.errstate(invalid="ignore"):
            mean = (self.totals[end] - self.totals[start]) / count
        return np.where(askable & (count > 0), mean, np.nan)


def values_of(wanted: FromTable, usecase: UseCase, data: DataFolder) -> pl.DataFrame:
    """The values of the column that ever became known: `value`, `known`, `time`, columns `by0`, ... and `key0`, ..."""
    table = usecase.tables[wanted.table]
    is_label = wanted.column == LABEL and wanted.table == usecase.entity_table
    value = label_of(usecase.label).cast(pl.Int64) if is_label else pl.col(wanted.column)
    known_at = usecase.known_at(wanted.table, wanted.column)
    found = data.table(wanted.table).select(
        value.alias("value"),
        pl.col(known_at).to_physical().alias("known"),
        pl.col(table.time).alias("time"),
        *aliased(wanted.by, "by"),
        *aliased(table.key, "key"),
    )
    return found.drop_nulls()


def grouped(values: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The groups, a row each, and the values with the number of their `group`."""
    names = [name for name in values.columns if name.startswith("by")]
    groups = values.select(names).unique(maintain_order=True)
    numbered = groups.with_columns(group=pl.int_range(pl.len(), dtype=pl.Int64))
    return groups, values.join(numbered, on=names, how="left", maintain_order="left")


def aliased(columns: list[str], prefix: str) -> list[pl.Expr]:
    return [pl.col(name).alias(f"{prefix}{i}") for i, name in enumerate(columns)]


def with_nothing(values: pl.Series) -> np.ndarray:
    """The values as an array with one more at the end, which stands for none: so the place -1 gives nothing."""
    if values.dtype.is_numeric():
        return np.append(values.cast(pl.Float64).to_numpy(), np.nan)
    return np.array([*values.to_list(), None], dtype=object)
