"""The gate: what a challenger has to show before it may become the champion.

All gates are asked, also after one has said no: whoever is refused wants to know all of it at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from sklearn.metrics import roc_auc_score

# The bars. An error is a standard error of the mean difference in log loss, row by row on the same flights.
BETTER = 2.0  # errors by which it has to be better than the champion
WORSE = 3.0  # errors by which it may be worse in a slice; higher, since there are many slices
TOO_GOOD = 0.87  # an AUC that nobody reaches honestly with this problem
CALIBRATION = 0.1  # how far its probabilities may lie from what happens, on average over ten bins
SLOWER = 5.0  # times the champion's time for one row

FEW = 200  # a slice of fewer flights shows nothing
BINS = 10
TRIES = 7  # single rows that are timed


@dataclass(frozen=True)
class Reason:
    """Why a challenger was refused: which gate, by which number, and what would have been allowed."""

    gate: str
    metric: str
    champion: float | None
    challenger: float | None
    bar: float | None
    slice: str | None = None

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


class NoAnswer(Exception):
    """A model does not load, or does not say what a model has to say; the message is the metric at fault."""


@dataclass(frozen=True)
class Candidate:
    """What a model says of the gate's flights, shape (n,), and how long it takes for one, in seconds."""

    probability: np.ndarray
    seconds: float


def ask(uri: str, features: pd.DataFrame) -> Candidate:
    """Load a registered model, let it score all flights, and time it on single ones. Raises NoAnswer."""
    try:
        model = mlflow.pyfunc.load_model(uri)
        probability = answer(model, features)
        seconds = []
        for row in np.linspace(0, len(features) - 1, TRIES, dtype=int):
            start = time.perf_counter()
            answer(model, features.iloc[[row]])
            seconds.append(time.perf_counter() - start)
    except NoAnswer:
        raise
    except MlflowException as problem:
        raise NoAnswer(f"input: {problem.message[:200]}") from None
    except Exception as problem:  # whatever a model does that does not work
        raise NoAnswer(f"{type(problem).__name__}: {str(problem)[:200]}") from None
    return Candidate(probability, min(seconds))  # the least: what else the machine does can only add


def answer(model: mlflow.pyfunc.PyFuncModel, features: pd.DataFrame) -> np.ndarray:
    """The probabilities of a model, shape (n,). Raises NoAnswer where they are none."""
    said = model.predict(features)
    if not isinstance(said, pd.DataFrame) or "probability" not in said:
        raise NoAnswer("output has no column probability")
    found = said["probability"].to_numpy(np.float64)
    if found.shape != (len(features),):
        raise NoAnswer("output has another number of rows")
    if not ((found >= 0) & (found <= 1)).all():  # NaN is neither
        raise NoAnswer("probability missing or outside 0 to 1")
    return found


def judge(
    label: np.ndarray, slices: Mapping[str, np.ndarray], challenger: Candidate, champion: Candidate | None
) -> Iterator[Reason]:
    """The gates that say no. `label` (n,) bool; `slices` masks (n,) by their names; without a champion nothing is compared."""
    own = losses(label, challenger.probability)
    if champion is not None:
        its = losses(label, champion.probability)
        more, error = difference(own, its)
        if more > -BETTER * error or more >= 0:
            yield Reason("not_better", "log_loss", its.mean(), own.mean(), its.mean() - BETTER * error)
        for name, inside in slices.items():
            more, error = difference(own[inside], its[inside])
            if inside.sum() >= FEW and more > WORSE * error:
                here = its[inside].mean()
                yield Reason("slice", "log_loss", here, own[inside].mean(), here + WORSE * error, name)
        bar = SLOWER * champion.seconds
        if challenger.seconds > bar:
            yield Reason("latency", "seconds_per_row", champion.seconds, challenger.seconds, bar)

    known = champion.probability if champion else None
    auc = roc_auc_score(label, challenger.probability)
    if auc > TOO_GOOD:
        yield Reason("too_good", "auc", None if known is None else roc_auc_score(label, known), auc, TOO_GOOD)
    gap = calibration_error(label, challenger.probability)
    if gap > CALIBRATION:
        before = None if known is None else calibration_error(label, known)
        yield Reason("calibration", "calibration_error", before, gap, CALIBRATION)


def losses(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """The log loss of each row, shape (n,); certainty is clipped as scikit-learn does it."""
    smallest = np.finfo(np.float64).eps
    clipped = np.clip(probability, smallest, 1 - smallest)
    return -np.where(label, np.log(clipped), np.log1p(-clipped))


def difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Mean of `one - other`, shape (n,), and its standard error. The same rows in both: what they share cancels out."""
    apart = one - other
    return float(apart.mean()), float(apart.std(ddof=1) / np.sqrt(len(apart)))


def calibration_error(label: np.ndarray, probability: np.ndarray) -> float:
    """How far probabilities lie from what happened, on average over bins of as many rows each."""
    bins = np.array_split(np.argsort(probability, kind="stable"), BINS)
    return float(sum(abs(label[b].mean() - probability[b].mean()) * len(b) for b in bins if len(b)) / len(label))
