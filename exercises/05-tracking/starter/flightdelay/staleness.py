"""python -m flightdelay.staleness --usecase PATH --data PATH --config PATH --out PATH"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="staleness", description="Measure how a model ages.")
    for name in ("usecase", "data", "config", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit(
        "staleness is not written yet: "
        "train up to the end of each month from train_end on, score every later month, write one row for each of these to --out"
    )


if __name__ == "__main__":
    main()
