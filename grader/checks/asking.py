"""Requests to a submission's service, and what its answers have to be; shared by the stages that talk to one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from grader.checks.api import Fault
from grader.contract.outputs import Output, OutputProblem, PredictAnswer, parse_output
from grader.services import Answer, Request
from grader.world.layout import as_objects

PREDICT = "/v1/predict"
rows_of = as_objects  # the rows of a request


def question(rows: Sequence[Mapping[str, Any]], request_id: str | None = None) -> Request:
    """A request to predict."""
    headers = {"X-Request-ID": request_id} if request_id is not None else {}
    return Request("POST", PREDICT, json.dumps({"rows": list(rows)}).encode(), headers)


def got(answer: Answer) -> str:
    """What a request got, for a person."""
    if answer.error is not None:
        return answer.error if answer.status is None else f"status {answer.status}, and then {answer.error}"
    more = f", {answer.body[:300]!r}" if answer.status is None or answer.status >= 400 else ""
    return f"status {answer.status}{more}"


def value_of(answer: Answer, status: int, what: str) -> Any:
    """The JSON of an answer that has to have a status. Raises Fault."""
    if answer.error is not None or answer.status != status:
        moved = f" to {answer.headers['location']!r}" if "location" in answer.headers else ""
        raise Fault(f"{what}; it has to get {status}, and got {got(answer)}{moved}")
    if coded := answer.headers.get("content-encoding"):
        raise Fault(f"{what}; its answer is encoded ({coded!r}), and we said that we take it as it is")
    try:
        return json.loads(answer.body, parse_constant=_no_number, object_pairs_hook=_each_once)
    except _Twice as problem:
        raise Fault(f"{what}; its answer has the key {problem.key[:80]!r} twice in one object") from None
    except (ValueError, RecursionError):
        raise Fault(f"{what}; its answer is no JSON: {answer.body[:120]!r}") from None


T = TypeVar("T", bound=Output)


def parsed(model: type[T], answer: Answer, status: int, what: str) -> T:
    """An answer of the contract. Raises Fault."""
    value = value_of(answer, status, what)
    try:
        return parse_output(model, value)
    except OutputProblem as problem:
        raise Fault(f"{what}; {problem}") from None


def predicted(answer: Answer, rows: Sequence[Mapping[str, Any]], what: str) -> PredictAnswer:
    """The answer to a request to predict, with a prediction for each row, in their order. Raises Fault."""
    found = parsed(PredictAnswer, answer, 200, what)
    ids = [prediction.row_id for prediction in found.predictions]
    if ids != [row["row_id"] for row in rows]:
        why = (
            "in another order" if sorted(ids) == sorted(row["row_id"] for row in rows) else "not those that were asked"
        )
        raise Fault(f"{what}; its answer has {len(ids)} predictions for {len(rows)} rows, {why}")
    return found


class _Twice(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; one that names a key twice says another thing to each reader."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
