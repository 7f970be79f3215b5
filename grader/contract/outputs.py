"""What a submission writes as JSON, checked before anything is believed: exact types, finite numbers, known ranges."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError


class OutputProblem(Exception):
    """A JSON file of the submission is not what the contract says; the message finishes the sentence "FILE ..."."""


def _iso_day(value: Any) -> Any:
    return date.fromisoformat(value) if isinstance(value, str) else value


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1)]
Count = Annotated[int, Field(strict=True, ge=0)]
Day = Annotated[date, BeforeValidator(_iso_day), Field(strict=True)]


class Output(BaseModel):
    """Further keys are the submission's own business."""

    model_config = ConfigDict(extra="allow", frozen=True)


class BaselineReport(Output):
    """`report.json` of stage 01. The interval is the 95 % one; days are wall-clock days, both included."""

    auc: Share
    auc_low: Share
    auc_high: Share
    brier: Share
    base_rate: Share
    train_start: Day
    train_end: Day
    valid_start: Day
    valid_end: Day


class ModelRecord(Output):
    """`model.json` that `train` leaves beside the model; `rows` counts the flights it learned from."""

    train_start: Day
    train_end: Day
    rows: Count
    seed: Annotated[int, Field(strict=True)]


class TestResult(Output):
    """What `test` writes: how many of the submission's own tests passed and failed."""

    passed: Count
    failed: Count


class Refusal(Output):
    """The file `$MLEKIT_REFUSAL` of a command that ended with exit code 2."""

    code: str
    message: str
    key: str | None = None
    column: str | None = None
    rule: str | None = None


T = TypeVar("T", bound=Output)


def parse_output(kind: type[T], value: Any) -> T:
    """The value as `kind`. Raises OutputProblem with key, value and what is allowed."""
    if not isinstance(value, dict):
        raise OutputProblem(f"holds {type(value).__name__}; it must be a JSON object")
    try:
        return kind.model_validate(value)
    except ValidationError as problem:
        error = problem.errors()[0]
        key = ".".join(map(str, error["loc"]))
        if error["type"] == "missing":
            raise OutputProblem(f"has no key {key}; it needs {', '.join(kind.model_fields)}") from None
        said = error["msg"].removeprefix("Value error, ")
        raise OutputProblem(f"has {key} = {error['input']!r:.80}; {said[0].lower()}{said[1:]}") from None
