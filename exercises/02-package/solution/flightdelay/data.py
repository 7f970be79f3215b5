"""Reading the data folder: flights with labels for training, rows without them for scoring."""

from __future__ import annotations

import operator
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

from flightdelay.config import Config

COLUMNS = ["flight_id", "carrier", "origin", "dest", "sched_dep_local", "outcome"]
OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq}


def read_usecase(path: Path) -> dict[str, Any]:
    """The use case: what the label is, and what identifies a flight."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def read_training_flights(data: Path, config: Config, label: dict[str, Any]) -> pd.DataFrame:
    """The landed flights of the training window with a bool column `late`, in an order of their own.

    Sorting by flight_id makes the model independent of the order in which the files hold the rows.
    """
    columns = [*COLUMNS, label["column"]]
    flights = pd.concat(pd.read_parquet(path, columns=columns) for path in sorted((data / "flights").glob("*.parquet")))
    day = flights["sched_dep_local"].str.slice(0, 10)
    inside = (day >= str(config.train_start)) & (day <= str(config.train_end))
    landed = flights[inside & flights["outcome"].eq("flown")].sort_values("flight_id", ignore_index=True)
    landed["late"] = OPERATORS[label["op"]](landed[label["column"]], label["value"])
    return landed
