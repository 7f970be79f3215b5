"""Stage 04, features: the `features` command, and what `train` and `predict` make of it, beside the grader's own computation."""

from __future__ import annotations

import calendar
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grader import stages
from grader.checks import charts, predictions, running, statistics, yardstick
from grader.checks.api import Fault, Finding, Grading, Owed, check, failed, passed, work
from grader.contract.features import Feature, FeatureProblem, parse_features, required
from grader.contract.outputs import Refusal
from grader.printable import one_line
from grader.sandbox import Mount
from grader.sandbox.base import Argument
from grader.sandbox.reader import Table, Unreadable
from grader.submission import CONTRACT_EXIT_REFUSED, Ran, Submission, clean_copy
from grader.world import Rows, World, draw_rows, write_data
from grader.world.features import compute
from grader.world.timely import Timely, definitions, draw_timely, joined, spelled

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

DENSITY = 0.5  # of the flights: 13,500 a month
SCORED, USUAL, CLOCK, EARLIER, LATER, AFTER_DELIVERY, AGAIN = 4_000, 1_200, 500, 500, 200, 500, 300
YEAR_ROWS = 100_000
YEAR_FEATURES = ("wx_temp", "tail_last_delay", "carrier_late_7d", "route_late_28d", "origin_delay_3h")
BARS = stages.find("04").bars


@dataclass(frozen=True)
class Given:
    """The hidden data of this stage, laid down.

    Attributes
    ----------
    data : what is known on the last day, without what is delivered late; `future` and `delivered` are others of it.
    lots : the rows by what they are for; `rows` are all of them in one order.
    """

    case: Timely
    moment: pd.Timestamp
    data: Path
    future: Path
    delivered: Path
    given: Path
    window: tuple[str, str]
    lots: dict[str, Rows]
    definitions: list[Feature]

    @property
    def rows(self) -> Rows:
        return joined(*self.lots.values())

    def of(self, lot: str, values: pd.DataFrame) -> pd.DataFrame:
        """The part of a table (one row for each of `rows`) that is about one lot."""
        start = 0
        for name, rows in self.lots.items():
            if name == lot:
                return values.iloc[start : start + len(rows)].reset_index(drop=True)
            start += len(rows)
        raise KeyError(lot)


@work
def given(grading: Grading) -> Given:
    case = draw_timely(grading.world(), DENSITY, SCORED)
    moment = case.moment()
    worlds = {"data": case.before_delivery(), "future": case.another_future(moment), "delivered": case.after_delivery()}
    folders = {}
    for label, world in worlds.items():
        folders[label] = grading.folder(label)
        write_data(world, folders[label], case.months, without=case.score)
    lots = {
        "usual": case.usual_rows(USUAL),
        "clock": case.rows_at_the_clock(CLOCK),
        "before": case.rows_before(moment, 30, EARLIER),
        "after": case.rows_after(moment, 2, LATER),
        "delivered": joined(
            case.rows_before(case.delivered, 24, AFTER_DELIVERY // 4),
            case.rows_after(case.delivered, 6, AFTER_DELIVERY),
        ),
    }
    settings = grading.folder("given")
    last_day = calendar.monthrange(int(case.months[1][:4]), int(case.months[1][5:]))[1]
    window = (f"{case.months[0]}-01", f"{case.months[1]}-{last_day}")
    running.usecase(settings)
    (settings / "config.toml").write_text(running.config(window))
    return Given(
        case,
        moment,
        folders["data"],
        folders["future"],
        folders["delivered"],
        settings,
        window,
        lots,
        definitions(case),
    )


def run_features(grading: Grading, label: str, text: str, data: Path, table: pd.DataFrame) -> Ran:
    """Run `features` with definitions (TOML) on rows. Raises Owed."""
    argv = running.command(grading, "features")
    out, given_ = grading.folder(label, grading.limits.disk_mb), grading.folder(f"{label}-given")
    Rows(table, None, None).write(given_ / "rows.parquet")  # type: ignore[arg-type]
    running.usecase(given_)
    (given_ / "features.toml").write_text(text)
    source, settings = Mount(data, "data"), Mount(given_, "given")
    arguments: list[Argument] = [
        *argv, "--usecase", settings / "usecase.toml", "--spec", settings / "features.toml", "--data", source,
        "--rows", settings / "rows.parquet", "--out", Mount(out / "out", "out", writable=True) / "features.parquet",
    ]  # fmt: skip
    return grading.submission.run("features", arguments, [source, settings], out, grading.limits)


def read_features(
    grading: Grading, ran: Ran, said: str, features: Sequence[Feature], table: pd.DataFrame
) -> pd.DataFrame:
    """What `features` wrote, in the shape of `compute`. Raises Fault with what is wrong with it."""
    import pandas as pd

    if not ran.ok:
        raise Fault(f"{said}; {ran.sentence()}")
    try:
        found = grading.reader.parquet(ran.out / "features.parquet")
    except Unreadable as problem:
        raise Fault(f"{said}; features.parquet {problem}") from None
    wanted = ["row_id", *(feature.name for feature in features)]
    if list(found.columns) != wanted:
        missing = [name for name in wanted if name not in found.columns]
        more = [name for name in found.columns if name not in wanted]
        why = (
            f"{missing[0]} is missing"
            if missing
            else f"{one_line(more[0], 60)} is too many"
            if more
            else "their order is another"
        )
        raise Fault(f"{said}; its columns are not row_id and the defined features in their order: {why}")
    if found.columns["row_id"].values != table["row_id"].tolist():
        raise Fault(f"{said}; row_id is not that of the rows, in their order ({found.rows:,} rows for {len(table):,})")
    return pd.DataFrame({name: values_of(found, name, said) for name in wanted})


def values_of(table: Table, name: str, said: str) -> Any:
    """A column that was read, as float64 with NaN or as objects with None. Raises Fault."""
    import numpy as np

    column = table.columns[name]
    if column.type in ("int", "float", "bool"):
        return np.array([np.nan if v is None else float(v) for v in column.values or []])
    if column.type == "str":
        return np.array(column.values, dtype=object)
    if column.type == "null" or (column.values is not None and all(v is None for v in column.values)):
        return np.full(table.rows, np.nan)
    raise Fault(f"{said}; {name} is of type {column.type}; write texts as texts and numbers as numbers")


def text_of(features: Sequence[Feature]) -> str:
    return "".join(spelled(feature) for feature in features)


@work
def first_run(grading: Grading) -> Ran:
    """All rows, on the data as it is."""
    given_ = grading.get(given)
    return run_features(grading, "features", text_of(given_.definitions), given_.data, given_.rows.table)


@work
def found(grading: Grading) -> pd.DataFrame:
    """What the first run wrote; for the checks that need it, it is owed that it can be read."""
    given_ = grading.get(given)
    try:
        return _first(grading, given_, grading.get(first_run))
    except Fault:
        raise Owed("the features command has to work first: see features.values_are_right") from None


def _first(grading: Grading, given_: Given, ran: Ran) -> pd.DataFrame:
    said = f"we ran features with {len(given_.definitions)} definitions on {len(given_.rows):,} rows"
    return read_features(grading, ran, said, given_.definitions, given_.rows.table)


def own_values(given_: Given, data: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The grader's own computation."""
    return compute(given_.definitions, given_.given / "usecase.toml", data, table)


@work
def expected(grading: Grading) -> pd.DataFrame:
    given_ = grading.get(given)
    return own_values(given_, given_.data, given_.rows.table)


@work
def with_another_future(grading: Grading) -> pd.DataFrame:
    """The rows before and after the moment, on data in which everything that became known after it is otherwise."""
    given_ = grading.get(given)
    grading.after(first_run)
    rows = joined(given_.lots["before"], given_.lots["after"]).table
    return again(grading, "features-other-future", given_.future, rows)


@work
def with_late_data(grading: Grading) -> pd.DataFrame:
    """The rows around the delivery, on data with what was delivered."""
    given_ = grading.get(given)
    grading.after(first_run)
    return again(grading, "features-delivered", given_.delivered, given_.lots["delivered"].table)


@work
def in_other_company(grading: Grading) -> tuple[np.ndarray, pd.DataFrame]:
    """Some rows of the last month in another order, on data whose files hold their rows in another order: positions, and what they got.

    In the first run the company of these rows is older by two months: who keeps only what is recent for the first row shows it here.
    """
    import shutil

    import numpy as np
    import pandas as pd

    given_ = grading.get(given)
    grading.after(first_run)
    draw = given_.case.draw("company")
    folder = grading.folder("data-in-another-order")
    shutil.copytree(given_.data, folder, dirs_exist_ok=True)
    for path in sorted(folder.rglob("*.parquet")):
        table = pd.read_parquet(path)
        table.iloc[draw.permutation(len(table))].to_parquet(path, index=False)
    late = given_.rows.table["sched_dep_local"].str.slice(0, 7).eq(given_.case.months[2])
    positions = draw.permutation(np.flatnonzero(late))[:AGAIN]
    return positions, again(grading, "features-again", folder, given_.rows.take(positions).table)


def again(grading: Grading, label: str, data: Path, table: pd.DataFrame) -> pd.DataFrame:
    given_ = grading.get(given)
    ran = run_features(grading, label, text_of(given_.definitions), data, table)
    return read_features(grading, ran, f"we ran features on {len(table):,} rows", given_.definitions, table)


def differs(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Where two tables of features differ: bool, a column for each feature."""
    import numpy as np
    import pandas as pd

    wrong = {}
    for name in one.columns[1:]:
        a, b = one[name], other[name]
        empty_a, empty_b = a.isna().to_numpy(), b.isna().to_numpy()
        if pd.api.types.is_numeric_dtype(a.dtype) and pd.api.types.is_numeric_dtype(b.dtype):
            x, y = a.to_numpy(float), b.to_numpy(float)
            with np.errstate(invalid="ignore"):
                apart = np.abs(x - y) > BARS["equal"] * np.maximum(1, np.abs(x))
        else:
            apart = a.to_numpy(object) != b.to_numpy(object)
        wrong[name] = np.where(empty_a | empty_b, empty_a != empty_b, apart)
    return pd.DataFrame(wrong)


def _wrong(given_: Given, lot: str, right: pd.DataFrame, got: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Where a lot has wrong values, and the first of them beside the right ones."""
    right, got = given_.of(lot, right), given_.of(lot, got)
    where = differs(right, got)
    return where, _cells(given_.lots[lot].table, where, right, got)


def _cells(table: pd.DataFrame, where: pd.DataFrame, right: pd.DataFrame, got: pd.DataFrame) -> pd.DataFrame:
    """Some cells of each feature that differs: the row, what was expected, what was got."""
    import pandas as pd

    records = [
        {"feature": name, "expected": right[name].iloc[row], "got": got[name].iloc[row], **table.iloc[row].to_dict()}
        for name in where.columns
        for row in where.index[where[name]][:5]
    ]
    return pd.DataFrame(records)


FAMILIES = {"asof": "asof", "age": "asof", "mean": "window", "count": "window"}  # kinds that are computed alike


def sound(grading: Grading, *wanted: str) -> list[str]:
    """The features of the families that are right on usual flights: only of those it can be seen what else they do.

    Raises Owed where none of the `wanted` families is.
    """
    given_ = grading.get(given)
    where = differs(given_.of("usual", grading.get(expected)), given_.of("usual", grading.get(found)))
    family = {feature.name: FAMILIES.get(feature.kind, feature.kind) for feature in given_.definitions}
    wrong = {family[str(name)] for name in where.columns if where[name].any()}
    if wrong.issuperset(wanted):
        raise Owed("features have to be right on usual flights first: see features.values_are_right")
    return [str(name) for name in where.columns if family[str(name)] not in wrong]


def _named(given_: Given, where: pd.DataFrame) -> str:
    """The features that differ, worst first, with their kinds."""
    kinds = {feature.name: feature.kind for feature in given_.definitions}
    counts = where.sum().sort_values(ascending=False, kind="stable")
    named = [
        f"{name} ({kinds[str(name)]}, {count:,} of {len(where):,} rows)" for name, count in counts.items() if count
    ]
    more = f" and {len(named) - 4} more" if len(named) > 4 else ""
    return ", ".join(named[:4]) + more


def _share(where: pd.DataFrame) -> str:
    return f"{int((~where.any()).sum())} of {where.shape[1]} features right"


@check("features.values_are_right", uses=[given, first_run, expected])
def values_are_right(grading: Grading) -> Finding:
    """For the contract's fifteen features and drawn ones of every kind, each value is what the grader computes.

    Catches: a window or an age closed at the wrong end; scheduled instead of known times; nulls counted; ties broken by chance; hours cut
    in UTC; long durations refused; only the fifteen names known. Accepts: any engine, any width of numbers, null or NaN.
    """
    given_, ran = grading.get(given), grading.get(first_run)
    if ran.absent:
        raise Owed(f"there is no features command yet; {ran.sentence()}")
    own = running.own_features(grading.submission)
    for feature in required():
        if feature not in own:
            stands = "otherwise" if feature.name in {f.name for f in own} else "not"
            return failed(
                f"{grading.submission.manifest.features} does {'define ' if stands == 'otherwise' else 'not define '}"
                f"{feature.name}{' otherwise than the contract' if stands == 'otherwise' else ''}; it holds the contract's fifteen, "
                "and others if you like", f"{feature.name} {stands}", "as in the contract",
            )  # fmt: skip
    got, right = _first(grading, given_, ran), grading.get(expected)
    where, cells = _wrong(given_, "usual", right, got)
    if where.to_numpy().any():
        return failed(
            f"features are not what the grader computes: {_named(given_, where)}", _share(where), "all, in all rows"
        ).showing("wrong_values", cells)
    return passed("every feature is what the grader computes", f"{_share(where)} in {len(where):,} rows", "all")


@check("features.clock_edges", uses=[given, first_run, found, expected])
def clock_edges(grading: Grading) -> Finding:
    """Values are right for flights around midnight, in the hours when the clocks change, and in the weeks after it.

    Catches: a fixed distance from UTC; two hours or seven days taken from a clock on the wall; the date of UTC.
    Accepts: any way to know time zones.
    """
    given_ = grading.get(given)
    columns = ["row_id", *sound(grading, "calendar", "asof", "window")]
    got, right = grading.get(found)[columns], grading.get(expected)[columns]
    where, cells = _wrong(given_, "clock", right, got)
    if where.to_numpy().any():
        return failed(
            f"around midnight and the change of the clocks, or after it, features are wrong: {_named(given_, where)}",
            _share(where), "all, in all rows",
        ).showing("wrong_values", cells)  # fmt: skip
    return passed(
        "values are right around midnight and the change of the clocks",
        f"{_share(where)} in {len(where):,} rows",
        "all",
    )


@work
def base_training(grading: Grading) -> Ran:
    given_ = grading.get(given)
    return running.train(grading, "train", given_.data, given_.given)


@work
def model(grading: Grading) -> Ran:
    ran = grading.get(base_training)
    if not ran.ok:
        raise Owed(f"train has to work with the features first; {ran.sentence()}")
    return ran


@work
def answers(grading: Grading) -> tuple[np.ndarray, np.ndarray]:
    """Predictions for the flights to score, and for those before and after the moment."""
    given_ = grading.get(given)
    rows = joined(given_.case.score, given_.lots["before"], given_.lots["after"])
    found_ = running.predict(grading, "predict", grading.get(model), rows, given_.data)
    return found_[:SCORED], found_[SCORED:]


@work
def answers_with_another_future(grading: Grading) -> np.ndarray:
    given_ = grading.get(given)
    rows = joined(given_.lots["before"], given_.lots["after"])
    grading.after(answers)
    return running.predict(grading, "predict-other-future", grading.get(model), rows, given_.future)


@check(
    "features.knows_no_future",
    uses=[
        given,
        first_run,
        found,
        expected,
        with_another_future,
        base_training,
        model,
        answers,
        answers_with_another_future,
    ],
)
def knows_no_future(grading: Grading) -> Finding:
    """Change all delays, landings, cancellations and readings that became known after a moment: what was decided before stays.

    Catches: the weather of the hour of departure; rates of the same day; the flight's own delay; features right in `features`
    and computed otherwise in `predict`. Accepts: features that a submission defines beyond the fifteen.
    """
    import numpy as np
    import pandas as pd

    given_ = grading.get(given)
    before, later = len(given_.lots["before"]), len(given_.lots["after"])
    first = pd.concat([given_.of(lot, grading.get(found)) for lot in ("before", "after")], ignore_index=True)
    second = grading.get(with_another_future)
    where = differs(first, second)
    if where[:before].to_numpy().any():
        rows = given_.lots["before"].table
        moved = where[:before]
        return failed(
            f"we changed everything that became known after {given_.moment:%Y-%m-%d %H:%M} UTC, and features of flights that were "
            f"decided on before it moved: {_named(given_, moved)}", f"{int(moved.any().sum())} features moved", "none",
        ).showing("moved", _cells(rows, moved, first[:before], second[:before]))  # fmt: skip
    one, other = grading.get(answers)[1], grading.get(answers_with_another_future)
    apart = np.abs(one - other) > BARS["equal"]
    if apart[:before].any():
        return failed(
            f"we changed everything that became known after {given_.moment:%Y-%m-%d %H:%M} UTC: features stayed, and predictions for "
            "flights that were decided on before it moved; predict has to use the same features", f"{int(apart[:before].sum()):,} of "
            f"{before:,} predictions moved", "none",
        ).showing("moved", predictions.moved(given_.lots["before"].table, one[:before], other[:before], BARS["equal"]))  # fmt: skip
    table = given_.lots["after"].table
    own = differs(given_.of("after", grading.get(expected)), own_values(given_, given_.future, table))
    right = int((own & where[before:].reset_index(drop=True)).to_numpy().sum())
    total = int(own.to_numpy().sum())
    if right < BARS["moved"] * total:
        return failed(
            "features of flights that were decided on later did not move either, so it proves nothing that the others stayed",
            f"{right:,} of {total:,} values moved", f"at least {BARS['moved']:.0%}",
        )  # fmt: skip
    if not apart[before:].any():
        return failed(
            "no prediction for later flights moved either, so predictions do not follow from the history at all",
            f"0 of {later:,}", "some",
        )  # fmt: skip
    return passed(
        "another future moves neither features nor predictions of what was decided before",
        f"{where[:before].size:,} values and {before:,} predictions unmoved", "all",
    )  # fmt: skip


@check("features.late_data_moves_only_what_it_should", uses=[given, first_run, found, expected, with_late_data])
def late_data_moves_only_what_it_should(grading: Grading) -> Finding:
    """Flights and readings that are delivered days late move the values decided on after the delivery that rest on them.

    Catches: an old reading that arrives late taken for the newest; what was delivered late used as if it had been there; a
    lag of an hour assumed instead of read. Accepts: rounding.
    """
    given_, columns = grading.get(given), ["row_id", *sound(grading, "asof", "window")]
    first, second = given_.of("delivered", grading.get(found))[columns], grading.get(with_late_data)[columns]
    right_first = given_.of("delivered", grading.get(expected))
    right_second = own_values(given_, given_.delivered, given_.lots["delivered"].table)
    got, should = differs(first, second), differs(right_first[columns], right_second[columns])
    wrong = got != should
    value, bar = (
        f"{int((got & should).to_numpy().sum()):,} of {int(should.to_numpy().sum()):,} that have to move did",
        "those and no other",
    )
    if wrong.to_numpy().any():
        too_many, too_few = int((got & ~should).to_numpy().sum()), int((should & ~got).to_numpy().sum())
        return failed(
            f"we delivered flights and readings late, known from {given_.case.delivered:%Y-%m-%d %H:%M} UTC on: of the values that "
            f"rest on them {too_few:,} stayed, and {too_many:,} moved that do not, in {_named(given_, wrong)}", value, bar,
        ).showing("wrong_moves", _cells(given_.lots["delivered"].table, wrong, right_second, second))  # fmt: skip
    return passed("late data moves exactly the values that rest on it", value, bar)


@check("features.rows_stand_alone", uses=[given, first_run, found, expected, in_other_company])
def rows_stand_alone(grading: Grading) -> Finding:
    """A row's features do not depend on the other rows, nor on the order of rows in the data.

    Catches: history taken from the rows to score; a join that needs sorted files; the last row of the file for the latest; only
    the month before the first row kept in mind.
    Accepts: any order of work inside.
    """
    given_ = grading.get(given)
    every = grading.get(found)
    positions, second = grading.get(in_other_company)
    first = every.iloc[positions].reset_index(drop=True)
    right = grading.get(expected).iloc[positions].reset_index(drop=True)
    filled = right.iloc[:, 1:].notna() & first.iloc[:, 1:].notna()
    if filled.to_numpy().sum() < BARS["moved"] * right.iloc[:, 1:].notna().to_numpy().sum():
        raise Owed("most values are null; they have to be computed first: see features.values_are_right")
    where = differs(first, second)
    if where.to_numpy().any():
        table = given_.rows.take(positions).table
        return failed(
            f"rows got other features in other company, from files whose rows stood in another order: {_named(given_, where)}",
            f"{int(where.any().sum())} features moved", "none",
        ).showing("moved", _cells(table, where, first, second))  # fmt: skip
    return passed("rows get the same features in other company", f"{len(where):,} rows", "all values equal")


def _window_flights(given_: Given) -> pd.DataFrame:
    flights = given_.case.flights
    return flights[flights["sched_dep_local"].str.slice(0, 10).between(*given_.window)]


@check("features.keeps_up_with_the_schedule", uses=[given, base_training, model, answers])
def keeps_up_with_the_schedule(grading: Grading) -> Finding:
    """On flights of the next month the model orders about as well as a logistic regression on the schedule alone, or better.

    Catches: a model that drowns in its features; features that are null in `predict`; features of other rows learned from.
    Accepts: any model; in a month in which history tells little it need not be better.
    """
    ran = grading.get(base_training)
    if not ran.ok:
        raise Fault(f"we ran train on data with features; {ran.sentence()}")
    given_, late = grading.get(given), grading.get(given).case.score.late
    found_ = grading.get(answers)[0]
    schedule = yardstick.honest_model(_window_flights(given_), given_.case.score)
    ahead, error = statistics.auc_difference(late, found_, schedule)
    slack = BARS["errors"] * error + BARS["margin"]
    value, bar = f"AUC {statistics.auc(late, found_):.3f}", f"at least {statistics.auc(late, schedule) - slack:.3f}"
    chart = charts.roc("ROC curve on the next month", late, {"yours": found_, "schedule alone": schedule})
    if ahead < -slack:
        return failed("on later flights the model is clearly worse than one of the schedule alone", value, bar, chart)
    return passed("on later flights the model keeps up with one of the schedule alone", value, bar, chart)


@work
def with_new_entries(grading: Grading) -> Submission:
    """A copy of the submission whose definitions have two more entries: the telling columns."""
    given_ = grading.get(given)
    own = running.own_features(grading.submission)  # an entry more does not mend a file that cannot be read
    copy = grading.folder("submission-with-new-entries")
    clean_copy(grading.submission.folder, copy)
    entries = [
        {
            "name": f"new_{column}",
            "kind": "asof",
            "table": "weather",
            "by": ["origin"],
            "column": column,
            "max_age": "PT6H",
        }
        for column in given_.case.telling
    ]
    file = copy / grading.submission.manifest.features
    more = "\n\n" + "".join(map(spelled, entries))
    text = file.read_text(encoding="utf-8")
    try:
        parse_features(text + more)
    except FeatureProblem:  # `feature = [{...}]` is right TOML as well, and nothing can be put behind it
        text = "".join(map(spelled, own))
    file.write_text(text + more, encoding="utf-8")
    return replace(grading.submission, folder=copy)


@work
def answers_with_new_entries(grading: Grading) -> np.ndarray:
    given_, other = grading.get(given), grading.get(with_new_entries)
    grading.get(model)
    ran = running.train(grading, "train-new-entries", given_.data, given_.given, submission=other)
    if not ran.ok:
        raise Fault(f"we added two entries to {grading.submission.manifest.features} and ran train; {ran.sentence()}")
    return running.predict(grading, "predict-new-entries", ran, given_.case.score, given_.data, submission=other)


@check(
    "features.new_entry_reaches_the_model",
    uses=[given, base_training, model, answers, with_new_entries, answers_with_new_entries],
)
def new_entry_reaches_the_model(grading: Grading) -> Finding:
    """Two telling columns of the weather, one of numbers and one of words, are defined as features: predictions get better.

    Catches: a list of columns in the code; only numbers taken over; definitions read by `train` and not by `predict`.
    Accepts: any model that can use them.
    """
    given_ = grading.get(given)
    late, table = given_.case.score.late, given_.case.score.table
    before, after = grading.get(answers)[0], grading.get(answers_with_new_entries)
    gains = {}
    for column, airports in given_.case.telling.items():
        rows = table["origin"].isin(airports).to_numpy()
        gain, error = statistics.auc_difference(late[rows], after[rows], before[rows])
        words = (
            given_.case.world.weather[column].dtype == object or str(given_.case.world.weather[column].dtype) == "str"
        )
        gains["of words" if words else "of numbers"] = (gain, error)
    value = "; ".join(f"{what}: AUC {gain:+.3f} (standard error {error:.3f})" for what, (gain, error) in gains.items())
    bar = f"at least {BARS['gain']:+.3f} and {BARS['gain_errors']:.0f} standard errors each"
    if weak := [
        what for what, (gain, error) in gains.items() if gain < BARS["gain"] or gain < BARS["gain_errors"] * error
    ]:
        return failed(
            f"we added two entries to {grading.submission.manifest.features}, columns of the weather that tell of delays to come; the "
            f"column {' and the one '.join(weak)} did not make predictions better: train and predict have to use every entry", value, bar,
        )  # fmt: skip
    return passed("entries added to the definitions make predictions better, with no other change", value, bar)


@dataclass(frozen=True)
class Bad:
    """Definitions of which one is wrong: how, the entries, and the name that has to be given."""

    what: str
    text: str
    name: str


def bad_definitions(given_: Given) -> list[Bad]:
    """Each has one fault: a kind, a column or table, a duration, zone or part, a key, a name, some of them wrong in a drawn way."""
    draw = given_.case.draw("bad definitions")
    asof = {"kind": "asof", "table": "weather", "by": ["origin"], "column": "temp", "max_age": "PT6H"}
    zone = {"kind": "calendar", "of": "sched_dep", "part": "hour", "zone": "America/New_York"}

    def one(*among: str) -> str:
        return among[int(draw.integers(len(among)))]

    wrong: list[tuple[str, dict[str, Any]]] = [
        ("a kind that there is not", {**asof, "kind": one("latest", "as_of", "lag")}),
        ("a column that is not there", {**asof, "column": "snow"}),
        ("a table that is not there", {**asof, "table": "wether"}),
        ("a column that is not in [request]", {"kind": "column", "column": "row_id"}),
        (
            "a column of flights that is not in [request]",
            {"kind": "column", "column": one("dep_time", "arr_delay_min")},
        ),
        ("no duration", {**asof, "max_age": one("6h", "PT", "six hours", "P-1D")}),
        ("a duration in weeks or seconds", {**asof, "max_age": one("P1W", "PT90S", "P1DT5S")}),
        ("something behind a duration", {**asof, "max_age": one("PT6Hours", "PT6H30", "P1D 6H", "PT6H,")}),
        ("no time zone", {**zone, "zone": one("America/Newark", "EST5", "New York")}),
        ("no part of a calendar", {**zone, "part": one("minute", "weekday", "HOUR")}),
        ("max_age left out", {key: value for key, value in asof.items() if key != "max_age"}),
        ("a key that nobody knows", {**asof, "maxage": "PT3H"}),
    ]
    names = [f"f{number:05x}" for number in draw.choice(16**5, len(wrong) + 1, replace=False)]
    good = spelled({"name": names[-1], "kind": "column", "column": "carrier"})
    named = [(what, {"name": name, **entry}) for name, (what, entry) in zip(names[:-1], wrong, strict=True)]
    named += [
        ("a name that is there twice", {"name": names[-1], **asof}),
        ("the name by which rows are told apart", {"name": "row_id", **asof}),
    ]
    return [Bad(what, good + spelled(entry), entry["name"]) for what, entry in named]


@work
def refusals(grading: Grading) -> list[tuple[Bad, Ran]]:
    given_ = grading.get(given)
    grading.get(found)
    table = given_.lots["usual"].take(range(20)).table
    return [
        (bad, run_features(grading, f"features-bad-{place}", bad.text, given_.data, table))
        for place, bad in enumerate(bad_definitions(given_))
    ]


@check("features.refuses_bad_definitions", uses=[given, first_run, found, refusals])
def refuses_bad_definitions(grading: Grading) -> Finding:
    """Definitions that make no sense end with exit code 2 and the name of the feature.

    Catches: a traceback; a column of nulls for what is not there; a key ignored because of a typing error; half an answer left behind.
    Accepts: any words in the message.
    """
    runs = grading.get(refusals)
    for bad, ran in runs:
        said = f"we defined the feature {bad.name} with {bad.what}"
        if ran.finished.ended != "exited" or ran.finished.code != CONTRACT_EXIT_REFUSED:
            return failed(
                f"{said}; features should refuse with exit code 2, {ran.sentence()}",
                f"exit {ran.finished.code}",
                "exit 2",
            )
        refusal = predictions.read_json(
            grading.reader, Refusal, ran.refusal, f"{said}; it ended with exit code 2, but "
        )
        if refusal.key != bad.name:
            return failed(
                f"{said}; the refusal should give its name as `key`",
                f"key {refusal.key!r}" if refusal.key else "no key",
                bad.name,
            )
        if os.path.lexists(ran.out / "features.parquet"):
            return failed(
                f"{said}; features refused it, and wrote features.parquet all the same; what is refused changes nothing",
                "features.parquet is there", "nothing written",
            )  # fmt: skip
    return passed(
        "wrong definitions are refused and the feature is named", f"{len(runs)} of {len(runs)} refused", "all"
    )


@dataclass(frozen=True)
class Year:
    """A run on a whole year, and what the grader's own code took for the same; seconds."""

    ran: Ran
    rows: Rows
    features: list[Feature]
    own_seconds: float
    right: pd.DataFrame


@work
def year(grading: Grading) -> Year:
    world: World = grading.world()
    grading.get(found)
    data, given_ = grading.folder("year"), grading.folder("year-given")
    write_data(world, data)
    rows = draw_rows(world, world.months, YEAR_ROWS, "features of a year")
    features = [feature for feature in required() if feature.name in YEAR_FEATURES]
    running.usecase(given_)
    begin = time.perf_counter()
    right = compute(features, given_ / "usecase.toml", data, rows.table)
    seconds = time.perf_counter() - begin
    return Year(
        run_features(grading, "features-year", text_of(features), data, rows.table), rows, features, seconds, right
    )


@check("features.copes_with_a_year", uses=[given, first_run, found, expected])
def copes_with_a_year(grading: Grading) -> Finding:
    """On a year of 330,000 flights, 100,000 rows get their features in a bounded time and memory.

    Catches: a filter of the whole table for each row; every pair of flights joined. Accepts: any engine.
    """
    year_ = grading.get(year)
    most = math.ceil(BARS["slower"] * year_.own_seconds)
    finished = year_.ran.finished
    value = f"{finished.seconds:.0f} s, {finished.peak_memory_mb:,} MB"
    bar = f"at most {most:,} s ({BARS['slower']:.0f} times the grader's own code), {BARS['memory_mb']:,.0f} MB"
    if not year_.ran.ok or finished.seconds > most or finished.peak_memory_mb > BARS["memory_mb"]:
        how = "" if year_.ran.ok else f"; {year_.ran.sentence()}"
        return failed(
            f"a year of flights, {len(year_.rows):,} of them as rows, takes too much time or memory{how}", value, bar
        )
    got = read_features(grading, year_.ran, "we ran features on a year", year_.features, year_.rows.table)
    columns = [name for name in got.columns if name in ("row_id", *sound(grading, "asof", "window"))]
    wrong = differs(year_.right[columns], got[columns]).to_numpy().mean()
    if wrong > BARS["wrong"]:
        return failed(
            "on a whole year features are wrong that were right on three months", f"{wrong:.1%} of values wrong", "none"
        )
    return passed("a year of flights gets its features in time", value, bar)
