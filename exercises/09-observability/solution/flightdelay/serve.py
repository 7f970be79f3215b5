"""python -m flightdelay.serve --usecase F --data D

Where it listens and which registry it follows comes from the environment: MLEKIT_HOST, MLEKIT_PORT, MLFLOW_TRACKING_URI.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import uvicorn

from flightdelay.api import application
from flightdelay.batches import Batches
from flightdelay.champion import Champion
from flightdelay.journal import Entry, Journal
from flightdelay.logs import log_as_json
from flightdelay.observed import Observed
from flightdelay.registry import STATE
from flightdelay.usecase import read_usecase

SECONDS_TO_FINISH = 8  # for what was asked before it was told to stop


def main() -> None:
    parser = argparse.ArgumentParser(prog="serve", description="Answer over HTTP until it is told to stop.")
    for name in ("usecase", "data"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    log_as_json()
    usecase = read_usecase(given.usecase)
    # what waits to be written is written by one call, as rows that wait are scored by one
    journal: Batches[Entry, None] = Batches(Journal(STATE).append)
    uvicorn.run(
        Observed(application(usecase, Champion(usecase, given.data), journal), journal),
        host=os.environ.get("MLEKIT_HOST", "127.0.0.1"),
        port=int(os.environ.get("MLEKIT_PORT", "8000")),
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
        access_log=False,
        log_config=None,
    )


if __name__ == "__main__":
    main()
