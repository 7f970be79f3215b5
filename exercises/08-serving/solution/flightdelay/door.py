"""What every request passes: its id, the size of its body, and whether there is room for it."""

from __future__ import annotations

import json
import re
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
LONGEST_BODY = 1 << 20
ROOM = 8 << 20  # bytes of bodies that are worked on at one time; with the next one somebody would wait too long


class Door:
    """An ASGI middleware. A body is read here as a whole, so that nothing behind it meets one that is too long or never ends."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.taken = app, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-request-id", id.encode())]}
            await send(message)

        if scope["method"] in ("GET", "HEAD"):
            return await self.app(scope, receive, send_with_id)
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > LONGEST_BODY:
            return await _refuse(
                send_with_id, 413, f"the body has {int(length)} bytes; at most {LONGEST_BODY} are read"
            )
        size = int(length) if length.isdigit() else LONGEST_BODY
        if self.taken and self.taken + size > ROOM:
            return await _refuse(send_with_id, 503, "too much to do; ask again in a second", (b"retry-after", b"1"))
        self.taken += size
        try:
            body = await _read(receive)
            if body is None:
                return await _refuse(send_with_id, 413, f"the body is too long; at most {LONGEST_BODY} bytes are read")
            await self.app(scope, _once(body, receive), send_with_id)
        finally:
            self.taken -= size


async def _read(receive: Receive) -> bytes | None:
    """The body; None where it is too long or breaks off."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > LONGEST_BODY:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _once(body: bytes, receive: Receive) -> Receive:
    """Hand the body out, then what comes after it."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return parts.pop() if parts else await receive()

    return again


async def _refuse(send: Send, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
    body = json.dumps({"detail": [{"loc": ["body"], "msg": message}]}).encode()
    length = (b"content-length", str(len(body)).encode())
    start = {"status": status, "headers": [(b"content-type", b"application/json"), length, *headers]}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": body})
