"""python -m flightdelay.predict --usecase F --model REF --data D --rows F --out F"""

from __future__ import annotations

import argparse
from pathlib import Path

import joblib
import pandas as pd

from flightdelay.features import features


def run(usecase: Path, model: Path, data: Path, rows: Path, out: Path) -> None:
    """Write one probability per row, in the order of the rows."""
    del usecase, data  # this model needs nothing but the rows; later ones look up weather and history
    table = pd.read_parquet(rows)
    probability = joblib.load(model / "model.joblib").predict_proba(features(table))[:, 1]
    out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"row_id": table["row_id"], "probability": probability}).to_parquet(out, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="predict", description="Score rows with a trained model.")
    for name in ("usecase", "model", "data", "rows", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
