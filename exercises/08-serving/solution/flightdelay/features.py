"""python -m flightdelay.features --usecase F --spec F --data D --rows F --out F

The one place where features are computed: `features`, `train`, `predict` and `serve` all come here, so they cannot disagree.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from flightdelay.clock import local_part
from flightdelay.data import DataFolder, read_table
from flightdelay.definitions import Calendar, Column, Definition, FromTable, check_names, read_definitions
from flightdelay.history import Asked, decided, instants, ready
from flightdelay.usecase import UseCase, read_usecase


class Features:
    """Definitions with all that the data say about them: made ready once, then asked about any rows, few or many."""

    def __init__(self, definitions: list[Definition], usecase: UseCase, data: DataFolder) -> None:
        for definition in definitions:
            check_names(definition, usecase, lambda name: data.table(name).schema)
        self.definitions, self.usecase = definitions, usecase
        self._ready = {d.name: ready(d, usecase, data) for d in definitions if isinstance(d, FromTable)}

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The features of rows as of their decisions: one row a row, in their order, and one column a definition, in theirs.

        A row has the columns of `request`. What it gets depends on it and on what was known when it is decided on, two hours
        before departure, and on nothing else.
        """
        asked = decided(rows, self.usecase)
        return pl.DataFrame([self._feature(definition, asked) for definition in self.definitions])

    def _feature(self, definition: Definition, asked: Asked) -> pl.Series:
        match definition:
            case Column(name, column):
                return asked.rows[column].alias(name)
            case Calendar(name, of, part, zone):
                return pl.Series(name, local_part(instants(asked.rows[of]), part, zone), nan_to_null=True)
            case _:
                source = self._ready[definition.name]
                found = source.of(asked)
                if found.dtype == object:  # of nothing but None Polars could not tell what it would be
                    return pl.Series(definition.name, found.tolist(), dtype=source.kind)
                return pl.Series(definition.name, found, nan_to_null=True)


def compute_features(
    definitions: list[Definition], usecase: UseCase, data: DataFolder, rows: pl.DataFrame
) -> pl.DataFrame:
    """The features of rows, for whoever asks once."""
    return Features(definitions, usecase, data).of(rows)


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
