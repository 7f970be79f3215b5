"""python -m flightdelay.pipeline --usecase PATH --source URL --history PATH --months M[,M] --now T --seed N --out PATH"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="pipeline", description="From the source to a judged model, month by month.")
    for name in ("usecase", "history", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("source", "months", "now"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit(
        "pipeline is not written yet: "
        "a Prefect flow called monthly that fetches each month, validates it, computes the features, trains, registers and "
        "asks the gate; each step looks first whether its result is there already"
    )


if __name__ == "__main__":
    main()
