"""python -m flightdelay.promote --usecase PATH --version N --data PATH --out PATH"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="promote", description="Let a challenger pass the gate, or refuse it.")
    parser.add_argument("--usecase", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit(
        "promote is not written yet: "
        "score the flights of the last month with champion and challenger, ask every gate, move the alias only if none says no, "
        "write the decision to --out and a line to the audit log"
    )


if __name__ == "__main__":
    main()
