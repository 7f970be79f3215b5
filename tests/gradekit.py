"""Grades made by hand, for tests of reports: one of every outcome, one as a grading leaves it, one full of hostile texts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from grader.checks import charts
from grader.report.text import Names
from grader.rubric import assess, load
from grader.verdict import Chart, ChartKind, CheckResult, CheckSpec, Grade, Level, Outcome, Series, Submission

NAMES = Names(
    rows={row.id: row.title for row in load().rows},
    stages={"01": "A model you can trust", "02": "From notebook to package", "03": "The data contract"},
    folders={"01": "01-baseline", "02": "02-package", "03": "03-data"},
    headline=("1.3", "1.4"),
)
REPRODUCE = "mlekit grade /home/me/work --world 11 --stage 01"
TEXTS = "\x1b[2J\x1b]0;owned\x07\x00 \ufffe \u202egpj ]]> </style></title></svg><b>&amp; \udcff \x9b31m \r\nnext\x08"
HOSTILE = TEXTS + "<script>alert(1)</script><img src=x onerror=alert(1)> \" onload='x' javascript: {{ 7*7 }} -->"


def check(name, outcome=Outcome.PASS, stage="01", row="1.3", level=Level.JUNIOR, critical=True, **said):
    spec = CheckSpec(name, stage, f"does what {name} says", row, level, critical, required=True, weight=2)
    return CheckResult.of(spec, outcome, seconds=1.25, **said)


def graded(*checks, **said):
    return assess(
        replace(
            Grade("0.1.0", 1, "11", "bubblewrap", Submission("/home/me/work", "abc123"), 12.5, 9.75, checks), **said
        )
    )


EVERY_OUTCOME = graded(
    check("baseline.runs", value="8,000 probabilities", bar="one per row", reason="the notebook ran"),
    check(
        "baseline.honest", Outcome.FAIL, value="AUC 0.93", bar="below 0.85", reason="this is too good to be true",
        reproduce=REPRODUCE,
    ),
    check("package.trains", Outcome.BLOCKED, "02", reason="the command train is not declared"),
    check("package.fast", Outcome.NOT_RUN, "02", reason="this machine has no container engine"),
    check("package.odd", Outcome.GRADER_ERROR, "02", reason="the check itself failed"),
    check("package.laid", Outcome.PROVIDED, "02"),
)  # fmt: skip


def example_charts():
    """One chart of each kind, the first three as checks make them."""
    random = np.random.default_rng(5)
    probability = random.beta(2, 6, 4000)
    late = random.random(4000) < probability
    months = tuple(f"2016-{month:02d}-01" for month in range(1, 10))
    rates = tuple(round(0.2 + 0.01 * n, 3) for n in range(9))
    kinds = ("covariate shift", "prior shift", "concept drift")
    return (
        charts.roc("ROC curve on later months", late, {"yours": probability, "plain rule": random.random(4000)}),
        charts.calibration("Calibration on later months", "yours", late, probability),
        charts.calendar(
            "The split", {"learned from": ("2016-01-01", "2016-03-11"), "validated on": ("2016-03-11", "2016-03-31")}
        ),
        Chart(
            ChartKind.BARS, "Windows found", "kind", "found of 20",
            (Series("yours", kinds, (20, 16, 14)), Series("reference", kinds, (20, 20, 19))), "20, 16 and 14 found",
            Series("bar", kinds, (15, 15, 15)),
        ),
        Chart(
            ChartKind.LINE, "Late rate by month", "month", "late rate", (Series("observed", months, rates),),
            "it rises from 0.20 to 0.28",
        ),
    )  # fmt: skip


def real_grade():
    """A grade as stage 01 leaves it, with levels met, and more checks than next steps."""
    roc, calibration, split, bars, line = example_charts()
    said = {"reproduce": REPRODUCE}
    return graded(
        check("baseline.runs_top_to_bottom", value="8,000 probabilities", bar="one per row", critical=False, **said),
        check("baseline.beats_simple_rules", value="AUC 0.675", bar="at least 0.659", charts=(roc,), **said),
        check("baseline.split_by_time", row="1.1", value="0.712, later 0.675", charts=(split,), **said),
        check(
            "baseline.calibrated", Outcome.FAIL, row="1.1", level=Level.SENIOR, value="calibration error 0.081",
            bar="at most 0.06", reason="the probabilities are too sure; look at the highest bin", charts=(calibration,),
            **said,
        ),
        check("package.trains", stage="02", charts=(bars,), **said),
        check("package.tests_catch", Outcome.FAIL, "02", level=Level.SENIOR, reason="0 of 4 faults were noticed", **said),
        check("package.moves", Outcome.NOT_RUN, "02", row="2.1", reason="no second core", charts=(line,), **said),
    )  # fmt: skip


def hostile_grade():
    """Whatever a submission can put into a grade, in every text of it."""
    long = HOSTILE * 600
    points = (float("nan"), float("inf"), HOSTILE, 1.0, "2016-01-01")
    series = (Series(long, points, points), Series(long, (), ()), Series(long, (1.0, 2.0), (2.0, 1.0)))
    drawn = tuple(Chart(kind, long, HOSTILE, HOSTILE, series, long, series[0]) for kind in ChartKind)
    said = {"value": long, "bar": long, "reason": long, "reproduce": long, "charts": drawn}
    checks = [check(f"baseline.x{n}", outcome, **said) for n, outcome in enumerate(Outcome)]
    odd = [replace(check(HOSTILE, Outcome.FAIL, HOSTILE, **said), title=long)]
    return replace(
        graded(*checks, *odd, notes=(long,) * 30),
        world=long,
        kit=long,
        isolation=long,
        submission=Submission(long, long),
    )
