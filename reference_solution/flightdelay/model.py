"""The model: gradient boosting on whatever features are defined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier

from flightdelay.config import Config
from flightdelay.definitions import AsOf, Count, Definition


@dataclass(frozen=True)
class Model:
    """Fitted trees, the kind of each column they were fitted on, and the number that stands for each text in it.

    A pipeline of scikit-learn's would do the same with tables, and take six times as long for one row.
    """

    trees: HistGradientBoostingClassifier
    schema: dict[str, pl.DataType]
    codes: dict[str, dict[str, float]]

    def probability(self, features: pl.DataFrame) -> np.ndarray:
        """The probability that the label holds, shape (n,). A value of another kind than in training counts as missing."""
        if features.is_empty():
            return np.empty(0)
        return self.trees.predict_proba(numbers(features, self.schema, self.codes))[:, 1]


def numbers(features: pl.DataFrame, schema: dict[str, pl.DataType], codes: dict[str, dict[str, float]]) -> np.ndarray:
    """Features as trees take them, shape (n, k): NaN where nothing is known, and for a text that was not in training."""
    features, columns = in_seconds(features), []
    for name, kind in schema.items():
        column = features[name].cast(kind, strict=False)
        if name in codes:
            columns.append([codes[name].get(text, np.nan) for text in column.to_list()])
        else:
            columns.append(column.to_numpy())
    return np.array(columns, dtype=np.float64).T


def fit(features: pl.DataFrame, label: pl.Series, definitions: list[Definition], settings: Config) -> Model:
    """Learn from all columns of `features`, shape (n, k): texts as categories, everything else as numbers; none from an empty one.

    Each row is learned from twice, the second time without what the history tells. So the model also knows what to say when a source
    is silent, and an unusual gap does not send a row to a corner of the trees where few flights were.
    """
    features = in_seconds(features)
    schema = {column.name: _kind(column) for column in features if column.is_not_null().any()}
    history = [d.name for d in definitions if isinstance(d, AsOf | Count) and d.name in schema]
    plain = features.select(pl.col(name).cast(kind) for name, kind in schema.items())
    silent = plain.with_columns(pl.lit(None, schema[name]).alias(name) for name in history)
    codes = {name: _codes(plain[name]) for name, kind in schema.items() if kind == pl.String}
    trees = HistGradientBoostingClassifier(
        max_iter=settings.trees, learning_rate=settings.learning_rate, max_leaf_nodes=settings.leaves,
        early_stopping=False, random_state=settings.seed,
    )  # fmt: skip
    trees.fit(numbers(pl.concat([plain, silent]), schema, codes), np.tile(label.to_numpy(), 2))
    return Model(trees, schema, codes)


def in_seconds(features: pl.DataFrame) -> pl.DataFrame:
    """Features with instants as seconds since 1970, however fine they come and whatever zone they name."""
    return features.with_columns(pl.selectors.datetime().dt.epoch("s"))


def _kind(column: pl.Series) -> pl.DataType:
    return pl.String() if column.dtype in (pl.String, pl.Boolean) else pl.Float64()


def _codes(texts: pl.Series) -> dict[str, float]:
    return {text: float(code) for code, text in enumerate(sorted(texts.drop_nulls().unique().to_list()))}
