"""Reading the data folder, and the flights in it that are learned from."""

from __future__ import annotations

import operator
from pathlib import Path

import polars as pl

from flightdelay.config import Config
from flightdelay.usecase import LABEL, Label, UseCase

OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq}


def read_table(path: Path) -> pl.DataFrame:
    """A Parquet file in few types, whoever wrote it: text, Int64, Float64, Boolean, and instants in UTC.

    NaN becomes null: another program's way to say that there is nothing.
    """
    table = pl.read_parquet(path, glob=False)
    return table.select(_plain(column).alias(column.name) for column in table)


def _plain(column: pl.Series) -> pl.Series:
    if column.dtype.is_integer():
        return column.cast(pl.Int64)
    if column.dtype.is_numeric():
        return column.cast(pl.Float64).fill_nan(None)
    if isinstance(column.dtype, pl.Datetime):
        utc = column.dt.convert_time_zone if column.dtype.time_zone else column.dt.replace_time_zone
        return utc("UTC").cast(pl.Datetime("us", "UTC"))
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    return column


class DataFolder:
    """The tables of a data folder, each read when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tables: dict[str, pl.DataFrame] = {}

    def table(self, name: str) -> pl.DataFrame:
        """All rows of a table, of all its months, in no particular order; no columns if there is no file."""
        if name not in self._tables:
            paths = sorted((self.folder / name).glob("*.parquet")) or [self.folder / f"{name}.parquet"]
            months = [read_table(path) for path in paths if path.exists()]
            self._tables[name] = pl.concat(months, how="diagonal_relaxed") if months else pl.DataFrame()
        return self._tables[name]


def label_of(label: Label) -> pl.Expr:
    """Whether the label holds; null where it does not exist, as for a flight that never arrived."""
    return OPERATORS[label.op](pl.col(label.column), label.value)


def read_training_flights(usecase: UseCase, data: DataFolder, config: Config) -> pl.DataFrame:
    """The flights of the training window that have a label, with a Boolean column `label`, in an order of their own.

    Sorting by the entity makes the model independent of the order in which the files hold the rows.
    """
    flights = data.table(usecase.entity_table).with_columns(label_of(usecase.label).alias(LABEL))
    if flights.is_empty():
        return flights
    day = local_day(usecase.event_time, flights.columns)
    inside = day.is_between(pl.lit(str(config.train_start)), pl.lit(str(config.train_end)))
    return flights.filter(inside & pl.col(LABEL).is_not_null()).sort(usecase.entity)


def local_day(event_time: str, columns: list[str]) -> pl.Expr:
    """The day `YYYY-MM-DD` by the clock on the wall, which stands in a text beside the instant; by UTC where there is none."""
    local = f"{event_time}_local"
    return pl.col(local).str.slice(0, 10) if local in columns else pl.col(event_time).dt.strftime("%Y-%m-%d")
