"""Stage 08's tools: a client that nothing harms, the control, time alone, a registry that is changed, a description that is probed."""

from __future__ import annotations

import gzip
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress

import numpy as np
import pandas as pd
import pytest

from grader import services
from grader.checks import asking, charts
from grader.checks import s08_serving as stage
from grader.checks.api import Fault
from grader.contract import read_manifest
from grader.contract.outputs import Readiness
from grader.engine import case
from grader.overlays import checkpoint
from grader.sandbox import Limits, SandboxFault, choose
from grader.sandbox.process import Turns
from grader.sandbox.reader import INSIDE
from grader.services import Answer, Request
from grader.stores import Stores
from grader.submission import Submission
from grader.world import build, draw_rows, write_data


@pytest.fixture
def client(sandbox, tmp_path):
    (tmp_path / "client").mkdir()
    return services.Client(sandbox, tmp_path / "client")


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BOMB = gzip.compress(b" " * (50 << 20))


def misbehave(connection: socket.socket) -> None:
    """Answer one request as its path says."""
    path = connection.recv(65536).split(b" ")[1].decode()
    send = connection.sendall
    match path:
        case "/whole":
            send(HEAD + b"X-Request-ID: abc\r\nContent-Length: 2\r\n\r\n{}")
        case "/silent":
            time.sleep(3)
        case "/drip":
            send(HEAD + b"Content-Length: 1000\r\n\r\n")
            for _ in range(30):
                time.sleep(0.1)
                send(b" ")
        case "/endless":
            send(HEAD + b"\r\n")
            while True:
                send(b"x" * 65536)
        case "/redirect":
            send(b"HTTP/1.1 302 Found\r\nLocation: /whole\r\nContent-Length: 0\r\n\r\n")
        case "/bomb":
            send(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB)
        case "/short":
            send(HEAD + b"Content-Length: 1000\r\n\r\n{")
        case "/garbage":
            send(b"\x00\xff no HTTP at all\r\n\r\n")
        case "/headers":
            send(b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"y" * 200_000 + b"\r\n\r\n")
        case "/binary":
            send(HEAD + b"Content-Length: 3\r\n\r\n\xff\x00\x1b")


@contextmanager
def serving(answer):
    """A server that answers each connection by a function of it, in a thread of its own; its URL."""

    def quietly(connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            answer(connection)

    def serve() -> None:
        with suppress(OSError):  # it was closed
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=quietly, args=(connection,), daemon=True).start()

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def hostile():
    """A server that does harm, one connection a request; its URL."""
    with serving(misbehave) as url:
        yield url


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/whole", 200, None),
        ("/silent", None, "no whole answer within 1 seconds"),
        ("/drip", 200, "no whole answer within 1 seconds"),
        ("/endless", 200, "longer than 100,000 bytes"),
        ("/redirect", 302, None),
        ("/bomb", 200, None),
        ("/short", 200, "broke off"),
        ("/garbage", None, "no HTTP"),
        ("/headers", None, "no HTTP"),
        ("/closed", None, "closed without an answer"),
        ("/binary", 200, None),
    ],
)
def test_the_client_takes_no_harm_and_says_what_it_got(client, hostile, path, status, error):
    began = time.monotonic()
    (answer,) = client.ask(hostile, [Request("GET", path)], deadline=1, longest=100_000, keep=500).answers()
    assert time.monotonic() - began < 5
    assert answer.status == status
    assert (error in (answer.error or "")) if error else answer.error is None, answer
    assert len(answer.body) <= 2_500
    assert answer.sent <= answer.done


def test_an_encoded_answer_stays_packed_and_is_no_answer(client, hostile):
    (answer,) = client.ask(hostile, [Request("GET", "/bomb")]).answers()
    assert len(answer.body) < 1_000_000
    with pytest.raises(Fault, match=r"encoded \('gzip'\)"):
        asking.value_of(answer, 200, "we asked")
    (moved,) = client.ask(hostile, [Request("GET", "/redirect")]).answers()
    with pytest.raises(Fault, match="it has to get 200, and got status 302 to '/whole'"):
        asking.value_of(moved, 200, "we asked")


def test_requests_are_made_in_turn_counted_and_stopped(client, hostile):
    two = [Request("GET", "/whole"), Request("GET", "/redirect")]
    answers = client.ask(hostile, two, count=7).answers()
    assert [answer.request for answer in answers] == [0, 1, 0, 1, 0, 1, 0]
    assert answers[0].headers["x-request-id"] == "abc"
    until = client.ask(hostile, two[::-1], count=100, until=200).answers()
    assert [answer.status for answer in until] == [302, 200]
    load = client.ask(hostile, two, count=1_000_000, concurrency=3)
    while len(load.so_far()) < 20:
        time.sleep(0.01)
    load.stop()
    assert 20 <= len(load.answers()) < 100_000
    assert load.over()


def test_what_comes_unasked_on_a_kept_connection_is_no_answer(client):
    def answer(connection: socket.socket) -> None:
        while connection.recv(65536):
            connection.sendall(HEAD + b"Content-Length: 5\r\n\r\ntrue ")
            time.sleep(0.02)
            connection.sendall(HEAD + b"Content-Length: 5\r\n\r\nfalse")

    with serving(answer) as url:
        answers = client.ask(url, [Request("GET", "/")], count=4, pause=0.2).answers()
    assert [answer.body for answer in answers] == ["true "] * 4


def test_the_client_goes_by_several_names(client):
    names = set()

    def answer(connection: socket.socket) -> None:
        lines = connection.recv(65536).decode().splitlines()
        names.add(next(line for line in lines if line.lower().startswith("user-agent:")))
        connection.sendall(HEAD + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}")

    with serving(answer) as url:
        assert len(client.ask(url, [Request("GET", "/")], count=40).answers()) == 40
    assert len(names) > 2


def test_a_refused_connection_is_an_answer_of_its_kind(client):
    port = services.free_port()
    (answer,) = client.ask(f"http://127.0.0.1:{port}", [Request("GET", "/healthz")]).answers()
    assert answer.error == "the connection was refused"
    assert asking.got(answer) == "the connection was refused"


def test_a_client_that_ends_is_said(client, hostile):
    load = client.ask(hostile, [Request("GET", "/silent")])
    client._service.stop(0)
    with pytest.raises(SandboxFault, match="the client that asks the service ended"):
        load.answers()


def test_the_control_answers_what_it_is_asked(sandbox, client, tmp_path):
    (tmp_path / "control").mkdir()
    control = services.Control(sandbox, tmp_path / "control")
    rows = [{"row_id": "a", "carrier": "AA"}, {"row_id": "b"}]
    (answer,) = client.ask(control.url, [asking.question(rows)]).answers()
    assert [p.probability for p in asking.predicted(answer, rows, "we asked").predictions] == [0.5, 0.5]
    control.stop()


def got(status: int, body: str) -> Answer:
    return Answer(0, 0.0, 0.1, status, {}, body, None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("not json", "no JSON"),
        ('{"ready": NaN}', "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"ready": false, "ready": true}', "the key 'ready' twice"),
        ('{"ready": "yes"}', "ready is 'yes'"),
        ('{"ready": false}', "reason has to say why"),
        ("[]", "an object with keys"),
    ],
)
def test_an_answer_that_is_not_the_contracts_is_said(body, said):
    with pytest.raises(Fault, match="we asked; ") as fault:
        asking.parsed(Readiness, got(200, body), 200, "we asked")
    assert said in str(fault.value)


def test_predictions_have_to_be_those_of_the_rows_in_their_order():
    rows = [{"row_id": "a"}, {"row_id": "b"}]

    def answer(*ids: str) -> Answer:
        made = [{"row_id": id, "probability": 0.1} for id in ids]
        return got(200, json.dumps({"request_id": "r", "model_version": "1", "predictions": made}))

    assert asking.predicted(answer("a", "b"), rows, "we asked").model_version == "1"
    for ids, said in (
        (("b", "a"), "in another order"),
        (("a",), "1 predictions for 2 rows"),
        (("a", "c"), "not those"),
    ):
        with pytest.raises(Fault, match=said):
            asking.predicted(answer(*ids), rows, "we asked")


def test_rows_become_json_as_the_contract_has_it():
    world = build(5)
    table = draw_rows(world, world.months[2:3], 40, "json").table
    rows = asking.rows_of(stage.odd_rows(table))
    assert json.loads(asking.question(rows).body)["rows"] == rows
    odd = rows[-stage.ODD :]
    assert [row["row_id"] for row in odd] == [f"odd-{number}" for number in range(stage.ODD)]
    assert odd[0]["tailnum"] is None
    assert odd[1]["sched_arr"] is None
    assert odd[8]["sched_arr"] < odd[8]["sched_dep"]
    assert odd[9]["origin"] == odd[9]["dest"]
    assert odd[10]["carrier"] == ""
    for row in rows:
        assert pd.Timestamp(row["sched_dep"]).tz is not None
        assert type(row["flight_no"]) is int


def test_every_wrong_request_is_wrong_in_one_way_and_has_a_right_neighbour():
    row = asking.rows_of(draw_rows(build(5), build(5).months[2:3], 1, "wrong").table)[0]
    wrong = stage.wrong_requests(row)
    assert len({says for says, _, _ in wrong}) == len(wrong) == 27
    assert sum(len(names) == 1 for _, _, names in wrong) >= 12
    assert sum(len(names) == 2 for _, _, names in wrong) == 2
    right = asking.question([row]).body
    assert all(request.body != right for _, request, _ in wrong)
    long = stage.long_question([row]).body
    assert json.loads(long) == json.loads(right)
    assert (1 << 20) - 2000 < len(long) < 1 << 20


@pytest.mark.parametrize(
    ("header", "right"),
    [
        ("1", True),
        ("Wed, 21 Oct 2015 07:28:00 GMT", True),
        ("", False),
        ("soon", False),
        ("-1", False),
        ("1.5 s", False),
    ],
)
def test_when_to_ask_again_is_told_in_seconds_or_as_a_date(header, right):
    assert stage.says_when(Answer(0, 0.0, 0.0, 503, {"retry-after": header}, "", None)) == right


def test_a_body_is_sent_in_chunks_without_its_length(client):
    heard = []

    def answer(connection: socket.socket) -> None:
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += connection.recv(65536)
        heard.append(data.lower())
        connection.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")

    with serving(answer) as url:
        asked = Request("POST", "/", b"some text", {"Transfer-Encoding": "chunked"})
        assert [a.status for a in client.ask(url, [asked]).answers()] == [200]
    assert b"transfer-encoding: chunked" in heard[0]
    assert b"content-length" not in heard[0]
    assert b"some text" in heard[0]


def test_all_turns_at_once_means_that_nobody_else_has_one():
    turns, inside, most = Turns(2), [], []

    def work() -> None:
        with turns:
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    def alone() -> None:
        with turns.all():
            assert not inside
            time.sleep(0.05)
            assert not inside

    threads = [threading.Thread(target=target) for target in (work, alone, work, work, alone, work)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    with turns.all():  # both have been given back
        pass
    assert max(most) <= 2


def alter(database, *words: str) -> None:
    subprocess.run([sys.executable, "-I", INSIDE / "alter_registry.py", str(database), *words], check=True)


def test_a_registry_is_changed_broken_and_mended(tmp_path):
    Stores(choose("plain"), tmp_path / "scratch").lay_down(tmp_path / "store")
    database = tmp_path / "store" / "mlflow.db"

    def asked(question: str) -> list[tuple]:
        with closing(sqlite3.connect(database)) as connection:
            return connection.execute(question).fetchall()

    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO registered_models (name) VALUES ('m')")
        connection.execute(
            "INSERT INTO model_versions (name, version, current_stage, source, run_id, status) VALUES ('m', 1, 'None', 's', 'r', 'READY')"
        )
    connection.close()
    alter(database, "add", "m", "2", "models:/m-0", "run")
    alter(database, "champion", "m", "2")
    versions = asked("SELECT version, source, run_id, status FROM model_versions ORDER BY version")
    assert versions == [(1, "s", "r", "READY"), (2, "models:/m-0", "run", "READY")]
    assert asked("SELECT alias, version FROM registered_model_aliases") == [("champion", 2)]
    alter(database, "champion", "m", "1")
    assert asked("SELECT alias, version FROM registered_model_aliases") == [("champion", 1)]
    alter(database, "break", "m", "0")
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        asked("SELECT * FROM model_versions")
    alter(database, "mend", "m", "0")
    assert len(asked("SELECT * FROM model_versions")) == 2
    alter(database, "no-champion", "m", "0")
    assert asked("SELECT * FROM registered_model_aliases") == []


LYING = """
import sys, uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel

class Answer(BaseModel):
    ready: bool

app = FastAPI()

@app.get("/readyz", response_model=Answer)
async def ready():
    return JSONResponse({"ready": "perhaps"})

@app.get("/healthz")
async def alive():
    raise RuntimeError

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical")
"""


def test_a_service_is_held_to_its_description(tmp_path):
    port = services.free_port()
    process = subprocess.Popen([sys.executable, "-c", LYING, str(port)])
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None
            time.sleep(0.05)
        out = tmp_path / "found.json"
        subprocess.run(
            [sys.executable, INSIDE / "probe_openapi.py", f"http://127.0.0.1:{port}", "5", out], check=True, timeout=100
        )
        found = json.loads(out.read_text())
    finally:
        process.kill()
        process.wait()
    assert found["operations"] == ["GET /readyz", "GET /healthz"]
    assert found["fields"] == {"GET /readyz": ["ready"], "GET /healthz": []}
    said = {(fault["operation"], fault["said"].split(":")[0]) for fault in found["faults"]}
    assert ("GET /healthz", "Server error") in said
    assert ("GET /readyz", "Response violates schema") in said
    assert {operation for operation, _ in said} == {"GET /readyz", "GET /healthz"}


def test_no_description_is_a_problem_with_a_sentence(tmp_path):
    out = tmp_path / "found.json"
    url = f"http://127.0.0.1:{services.free_port()}"
    subprocess.run([sys.executable, INSIDE / "probe_openapi.py", url, "5", out], check=True, timeout=100)
    assert json.loads(out.read_text())["problem"].startswith("it cannot be used")


def test_shares_of_times_become_a_chart_with_the_control_as_its_reference():
    chart = charts.shares("t", "milliseconds", {"mine": np.arange(1.0, 101), "control": np.arange(1.0, 11)})
    assert [series.name for series in chart.series] == ["mine"]
    assert chart.reference.name == "control"
    assert "mine: half within 50.5" in chart.says


COUNTS_ITS_STARTS = """
import os, signal, sys, time
from pathlib import Path
count = Path(os.environ["MLEKIT_STATE"], "starts")
count.write_text(str(int(count.read_text()) + 1 if count.exists() else 1))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(count.read_text())))
Path(os.environ["MLEKIT_STATE"], "ready").touch()
time.sleep(60)
"""


def test_a_service_goes_on_where_it_left_off_and_is_laid_down_once(sandbox, tmp_path):
    home, out, found = tmp_path / "submission", tmp_path / "out", tmp_path / "case"
    home.mkdir()
    out.mkdir()
    (home / "pyproject.toml").write_text("[tool.mlekit]\ncontract = 1\n")
    (home / "serve.py").write_text(COUNTS_ITS_STARTS)
    submission = Submission(home, read_manifest(home), sandbox)
    submission.labels[out] = "service"
    codes = []
    for _ in range(2):
        (out / "state" / "ready").unlink(missing_ok=True)
        running = submission.start("serve", ["python", "serve.py"], [], out, Limits(seconds=60), {"MLEKIT_PORT": "1"})
        while not (out / "state" / "ready").exists():
            assert running.ended() is None
            time.sleep(0.02)
        codes.append(running.stop(10).finished.code)
        assert running.stop().finished.code == codes[-1]  # told twice, it ended once
    assert codes == [1, 2]
    assert submission.seconds > 0
    case.lay_down(found, home, submission, ())
    assert "export MLEKIT_PORT=1" in (found / "1-service" / "run.sh").read_text()
    assert len(list(found.iterdir())) == 1


PARITY = """
import sys
from pathlib import Path
folder, out = Path(sys.argv[1]), sys.argv[2]
from flightdelay.data import DataFolder, read_table
from flightdelay.definitions import read_definitions
from flightdelay.features import compute_features
from flightdelay.usecase import read_usecase
rows = read_table(folder / "rows.parquet")
spec = read_definitions(folder / "features.toml")
compute_features(spec, read_usecase(folder / "usecase.toml"), DataFolder(folder / "data"), rows).write_parquet(out)
"""
MORE_FEATURES = """
[[feature]]
name = "month"
kind = "calendar"
of = "sched_dep"
part = "month"
zone = "Australia/Lord_Howe"

[[feature]]
name = "hour_there"
kind = "calendar"
of = "sched_arr"
part = "hour"
zone = "Asia/Kathmandu"

[[feature]]
name = "name_of_the_airline"
kind = "lookup"
table = "airlines"
by = ["carrier"]
column = "name"

[[feature]]
name = "flights_of_the_route"
kind = "count"
table = "flights"
by = ["origin", "dest"]
column = "arr_delay_min"
window = "P3D"
"""


def test_features_made_ready_once_are_those_of_the_joins(tmp_path):
    """Stage 08 finds features by searching arrays, stage 04 by joining tables: two ways to one result."""
    world = build(7)
    months = world.months[:2]
    rows = draw_rows(world, months[1:], 400, "parity")
    write_data(world, tmp_path / "data", months, 2_000, without=rows)
    odd = stage.odd_rows(rows.table)
    odd.loc[odd.index[-1], "sched_dep"] = pd.Timestamp("1900-01-01T00:00:00Z")
    odd.to_parquet(tmp_path / "rows.parquet")
    checkpoint("08", tmp_path / "new")
    checkpoint("07", tmp_path / "old")
    (tmp_path / "features.toml").write_text((tmp_path / "new" / "features.toml").read_text() + MORE_FEATURES)
    stage.running.usecase(tmp_path)
    found = []
    for name in ("old", "new"):
        out = tmp_path / f"{name}.parquet"
        subprocess.run([sys.executable, "-c", PARITY, tmp_path, out], cwd=tmp_path / name, check=True)
        found.append(pd.read_parquet(out))
    for name in found[0]:
        one, other = found[0][name], found[1][name]
        assert one.isna().tolist() == other.isna().tolist(), name
        if one.dtype == object or isinstance(one.dtype, pd.StringDtype):
            assert one.dropna().tolist() == other.dropna().tolist(), name
        else:
            assert np.allclose(one.astype(float), other.astype(float), rtol=1e-12, atol=0, equal_nan=True), name
    assert found[0]["flights_of_the_route"].max() > 1
    assert found[0]["name_of_the_airline"].isna().any()
