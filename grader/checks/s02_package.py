"""Stage 02, package: the `train`, `predict` and `test` commands are run as someone else would run them."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from grader import stages
from grader.checks import charts, predictions, running, statistics, yardstick
from grader.checks.api import Fault, Finding, Grading, Owed, Work, check, failed, passed, work
from grader.checks.running import SEED, command, config, predict, train, usecase
from grader.contract.features import Feature, lookback
from grader.contract.outputs import ModelRecord, Refusal, SuiteResult
from grader.faultproxy import Ended, FaultProxy
from grader.printable import one_line
from grader.sandbox import Mount
from grader.sandbox.base import Argument
from grader.sandbox.reader import INSIDE
from grader.submission import CONTRACT_EXIT_REFUSED, Ran, Submission
from grader.world import Rows, draw_rows, write_data
from grader.world.build import stream
from grader.world.layout import (
    copy_with_exchanged_outcomes,
    delay_all_from,
    exchange_schedules,
    with_many_just_in_time,
    write_manifest,
)
from grader.world.timely import joined

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# before and after the window there are flights, so that days of another zone are other flights
TRAIN_MONTHS, DATA_MONTHS, LATER_MONTHS = slice(1, 4), slice(0, 6), slice(4, 6)
FLIGHTS_PER_MONTH = 12_000
ROWS, SOME_ROWS = 8_000, 2_000
ODD, ODD_FILE = 14, 40  # changed rows, and rows in their file
DAY_FLIGHTS, DAY_LATE = 150, 15  # landed flights and late ones that the day of a window of one day has at least
NOON, LEAD, STORM_MINUTES = "12:00", timedelta(hours=2), 60.0
RECENT = timedelta(days=60)  # what predict may look at beside the model
BARS = stages.find("02").bars

WRONG_SEEDS = ('"seven"', "1.5", "[1]", '"12"', "{ value = 1 }")
WRONG_DAYS = ('"{year}-13-{day:02d}"', '"{year}-02-{late}"', '"next {day}th"', "{year}")
OTHER_DAYS = ('"{year}-03"', '"{day:02d}/02/{year}"')  # of which one would have to guess what they mean
FAULTS = {
    "permuted": "answers given to the wrong rows",
    "constant": "the same answer for every row",
    "nan_on_unseen": "no number for a category not seen in training",
    "not_reproducible": "another model at every training",
    "bad_config_accepted": "a wrong configuration accepted",
}


@dataclass(frozen=True)
class Case:
    """The hidden data of this stage.

    The DATA folder goes on after the training window, as it does in production, but without the flights to score. Many flights of it
    are just not late. `day` is one day of the window.
    """

    data: Path
    given: Path
    flights: pd.DataFrame
    labelled_in_window: int
    window: tuple[str, str]
    day: str
    labelled_on_day: int
    rows: Rows


@work
def case(grading: Grading) -> Case:
    import calendar

    import pandas as pd

    world = grading.world()
    data, given = grading.folder("data"), grading.folder("given")
    rows = draw_rows(world, world.months[LATER_MONTHS], ROWS, "package")
    write_data(with_many_just_in_time(world), data, world.months[DATA_MONTHS], FLIGHTS_PER_MONTH, without=rows)
    months = world.months[TRAIN_MONTHS]
    last_day = calendar.monthrange(world.year, int(months[-1][5:]))[1]
    window = (f"{months[0]}-01", f"{months[-1]}-{last_day}")
    flights = pd.read_parquet(data / "flights")
    day = flights["sched_dep_local"].str.slice(0, 10)
    inside = flights[(day >= window[0]) & (day <= window[1])]
    usecase(given)
    (given / "config.toml").write_text(config(window))
    rows.write(given / "rows.parquet")
    landed = yardstick.labelled(inside)
    days = landed.groupby(landed["sched_dep_local"].str.slice(0, 10))["late"].agg(["size", "sum"])
    usual = days[(days["size"] >= DAY_FLIGHTS) & (days["sum"] >= DAY_LATE) & (days["size"] - days["sum"] >= DAY_LATE)]
    one = usual.iloc[[int(stream(world.seed or 0, "a day").integers(len(usual)))]]
    return Case(data, given, inside, len(landed), window, str(one.index[0]), int(one["size"].iloc[0]), rows)


@work
def first_training(grading: Grading) -> Ran:
    case_ = grading.get(case)
    return train(grading, "train", case_.data, case_.given, {"PYTHONHASHSEED": "1"})


@work
def one_day_training(grading: Grading) -> Ran:
    """`train` with a window of one day, that being the first and the last."""
    case_ = grading.get(case)
    grading.get(model)
    given = grading.folder("one-day-given")
    usecase(given)
    (given / "config.toml").write_text(config((case_.day, case_.day)))
    return train(grading, "train-one-day", case_.data, given)


@work
def model(grading: Grading) -> Ran:
    """The trained model; for the checks that need one, it is owed that training went well."""
    ran = grading.get(first_training)
    if not ran.ok:
        raise Owed("the train command has to work first: see package.trains_from_fresh_copy")
    return ran


@work
def first_answers(grading: Grading) -> np.ndarray:
    return predict(grading, "predict", grading.get(model), grading.get(case).rows, grading.get(case).data)


@work
def second_answers(grading: Grading) -> np.ndarray:
    """Train again under another hash seed, on the same flights in another order, and predict beside another long past.

    The flights outside the window have exchanged outcomes, and those after it another schedule, so a model that learned from them
    is another one. `predict` is given exchanged outcomes of flights that are so long ago that no feature looks back at them, so
    one that learns only then is, too.
    """
    case_ = grading.get(case)
    grading.after(first_answers)
    first, last = case_.window
    back = lookback(own_features(grading.submission))
    if back:  # history before the window is part of what its flights are
        first = str(date.fromisoformat(first) - back - timedelta(days=2))

    def outside(flights: pd.DataFrame) -> pd.Series:
        return ~flights["sched_dep_local"].str.slice(0, 10).between(first, last)

    other = altered(grading, case_, outside)
    for path in sorted((other / "flights").glob("*.parquet")):
        if path.stem > last[:7]:
            exchange_schedules(path, stream(grading.world().seed or 0, f"schedules {path.name}"))
    write_manifest(other)
    again = train(grading, "train-again", other, case_.given, {"PYTHONHASHSEED": "2"})
    if not again.ok:
        raise Fault(f"we trained again with the same seed on the same flights in another order; {again.sentence()}")
    past = case_.rows.table["sched_dep"].min() - max(RECENT, back)
    other_past = altered(grading, case_, lambda flights: flights["sched_dep"] < past)
    return predict(grading, "predict-again", again, case_.rows, other_past)


def own_features(submission: Submission) -> list[Feature]:
    """The submission's feature definitions, where it has come so far."""
    try:
        return running.own_features(submission)
    except Fault:
        return []


def altered(grading: Grading, case_: Case, which: Callable[[pd.DataFrame], pd.Series]) -> Path:
    """The same DATA folder with flights in another order, and outcomes exchanged among `which` of them."""
    target = grading.folder("data-altered")
    return copy_with_exchanged_outcomes(grading.world(), case_.data, target, "altered", which, shuffle=True)


@check("package.trains_from_fresh_copy", uses=[case, first_training, one_day_training])
def trains_from_fresh_copy(grading: Grading) -> Finding:
    """`train` in a clean read-only copy learns from unseen data, only inside the window, and says what it used.

    Catches: a path of its author's machine; a model shipped instead of trained; the window ignored; its first or last day left out.
    Accepts: any model format, any further files, flights dropped for a reason; from stage 05 on a refusal of a window of one day.
    """
    case_, ran = grading.get(case), grading.get(first_training)
    if ran.absent:
        raise Owed(f"there is no train command yet; {ran.sentence()}")
    if not ran.ok:
        raise Fault(f"we ran train in a fresh copy on data it had not seen; {ran.sentence()}")
    record = predictions.read_json(grading.reader, ModelRecord, ran.out / "model.json", "train ended well, but ")
    window = (str(record.train_start), str(record.train_end))
    if window != case_.window or record.seed != SEED:
        return failed(
            "model.json does not repeat the configuration that train was given",
            f"{window[0]} to {window[1]}, seed {record.seed}", f"{case_.window[0]} to {case_.window[1]}, seed {SEED}",
        )  # fmt: skip
    least = math.ceil(BARS["rows"] * case_.labelled_in_window)
    bar = f"{least:,} to {case_.labelled_in_window:,} rows"
    if record.rows > case_.labelled_in_window:
        return failed(
            "model.json counts more training rows than the configured window has landed flights; only flights scheduled "
            "from train_start to train_end may be learned from", f"{record.rows:,} rows", bar,
        )  # fmt: skip
    if record.rows < least:
        return failed(
            "model.json says that less than half of the landed flights of the configured window were learned from",
            f"{record.rows:,} rows", bar,
        )  # fmt: skip
    return _one_day_problem(grading, case_, ran) or passed(
        "train worked in a fresh copy on data it had not seen", f"{record.rows:,} rows", bar
    )


def _one_day_problem(grading: Grading, case_: Case, first: Ran) -> Finding | None:
    """What is wrong with the training on one day. Raises Fault."""
    ran = grading.get(one_day_training)
    said = f"we trained on one day, train_start and train_end both {case_.day}, of which both are included"
    logged = os.path.lexists(first.out / "train.json")  # it holds flights back from training, and of one day it cannot
    if logged and ran.finished.ended == "exited" and ran.finished.code == CONTRACT_EXIT_REFUSED:
        return None
    if not ran.ok:
        raise Fault(f"{said}, and {case_.labelled_on_day:,} flights of it landed; {ran.sentence()}")
    rows = predictions.read_json(grading.reader, ModelRecord, ran.out / "model.json", f"{said}; ").rows
    least = math.ceil(BARS["rows"] * case_.labelled_on_day)
    if least <= rows <= case_.labelled_on_day:
        return None
    return failed(
        f"{said}; model.json counts other rows than that day has landed flights, or less than half of them",
        f"{rows:,} rows", f"{least:,} to {case_.labelled_on_day:,} rows",
    )  # fmt: skip


@work
def learns_from_outcomes(grading: Grading) -> bool:
    """Whether predictions depend on the outcomes in the data that `train` was given: trained again on exchanged ones."""
    import numpy as np

    case_, before = grading.get(case), grading.get(first_answers)
    exchanged = altered(grading, case_, lambda flights: flights["flight_id"].notna())
    ran = train(grading, "train-exchanged", exchanged, case_.given)
    try:
        return not ran.ok or bool(
            (np.abs(predict(grading, "predict-exchanged", ran, case_.rows, case_.data) - before) > BARS["equal"]).any()
        )
    except Fault:
        return True  # another outcome is an answer, too


@check("package.as_good_as_honest", uses=[case, first_training, model, first_answers, learns_from_outcomes])
def as_good_as_honest(grading: Grading) -> Finding:
    """On later months the model orders flights about as well as a plain logistic regression on the schedule.

    Catches: labels shuffled or turned round; flights of just 15 minutes called late; a model of one feature; a model of a few hundred
    rows; one that was brought along.
    Accepts: gradient boosting, naive Bayes, a table of rates, a hand-written regression.
    """
    case_, found = grading.get(case), grading.get(first_answers)
    late, honest = case_.rows.late, yardstick.honest_model(case_.flights, case_.rows)
    ahead, error = statistics.auc_difference(late, found, honest)
    slack = BARS["errors"] * error + BARS["margin"]
    value = f"AUC {statistics.auc(late, found):.3f}"
    bar = f"at least {statistics.auc(late, honest) - slack:.3f}"
    chart = charts.roc("ROC curve on later months", late, {"yours": found, "plain logistic regression": honest})
    if ahead < -slack:
        return failed("on later months the model is clearly worse than a plain logistic regression", value, bar, chart)
    if not grading.get(learns_from_outcomes):
        return failed(
            "we exchanged the outcomes of the flights to learn from and trained again, and every prediction stayed the same; a model "
            "has to be learned from the data it is given", "no prediction moved", "some move", chart,
        )  # fmt: skip
    return passed("on later months the model keeps up with a plain logistic regression", value, bar, chart)


@check("package.reproducible", uses=[case, first_training, model, first_answers, second_answers])
def reproducible(grading: Grading) -> Finding:
    """Training twice with one seed gives one model, also when files hold the rows in another order.

    Catches: a forgotten random_state; an order taken from a set or from the file; a clock in the features; outcomes or categories
    learned outside the window.
    Accepts: different bytes in the model file, as long as its predictions agree.
    """
    import numpy as np

    first, second = grading.get(first_answers), grading.get(second_answers)
    apart = float(np.abs(first - second).max())
    value, bar = f"largest difference {apart:.2g}", f"at most {BARS['equal']:.0g}"
    if apart > BARS["equal"]:
        return failed(
            "we trained twice with the same seed on the same flights, the second time with rows in another order, another "
            "PYTHONHASHSEED, other outcomes outside the window and another schedule after it, and predictions differ; fix the seed, sort "
            "by flight_id, and learn only from flights of the window, categories included, and only in train", value, bar,
        ).showing("moved", predictions.moved(grading.get(case).rows.table, first, second, BARS["equal"]))  # fmt: skip
    return passed("two trainings with the same seed agree", value, bar)


@work
def shuffled_answers(grading: Grading) -> tuple[np.ndarray, np.ndarray]:
    """Half of the rows in another order: their positions in the full batch, and what they got."""
    trained, case_ = grading.get(model), grading.get(case)
    positions = stream(1, "some rows").permutation(len(case_.rows))[:SOME_ROWS]
    return positions, predict(grading, "predict-shuffled", trained, case_.rows.take(positions), case_.data)


@work
def single_answer(grading: Grading) -> tuple[int, float]:
    """One row alone: its position in the full batch, and what it got."""
    trained, case_ = grading.get(model), grading.get(case)
    position = len(case_.rows) // 3
    return position, float(predict(grading, "predict-one", trained, case_.rows.take([position]), case_.data)[0])


@work
def answers_of_another_day(grading: Grading) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a day up to noon, on data in which whatever happened after the last decision happened later: positions, and what they got."""
    import numpy as np
    import pandas as pd

    trained, case_ = grading.get(model), grading.get(case)
    local, departure = case_.rows.table["sched_dep_local"], case_.rows.table["sched_dep"]
    days = local.str.slice(0, 10)
    day = stream(grading.world().seed or 0, "noon").choice(days[local.str.slice(11) <= NOON].unique())
    noon = departure[days.eq(day) & local.str.slice(11).le(NOON)].max()
    positions = np.flatnonzero(departure.between(noon - pd.Timedelta(days=1), noon))
    data = grading.folder("data-another-afternoon")
    shutil.copytree(case_.data, data, dirs_exist_ok=True)
    for path in sorted((data / "flights").glob("*.parquet")):
        delay_all_from(path, noon - LEAD, STORM_MINUTES)
    write_manifest(data)
    return positions, predict(grading, "predict-another-day", trained, case_.rows.take(positions), data)


@check(
    "package.rows_stand_alone",
    uses=[case, first_training, model, first_answers, shuffled_answers, single_answer, answers_of_another_day],
)
def rows_stand_alone(grading: Grading) -> Finding:
    """What a row gets depends on that row, not on its neighbours, their number or their order, nor on what happened later.

    Catches: scaling or filling by statistics of the batch; ranks instead of probabilities; answers sorted by a join; how late other
    flights of the day were looked up. Accepts: any way of batching inside; what was known at the decision.
    """
    import numpy as np

    found = grading.get(first_answers)
    positions, some = grading.get(shuffled_answers)
    position, alone = grading.get(single_answer)
    moved = float(np.abs(found[positions] - some).max())
    apart = max(moved, abs(found[position] - alone))
    value, bar = f"largest difference {apart:.2g}", f"at most {BARS['equal']:.0g}"
    if apart > BARS["equal"]:
        how = "in another order and company" if moved > BARS["equal"] else "alone"
        rows = grading.get(case).rows.table.iloc[positions]
        return failed(f"rows got other answers {how} than in the full batch", value, bar).showing(
            "moved", predictions.moved(rows, found[positions], some, BARS["equal"])
        )
    positions, later = grading.get(answers_of_another_day)
    apart = float(np.abs(found[positions] - later).max())
    if apart > BARS["equal"]:
        rows = grading.get(case).rows.table.iloc[positions]
        return failed(
            "we let flights in --data land and depart an hour later, all those that did so after the last of these rows was decided on, "
            "and rows got other answers; predict may use only what was known at the decision, two hours before departure",
            f"largest difference {apart:.2g}", bar,
        ).showing("moved", predictions.moved(rows, found[positions], later, BARS["equal"]))  # fmt: skip
    return passed(
        "rows get the same answer alone, in another order, in the full batch, and whatever came later", value, bar
    )


@work
def odd_answers(grading: Grading) -> tuple[Rows, np.ndarray]:
    """A file in which some rows are odd, and what each row got."""
    rows = odd_rows(grading.get(case).rows)
    return rows, predict(grading, "predict-odd", grading.get(model), rows, grading.get(case).data)


@work
def odd_answers_elsewhere(grading: Grading) -> np.ndarray:
    """What the odd rows got in another file, among rows that share neither carrier nor airports with most of the first one."""
    import numpy as np

    rows, case_ = grading.get(odd_answers)[0], grading.get(case)
    table, most = case_.rows.table, rows.table[ODD:].mode().iloc[0]
    names = ["carrier", "origin", "dest"]
    others = np.flatnonzero((table[names] != most[names]).all(axis=1))
    carrier = table["carrier"].iloc[others].mode()[0]
    company = case_.rows.take(others[(table["carrier"].iloc[others] == carrier).to_numpy()][:ODD_FILE])
    odd = rows.take(np.arange(ODD)[::-1])
    both = joined(odd, company)
    found = predict(grading, "predict-odd-elsewhere", grading.get(model), both, case_.data)
    answers: np.ndarray = found[:ODD][::-1]
    return answers


@check(
    "package.survives_odd_rows", uses=[case, first_training, model, first_answers, odd_answers, odd_answers_elsewhere]
)
def survives_odd_rows(grading: Grading) -> Finding:
    """Categories never seen, missing values and extreme numbers get a finite probability, in the same file as usual rows.

    Catches: an encoder that raises on the unknown; NaN that goes through; rows silently dropped; gaps filled from the file.
    Accepts: any probability for them, as long as it is the same in another file.
    """
    import numpy as np

    rows, found = grading.get(odd_answers)
    before = grading.get(first_answers)[ODD : len(found)]
    usual = np.abs(found[ODD:] - before)
    if usual.max() > BARS["equal"]:
        return failed(
            "usual rows got other answers because odd rows stood in the same file",
            f"largest difference {usual.max():.2g}", f"at most {BARS['equal']:.0g}",
        ).showing("moved", predictions.moved(rows.table[ODD:], before, found[ODD:], BARS["equal"]))  # fmt: skip
    here, elsewhere = found[:ODD], grading.get(odd_answers_elsewhere)
    apart = np.abs(here - elsewhere)
    if apart.max() > BARS["equal"]:
        return failed(
            "odd rows got other answers in a file with other usual rows; what stands for a missing or an unknown value has to come "
            "from training, not from the file", f"largest difference {apart.max():.2g}", f"at most {BARS['equal']:.0g}",
        ).showing("moved", predictions.moved(rows.table[:ODD], here, elsewhere, BARS["equal"]))  # fmt: skip
    return passed("odd rows got finite probabilities", f"{len(found):,} probabilities", "one per row, finite")


def odd_rows(rows: Rows) -> Rows:
    """Some usual rows, each changed in one way that happens in production."""
    import numpy as np
    import pandas as pd

    kept = rows.take(np.arange(ODD_FILE))
    table = kept.table.copy()
    table.loc[0, "carrier"] = "QQ"
    table.loc[1, "origin"] = "XXX"
    table.loc[2, "dest"] = "ZZZ"
    table.loc[3, ["carrier", "dest"]] = ["--", "\u65e5\u672c"]
    table.loc[4, "tailnum"] = None
    table.loc[5, "distance_miles"] = np.nan
    table.loc[6, "distance_miles"] = 1e12
    table.loc[7, "distance_miles"] = -1.0
    table.loc[8, "sched_arr"] = pd.NaT
    table.loc[9, "flight_no"] = 2_000_000_000
    table.loc[10, "tailnum"] = "N" * 300
    for row, name in enumerate(("carrier", "origin", "dest"), 11):
        table.loc[row, name] = None
    return Rows(table, kept.late, kept.after)


@dataclass(frozen=True)
class BadConfig:
    """A configuration with one line that is wrong: the line, what is wrong with it, and which keys may be named.

    Without a line it is the one of the key that is missing.
    """

    line: str
    what: str
    keys: frozenset[str]

    @property
    def said(self) -> str:
        if not self.line:
            return f"we left {min(self.keys)} out of the configuration"
        return f"we put `{self.line}` ({self.what}) into the configuration"


def bad_configs(grading: Grading) -> dict[str, BadConfig]:
    """Wrong configurations drawn for this grading, by the key that is wrong."""
    draw = stream(grading.world().seed or 0, "bad configurations")
    year, day, late = int(draw.integers(1950, 1999)), int(draw.integers(1, 13)), int(draw.integers(30, 32))
    seed = f"seed = {WRONG_SEEDS[draw.integers(len(WRONG_SEEDS))]}"
    when = f"train_start = {WRONG_DAYS[draw.integers(len(WRONG_DAYS))].format(year=year, day=day, late=late)}"
    form = f"train_start = {OTHER_DAYS[draw.integers(len(OTHER_DAYS))].format(year=year, day=day)}"
    typo = "".join(draw.permutation(list("seed"))) + "".join(draw.choice(list("abcdefgh"), 2))
    gone = str(draw.choice(["seed", "train_start", "train_end"]))
    return {
        "seed": BadConfig(seed, "no whole number", frozenset({"seed"})),
        "true-seed": BadConfig("seed = true", "no whole number", frozenset({"seed"})),
        "train_start": BadConfig(when, "no date", frozenset({"train_start"})),
        "other-form": BadConfig(form, "no date of the form YYYY-MM-DD", frozenset({"train_start"})),
        "train_end": BadConfig(
            f'train_end = "{year}-{day:02d}-28"', "a window without any flight", frozenset({"train_start", "train_end"})
        ),
        typo: BadConfig(f"{typo} = {day}", "a key nobody knows, as a typing error makes it", frozenset({typo})),
        f"without-{gone}": BadConfig("", "a key is missing", frozenset({gone})),
    }


@work
def refusals(grading: Grading) -> list[tuple[BadConfig, Ran]]:
    """`train` with each wrong configuration, one key wrong at a time."""
    case_ = grading.get(case)
    grading.get(model)
    runs = []
    for key, bad in bad_configs(grading).items():
        given = grading.folder(f"bad-{key}")
        lines = [text for text in config(case_.window).splitlines() if text.split(" = ")[0] not in bad.keys | {key}]
        if key == "train_end":  # the whole window lies before the data
            start = bad.line.split(" = ")[1].replace("-28", "-01")
            lines = [text for text in lines if not text.startswith("train_start")] + [f"train_start = {start}"]
        (given / "config.toml").write_text("\n".join([*lines, bad.line]) + "\n")
        usecase(given)
        runs.append((bad, train(grading, f"train-bad-{key}", case_.data, given)))
    return runs


@check("package.refuses_bad_config", uses=[case, first_training, model, refusals])
def refuses_bad_config(grading: Grading) -> Finding:
    """A wrong value, an impossible date, an empty window, an unknown and a missing key end with exit code 2 and the key's name.

    Catches: a traceback; a default used silently; a typing error ignored; `true` taken for 1; a record of a model that is none.
    Accepts: either end of an empty window named, any words in the message.
    """
    runs = grading.get(refusals)
    for bad, ran in runs:
        said = bad.said
        if ran.finished.ended != "exited" or ran.finished.code != CONTRACT_EXIT_REFUSED:
            return failed(
                f"{said}; train should refuse with exit code 2, {ran.sentence()}", f"exit {ran.finished.code}", "exit 2"
            )
        refusal = predictions.read_json(
            grading.reader, Refusal, ran.refusal, f"{said}; train ended with exit code 2, but "
        )
        if refusal.key not in bad.keys:
            named = f"key {refusal.key!r}" if refusal.key else "no key"
            return failed(f"{said}; the refusal should name that key", named, " or ".join(sorted(bad.keys)))
        if left := left_behind(ran.out):
            return failed(
                f"{said}; train refused, and left {one_line(left, 60)} in --out; what is refused changes nothing",
                one_line(left, 60), "nothing in --out",
            )  # fmt: skip
    count = len(runs)
    return passed("wrong configurations are refused and the key is named", f"{count} of {count} refused", "all")


def left_behind(folder: Path) -> str | None:
    """A file or a folder that is not empty in a folder, or None."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                empty = entry.is_dir(follow_symlinks=False) and not os.listdir(entry.path)
            except OSError:  # a folder that cannot be looked into
                empty = False
            if not empty:
                return entry.name
    return None


@work
def plain_tests(grading: Grading) -> Ran:
    """The submission's own tests on its own commands."""
    return own_tests(grading, "tests", "none")


@work
def hidden_order(grading: Grading) -> list[str]:
    """What stands between tests and commands in each further run, in an order that nothing outside tells.

    Some runs have no fault in them: tests that guess when to fail, or fail by chance, fail there too.
    """
    order = ["broken", *FAULTS, *UNFAULTED]
    random.SystemRandom().shuffle(order)
    return order


def further_tests(place: int) -> Work[Ran]:
    """The submission's own tests with what the hidden order has at a place; not run where they fail without any fault."""

    @work
    def run(grading: Grading) -> Ran:
        good = grading.get(plain_tests)
        fault = grading.get(hidden_order)[place]
        return own_tests(grading, f"tests-{fault}", "none" if fault in UNFAULTED else fault) if good.ok else good

    return run


UNFAULTED = ("unfaulted", "unfaulted again")
FURTHER = [further_tests(place) for place in range(1 + len(FAULTS) + len(UNFAULTED))]


def tests_behind(grading: Grading, what: str) -> Ran:
    """The run of the tests with `what` in their way."""
    return grading.get(FURTHER[grading.get(hidden_order).index(what)])


def own_tests(grading: Grading, label: str, fault: str) -> Ran:
    """Run `test` on its commands, in which a proxy that tests and commands cannot see into plants `fault`."""
    argv = command(grading, "test")
    commands = {name: command(grading, name) for name in ("train", "predict")}
    given, line = grading.folder(f"{label}-given"), grading.folder(f"{label}-line")
    out, copies = (grading.folder(name, grading.limits.disk_mb) for name in (label, f"{label}-copies"))
    proxy = FaultProxy(grading.submission, grading.sandbox, commands, fault, out, copies, line, grading.limits)
    (given / "commands.json").write_text(json.dumps({name: proxy.words(name) for name in commands}))
    settings, written = Mount(given, "given"), Mount(out / "out", "out", writable=True)
    scratch, tools = Mount(out / "work", "work", writable=True), [Mount(INSIDE, "kit"), Mount(line, "line")]
    arguments: list[Argument] = [*argv, "--commands", settings / "commands.json", "--out", written / "tests.json"]
    try:
        with grading.sandbox.turn, proxy:  # the proxy lives as long as its tests, not while they wait for a core
            return grading.submission.run(
                "test", arguments, [settings, scratch], out, grading.limits, {"TMPDIR": scratch}, tools, kit_python=True,
                in_turn=True,
            )  # fmt: skip
    except Ended as problem:
        raise Fault(f"we ran its tests; {problem}") from None


@check("package.tests_accept_good", uses=[plain_tests, hidden_order, *FURTHER])
def tests_accept_good(grading: Grading) -> Finding:
    """The submission's own tests call the commands they are given and pass when those are right.

    Catches: no tests; tests that count nothing, or not those that could not run; tests that import the package instead of calling the
    commands.
    Accepts: any test runner.
    """
    ran = grading.get(plain_tests)
    if ran.absent:
        raise Owed(f"there is no test command yet; {ran.sentence()}")
    if not ran.ok:
        raise Fault(f"we ran its tests on its own commands; {ran.finished.sentence()}: {ran.telling_line}")
    result = predictions.read_json(
        grading.reader, SuiteResult, ran.out / "tests.json", "its tests ended well on its own commands, but "
    )
    if result.passed < 1 or result.failed:
        return failed(
            "its tests ended with exit code 0 on its own commands, but tests.json does not say that some passed and none failed",
            f"{result.passed} passed, {result.failed} failed", "at least 1 passed, 0 failed",
        )  # fmt: skip
    for name in UNFAULTED:
        again = tests_behind(grading, name)
        if not again.ok:
            return failed(
                "its tests passed on its own commands once and failed another time, with nothing changed; they depend on chance, "
                f"time or the order of runs: {again.telling_line}", f"exit {again.finished.code}", "exit 0 each time",
            )  # fmt: skip
    broken = tests_behind(grading, "broken")
    if broken.ok:
        return failed(
            "its tests passed although the commands they were given did nothing but fail; either they call other commands than those in "
            "the file --commands, or no test runs at all", "exit 0", "exit 1",
        )  # fmt: skip
    said = "its tests ran on commands that did nothing but fail; "
    counted = predictions.read_json(grading.reader, SuiteResult, broken.out / "tests.json", said)
    if counted.passed + counted.failed < result.passed:
        return failed(
            f"{said}tests.json counts fewer tests than before; one that could not run, as when what it needs could not be trained, counts "
            "as failed", f"{counted.passed} passed, {counted.failed} failed", f"{result.passed} in all",
        )  # fmt: skip
    return passed(
        "its own tests pass on its own commands, and not on commands that fail",
        f"{result.passed} passed",
        "at least 1 passed, 0 failed",
    )


@check("package.tests_catch_faults", uses=[plain_tests, hidden_order, *FURTHER])
def tests_catch_faults(grading: Grading) -> Finding:
    """The submission's own tests fail when a fault is planted in what its commands do.

    Catches: tests that only look for files; tests without assertions; tests that never call predict.
    Accepts: one fault of the five missed.
    """
    if not all(ran.ok for ran in (grading.get(plain_tests), *(tests_behind(grading, name) for name in UNFAULTED))):
        raise Owed("its tests have to pass on its own commands first, each time: see package.tests_accept_good")
    missed = []
    for fault in FAULTS:
        finished = tests_behind(grading, fault).finished
        if not (finished.ended == "exited" and finished.code == 1):
            missed.append(FAULTS[fault])
    caught = len(FAULTS) - len(missed)
    value, bar = f"{caught} of {len(FAULTS)} faults caught", f"at least {int(BARS['caught'])}"
    if caught < BARS["caught"]:
        return failed(
            f"we planted faults in its commands and its tests did not fail with exit code 1 for: {'; '.join(missed)}",
            value,
            bar,
        )
    return passed("its own tests notice planted faults", value, bar)
