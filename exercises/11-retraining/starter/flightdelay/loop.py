"""python -m flightdelay.loop --usecase PATH --mailbox PATH --source URL --history PATH --seed N"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="loop", description="Keep the model right as months pass.")
    for name in ("usecase", "mailbox", "history"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit(
        "loop is not written yet: wait for messages in --mailbox/in, fetch the months that each names from --source, decide whether to "
        "train, and write the answer to --mailbox/out"
    )


if __name__ == "__main__":
    main()
