"""The HTTP interface: what is asked, what is answered, and what is said about it at /openapi.json."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import polars as pl
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, create_model

from flightdelay.batches import Batches
from flightdelay.champion import Champion, Loaded
from flightdelay.door import Door
from flightdelay.usecase import UseCase

MOST_ROWS = 1_000
INT64 = {"ge": -(2**63), "le": 2**63 - 1}


class Fault(BaseModel):
    loc: list[str | int]
    msg: str


class Faults(BaseModel):
    detail: list[Fault]


class Prediction(BaseModel):
    row_id: str
    probability: float = Field(ge=0, le=1)


class Answer(BaseModel):
    request_id: str
    model_version: str
    predictions: list[Prediction]


class Readiness(BaseModel):
    ready: bool
    model_version: str | None = None
    reason: str | None = None


class Running(BaseModel):
    model_name: str
    model_version: str | None
    run_id: str | None
    contract: int
    accepts: list[str]


def in_utc(value: datetime) -> datetime:
    """An instant in UTC. Raises ValueError, where Python has no number for it."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is too far from now") from None


def whole(value: str) -> str:
    """A text of whole characters: JSON can hold half of one, and nothing after this can write it. Raises ValueError."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a character") from None
    return value


Text = Annotated[str, AfterValidator(whole)]
KINDS: dict[str, tuple[Any, pl.DataType]] = {
    "str": (Text, pl.String()),
    "int": (Annotated[int, Field(**INT64)], pl.Int64()),
    "float": (Annotated[float, Field(allow_inf_nan=False)], pl.Float64()),
    "timestamp": (Annotated[AwareDatetime, AfterValidator(in_utc)], pl.Datetime("us", "UTC")),
}


def question_of(usecase: UseCase) -> type[BaseModel]:
    """The body of a request to predict, from the columns of `request`."""
    fields: dict[str, Any] = {"row_id": (Text, ...)}
    for name, kind in usecase.request.items():
        type_ = KINDS[kind.rstrip("?")][0]
        fields[name] = (type_ | None, None) if kind.endswith("?") else (type_, ...)
    row = create_model("Row", **fields)
    return create_model("Question", rows=(Annotated[list[row], Field(min_length=1, max_length=MOST_ROWS)], ...))


def table_of(rows: list[Any], usecase: UseCase) -> pl.DataFrame:
    """Rows of requests, as a table with the columns of `request`."""
    return pl.DataFrame(
        [
            pl.Series(name, [getattr(row, name) for row in rows], dtype=KINDS[kind.rstrip("?")][1])
            for name, kind in usecase.request.items()
        ]
    )


def application(usecase: UseCase, champion: Champion) -> FastAPI:
    Question = question_of(usecase)

    def score(rows: list[Any]) -> list[tuple[Loaded, float]]:
        """The probability of each row, and who gave it: one version for all of them, whatever the registry says meanwhile."""
        loaded = champion.loaded
        assert loaded is not None
        return [(loaded, float(p)) for p in loaded.probability(table_of(rows, usecase))]

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.batches = Batches(score)
        at_work = asyncio.create_task(app.state.batches.run())
        champion.start()
        yield
        champion.stop()
        at_work.cancel()

    app = FastAPI(title=f"{usecase.model_name}", version="1", lifespan=lifespan, redirect_slashes=False)
    app.add_middleware(Door)

    @app.exception_handler(RequestValidationError)
    async def refused(request: Request, problem: RequestValidationError) -> JSONResponse:
        """Where and what, and nothing of what was sent: it may be no JSON, and it may be personal."""
        faults = [{"loc": error["loc"], "msg": error["msg"]} for error in problem.errors()]
        return JSONResponse({"detail": faults}, 422)

    @app.post(
        "/v1/predict",
        response_model=Answer,
        responses={422: {"model": Faults}, 400: {}, 413: {"model": Faults}, 503: {"model": Faults}},
    )
    async def predict(question: Question, request: Request) -> JSONResponse:  # type: ignore[valid-type]
        """Score one row or many."""
        if champion.loaded is None:
            return JSONResponse({"detail": [{"loc": [], "msg": champion.problem}]}, 503, {"Retry-After": "1"})
        found = await app.state.batches.ask(question.rows)
        return JSONResponse(
            {
                "request_id": request.state.request_id,
                "model_version": found[0][0].version,
                "predictions": [
                    {"row_id": row.row_id, "probability": p} for row, (_, p) in zip(question.rows, found, strict=True)
                ],
            }
        )

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        """The process is alive."""
        return {"status": "alive"}

    @app.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
    async def readiness() -> JSONResponse:
        """Whether a request to predict would be answered now."""
        if (loaded := champion.loaded) is None:
            return JSONResponse({"ready": False, "reason": champion.problem}, 503)
        return JSONResponse({"ready": True, "model_version": loaded.version})

    @app.get("/version")
    async def running() -> Running:
        """What is running."""
        loaded = champion.loaded
        version, run_id = (loaded.version, loaded.run_id) if loaded else (None, None)
        return Running(model_name=usecase.model_name, model_version=version, run_id=run_id, contract=1, accepts=["v1"])

    return app
