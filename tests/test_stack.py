"""The stack of docker-compose.yml, as far as it can be looked at without an engine: its files, the world it is tried on, and its pages."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient

from grader.world.replay import STEPS

ROOT = Path(__file__).parents[1]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
GRAFANA = ROOT / "deploy/grafana"
BOARDS = {path.name: json.loads(path.read_text()) for path in (GRAFANA / "dashboards").glob("*.json")}
SYSTEM = {"mlflow", "prefect", "worker", "api-1", "api-2", "pages", "world", "traffic"}


@pytest.fixture
def deployed(monkeypatch, tmp_path):
    """Import a module of the stack with folders of its own."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "deploy"), str(ROOT / "reference_solution"), *sys.path])
    for name, folder in (("WORLD", "world"), ("MLEKIT_STATE", "state"), ("REPORTS", "reports")):
        (tmp_path / folder).mkdir()
        monkeypatch.setenv(name, str(tmp_path / folder))

    def load(name):
        for known in [key for key in sys.modules if key.split(".")[0] in ("operations", "world")]:
            del sys.modules[known]
        return importlib.import_module(name)

    yield load
    for known in [key for key in sys.modules if key.split(".")[0] in ("operations", "world", "flightdelay")]:
        del sys.modules[known]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit", "restart"} <= set(service)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert not any("docker.sock" in volume for volume in service["volumes"]) if "volumes" in service else True


def test_what_others_wait_for_says_when_it_is_healthy():
    for name, service in SERVICES.items():
        for other, how in dict(service["depends_on"] if isinstance(service.get("depends_on"), dict) else {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], (name, other)


def test_there_is_no_secret_in_the_files():
    text = (ROOT / "docker-compose.yml").read_text()
    assert "${POSTGRES_PASSWORD:?" in text
    assert not re.search(r"(?i)password[=:] *[\"']?[A-Za-z0-9]", text)
    assert not any(
        line.strip() and not line.startswith("#") for line in (ROOT / ".env.example").read_text().splitlines()
    )
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_setting_of_the_file_is_explained_and_the_reverse():
    used = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text())) - {
        "SYSTEM_IMAGE",
        "WORLD_IMAGE",
    }
    told = set(re.findall(r"^#? *(?:echo \")?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M)) - {
        "COMPOSE_PROJECT_NAME"
    }
    assert used == told


def test_images_run_as_nobody_in_particular_and_have_their_versions():
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert "USER 10001:10001" in text
    assert "-c versions.txt" in text
    for name, service in SERVICES.items():
        if name not in SYSTEM:
            assert re.search(r":v?[0-9]", service["image"]), name


def test_alerts_ask_for_metrics_that_there_are(deployed):
    pages = deployed("operations.pages")
    metrics = importlib.import_module("flightdelay.metrics")
    (pages.REPORTS / "weeks.json").write_text(json.dumps(TWO_WEEKS))
    known = metrics.exposition("1").decode() + TestClient(pages.app).get("/metrics").text + "up"
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            names = set(re.findall(r"\b(?:mlekit|flightdelay)_[a-z_]+", rule["expr"]))
            assert names or "up{" in rule["expr"], rule
            for name in names:
                assert name.removesuffix("_bucket").removesuffix("_total") in known, name


def started_with(password):
    """Grafana's settings as its entrypoint leaves them."""
    service = SERVICES["grafana"]
    shell, flags, script = service["entrypoint"]
    given = {"PATH": os.environ["PATH"], **service["environment"], "GF_SECURITY_ADMIN_PASSWORD": password}
    script = script.replace("$$", "$").replace("/run.sh", "env")
    done = subprocess.run([shell, flags, script], env=given, capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_grafana_without_a_password_has_no_admin_and_with_one_no_guests():
    guests = started_with("")
    assert guests["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == guests["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert guests["GF_AUTH_BASIC_ENABLED"] == "false"
    assert guests["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert guests["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert not [name for name in started_with("a secret") if name.startswith("GF_AUTH") or "INITIAL_ADMIN" in name]


def test_grafana_is_an_extra_that_asks_nobody_outside():
    service = SERVICES["grafana"]
    assert service["profiles"] == ["grafana"]
    assert service["user"] == "472"  # of its image
    assert not any("grafana" in other.get("depends_on", {}) for other in SERVICES.values())
    assert "${GRAFANA_PASSWORD:-}" in (ROOT / "docker-compose.yml").read_text()
    environment = service["environment"]
    for name in (
        "ANALYTICS_REPORTING_ENABLED",
        "ANALYTICS_CHECK_FOR_UPDATES",
        "ANALYTICS_CHECK_FOR_PLUGIN_UPDATES",
        "NEWS_NEWS_FEED_ENABLED",
        "PLUGINS_PLUGIN_ADMIN_ENABLED",
        "SNAPSHOTS_EXTERNAL_ENABLED",
    ):
        assert environment[f"GF_{name}"] == "false"
    for name in ("PLUGINS_PREINSTALL_DISABLED", "PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED", "SECURITY_DISABLE_GRAVATAR"):
        assert environment[f"GF_{name}"] == "true"


def test_grafana_finds_what_it_is_given():
    mounts = dict(volume.removesuffix(":ro").split(":") for volume in SERVICES["grafana"]["volumes"])
    for folder in ("datasources", "dashboards"):
        assert mounts[f"./deploy/grafana/{folder}"] == f"/etc/grafana/provisioning/{folder}"
        assert f"./deploy/grafana/{folder}:/etc/grafana/provisioning/{folder}:ro" in SERVICES["grafana"]["volumes"]
    (provider,) = yaml.safe_load((GRAFANA / "dashboards/files.yml").read_text())["providers"]
    assert provider["options"]["path"] == mounts["./deploy/grafana/dashboards"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.removeprefix(provider["options"]["path"] + "/") in BOARDS
    (source,) = yaml.safe_load((GRAFANA / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped
    for board in BOARDS.values():
        for panel in board["panels"]:
            for used in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
                assert used == {"type": source["type"], "uid": source["uid"]}, panel["title"]


def test_dashboards_are_laid_out():
    assert set(BOARDS) == {"service.json", "model.json"}
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)
    for name, board in BOARDS.items():
        panels = board["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels), name
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            assert panel["title"].endswith("?"), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            refs = [target["refId"] for target in panel["targets"]]
            assert len(set(refs)) == len(refs), panel["title"]
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24, panel["title"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert not cells & taken, panel["title"]
            taken |= cells


# What HAProxy 2.6.12 of Debian answered at /metrics with deploy/haproxy.cfg, as far as dashboards ask for it.
PROXY = {
    "haproxy_backend_active_servers",
    "haproxy_backend_connection_errors_total",
    "haproxy_backend_current_queue",
    "haproxy_backend_current_sessions",
    "haproxy_backend_redispatch_warnings_total",
    "haproxy_backend_response_errors_total",
    "haproxy_backend_retry_warnings_total",
    "haproxy_frontend_http_responses_total",
}
OF_PROMETHEUS = {"up", "ALERTS"}


def names_in(expr):
    """The metrics of a query: what is left of it without labels, ranges, groupings, functions and operators."""
    rest = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|without) *\([^)]*\)", " ", expr)
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*\b(?! *\()", rest)) - {"and", "or", "unless", "bool"}


def test_names_are_taken_from_a_query():
    expr = 'histogram_quantile(0.9, sum by (le) (rate(a_bucket{x="y"}[$__rate_interval]))) / b or vector(0)'
    assert names_in(expr) == {"a_bucket", "b"}


def test_dashboards_ask_for_metrics_that_there_are(deployed):
    pages = deployed("operations.pages")
    metrics = importlib.import_module("flightdelay.metrics")
    (pages.REPORTS / "weeks.json").write_text(json.dumps(TWO_WEEKS))
    (pages.MAILBOX / "out").mkdir(parents=True)
    (pages.MAILBOX / "out" / "0003.json").write_text(json.dumps({"step": 3, "decision": "retrain"}))
    text = metrics.exposition("1").decode() + TestClient(pages.app).get("/metrics").text
    known = PROXY | OF_PROMETHEUS
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M):
        known |= {name + end for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    asked = set()
    for board in BOARDS.values():
        for panel in board["panels"]:
            for target in panel["targets"]:
                names = names_in(target["expr"])
                assert names, target["expr"]
                assert names <= known, target["expr"]
                asked |= names
    assert asked >= PROXY


def test_lines_on_dashboards_are_where_alerts_fire():
    rules = {
        rule["alert"]: rule["expr"]
        for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    }
    panels = {panel["title"]: panel for board in BOARDS.values() for panel in board["panels"]}
    told = {name for panel in panels.values() for name in rules if name in panel.get("description", "")}
    assert told == set(rules)

    def above(title, steps=None):
        steps = steps or panels[title]["fieldConfig"]["defaults"]["thresholds"]["steps"]
        return [step["value"] for step in steps[1:]]

    def asks(title):
        return [target["expr"].replace("$__rate_interval", "1m") for target in panels[title]["targets"]]

    assert f"> {above('What share of answers are errors of the server?')[0]} *" in rules["ManyErrors"]
    (slow,) = above("How long does a prediction take?")
    assert f"{asks('How long does a prediction take?')[-1]} > {slow}" == rules["SlowAnswers"]
    (two,) = above("With how many versions do replicas answer?")
    assert f"{asks('With how many versions do replicas answer?')[0]} > {two - 1}" == rules["ReplicasDisagree"]
    replicas = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"][0]
    some = len(replicas["static_configs"][0]["targets"])
    assert above("How many replicas are up, and how many get requests?") == [1, some]
    assert above("In what is the newest week bad?") == [1]


GOOD = {
    "data": "ok",
    "prediction": "ok",
    "performance": "ok",
    "model_age": "ok",
    "skew": "unknown",
    "columns": [],
    "skewed": [],
}
TWO_WEEKS = [
    {**GOOD, "window_id": "2014-04-08-version-1"},
    {**GOOD, "performance": "degraded", "window_id": "2014-04-15-version-1"},
]


def test_pages_say_what_the_monitor_said(deployed):
    pages = deployed("operations.pages")
    client = TestClient(pages.app)
    assert "No week has been judged yet" in client.get("/").text
    assert "flightdelay_week_bad{" not in client.get("/metrics").text
    (pages.REPORTS / "weeks.json").write_text(json.dumps(TWO_WEEKS))
    (pages.REPORTS / "2014-04-15-version-1.html").write_text("the report")
    (pages.MAILBOX / "out").mkdir(parents=True)
    answer = {"step": 3, "decision": "retrain", "champion": "2", "trigger": "<b>stale</b>"}
    (pages.MAILBOX / "out" / "0003.json").write_text(json.dumps(answer))
    page = client.get("/").text
    assert page.index("2014-04-15") < page.index("2014-04-08")  # the newest first
    assert "&lt;b&gt;stale" in page
    assert client.get("/weeks/2014-04-15-version-1.html").text == "the report"
    said = client.get("/metrics").text
    assert 'flightdelay_week_bad{question="performance",version="1"} 1.0' in said
    assert 'flightdelay_week_bad{question="data",version="1"} 0.0' in said
    assert "flightdelay_step 3.0" in said


def test_the_world_hands_out_a_month_at_a_time_and_remembers_where_it_was(deployed):
    source = deployed("world.source")
    with TestClient(source.app) as client:
        assert [found["months"] for found in client.get("/calendar").json()] == [[]]
        assert (source.WORLD / "usecase.toml").exists()
        assert list((source.WORLD / "history").rglob("*.parquet"))
        asked = client.get("/requests").json()
        assert {"row_id", "carrier", "sched_dep"} <= set(asked[0])
        message = client.post("/next").json()
        month = message["months"][-1]
        assert client.get(f"/{month}/manifest.json").json()["files"] if message["step"] else True
        assert client.get("/../step").status_code == 404
        assert client.get("/%2e%2e/step").status_code == 404
        assert client.get("/2099-01/manifest.json").status_code == 404
        assert asked != client.get("/requests").json()
    with TestClient(deployed("world.source").app) as client:  # started again
        assert client.get("/calendar").json()[-1] == message
        assert [found["step"] for found in client.get("/calendar").json()] == [0, 1]
        assert client.get("/calendar", params={"after": 0}).json() == [message]
        assert client.get("/calendar", params={"after": 1}).json() == []
        for _ in range(STEPS - 1):
            assert client.post("/next").status_code == 200
        over = client.post("/next")
        assert over.status_code == 409
        assert "the year is over" in over.json()["detail"]


def test_the_world_asks_for_nothing_that_its_image_lacks():
    """The image has what the system imports; the sandbox and its psutil are no part of it."""
    found = subprocess.run(
        [sys.executable, "-c", "import sys, world.source; print([m for m in ('psutil', 'grader.sandbox') if m in sys.modules])"],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'deploy'}:{ROOT}"}, capture_output=True, text=True,
    )  # fmt: skip
    assert found.stdout.strip() == "[]", found.stdout + found.stderr


def test_weeks_are_whole_and_begin_after_what_was_learned(deployed):
    watch = deployed("operations.watch")
    days = {f"2014-03-{day:02d}" for day in range(1, 15)} | {f"2014-02-{day}" for day in (21, 22)}
    found = watch.weeks("2014-02-20", days)
    assert [str(day) for day in found] == ["2014-02-28", "2014-03-07"]  # of the first one most days are still to come
    assert "2014-02-21" in map(str, watch.weeks("2014-02-20", days | {"2014-02-23", "2014-02-24"}))
    assert watch.weeks("2014-02-20", {"2014-02-26"}) == []


def test_an_alarm_about_a_version_ends_with_it(deployed):
    pages = deployed("operations.pages")
    client = TestClient(pages.app)
    bad = {**GOOD, "performance": "degraded", "window_id": "2014-04-15-version-9"}
    (pages.REPORTS / "weeks.json").write_text(json.dumps([{**GOOD, "window_id": "2014-04-08-version-9"}, bad]))
    assert 'flightdelay_week_bad{question="performance",version="9"} 1.0' in client.get("/metrics").text
    unknown = {"window_id": "2014-04-11-version-10", "data": "unknown", "performance": "unknown"}
    (pages.REPORTS / "weeks.json").write_text(json.dumps([unknown, bad]))
    assert "flightdelay_week_bad{" not in client.get("/metrics").text
