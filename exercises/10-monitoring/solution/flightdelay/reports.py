"""The report for people, by Evidently; the only module that knows it, since its interface has moved more than once.

Evidently draws, and is told what was decided: left to itself it picks a test by the number of rows, and calls most good weeks drifted. A
page that says two things is worse than none.
"""

from __future__ import annotations

import html
from pathlib import Path

import polars as pl
from evidently import DataDefinition, Dataset, Report
from evidently.legacy.calculations.stattests import StatTest, register_stattest
from evidently.legacy.core import ColumnType
from evidently.presets import DataDriftPreset

from flightdelay.drift import LIMIT

MOST_ROWS = 5_000  # of the reference; more say nothing more in a picture
BANNER = """<table style="font: 16px sans-serif; margin: 1em; border-spacing: 1em .2em">
<caption style="text-align: left; padding: .5em 1em"><b>Window {window_id}</b></caption>
{lines}
</table>
"""
HIGHEST = 99.0  # shown of scores without an end
FLAGS = {
    "data": "features", "columns": "columns that drifted", "prediction": "answers", "performance": "answers and labels",
    "model_age": "age of the model", "skew": "service and nightly job", "skewed": "columns that differ",
}  # fmt: skip


def write_report(
    path: Path, decision: dict, scores: dict[str, float], normal: pl.DataFrame, rows: pl.DataFrame
) -> None:
    """One page: what was decided, and how each column lies in the reference and in the window; `scores` as in drift, by column."""
    page = _pictures(normal, rows, scores)
    after = page.index(">", page.index("<body")) + 1
    path.write_text(page[:after] + banner(decision) + page[after:], encoding="utf-8")


def banner(decision: dict) -> str:
    """The decision as a table."""

    def shown(value: object) -> str:
        return html.escape(", ".join(value) if isinstance(value, list) else str(value))

    lines = "\n".join(
        f'<tr><td>{title}</td><td><b data-mlekit="{flag}">{shown(decision[flag])}</b></td></tr>'
        for flag, title in FLAGS.items()
    )
    return BANNER.format(window_id=html.escape(decision["window_id"]), lines=lines)


def _pictures(normal: pl.DataFrame, rows: pl.DataFrame, scores: dict[str, float]) -> str:
    """Evidently's page on the columns in which there is anything to see."""
    shared = [name for name in scores if name in rows.columns and rows[name].drop_nulls().len()]
    if not shared:
        return "<!doctype html><body></body>"
    texts = [name for name in shared if normal[name].dtype == pl.String]
    definition = DataDefinition(
        categorical_columns=texts, numerical_columns=[name for name in shared if name not in texts]
    )
    reference, current = (
        Dataset.from_pandas(table.select(shared).to_pandas(), data_definition=definition)
        for table in (normal.sample(min(MOST_ROWS, len(normal)), seed=0), rows)
    )
    decided = {name: _decided(name, scores[name]) for name in shared}
    preset = DataDriftPreset(drift_share=0.01, per_column_method=decided)
    return Report([preset]).run(current, reference).get_html_str(as_iframe=False)


def _decided(name: str, score: float) -> StatTest:
    """A test as Evidently wants one, whose outcome is known: the column's score, of which more than LIMIT is drift."""
    kinds = [ColumnType.Numerical, ColumnType.Categorical]
    test = StatTest(f"weeks_{name}", "standard deviations from good weeks", kinds, LIMIT)
    shown = min(score, HIGHEST)
    register_stattest(test, lambda reference, current, kind, limit: (shown, shown > limit))
    return test
