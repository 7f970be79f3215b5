"""python -m flightdelay.ops --question Q [--request-id ID] [--from T] [--to T] --state PATH --out PATH"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="ops", description="Answer a question of operations from the log.")
    parser.add_argument("--question", required=True)
    for name in ("request-id", "from", "to"):
        parser.add_argument(f"--{name}")
    for name in ("state", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit("ops is not written yet: five questions, answered from what `serve` kept in MLEKIT_STATE")


if __name__ == "__main__":
    main()
