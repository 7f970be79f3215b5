"""Stage 07's tools: a source that fails as planned, moments of death, months of which the truth is known, Prefect's server."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import sqlite3
import subprocess
import threading
import time
import tomllib
import urllib.error
import urllib.request
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime

import pandas as pd
import pytest

from grader import services, stores
from grader.checks import s07_pipeline as stage
from grader.contract import OutputProblem, parse_output, read_manifest
from grader.contract.outputs import PipelineRecord
from grader.engine import case
from grader.sandbox import Limits, Mount, SandboxFault
from grader.sandbox.base import Job
from grader.sandbox.reader import INSIDE, TOOL_ENVIRONMENT
from grader.stores import TooMuch
from grader.submission import Server, Submission
from grader.world import build, deliveries, write_data
from grader.world.feeds import COLUMNS

BODY = bytes(range(256)) * 40


@pytest.fixture
def source(sandbox, tmp_path):
    """A function that starts a source with a plan for the file M/a.bin."""

    def start(*answers: str) -> services.Source:
        folder, scratch = tmp_path / "files", tmp_path / "own"
        (folder / "M").mkdir(parents=True)
        scratch.mkdir()
        (folder / "M" / "a.bin").write_bytes(BODY)
        return services.Source(sandbox, folder, scratch, {"M/a.bin": answers})

    return start


def get(url: str, seconds: float = 10) -> bytes:
    with urllib.request.urlopen(url, timeout=seconds) as answer:
        return answer.read()


def test_a_source_fails_as_planned_and_then_hands_out_the_file(source):
    made = source("503", "short", "garbled", "cut", "hang")
    url = f"{made.url}/M/a.bin"
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(url)
    assert refused.value.code == 503
    assert get(url) == BODY[: len(BODY) // 2]
    garbled = get(url)
    assert len(garbled) == len(BODY)
    assert garbled != BODY
    with pytest.raises(Exception, match="IncompleteRead"):
        get(url)
    with pytest.raises(TimeoutError):
        get(url, seconds=0.5)
    assert get(url) == BODY
    assert [call.answer for call in made.calls()] == ["503", "short", "garbled", "cut", "hang", "whole"]
    times = [call.at for call in made.calls()]
    assert times == sorted(times)


def test_a_source_can_fail_for_ever_and_has_nothing_else_to_give(source):
    made = source("500", "503", "always")
    for code in (500, 503, 503, 503):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(f"{made.url}/M/a.bin")
        assert refused.value.code == code
    for path in ("M/b.bin", "../own/plan.json", "%2e%2e/own/plan.json", "", "M"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(f"{made.url}/{path}")
        assert refused.value.code == 404


def test_a_dripping_source_says_something_all_the_time_and_never_all(source):
    made = source("drip")
    with urllib.request.urlopen(f"{made.url}/M/a.bin", timeout=2) as answer:
        assert [answer.read(1) for _ in range(3)] == [b"P"] * 3
        assert int(answer.headers["Content-Length"]) > 100


def test_a_source_answers_others_while_one_waits(source):
    made = source("hang")
    with closing(socket.create_connection(("127.0.0.1", int(made.url.rsplit(":", 1)[1])))) as waiting:
        waiting.sendall(b"GET /M/a.bin HTTP/1.0\r\n\r\n")
        while not made.calls():
            time.sleep(0.01)
        assert get(f"{made.url}/M/a.bin") == BODY


def test_two_calls_meet_and_one_that_stays_alone_is_answered(source):
    made, times = source("meet", "meet"), []
    url, began = f"{made.url}/M/a.bin", time.monotonic()

    def ask() -> None:
        assert get(url) == BODY
        times.append(time.monotonic() - began)

    first = threading.Thread(target=ask)
    first.start()
    time.sleep(1)
    ask()
    first.join()
    assert len(times) == 2
    assert max(times) - min(times) < 1 < min(times) < 4


def test_a_source_without_files_says_that_it_did_not_start(sandbox, tmp_path):
    (tmp_path / "files").mkdir()
    scratch = tmp_path / "own"
    scratch.mkdir()
    (scratch / "calls.jsonl").mkdir()
    with pytest.raises((SandboxFault, OSError)):
        services.Source(sandbox, tmp_path / "files", scratch, {})


WRITES_THEN_WAITS = """
import os, pathlib, subprocess, sys, time
state = pathlib.Path(os.environ["MLEKIT_STATE"])
subprocess.Popen([sys.executable, "-c", "import time, pathlib, sys; time.sleep(2); pathlib.Path(sys.argv[1]).touch()", str(state / "late")])
(state / "begun").write_text((state / "begun").read_text() + "x" if (state / "begun").exists() else "x")
time.sleep(60)
"""


def test_a_command_is_killed_at_its_moment_with_all_its_processes_and_the_next_finds_what_it_left(sandbox, tmp_path):
    home = tmp_path / "submission"
    home.mkdir()
    (home / "pyproject.toml").write_text("[tool.mlekit]\ncontract = 1\n")
    (home / "wait.py").write_text(WRITES_THEN_WAITS)
    submission = Submission(home, read_manifest(home), sandbox)
    state = None
    for number in (1, 2):
        out = tmp_path / f"out{number}"
        out.mkdir()
        text = "x" * number
        begun = out / "state" / "begun"
        ran = submission.run(
            "wait", ["python", "wait.py"], [], out, Limits(seconds=60), state=state,
            kill_when=lambda begun=begun, text=text: begun.exists() and begun.read_text() == text,
        )  # fmt: skip
        assert ran.finished.ended == "cancelled"
        assert ran.finished.seconds < 30
        state = ran.state
        assert (state / "begun").read_text() == text
    time.sleep(2.5)
    assert not (state / "late").exists()
    assert submission.seconds > 0


def test_a_command_that_ends_before_its_moment_is_left_alone(sandbox, tmp_path):
    home, out = tmp_path / "submission", tmp_path / "out"
    home.mkdir()
    out.mkdir()
    (home / "pyproject.toml").write_text("[tool.mlekit]\ncontract = 1\n")
    ran = Submission(home, read_manifest(home), sandbox).run(
        "end", ["python", "-c", "raise SystemExit(3)"], [], out, Limits(seconds=60), kill_when=lambda: False
    )
    assert (ran.finished.ended, ran.finished.code) == ("exited", 3)


def test_the_watcher_sees_a_row_at_once_and_takes_no_lock(sandbox, tmp_path):
    (tmp_path / "store").mkdir()
    database = tmp_path / "store" / stores.DATABASE
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE versions (name)")
        connection.commit()
        kit, store = Mount(INSIDE, "kit"), Mount(tmp_path / "store", stores.NAME)
        job = Job(
            ["python", kit / "watch_store.py", store / stores.DATABASE, "nothing", "versions"], [kit, store], cwd=store,
            env={**TOOL_ENVIRONMENT, "HOME": "/tmp"}, limits=Limits(seconds=60), network=False,
        )  # fmt: skip
        watcher = sandbox.start(job)
        time.sleep(1)
        assert watcher.poll() is None
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("INSERT INTO versions VALUES ('1')")
        time.sleep(0.5)
        assert watcher.poll() is None
        connection.commit()
        began = time.monotonic()
        assert watcher.wait().ok
        assert time.monotonic() - began < 2


ASKS_TWICE = """
import sys, urllib.request
for _ in range(2):
    try:
        with urllib.request.urlopen(sys.argv[1] + "/M/a.bin") as answer:
            print("got", len(answer.read()))
    except OSError as problem:
        print("failed", problem)
"""


def test_a_run_that_talked_to_a_source_can_be_run_again(sandbox, source, tmp_path):
    """What `why` lays down starts the source again, with the same failures."""
    home, out, found = tmp_path / "submission", tmp_path / "out", tmp_path / "case"
    home.mkdir()
    out.mkdir()
    (home / "pyproject.toml").write_text("[tool.mlekit]\ncontract = 1\n")
    (home / "ask.py").write_text(ASKS_TWICE)
    submission, made = Submission(home, read_manifest(home), sandbox), source("503")
    submission.servers[made.url] = Server(tmp_path / "files", tmp_path / "own" / "plan.json")
    submission.labels |= {out: "asking", tmp_path / "files": "months", tmp_path / "own": "source-of-asking"}
    ran = submission.run("ask", ["python", "ask.py", made.url], [], out, Limits(seconds=60), network=True, cached=False)
    made.stop()
    said = f"failed HTTP Error 503: Service Unavailable\ngot {len(BODY)}\n"
    assert ran.finished.output == said
    case.lay_down(found, home, submission, ())
    assert (found / "source-of-asking-plan.json").exists()
    script = found / "1-asking" / "run.sh"
    again = subprocess.run(["sh", str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert again.stdout == said, again.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Deliveries of three worlds, by seed."""
    found = {}
    for seed in (3, 4, 5):
        world, history = build(seed), tmp_path_factory.mktemp(f"history-{seed}")
        write_data(world, history, deliveries.months_of(world)[0], 1_500)
        found[seed] = deliveries.make_deliveries(world, history, 1_500)
    return found


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_months_arrive_after_the_history_and_not_in_the_order_of_the_calendar(made, seed):
    found = made[seed]
    months = [*found.history, *found.feeds]
    assert months == sorted(months)
    assert len(months) == len(set(months)) == 5
    assert sorted(found.order) == list(found.feeds) != found.order
    assert found.now > f"{months[-1]}-31"
    assert {feed.status for feed in found.feeds.values()} == {"quarantined"}
    assert found.spoiled.status == "refused"


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_each_month_has_flights_that_are_to_come_and_the_first_is_put_right(made, seed):
    found = made[seed]
    for feed in found.feeds.values():
        times = feed.tables["flights"].column("sched_dep").to_pylist()
        to_come = {row for row, time in enumerate(times) if time > datetime.fromisoformat(found.now)}
        assert 12 <= len(to_come) < 50
        assert to_come <= feed.wrong_rows("flights")
    before, after = (feed.tables["flights"].to_pylist() for feed in (found.feeds[found.order[0]], found.corrected))
    assert found.corrected.status == "accepted"
    ids = [{row["flight_id"] for row in rows if row["flight_id"]} for rows in (before, after)]
    assert ids[1] < ids[0] or len(ids[0] - ids[1]) >= 30
    distances = {row["flight_id"]: row["distance_miles"] for row in before}
    assert sum(row["distance_miles"] - distances.get(row["flight_id"], -1) == 1 for row in after) >= 30


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_accepted_rows_are_those_that_are_not_wrong(made, seed):
    for feed in made[seed].feeds.values():
        for name in ("flights", "weather"):
            right = stage.accepted(feed, name)
            assert right.num_rows == feed.tables[name].num_rows - len(feed.wrong_rows(name))
            assert right.column_names == COLUMNS[name]


@pytest.mark.parametrize("seed", [3, 4, 5, 11])
def test_no_ordinary_month_comes_near_a_threshold_whatever_its_season(seed, tmp_path):
    """July has a fifth more nulls in `wind_gust` than March: a fault by the published use case, and none by that of the stage."""
    world = build(seed)
    known, arriving, _ = deliveries.months_of(world)
    write_data(world, tmp_path, known, 1_500)
    before = {table: pd.read_parquet(tmp_path / table) for table in ("flights", "weather")}
    rules = tomllib.loads(deliveries.usecase_of(world))
    for name in arriving:
        for table, frame in deliveries._draft(world, known, name, before, 1_500).frames.items():
            more = (frame.isna().mean() - before[table].isna().mean()).max()
            assert more < rules["feeds"]["null_share"] - 0.05
            for column in rules["tables"][table]["steady"]:
                factor = frame[column].mean() / before[table][column].mean()
                assert 1 / 1.25 < factor < 1.25 < rules["feeds"]["mean_factor"]


WEATHER = {name: [f"{name}{row}" for row in range(4)] for name in COLUMNS["weather"]}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([0, 1, 2], "lacks 1 rows and has 0 too many"),
        ([0, 1, 2, 3, 3], r"lacks 0 rows and has 1 too many \(1 of them doubled\)"),
        ([], "lacks 4 rows"),
    ],
)
def test_rows_that_are_lost_or_doubled_are_told(rows, says):
    wanted = stage._rows(WEATHER, "weather")
    got = stage._rows({name: [values[row] for row in rows] for name, values in WEATHER.items()}, "weather")
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(stage._difference(got, wanted, "weather"))


def test_a_changed_value_is_told_and_whole_numbers_may_be_reals():
    wanted = stage._rows({**WEATHER, "temp": [1, 2, None, 4]}, "weather")
    assert stage._rows({**WEATHER, "temp": [1.0, 2.0, float("nan"), 4.0]}, "weather") == wanted
    got = stage._rows({**WEATHER, "temp": [1, 2, 3, 4]}, "weather")
    assert stage._difference(got, wanted, "weather") == "has the right rows, 1 of them with other values"


def month(**said):
    return {"month": "2013-04", "status": "accepted", "rows_in": 3, "rows_accepted": 3, "rows_quarantined": 0, **said}


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ([month()], None),
        ([month(status="failed", reason="the source says nothing")], None),
        ([month(status="failed")], "reason has to say why"),
        ([month(status="refused", reason=" ")], "reason has to say why"),
        ([month(status="done")], "status"),
        ([month(rows_in=-1)], "rows_in"),
    ],
)
def test_a_month_that_is_not_had_needs_a_reason(said, problem):
    value = {"flow_run_id": "x", "months": said, "version": None, "promoted": False}
    if problem is None:
        assert parse_output(PipelineRecord, value).months[0].month == "2013-04"
    else:
        with pytest.raises(OutputProblem, match=problem):
            parse_output(PipelineRecord, value)


def test_prefects_server_is_there_and_knows_nothing_of_what_never_ran(sandbox, tmp_path):
    server = services.Prefect(sandbox, tmp_path)
    try:
        assert server.answers()
        for id in ("no id", "00000000-0000-0000-0000-000000000000"):
            assert server.flow_run(id) is None
            assert server.task_runs(id) == []
    finally:
        server.stop()
    assert not server.answers()


def test_a_plan_of_failures_is_survivable_by_the_contract():
    """What the checks plan stays within what the contract promises: at most three failures of a file in a row."""
    plans = [stage.plan_for("2013-04", seed) for seed in range(40)]
    assert max(len(answers) for plan in plans for answers in plan.values()) <= stage.pipelines.FAILURES_IN_A_ROW
    seen = Counter(answer for plan in plans for answers in plan.values() for answer in answers)
    assert set(seen) == {"500", "503", "hang", "drip", "short", "cut", "garbled"}
    assert len({json.dumps(plan) for plan in plans}) > 5


def prefect_that_says(monkeypatch, answers):
    """A client of a Prefect server that gives these answers, by the kind of what is asked, and the questions it got."""
    asked = []

    def urlopen(request, timeout):
        kind = request.full_url.split("/")[-2]
        asked.append((kind, json.loads(request.data)))
        return io.BytesIO(answers[kind].pop(0))

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    server = object.__new__(services.Prefect)
    server.url = "http://127.0.0.1:9/api"
    return server, asked


TOO_MUCH = b"[" + b" " * services.MAX_ANSWER + b"]"


@pytest.mark.parametrize(
    ("kind", "answers"),
    [
        ("flow_runs", {"flow_runs": [TOO_MUCH]}),
        ("task_runs", {"flow_runs": [b"[]"], "task_runs": [TOO_MUCH]}),
    ],
)
def test_more_than_anybody_reads_in_prefects_server_is_no_fault_of_ours(monkeypatch, kind, answers):
    server, _ = prefect_that_says(monkeypatch, answers)
    with pytest.raises(TooMuch, match=f"{kind} has more than 8 MB"):
        server.task_runs("x")


def test_tasks_of_flows_that_a_flow_calls_are_asked_for_too(monkeypatch):
    levels = [b'[{"id": "month 1"}, {"id": "month 2"}]', b'[{"id": "below"}]', b"[]"]
    server, asked = prefect_that_says(monkeypatch, {"flow_runs": levels, "task_runs": [b'[{"name": "ingest-1"}]']})
    assert server.task_runs("monthly") == [{"name": "ingest-1"}]
    assert asked[-1][1]["flow_runs"]["id"]["any_"] == ["monthly", "month 1", "month 2", "below"]
    endless, asked = prefect_that_says(monkeypatch, {"flow_runs": [b'[{"id": "again"}]'] * 99, "task_runs": [b"[]"]})
    assert endless.task_runs("calls itself") == []
    assert len(asked) < 10


@pytest.mark.parametrize(
    ("began", "ended", "said"),
    [
        ("2024-05-01T10:00:00Z", "2024-05-01T10:00:30.5+00:00", ""),
        ("2024-05-01T10:00:21Z", "2024-05-01T10:00:30Z", "began 20.0 s after"),
        ("2024-05-01T10:00:00Z", "2024-05-01T10:00:15Z", "had ended 5.0 s before"),
        (None, "2024-05-01T10:00:30Z", "no beginning"),
        ("soon", "later", "no beginning"),
    ],
)
def test_a_flow_run_has_to_be_there_while_the_source_is_asked(began, ended, said):
    first = datetime(2024, 5, 1, 10, 0, 1, tzinfo=UTC).timestamp()
    calls = [services.Call("a", first, "503"), services.Call("a", first + 19, "whole")]
    problem = stage._elsewhen({"start_time": began, "end_time": ended}, calls)
    assert (said in problem) if said else not problem, problem


@pytest.fixture
def patient(reference, monkeypatch):
    """How the reference fetches, with a second of patience."""
    from flightdelay import source as fetching

    monkeypatch.setattr(fetching, "PATIENCE", 1.0)
    return fetching


@pytest.mark.parametrize(
    ("way", "expected"), [("whole", b"hello"), ("drip", "NotDelivered"), ("short", "NotDelivered"), ("404", "NotThere")]
)
def test_the_reference_waits_for_all_of_an_answer_not_for_each_byte(patient, way, expected):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Long: " + b"y" * 100 + b"\r\n\r\nhello"

    def tell(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(4096)
            match way:
                case "whole":
                    connection.sendall(answer)
                case "drip":  # the head alone takes twenty seconds, and no pause is longer than a fifth of one
                    for byte in answer:
                        connection.sendall(bytes([byte]))
                        time.sleep(0.2)
                case "short":
                    connection.sendall(answer[:-2])
                case "404":  # nothing is waited for that does not matter
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n")
                    time.sleep(5)

    with socket.create_server(("127.0.0.1", 0)) as server:
        teller = threading.Thread(target=lambda: tell(server.accept()[0]), daemon=True)
        teller.start()
        began = time.monotonic()
        try:
            found = patient._get(f"http://127.0.0.1:{server.getsockname()[1]}/a")
        except (patient.NotDelivered, patient.NotThere) as problem:
            found = type(problem).__name__
        assert found == expected
        assert time.monotonic() - began < 3
