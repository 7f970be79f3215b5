"""python -m flightdelay.train --usecase F --data D --config F --out D"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from flightdelay.config import read_config, refuse
from flightdelay.definitions import own_definitions, read_definitions


def run(usecase: Path, data: Path, config: Path, out: Path) -> None:
    """Read the settings and the definitions, compute the features of the flights in the window, fit, save."""
    settings = read_config(config)
    definitions = read_definitions(own_definitions())

    # Both are checked before the heavy libraries are imported: a typing error is answered at once.
    import joblib

    from flightdelay.data import DataFolder, read_training_flights
    from flightdelay.features import compute_features
    from flightdelay.model import fit
    from flightdelay.usecase import LABEL, read_usecase

    case, folder = read_usecase(usecase), DataFolder(data)
    flights = read_training_flights(case, folder, settings)
    if flights.is_empty() or flights[LABEL].n_unique() < 2:
        window = f"{settings.train_start} to {settings.train_end}"
        refuse(
            "empty_window",
            f"the window {window} holds {len(flights)} flights with a label; both outcomes are needed",
            "train_end",
        )
    features = compute_features(definitions, case, folder, flights)
    model = fit(features, flights[LABEL], definitions, settings)
    out.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, out / "model.joblib")
    shutil.copyfile(own_definitions(), out / "features.toml")
    (out / "model.json").write_text(json.dumps({**settings.as_record(), "rows": len(flights)}, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(prog="train", description="Train a model on the flights of the configured window.")
    for name in ("usecase", "data", "config", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
