"""Around the whole service: each request is timed, written down before its answer leaves, counted and said in one line."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flightdelay.batches import Batches
from flightdelay.journal import Entry
from flightdelay.metrics import PREDICTIONS, REQUESTS, SECONDS

PREDICT = "/v1/predict"
ROUTES = (PREDICT, "/healthz", "/readyz", "/version", "/openapi.json", "/metrics")
OTHER = "other"  # all paths that are not there: a label for each would be a series for each
NOT_KEPT = json.dumps({"detail": [{"loc": [], "msg": "the answer could not be written down; ask again"}]}).encode()
log = logging.getLogger("requests")


@dataclass(frozen=True)
class Scored:
    """What a request got, left by the one who scored it for those who write it down."""

    version: str
    rows: list[tuple[str, float]]


class Observed:
    """An ASGI application around another one. Of a request it looks at the method and the path, and at nothing that is personal."""

    def __init__(self, app: ASGIApp, journal: Batches[Entry, None]) -> None:
        self.app, self.journal = app, journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began = time.perf_counter()
        state = scope.setdefault("state", {})
        route = scope["path"] if scope["path"] in ROUTES else OTHER
        asked = route == PREDICT and scope["method"] == "POST"
        status = 0
        dropped = False  # whether the answer was exchanged for another one

        async def keep_and_send(message: Message) -> None:
            nonlocal status, dropped
            if dropped:
                return
            if message["type"] == "http.response.start":
                status = message["status"]
                if asked and not await self._kept(state, status, began):
                    status, dropped = 503, True
            await (_not_kept(send, str(state["request_id"])) if dropped else send(message))

        try:
            await self.app(scope, receive, keep_and_send)
        finally:
            if status:
                self._count(state, route, status, time.perf_counter() - began, asked)

    async def _kept(self, state: dict[str, object], status: int, began: float) -> bool:
        scored = _scored(state, status)
        entry = Entry(
            str(state.get("request_id", "")), round(time.time(), 6), time.perf_counter() - began, status,
            scored.version if scored else None, scored.rows if scored else [],
        )  # fmt: skip
        try:
            await self.journal.ask([entry])
        except OSError as problem:
            log.error("an answer could not be written down: %s", problem.strerror)
            return status != 200  # what was refused may be lost, what was answered may not
        return True

    def _count(self, state: dict[str, object], route: str, status: int, seconds: float, asked: bool) -> None:
        scored = _scored(state, status)
        version = scored.version if scored else None
        REQUESTS.labels(route, str(status), version or "").inc()
        SECONDS.labels(route).observe(seconds)
        if scored:
            PREDICTIONS.labels(scored.version).inc(len(scored.rows))
        if asked:
            said = {"route": route, "status": status, "seconds": round(seconds, 6), "model_version": version}
            log.info("answered", extra={"request_id": state.get("request_id"), **said})


def _scored(state: dict[str, object], status: int) -> Scored | None:
    found = state.get("scored")
    return found if isinstance(found, Scored) and status == 200 else None


async def _not_kept(send: Send, request_id: str) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(NOT_KEPT)).encode()),
        (b"retry-after", b"1"),
        (b"x-request-id", request_id.encode()),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": NOT_KEPT})
