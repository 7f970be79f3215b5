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


def timeline(title: str, spans: Mapping[str, Sequence[tuple[float, float]]], says: str) -> Chart:
    """Stretches of time in seconds, one row each name."""
    series = tuple(
        Series(name, tuple(round(a, 2) for a, _ in found), tuple(round(b, 2) for _, b in found))
        for name, found in spans.items()
    )
    return Chart(ChartKind.SPANS, title, "seconds", "", series, says)


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], says: str) -> Chart:
    """Words in rows and columns; the first column names the rows."""
    names = tuple(row[0] for row in rows)
    series = tuple(Series(head, names, tuple(row[n] for row in rows)) for n, head in enumerate(headings) if n)
    return Chart(ChartKind.TABLE, title, headings[0], "", series, says)


def pairs(title: str, numbers: Mapping[str, tuple[float, float]]) -> Chart:
    """What was logged beside what we measured, one pair of bars a metric."""
    names = tuple(numbers)
    logged, measured = (tuple(round(pair[side], 4) for pair in numbers.values()) for side in (0, 1))
    says = "; ".join(
        f"{name}: logged {a:.4f}, measured {b:.4f}" for name, a, b in zip(names, logged, measured, strict=True)
    )
    return Chart(
        ChartKind.BARS,
        title,
        "metric",
        "value",
        (Series("logged", names, logged), Series("measured", names, measured)),
        says,
    )


def aging(
    title: str,
    said: Mapping[tuple[str, str], Mapping[str, float]],
    measured: Mapping[tuple[str, str], Mapping[str, float]],
) -> Chart:
    """Log loss by month scored: one line for each last day learned from, and the points that were measured again."""
    series = []
    for end in sorted({end for end, _ in said}):
        months = sorted(month for last, month in said if last == end)
        losses = tuple(round(float(said[end, month]["log_loss"]), 4) for month in months)
        series.append(Series(f"learned up to {end}", tuple(f"{month}-15" for month in months), losses))
    for end in sorted({end for end, _ in measured}):
        months = sorted(month for last, month in measured if last == end)
        losses = tuple(round(float(measured[end, month]["log_loss"]), 4) for month in months)
        series.append(Series(f"measured again, up to {end}", tuple(f"{month}-15" for month in months), losses))
    says = "; ".join(f"{s.name}: {', '.join(f'{value:.3f}' for value in s.y)}" for s in series)
    return Chart(ChartKind.LINE, title, "month scored", "log loss", tuple(series), says)


def shares(title: str, x: str, values: Mapping[str, np.ndarray]) -> Chart:
    """What share of each set of sorted values (n,) is at most so large, from none to 99 of 100; the last set is the control."""
    import numpy as np

    at = np.linspace(0, 0.99, POINTS)
    *series, control = (Series(name, _rounded(np.quantile(found, at)), _rounded(at)) for name, found in values.items())
    says = "; ".join(
        f"{name}: half within {np.quantile(found, 0.5):.1f}, 95 of 100 within {np.quantile(found, 0.95):.1f}"
        for name, found in values.items()
    )
    return Chart(ChartKind.LINE, title, x, "share of requests", tuple(series), f"{x}; {says}", control)


def bars(title: str, x: str, y: str, series: Sequence[Series], says: str) -> Chart:
    """A group of bars for each x, one bar a series."""
    return Chart(ChartKind.BARS, title, x, y, tuple(series), says)


def line(title: str, x: str, y: str, series: Sequence[Series], says: str) -> Chart:
    """Lines through the points of each series."""
    return Chart(ChartKind.LINE, title, x, y, tuple(series), says)


def marked(title: str, x: str, y: str, series: Sequence[Series], marks: Sequence[Series], says: str) -> Chart:
    """Lines through the points of each series, and on them the points at which something happened."""
    return Chart(ChartKind.LINE, title, x, y, tuple(series), says, marks=tuple(marks))
