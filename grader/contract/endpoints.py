"""What `serve` answers over HTTP, and what it counts; all of it is planned."""

from __future__ import annotations

from grader.contract.parts import Endpoint

ENDPOINTS = (
    Endpoint(
        "POST", "/v1/predict", "08", "Score one row or many; one row is a list of one.",
        "`{rows: [{row_id, <columns of [request]>}]}`",
        "`{request_id, model_version, predictions: [{row_id, probability}]}`",
        "200; 4xx `{detail: [{loc: [..., field], msg}]}`; 413 too large; 429 or 503 with `Retry-After` when overloaded",
    ),
    Endpoint("GET", "/healthz", "08", "The process is alive."),
    Endpoint(
        "GET", "/readyz", "08", "It can answer well: a model is loaded.", "", "`{ready, model_version?, reason?}`",
        "200 ready, 503 not",
    ),
    Endpoint(
        "GET", "/version", "08", "What is running.", "",
        "`{model_name, model_version, run_id, contract, accepts: [\"v1\"]}`",
    ),
    Endpoint("GET", "/openapi.json", "08", "The description of all of this.", "", "OpenAPI 3"),
    Endpoint("GET", "/metrics", "09", "Counters and histograms, see below.", "", "Prometheus text format"),
    Endpoint(
        "POST", "/v2/predict", "16", "The next version, with an interval; v1 goes on answering.",
        "`{items: [{id, attributes}]}`", "`{results: [{id, probability, low, high}]}`",
    ),
)  # fmt: skip
HEADERS = (
    ("X-Request-ID", "08", "Taken from the request, or made; always in the answer and in the log."),
    ("X-Unit-ID", "12", "The unit that an experiment assigns; the same unit always gets the same variant."),
)
RESPONSE_LATER = (
    ("12", "`/v1/predict` adds `variant`"),
    ("15", "`/v1/predict` adds `degraded: true` while it answers with less than it should"),
)
METRICS = (
    ("mlekit_requests_total", "counter", "route, status, model_version", "requests answered"),
    ("mlekit_predictions_total", "counter", "model_version", "rows scored"),
    ("mlekit_request_seconds", "histogram", "", "time from request to answer"),
    ("mlekit_model_info", "gauge", "version", "1 for the model that answers"),
)
