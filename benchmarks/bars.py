"""How often honest models miss the bars of stages 01 and 02 that are drawn by lot: eight designs on many worlds.

python benchmarks/bars.py --worlds 60 --out benchmarks/results/bars.md
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import BernoulliNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, SplineTransformer, StandardScaler, TargetEncoder
from sklearn.tree import DecisionTreeClassifier

from grader import stages
from grader.checks import s01_baseline, s02_package, statistics, yardstick
from grader.selftest import Rate
from grader.world import Rows, build, draw_rows, write_data

FIRST_SEED = 20_000
KEPT_BACK = 28  # days for validation that a model of stage 01 may never be fitted to
CATEGORIES = ["carrier", "origin", "dest", "weekday", "hour"]


def features(table: pd.DataFrame) -> pd.DataFrame:
    """What is known of a flight from its schedule: categories as texts, clock and distance as numbers."""
    local = pd.to_datetime(table["sched_dep_local"])
    found = table[["carrier", "origin", "dest"]].assign(
        weekday=local.dt.dayofweek.astype(str), hour=local.dt.hour.astype(str), clock=local.dt.hour + local.dt.minute / 60,
        distance=table["distance_miles"].astype(float),
    )  # fmt: skip
    return found.fillna({"distance": found["distance"].median()})


def of_categories(*steps: Any) -> Callable[[pd.DataFrame, np.ndarray], Any]:
    def fit(table: pd.DataFrame, late: np.ndarray) -> Any:
        model = make_pipeline(*steps).fit(table[CATEGORIES], late)
        return lambda rows: model.predict_proba(rows[CATEGORIES])[:, 1]

    return fit


def splines(table: pd.DataFrame, late: np.ndarray) -> Any:
    from sklearn.compose import make_column_transformer

    known = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer(
        (known, ["carrier", "origin", "dest", "weekday"]), (SplineTransformer(8), ["clock", "distance"])
    )
    model = make_pipeline(columns, LogisticRegression(max_iter=500)).fit(table, late)
    return lambda rows: model.predict_proba(rows)[:, 1]


def rates(table: pd.DataFrame, late: np.ndarray) -> Any:
    """The late rate of carrier and hour, drawn towards that of all by 50 flights."""
    mean, key = late.mean(), [table["carrier"], table["hour"]]
    by = pd.Series(late.astype(float), index=table.index).groupby(key).agg(["sum", "size"])
    rate = (by["sum"] + 50 * mean) / (by["size"] + 50)
    return lambda rows: rate.reindex(pd.MultiIndex.from_frame(rows[["carrier", "hour"]])).fillna(mean).to_numpy()


ORDINAL = {"handle_unknown": "use_encoded_value", "unknown_value": -1, "encoded_missing_value": -1}
DESIGNS: dict[str, Callable[[pd.DataFrame, np.ndarray], Any]] = {
    "logistic regression, one-hot": of_categories(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=500)),
    "logistic regression, splines": splines,
    "gradient boosting, as it comes": of_categories(OrdinalEncoder(**ORDINAL), HistGradientBoostingClassifier(random_state=0)),
    "gradient boosting, small steps": of_categories(
        OrdinalEncoder(**ORDINAL), HistGradientBoostingClassifier(learning_rate=0.05, max_leaf_nodes=8, random_state=0)
    ),
    "random forest, leaves of 50": of_categories(
        OneHotEncoder(handle_unknown="ignore"), RandomForestClassifier(100, min_samples_leaf=50, random_state=0)
    ),
    "target encoding, logistic regression": of_categories(TargetEncoder(random_state=0), StandardScaler(), LogisticRegression()),
    "neural network, 16 units": of_categories(
        OneHotEncoder(handle_unknown="ignore"), MLPClassifier((16,), early_stopping=True, random_state=0)
    ),
    "rates of carrier by hour": rates,
}  # fmt: skip
WEAK: dict[str, Callable[[pd.DataFrame, np.ndarray], Any]] = {
    "random forest, as it comes": of_categories(OrdinalEncoder(**ORDINAL), RandomForestClassifier(100, random_state=0)),
    "decision tree, as it comes": of_categories(OrdinalEncoder(**ORDINAL), DecisionTreeClassifier(random_state=0)),
    "50 neighbours": of_categories(OneHotEncoder(handle_unknown="ignore"), KNeighborsClassifier(50)),
    "naive Bayes": of_categories(OneHotEncoder(handle_unknown="ignore", sparse_output=False), BernoulliNB()),
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """One design in one world and stage: how far above its bar (AUC), and the calibration error."""

    stage: str
    design: str
    seed: int
    above: float
    calibration: float


def asked(stage: str, name: str, seed: int, flights: pd.DataFrame, rows: Rows, honest: np.ndarray) -> Asked:
    bars, landed = stages.find(stage).bars, yardstick.labelled(flights)
    if stage == "01":
        last = pd.to_datetime(landed["sched_dep_local"].str.slice(0, 10))
        landed = landed[last <= last.max() - pd.Timedelta(days=KEPT_BACK)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = (DESIGNS | WEAK)[name](features(landed), landed["late"].to_numpy(bool))
        found = np.asarray(model(features(rows.table)))
    ahead, error = statistics.auc_difference(rows.late, found, honest)
    above = ahead + bars["errors"] * error + bars["margin"]
    return Asked(stage, name, seed, above, statistics.calibration_error(rows.late, found))


def study(seed: int) -> list[Asked]:
    made = build(seed)
    found = []
    for stage, module in (("01", s01_baseline), ("02", s02_package)):
        with tempfile.TemporaryDirectory() as folder:
            if stage == "01":
                rows = draw_rows(made, made.months[module.LATER_MONTHS], module.ROWS, "baseline", careless=True)
                write_data(made, Path(folder), made.months[module.TRAIN_MONTHS], module.FLIGHTS_PER_MONTH)
            else:
                rows = draw_rows(made, made.months[module.LATER_MONTHS], module.ROWS, "package")
                write_data(made, Path(folder), made.months[module.TRAIN_MONTHS], module.FLIGHTS_PER_MONTH, without=rows)
            flights = pd.read_parquet(Path(folder) / "flights")
        honest = yardstick.honest_model(flights, rows)
        found += [asked(stage, name, seed, flights, rows, honest) for name in DESIGNS | WEAK]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    began, results = time.monotonic(), list[Asked]()
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as workers:
        for number, found in enumerate(workers.map(study, range(FIRST_SEED, FIRST_SEED + arguments.worlds)), 1):
            results += found
            print(f"{number}/{arguments.worlds} worlds, {time.monotonic() - began:.0f} s", flush=True)
            text = "\n".join(report(results, number)) + "\n"
            if arguments.out:  # what there is, so that a run that is ended has its worlds
                arguments.out.write_text(text, encoding="utf-8")
    print(text)


def report(results: list[Asked], worlds: int) -> list[str]:
    bar = stages.find("01").bars["calibration"]
    lines = [
        "# Bars that are drawn by lot, stages 01 and 02", "",
        f"`python benchmarks/bars.py --worlds {worlds}`. How far above the bar of `baseline.beats_simple_rules` (01) and "
        "`package.as_good_as_honest` (02) a design stands, in AUC, and in how many worlds it is below; then what a normal law with that "
        "mean and spread gives, which no count of this size can show. In 01 the last 28 days are kept back and never learned from, the "
        f"worst that the brief allows. Last, worlds in which its calibration error is above {bar} (`baseline.calibrated`).", "",
    ]  # fmt: skip
    head = (
        "design",
        "above the bar, mean",
        "spread",
        "least",
        "below the bar",
        "by the normal law",
        "badly calibrated",
    )
    for stage in ("01", "02"):
        lines += [f"## {stage}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for name in DESIGNS | WEAK:
            mine = [r for r in results if r.stage == stage and r.design == name]
            above = np.array([r.above for r in mine])
            mean, spread = above.mean(), above.std(ddof=min(1, len(above) - 1))
            missed = Rate(int((above < 0).sum()), len(mine))
            bad = sum(r.calibration > bar for r in mine) if stage == "01" else ""
            lines.append(f"| {name}{' (weak)' if name in WEAK else ''} | {mean:.4f} | {spread:.4f} | {above.min():.4f} | {missed} "
                         f"| {norm.cdf(-mean / spread):.3%} | {bad} |")  # fmt: skip
        whole = [r for r in results if r.stage == stage and r.design in DESIGNS]
        lines += ["", f"All that are not weak: below the bar {Rate(sum(r.above < 0 for r in whole), len(whole))}.", ""]
    return lines


if __name__ == "__main__":
    main()
