"""Whole gradings of services that do harm instead of answering: they get no pass that counts, and the judge comes to its end."""

from __future__ import annotations

import time

import pytest
from poolkit import graded, passing, said

from grader import stages
from grader.overlays import checkpoint
from grader.verdict import Outcome

HARM = """
import gzip, json, os, socket, threading, time

KIND = {kind!r}
HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\n"
BOMB = gzip.compress(b" " * (200 << 20))


def whole(body, head=HEAD):
    return head + b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body


def answer(connection):
    asked = connection.recv(1 << 16)
    path = (asked.split(b" ") + [b"", b""])[1]
    if KIND == "silent":
        time.sleep(3600)
    if KIND == "endless":
        connection.sendall(HEAD + b"\\r\\n")
        while True:
            connection.sendall(b"x" * 65536)
    if KIND == "redirect":
        return connection.sendall(b"HTTP/1.1 307 Elsewhere\\r\\nLocation: http://127.0.0.1:1/\\r\\nContent-Length: 0\\r\\n\\r\\n")
    if KIND == "bomb":
        return connection.sendall(whole(BOMB, HEAD + b"Content-Encoding: gzip\\r\\n"))
    if KIND == "garbage":
        return connection.sendall(os.urandom(65536))
    if KIND == "dies" and b"predict" in path:
        os._exit(1)
    if KIND == "nested" and b"z" not in path:
        return connection.sendall(whole(b"[" * 200_000))
    if b"readyz" in path:
        return connection.sendall(whole(json.dumps({{"ready": True, "model_version": "1"}}).encode()))
    if b"metrics" in path:
        return connection.sendall(whole(b'mlekit_requests_total{{route="' + b"x" * (30 << 20) + b'"}} 1', b"HTTP/1.1 200 OK\\r\\n"))
    faults = [{{"loc": ["rows"], "msg": "no"}}]
    connection.sendall(whole(json.dumps({{"request_id": "a", "model_version": "1", "predictions": [], "detail": faults}}).encode()))


def serve(connection):
    try:
        with connection:
            answer(connection)
    except OSError:
        pass


if KIND == "never":
    time.sleep(3600)
with socket.create_server((os.environ["MLEKIT_HOST"], int(os.environ["MLEKIT_PORT"]))) as door:
    while True:
        threading.Thread(target=serve, args=door.accept()[:1], daemon=True).start()
"""
MOST_SECONDS = 600
# TODO: never, silent, endless, redirect, bomb, garbage, dies, nested and the other stage, each once it was seen to come to its end
SEEN = [("lies", "09"), ("endless", "08")]


@pytest.mark.study
@pytest.mark.parametrize(("kind", "stage"), SEEN)
def test_a_service_that_does_harm_gets_nothing_and_harms_nobody(kind, stage, tmp_path):
    checkpoint(stage, tmp_path / "work")
    (tmp_path / "work" / "flightdelay" / "serve.py").write_text(HARM.format(kind=kind))
    began = time.monotonic()
    result = graded(tmp_path / "work", stage, 5)
    critical = {check.id for check in stages.find(stage).checks if check.critical}
    assert not critical & passing(result), said(result)
    assert all(check.outcome in (Outcome.PASS, Outcome.FAIL, Outcome.BLOCKED) for check in result.checks), said(result)
    assert "Traceback" not in said(result)
    assert time.monotonic() - began < MOST_SECONDS
