"""What is counted. A label has few values, and whoever asks has no say in which: each one is a series that is kept for ever."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)  # seconds

REGISTRY = CollectorRegistry()
REQUESTS = Counter(
    "mlekit_requests_total", "Requests answered.", ["route", "status", "model_version"], registry=REGISTRY
)
PREDICTIONS = Counter("mlekit_predictions_total", "Rows scored.", ["model_version"], registry=REGISTRY)
SECONDS = Histogram(
    "mlekit_request_seconds", "Time from request to answer.", ["route"], buckets=BOUNDS, registry=REGISTRY
)
MODEL = Gauge("mlekit_model_info", "The version that answers.", ["version"], registry=REGISTRY)


def exposition(version: str | None) -> bytes:
    """Everything in Prometheus' text format; `version` is the one that answers now."""
    MODEL.clear()
    if version is not None:
        MODEL.labels(version).set(1)
    return generate_latest(REGISTRY)
