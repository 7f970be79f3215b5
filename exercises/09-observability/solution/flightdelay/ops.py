"""python -m flightdelay.ops --question Q [--request-id ID] [--from T] [--to T] --state D --out F

Answers what is asked when something is wrong: what did we say, which model said it, how much, how often not, and what took so long.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from flightdelay.config import refuse
from flightdelay.files import write_whole
from flightdelay.journal import Entry, entries

Answer = str | float | list[str] | None


def version_of_request(found: Sequence[Entry]) -> Answer:
    """The version that scored it."""
    return found[-1].model_version if found else None


def rows_of_request(found: Sequence[Entry]) -> Answer:
    """The rows that it scored."""
    return [row_id for row_id, _ in found[-1].rows] if found else None


def count(found: Sequence[Entry]) -> Answer:
    """Rows scored."""
    return sum(len(entry.rows) for entry in found)


def error_rate(found: Sequence[Entry]) -> Answer:
    """Share of requests in which we failed. What callers did wrong (4xx) is not our error."""
    return sum(entry.status >= 500 for entry in found) / len(found) if found else None


def slowest(found: Sequence[Entry]) -> Answer:
    """The request that took longest."""
    return max(found, key=lambda entry: entry.seconds).request_id if found else None


OF_ONE: dict[str, Callable[[Sequence[Entry]], Answer]] = {
    "version_of_request": version_of_request,
    "rows_of_request": rows_of_request,
}
OF_MANY: dict[str, Callable[[Sequence[Entry]], Answer]] = {
    "count": count, "error_rate": error_rate, "slowest": slowest,
}  # fmt: skip


def answer(entries_: Sequence[Entry], question: str, request_id: str | None, first: float, last: float) -> Answer:
    """Answer a question about one request, or about those answered in a stretch of time, seconds since the epoch."""
    if question not in {*OF_ONE, *OF_MANY}:
        refuse("unknown_question", f"{question} is not a question; known are {', '.join([*OF_ONE, *OF_MANY])}")
    if question in OF_MANY:
        return OF_MANY[question]([entry for entry in entries_ if first <= entry.at < last])
    if request_id is None:
        refuse("no_request_id", f"{question} needs --request-id")
    return OF_ONE[question]([entry for entry in entries_ if entry.request_id == request_id])


def time_of(text: str) -> float:
    """Seconds since the epoch of a text in RFC 3339, or the command is refused."""
    try:
        found = datetime.fromisoformat(text.upper())
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        refuse("bad_time", f"{text!r} is no time with a zone, such as 2023-01-31T12:00:00+00:00")
    return found.timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(prog="ops", description="Answer a question of operations from the log.")
    parser.add_argument("--question", required=True)
    parser.add_argument("--request-id")
    parser.add_argument("--from", dest="first", type=str)
    parser.add_argument("--to", dest="last", type=str)
    for name in ("state", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    first = time_of(given.first) if given.first is not None else float("-inf")
    last = time_of(given.last) if given.last is not None else float("inf")
    found = answer(list(entries(given.state)), given.question, given.request_id, first, last)
    write_whole(given.out, json.dumps({"answer": found}).encode())


if __name__ == "__main__":
    main()
