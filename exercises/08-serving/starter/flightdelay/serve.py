"""python -m flightdelay.serve --usecase PATH --data PATH"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="serve", description="Answer over HTTP until it is told to stop.")
    for name in ("usecase", "data"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit(
        "serve is not written yet: "
        "a FastAPI application on MLEKIT_HOST and MLEKIT_PORT that answers POST /v1/predict with the champion, and says at /healthz, "
        "/readyz and /version how it is; a thread beside it follows the alias"
    )


if __name__ == "__main__":
    main()
