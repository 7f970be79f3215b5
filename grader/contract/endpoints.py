"""What `serve` answers and counts from later stages on; all of it is planned."""

from __future__ import annotations

from grader.contract.parts import Endpoint

ENDPOINTS = (
    Endpoint(
        "POST", "/v2/predict", "16", "The next version, with an interval; v1 goes on answering.",
        "`{items: [{id, attributes}]}`", "`{results: [{id, probability, low, high}]}`",
    ),
)  # fmt: skip
HEADERS = (("X-Unit-ID", "12", "The unit that an experiment assigns; the same unit always gets the same variant."),)
RESPONSE_LATER = (
    ("12", "`/v1/predict` adds `variant`"),
    ("15", "`/v1/predict` adds `degraded: true` while it answers with less than it should"),
)
