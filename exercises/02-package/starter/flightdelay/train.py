"""python -m flightdelay.train --usecase PATH --data PATH --config PATH --out PATH"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="train", description="Train a model on the flights of the configured window.")
    for name in ("usecase", "data", "config", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit(
        "train is not written yet: "
        "read --config, learn from the flights of --data inside the window, save the model and model.json in --out"
    )


if __name__ == "__main__":
    main()
