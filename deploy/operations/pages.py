"""The reports of the monitor for people, and what they say for Prometheus.

uvicorn operations.pages:app
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from operations.places import MAILBOX, REPORTS

QUESTIONS = ("data", "prediction", "performance", "model_age", "skew")
BAD = {"drift", "degraded", "stale", "skew"}

PAGE = Environment(autoescape=True).from_string(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))

app = FastAPI(title="pages", docs_url=None, redoc_url=None)
app.mount("/weeks", StaticFiles(directory=REPORTS), name="weeks")


def weeks_judged() -> list[dict[str, Any]]:
    """What the monitor said of each week, the oldest first."""
    path = REPORTS / "weeks.json"
    return json.loads(path.read_bytes()) if path.exists() else []


def version_of(week: dict[str, Any]) -> int:
    """The version that answered in a week."""
    return int(week["window_id"].rpartition("-")[2])


def answers() -> list[dict[str, Any]]:
    """What was answered to each month, the newest first."""
    return [json.loads(path.read_bytes()) for path in sorted((MAILBOX / "out").glob("*.json"), reverse=True)]


@app.get("/", response_class=HTMLResponse)
def index() -> str:
    weeks = [{**week, "page": (REPORTS / f"{week['window_id']}.html").exists()} for week in reversed(weeks_judged())]
    return PAGE.render(weeks=weeks, answers=answers(), questions=QUESTIONS, bad=BAD)


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/metrics")
def metrics() -> Response:
    """The newest week that was judged, and the last month that was answered."""
    registry, done = CollectorRegistry(), answers()
    flag = Gauge(
        "flightdelay_week_bad", "1 where the newest week of the newest version is not as it should be.", ["question", "version"],
        registry=registry,
    )  # fmt: skip
    weeks = weeks_judged()
    newest = max(map(version_of, weeks), default=0)
    # not the newest week of all: that of a version that was replaced would raise its alarm until its successor has a past of its own
    known = [week for week in weeks if version_of(week) == newest and "prediction" in week]
    for question in QUESTIONS if known else ():
        flag.labels(question, newest).set(known[-1][question] in BAD)
    Gauge("flightdelay_weeks_judged", "Weeks of that version that were judged.", registry=registry).set(len(known))
    if done:
        Gauge("flightdelay_step", "The last month that was answered.", registry=registry).set(done[0]["step"])
        retrained = Gauge("flightdelay_retrained", "Months in which a model was made.", registry=registry)
        retrained.set(sum(answer["decision"] == "retrain" for answer in done))
        last = (MAILBOX / "out" / f"{done[0]['step']:04d}.json").stat().st_mtime
        answered = Gauge(
            "flightdelay_answered_timestamp_seconds", "When the last month was answered.", registry=registry
        )
        answered.set(last)
    return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")
