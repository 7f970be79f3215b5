"""What the model sees of a flight: one definition, used by training and by scoring."""

from __future__ import annotations

import pandas as pd

CATEGORIES = ["carrier", "origin", "dest", "hour", "weekday"]
MISSING = "missing"


def features(table: pd.DataFrame) -> pd.DataFrame:
    """The categories of each row, shape (n, 5), as text; a missing value is a category of its own.

    Each row is computed from itself alone, so a flight gets the same answer in any company.
    """
    local = pd.to_datetime(table["sched_dep_local"], format="%Y-%m-%dT%H:%M", errors="coerce")
    found = pd.DataFrame(
        {
            "carrier": table["carrier"],
            "origin": table["origin"],
            "dest": table["dest"],
            "hour": local.dt.hour.astype("Int64").astype("string"),
            "weekday": local.dt.dayofweek.astype("Int64").astype("string"),
        }
    )
    return found.astype("object").where(found.notna(), MISSING)[CATEGORIES]
