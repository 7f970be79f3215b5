"""Stage 01, baseline: the notebook is run on data its author has never seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from grader import stages
from grader.checks import charts, predictions, statistics, yardstick
from grader.checks.api import Fault, Finding, Grading, Owed, check, failed, passed, work
from grader.contract.outputs import BaselineReport
from grader.sandbox import Mount
from grader.sandbox.reader import INSIDE
from grader.submission import Ran
from grader.verdict import Chart
from grader.world import Rows, draw_rows, write_data
from grader.world.build import stream
from grader.world.layout import Scrambled, copy_with_exchanged_outcomes, scrambled

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TRAIN_MONTHS, LATER_MONTHS = slice(0, 3), slice(3, 5)
FLIGHTS_PER_MONTH = 12_000
ROWS = 8_000
GAPS = 0.2  # share of the weather readings that are missing
EQUAL = 1e-9
ROUNDED = 5e-5  # half of the last digit of a share that is told with four
SAID_TWICE = 1e-6  # largest difference of a number that two reports on the same data give
BARS = stages.find("01").bars


@dataclass(frozen=True)
class Case:
    """The hidden data of this stage: a DATA folder to learn from, whose weather has gaps, and later rows to score."""

    data: Path
    flights: pd.DataFrame
    rows: Rows


@work
def case(grading: Grading) -> Case:
    import pandas as pd

    world = grading.world()
    data = grading.folder("data")
    read = stream(world.seed or 0, "gaps in the weather").random(len(world.weather)) >= GAPS
    write_data(replace(world, weather=world.weather[read]), data, world.months[TRAIN_MONTHS], FLIGHTS_PER_MONTH)
    return Case(
        data,
        pd.read_parquet(data / "flights"),
        draw_rows(world, world.months[LATER_MONTHS], ROWS, "baseline", careless=True),
    )


def notebook_of(grading: Grading) -> str:
    """The path of the notebook below the submission. Raises Owed where it is not there."""
    notebook = grading.submission.manifest.notebook
    if not (grading.submission.folder / notebook).is_file():
        raise Owed(
            f"the notebook {notebook} is not there; write it, name yours in [tool.mlekit] notebook, or lay down the one the stage "
            "started with: mlekit reset"
        )
    return notebook


def run_notebook(grading: Grading, rows: Rows, label: str, data_folder: Path | None = None) -> Ran:
    """Execute the submission's notebook in the sandbox on the hidden data (or another DATA folder) and `rows`."""
    notebook = notebook_of(grading)
    given = grading.folder(f"{label}-rows")
    rows.write(given / "rows.parquet")
    out = grading.folder(label, grading.limits.disk_mb)
    data, table, tools = (
        Mount(data_folder or grading.get(case).data, "data"),
        Mount(given, "given"),
        Mount(INSIDE, "kit"),
    )
    written = Mount(out / "out", "out", writable=True)
    return grading.submission.run(
        "notebook",
        ["python", tools / "run_notebook.py", Mount(grading.submission.folder, "submission") / notebook],
        [data, table],
        out,
        grading.limits,
        env={"MLEKIT_DATA": data, "MLEKIT_ROWS": table / "rows.parquet", "MLEKIT_OUT": written},
        tools=[tools],
    )


@work
def first_run(grading: Grading) -> Ran:
    notebook_of(grading)
    return run_notebook(grading, grading.get(case).rows, "run")


@work
def scrambling(grading: Grading) -> Scrambled:
    """The same rows, half of them with every after-departure value exchanged with another row's."""
    return scrambled(grading.get(case).rows, 0.5, grading.world().seed or 0)


@work
def scrambled_run(grading: Grading) -> Ran:
    """Run after the first one, never beside it: two runs at once could tell each other what they were given."""
    grading.after(first_run)
    return run_notebook(grading, grading.get(scrambling).rows, "scrambled")


@work
def first_answers(grading: Grading) -> np.ndarray:
    """The probabilities of the first run; for the checks that need them, it is owed that it went well."""
    try:
        return answers(grading, grading.get(first_run))
    except (Fault, Owed):
        raise Owed("the notebook has to run and score every row first: see baseline.runs_top_to_bottom") from None


@dataclass(frozen=True)
class Validation:
    """What the notebook says of its own validation, joined to what the grader knows of those flights.

    `flights` are the validation flights in the order of the file, `between` counts all landed flights from the first of
    them to the last.
    """

    report: BaselineReport
    flights: pd.DataFrame
    probability: np.ndarray
    between: int

    @property
    def late(self) -> np.ndarray:
        return self.flights["late"].to_numpy(bool)

    @property
    def days(self) -> tuple[str, str]:
        day = self.flights["sched_dep_local"].str.slice(0, 10)
        return str(day.min()), str(day.max())


@work
def validation(grading: Grading) -> Validation:
    """Report and validation rows of the first run. Raises Fault."""
    grading.get(first_answers)
    out = grading.get(first_run).out
    report = predictions.read_json(grading.reader, BaselineReport, out / "report.json")
    landed = yardstick.labelled(grading.get(case).flights)
    found = predictions.read_subset(grading.reader, out / "validation.parquet", landed["flight_id"])
    chosen = landed.iloc[found.positions]
    times = chosen["sched_dep"]
    between = int(landed["sched_dep"].between(times.min(), times.max()).sum())
    return Validation(report, chosen, found.probability, between)


@work
def later_labels_run(grading: Grading) -> Ran:
    """The notebook on the same data, but from the first validation flight on late and punctual flights exchange outcomes."""
    grading.after(scrambled_run)
    first = grading.get(validation).flights["sched_dep"].min()
    changed = with_exchanged_outcomes(
        grading, "later-labels", lambda flights: flights["sched_dep"] >= first, turned=True
    )
    return run_notebook(grading, grading.get(case).rows, "later-labels", changed)


def with_exchanged_outcomes(
    grading: Grading, label: str, which: Callable[[pd.DataFrame], pd.Series], turned: bool = False
) -> Path:
    """The DATA folder with outcomes exchanged among `which` of its flights; `turned`: between late and punctual ones."""
    target = grading.folder(f"{label}-data")
    return copy_with_exchanged_outcomes(grading.world(), grading.get(case).data, target, label, which, turned=turned)


@work
def learns_from_outcomes(grading: Grading) -> bool:
    """Whether predictions depend on the outcomes in the data that the notebook was given.

    The run with exchanged validation outcomes tells it of a model that is fitted again on all days; of any other a run does in
    which all outcomes are exchanged.
    """
    import numpy as np

    before = grading.get(first_answers)

    def moved(ran: Ran) -> bool:
        return not ran.ok or bool((np.abs(answers(grading, ran) - before) > EQUAL).any())

    try:
        if moved(grading.get(later_labels_run)):
            return True
    except (Fault, Owed):
        pass  # of its own validation nothing can be said
    changed = with_exchanged_outcomes(grading, "exchanged", lambda flights: flights["flight_id"].notna())
    try:
        return moved(run_notebook(grading, grading.get(case).rows, "exchanged", changed))
    except Fault:
        return True  # another outcome is an answer, too


def answers(grading: Grading, ran: Ran) -> np.ndarray:
    """The probabilities one run wrote, in the order of the rows. Raises Fault."""
    if not ran.ok:
        raise Fault(f"we ran the notebook from top to bottom in a fresh kernel; {ran.sentence()}")
    return predictions.read(grading.reader, ran.out / "predictions.parquet", grading.get(case).rows)


@check("baseline.runs_top_to_bottom", uses=[case, first_run])
def runs_top_to_bottom(grading: Grading) -> Finding:
    """A fresh kernel runs every cell on unseen data and leaves one finite probability for each row, in order.

    Catches: a notebook that only works with state of an old kernel, with files on its author's disk, or in another order.
    Accepts: a notebook of a single cell.
    """
    found = answers(grading, grading.get(first_run))
    return passed(
        f"the notebook ran and scored all {len(found):,} rows", f"{len(found):,} probabilities", "one per row"
    )


@check("baseline.ignores_after_departure", uses=[case, first_run, scrambling, scrambled_run])
def ignores_after_departure(grading: Grading) -> Finding:
    """Exchanging what is only known after departure between rows changes no prediction.

    Catches: dep_delay as a feature; a same-hour mean of arrival delays over the rows to score; air_time hidden in a ratio.
    Accepts: a model that uses counts of the rows to score themselves (they do not change).
    """
    import numpy as np

    before, after = grading.get(first_answers), answers(grading, grading.get(scrambled_run))
    touched = grading.get(scrambling).touched
    moved = np.abs(after - before) > EQUAL
    if moved[touched].any():
        share, control = moved[touched].mean(), moved[~touched].mean()
        if control > 0.5 * share:
            return failed(
                "we ran the notebook twice on the same rows and predictions differed even where nothing was changed; "
                "fix the seed (random_state) so that two runs agree",
                f"{control:.1%} of unchanged rows moved", "0 %",
            )  # fmt: skip
        return failed(
            "we exchanged the after-departure columns between rows and predictions moved; the model reads something that is "
            "not known two hours before departure",
            f"{share:.1%} of changed rows moved", "0 %",
        ).showing("moved", predictions.moved(_exchanged(grading), before, after, EQUAL))  # fmt: skip
    return passed("predictions stayed the same when after-departure columns were scrambled", "0 rows moved", "0 rows")


def _exchanged(grading: Grading) -> pd.DataFrame:
    """Each row with the values it was given after the exchange beside its own, only columns that changed."""
    given, changed = grading.get(case).rows.table, grading.get(scrambling).rows.table
    pairs = [(name, name + "_exchanged") for name in given.columns if not given[name].equals(changed[name])]
    columns = {column: source[name] for name, new in pairs for column, source in ((name, given), (new, changed))}
    return given[["row_id"]].assign(**columns)


@check(
    "baseline.beats_simple_rules",
    uses=[case, first_run, first_answers, validation, scrambled_run, later_labels_run, learns_from_outcomes],
)
def beats_simple_rules(grading: Grading) -> Finding:
    """On later months the model keeps up with a plain logistic regression, and is not too good to be true.

    Catches: one probability for all; a lookup of the airline's rate; a model fitted to shuffled labels; a leak (AUC .85
    and more cannot be reached two hours ahead); a model that was brought along, or looks flights up in public data.
    Accepts: a logistic regression, a smoothed table of airline by hour.
    """
    found, case_ = grading.get(first_answers), grading.get(case)
    late, simple = case_.rows.late, yardstick.honest_model(case_.flights, case_.rows)
    score = statistics.auc(late, found)
    chart = charts.roc("ROC curve on later months", late, {"yours": found, "plain logistic regression": simple})
    if score >= BARS["too_good_auc"]:
        return failed(
            "this is too good to be true: nobody can know so much two hours before departure, so the model has seen the "
            "answer (a column filled in after departure, or labels of the same days)",
            f"AUC {score:.3f}", f"below {BARS['too_good_auc']:.2f}", chart,
        )  # fmt: skip
    ahead, error = statistics.auc_difference(late, found, simple)
    slack = BARS["errors"] * error + BARS["margin"]
    value, bar = f"AUC {score:.3f}", f"at least {statistics.auc(late, simple) - slack:.3f}"
    if ahead < -slack:
        said = "on later months the model is clearly worse than a plain logistic regression on the schedule"
        return failed(said, value, bar, chart).showing("by_hour", _by_hour(case_.rows, found, simple))
    if not grading.get(learns_from_outcomes):
        return failed(
            "we exchanged the outcomes of the flights to learn from, and every prediction stayed the same; a model has to be learned "
            "from the data it is given", "no prediction moved", "some move", chart,
        )  # fmt: skip
    said = "on later months the model keeps up with a plain logistic regression on the schedule"
    return passed(said, value, bar, chart)


def _by_hour(rows: Rows, found: np.ndarray, simple: np.ndarray) -> pd.DataFrame:
    """By scheduled hour: rows, the share that was late, and the mean probability of this and of the simple model."""
    hour = rows.table["sched_dep_local"].str.slice(11, 13).rename("hour")
    table = rows.table.assign(late=rows.late, probability=found, logistic_regression=simple).groupby(hour)
    return table.agg(
        flights=("late", "size"), late=("late", "mean"), probability=("probability", "mean"),
        logistic_regression=("logistic_regression", "mean"),
    ).round(4).reset_index()  # fmt: skip


@check("baseline.split_by_time", uses=[case, first_run, first_answers, validation, scrambled_run, later_labels_run])
def split_by_time(grading: Grading) -> Finding:
    """The score is measured on one stretch of days, by a model that knows no outcome from then on, and it holds later.

    Catches: a random split; a model that has seen its validation rows, or was chosen by them; rows lost in a join; a number typed into
    the report, or one of other flights; cancelled flights learned as punctual ones. Accepts: the schedule of those days, used without
    outcomes; a last stretch kept back for a final test; a few flights dropped; any length from 2 % of the flights on.
    """
    import numpy as np

    mine, found = grading.get(validation), grading.get(first_answers)
    chart, flights = _split_on_the_calendar(grading, mine), mine.flights[["flight_id", "sched_dep_local", "late"]]
    total = len(yardstick.labelled(grading.get(case).flights))
    if len(mine.late) < BARS["validation_share"] * total or mine.late.all() or not mine.late.any():
        return failed(
            "the validation rows are too few to say anything; keep back at least the last week",
            f"{len(mine.late):,} rows", f"{int(BARS['validation_share'] * total):,} rows, late and not late",
        )  # fmt: skip
    share = len(mine.late) / mine.between
    if share < BARS["contiguous"]:
        days = _validated_by_day(grading, mine)
        missing = days.loc[days["validated"] == 0, "day"].tolist()
        if missing:
            return failed(
                f"{len(missing)} days between your first and last validation day are missing ({', '.join(missing[:3])}...); "
                "validation has to be one unbroken stretch of the calendar",
                f"{share:.0%} of the flights from first to last day", f"{BARS['contiguous']:.0%}", chart,
            ).showing("days", days)  # fmt: skip
        return failed(
            "the validation rows are not one stretch of the calendar: other flights of the same days were left out, so the "
            "model may have learned from them",
            f"{share:.0%} of the flights of those days", f"{BARS['contiguous']:.0%}", chart,
        ).showing("days", days)  # fmt: skip
    if problem := _report_problem(mine, grading.get(case).flights):
        return failed(*problem, chart)
    again = grading.get(later_labels_run)
    if not again.ok:
        raise Fault(f"we exchanged outcomes between the flights from the validation on; {again.sentence()}")
    second = predictions.read_subset(grading.reader, again.out / "validation.parquet", mine.flights["flight_id"])
    same = len(second.positions) == len(mine.late)
    before = mine.probability[second.positions]
    moved = np.abs(second.probability - before) > EQUAL
    if not same or moved.any():
        return failed(
            "we exchanged outcomes between late and punctual flights from the first validation row on, and the validation scores "
            "moved; the model that is validated has learned from flights of the validation days, or was chosen by them (all "
            "validation scores have to come from one model fitted before the first of them; folds that roll forward are sound "
            "elsewhere, but not asked here)",
            f"{moved.mean():.1%} of scores moved" if same else "other validation rows", "0 %", chart,
        ).showing("moved", predictions.moved(flights.iloc[second.positions], before, second.probability, EQUAL))  # fmt: skip
    said = "we exchanged outcomes between late and punctual flights from the first validation row on"
    rate = predictions.read_json(grading.reader, BaselineReport, again.out / "report.json", f"{said}; ").base_rate
    if abs(rate - mine.report.base_rate) > SAID_TWICE:
        return failed(
            f"{said}, and the reported base_rate moved; it is the share of late flights among those that the scored model learned from, "
            "and no validation row is one of them", f"{mine.report.base_rate:.4f}, then {rate:.4f}", "the same", chart,
        )  # fmt: skip
    score = statistics.auc(mine.late, mine.probability)
    later = statistics.auc(grading.get(case).rows.late, found)
    value, bar = f"reported {score:.3f}, later {later:.3f}", f"at most {BARS['optimism']:.2f} lower"
    if score - later > BARS["optimism"]:
        return failed("the reported score does not hold on later months", value, bar, chart)
    return passed("the score was measured on days the model knew nothing of, and holds later", value, bar, chart)


def _validated_by_day(grading: Grading, mine: Validation) -> pd.DataFrame:
    """How many landed flights each day from the first validation day on has, and how many of them were validated on."""
    landed = yardstick.labelled(grading.get(case).flights)
    day = landed["sched_dep_local"].str.slice(0, 10).rename("day")
    table = landed.assign(validated=landed["flight_id"].isin(mine.flights["flight_id"])).groupby(day)["validated"]
    counts = table.agg(flights="size", validated="sum").reset_index()
    return counts[counts["day"].between(*mine.days)]


def _days(table: pd.DataFrame) -> tuple[str, str]:
    """The first and the last day of a table, by the airport's calendar."""
    day = table["sched_dep_local"].str.slice(0, 10)
    return str(day.min()), str(day.max())


def _split_on_the_calendar(grading: Grading, mine: Validation) -> Chart:
    """Which days there were, which the report says were learned from, which were validated on, which came later."""
    case_, report = grading.get(case), mine.report
    return charts.calendar(
        "The split on the calendar",
        {
            "flights given": _days(case_.flights),
            "learned from": (report.train_start, report.train_end),
            "validated on": mine.days,
            "scored later": _days(case_.rows.table),
        },
    )


def _report_problem(mine: Validation, flights: pd.DataFrame) -> tuple[str, str, str] | None:
    """What report.json says otherwise than validation.parquet, or the flights that were given: sentence, reported, recomputed."""
    report, (first, last), given = mine.report, mine.days, _days(flights)
    numbers = {
        "auc": (report.auc, statistics.auc(mine.late, mine.probability)),
        "brier": (report.brier, float(((mine.probability - mine.late) ** 2).mean())),
    }
    for name, (said, recomputed) in numbers.items():
        if abs(said - recomputed) > BARS["report_tolerance"]:
            sentence = f"report.json gives another {name} than validation.parquet does"
            return sentence, f"reported {said:.4f}", f"recomputed {recomputed:.4f}"
    if (report.valid_start, report.valid_end) != (first, last):
        sentence = "report.json names other validation days than validation.parquet holds"
        return sentence, f"{report.valid_start} to {report.valid_end}", f"{first} to {last}"
    if not given[0] <= report.train_start <= report.train_end <= given[1]:
        sentence = "report.json names training days that the data does not have"
        days = f"train_start {report.train_start}, train_end {report.train_end}"
        return sentence, days, f"days from {given[0]} to {given[1]}"
    if report.train_end > report.valid_start:
        sentence = "by report.json the model learned from days after the validation began"
        return sentence, f"train_end {report.train_end}", f"at most {report.valid_start}"
    landed = yardstick.labelled(flights)
    before = landed[landed["sched_dep"] < mine.flights["sched_dep"].min()]
    if report.train_end == first and _days(before)[1] < first:
        sentence = (
            "by report.json the model learned from flights of the first validation day, but the validation rows begin with the first of "
            "them; a day is one by the clock on the wall, as in sched_dep_local"
        )
        return sentence, f"train_end {report.train_end}", f"before {first}"
    known = flights[flights["sched_dep"] < mine.flights["sched_dep"].min()]
    learned = known[known["sched_dep_local"].str.slice(0, 10).between(report.train_start, report.train_end)]
    late, outcome = int(yardstick.labelled(learned)["late"].sum()), learned["outcome"]
    right = late / max((outcome == "flown").sum(), 1)
    for also in (["cancelled", "diverted"], ["cancelled"], ["diverted"]):
        wrong = late / max(outcome.isin(["flown", *also]).sum(), 1)
        if abs(report.base_rate - wrong) <= ROUNDED < abs(right - wrong) / 2:
            sentence = (
                f"the reported base_rate is what comes out where {' and '.join(also)} flights count as punctual; they have no label, and "
                "nothing is learned from them"
            )
            return sentence, f"reported {report.base_rate:.4f}", f"{right:.4f} of the landed flights"
    return None


@check("baseline.calibrated", uses=[case, first_run, first_answers])
def calibrated(grading: Grading) -> Finding:
    """Where the model says 30 %, about 30 % of later flights are late.

    Catches: class_weight="balanced" left in; probabilities of an overfitted forest; scores that are no probabilities.
    Accepts: a base rate that drifted by a few points, which nobody could have known.
    """
    late, found = grading.get(case).rows.late, grading.get(first_answers)
    error = statistics.calibration_error(late, found)
    chart = charts.calibration("Calibration on later months", "yours", late, found)
    value, bar = f"calibration error {error:.3f}", f"at most {BARS['calibration']:.2f}"
    if error > BARS["calibration"]:
        return failed(
            "on later months the stated probabilities are far from the observed rates", value, bar, chart
        ).showing("bins", _bins(chart))
    return passed("on later months the stated probabilities agree with the observed rates", value, bar, chart)


def _bins(chart: Chart) -> pd.DataFrame:
    """The points of a calibration curve, one row a tenth of the rows."""
    import pandas as pd

    return pd.DataFrame({"stated": chart.series[0].x, "was_late": chart.series[0].y})


@check("baseline.interval_is_honest", uses=[case, first_run, first_answers, validation, scrambled_run])
def interval_is_honest(grading: Grading) -> Finding:
    """The reported 95 % interval holds the reported AUC and is about as wide as that many rows allow.

    Catches: an interval of plus or minus .001; one copied from another model; one so wide that it says nothing; another one each time.
    Accepts: bootstrap, DeLong, Hanley-McNeil, or the spread over days.
    """
    mine = grading.get(validation)
    if mine.late.all() or not mine.late.any():
        raise Owed("the validation rows hold only one outcome: see baseline.split_by_time")
    low, high, score = mine.report.auc_low, mine.report.auc_high, mine.report.auc
    half, expected = (high - low) / 2, 1.96 * statistics.auc_error(mine.late, mine.probability)
    value = f"{low:.4f} to {high:.4f} around {score:.4f}"
    bar = f"half width {expected * BARS['interval_low']:.3f} to {expected * BARS['interval_high']:.3f}"
    if not low <= score <= high:
        narrow = (
            ", and is narrower than that many validation rows allow" if half < expected * BARS["interval_low"] else ""
        )
        return failed(f"the reported interval does not hold the reported AUC{narrow}", value, bar)
    if half < expected * BARS["interval_low"]:
        return failed("the reported interval is narrower than that many validation rows allow", value, bar)
    if half > expected * BARS["interval_high"]:
        return failed("the reported interval is wider than the validation rows give reason for", value, bar)
    again = grading.get(scrambled_run)
    if again.ok:
        said = "we ran the notebook on the same data once more; "
        second = predictions.read_json(grading.reader, BaselineReport, again.out / "report.json", said)
        if max(abs(second.auc_low - low), abs(second.auc_high - high)) > SAID_TWICE:
            return failed(
                f"{said}the reported interval is another one; give the draws of a bootstrap a seed, too",
                f"{value}, then {second.auc_low:.3f} to {second.auc_high:.3f}", "the same",
            )  # fmt: skip
    return passed("the reported interval is as wide as the validation rows give reason for", value, bar)
