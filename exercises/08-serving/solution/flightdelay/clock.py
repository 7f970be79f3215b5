"""What calendar and clock show at an instant in a time zone, for arrays of instants."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np

MICROSECOND = timedelta(microseconds=1)
HOUR, DAY = timedelta(hours=1) // MICROSECOND, timedelta(days=1) // MICROSECOND
QUARTER = HOUR // 4  # clocks have changed at quarters of an hour for longer than there are flights
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)
NEVER = np.iinfo(np.int64).min  # what NumPy takes for no time
THURSDAY = 3  # the first day of the epoch, counted from Monday


def local_part(at: np.ndarray, part: str, zone: str) -> np.ndarray:
    """Hour, day of the week (from Monday, 0) or month of instants in microseconds, shape (n,); NaN where there is none.

    The library knows when clocks change, a fixed offset does not. It is asked once for each quarter of an hour.
    """
    there = at != NEVER
    quarters, which = np.unique(np.where(there, at, 0) // QUARTER, return_inverse=True)
    shifts = np.array([_shift(int(quarter), zone) for quarter in quarters], dtype=np.int64)
    local = np.where(there, at, 0) + shifts[which]
    match part:
        case "hour":
            found = local // HOUR % 24
        case "dow":
            found = (local // DAY + THURSDAY) % 7
        case _:
            found = local.view("datetime64[us]").astype("datetime64[M]").astype(np.int64) % 12 + 1
    return np.where(there, found, np.nan)


@lru_cache(1 << 18)
def _shift(quarter: int, zone: str) -> int:
    """What a zone's clocks are ahead of UTC, in microseconds."""
    low, high = (round((limit - EPOCH) / MICROSECOND) // QUARTER for limit in (FIRST, LAST))
    instant = EPOCH + timedelta(microseconds=min(max(quarter, low), high) * QUARTER)
    return instant.astimezone(ZoneInfo(zone)).utcoffset() // MICROSECOND
