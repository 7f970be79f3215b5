"""The front: Litestar talks, and knows nothing of models. Whoever scores is another process, one for each champion (see scorer.py).

A new champion is a new process. It is warmed up beside the old one, the front turns to it between two batches, and the old one ends when
the last batch that it was given is answered.
"""

import argparse
import asyncio
import math
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from collections import deque
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from json import loads
from pathlib import Path
from tomllib import loads as toml
from typing import Annotated, Any

import msgspec
import uvicorn
from litestar import Litestar, Request, Response, get, post
from litestar.exceptions import HTTPException
from litestar.openapi import ResponseSpec
from litestar.openapi.config import OpenAPIConfig
from litestar.utils.scope.state import ScopeState

WINDOW = 0.002  # seconds in which requests that come together become one batch
BATCH = 2_000  # rows of a batch
PATIENCE = 3.0  # seconds of work that may wait
MOST_ROWS, MOST_BYTES = 1_000, 1 << 20
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
YEARS = 2, 9998  # a zone and the lead time may lead out of the years before and after

Whole = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]  # what a float holds, and any reader of the description
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
KINDS = {"str": str, "int": Whole, "float": float, "timestamp": Moment}


class Fault(msgspec.Struct):
    loc: list[str | int]
    msg: str


class Faults(msgspec.Struct):
    request_id: str
    detail: list[Fault]


class Prediction(msgspec.Struct):
    row_id: str
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)]


class Answer(msgspec.Struct):
    request_id: str
    model_version: str
    predictions: list[Prediction]


class Health(msgspec.Struct):
    alive: bool


class Readiness(msgspec.Struct):
    ready: bool
    model_version: str | None
    reason: str | None


class Running(msgspec.Struct):
    model_name: str
    model_version: str | None
    run_id: str | None
    contract: int
    accepts: list[str]


class Refused(Exception):
    def __init__(self, status, *faults):
        self.status, self.faults = status, [Fault(list(loc), msg) for loc, msg in faults]


class Busy(Refused):
    def __init__(self, why):
        super().__init__(503, (["body"], why))


class Failed(Exception):
    """The scoring process did not answer."""


# Rows


def row_type(request):
    fields = [("row_id", str)]
    for name, kind in request.items():
        of = KINDS[kind.rstrip("?")]
        fields.append((name, of | None, None) if kind.endswith("?") else (name, of))
    fields.sort(key=len)  # those with a default come last
    return msgspec.defstruct("Row", fields)


def microseconds(moment):
    try:
        there = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is beyond the calendar") from None
    if not YEARS[0] <= there.year <= YEARS[1]:
        raise ValueError(f"has to lie in the years {YEARS[0]} to {YEARS[1]}")
    seconds = (there.replace(microsecond=0) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta_second
    return seconds * 1_000_000 + there.microsecond


timedelta_second = datetime(1970, 1, 1, 0, 0, 1) - datetime(1970, 1, 1)


def columns_of(rows, request):
    """Column by column; a moment as microseconds."""
    out, faults = {}, []
    for name, kind in request.items():
        values = [getattr(row, name) for row in rows]
        if kind.startswith("timestamp"):
            for at, value in enumerate(values):
                try:
                    values[at] = None if value is None else microseconds(value)
                except ValueError as problem:
                    faults.append((["body", "rows", at, name], str(problem)))
        out[name] = values
    if faults:
        raise Refused(422, *faults)
    return out


def faults_of(body, request):
    """msgspec stops at the first fault of a body; whoever sent it wants to hear of all."""
    try:
        sent = loads(body)
    except (ValueError, RecursionError):
        return []
    if not isinstance(sent, dict):
        return []
    rows = sent.get("rows")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_ROWS:
        return [(["body", "rows"], f"has to be a list of 1 to {MOST_ROWS} rows")]
    kinds, found = {"row_id": "str", **request}, []
    for at, row in enumerate(rows):
        if not isinstance(row, dict):
            found.append((["body", "rows", at], "has to be an object"))
            continue
        for name, kind in kinds.items():
            value = row.get(name)
            if value is None and kind.endswith("?"):
                continue
            if name not in row:
                found.append((["body", "rows", at, name], "is missing"))
                continue
            try:
                value = msgspec.convert(value, KINDS[kind.rstrip("?")])
                if isinstance(value, str):
                    value.encode()
                elif isinstance(value, float) and not math.isfinite(value):
                    raise ValueError("is too large")
            except Exception as problem:
                said = str(problem) if isinstance(problem, msgspec.ValidationError) else "is no value that can be held"
                found.append((["body", "rows", at, name], said))
    return found


# Who scores


class Scorer:
    """A process that knows one version. Batches go in and come out in order; two may be under way, so that it never waits for us."""

    def __init__(self, version, run_id, door):
        self.version, self.run_id, self.door = version, run_id, door
        self.under_way, self.alive, self.turn = deque(), True, asyncio.Semaphore(2)

    async def open(self):
        self.reader, self.writer = await asyncio.open_unix_connection(sock=self.door)
        self.task = asyncio.create_task(self.listen())

    async def listen(self):
        try:
            while True:
                size = int.from_bytes(await self.reader.readexactly(4), "big")
                answer = msgspec.msgpack.decode(await self.reader.readexactly(size))
                waiting = self.under_way.popleft()
                if not waiting.done():
                    waiting.set_result(answer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.alive = False
            while self.under_way:
                waiting = self.under_way.popleft()
                if not waiting.done():
                    waiting.set_exception(Failed())

    async def ask(self, parts):
        """For each part its probabilities, or None where it cannot be scored."""
        if not self.alive:
            raise Failed
        sent = msgspec.msgpack.encode(parts)
        waiting = asyncio.get_running_loop().create_future()
        self.under_way.append(waiting)
        self.writer.write(len(sent).to_bytes(4, "big") + sent)
        return await waiting

    async def retire(self):
        while self.under_way:
            await asyncio.sleep(0.02)
        self.writer.close()


class Desk:
    """Collects requests, and hands them on in batches to the scorer of the champion."""

    def __init__(self, usecase, data):
        self.given = usecase, data
        self.scorer, self.problem = None, "no model has been loaded yet"
        self.waiting, self.arrived, self.rows = deque(), asyncio.Event(), 0
        self.row_seconds, self.tasks, self.closing = 2e-4, set(), False

    def spawn(self, work):
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def start(self):
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = [sys.executable, str(Path(__file__).with_name("scorer.py")), *self.given, str(theirs.fileno())]
        self.nursery = subprocess.Popen(program, pass_fds=[theirs.fileno()])
        theirs.close()
        self.control.setblocking(False)
        asyncio.get_running_loop().add_reader(self.control, self.told)
        self.spawn(self.collect())

    def told(self):
        message, doors, *_ = socket.recv_fds(self.control, 65536, 1)
        if not message:
            asyncio.get_running_loop().remove_reader(self.control)
            print("the nursery has ended", file=sys.stderr, flush=True)
            if not self.closing:
                os._exit(3)  # nobody would follow the champion any more
            return
        news = msgspec.json.decode(message)
        if doors:
            scorer = Scorer(news["version"], news["run_id"], socket.socket(fileno=doors[0]))
            self.spawn(self.turn_to(scorer))
        elif news.get("withdrawn"):
            self.problem = news["problem"]
            self.spawn(self.turn_to(None))
        else:
            self.problem = news["problem"]

    async def turn_to(self, scorer):
        if scorer:
            await scorer.open()
        before, self.scorer = self.scorer, scorer
        if before:
            await before.retire()

    def champion(self):
        return self.scorer if self.scorer and self.scorer.alive else None

    async def score(self, columns, n):
        if self.rows and (self.rows + n) * self.row_seconds > PATIENCE:
            raise Busy("there is too much to do")
        waiting = asyncio.get_running_loop().create_future()
        self.rows += n
        self.waiting.append((columns, n, waiting))
        self.arrived.set()
        try:
            return await waiting
        finally:
            self.rows -= n

    async def collect(self):
        turn = asyncio.Semaphore(2)
        while True:
            await self.arrived.wait()
            await asyncio.sleep(WINDOW)
            await turn.acquire()
            batch, size = [], 0
            while self.waiting and (not batch or size + self.waiting[0][1] <= BATCH):
                batch.append(self.waiting.popleft())
                size += batch[-1][1]
            if not self.waiting:
                self.arrived.clear()
            self.spawn(self.one_batch(batch, size, turn))

    async def one_batch(self, batch, size, turn):
        start = time.perf_counter()
        try:
            for _ in range(2):  # the second time is for a scorer that ended while it was asked
                scorer = self.champion()
                if scorer is None:
                    break
                try:
                    found = await scorer.ask([columns for columns, _, _ in batch])
                except Failed:
                    continue
                for (_, _, waiting), p in zip(batch, found, strict=True):
                    if not waiting.done():
                        waiting.set_result((scorer, p))
                if size >= 200:
                    self.row_seconds += 0.3 * ((time.perf_counter() - start) / size - self.row_seconds)
                return
            for _, _, waiting in batch:
                if not waiting.done():
                    waiting.set_exception(Busy(self.problem))
        finally:
            turn.release()

    async def stop(self):
        self.closing = True
        if self.scorer:
            await self.scorer.retire()
        self.control.close()


# HTTP


def refusal(request, status, faults):
    headers = {"Retry-After": "1"} if status == 503 else {}
    return Response(Faults(request_of(request), faults), status_code=status, headers=headers, media_type="application/json")


def request_of(request):
    state = request.scope["state"]
    if "request_id" not in state:
        given = request.headers.get("x-request-id", "")
        state["request_id"] = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    return state["request_id"]


async def named(message, scope):
    """Every answer says which request it belongs to."""
    if message["type"] == "http.response.start":
        identity = request_of(Request(scope)).encode()
        message["headers"] = [*message.get("headers", ()), (b"x-request-id", identity)]


def application(case, desk, also=()):
    Row = row_type(case["request"])
    Rows = Annotated[list[Row], msgspec.Meta(min_length=1, max_length=MOST_ROWS)]
    Question = msgspec.defstruct("Question", [("rows", Rows)])

    def refusals(*statuses):
        return {status: ResponseSpec(Faults, generate_examples=False, description="refused, and why") for status in statuses}

    @post("/v1/predict", status_code=200, responses=refusals(400, 413, 422, 503))
    async def predict(data: Question, request: Request) -> Answer:
        """Score one row or many."""
        if desk.champion() is None:
            raise Busy(desk.problem)
        columns = columns_of(data.rows, case["request"])
        scorer, found = await desk.score(columns, len(data.rows))
        if found is None:
            raise Refused(422, (["body", "rows"], "holds something that no feature can be made of"))
        request.scope["state"]["scored"] = scorer.version, list(zip((row.row_id for row in data.rows), found, strict=True))
        predictions = [Prediction(row.row_id, p) for row, p in zip(data.rows, found, strict=True)]
        return Answer(request_of(request), scorer.version, predictions)

    @get("/healthz")
    async def healthz() -> Health:
        """The process is alive."""
        return Health(True)

    @get("/readyz", responses={503: ResponseSpec(Readiness, generate_examples=False, description="not ready, and why")})
    async def readyz() -> Response[Readiness]:
        """Whether a request to predict would be answered."""
        champion = desk.champion()
        if champion:
            return Response(Readiness(True, champion.version, None))
        return Response(Readiness(False, None, desk.problem), status_code=503)

    @get("/version")
    async def version() -> Running:
        """What is running."""
        it = desk.champion()
        return Running(case["model_name"], it and it.version, it and it.run_id, 1, ["v1"])

    @get("/openapi.json", include_in_schema=False)
    async def description(request: Request) -> dict[str, Any]:
        return request.app.openapi_schema.to_schema()

    def wrong(request, problem):
        """Litestar's own refusals, of bodies above all."""
        status = problem.status_code
        if status == 400 and request.scope["path"] == "/v1/predict":
            faults = faults_of(ScopeState.from_scope(request.scope).body, case["request"])
            if faults:
                return refusal(request, 422, [Fault(*fault) for fault in faults])
        answer = refusal(request, status, [Fault(["body"] if status in (400, 413) else [], str(problem.detail)[:300])])
        answer.headers.update(problem.headers or {})
        return answer

    def unreadable(request, problem):
        """What msgspec raises beside its own errors: texts that are no UTF-8, and what is nested too deeply."""
        return refusal(request, 400, [Fault(["body"], f"cannot be read: {type(problem).__name__}")])

    def refused(request, problem):
        return refusal(request, problem.status, problem.faults)

    def failed(request, problem):
        print(f"a request failed: {type(problem).__name__}", file=sys.stderr, flush=True)  # its text may quote what was sent
        return refusal(request, 500, [Fault([], "failed")])

    @asynccontextmanager
    async def lifespan(app):
        await desk.start()
        yield
        await desk.stop()

    return Litestar(
        [predict, healthz, readyz, version, description, *also], lifespan=[lifespan], request_max_body_size=MOST_BYTES, before_send=[named],
        exception_handlers={Refused: refused, RecursionError: unreadable, UnicodeDecodeError: unreadable, HTTPException: wrong, Exception: failed},
        openapi_config=OpenAPIConfig(case["model_name"], "1"),
    )


async def run(app):
    where = {"host": os.environ["MLEKIT_HOST"], "port": int(os.environ["MLEKIT_PORT"])}
    server = uvicorn.Server(uvicorn.Config(app, **where, access_log=False, timeout_graceful_shutdown=8, backlog=1024, log_level="warning"))
    await server.serve()


def read():
    parser = argparse.ArgumentParser()
    parser.add_argument("--usecase", required=True)
    parser.add_argument("--data", required=True)
    given = parser.parse_args()
    return toml(Path(given.usecase).read_text()), Desk(given.usecase, given.data)


if __name__ == "__main__":
    asyncio.run(run(application(*read())))
