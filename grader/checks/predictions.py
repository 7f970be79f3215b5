"""The predictions table every scoring command writes: row_id and probability, one per row, in the order of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from grader.checks.api import Fault
from grader.sandbox.reader import Reader, Unreadable
from grader.world import Rows

if TYPE_CHECKING:
    import numpy as np


def read(reader: Reader, path: Path, rows: Rows) -> np.ndarray:
    """Probabilities, shape (n,), for the rows as they were handed out. Raises Fault with what is wrong."""
    import numpy as np

    name = path.name
    try:
        table = reader.parquet(path)
    except Unreadable as problem:
        raise Fault(f"{name} {problem}") from None
    missing = [c for c in ("row_id", "probability") if c not in table.columns]
    if missing:
        got = ", ".join(sorted(table.columns)[:8]) or "none"
        raise Fault(f"{name} has no column {missing[0]}; it needs row_id and probability, it has {got}")
    ids, column = table.columns["row_id"], table.columns["probability"]
    if column.type not in ("float", "int") or column.values is None:
        raise Fault(f"{name}: probability is of type {column.type}; it must be a float")
    if table.rows != len(rows):
        raise Fault(f"{name} has {table.rows:,} rows for {len(rows):,} rows to score; write exactly one per row")
    expected = rows.table["row_id"].tolist()
    if ids.values != expected:
        same = ids.values is not None and set(map(str, ids.values)) == set(expected)
        raise Fault(
            f"{name}: row_id is in another order than the rows to score; keep their order" if same
            else f"{name}: row_id differs from the rows to score; copy it from them"
        )  # fmt: skip
    found = np.array([np.nan if v is None else v for v in column.values], dtype=np.float64)
    bad = int((~np.isfinite(found)).sum())
    if bad:
        raise Fault(f"{name}: {bad:,} of {len(found):,} probabilities are missing or not finite")
    outside = int(((found < 0) | (found > 1)).sum())
    if outside:
        raise Fault(f"{name}: {outside:,} of {len(found):,} probabilities lie outside 0 to 1")
    return found
