"""The reports of the monitor for people, and what they say for Prometheus.

uvicorn operations.pages:app
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from operations.places import MAILBOX, REPORTS

QUESTIONS = ("data", "prediction", "performance", "model_age", "skew")
BAD = {"drift", "degraded", "stale", "skew"}

PAGE = Environment(autoescape=True).from_string(
    """<!doctype html><html lang="en"><meta charset="utf-8"><title>Is the model still right?</title>
<meta name="viewport" content="width=device-width"><style>
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;width:100%;margin:1rem 0}th,td{text-align:left;padding:.3rem .8rem;border-bottom:1px solid #d0d7de;vertical-align:top}
.bad{color:#a40e26;font-weight:600}</style>
<h1>Is the model still right?</h1>
{% if weeks %}<p>Weeks in which version {{ version }} answered, the newest first. A week is compared with those before it in which all was well.</p>
<table><tr><th>week</th>{% for q in questions %}<th>{{ q.replace("_", " ") }}</th>{% endfor %}<th>columns</th></tr>
{% for week in weeks %}<tr><td>{% if week.page %}<a href="weeks/{{ week.window_id }}.html">{{ week.window_id }}</a>{% else %}{{ week.window_id }}{% endif %}</td>
{% for q in questions %}<td{% if week[q] in bad %} class="bad"{% endif %}>{{ week[q] or "" }}</td>{% endfor %}<td>{{ (week.columns or []) | join(", ") }}</td></tr>
{% endfor %}</table>{% else %}<p>No week has been judged yet.</p>{% endif %}
<h2>What was decided</h2>
<table><tr><th>step</th><th>decision</th><th>champion</th><th>on what</th></tr>
{% for a in answers %}<tr><td>{{ a.step }}</td><td>{{ a.decision }}</td><td>{{ a.champion }}</td><td>{{ a.trigger }}</td></tr>{% endfor %}</table>
</html>"""
)

app = FastAPI(title="pages", docs_url=None, redoc_url=None)
app.mount("/weeks", StaticFiles(directory=REPORTS), name="weeks")


def state() -> dict[str, Any]:
    path = REPORTS / "state.json"
    return json.loads(path.read_bytes()) if path.exists() else {"weeks": []}


def answers() -> list[dict[str, Any]]:
    """What was answered to each month, the newest first."""
    return [json.loads(path.read_bytes()) for path in sorted((MAILBOX / "out").glob("*.json"), reverse=True)]


@app.get("/", response_class=HTMLResponse)
def index() -> str:
    found = state()
    weeks = [
        {**week, "page": (REPORTS / f"{week['window_id']}.html").exists()}
        for week in sorted(found["weeks"], key=lambda week: week["window_id"], reverse=True)
    ]
    return PAGE.render(weeks=weeks, version=found.get("version"), answers=answers(), questions=QUESTIONS, bad=BAD)


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/metrics")
def metrics() -> Response:
    """The newest week that was judged, and the last month that was answered."""
    registry, found, done = CollectorRegistry(), state(), answers()
    flag = Gauge(
        "flightdelay_week_bad", "1 where the newest week is not as it should be.", ["question"], registry=registry
    )
    known = [week for week in found["weeks"] if "prediction" in week]
    for question in QUESTIONS if known else ():
        newest = max(known, key=lambda week: week["window_id"])
        flag.labels(question).set(newest[question] in BAD)
    Gauge("flightdelay_weeks_judged", "Weeks of this champion that were judged.", registry=registry).set(len(known))
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
