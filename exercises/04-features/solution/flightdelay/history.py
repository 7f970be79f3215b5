"""What was known when: the latest known value, and the values that became known in a stretch of time.

No row is looked at alone. Events are put in the order in which they became known, each with what holds from then on, and one
join finds for all rows the last event before their decisions.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from flightdelay.data import DataFolder, label_of
from flightdelay.definitions import Age, AsOf, Count, FromTable, Mean
from flightdelay.usecase import LABEL, UseCase

MICROSECONDS_PER_HOUR = 3.6e9


@dataclass(frozen=True)
class History:
    """The tables of a data folder, asked about `rows`, shape (n, ...), that are decided on at `decided_at`, shape (n,)."""

    usecase: UseCase
    data: DataFolder
    rows: pl.DataFrame
    decided_at: pl.Series

    def answer(self, wanted: FromTable) -> pl.Series:
        """The feature of each row, shape (n,)."""
        match wanted:
            case AsOf():
                return self._latest(wanted)
            case Count():
                return self._window(wanted)
            case _:
                return self._lookup(wanted)

    def _lookup(self, wanted: FromTable) -> pl.Series:
        """The value in the row of the table with this key; null where there is no such row."""
        groups = groups_of(wanted)
        table = self.data.table(wanted.table).select(pl.col(wanted.column).alias("value"), *aliased(wanted.by, "by"))
        found = self._asked(wanted).join(table, on=groups, how="left", validate="m:1", maintain_order="left")
        return found["value"]

    def _latest(self, wanted: AsOf) -> pl.Series:
        """The newest of the values known at each decision, or its age in hours.

        Which is newest is asked of `time`, which are known of `known`: a report of yesterday that arrives today replaces
        nothing newer. So an event does not carry its own value, but the newest of its group that is known by then.
        """
        groups = groups_of(wanted)
        values = self._values(wanted).sort("time", "known", "^key.*$").with_row_index("newness")
        events = values.sort("known").select("known", *groups, newest=pl.col("newness").cum_max().over(groups))
        newest = last_event(self._asked(wanted), events)["newest"]
        age = self.decided_at - values["time"].gather(newest)
        value = values["value"].gather(newest)
        if isinstance(wanted, Age):
            value = age.dt.total_microseconds() / MICROSECONDS_PER_HOUR
        return pl.select(pl.when(age <= wanted.max_age).then(value)).to_series()

    def _window(self, wanted: Count) -> pl.Series:
        """How many values became known in `(decided_at - window, decided_at]`, or their mean.

        Both come from running counts and sums: that at the end of the window less that at its start. So a long window costs no
        more than a short one.
        """
        groups, asked, is_mean = groups_of(wanted), self._asked(wanted), isinstance(wanted, Mean)
        number = pl.col("value").cast(pl.Float64, strict=False)  # of a text there is none, and a count needs none
        # Ties in an order of their own, so that the last digit of a sum does not depend on the order in the file.
        events = (
            self._values(wanted)
            .sort("known", "value")
            .select(
                "known", *groups, count=pl.col("known").cum_count().over(groups), total=number.cum_sum().over(groups)
            )
        )
        end, start = (
            last_event(asked.with_columns(pl.col("at") - back), events).select("count", "total").fill_null(0)
            for back in (timedelta(), wanted.window)
        )
        mean = pl.col("total") / pl.col("count")
        answer = pl.when(pl.col("count") > 0).then(mean) if is_mean else pl.col("count")
        askable = asked.select(pl.all_horizontal(pl.all().is_not_null())).to_series()
        return (end - start).select(pl.when(askable).then(answer)).to_series()

    def _asked(self, wanted: FromTable) -> pl.DataFrame:
        """One question a row, in their order: `at`, and the columns `by` in the types of the table."""
        types = self.data.table(wanted.table).schema
        by = [self.rows[name].cast(types[name], strict=False).alias(f"by{i}") for i, name in enumerate(wanted.by)]
        return pl.DataFrame([self.decided_at.alias("at"), *by])

    def _values(self, wanted: FromTable) -> pl.DataFrame:
        """The values of the column that ever became known: `value`, `known`, `time`, columns `by0`, ... and `key0`, ..."""
        table = self.usecase.tables[wanted.table]
        is_label = wanted.column == LABEL and wanted.table == self.usecase.entity_table
        value = label_of(self.usecase.label).cast(pl.Int64) if is_label else pl.col(wanted.column)
        known_at = self.usecase.known_at(wanted.table, wanted.column)
        found = self.data.table(wanted.table).select(
            value.alias("value"),
            pl.col(known_at).alias("known"),
            pl.col(table.time).alias("time"),
            *aliased(wanted.by, "by"),
            *aliased(table.key, "key"),
        )
        return found.drop_nulls()


def groups_of(wanted: FromTable) -> list[str]:
    """The names by which the columns `by` are joined: no column of a table can be mistaken for them."""
    return [f"by{i}" for i in range(len(wanted.by))]


def aliased(columns: list[str], prefix: str) -> list[pl.Expr]:
    return [pl.col(name).alias(f"{prefix}{i}") for i, name in enumerate(columns)]


def last_event(asked: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """For each question, in their order, the last event of the same group that was known at `at`; null if there is none.

    Of events that became known at one instant it is the last in the order of `events`.
    """
    groups = [name for name in asked.columns if name != "at"]
    return (
        asked.with_row_index("place")
        .sort("at")
        .join_asof(events, left_on="at", right_on="known", by=groups, strategy="backward", check_sortedness=False)
        .sort("place")
    )
