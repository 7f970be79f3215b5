"""Service and nightly job, row by row."""

import numpy as np

from .read import is_number, numbers, texts


def differs(a, b, relative):
    if is_number(a.type) and is_number(b.type):
        a, b = numbers(a), numbers(b)
        none = np.isnan(a) | np.isnan(b)
        with np.errstate(invalid="ignore"):
            apart = np.abs(a - b) > relative * np.maximum(np.abs(a), np.abs(b))
        apart = np.where(np.isinf(a) | np.isinf(b), a != b, apart)
        return np.where(none, np.isnan(a) != np.isnan(b), apart)
    a, b = texts(a), texts(b)
    return np.array([x != y for x, y in zip(a, b, strict=True)])


def skewed(week, columns, rules):
    if week.batch is None:
        return "unknown", []
    where = {row_id: i for i, row_id in enumerate(week.rows["row_id"].to_pylist())}
    pairs = [(where[row_id], i) for i, row_id in enumerate(week.batch["row_id"].to_pylist()) if row_id in where]
    if len(pairs) < rules["min_rows"]:
        return "unknown", []
    mine, theirs = (table.take(list(at)) for table, at in zip((week.rows, week.batch), zip(*pairs, strict=True), strict=True))
    both = [name for name in columns if name in mine.column_names and name in theirs.column_names]
    found = [name for name in both if differs(mine[name], theirs[name], rules["skew_relative"]).mean() > rules["skew_share"]]
    return ("skew" if found else "ok"), found
