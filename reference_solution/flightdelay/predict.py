"""python -m flightdelay.predict --usecase F --model REF --data D --rows F --out F

REF is the folder that `train` wrote, or the MLflow URI of a model: runs:/ID/NAME, models:/ID, models:/NAME/VERSION or models:/NAME@ALIAS.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import polars as pl

from flightdelay.data import DataFolder, read_table
from flightdelay.definitions import read_definitions
from flightdelay.features import compute_features
from flightdelay.usecase import read_usecase


def run(usecase: Path, model: str, data: Path, rows: Path, out: Path) -> None:
    """Write one probability per row, in the order of the rows.

    The definitions are those that the model was trained with and brought along, not those of today.
    """
    table = read_table(rows)
    answer, definitions = loaded(model)
    features = compute_features(read_definitions(definitions), read_usecase(usecase), DataFolder(data), table)
    out.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"row_id": table["row_id"], "probability": answer(features)}).write_parquet(out)


def loaded(model: str) -> tuple[Callable[[pl.DataFrame], np.ndarray], Path]:
    """What the model says of features, and their definitions; MLflow is only imported where it is needed, since that takes seconds."""
    if ":/" not in model:
        files = Path(model)
        return joblib.load(files / "model.joblib").probability, files / "features.toml"
    from flightdelay.tracking import load

    return load(model)


def main() -> None:
    parser = argparse.ArgumentParser(prog="predict", description="Score rows with a trained model.")
    parser.add_argument("--model", required=True)
    for name in ("usecase", "data", "rows", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
