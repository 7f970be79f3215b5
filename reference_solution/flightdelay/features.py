"""python -m flightdelay.features --usecase F --spec F --data D --rows F --out F

The one place where features are computed: `features`, `train` and `predict` all come here, so they cannot disagree.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from flightdelay.data import DataFolder, read_table
from flightdelay.definitions import Calendar, Column, Definition, check_names, read_definitions
from flightdelay.history import History
from flightdelay.usecase import UseCase, read_usecase


def compute_features(
    definitions: list[Definition], usecase: UseCase, data: DataFolder, rows: pl.DataFrame
) -> pl.DataFrame:
    """The features of rows as of their decisions: one row a row, in their order, and one column a definition, in theirs.

    A row has the columns of `request`. What it gets depends on it and on what was known when it is decided on, two hours before
    departure, and on nothing else.
    """
    for definition in definitions:
        check_names(definition, usecase, lambda name: data.table(name).schema)
    decided_at = rows[usecase.event_time] - usecase.decision_lead
    history = History(usecase, data, rows, decided_at)
    return pl.DataFrame([_feature(definition, history).alias(definition.name) for definition in definitions])


def _feature(definition: Definition, history: History) -> pl.Series:
    match definition:
        case Column():
            return history.rows[definition.column]
        case Calendar():
            return _calendar(definition, history.rows[definition.of])
        case _:
            return history.answer(definition)


def _calendar(definition: Calendar, instant: pl.Series) -> pl.Series:
    """What clock and calendar show there and then; the library knows when clocks change, a fixed offset does not."""
    local = instant.cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(definition.zone)
    match definition.part:
        case "hour":
            return local.dt.hour()
        case "dow":
            return local.dt.weekday() - 1  # Polars counts from 1 as ISO does, the contract from 0
        case _:
            return local.dt.month()


def run(usecase: Path, spec: Path, data: Path, rows: Path, out: Path) -> None:
    """Write `row_id` and one column a definition."""
    definitions = read_definitions(spec)
    table = read_table(rows)
    found = compute_features(definitions, read_usecase(usecase), DataFolder(data), table)
    found.insert_column(0, table["row_id"]).write_parquet(out)


def main() -> None:
    parser = argparse.ArgumentParser(prog="features", description="Compute defined features for rows.")
    for name in ("usecase", "spec", "data", "rows", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
