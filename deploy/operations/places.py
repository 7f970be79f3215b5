"""Where things are in the containers; volumes and addresses of docker-compose.yml."""

from __future__ import annotations

import os
from pathlib import Path

SOURCE = os.environ.get("SOURCE_URL", "http://world:8000")  # hands out the months, and says which there are
WORLD = Path(os.environ.get("WORLD", "/world"))  # what was there before the first month
HISTORY, USECASE = WORLD / "history", WORLD / "usecase.toml"
STATE = Path(os.environ.get("MLEKIT_STATE", "/state"))
MAILBOX = STATE / "mailbox"
REPORTS = Path(os.environ.get("REPORTS", "/reports"))
SEED = int(os.environ.get("SEED", "20"))
EVERY_SECONDS = int(os.environ.get("EVERY_SECONDS", "60"))  # between two looks for a month that has come
