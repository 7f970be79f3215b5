"""python -m flightdelay.register --usecase PATH --run-id ID --out PATH"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="register", description="Put a tracked run's model into the registry.")
    parser.add_argument("--usecase", type=Path, required=True)
    parser.add_argument("--run-id", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit(
        "register is not written yet: "
        "look the run up, make its model a version of the registered model, write the version to --out"
    )


if __name__ == "__main__":
    main()
