"""What the grader itself can do with the same data: simple rules to beat and an honest model to keep up with.

Computed by the grader's own code on data it made, never by anything of the submission.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grader.world import Rows
from grader.world.build import LATE_MINUTES

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SMOOTHING = 50.0  # flights of the overall rate that each group's mean is mixed with


def labelled(flights: pd.DataFrame) -> pd.DataFrame:
    """The landed flights with a bool column `late`."""
    landed = flights[flights["outcome"] == "flown"]
    return landed.assign(late=landed["arr_delay_min"] > LATE_MINUTES)


def _hour(table: pd.DataFrame) -> pd.Series:
    return table["sched_dep_local"].str.slice(11, 13)


def carrier_rates(flights: pd.DataFrame, rows: Rows) -> np.ndarray:
    """The late rate of the row's carrier in `flights`, smoothed towards the overall rate; shape (n,).

    A table of carrier by hour would be too strong a bar: it comes within one standard error of gradient boosting on
    the same columns in most worlds (docs/adr/0005-bars.md).
    """
    train = labelled(flights)
    base = train["late"].mean()
    groups = train.groupby("carrier")["late"].agg(["sum", "count"])
    rate = (groups["sum"] + SMOOTHING * base) / (groups["count"] + SMOOTHING)
    found: np.ndarray = rate.reindex(rows.table["carrier"]).fillna(base).to_numpy()
    return found


def honest_model(flights: pd.DataFrame, rows: Rows) -> np.ndarray:
    """Probabilities of a plain logistic regression on carrier, origin, destination, hour and weekday; shape (n,)."""
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    def features(table: pd.DataFrame) -> pd.DataFrame:
        weekday = pd.to_datetime(table["sched_dep_local"]).dt.dayofweek.astype(str)
        return pd.DataFrame(
            {"hour": _hour(table), "weekday": weekday, **{c: table[c] for c in ("carrier", "origin", "dest")}}
        )

    train = labelled(flights)
    encode = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=20)
    model = make_pipeline(encode, LogisticRegression(C=0.3, max_iter=300)).fit(features(train), train["late"])
    found: np.ndarray = model.predict_proba(features(rows.table))[:, 1]
    return found
