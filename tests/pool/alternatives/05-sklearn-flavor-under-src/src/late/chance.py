"""A scikit-learn estimator whose `predict` is a table of probabilities, so that MLflow's own flavor serves it as it is."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, SplineTransformer, StandardScaler


def as_text(x):
    return pd.DataFrame(x).astype(object).where(pd.DataFrame(x).notna(), "?").astype(str)


class Chance(BaseEstimator):
    def __init__(self, knots=5, c=0.1):
        self.knots, self.c = knots, c

    def fit(self, x, y):
        numbers = make_pipeline(
            SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler(),
            SplineTransformer(self.knots, knots="quantile", extrapolation="constant"),
        )  # fmt: skip
        texts = make_pipeline(FunctionTransformer(as_text), OneHotEncoder(min_frequency=40, handle_unknown="infrequent_if_exist"))
        parts = make_column_transformer((numbers, make_column_selector(dtype_include="number")), (texts, make_column_selector(dtype_exclude="number")))
        self.steps_ = make_pipeline(parts, LogisticRegression(C=self.c, max_iter=400))
        self.steps_.fit(x, y)
        return self

    def predict(self, x):
        return pd.DataFrame({"probability": np.asarray(self.steps_.predict_proba(x)[:, 1], dtype="float64")})
