"""What `serve` answers over HTTP (stage 08), and the numbers in its rules."""

from __future__ import annotations

from grader.contract.parts import Endpoint

MAX_ROWS = 1_000  # of one request
MAX_BODY_MB = 1
START_SECONDS = 60  # until a service answers
GRACE_SECONDS = 10  # beyond MLEKIT_REFRESH_SECONDS, until a new champion answers
BACK_SECONDS = 60  # until a registry that is back is followed again
STOP_SECONDS = 10  # until a service that was told to stop has ended
PATIENCE_SECONDS = 10  # within which each answer has to be there, whole
MEMORY_MB = 2_048
MAX_REQUEST_ID = 64

ENDPOINTS = (
    Endpoint(
        "POST", "/v1/predict", "08", "Score one row or many; one row is a list of one.",
        "`{rows: [{row_id, <columns of [request]>}]}`",
        "`{request_id, model_version, predictions: [{row_id, probability}]}`",
        "200; 4xx `{detail: [{loc: [..., field], msg}]}`; 413 too large; 503 without a model; 429 or 503 with `Retry-After` when there is "
        "too much to do",
    ),
    Endpoint("GET", "/healthz", "08", "The process is alive, whatever else is wrong.", "", "any"),
    Endpoint(
        "GET", "/readyz", "08", "It can answer well: a model is loaded.", "", "`{ready, model_version?, reason?}`",
        "200 ready; 503 not, with a `reason`",
    ),
    Endpoint(
        "GET", "/version", "08", "What is running.", "",
        "`{model_name, model_version, run_id, contract, accepts: [\"v1\"]}`; version and run are null where there is no model",
    ),
    Endpoint(
        "GET", "/openapi.json", "08",
        "The description of all of this: fields of bodies and answers, every status; true in every point.", "", "OpenAPI 3",
    ),
)  # fmt: skip

PLACE_RULES = (
    "**Everything about its place comes from the environment**: it listens on `MLEKIT_HOST` and `MLEKIT_PORT`, and nowhere else; the "
    "registry "
    "is that of `MLFLOW_TRACKING_URI`, the model the use case's `model_name`. Several may run at once, with other ports and registries.",
    f"**It starts** within {START_SECONDS} seconds: by then `/healthz` answers, and `/readyz` too if there is a champion. A port that is "
    f"taken "
    "ends it, with an exit code other than 0.",
    "**Told to stop** (SIGTERM to all its processes) it answers what it was asked before, and ends within "
    f"{STOP_SECONDS} seconds. New connections it may refuse at once or go on taking for a moment.",
    f"**Memory**: {MEMORY_MB:,} MB for all its processes together, whatever is asked. **Answers** are there within {PATIENCE_SECONDS} "
    f"seconds, "
    "not compressed unless the request says that it takes that, and without redirects.",
)

MODEL_RULES = (
    "**The model** is the version to which the alias `champion` points, any logged model as in stage 06. It looks up the alias every "
    f"`MLEKIT_REFRESH_SECONDS`, and a new champion answers at the latest {GRACE_SECONDS} seconds after that, in the same process, "
    f"without a "
    "request that fails or waits for it. `model_version` in an answer is the one that scored all its rows.",
    "**One definition of features.** A row gets what `predict` gives it with the same model and data, to 1e-9: whatever rows come with it, "
    "before it, or at the same time. The data of --data do not change while it runs.",
    "**Ready means able.** `/readyz` says 200 if and only if there is a model that would answer; while there is too much to do it may "
    "say "
    "either. Without a champion it says 503, with a `reason`, and so does `/v1/predict`; `/healthz` goes on saying 200. When "
    "there is a champion, it becomes ready in the time above.",
    "**A champion that cannot be loaded** leaves the one that answered before. So does a registry that cannot be reached, or that hangs: "
    "what is loaded goes on answering, and no request waits for the registry. Started while the registry cannot be reached, it answers "
    "with the last model that it had, which it kept in "
    "`MLEKIT_STATE`, or "
    "says that it is not ready. It follows the registry again at the latest "
    f"{BACK_SECONDS} seconds after that is back, with the files of its models. What becomes of a model whose alias is taken away is yours "
    "to decide.",
)

REQUEST_RULES = (
    "**A row** has a `row_id`, a text, and the columns of `[request]` in the use case: `str` a text, `int` a whole number, `float` a "
    "number, "
    "`timestamp` a "
    'text in RFC 3339 with a zone; those with `?` may be null or left out. `"12"`, `12.0` or `true` where such a number belongs, and an '
    "instant that is spelled otherwise, may be taken or refused. A row has no other duty: a `row_id` may stand in a request more than "
    "once, a text may be empty, an arrival may lie before its departure, categories never seen and large "
    "numbers get a probability; what no text in UTF-8, number or calendar of yours can hold may also be refused. Further keys may be "
    "ignored or refused.",
    f"**Rows**: 1 to {MAX_ROWS:,} a request, in a body of at most {MAX_BODY_MB} MiB of JSON. A larger body gets 413, whether or not "
    "`Content-Length` tells it; more rows get 413 or 422. Predictions are in the order of the rows.",
    "**What is wrong gets a 4xx**, never a 5xx, and is one request's own trouble. Where the body is a JSON object, `detail` has an entry "
    "for each "
    "fault (of more than twenty, for twenty at least), in which `loc` ends with, or contains, the name of the field: `rows`, or a key of "
    "a row. (A number that no reader of yours takes, such as one of five thousand digits, may be refused as if the body were no JSON.) "
    "All of a request is refused, or nothing. Where more than one answer fits, such as for a wrong row without a champion, any of "
    "them does.",
    f"**`X-Request-ID`** of a request, of up to {MAX_REQUEST_ID} letters, digits, `-`, `_` and `.`, comes back as a header and as "
    f"`request_id`. "
    "Where there is none, or another text, you make one.",
    "**Too much to do**: what cannot be answered in time is turned away at once, with 429 or 503 and `Retry-After` (seconds, or a date of "
    "HTTP). `/healthz` goes on saying 200, and when the burst is over, all is as before.",
)
