"""What a folder holds, by pyarrow and numpy."""

import json
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def weeks(folder):
    return [path.parent for path in folder.glob("*/window.json")]


def about(folder):
    return json.loads((folder / "window.json").read_text())


def is_number(kind):
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind)


def numbers(column):
    """Floats, with NaN for null and for what is no number."""
    kind = column.type
    if pa.types.is_null(kind) or not is_number(kind):
        return np.full(len(column), np.nan)
    return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan), dtype=float)


def texts(column):
    """Objects, with None for null."""
    if is_number(column.type) and pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return np.array(column.to_pylist(), dtype=object)


class Week:
    def __init__(self, folder):
        self.name, self.about = folder.name, about(folder)
        self.rows = pq.read_table(folder / "rows.parquet")
        self.n = len(self.rows)
        self.now = datetime.fromisoformat(self.about["now"]).astimezone(UTC)
        self.age_days = (self.now.date() - date.fromisoformat(self.about["model_train_end"])).days
        self.answer = numbers(self.rows["probability"])
        self.label = self._labels(folder / "labels.parquet")
        self.labelled = int((~np.isnan(self.label)).sum())
        path = folder / "batch.parquet"
        self.batch = pq.read_table(path) if path.exists() else None

    @staticmethod
    def place(folder):
        told = about(folder)
        return str(told["service"]), told["position"]

    def _labels(self, path):
        """For each row its label as known at `now`, or NaN."""
        out, at = np.full(self.n, np.nan), {}
        if not path.exists():
            return out
        table = pq.read_table(path, columns=["row_id", "label", "label_known_at"])
        table = table.filter(pc.less_equal(table["label_known_at"], pa.scalar(self.now, pa.timestamp("us", "UTC"))))
        for row_id, label, known in zip(*(table[c].to_pylist() for c in table.column_names), strict=True):
            if label is not None and (row_id not in at or known >= at[row_id][0]):
                at[row_id] = known, label
        for i, row_id in enumerate(self.rows["row_id"].to_pylist()):
            if row_id in at:
                out[i] = at[row_id][1]
        return out

    def column(self, name, number):
        if name not in self.rows.column_names:
            return np.full(self.n, np.nan) if number else np.full(self.n, None, dtype=object)
        return numbers(self.rows[name]) if number else texts(self.rows[name])
