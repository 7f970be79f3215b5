"""python -m flightdelay.train --usecase F --data D --config F --out D"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from flightdelay.config import read_config
from flightdelay.definitions import own_definitions, read_definitions


def run(usecase: Path, data: Path, config: Path, out: Path) -> None:
    """Read the settings and the definitions, learn, save, and only then log: what fails before leaves no run behind."""
    settings = read_config(config)
    definitions = read_definitions(own_definitions())

    # Both are checked before the heavy libraries are imported: a typing error is answered at once.
    import joblib

    from flightdelay.data import DataFolder
    from flightdelay.learning import learn
    from flightdelay.usecase import read_usecase

    case = read_usecase(usecase)
    trained = learn(case, DataFolder(data), definitions, settings)

    out.mkdir(parents=True, exist_ok=True)
    joblib.dump(trained.model, out / "model.joblib")
    shutil.copyfile(own_definitions(), out / "features.toml")
    (out / "model.json").write_text(json.dumps({**settings.as_record(), "rows": len(trained.learned)}, indent=2))

    from flightdelay import tracking

    tracking.log(trained, case, data, settings, out)


def main() -> None:
    parser = argparse.ArgumentParser(prog="train", description="Train a model on the flights of the configured window.")
    for name in ("usecase", "data", "config", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
