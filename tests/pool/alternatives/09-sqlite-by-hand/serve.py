"""The model behind an address: one event loop that talks, and a thread each that scores, keeps the log, looks after the champion."""

import os

os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")  # a database that comes back may be another file

import argparse
import asyncio
import calendar
import hashlib
import json
import logging
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import tomllib
import traceback
import uuid
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd
from aiohttp import web

import delay
import tell

MOST_ROWS, MOST_BYTES = 1000, 1 << 20
WAIT, TOO_LATE = 3.0, 6.0  # seconds of work that may lie before a request; seconds after which it is given up unscored
A_CALL = 60_000  # bytes that take as long as a call does however small it is
GRACE = 0.5  # seconds in which a request that is on its way at SIGTERM still arrives
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII)


class Wrong(Exception):
    """A request that is refused, with all its faults: where, and what."""

    def __init__(self, status, *faults):
        self.status, self.faults = status, [{"loc": list(loc), "msg": msg} for loc, msg in faults]


# Rows


def text(value):
    if type(value) is not str:
        raise ValueError("must be a text")
    return value.encode("utf-8", "replace").decode()  # half a surrogate is in no category, and spoils some libraries


def identity(value):
    if text(value) != value:
        raise ValueError("must be a text that UTF-8 can hold")  # the log keeps it to the letter
    return value


def number(value):
    if type(value) is not float:  # whole numbers are read as floats too
        raise ValueError("must be a number")
    return min(max(value, -sys.float_info.max), sys.float_info.max)


def timestamp(value):
    """Microseconds since 1970."""
    found = RFC3339.fullmatch(value) if type(value) is str else None
    if not found:
        raise ValueError("must be a text like 2019-03-31T18:05:00Z, with a zone")
    year, month, day, hour, minute, second = map(int, found.groups()[:6])
    fraction, sign, hours, minutes = found.groups()[6:]
    hours, minutes = int(hours or 0), int(minutes or 0)
    there_is = year and 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]
    if not there_is or hour > 23 or minute > 59 or second > 60 or hours > 23 or minutes > 59:
        raise ValueError("must be a day and a time that exist")
    offset = (hours * 3600 + minutes * 60) * (-1 if sign == "-" else 1)
    days = -146_097 if (month, day) >= (12, 30) and year == 9999 else 146_097 if (month, day) <= (1, 3) and year == 1 else 0
    # Python's years end at 1 and 9999, and zones and lead may lead over that edge; the calendar repeats after 400 years.
    seconds = calendar.timegm((year, month, day, hour, minute, second)) - offset + days * 86_400
    return seconds * 1_000_000 + int((fraction or "0")[:6].ljust(6, "0"))


KINDS = {"str": (text, {"type": "string"}), "int": (number, {"type": "number"}), "float": (number, {"type": "number"})}
KINDS["row_id"] = (identity, {"type": "string"})
KINDS["timestamp"] = (timestamp, {"type": "string", "format": "date-time"})


def read(body, request):
    """The columns that were sent, checked."""
    try:
        sent = json.loads(body.decode(), parse_int=float, parse_constant=lambda name: ...)  # ... is neither text nor number
    except (ValueError, RecursionError) as problem:
        raise Wrong(400, (["body"], f"is no JSON in UTF-8: {problem}"[:300])) from None
    if type(sent) is not dict:
        raise Wrong(422, (["body"], 'must be an object, {"rows": [...]}'))
    rows = sent.get("rows")
    if type(rows) is not list or not 1 <= len(rows) <= MOST_ROWS:
        raise Wrong(422, (["body", "rows"], f"must be a list of 1 to {MOST_ROWS} rows"))
    columns, faults = {name: [] for name in ("row_id", *request)}, []
    for place, row in enumerate(rows):
        if type(row) is not dict:
            faults.append((["body", "rows", place], "must be an object"))
            continue
        for name, column in columns.items():
            kind, value = request.get(name, "row_id"), row.get(name)
            try:
                if name not in row and not kind.endswith("?"):
                    raise ValueError("is missing")
                column.append(None if value is None and kind.endswith("?") else KINDS[kind.rstrip("?")][0](value))
            except ValueError as problem:
                faults.append((["body", "rows", place, name], str(problem)))
    if faults:
        raise Wrong(422, *faults)
    return [row["row_id"] for row in rows], {name: columns[name] for name in request}


def table(columns, request):
    """The columns as a Parquet file of rows would give them."""
    out = {}
    for name, values in columns.items():
        kind = request[name].rstrip("?")
        if kind == "timestamp":
            there = np.array([value is not None for value in values])
            moments = np.where(there, [value or 0 for value in values], 0).astype("datetime64[us]")
            out[name] = pd.Series(np.where(there, moments, np.datetime64("NaT", "us"))).dt.tz_localize("UTC")
        else:
            out[name] = pd.Series(values, dtype=object if kind == "str" else "float64")
    return pd.DataFrame(out)


# The model


class Champion(NamedTuple):
    version: str
    run_id: str | None
    model: object


def check_readable(uri):
    """Fail at once where the SQLite store of MLflow cannot be read: MLflow would make a new one, or try again for minutes."""
    if uri.startswith("sqlite:"):
        from sqlalchemy.engine import make_url

        path = Path(make_url(uri).database).absolute()
        door = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1)
        try:
            door.execute("SELECT version_num FROM alembic_version").fetchall()
        finally:
            door.close()


class Follower:
    """Holds the champion of the registry, and a copy of it for the day when there is no registry to ask."""

    def __init__(self, usecase, source):
        self.usecase, self.source, self.champion, self.problem = usecase, source, None, "starting"
        self.uri = os.environ["MLFLOW_TRACKING_URI"]
        place = hashlib.sha1(f"{self.uri} {source.case['model_name']}".encode()).hexdigest()[:16]
        self.kept = Path(os.environ["MLEKIT_STATE"]) / "served" / place
        self.kept.mkdir(parents=True, exist_ok=True)

    def follow(self):
        seconds = float(os.environ["MLEKIT_REFRESH_SECONDS"])
        while True:
            start = time.monotonic()
            self.look()
            time.sleep(max(0.05, seconds - (time.monotonic() - start)))

    def look(self):
        try:
            check_readable(self.uri)
            registry = delay.Registry(self.usecase)
            version, _ = registry.champions()
            if version is None:
                self.champion, self.problem = None, f"{registry.name} has no champion"
                (self.kept / "last.json").unlink(missing_ok=True)
            elif self.champion is None or self.champion.version != version:
                run_id = registry.client.get_model_version(registry.name, version).run_id
                self.take(f"models:/{registry.name}/{version}", version, run_id)
        except Exception as problem:
            tell.say(f"champion not followed: {type(problem).__name__}: {problem}"[:500])
            if self.champion is None:
                self.problem = f"the champion cannot be had: {type(problem).__name__}: {problem}"[:500]
                self.remember()

    def take(self, uri, version, run_id):
        import mlflow

        folder = Path(tempfile.mkdtemp(dir=self.kept))
        try:
            path = mlflow.artifacts.download_artifacts(uri, dst_path=str(folder))
            last = {"version": version, "run_id": run_id, "path": str(Path(path).relative_to(self.kept))}
            self.champion = self.load(last)
            (folder / "last.json").write_text(json.dumps(last))
            (folder / "last.json").replace(self.kept / "last.json")
            old = [other for other in self.kept.iterdir() if other.is_dir() and other != folder]
        except BaseException:
            old = [folder]
            raise
        finally:
            for other in old:
                shutil.rmtree(other, ignore_errors=True)

    def remember(self):
        try:
            self.champion = self.load(json.loads((self.kept / "last.json").read_text()))
        except FileNotFoundError:
            pass
        except Exception as problem:
            tell.say(f"nor is the last one there: {type(problem).__name__}: {problem}"[:500])

    def load(self, last):
        import mlflow

        model = mlflow.pyfunc.load_model(str(self.kept / last["path"]))
        delay.said(model, self.source.features(self.source.tables["flights"].head(2)))  # one that cannot be asked is no champion
        return Champion(last["version"], last["run_id"], model)


# The service


class Service:
    def __init__(self, usecase, data):
        self.usecase, self.data, self.case = usecase, data, tomllib.loads(Path(usecase).read_text())
        self.follower, self.scorer, self.stopping = None, ThreadPoolExecutor(1), False
        self.pending = 0  # bytes of work accepted and not done
        self.paces, self.pace = deque([5e-7] * 5, maxlen=15), 5e-7  # seconds that a byte took lately, and their median
        self.description = json.dumps(describe(self.case))
        self.metrics, self.diary, self.writer = tell.Metrics(), tell.Diary(os.environ["MLEKIT_STATE"]), ThreadPoolExecutor(1)

    def start(self):
        source = delay.Source(self.usecase, self.data)
        source.features(source.tables["flights"].head(2))  # builds the histories
        follower = Follower(self.usecase, source)
        follower.look()
        self.follower = follower
        threading.Thread(target=follower.follow, daemon=True).start()

    def able(self):
        """The champion, and why there would be no answer."""
        champion = self.follower and self.follower.champion
        if not champion:
            return None, self.follower.problem if self.follower else "starting"
        return champion, None if self.fits(0) else "too much to do"

    def fits(self, size):
        return not self.pending or (self.pending + A_CALL + size) * self.pace <= WAIT

    def score(self, body, since, request_id):
        start = time.monotonic()
        if start - since > TOO_LATE:
            raise Wrong(503, ([], "too much to do"))
        ids, columns = read(body, self.case["request"])
        champion, problem = self.follower.champion, self.follower.problem
        if champion is None:
            raise Wrong(503, ([], problem))
        p = delay.said(champion.model, self.follower.source.features(table(columns, self.case["request"])))
        self.paces.append((time.monotonic() - start) / (A_CALL + len(body)))
        self.pace = median(self.paces)
        scored = list(zip(ids, p.tolist(), strict=True))
        predictions = [{"row_id": row_id, "probability": value} for row_id, value in scored]
        answer = {"request_id": request_id, "model_version": champion.version, "predictions": predictions}
        return json.dumps(answer).encode(), champion.version, scored

    async def predict(self, request):
        since, size = time.monotonic(), request.content_length
        if "Content-Type" in request.headers and request.content_type != "application/json":
            raise Wrong(415, (["header", "Content-Type"], "must be application/json"))
        if size is not None and size > MOST_BYTES:
            raise Wrong(413, (["body"], f"is larger than {MOST_BYTES} bytes"))
        champion, problem = self.able()
        if champion is None:
            raise Wrong(503, ([], problem))
        size = MOST_BYTES if size is None else size
        if not self.fits(size):
            raise Wrong(503, ([], "too much to do"))
        self.pending += A_CALL + size
        try:
            try:
                body = await request.read()
            except web.RequestPayloadError as problem:
                raise Wrong(400, (["body"], f"cannot be read: {problem}"[:300])) from None
            if len(body) > MOST_BYTES:
                raise Wrong(413, (["body"], f"is larger than {MOST_BYTES} bytes"))
            loop = asyncio.get_running_loop()
            answer, version, scored = await loop.run_in_executor(self.scorer, self.score, body, since, request["id"])
        finally:
            self.pending -= A_CALL + size
        request["version"], request["scored"] = version, scored
        return web.Response(body=answer, content_type="application/json")

    async def healthz(self, request):
        return web.json_response({"alive": True})

    async def readyz(self, request):
        champion, problem = self.able()
        about = {"ready": not problem, "model_version": champion and champion.version, "reason": problem}
        return web.json_response(about, status=503 if problem else 200, headers={"Retry-After": "1"} if problem else None)

    async def version(self, request):
        champion = self.follower and self.follower.champion
        about = {"model_name": self.case["model_name"], "model_version": champion and champion.version}
        return web.json_response(about | {"run_id": champion and champion.run_id, "contract": 1, "accepts": ["v1"]})

    async def openapi(self, request):
        return web.Response(text=self.description, content_type="application/json")

    async def numbers(self, request):
        champion = self.follower and self.follower.champion
        text = self.metrics.text(champion and champion.version)
        return web.Response(body=text.encode(), headers={"Content-Type": tell.Metrics.TYPE})

    async def go_on(self, request):
        """Any other expectation is ignored, so that all requests come to be answered below."""
        if request.headers["Expect"].lower() == "100-continue" and request.version >= (1, 1):
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the answer has not begun

    @web.middleware
    async def around(self, request, handler):
        """What all answers have in common, faults among them."""
        given = request.headers.get("X-Request-ID", "")
        request["id"] = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        headers, since = {}, time.monotonic()
        try:
            answer = await handler(request)
        except Wrong as problem:
            answer = self.refusal(request, problem.status, problem.faults)
        except web.HTTPException as problem:
            headers = {"Allow": problem.headers["Allow"]} if "Allow" in problem.headers else {}
            answer = self.refusal(request, problem.status, [{"loc": [], "msg": problem.reason}])
        except Exception as problem:
            where = traceback.extract_tb(problem.__traceback__)[-1]  # its text may quote what was sent
            tell.say(f"request {request['id']} failed: {type(problem).__name__} at {where.filename}:{where.lineno}")
            answer = self.refusal(request, 500, [{"loc": [], "msg": "failed"}])
        if request.method == "POST" and tell.route(request) == tell.PREDICT:
            answer = await self.kept(request, answer, since)
        if answer.status == 503:
            headers["Retry-After"] = "1"
        answer.headers.update(headers | {"X-Request-ID": request["id"]})
        if self.stopping:
            answer.force_close()
        return answer

    async def kept(self, request, answer, since):
        """The answer, when it is in the log."""
        entry = request["id"], time.monotonic() - since, answer.status, request.get("version"), request.get("scored", ())
        try:
            await asyncio.get_running_loop().run_in_executor(self.writer, self.diary.keep, *entry)
        except sqlite3.Error as problem:
            tell.say(f"request {request['id']} not kept: {type(problem).__name__}: {problem}")
            request["version"], request["scored"] = None, ()
            answer = self.refusal(request, 503, [{"loc": [], "msg": "the log cannot be written"}])
        return answer

    def refusal(self, request, status, faults):
        return web.json_response({"request_id": request["id"], "detail": faults}, status=status)

    async def run(self):
        app = web.Application(middlewares=[self.around], client_max_size=MOST_BYTES + 1)
        app.router.add_post("/v1/predict", self.predict, expect_handler=self.go_on)
        gets = {"/healthz": self.healthz, "/readyz": self.readyz, "/version": self.version}
        gets |= {"/metrics": self.numbers, "/openapi.json": self.openapi}
        for path, handler in gets.items():
            app.router.add_get(path, handler, allow_head=False)
        told, loop = asyncio.Event(), asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, told.set)
        logging.getLogger("aiohttp.server").disabled = True  # it quotes what it cannot read
        runner = web.AppRunner(app, access_log=self.metrics, access_log_class=tell.Teller, shutdown_timeout=8)
        await runner.setup()
        site = web.TCPSite(runner, os.environ["MLEKIT_HOST"], int(os.environ["MLEKIT_PORT"]), backlog=1024)
        await site.start()
        starting = asyncio.create_task(asyncio.to_thread(self.start))
        waiting = asyncio.create_task(told.wait())
        await asyncio.wait([starting, waiting], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()  # or the fault that it ended with
        await waiting
        self.stopping = True
        await asyncio.sleep(0.02)  # who connected before is let in
        await site.stop()
        await asyncio.sleep(GRACE)
        await runner.cleanup()
        sys.stderr.flush()
        os._exit(0)  # a look at the registry that still hangs need not be waited for


def describe(case):
    """All of this as OpenAPI says it."""

    def thing(needed=True, **properties):
        return {"type": "object", "properties": properties, "required": list(properties) if needed is True else needed}

    def answer(what, schema, **headers):
        headers = {"X-Request-ID": {"schema": {"type": "string"}}} | headers
        return {"description": what, "headers": headers, "content": {"application/json": {"schema": schema}}}

    def operation(name, what, answers, **more):
        return {"operationId": name, "summary": what, "parameters": [request_id], "responses": answers, **more}

    request_id = {"name": "X-Request-ID", "in": "header", "required": False, "schema": {"type": "string"}}
    string, perhaps = {"type": "string"}, {"type": ["string", "null"]}
    fault = thing(loc={"type": "array", "items": {"type": ["string", "integer"]}}, msg=string)
    wrong = thing(request_id=string, detail={"type": "array", "items": fault})
    later = {"Retry-After": {"schema": {"type": "string"}}}
    columns = {"row_id": string}
    for name, kind in case["request"].items():
        schema = dict(KINDS[kind.rstrip("?")][1])
        columns[name] = schema | {"type": [schema["type"], "null"]} if kind.endswith("?") else schema
    row = thing(["row_id", *(name for name, kind in case["request"].items() if not kind.endswith("?"))], **columns)
    asked = thing(rows={"type": "array", "items": row, "minItems": 1, "maxItems": MOST_ROWS})
    prediction = thing(row_id=string, probability={"type": "number", "minimum": 0, "maximum": 1})
    scored = thing(request_id=string, model_version=string, predictions={"type": "array", "items": prediction})
    ready = thing(ready={"type": "boolean"}, model_version=perhaps, reason=perhaps)
    running = thing(
        model_name=string, model_version=perhaps, run_id=perhaps, contract={"type": "integer"}, accepts={"type": "array", "items": string}
    )
    refusals = {"400": "no JSON, or no HTTP", "413": "larger than 1 MiB", "415": "not said to be JSON", "422": "wrong, and where"}
    scores = {"200": answer("the probabilities", scored), "503": answer("no model, or too much to do", wrong, **later)}
    numbers = answer("as OpenMetrics", string)
    numbers["content"] = {"application/openmetrics-text": {"schema": string}}
    body = {"required": True, "content": {"application/json": {"schema": asked}}}
    paths = {
        "/v1/predict": {"post": operation(
            "predict", "Score rows", scores | {status: answer(what, wrong) for status, what in refusals.items()}, requestBody=body
        )},
        "/healthz": {"get": operation("healthz", "Alive", {"200": answer("alive", {"type": "object"})})},
        "/readyz": {"get": operation(
            "readyz", "Able to answer", {"200": answer("ready", ready), "503": answer("not ready, and why", ready, **later)}
        )},
        "/version": {"get": operation("version", "What is running", {"200": answer("what is running", running)})},
        "/metrics": {"get": operation("metrics", "Counters and times", {"200": numbers})},
        "/openapi.json": {"get": operation("openapi", "This", {"200": answer("this", {"type": "object"})})},
    }
    return {"openapi": "3.1.0", "info": {"title": case["model_name"], "version": "1"}, "paths": paths}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--usecase", required=True)
    parser.add_argument("--data", required=True)
    given = parser.parse_args()
    try:
        asyncio.run(Service(given.usecase, given.data).run())
    except (OSError, sqlite3.Error) as problem:
        sys.exit(f"cannot serve: {problem}")
