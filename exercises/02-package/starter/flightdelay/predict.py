"""python -m flightdelay.predict --usecase PATH --model PATH --data PATH --rows PATH --out PATH"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="predict", description="Score rows with a trained model.")
    for name in ("usecase", "model", "data", "rows", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit(
        "predict is not written yet: "
        "read --rows, score them with the model in --model, write row_id and probability to --out"
    )


if __name__ == "__main__":
    main()
