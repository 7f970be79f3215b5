"""The report for people, by Evidently; the only module that knows it, since its interface has moved more than once."""

from __future__ import annotations

import html
from pathlib import Path

import polars as pl
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

MOST_ROWS = 5_000  # of the reference; more say nothing more in a picture
BANNER = """<table style="font: 16px sans-serif; margin: 1em; border-spacing: 1em .2em">
<caption style="text-align: left; padding: .5em 1em"><b>Window {window_id}</b></caption>
{lines}
</table>
<p style="font: 14px sans-serif; margin: 1em 2em">The decision above compares this week with how much good weeks differ from each other.
The pictures below are Evidently's, with its own thresholds, which know nothing of weeks: look at the shapes.</p>
"""
FLAGS = {
    "data": "features", "columns": "columns that drifted", "prediction": "answers", "performance": "answers and labels",
    "model_age": "age of the model", "skew": "service and nightly job", "skewed": "columns that differ",
}  # fmt: skip


def write_report(path: Path, decision: dict, normal: pl.DataFrame, rows: pl.DataFrame) -> None:
    """One page: what was decided, and how each column lies in the reference and in the window."""
    page = _pictures(normal, rows)
    begin = page.index("<body") if "<body" in page else 0
    after = page.index(">", begin) + 1
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


def _pictures(normal: pl.DataFrame, rows: pl.DataFrame) -> str:
    """Evidently's page on the columns that both have and in which there is anything to see."""
    shared = [
        name for name in normal.columns if name != "row_id" and name in rows.columns and rows[name].drop_nulls().len()
    ]
    texts = [name for name in shared if normal[name].dtype == pl.String]
    definition = DataDefinition(
        categorical_columns=texts, numerical_columns=[name for name in shared if name not in texts]
    )
    reference, current = (
        Dataset.from_pandas(table.select(shared).to_pandas(), data_definition=definition)
        for table in (normal.sample(min(MOST_ROWS, len(normal)), seed=0), rows)
    )
    return Report([DataDriftPreset()]).run(current, reference).get_html_str(as_iframe=False)
