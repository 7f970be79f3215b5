"""python -m flightdelay.monitor --usecase F --reference D --windows D --out D

Is the model still right? Five questions about each week of traffic, each with an answer of its own, because each has a cure of its own:
mend the source, look at the answers, train again, deploy what was trained, mend the service.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC
from pathlib import Path

import polars as pl

from flightdelay.drift import LIMIT, Column, Usual, usual
from flightdelay.files import write_whole
from flightdelay.fit import misfit
from flightdelay.skew import side_by_side, skewed_columns
from flightdelay.windows import PROBABILITY, Window, windows

MISFIT_LIMIT = 4.0  # as drift.LIMIT; there are few measures, so less room is needed


@dataclass(frozen=True)
class Rules:
    """`[monitoring]` of the use case."""

    min_rows: int
    min_labels: float
    max_model_age_days: int
    skew_share: float
    skew_relative: float


@dataclass(frozen=True)
class Decision:
    """What is said of one window; the contract says what each value means."""

    window_id: str
    data: str
    prediction: str
    performance: str
    model_age: str
    skew: str
    columns: list[str]
    skewed: list[str]


@dataclass(frozen=True)
class Reference:
    """What good weeks are like."""

    columns: dict[str, Column]  # the features, and the answers
    misfit: dict[str, Usual]

    @classmethod
    def learn(cls, weeks: Sequence[Window]) -> Reference:
        names = [name for name in weeks[0].rows.columns if name != "row_id"]
        fits = [misfit(week.labelled) for week in weeks]
        return cls(
            {name: Column.learn([week.rows[name] for week in weeks]) for name in names},
            {measure: usual([fit[measure] for fit in fits]) for measure in fits[0]},
        )

    def scores(self, rows: pl.DataFrame) -> dict[str, float]:
        """How remarkable each column is; more than LIMIT is not what it is in good weeks."""
        nothing = pl.Series(values=[None] * len(rows))
        return {name: column.score(rows.get_column(name, default=nothing)) for name, column in self.columns.items()}

    def fits(self, labelled: pl.DataFrame) -> bool:
        """Whether the answers fit the labels as in good weeks."""
        return all(self.misfit[measure].score(value) <= MISFIT_LIMIT for measure, value in misfit(labelled).items())


def judge(window: Window, reference: Reference, rules: Rules) -> Decision:
    rows = window.rows
    enough = len(rows) >= rules.min_rows
    scores = reference.scores(rows) if enough else {}
    columns = [name for name, score in scores.items() if score > LIMIT and name != PROBABILITY]
    other_answers = enough and scores[PROBABILITY] > LIMIT
    known = len(window.labelled) > 0 and len(window.labelled) / len(rows) >= rules.min_labels
    age = (window.now.astimezone(UTC).date() - window.model_train_end).days
    compared, skewed = 0, []
    if window.batch is not None:
        served, batch = side_by_side(rows, window.batch)
        compared = len(served)
        skewed = skewed_columns(served, batch, list(reference.columns), rules.skew_share, rules.skew_relative)
    return Decision(
        window_id=window.name,
        data="unknown" if not enough else "drift" if columns else "ok",
        prediction="unknown" if not enough else "drift" if other_answers else "ok",
        performance="unknown" if not known else "ok" if reference.fits(window.labelled) else "degraded",
        model_age="stale" if age > rules.max_model_age_days else "ok",
        skew="unknown" if compared < rules.min_rows else "skew" if skewed else "ok",
        columns=columns,
        skewed=skewed if compared >= rules.min_rows else [],
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="monitor", description="Judge windows of traffic: is the model still right?")
    for name in ("usecase", "reference", "windows", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    numbers = tomllib.loads(given.usecase.read_text(encoding="utf-8"))["monitoring"]
    rules = Rules(**{name: numbers[name] for name in Rules.__annotations__})
    good = list(windows(given.reference))
    reference = Reference.learn(good)
    decisions, wanted = [], []
    for window in windows(given.windows):
        decisions.append(judge(window, reference, rules))
        if window.render:
            wanted.append((window, decisions[-1]))
    if wanted:
        # Evidently takes seconds to import, so only where a report is wanted.
        from flightdelay.reports import write_report

        normal = pl.concat(week.rows for week in good)
        for window, decision in wanted:
            scores = reference.scores(window.rows) if len(window.rows) else {}
            write_report(given.out / f"{window.name}.html", asdict(decision), scores, normal, window.rows)
    write_whole(given.out / "decisions.json", json.dumps({"windows": [asdict(d) for d in decisions]}).encode())


if __name__ == "__main__":
    main()
