"""Lines for machines: everything that is logged in this process, libraries included, is one JSON object a line."""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.json import JsonFormatter


def log_as_json() -> None:
    """Write all log records to stdout."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter("%(levelname)s %(name)s %(message)s", timestamp=True))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
