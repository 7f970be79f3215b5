"""What `serve` counts, keeps and prints from stage 09 on, and what is asked of its log."""

from __future__ import annotations

from typing import Literal, get_args

from grader.contract.parts import Endpoint
from grader.contract.serving import ENDPOINTS as SERVED

Question = Literal["version_of_request", "rows_of_request", "count", "error_rate", "slowest"]
QUESTIONS: tuple[Question, ...] = get_args(Question)
COUNTED_SECONDS = 1  # after an answer was read, until it is counted and printed
OTHER = "other"
METRICS_PATH = "/metrics"
ROUTES = (*(endpoint.path for endpoint in SERVED), OTHER)  # of requests that have to be counted
REQUESTS, PREDICTIONS = "mlekit_requests_total", "mlekit_predictions_total"
SECONDS, MODEL = "mlekit_request_seconds", "mlekit_model_info"
PRINTED = ("request_id", "route", "status", "seconds", "model_version")

ENDPOINTS = (Endpoint("GET", METRICS_PATH, "09", "Counters and times, see below.", "", "Prometheus' text format"),)
METRICS = (
    (REQUESTS, "counter", ("route", "status", "model_version"), "requests answered"),
    (PREDICTIONS, "counter", ("model_version",), "rows scored, in answers with status 200"),
    (
        SECONDS,
        "histogram",
        ("route",),
        "seconds from the arrival of a request to the end of its answer, one for each that is counted",
    ),
    (MODEL, "gauge", ("version",), "1 for the version that answers now, and for no other"),
)
ASKED = (
    ("version_of_request", "--request-id", "text", "the version that scored it; null where none did, or there is no such request"),
    ("rows_of_request", "--request-id", "[text]",
     "the rows that it scored, in order; `[]` if refused, null where there is no such request"),
    ("count", "--from, --to", "whole number", "rows scored"),
    ("error_rate", "--from, --to", "number", "share of requests that were answered with 500 or more; null where there are none"),
    ("slowest", "--from, --to", "text", "the id of a request that took longest; null where there are none"),
)  # fmt: skip

METRICS_RULES = (
    "**Format**: that which the `Content-Type` says, `text/plain; version=0.0.4` or later, or "
    "`application/openmetrics-text`; each metric has a "
    "help text and a type; a counter may be declared with or without `_total`. More metrics are yours, and so are more labels: they are "
    "added up.",
    f"**`route`** is a path of the contract, without what is behind a `?`, and `{OTHER}` for all others: whoever asks for a million paths "
    "must not make a million series. One of these with a `/` at its end may count as either. "
    f"Requests to `{METRICS_PATH}` itself, under that route, and what is no HTTP need not be counted.",
    "**`model_version`** is the version that scored the rows, and an empty text where none did.",
    "**Everything that is answered is counted**, once, whatever its status, whichever of your processes or threads answered, at the "
    f"latest {COUNTED_SECONDS} second after the answer was read. Whether one is counted whose caller had gone is yours to decide. "
    f"Counting begins at 0 with each start.",
)

LOG_RULES = (
    "**The log is of requests to `POST /v1/predict`**, and of nothing else. It lies in `MLEKIT_STATE`, in any form, and goes on from one "
    "start to the next.",
    "**What was answered is in it**: killed at any moment, all processes at once, and started again, the log has each answer whose last "
    "byte was read, once. (A process is killed, not the power cut.) What was not answered any more may be in it, or may not. "
    "What cannot be written down, on a full disk for instance, is answered with 503, which need not be in the log; what is wrong may get "
    "its 4xx all the same, and be missing there. What `/readyz` says then is yours to decide.",
    "**As it was**: texts to the letter (a `row_id` may be `007`, `1e5` or `null`), probabilities to the last digit. A `row_id` is what "
    "labels are joined by when they come, weeks later; one that was asked twice is there twice. A request id that comes twice is two "
    "requests.",
)
EXPORT_RULES = (
    "One row for each row that was scored. A request that got another status than 200 has one row too, in which `row_id`, `model_version` "
    "and `probability` are null. Further columns are ignored.",
    "It runs while the service does, and afterwards. --state is what was `MLEKIT_STATE` of `serve`, and may be written to.",
)
OPS_RULES = (
    "It answers from the log of requests to `POST /v1/predict`, while the service runs and afterwards.",
    "Of two requests with one id, it answers about the later one, scored or refused. An id that is asked about does not begin with `-`.",
    "`--from` and `--to`, RFC 3339 in capitals, belong to the other questions: an answer counts if `answered_at`, in microseconds as "
    "`export-log` writes it, is at or after the one and before the other. Without, there is no such bound.",
    "What took longest is judged by the time until the answer was written down, or later.",
    "A question that is none of these, one about a request without `--request-id`, and a time that is none or has no "
    "zone are refused (exit code 2). What tells an instant in another spelling may be taken or refused.",
)
PRINTED_RULES = (
    "**A line for each request** to `POST /v1/predict` that is answered, whatever its status, at the latest "
    f"{COUNTED_SECONDS} second after that, on stdout or stderr: "
    f"a JSON object with at least {', '.join(f'`{name}`' for name in PRINTED)}; the last one is null where nothing was scored. "
    "Other lines are yours, and so is what libraries print beside it, progress bars without an end of line included.",
    "**Nothing personal.** Callers send what nobody asked for: further keys, a query behind the path, paths that are not there, cookies "
    "and "
    "other headers, ids that are not of the allowed form, values that are refused. Nothing of all that is kept in `MLEKIT_STATE` or in "
    "the store, printed, or made a "
    "label. What a scored row has in `row_id` and in the columns of `[request]` may be kept.",
)
