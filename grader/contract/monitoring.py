"""What `monitor` is given from stage 10 on, and what it says about each window of traffic."""

from __future__ import annotations

from typing import Literal, get_args

Drift = Literal["ok", "drift", "unknown"]
Performance = Literal["ok", "degraded", "unknown"]
Age = Literal["ok", "stale"]
Skew = Literal["ok", "skew", "unknown"]
FLAGS: dict[str, tuple[str, ...]] = {
    "data": get_args(Drift),
    "prediction": get_args(Drift),
    "performance": get_args(Performance),
    "model_age": get_args(Age),
    "skew": get_args(Skew),
}
PROBABILITY = "probability"
NOT_FEATURES = ("row_id", PROBABILITY)
REPORT_MB = 16  # of one page
ATTRIBUTE = "data-mlekit"

WINDOW_FILES = (
    ("rows.parquet", "the rows that were answered: `row_id`, a column for each feature, `probability`"),
    (
        "labels.parquet",
        "what became known about them: `row_id`, `label`, `label_known_at`; absent where nothing is known at all",
    ),
    (
        "batch.parquet",
        "`row_id` and the features as a job computed them anew at night, for some windows and some of their rows; columns may lack",
    ),
    ("window.json", "about the window, see below"),
)
WINDOW_KEYS = (
    ("service, position", "text, number", "the service whose rows these are, and which of its weeks, from 0"),
    ("start, end", "text", "the week, RFC 3339: from `start`, before `end`"),
    ("now", "text", "when the window is judged, RFC 3339, with any offset from UTC; different for each"),
    ("model_train_end", "text, `YYYY-MM-DD`", "the last day that the model learned from"),
    ("model_registered_at", "text", "when this version was registered, RFC 3339"),
    ("render", "bool", "whether a report is wanted"),
)
WINDOW_RULES = (
    "A window is a week of one service: about a thousand rows of seven days, in any order. The features are those of stage 04 and some "
    "more, whose names you learn from the reference. All rows are of flights that landed, but a few never get a label.",
    "The reference is a folder of windows too: weeks of the same season in years before, all of them known to be good. They differ, as "
    "weeks do: each has days of its own, and in some it storms. Every one of its windows has as many labels as there will ever be.",
    "A window may hold what became known after its `now`, as any backtest does. Known at `now` is what became known then or before; what "
    "was not may not be used. Labels of one row that became known at the same time say the same.",
    "A window may have columns that the reference does not have; nothing is said about them. A column of the reference that it does not "
    "have counts as one of nulls. NaN counts as null; an infinite number is a value, which differs from all others. `probability` is "
    "never null.",
)
FLAG_RULES = (
    "`data`: `drift` if the features of the window are not what they are in good weeks, and then `columns` names those that are not, in "
    "any order; `unknown` if it has fewer rows than `min_rows`.",
    "`prediction`: `drift` if the answers are not what they are in good weeks; `unknown` like `data`.",
    "`performance`: `degraded` if the answers fit the labels worse than in good weeks; `unknown` if, of the rows of the window, a share "
    "smaller than `min_labels` has a label that was known at `now`, or if there are no rows. Where a label was corrected, the one that "
    "became known last counts, of those known at `now`. Labels of rows that are not in the window count for nothing. `min_rows` does not "
    "matter here.",
    "`model_age`: `stale` if from `model_train_end` to the day of `now` (UTC) more than `max_model_age_days` days have passed.",
    "`skew`: `skew` if, in some column of the reference that the window's rows and `batch.parquet` both have, the share of the rows in "
    "both that differ is larger than `skew_share`, and then `skewed` names those columns; `unknown` if fewer than `min_rows` rows are in "
    "both. Finite numbers differ if they lie further apart than `skew_relative` times the larger of their sizes; infinite ones and texts "
    "if they are not equal; a null differs from a value and not from a null.",
)
COMPANY_RULES = (
    "What a window gets depends on it, on the reference, and at most on earlier windows of the same service, which are there whenever the "
    "window is; later ones may lack. In other company, and in a folder of another name, it gets the same.",
    "Aim at an alarm in at most one good week of twenty, over `data`, `prediction` and `performance` together. How many the grader lets "
    "pass says the brief: chance has to have its share.",
)
REPORT_RULES = (
    f"A report is one page of at most {REPORT_MB} MB that opens without a network: nothing in it is loaded from elsewhere. Pages for other "
    "windows are not looked at.",
    f"It says what `decisions.json` says: for each flag an element that is shown, with the attribute `{ATTRIBUTE}` naming the flag and "
    f'its value as text, `<b {ATTRIBUTE}="data">drift</b>`; for `columns` and `skewed` the names, with commas between them, and nothing '
    "where there are none. Space around a text does not count. Everything else is yours to shape.",
)
