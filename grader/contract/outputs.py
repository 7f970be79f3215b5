"""What a submission writes as JSON, as models: strict types, finite numbers, more keys than these allowed."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from grader.contract.gates import GateName
from grader.contract.monitoring import Age, Drift, Performance, Skew
from grader.contract.pipelines import MonthStatus
from grader.contract.retraining import Decision
from grader.contract.rules import RuleName, Status
from grader.contract.sentences import sentence

DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
CODE = r"^[a-z][a-z0-9_]*$"


class OutputProblem(Exception):
    """A JSON output breaks the contract; the message names file, key, value and what is allowed."""


def _day(value: str) -> str:
    wrong = "must be a date written YYYY-MM-DD, like 2023-01-31"
    if not re.fullmatch(DAY, value):
        raise ValueError(wrong)
    try:
        date.fromisoformat(value)
    except ValueError:
        raise ValueError(wrong) from None
    return value


def _code(value: str) -> str:
    if not re.fullmatch(CODE, value):
        raise ValueError("must be lower-case letters, digits and _, like unknown_key")
    return value


def _said(value: str) -> str:
    if not value.strip():
        raise ValueError("must say what is wrong")
    return value


Day = Annotated[str, AfterValidator(_day), Field(json_schema_extra={"format": "date", "pattern": DAY})]
Code = Annotated[str, AfterValidator(_code), Field(json_schema_extra={"pattern": CODE})]
Said = Annotated[str, AfterValidator(_said), Field(json_schema_extra={"minLength": 1})]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Output(BaseModel):
    """A JSON object that a submission writes; `FILE` is what messages call it."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)

    FILE: ClassVar[str]


class BaselineReport(Output):
    """The numbers that the notebook of stage 01 reports about its own validation rows."""

    FILE = "report.json"

    auc: Share = Field(description="Area under the ROC curve on the validation rows.")
    auc_low: Share = Field(description="Lower end of a 95 % interval of `auc`, by any usual method.")
    auc_high: Share = Field(description="Upper end of a 95 % interval of `auc`, by the same.")
    brier: Share = Field(description="Mean squared error of the probabilities on the validation rows.")
    base_rate: Share = Field(description="Share of late flights among those the scored model learned from.")
    train_start: Day = Field(description="First day of the flights the scored model learned from.")
    train_end: Day = Field(description="Last day of the flights the scored model learned from.")
    valid_start: Day = Field(description="First day of the validation rows.")
    valid_end: Day = Field(description="Last day of the validation rows.")

    @model_validator(mode="after")
    def _in_order(self) -> BaselineReport:
        _window("train", self.train_start, self.train_end)
        _window("valid", self.valid_start, self.valid_end)
        return self


class ModelRecord(Output):
    """What `train` says about the model it made (stage 02)."""

    FILE = "model.json"

    train_start: Day = Field(description="First day of the training window, as the configuration gave it.")
    train_end: Day = Field(description="Last day of the training window, inclusive, as the configuration gave it.")
    rows: int = Field(
        ge=1,
        description="Number of flights with a label that the model learned from; at least half of those in the window.",
    )
    seed: int = Field(description="The seed the configuration gave.")

    @model_validator(mode="after")
    def _in_order(self) -> ModelRecord:
        _window("train", self.train_start, self.train_end)
        return self


class TrainRecord(Output):
    """Where `train` logged its run (stage 05)."""

    FILE = "train.json"

    run_id: Said = Field(description="The id of the MLflow run.")
    model_uri: Said = Field(description="The logged model: `models:/ID`, or `runs:/RUN_ID/NAME`.")


class SuiteResult(Output):
    """How the submission's own tests went (stage 02)."""

    FILE = "the result of `test`"

    passed: Count = Field(description="Number of tests that passed.")
    failed: Count = Field(description="Number of tests that failed or could not run; with `passed` these are all.")


class FeedFinding(BaseModel):
    """One rule that a feed breaks in one column, or in a table as a whole."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    table: str = Field(description="The table at fault.")
    column: str | None = Field(None, description="The column at fault; null where the rule is about rows or the file.")
    rule: RuleName = Field(description="The rule that is broken.")
    rows: Count = Field(description="How many rows break it; for rules about a feed or a column, any number.")


class FeedReport(Output):
    """What `validate` says about one feed (stage 03)."""

    FILE = "report.json"

    status: Status = Field(description="What became of the feed.")
    rows_in: Count = Field(description="Rows of all its tables; of a feed that is refused, any number.")
    rows_accepted: Count = Field(description="Rows in `accepted/`; 0 if it is refused.")
    rows_quarantined: Count = Field(description="Rows that are quarantined, each counted once; 0 if it is refused.")
    findings: list[FeedFinding] = Field(
        description="Each broken rule once for each table and column; what several files break may stand there for each of them."
    )


class VersionRecord(Output):
    """Which version `register` gave a run's model (stage 06)."""

    FILE = "the result of `register`"

    version: Said = Field(description="The version in the registry.")


class Reason(BaseModel):
    """Why a challenger was refused: one gate that said no."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)

    gate: GateName = Field(description="The gate.")
    metric: Said = Field(description="What was measured.")
    champion: float | None = Field(description="What the champion got; null where there is no such number.")
    challenger: float | None = Field(description="What the challenger got.")
    bar: float | None = Field(description="What would have been allowed.")
    slice: str | None = Field(None, description="For the gate `slice`: column and value, `origin=JFK`.")


class GateDecision(Output):
    """What `promote` decided (stage 06)."""

    FILE = "the result of `promote`"

    decision: Literal["promoted", "refused"] = Field(description="What became of the challenger.")
    champion_before: str | None = Field(description="The champion's version before; null where there was none.")
    champion_after: str | None = Field(description="The champion's version now.")
    reasons: list[Reason] = Field(description="Why it was refused; empty if it was promoted.")

    @model_validator(mode="after")
    def _with_reasons(self) -> GateDecision:
        if bool(self.reasons) != (self.decision == "refused"):
            raise ValueError("reasons has to say why where decision is refused, and to be empty where it is promoted")
        return self


class RollbackRecord(Output):
    """What `rollback` did (stage 06)."""

    FILE = "the result of `rollback`"

    before: str | None = Field(alias="from", description="The champion's version before.")
    after: Said = Field(alias="to", description="The champion's version now.")


class AuditRecord(Output):
    """One line of the audit log (stage 06)."""

    FILE = "audit.jsonl"

    at: Said = Field(description="When, RFC 3339.")
    action: Literal["promote", "rollback"] = Field(description="The command.")
    before: str | None = Field(alias="from", description="The champion's version before.")
    after: str | None = Field(alias="to", description="The version that was judged, or gone back to.")
    decision: Literal["promoted", "refused"] = Field(description="What was decided; of a rollback, promoted.")
    reasons: list[Reason] = Field(description="As in the decision.")


class MonthRecord(BaseModel):
    """What became of one month that was asked for."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    month: Said = Field(description="The month, `YYYY-MM`.")
    status: MonthStatus = Field(description="What became of it.")
    rows_in: Count = Field(
        description="Rows of all its tables; of one that failed, or whose feed is refused, any number."
    )
    rows_accepted: Count = Field(description="Rows that are in the data; 0 if it is refused or failed.")
    rows_quarantined: Count = Field(description="Rows that are not; 0 if it is refused or failed.")
    reason: str | None = Field(None, description="Why it is refused or failed.")

    @model_validator(mode="after")
    def _with_a_reason(self) -> MonthRecord:
        if self.status in ("refused", "failed") and not (self.reason or "").strip():
            raise ValueError(f"reason has to say why where status is {self.status}")
        return self


class PipelineRecord(Output):
    """What `pipeline` did (stage 07)."""

    FILE = "the result of `pipeline`"

    flow_run_id: Said = Field(description="The id of the Prefect flow run.")
    months: list[MonthRecord] = Field(description="The months asked for, in their order.")
    version: str | None = Field(
        description="The version that learned from the data as they are now; null where there is none."
    )
    promoted: bool = Field(description="Whether the gate let it through.")


class Prediction(BaseModel):
    """What one row gets."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)

    row_id: str = Field(description="As in the request.")
    probability: float = Field(ge=0, le=1, description="That the label holds.")


class PredictAnswer(Output):
    """What `POST /v1/predict` answers (stage 08)."""

    FILE = "the answer"

    request_id: Said = Field(description="The request's own, or one that you made.")
    model_version: Said = Field(description="The version that scored all rows.")
    predictions: list[Prediction] = Field(description="`{row_id, probability}` for each row, in the order of the rows.")


class Readiness(Output):
    """What `GET /readyz` answers (stage 08)."""

    FILE = "the answer"

    ready: bool = Field(description="Whether a request to predict would be answered now.")
    model_version: str | None = Field(None, description="The version that would answer.")
    reason: str | None = Field(None, description="Why it is not ready.")

    @model_validator(mode="after")
    def _with_a_reason(self) -> Readiness:
        if not self.ready and not (self.reason or "").strip():
            raise ValueError("reason has to say why where ready is false")
        return self


class Running(Output):
    """What `GET /version` answers (stage 08)."""

    FILE = "the answer"

    model_name: Said = Field(description="The use case's `model_name`.")
    model_version: str | None = Field(description="The version that answers; null where there is none.")
    run_id: str | None = Field(description="The MLflow run that the version came from.")
    contract: int = Field(description="The version of this contract.")
    accepts: list[str] = Field(description="The versions of requests that it answers: `v1`.")


class OpsAnswer(Output):
    """What `ops` answers (stage 09)."""

    FILE = "the result of `ops`"

    answer: str | float | list[str] | None = Field(description="As the question asks.")


class Judgement(BaseModel):
    """What `monitor` says about one window."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    window_id: Said = Field(description="The name of the window's folder.")
    data: Drift = Field(description="Whether the features are what they are in good weeks.")
    prediction: Drift = Field(description="Whether the answers are.")
    performance: Performance = Field(description="Whether the answers fit the labels as they do in good weeks.")
    model_age: Age = Field(description="Whether the model learned from data that are recent enough.")
    skew: Skew = Field(description="Whether the service computed the features that the nightly job did.")
    columns: list[str] = Field(description="The columns that drifted; empty unless `data` is drift.")
    skewed: list[str] = Field(description="The columns that differ; empty unless `skew` is skew.")

    @model_validator(mode="after")
    def _with_columns(self) -> Judgement:
        for named, flag, alarm in (("columns", self.data, "drift"), ("skewed", self.skew, "skew")):
            if bool(getattr(self, named)) != (flag == alarm):
                about = "data" if named == "columns" else "skew"
                raise ValueError(f"must name columns in {named} where {about} is {alarm}, and only there")
        return self


class Monitored(Output):
    """What `monitor` decided (stage 10)."""

    FILE = "decisions.json"

    windows: list[Judgement] = Field(description="One object for each window.")


class LoopAnswer(Output):
    """What `loop` answers to a step (stage 11)."""

    FILE = "the answer"

    step: Count = Field(description="The step that is answered.")
    decision: Decision = Field(description="Whether versions were made.")
    trigger: Said = Field(description="On what the decision rests.")
    versions: list[Said] = Field(description="The versions that were made at this step; empty if none were.")
    champion: Said = Field(description="The champion's version after this step.")
    months: list[MonthRecord] = Field(description="The months that the message names, in their order.")

    @model_validator(mode="after")
    def _with_versions(self) -> LoopAnswer:
        if bool(self.versions) != (self.decision == "retrain"):
            raise ValueError(
                "versions has to name what was made where decision is retrain, and to be empty where it is keep"
            )
        return self


class Refusal(Output):
    """Why a command refused to work, in the file that `MLEKIT_REFUSAL` names (exit code 2)."""

    FILE = "the refusal file"

    code: Code = Field(description="A short name of your own for the reason, such as `unknown_key`.")
    message: Said = Field(description="One sentence for a person: what was given, what is allowed.")
    key: str | None = Field(None, description="The configuration key at fault. Needed when a configuration is refused.")
    column: str | None = Field(None, description="The column at fault, where there is one.")
    rule: str | None = Field(None, description="The rule of the data contract that was broken, where there is one.")


def _window(name: str, start: str, end: str) -> None:
    if start > end:
        raise ValueError(f"{name}_start is {start!r} and {name}_end {end!r}; {name}_start must be at most {name}_end")


OutputT = TypeVar("OutputT", bound=Output)


def parse_output(model: type[OutputT], value: Any, name: str | None = None) -> OutputT:
    """Check the value of a JSON file that a submission wrote.

    `value` is what `json.loads` (or the sandboxed reader) gave; `name` replaces the model's own name for the file in
    messages. Raises OutputProblem for the first thing that is wrong: "report.json: auc is '0.7'; it must be a number".
    """
    try:
        return model.model_validate(value)
    except ValidationError as problem:
        needed = [key for key, field in model.model_fields.items() if field.is_required()]
        first = problem.errors(include_url=False)[0]
        raise OutputProblem(sentence(first, name or model.FILE, ": ", needed, "an object with keys")) from None
