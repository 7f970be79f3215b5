"""python -m flightdelay.test --commands PATH --out PATH"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="test", description="Run your tests against the commands named in a file.")
    for name in ("commands", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit(
        "test is not written yet: "
        "call the commands in --commands on a small case, write {passed, failed} to --out, exit 0 or 1"
    )


if __name__ == "__main__":
    main()
