"""Is this week like good weeks? Measured by how much good weeks differ from each other.

A test that takes rows for independent (Kolmogorov-Smirnov, chi-square) asks another question: could these rows have been drawn from those?
The rows of one week share seven days, their weather and their delays, so the honest answer is nearly always no, and the test raises an
alarm every week. And with twenty columns, one test in twenty at the five percent level is wrong each week even where rows are independent.

So each column is reduced to one distance from the reference, and the distance is compared with those that the weeks of the reference
have among themselves. A week is remarkable if it lies further out than good weeks do, by a margin that leaves room for many columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

LIMIT = 5.0  # standard deviations that a week may lie further out than good weeks do on average
BINS = 10  # of numbers, equally full in the reference
FREQUENT = 30  # categories that are counted each on its own
UNSEEN = 0.01  # share of rows with a category that the reference does not have
LEAST_SPREAD = 0.005  # of a distance or share: a column that never varied may still vary a little


@dataclass(frozen=True)
class Bins:
    """How the values of one column are counted: numbers by `edges`, texts by `names`."""

    edges: np.ndarray | None
    names: list[str] | None

    def counts(self, values: pl.Series) -> np.ndarray:
        """How many values are in each bin; shape (bins,). Of texts, the last bin is for those that are not in `names`."""
        values = values.drop_nulls()
        if self.names is not None:
            at = values.cast(pl.String).replace_strict(self.names, range(len(self.names)), default=len(self.names))
            return np.bincount(at.to_numpy().astype(int), minlength=len(self.names) + 1)
        return np.bincount(np.searchsorted(self.edges, _numbers(values)), minlength=len(self.edges) + 1)


def _numbers(values: pl.Series) -> np.ndarray:
    """The values without null and NaN; shape (n,)."""
    found = values.cast(pl.Float64).drop_nulls().to_numpy()
    return found[~np.isnan(found)]


def bins_of(values: pl.Series) -> Bins:
    """Bins that the values of the reference fill about equally."""
    if values.dtype == pl.String:
        common = values.drop_nulls().value_counts(sort=True).head(FREQUENT)
        return Bins(None, common[values.name].to_list())
    return Bins(np.unique(np.quantile(_numbers(values), np.linspace(0, 1, BINS + 1)[1:-1])), None)


def distance(counts: np.ndarray, reference: np.ndarray) -> float:
    """The Hellinger distance of two histograms, 0 (alike) to 1 (nothing in common); half a row is added to each bin."""
    one, other = ((c + 0.5) / (c + 0.5).sum() for c in (counts, reference))
    return float(np.sqrt(((np.sqrt(one) - np.sqrt(other)) ** 2).sum() / 2))


@dataclass(frozen=True)
class Usual:
    """What a number is in good weeks."""

    mean: float
    spread: float

    def score(self, value: float) -> float:
        """How many standard deviations a value lies above the mean."""
        return (value - self.mean) / self.spread


def usual(values: Sequence[float]) -> Usual:
    return Usual(float(np.mean(values)), max(float(np.std(values, ddof=1)), LEAST_SPREAD))


@dataclass(frozen=True)
class Column:
    """One column of the reference: its bins, all of its values in them, and how far from it good weeks lie."""

    bins: Bins
    total: np.ndarray
    seen: frozenset[str] | None
    distance: Usual
    nulls: Usual

    @classmethod
    def learn(cls, weeks: Sequence[pl.Series]) -> Column:
        """From the values of the column in each good week."""
        every = pl.concat(weeks)
        bins = bins_of(every)
        counts = [bins.counts(week) for week in weeks]
        total = np.sum(counts, axis=0)
        return cls(
            bins,
            total,
            frozenset(every.drop_nulls().unique()) if every.dtype == pl.String else None,
            # Each week against all others: a week that is part of what it is compared with looks nearer than a new one will.
            usual([distance(c, total - c) for c in counts]),
            usual([_null_share(week) for week in weeks]),
        )

    def score(self, values: pl.Series) -> float:
        """How remarkable the values of a week are; more than LIMIT is drift."""
        scores = [self.nulls.score(_null_share(values))]
        if values.null_count() < len(values):
            scores.append(self.distance.score(distance(self.bins.counts(values), self.total)))
            if self.seen is not None and not values.drop_nulls().is_in(list(self.seen)).mean() > 1 - UNSEEN:
                scores.append(np.inf)
        return max(scores)


def _null_share(values: pl.Series) -> float:
    nan = values.is_nan().sum() if values.dtype.is_float() else 0
    return (values.null_count() + nan) / len(values)
