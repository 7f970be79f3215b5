"""The stack of docker-compose.yml, brought up for real: a year walked through, asked as stages 08 and 09 ask, killed, and put away.

    pytest -q -m engine -n 0

One stack for all tests, which live through it in the order in which they stand here; each takes up what the one before left.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import threading
import time
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import stackkit
from prometheus_client.parser import text_string_to_metric_families
from stackkit import Stack, said

from grader.checks.asking import PREDICT, question, rows_of
from grader.checks.s08_serving import odd_rows, strange_requests, wrong_requests
from grader.checks.s09_observability import ODD_IDS
from grader.contract.serving import MAX_ROWS
from grader.sandbox.inside import probe_openapi
from grader.world.replay import make_season

pytestmark = pytest.mark.engine

HEALTHY_SECONDS = 180
OURS = {"mlflow", "prefect", "worker", "api-1", "api-2", "pages", "world"}


@pytest.fixture(scope="module", autouse=True)
def engine():
    """Also told to end (SIGTERM) the run takes down what it brought up."""
    if why := stackkit.lacking():
        pytest.skip(f"not run: {why}")

    def ended(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, ended)
    yield
    signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def brought_down(stack):
    stack.down("--volumes")  # what a run that was killed left behind
    try:
        yield stack
    finally:
        stack.down("--volumes")


@pytest.fixture(scope="module")
def stack(engine, tmp_path_factory):
    with brought_down(Stack("tests", tmp_path_factory.mktemp("stack"))) as made:
        made.up_seconds = made.up()
        yield made


@pytest.fixture(scope="module")
def other(engine, tmp_path_factory):
    """A second stack beside the first, not up yet."""
    with brought_down(Stack("beside", tmp_path_factory.mktemp("other"))) as made:
        yield made


@pytest.fixture(scope="module")
def season():
    return make_season(5)  # the WORLD_SEED of the stack


@pytest.fixture(scope="module")
def kept():
    """What one test leaves for another."""
    return SimpleNamespace()


def asked_about(season, step, count=None):
    """Flights of the month after a step, as they are asked about, and which were late."""
    scored = season.scored[season.month(step + 1)]
    return rows_of(scored.table.head(count) if count else scored.table), scored.late[:count]


# It comes up, confined


def test_all_is_healthy_in_time(stack):
    assert stack.up_seconds < HEALTHY_SECONDS, stack.states()
    assert set(stack.inspect()) == {
        "postgres",
        "mlflow",
        "prefect",
        "worker",
        "api-1",
        "api-2",
        "proxy",
        "pages",
        "prometheus",
        "world",
    }


def test_there_is_no_password_in_an_image_nor_in_a_log(stack):
    secret = stack.settings["POSTGRES_PASSWORD"]
    for image in sorted({one["Image"] for one in stack.inspect().values()}):
        told = said("docker", "history", "--no-trunc", image).stdout + said("docker", "inspect", image).stdout
        assert secret not in told
        (about,) = json.loads(said("docker", "inspect", image).stdout)
        assert not [name for name in about["Config"]["Env"] if re.search(r"(?i)passw|secret|token", name)], image
    for name in stack.ids():
        assert secret not in stack.log(name, 100_000), f"{name} prints the password"


def test_only_who_needs_the_password_has_it(stack):
    secret = stack.settings["POSTGRES_PASSWORD"]
    holders = {
        (name, setting.partition("=")[0])
        for name, one in stack.inspect().items()
        for setting in one["Config"]["Env"]
        if secret in setting
    }
    assert holders == {
        ("postgres", "POSTGRES_PASSWORD"), ("mlflow", "MLFLOW_BACKEND_STORE_URI"), ("prefect", "PREFECT_API_DATABASE_CONNECTION_URL"),
    }  # fmt: skip


def test_each_container_is_confined_as_it_runs(stack):
    for name, one in stack.inspect().items():
        host = one["HostConfig"]
        users = said("docker", "top", stack.ids()[name], "-o", "uid,pid").stdout.split("\n")[1:]
        assert users, name
        assert not [line for line in users if line.split()[:1] == ["0"]], f"{name} has a process of root: {users}"
        assert host["ReadonlyRootfs"] is True, name
        assert not host["CapAdd"], name
        assert host["CapDrop"] == ["ALL"], name
        assert not host["Privileged"], name
        assert host["Memory"] > 0, name
        assert host["PidsLimit"] > 0, name
        for port, places in (one["NetworkSettings"]["Ports"] or {}).items():
            assert {place["HostIp"] for place in places or []} <= {"127.0.0.1"}, (name, port, places)
    for name in OURS & set(stack.ids()):
        tried = said("docker", "exec", stack.ids()[name], "touch", "/app/written")
        assert tried.returncode, f"{name} can write to its image"
        assert "Read-only" in tried.stdout or "denied" in tried.stdout, tried.stdout


# The first months


def test_the_first_champion_answers(stack):
    answer = stack.answered(0, 240)
    assert (answer["decision"], answer["versions"], answer["champion"]) == ("retrain", ["1"], "1")
    url = stack.url("API_PORT") + "/readyz"
    ready = stack.wait(
        "ready", lambda: (found := httpx.get(url, timeout=5)).status_code == 200 and found.json(), 60, "proxy", "api-1"
    )
    assert ready == {"ready": True, "model_version": "1"}
    assert stack.champion() == "1"


def test_two_months_that_pass_before_an_answer_are_answered_in_their_order(stack, season):
    wrong = season.month(season.story.wrong)
    assert season.story.wrong == 1, "the walk is that of another seed"
    stack.docker("pause", "worker")  # it looks for neither before both are there
    try:
        assert stack.next_month().startswith("step 1:")
        assert stack.next_month().startswith("step 2:")
    finally:
        stack.docker("unpause", "worker")
    second = stack.answered(2, 240)
    first = stack.answers()[1]
    assert first["at"] < second["at"]
    said_of = [{one["month"]: one["status"] for one in answer["months"]} for answer in (first, second)]
    assert said_of == [{wrong: "refused"}, {wrong: "refused", season.month(2): "accepted"}]
    assert (first["decision"], second["decision"], second["champion"]) == ("keep", "keep", "1")


# As stages 08 and 09 ask it, through the proxy


@pytest.fixture(scope="module")
def rows(season):
    return asked_about(season, 5, 300)[0]


def send(stack, request):
    return httpx.request(
        request.method, stack.url("API_PORT") + request.path, content=request.body, timeout=30,
        headers={"Content-Type": "application/json", **request.headers},
    )  # fmt: skip


def test_what_is_wrong_is_refused_and_the_field_is_named(stack, rows):
    for says, request, names in wrong_requests(rows[0]):
        answer = send(stack, request)
        assert 400 <= answer.status_code < 500, (
            f"{says}: {answer.status_code} {answer.text[:200]}\n{stack.log('api-1')}"
        )
        for name in names:
            assert any(name in fault["loc"] for fault in answer.json()["detail"]), f"{says}: {answer.text[:300]}"
    for says, request in strange_requests(rows[0]):
        answer = send(stack, request)
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, (
            f"{says}: {answer.status_code} {answer.text[:200]}"
        )
    assert send(stack, question(rows[:3])).status_code == 200


def test_limits_are_those_of_the_contract(stack, rows):
    many = [{**rows[number % len(rows)], "row_id": str(number)} for number in range(MAX_ROWS + 1)]
    assert len(stack.predict(many[:-1]).json()["predictions"]) == MAX_ROWS
    assert 400 <= stack.predict(many).status_code < 500


def test_answers_are_the_same_alone_together_and_from_each_replica(stack, season):
    table = season.scored[season.month(6)].table.head(60)
    together = rows_of(odd_rows(table))
    version, right = stack.probabilities(together)
    assert stack.probabilities(together[::-1])[1][::-1] == pytest.approx(right, abs=1e-9)
    alone = [stack.probabilities([row]) for row in together]
    assert {said_by for said_by, _ in alone} == {version}
    assert [p for _, (p,) in alone] == pytest.approx(right, abs=1e-9)
    program = (
        "import json, sys, urllib.request as u; "
        f"r = u.Request('http://127.0.0.1:8000{PREDICT}', sys.argv[1].encode(), {{'Content-Type': 'application/json'}}); "
        "print(json.dumps([p['probability'] for p in json.load(u.urlopen(r))['predictions']]))"
    )
    for number in (1, 2):
        heard = stack.run_in(f"api-{number}", "python", "-c", program, json.dumps({"rows": together}))
        assert json.loads(heard) == pytest.approx(right, abs=1e-9), number


def test_it_is_as_its_description_says(stack):
    found = probe_openapi.probe(stack.url("API_PORT"), 5)
    assert not found.get("problem"), found
    assert set(found["operations"]) >= {"POST /v1/predict", "GET /healthz", "GET /readyz", "GET /version"}
    assert {"rows", "row_id", "carrier", "request_id", "model_version", "predictions"} <= set(
        found["fields"]["POST /v1/predict"]
    )
    assert found["asked"] > 50
    assert not found["faults"], found["faults"]


def counted(stack):
    """By metric and labels, what both replicas have counted."""
    found: dict[tuple, float] = {}
    for number in (1, 2):
        for family in text_string_to_metric_families(stack.ask_replica(number, "/metrics")):
            for sample in family.samples:
                key = (sample.name, *sorted(sample.labels.items()))
                found[key] = found.get(key, 0.0) + sample.value
    return found


def recorded(stack, ids):
    """What the records of both replicas hold of some requests: (row_id, version, probability) by id, and who has it."""
    program = (
        "import json, subprocess, sys, polars as pl; "
        "subprocess.run([sys.executable, '-m', 'flightdelay.export_log', '--state', '/serving', '--out', '/tmp/log.parquet'], check=True); "
        "t = pl.read_parquet('/tmp/log.parquet').filter(pl.col('request_id').is_in(json.loads(sys.argv[1]))); "
        "print(json.dumps(t.select('request_id', 'row_id', 'model_version', 'probability').rows()))"
    )
    found: dict[str, dict[int, list]] = {}
    for number in (1, 2):
        for id, *row in json.loads(
            stack.run_in(f"api-{number}", "python", "-c", program, json.dumps(sorted(ids))).splitlines()[-1]
        ):
            found.setdefault(id, {}).setdefault(number, []).append(tuple(row))
    return found


def test_what_is_answered_is_counted_recorded_and_printed(stack, rows):
    before, run = counted(stack), os.urandom(4).hex()
    asked: dict[str, list[tuple]] = {}
    for number in range(80):
        some = rows[number : number + 1 + number % 4]
        if number < len(ODD_IDS):
            some = [{**some[0], "row_id": ODD_IDS[number]}, *some[1:]]
        answer = stack.predict(some, **{"X-Request-ID": f"{run}-{number}"})
        body = answer.json()
        assert answer.headers["x-request-id"] == body["request_id"] == f"{run}-{number}"
        asked[body["request_id"]] = [
            (one["row_id"], body["model_version"], one["probability"]) for one in body["predictions"]
        ]
    refused = [
        stack.predict([{**rows[0], "carrier": None}], **{"X-Request-ID": f"{run}-refused-{n}"}) for n in range(5)
    ]
    assert {answer.status_code for answer in refused} == {422}
    time.sleep(1.5)  # a second is what it has to count
    after = counted(stack)

    def grown(name, **labels):
        fits = [key for key in after if key[0] == name and set(labels.items()) <= set(key[1:])]
        return sum(after[key] - before.get(key, 0.0) for key in fits)

    route = {"route": PREDICT}
    assert grown("mlekit_requests_total", **route, status="200", model_version="1") == len(asked)
    assert grown("mlekit_requests_total", **route, status="422", model_version="") == len(refused)
    assert grown("mlekit_predictions_total", model_version="1") == sum(map(len, asked.values()))
    assert grown("mlekit_request_seconds_count", **route) == len(asked) + len(refused)
    assert after["mlekit_model_info", ("version", "1")] == 2  # of each replica
    found = recorded(stack, asked)
    for id, told in asked.items():
        (record,) = found[id].values()  # of one replica, since none died
        assert sorted(record) == sorted(told), id
    assert {number for who in found.values() for number in who} == {1, 2}, "only one replica was asked"
    printed = said("docker", "logs", stack.ids()["api-1"]).stdout + said("docker", "logs", stack.ids()["api-2"]).stdout
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{") and run in line]
    assert sorted(line["request_id"] for line in lines) == sorted([*asked, *(f"{run}-refused-{n}" for n in range(5))])


def test_nothing_personal_stays(stack, rows):
    secret = f"nobody-{os.urandom(6).hex()}"
    url = stack.url("API_PORT") + PREDICT
    answers = [
        httpx.post(url, json={"rows": [{**rows[0], "passenger": secret}], "note": secret}, timeout=30),
        httpx.post(
            f"{url}?who={secret}",
            json={"rows": rows[:1]},
            headers={"Cookie": f"who={secret}", "X-Who": secret},
            timeout=30,
        ),
        httpx.post(url, json={"rows": [{**rows[0], "carrier": [secret]}]}, timeout=30),
        httpx.get(stack.url("API_PORT") + f"/v1/{secret}", timeout=30),
        httpx.post(url, content=b'{"rows": "' + secret.encode(), timeout=30),
    ]
    assert all(answer.status_code < 500 for answer in answers)
    for name in ("api-1", "api-2", "proxy"):
        assert secret not in said("docker", "logs", stack.ids()[name]).stdout, f"{name} prints it"
    for number in (1, 2):
        searched = said(
            "docker", "exec", stack.ids()[f"api-{number}"], "grep", "-r", "-l", "-a", secret, "/serving", "/tmp"
        )
        assert searched.returncode == 1, searched.stdout
        assert secret not in stack.ask_replica(number, "/metrics")


def test_the_first_version_is_kept_to_compare_with(stack, season, kept):
    """No test of anything: what version 1 says of months after the change, before there is another."""
    months = [asked_about(season, step) for step in (5, 6)]
    kept.rows = [row for rows, _ in months for row in rows]
    kept.late = np.concatenate([late for _, late in months])
    version, found = stack.probabilities(kept.rows)
    kept.first = np.array(found)
    assert version == "1"


# A database that goes away in the middle of a month


class Asking:
    """Somebody who asks ten times a second and remembers what went wrong."""

    def __init__(self, stack, row):
        self.stack, self.row = stack, row
        self.asked, self.failed = 0, []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.over.wait(0.1):
            try:
                answer = self.stack.predict([self.row])
                if answer.status_code != 200:
                    self.failed.append(f"{answer.status_code} {answer.text[:200]}")
            except httpx.HTTPError as problem:
                self.failed.append(repr(problem))
            self.asked += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *problem):
        self.over.set()
        self.thread.join(40)


def test_a_database_that_restarts_in_the_middle_of_a_month_loses_nothing(stack, season, rows):
    before = stack.versions(), stack.champion()
    with Asking(stack, rows[0]) as people:
        stack.next_month()
        stack.wait(
            "the month is being worked on",
            lambda: "0003.json" in stack.run_in("worker", "ls", "/state/mailbox/in"), 90, "worker", "prefect",
        )  # fmt: skip
        began = time.time()
        stack.docker("restart", "postgres", "-t", "5", seconds=120)
        answer = stack.answered(3, 300)
    assert answer["at"] > began, "the month was answered before the database went away"
    assert {one["month"]: one["status"] for one in answer["months"]} == {season.month(n): "accepted" for n in (1, 2, 3)}
    assert (stack.versions(), stack.champion()) == before == (["1"], "1")
    assert people.asked > 20
    assert not people.failed, people.failed[:3]
    stack.wait("all is healthy again", lambda: not stack.ill(), 120, "prefect", "mlflow", "worker")
    done = len(stack.flow_runs("COMPLETED"))
    stack.wait("the schedule goes on", lambda: len(stack.flow_runs("COMPLETED")) > done, 120, "worker", "prefect")


# The change


def test_after_the_change_a_new_champion_takes_over(stack, season, kept):
    assert season.story.change == 4, "the walk is that of another seed"
    stack.next_month()
    answer = stack.answered(4, 240)
    assert answer["decision"] == "retrain", answer
    assert "stale since 2012-06" in answer["trigger"]
    kept.champion = answer["champion"]
    assert kept.champion == answer["versions"][-1] == "2"
    assert stack.champion() == kept.champion
    for number in (1, 2):
        stack.wait(
            f"replica {number} follows", lambda n=number: json.loads(stack.ask_replica(n, "/version"))["model_version"] == "2",
            60, f"api-{number}",
        )  # fmt: skip
    assert {stack.predict(kept.rows[:1]).json()["model_version"] for _ in range(10)} == {"2"}


def test_the_monitor_said_so_and_raised_an_alarm(stack, season):
    """The weeks of the month of the change are degraded, those before it are not, and Prometheus has an alert about it."""

    def judged():
        found = {week["window_id"]: week for week in stack.weeks()}
        return found if any(name > season.month(4) and name.endswith("-version-1") for name in found) else None

    weeks = stack.wait("the weeks of the change are judged", judged, 120, "worker")
    by_version = {name: week for name, week in weeks.items() if name.endswith("-version-1")}
    after = [week["performance"] for name, week in by_version.items() if name >= f"{season.month(4)}-01"]
    before = [week["performance"] for name, week in by_version.items() if name < f"{season.month(3)}-24"]
    assert after.count("degraded") >= 2, by_version
    assert "degraded" not in before, by_version
    page = httpx.get(stack.url("PAGES_PORT"), timeout=30).text
    assert 'class="bad">degraded' in page
    bad = [name for name, week in by_version.items() if week["performance"] == "degraded"]
    report = httpx.get(f"{stack.url('PAGES_PORT')}/weeks/{bad[0]}.html", timeout=30)
    assert report.status_code == 200
    assert len(report.text) > 1000

    def alert():
        found = stack.get("PROMETHEUS_PORT", "/api/v1/alerts")["data"]["alerts"]
        return [a for a in found if a["labels"]["alertname"] == "ModelDegraded" and a["labels"]["version"] == "1"]

    assert stack.wait("ModelDegraded is raised", alert, 60, "prometheus", "pages")


def test_good_months_raise_few_alarms(stack):
    """An alarm that cries each month is turned off: of the weeks before the change at most one in eight may have one."""
    before = [
        week for week in stack.weeks() if week["window_id"] < "2012-05-24" and week["window_id"].endswith("-version-1")
    ]
    assert len(before) >= 8, before
    loud = [
        week
        for week in before
        if "drift" in (week["data"], week.get("prediction")) or week["performance"] == "degraded"
    ]
    assert len(loud) <= len(before) / 8, loud


def test_a_month_later_the_champion_is_worth_more_than_the_first(stack, kept):
    stack.next_month()
    answer = stack.answered(5, 240)
    kept.champion = answer["champion"]
    stack.wait(
        "both follow",
        lambda: {json.loads(stack.ask_replica(n, "/version"))["model_version"] for n in (1, 2)} == {kept.champion},
        60,
    )
    version, found = stack.probabilities(kept.rows)
    assert version == kept.champion == "3"
    p = np.clip([kept.first, found], 1e-6, 1 - 1e-6)
    loss = -np.where(kept.late, np.log(p), np.log(1 - p))
    better = loss[0] - loss[1]
    error = better.std(ddof=1) / np.sqrt(len(better))
    assert better.mean() > 3 * error, f"better by {better.mean():.4f} ± {error:.4f} than version 1"


def test_the_alarm_ends_with_the_version_that_it_was_about(stack):
    def quiet():
        return not [
            a
            for a in stack.get("PROMETHEUS_PORT", "/api/v1/alerts")["data"]["alerts"]
            if a["labels"].get("version") == "1"
        ]

    stack.wait("no alert is about version 1", quiet, 120, "prometheus", "pages", "worker")


def test_prefect_mlflow_and_prometheus_say_the_same(stack, kept):
    answers = stack.answers()
    assert stack.champion() == kept.champion == answers[max(answers)]["champion"]
    assert stack.versions() == [version for step in sorted(answers) for version in answers[step]["versions"]]
    done = stack.flow_runs("COMPLETED")
    assert len(done) >= len(answers) - 1  # two months were answered by one run
    last = max(done, key=lambda run: run["start_time"])
    assert last["state_type"] == "COMPLETED"
    targets = stack.get("PROMETHEUS_PORT", "/api/v1/targets")["data"]["activeTargets"]
    assert {one["labels"]["instance"]: one["health"] for one in targets} == dict.fromkeys(
        ("api-1:8000", "api-2:8000", "pages:8000", "proxy:8404", "localhost:9090"), "up"
    )

    def followed():
        asked = stack.get("PROMETHEUS_PORT", "/api/v1/query", query="sum by (version) (mlekit_model_info)")
        found = {one["metric"]["version"]: one["value"][1] for one in asked["data"]["result"]}
        return found == {kept.champion: "2"}

    stack.wait("Prometheus has seen both replicas follow", followed, 30, "prometheus")


# A replica that dies


async def load(url, row, per_second, over, heard):
    """So many requests a second, whether those before are answered or not, until it is over."""

    async def one(client):
        try:
            answer = await client.post(url, json={"rows": [row]})
            heard.append(str(answer.status_code))
        except httpx.HTTPError as problem:
            heard.append(repr(problem))

    async with httpx.AsyncClient(timeout=20, limits=httpx.Limits(max_connections=64)) as client:
        waiting, began, number = set(), time.monotonic(), 0
        while not over.is_set():
            waiting.add(task := asyncio.create_task(one(client)))
            task.add_done_callback(waiting.discard)
            number += 1
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
        await asyncio.gather(*list(waiting))


def test_a_replica_that_dies_under_load_costs_no_answer_and_comes_back(stack, rows):
    heard, over = [], threading.Event()
    url = stack.url("API_PORT") + PREDICT
    people = threading.Thread(target=lambda: asyncio.run(load(url, rows[0], 30, over, heard)), daemon=True)
    people.start()
    try:
        time.sleep(3)
        pid = stack.crash("api-1")
        at_crash = len(heard)

        def back():
            state = stack.inspect()["api-1"]["State"]
            return state["Running"] and state["Pid"] not in (0, pid)

        stack.wait("the replica was started again", back, 60, "api-1")
        started = f'mlekit_predictions_total{{model_version="{stack.champion()}"}}'
        stack.wait("it gets requests again", lambda: started in stack.ask_replica(1, "/metrics"), 90, "api-1", "proxy")
    finally:
        over.set()
        people.join(60)
    assert not people.is_alive()
    assert len(heard) - at_crash > 30
    lost = [what for what in heard if what != "200"]
    assert not lost, f"{len(lost)} of {len(heard)} were lost: {sorted(set(lost))}\n{stack.log('proxy')}"


# Put away and taken out again


def test_all_is_as_it_was_after_down_and_up(stack, rows):
    def state():
        runs = httpx.post(
            stack.url("MLFLOW_PORT") + "/api/2.0/mlflow/runs/search",
            json={"experiment_ids": ["1"], "max_results": 100},
            timeout=30,
        ).raise_for_status()
        return {
            "champion": stack.champion(), "versions": stack.versions(), "answers": stack.answers(), "weeks": stack.weeks(),
            "predictions": stack.probabilities(rows[:50]), "step": stack.run_in("world", "cat", "/world/step"),
            "runs": sorted(run["info"]["run_id"] for run in runs.json()["runs"]),
        }  # fmt: skip

    before, flows = state(), {run["id"] for run in stack.flow_runs("COMPLETED")}
    assert before["runs"]
    stack.down()
    assert not stack.ids()
    stack.up()
    url = stack.url("API_PORT") + "/readyz"
    stack.wait("ready", lambda: httpx.get(url, timeout=5).status_code == 200, 60, "proxy", "api-1")
    after = state()
    assert after == before
    assert flows <= {run["id"] for run in stack.flow_runs("COMPLETED")}
    stack.next_month()
    step = max(before["answers"]) + 1
    assert stack.answered(step, 240)["step"] == step


# What goes wrong when it is brought up, and a second one beside the first


def test_without_a_password_it_says_what_is_missing(other, tmp_path):
    (tmp_path / "empty.env").write_text("")
    command, env = stackkit.compose()
    done = said(
        *command, "--env-file", str(tmp_path / "empty.env"), "-p", other.name, "up", "--detach", "--no-build", **env
    )
    assert done.returncode
    assert "POSTGRES_PASSWORD" in done.stdout
    assert "give it one in .env" in done.stdout
    assert not other.ids()


def test_a_port_that_is_taken_is_named(other):
    port = other.settings["PAGES_PORT"]
    with socket.create_server(("127.0.0.1", int(port))):
        done = other.compose("up", "--detach", "--no-build", "pages", seconds=120)
    assert done.returncode
    assert port in done.stdout
    assert re.search("address already in use|port is already allocated", done.stdout), done.stdout


def test_an_up_that_was_killed_halfway_is_finished_by_the_next(stack, other):
    half = other.begin("up", "--detach", "--no-build")
    try:
        other.wait("some containers are there", lambda: len(other.ids()) >= 5, 120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(half.pid, signal.SIGKILL)
        half.communicate()
    assert len(other.ids()) < len(stack.ids()), "it was done before it could be killed"
    other.up()
    assert set(other.ids()) == set(stack.ids())


def test_two_stacks_do_not_know_of_each_other(stack, other):
    assert not stack.ill()
    first = stack.answers(), stack.versions(), stack.champion()
    other.answered(0, 300)
    assert "step 1:" in other.next_month()
    assert other.answered(1, 240)["champion"] == "1"
    assert sorted(other.answers()) == [0, 1]
    assert (stack.answers(), stack.versions(), stack.champion()) == first
    assert other.versions() == ["1"]


def test_another_password_than_that_of_the_volume_is_told_by_the_log_and_can_be_set(other):
    other.answered(0, 300)
    other.down()
    other.settings["POSTGRES_PASSWORD"] = "another"
    waiting = other.begin(
        "up", "--detach", "--no-build"
    )  # for who needs the database, minutes longer than it takes to know why

    def told():
        log = other.log("mlflow", 400)
        return log if "password authentication failed" in log else None

    try:
        assert "another" not in other.wait("its log tells why", told, 120, "mlflow")
        assert waiting.poll() != 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(waiting.pid, signal.SIGKILL)
        waiting.communicate()
    # as docs/production.md says
    change = "--command=ALTER ROLE flightdelay PASSWORD 'another'"
    other.run_in("postgres", "psql", "--username=flightdelay", "--dbname=mlflow", change)
    other.up()
    assert other.champion() == "1"
