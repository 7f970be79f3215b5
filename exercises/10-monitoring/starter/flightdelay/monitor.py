"""python -m flightdelay.monitor --usecase PATH --reference PATH --windows PATH --out PATH"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="monitor", description="Judge windows of traffic: is the model still right?")
    for name in ("usecase", "reference", "windows", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit(
        "monitor is not written yet: learn from the folders in --reference what good weeks are like, judge each folder in --windows, "
        "and write decisions.json, and a page ID.html where window.json says render, to --out"
    )


if __name__ == "__main__":
    main()
