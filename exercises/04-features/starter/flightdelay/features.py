"""python -m flightdelay.features --usecase PATH --spec PATH --data PATH --rows PATH --out PATH

The function below is what the model of stage 02 sees of a flight; train and predict go on using it until you change them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

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


def main() -> None:
    parser = argparse.ArgumentParser(prog="features", description="Compute defined features for rows.")
    for name in ("usecase", "spec", "data", "rows", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit(
        "features is not written yet: "
        "read the definitions in --spec, compute them for --rows from what was known at each decision, "
        "write row_id and one column a definition to --out"
    )


if __name__ == "__main__":
    main()
