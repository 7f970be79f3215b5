"""Did the service compute the features that the nightly job computes? Row by row: no distribution shows what a comparison does."""

from __future__ import annotations

import polars as pl


def skewed_columns(
    served: pl.DataFrame, batch: pl.DataFrame, columns: list[str], share: float, relative: float
) -> list[str]:
    """The columns in which more than a share of the rows differ, of two tables with the same rows in the same order."""
    return [
        name
        for name in columns
        if name in served.columns
        and name in batch.columns
        and len(served)
        and _differs(served[name], batch[name], relative).mean() > share
    ]


def _differs(one: pl.Series, other: pl.Series, relative: float) -> pl.Series:
    """Whether each value differs from its counterpart; NaN counts as null, and what is infinite differs from all but itself.

    A text that is no number counts as null where the other column holds numbers.
    """
    pair = pl.DataFrame({"one": one, "other": other})
    if not (one.dtype.is_numeric() or other.dtype.is_numeric()):  # a column of nulls may have no type
        return pair.select(pl.col("one").ne_missing(pl.col("other"))).to_series()
    a, b = (pl.col(name).cast(pl.Float64, strict=False).fill_nan(None) for name in pair.columns)
    finite = a.is_finite() & b.is_finite()
    apart = pl.when(finite).then((a - b).abs() > relative * pl.max_horizontal(a.abs(), b.abs())).otherwise(a != b)
    return pair.select(pl.when(a.is_null() | b.is_null()).then(a.is_null() != b.is_null()).otherwise(apart)).to_series()


def side_by_side(served: pl.DataFrame, batch: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that both have, in the same order."""
    shared = served.select("row_id").join(batch.select("row_id").unique(), on="row_id", maintain_order="left")
    return _picked(served, shared), _picked(batch, shared)


def _picked(table: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.join(table.unique("row_id"), on="row_id", how="left", maintain_order="left")
