"""The few statistics that bars are made of: numpy only, each with its source."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def _midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties share their mean rank; shape (n,)."""
    import numpy as np

    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    ranks: np.ndarray = (last - (counts - 1) / 2)[inverse]
    return ranks


def _placements(late: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive the share of negatives below it, for each negative the share of positives above it."""
    every, positive, negative = _midranks(score), _midranks(score[late]), _midranks(score[~late])
    m, n = int(late.sum()), int((~late).sum())
    return (every[late] - positive) / n, 1 - (every[~late] - negative) / m


def auc(late: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve; `late` (n,) bool with both classes, `score` (n,)."""
    return float(_placements(late, score)[0].mean())


def auc_difference(late: np.ndarray, score: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """AUC(score) - AUC(other) on the same rows, and its standard error (DeLong, DeLong & Clarke-Pearson 1988)."""
    import numpy as np

    (p1, n1), (p2, n2) = _placements(late, score), _placements(late, other)
    variance = np.var(p1 - p2, ddof=1) / len(p1) + np.var(n1 - n2, ddof=1) / len(n1)
    return float(p1.mean() - p2.mean()), float(np.sqrt(variance))


def auc_error(late: np.ndarray, score: np.ndarray) -> float:
    """Standard error of one AUC (DeLong et al. 1988)."""
    import numpy as np

    positive, negative = _placements(late, score)
    return float(np.sqrt(np.var(positive, ddof=1) / len(positive) + np.var(negative, ddof=1) / len(negative)))


def calibration_error(late: np.ndarray, probability: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over bins of equal counts: mean |observed rate - mean probability|."""
    import numpy as np

    order = np.argsort(probability, kind="stable")
    gaps = [
        abs(late[part].mean() - probability[part].mean()) * len(part)
        for part in np.array_split(order, bins)
        if len(part)
    ]
    return float(sum(gaps) / len(late))


def binomial_interval(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a proportion (Clopper & Pearson 1934)."""
    tail = (1 - confidence) / 2
    low = _where(lambda p: 1 - _at_most(hits - 1, count, p), tail) if hits else 0.0
    high = _where(lambda p: 1 - _at_most(hits, count, p), 1 - tail) if hits < count else 1.0
    return low, high


def mean_by_cluster(values: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    """The mean of values (n,) and its standard error where those of one `cluster` (n,) are alike (Liang & Zeger 1986)."""
    import numpy as np

    mean = values.mean()
    _, which = np.unique(cluster, return_inverse=True)
    off = np.bincount(which, values - mean)
    return float(mean), float(np.sqrt((off**2).sum()) / len(values))


def _at_most(hits: int, count: int, p: float) -> float:
    """The probability of at most so many hits."""
    return sum(math.comb(count, k) * p**k * (1 - p) ** (count - k) for k in range(hits + 1))


def _where(rising: Callable[[float], float], value: float) -> float:
    """Where a rising function of a probability reaches a value (bisection)."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return low
