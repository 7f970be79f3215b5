"""The model: gradient boosting on whatever features are defined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from flightdelay.config import Config
from flightdelay.definitions import AsOf, Count, Definition


@dataclass(frozen=True)
class Model:
    """A fitted pipeline, and the kind of each column it was fitted on."""

    pipeline: Pipeline
    schema: dict[str, pl.DataType]

    def probability(self, features: pl.DataFrame) -> np.ndarray:
        """The probability that the label holds, shape (n,). A value of another kind than in training counts as missing."""
        if features.is_empty():
            return np.empty(0)
        plain = in_seconds(features)
        alike = plain.select(pl.col(name).cast(kind, strict=False) for name, kind in self.schema.items())
        return self.pipeline.predict_proba(alike.to_pandas())[:, 1]


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
    encode = make_column_transformer(
        (
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan),
            [name for name, kind in schema.items() if kind == pl.String],
        ),
        remainder="passthrough",
    )
    boosting = HistGradientBoostingClassifier(
        max_iter=settings.trees, learning_rate=settings.learning_rate, max_leaf_nodes=settings.leaves,
        early_stopping=False, random_state=settings.seed,
    )  # fmt: skip
    pipeline = make_pipeline(encode, boosting)
    pipeline.fit(pl.concat([plain, silent]).to_pandas(), np.tile(label.to_numpy(), 2))
    return Model(pipeline, schema)


def in_seconds(features: pl.DataFrame) -> pl.DataFrame:
    """Features with instants as seconds since 1970, however fine they come and whatever zone they name."""
    return features.with_columns(pl.selectors.datetime().dt.epoch("s"))


def _kind(column: pl.Series) -> pl.DataType:
    return pl.String() if column.dtype in (pl.String, pl.Boolean) else pl.Float64()
