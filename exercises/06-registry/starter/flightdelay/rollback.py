"""python -m flightdelay.rollback --usecase PATH --out PATH"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="rollback", description="Make the previous champion the champion again.")
    parser.add_argument("--usecase", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit(
        "rollback is not written yet: "
        "find the champion before this one, move the alias to it, write what changed to --out and a line to the audit log"
    )


if __name__ == "__main__":
    main()
