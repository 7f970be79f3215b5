"""python -m flightdelay.export_log --state PATH --out PATH"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="export-log", description="Write out what was answered.")
    for name in ("state", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit(
        "export-log is not written yet: one row for each row that was scored, from what `serve` kept in MLEKIT_STATE"
    )


if __name__ == "__main__":
    main()
