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


def labelled(flights: pd.DataFrame) -> pd.DataFrame:
    """The landed flights with a bool column `late`."""
    landed = flights[flights["outcome"] == "flown"]
    return landed.assign(late=landed["arr_delay_min"] > LATE_MINUTES)


def _hour(table: pd.DataFrame) -> pd.Series:
    return table["sched_dep_local"].str.slice(11, 13)


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
