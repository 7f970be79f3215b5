"""python -m flightdelay.validate --usecase PATH --feeds PATH --history PATH --now TIME --out PATH"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="validate", description="Judge feeds before anything is learned from them.")
    for name in ("usecase", "feeds", "history", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--now", required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit(
        "validate is not written yet: "
        "judge each folder in --feeds, write report.json, accepted/ and quarantine.parquet to a folder of its name in --out"
    )


if __name__ == "__main__":
    main()
