"""The log: frames of msgpack with a checksum, sealed into Parquet; DuckDB answers.

    python diary.py export-log --state D --out F
    python diary.py ops --question Q ... --state D --out F

`diary/N.frames` is what a service writes; when it is long enough, or its writer has ended, it becomes `diary/N.parquet` by rename, and is deleted
after that. Where both are there the Parquet file counts.
"""

import argparse
import fcntl
import json
import os
import re
import sys
import time
import zlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

SEAL = 4 << 20  # bytes of frames
SCHEMA = pa.schema({
    "place": pa.int64(), "request_id": pa.string(), "answered_at": pa.timestamp("us", "UTC"), "seconds": pa.float64(),
    "status": pa.int64(), "model_version": pa.string(), "row_ids": pa.list_(pa.string()), "probabilities": pa.list_(pa.float64()),
})


class Frames:
    """Writes; one at a time. What the kernel has taken is there when this process is killed."""

    def __init__(self, state):
        self.folder = Path(state) / "diary"
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.glob("*.part"):
            path.unlink()
        for path in sorted(self.folder.glob("*.frames")):
            seal(path)
        self.file = None

    def open(self):
        self.path = self.folder / f"{time.time_ns():020d}.frames"
        self.file, self.size = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR), 0
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def keep(self, request_id, seconds, status, version, scored):
        if self.file is None:
            self.open()
        data = msgspec.msgpack.encode((request_id, time.time_ns() // 1000, seconds, status, version, scored))
        frame = len(data).to_bytes(4, "big") + zlib.crc32(data).to_bytes(4, "big") + data
        try:
            done = 0
            while done < len(frame):
                done += os.pwrite(self.file, frame[done:], self.size + done)
        except OSError:
            os.ftruncate(self.file, self.size)
            raise
        self.size += len(frame)
        if self.size > SEAL:
            os.close(self.file)
            self.file = None
            try:
                seal(self.path)
            except OSError:  # no room: it stays as frames until the next start
                self.path.with_suffix(".part").unlink(missing_ok=True)


def seal(path):
    whole = path.with_suffix(".parquet")
    if not whole.exists():
        part = path.with_suffix(".part")
        try:
            pq.write_table(table(path), part)
            part.rename(whole)
        except OSError:
            part.unlink(missing_ok=True)
            return
    path.unlink()


def table(path):
    data, at, rows, place = path.read_bytes(), 0, [], 0
    while at + 8 <= len(data):
        size, crc = int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 4 : at + 8], "big")
        frame = data[at + 8 : at + 8 + size]
        if len(frame) < size or zlib.crc32(frame) != crc:
            break  # the kill came here
        request_id, when, seconds, status, version, scored = msgspec.msgpack.decode(frame)
        rows.append((place, request_id, when, seconds, status, version, [r for r, _ in scored], [p for _, p in scored]))
        at, place = at + 8 + size, place + 1
    columns = list(zip(*rows, strict=True)) if rows else [[] for _ in SCHEMA]
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA)


def everything(state):
    """All that was kept, in order, while a service may be writing and sealing."""
    folder = Path(state) / "diary"
    while True:
        names = sorted({path.stem for path in folder.glob("*.*") if path.suffix in (".frames", ".parquet")})
        try:
            found = []
            for name in names:
                whole = folder / f"{name}.parquet"
                found.append(pq.read_table(whole, schema=SCHEMA) if whole.exists() else table(folder / f"{name}.frames"))
            return pa.concat_tables(found) if found else SCHEMA.empty_table()
        except FileNotFoundError:
            continue  # sealed at this moment


def ask(state, query, **given):
    import duckdb

    # a number for each request, in the order in which they were written
    kept = everything(state)
    kept = kept.append_column("number", pa.array(range(len(kept)), pa.int64()))
    door = duckdb.connect()
    door.execute("SET TimeZone = 'UTC'")
    door.register("diary", kept)
    return door.execute(query, given)


EXPORT = """
SELECT request_id, unnest(CASE WHEN status = 200 THEN row_ids ELSE [NULL] END) AS row_id, answered_at, model_version,
       unnest(CASE WHEN status = 200 THEN probabilities ELSE [NULL] END) AS probability, status
FROM diary
"""
THEN = "epoch_us(answered_at) >= $since AND epoch_us(answered_at) < $until"
LAST = "FROM diary WHERE request_id = $request ORDER BY number DESC LIMIT 1"
QUESTIONS = {
    "version_of_request": f"SELECT model_version {LAST}",
    "rows_of_request": f"SELECT row_ids {LAST}",
    "count": f"SELECT CAST(coalesce(sum(len(row_ids)), 0) AS BIGINT) FROM diary WHERE {THEN}",
    "error_rate": f"SELECT avg(CAST(status >= 500 AS DOUBLE)) FROM diary WHERE {THEN}",
    "slowest": f"SELECT request_id FROM diary WHERE {THEN} ORDER BY seconds DESC LIMIT 1",
}
TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def export_log(given):
    kinds = [("request_id", pa.string()), ("row_id", pa.string()), ("answered_at", pa.timestamp("us", "UTC"))]
    kinds += [("model_version", pa.string()), ("probability", pa.float64()), ("status", pa.int64())]
    found = ask(given.state, EXPORT).to_arrow_table()
    pq.write_table(found.cast(pa.schema(kinds)), given.out)


def refuse(code, message):
    Path(os.environ["MLEKIT_REFUSAL"]).write_text(json.dumps({"code": code, "message": message}))
    sys.exit(2)


def microseconds(text, default):
    if text is None:
        return default
    try:
        if not TIME.fullmatch(text):
            raise ValueError("is no time in RFC 3339")
        there = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        refuse("no_time", f"{text!r} is no time in RFC 3339, such as 2019-03-31T18:05:00Z")
    finer = re.search(r"\.\d{6}\d*[1-9]", text)
    seconds = there - datetime(1970, 1, 1, tzinfo=UTC)
    return (seconds.days * 86_400 + seconds.seconds) * 1_000_000 + seconds.microseconds + bool(finer)


def ops(given):
    query = QUESTIONS.get(given.question)
    if query is None:
        refuse("unknown_question", f"{given.question!r} is no question; there are {', '.join(QUESTIONS)}")
    if "$request" in query:
        if given.request_id is None:
            refuse("no_request", f"{given.question} needs --request-id")
        bound = {"request": given.request_id}
    else:
        bound = {"since": microseconds(given.since, -(2**62)), "until": microseconds(given.until, 2**62)}
    found = ask_with(given.state, query, bound)
    Path(given.out).write_text(json.dumps({"answer": found[0] if found else None}))


def ask_with(state, query, bound):
    return ask(state, query, **bound).fetchone()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("export-log", "ops"))
    for option in ("state", "out", "question", "request-id"):
        parser.add_argument(f"--{option}")
    parser.add_argument("--from", dest="since")
    parser.add_argument("--to", dest="until")
    arguments = parser.parse_args()
    {"export-log": export_log, "ops": ops}[arguments.command](arguments)
