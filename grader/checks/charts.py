"""The charts that checks hand over with a verdict: aggregates of what was measured, never rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from grader.checks import statistics
from grader.verdict import Chart, ChartKind, Series

if TYPE_CHECKING:
    import numpy as np

POINTS = 41
BINS = 10


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(v), 4) for v in values)


def roc(title: str, late: np.ndarray, scores: Mapping[str, np.ndarray]) -> Chart:
    """The ROC curve of each score, thinned to a few dozen points; `late` (n,) bool with both classes, scores (n,)."""
    import numpy as np

    at = np.linspace(0, 1, POINTS)
    series = []
    for name, score in scores.items():
        order = np.argsort(-score, kind="stable")
        last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
        caught, alarmed = np.cumsum(late[order])[last], np.cumsum(~late[order])[last]
        x, y = np.append(0, alarmed / (~late).sum()), np.append(0, caught / late.sum())
        series.append(Series(name, _rounded(at), _rounded(np.interp(at, x, y))))
    areas = "; ".join(f"{name}: AUC {statistics.auc(late, score):.3f}" for name, score in scores.items())
    guess = Series("guessing", (0.0, 1.0), (0.0, 1.0))
    return Chart(
        ChartKind.LINE, title, "punctual flights called late", "late flights called late", tuple(series), areas, guess
    )


def calibration(title: str, name: str, late: np.ndarray, probability: np.ndarray) -> Chart:
    """Observed rate against stated probability in bins of equal counts; shapes (n,)."""
    import numpy as np

    parts = [part for part in np.array_split(np.argsort(probability, kind="stable"), BINS) if len(part)]
    stated = np.array([probability[part].mean() for part in parts])
    observed = np.array([late[part].mean() for part in parts])
    says = f"between stated {stated[0]:.2f} and {stated[-1]:.2f}, {observed[0]:.2f} to {observed[-1]:.2f} were late"
    top = round(float(max(stated.max(), observed.max())), 4)
    ideal = Series("stated = observed", (0.0, top), (0.0, top))
    series = (Series(name, _rounded(stated), _rounded(observed)),)
    return Chart(ChartKind.POINTS, title, "stated probability", "share that was late", series, says, ideal)


def calendar(title: str, spans: Mapping[str, tuple[str, str]]) -> Chart:
    """Stretches of the calendar, one row each, from the first day to the last (YYYY-MM-DD)."""
    series = tuple(Series(name, (first,), (last,)) for name, (first, last) in spans.items())
    says = "; ".join(f"{name}: {first} to {last}" for name, (first, last) in spans.items())
    return Chart(ChartKind.SPANS, title, "", "", series, says)


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], says: str) -> Chart:
    """Words in rows and columns; the first column names the rows."""
    names = tuple(row[0] for row in rows)
    series = tuple(Series(head, names, tuple(row[n] for row in rows)) for n, head in enumerate(headings) if n)
    return Chart(ChartKind.TABLE, title, headings[0], "", series, says)
