"""python -m flightdelay.train --usecase F --data D --config F --out D"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from flightdelay.config import Config, read_config, refuse


def run(usecase: Path, data: Path, config: Path, out: Path) -> None:
    """Read the settings, read the flights, fit, save."""
    settings = read_config(config)

    # The settings are checked before the heavy libraries are imported: a typing error is answered at once.
    import joblib

    from flightdelay.data import read_training_flights, read_usecase
    from flightdelay.features import features

    flights = read_training_flights(data, settings, read_usecase(usecase)["label"])
    if flights["late"].nunique() < 2:
        window = f"{settings.train_start} to {settings.train_end}"
        refuse(
            "empty_window",
            f"the window {window} holds {len(flights)} landed flights; both outcomes are needed",
            "train_end",
        )
    model = new_model(settings).fit(features(flights), flights["late"])
    out.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, out / "model.joblib")
    (out / "model.json").write_text(json.dumps({**settings.as_record(), "rows": len(flights)}, indent=2))


def new_model(settings: Config):
    """A logistic regression on one-hot categories; rare and unseen categories share a column."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    encode = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=settings.rarest_category)
    return make_pipeline(
        encode, LogisticRegression(C=settings.regularization, max_iter=500, random_state=settings.seed)
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="train", description="Train a model on the flights of the configured window.")
    for name in ("usecase", "data", "config", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
