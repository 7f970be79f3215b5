"""What the service tells: numbers as OpenMetrics text, the log as one SQLite database, and two commands that read it."""

import argparse
import json
import os
import re
import sqlite3
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from aiohttp.abc import AbstractAccessLogger

PREDICT = "/v1/predict"
ROUTES = {PREDICT, "/healthz", "/readyz", "/version", "/openapi.json", "/metrics"}


def route(request):
    path = request.rel_url.path_safe  # what aiohttp finds the handler by
    return path if path in ROUTES else "other"


def say(text):
    """A line at once and in one piece, whichever thread it comes from."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


# Numbers. Only the event loop touches them.


def labels(**values):
    escaped = ((name, value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")) for name, value in values.items())
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"


class Metrics:
    TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, float("inf"))

    def __init__(self):
        self.requests, self.predictions = Counter(), Counter()
        self.times, self.seconds = {}, Counter()  # by route: how many took at most each bound, and all seconds together

    def count(self, path, status, version, rows, seconds):
        self.requests[path, status, version] += 1
        if rows:
            self.predictions[version] += rows
        times = self.times.setdefault(path, [0] * len(self.BOUNDS))
        for place, bound in enumerate(self.BOUNDS):
            times[place] += seconds <= bound
        self.seconds[path] += seconds

    def text(self, version):
        def family(name, kind, what):
            return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]

        lines = family("mlekit_requests", "counter", "Requests answered.")
        for (path, status, by), n in self.requests.items():
            lines.append(f"mlekit_requests_total{labels(route=path, status=str(status), model_version=by)} {n}")
        lines += family("mlekit_predictions", "counter", "Rows scored.")
        lines += [f"mlekit_predictions_total{labels(model_version=by)} {n}" for by, n in self.predictions.items()]
        lines += family("mlekit_request_seconds", "histogram", "From the arrival of a request to the end of its answer.")
        for path, times in self.times.items():
            for bound, n in zip(self.BOUNDS, times, strict=True):
                le = "+Inf" if bound == float("inf") else repr(bound)
                lines.append(f"mlekit_request_seconds_bucket{labels(route=path, le=le)} {n}")
            lines.append(f"mlekit_request_seconds_sum{labels(route=path)} {self.seconds[path]!r}")
            lines.append(f"mlekit_request_seconds_count{labels(route=path)} {times[-1]}")
        lines += family("mlekit_model_info", "gauge", "The version that answers now.")
        if version is not None:
            lines.append(f"mlekit_model_info{labels(version=version)} 1")
        return "\n".join([*lines, "# EOF", ""])


class Teller(AbstractAccessLogger):
    """aiohttp calls it after each answer, those included that it gives itself to what is no HTTP. Its logger is the Metrics."""

    def log(self, request, response, seconds):
        path, version, scored = route(request), request.get("version"), request.get("scored", ())
        self.logger.count(path, response.status, version or "", len(scored), seconds)
        if path == PREDICT and request.method == "POST":
            line = {"request_id": request["id"], "route": path, "status": response.status, "seconds": seconds}
            say(json.dumps(line | {"model_version": version}))


# The log. A commit is in the kernel's hands before the answer leaves, so killing the process loses nothing that was read.

NAME = "diary.sqlite"
TABLES = """
BEGIN;
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY, request_id TEXT NOT NULL, answered_at INTEGER NOT NULL,  -- microseconds since 1970
    seconds REAL NOT NULL, status INTEGER NOT NULL, model_version TEXT
);
CREATE INDEX IF NOT EXISTS by_request ON answers (request_id);
CREATE TABLE IF NOT EXISTS scored (
    answer INTEGER NOT NULL REFERENCES answers, place INTEGER NOT NULL, row_id TEXT NOT NULL, probability REAL NOT NULL,
    PRIMARY KEY (answer, place)
) WITHOUT ROWID;
COMMIT;
"""


class Diary:
    def __init__(self, state):
        self.door = sqlite3.connect(Path(state) / NAME, timeout=5, check_same_thread=False)
        self.door.execute("PRAGMA journal_mode = WAL")
        self.door.execute("PRAGMA synchronous = NORMAL")
        self.door.executescript(TABLES)

    def keep(self, request_id, seconds, status, version, scored):
        with self.door:  # one transaction
            answer = self.door.execute(
                "INSERT INTO answers (request_id, answered_at, seconds, status, model_version) VALUES (?, ?, ?, ?, ?)",
                (request_id, time.time_ns() // 1000, seconds, status, version),
            ).lastrowid
            self.door.executemany(
                "INSERT INTO scored VALUES (?, ?, ?, ?)", ((answer, place, *row) for place, row in enumerate(scored))
            )


def reading(state):
    """The log of a state folder, which may be read-only; an empty one where nothing was kept yet."""
    path = Path(state).absolute() / NAME
    if path.exists():
        wal = path.with_name(f"{NAME}-wal").exists()  # without it nobody writes, and SQLite need not make its files
        door = sqlite3.connect(f"{path.as_uri()}?{'mode=ro' if wal else 'immutable=1'}", uri=True, timeout=30)
        if door.execute("SELECT 1 FROM sqlite_master").fetchone():
            return door
    door = sqlite3.connect(":memory:")
    door.executescript(TABLES)
    return door


# The commands

COLUMNS = pa.schema({
    "request_id": pa.string(), "row_id": pa.string(), "answered_at": pa.timestamp("us", "UTC"), "model_version": pa.string(),
    "probability": pa.float64(), "status": pa.int64(),
})
EVERYTHING = f"SELECT {', '.join(COLUMNS.names)} FROM answers LEFT JOIN scored ON answer = id"
WITHIN = "answered_at >= :from AND answered_at < :to"
QUESTIONS = {
    "version_of_request": "SELECT model_version FROM answers WHERE request_id = :id ORDER BY id DESC LIMIT 1",
    "rows_of_request": "SELECT row_id FROM answers LEFT JOIN scored ON answer = id "
    "WHERE id = (SELECT max(id) FROM answers WHERE request_id = :id) ORDER BY place",
    "count": f"SELECT count(*) FROM answers JOIN scored ON answer = id WHERE {WITHIN}",
    "error_rate": f"SELECT avg(status >= 500) FROM answers WHERE {WITHIN}",
    "slowest": f"SELECT request_id FROM answers WHERE {WITHIN} ORDER BY seconds DESC LIMIT 1",
}


def export_log(given):
    found = reading(given.state).execute(EVERYTHING)
    with pq.ParquetWriter(given.out, COLUMNS) as out:
        while rows := found.fetchmany(50_000):
            columns = map(pa.array, zip(*rows, strict=True), COLUMNS.types)
            out.write_batch(pa.record_batch(list(columns), schema=COLUMNS))


def refuse(code, message):
    Path(os.environ["MLEKIT_REFUSAL"]).write_text(json.dumps({"code": code, "message": message}))
    sys.exit(2)


def moment(text, default):
    from serve import timestamp

    if text is None:
        return default
    try:
        return timestamp(text) + bool(re.search(r"\.\d{6}\d*[1-9]", text))  # what is finer than the log's times is rounded up
    except ValueError as problem:
        refuse("no_time", f"{text!r} {problem}")


def ops(given):
    if given.question not in QUESTIONS:
        refuse("unknown_question", f"{given.question!r} is no question; known are {', '.join(QUESTIONS)}")
    query = QUESTIONS[given.question]
    if ":id" in query and given.request_id is None:
        refuse("no_request_id", f"{given.question} needs --request-id")
    asked = {"id": given.request_id, "from": moment(given.since, -(2**63)), "to": moment(given.until, 2**63 - 1)}
    found = [value for (value,) in reading(given.state).execute(query, asked)]
    if given.question == "rows_of_request":
        answer = [row_id for row_id in found if row_id is not None] if found else None
    else:
        answer = found[0] if found else None
    Path(given.out).write_text(json.dumps({"answer": answer}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("command", choices=("export-log", "ops"))
    for option in ("state", "out", "question", "request-id"):
        parser.add_argument(f"--{option}")
    parser.add_argument("--from", dest="since")
    parser.add_argument("--to", dest="until")
    command, *options = sys.argv[1:]
    pairs = zip(options[::2], options[1::2], strict=True)
    arguments = parser.parse_args([command, *map("=".join, pairs)])  # a request's id may begin with a dash
    {"export-log": export_log, "ops": ops}[command](arguments)
