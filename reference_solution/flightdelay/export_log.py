"""python -m flightdelay.export_log --state D --out F: what was answered, one row for each row that was scored."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from flightdelay.journal import Entry, entries

SCHEMA = {
    "request_id": pl.String(),
    "row_id": pl.String(),
    "answered_at": pl.Datetime("us", "UTC"),
    "model_version": pl.String(),
    "probability": pl.Float64(),
    "status": pl.Int64(),
}


def table(of: Iterable[Entry]) -> pl.DataFrame:
    """The log as a table; a request that was refused has one row without a prediction."""
    return pl.DataFrame(list(_rows(of)), SCHEMA, orient="row")


def _rows(of: Iterable[Entry]) -> Iterator[tuple[Any, ...]]:
    for entry in of:
        at = datetime.fromtimestamp(entry.at, UTC)
        for row_id, probability in entry.rows or [(None, None)]:
            yield entry.request_id, row_id, at, entry.model_version, probability, entry.status


def main() -> None:
    parser = argparse.ArgumentParser(prog="export-log", description="Write out what was answered.")
    for name in ("state", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    table(entries(given.state)).write_parquet(given.out)


if __name__ == "__main__":
    main()
