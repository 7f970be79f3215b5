"""Stage 10, monitoring: `monitor` judges weeks of traffic of which the grader knows what was changed in each, and in which nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from grader import stages
from grader.checks import charts, running
from grader.checks.api import Fault, Finding, Grading, Owed, check, failed, passed, with_list, work
from grader.checks.statistics import binomial_interval
from grader.contract.monitoring import ATTRIBUTE, FLAGS, REPORT_MB
from grader.contract.outputs import Judgement, Monitored, OutputProblem, parse_output
from grader.contract.sentences import shown
from grader.sandbox import Mount
from grader.sandbox.base import Argument
from grader.sandbox.reader import Unreadable
from grader.submission import Ran
from grader.verdict import Chart, Series
from grader.world import windows as world
from grader.world.build import stream
from grader.world.windows import DATA_KINDS, ONSET, Traffic, Window

if TYPE_CHECKING:
    import pandas as pd

BARS = stages.find("10").bars
GOOD, SLOWLY, TURNED = "good", "slowly", "labels turned round"
TO_NOTICE = (*DATA_KINDS, "more late flights", "other answers")  # without waiting for labels of single flights
ONE_COLUMN = DATA_KINDS[:3]  # kinds in which nothing but one column is changed
AGAIN_GOOD, AGAIN_CHANGED = 6, 6  # windows that are judged again in other company
AGAIN_WEEKS = (ONSET + 1, ONSET + 3, ONSET + 5)  # of services that are judged again without their later weeks


@dataclass(frozen=True)
class Given:
    """The hidden windows of this stage, laid down."""

    traffic: Traffic
    reference: Path
    windows: Path
    settings: Path


@dataclass(frozen=True)
class Judged:
    """A window and what was said of it."""

    window: Window
    said: Judgement

    @property
    def alarm(self) -> bool:
        """Whether anything was called wrong that a good week could be blamed for."""
        return bool(self.alarms)

    @property
    def alarms(self) -> list[str]:
        said = {"data": self.said.data, "prediction": self.said.prediction, "performance": self.said.performance}
        return [flag for flag, value in said.items() if value in ("drift", "degraded")]

    @property
    def noticed(self) -> bool:
        """Whether what was changed was noticed in the flag that is about it."""
        kind = self.window.kind
        if kind in (*DATA_KINDS, SLOWLY):
            return self.said.data == "drift"
        if kind == "other answers":
            return self.said.prediction == "drift"
        return self.said.performance == "degraded"

    @property
    def judgement(self) -> tuple[object, ...]:
        said = self.said
        flags = tuple(getattr(said, flag) for flag in FLAGS)
        return flags, tuple(sorted(said.columns)), tuple(sorted(said.skewed))

    def words(self) -> str:
        """What was said, in a few words."""
        said = self.said
        columns = f" ({_some(said.columns)})" if said.columns else ""
        return f"data {said.data}{columns}, prediction {said.prediction}, performance {said.performance}"

    @property
    def place(self) -> str:
        return f"windows/{self.window.name}"


def _some(names: Sequence[str]) -> str:
    """A few of some names, as a message shows them."""
    return ", ".join(name[:60] for name in names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


@dataclass(frozen=True)
class Verdicts:
    """All windows with what was said of them."""

    every: list[Judged]

    def of(self, *kinds: str) -> list[Judged]:
        return [judged for judged in self.every if judged.window.kind in kinds]

    @cached_property
    def good(self) -> list[Judged]:
        return self.of(GOOD)

    @cached_property
    def silence(self) -> str | None:
        """Why it proves nothing that there were few alarms: there are hardly any in changed weeks either."""
        changed = self.of(*TO_NOTICE)
        alarms = sum(judged.alarm for judged in changed)
        if alarms >= BARS["silent"] * len(changed):
            return None
        return f"there was an alarm in only {alarms} of {len(changed)} weeks in which something was changed"

    @cached_property
    def noise(self) -> str | None:
        """Why it proves nothing that there were alarms: there are as many in good weeks."""
        alarms = sum(judged.alarm for judged in self.good)
        if alarms <= BARS["deafening"] * len(self.good):
            return None
        return f"there was an alarm in {alarms} of {len(self.good)} good weeks too"


@work
def given(grading: Grading) -> Given:
    running.command(grading, "monitor")  # before anything is made for it
    folders = [grading.folder(name) for name in ("season", "reference", "windows", "given")]
    traffic = world.make_traffic(grading.world(), folders[0])
    for window in traffic.reference:
        window.write(folders[1])
    for window in traffic.windows:
        window.write(folders[2])
    (folders[3] / "usecase.toml").write_text(traffic.rules.usecase(), encoding="utf-8")
    return Given(traffic, *folders[1:])


def monitor(grading: Grading, label: str, windows: Path) -> Ran:
    """Run `monitor` on a folder of windows. Raises Owed."""
    argv = running.command(grading, "monitor")
    given_ = grading.get(given)
    out = grading.folder(label, grading.limits.disk_mb)
    settings, reference, folder = (
        Mount(given_.settings, "given"),
        Mount(given_.reference, "reference"),
        Mount(windows, "windows"),
    )
    arguments: list[Argument] = [
        *argv, "--usecase", settings / "usecase.toml", "--reference", reference, "--windows", folder,
        "--out", Mount(out / "out", "out", writable=True),
    ]  # fmt: skip
    return grading.submission.run("monitor", arguments, [settings, reference, folder], out, grading.limits)


@work
def first(grading: Grading) -> Ran:
    """All windows in one run."""
    running.command(grading, "monitor")
    return monitor(grading, "monitor", grading.get(given).windows)


@work
def nothing(grading: Grading) -> Ran:
    """A run on an empty folder of windows."""
    running.command(grading, "monitor")
    return monitor(grading, "monitor-nothing", grading.folder("no-windows"))


def read(grading: Grading, ran: Ran, windows: Sequence[Window], what: str) -> Verdicts:
    """What a run said of each window. Raises Owed where there is no such program, Fault with what is wrong."""
    if ran.absent:
        raise Owed(f"there is no monitor command yet; {ran.sentence()}")
    if not ran.ok:
        raise Fault(f"we ran monitor on {what}; {ran.sentence()}")
    try:
        found = parse_output(Monitored, grading.reader.json(ran.out / "decisions.json")).windows
    except Unreadable as problem:
        raise Fault(f"we ran monitor on {what}; decisions.json {problem}") from None
    except OutputProblem as problem:
        raise Fault(str(problem)) from None
    said: dict[str, Judgement] = {}
    for judgement in found:
        if judgement.window_id in said:
            raise Fault(f"decisions.json judges the window {shown(judgement.window_id)} twice")
        said[judgement.window_id] = judgement
    names = {window.name for window in windows}
    if more := said.keys() - names:
        raise Fault(f"decisions.json judges {shown(min(more))}, which is no window; we ran monitor on {what}")
    if missing := names - said.keys():
        one = next(window for window in windows if window.name in missing)
        raise Fault(
            f"decisions.json says nothing of {len(missing)} of {len(names)} windows, such as one of which we know that {one.says} "
            f"(windows/{one.name})"
        )
    return Verdicts([Judged(window, said[window.name]) for window in windows])


@work
def found(grading: Grading) -> Verdicts:
    """What was said of each window; for the checks that need it, it is owed that all of it can be read."""
    try:
        return read(grading, grading.get(first), grading.get(given).traffic.windows, "all windows")
    except Fault:
        raise Owed("monitor has to judge every window first: see monitoring.judges_every_window") from None


@work
def again(grading: Grading) -> dict[str, Judged]:
    """Some windows under other names and without the others, by their old names. Raises Fault."""
    traffic = grading.get(given).traffic
    draw = stream(grading.world().seed or 0, "windows again")
    weeks = Counter(window.service for window in traffic.windows)
    alone = [w for w in traffic.of(GOOD) if not w.about["render"] and w.batch is None and weeks[w.service] == 1]
    chosen = [alone[at] for at in draw.permutation(len(alone))[:AGAIN_GOOD]]
    for kind in (*TO_NOTICE, TURNED)[:AGAIN_CHANGED]:
        of_kind = [w for w in traffic.of(kind) if not w.about["render"]]
        chosen.append(of_kind[draw.integers(len(of_kind))])
    # The first weeks of some services: those before are there, and those after are not.
    services = list(traffic.slow.values())
    chosen += [week for weeks, count in zip(services, AGAIN_WEEKS, strict=False) for week in weeks[:count]]
    names = [f"w{n:05x}" for n in draw.choice(16**5, len(chosen), replace=False)]
    folder = grading.folder("windows-again")
    renamed = [replace(window, name=name) for window, name in zip(chosen, names, strict=True)]
    for window in renamed:
        window.write(folder)
    grading.after(first)
    ran = monitor(grading, "monitor-again", folder)
    verdicts = read(grading, ran, renamed, f"{len(renamed)} of the windows, in folders of other names")
    return {window.name: judged for window, judged in zip(chosen, verdicts.every, strict=True)}


def _all_windows(grading: Grading) -> pd.DataFrame:
    """One row a window: where it lies, what is the matter with it, and what was said of it."""
    import pandas as pd

    try:
        said = {judged.window.name: judged.said for judged in grading.get(found).every}
    except Owed:
        said = {}
    records = []
    for window in grading.get(given).traffic.windows:
        judgement = said.get(window.name)
        record = {"window": window.name, "kind": window.kind, "what": window.says, "column": window.column}
        for flag, expected in _expected(window, grading.get(given).traffic.rules.min_rows).items():
            record[f"expected_{flag}"], record[f"got_{flag}"] = expected, getattr(judgement, flag) if judgement else ""
        for names in ("columns", "skewed"):
            record[f"got_{names}"] = " ".join(getattr(judgement, names)) if judgement else ""
        record["expected_skewed"] = " ".join(window.skewed)
        wrong = any(record[f"expected_{flag}"] not in ("", record[f"got_{flag}"]) for flag in FLAGS)
        wrong = wrong or sorted(window.skewed) != sorted(judgement.skewed if judgement else ())
        records.append(record | {"as_expected": not wrong, "service": window.service, "position": window.position})
    table = pd.DataFrame(records).sort_values(["as_expected", "kind", "service", "position"], ignore_index=True)
    return table[["window", "as_expected", *table.columns.drop(["window", "as_expected"])]]


def _expected(window: Window, min_rows: int) -> dict[str, str]:
    """What has to be said of a window, as far as there is one right answer to each; of good weeks, with few exceptions."""
    few = len(window.rows) < min_rows
    kind, known = window.kind, window.known
    drifts = kind in (*DATA_KINDS, "all null", "a column gone")
    degraded = kind in (TURNED, "more late flights", "corrected to bad")
    open_ = kind in (
        "infinite",
        "enough rows",
        "more late flights",
        SLOWLY,
    )  # late flights leave at other hours than punctual ones
    return {
        "data": "unknown" if few else "drift" if drifts else "" if open_ else "ok",
        "prediction": "unknown" if few else "drift" if kind == "other answers" else "ok" if kind == GOOD else "",
        "performance": "unknown" if not known else "degraded" if degraded else "ok" if kind == GOOD else "",
        "model_age": "stale" if window.stale else "ok",
        "skew": window.skew,
    }


with_all_windows = with_list("windows", _all_windows)


@check("monitoring.judges_every_window", uses=[given, first, nothing])
@with_all_windows
def judges_every_window(grading: Grading) -> Finding:
    """Each window is judged once, and a verdict on features and answers is given where there are rows enough for one, and only there.

    Catches: a crash at a window without rows, with nulls only or with infinite numbers; "ok" where nothing was looked at; new columns
    that are blamed; a column that is gone and not missed. Accepts: any order of windows; more keys.
    """
    given_ = grading.get(given)
    rules = given_.traffic.rules
    verdicts = read(grading, grading.get(first), given_.traffic.windows, f"{len(given_.traffic.windows)} windows")
    for judged in verdicts.every:
        window, said = judged.window, judged.said
        enough = len(window.rows) >= rules.min_rows
        for flag, value in (("data", said.data), ("prediction", said.prediction)):
            if (value == "unknown") == enough:
                wanted = "ok or drift" if enough else "unknown"
                return failed(
                    f"a window has {len(window.rows):,} rows, min_rows is {rules.min_rows}, and {flag} is {value} ({judged.place})",
                    value, wanted,
                )  # fmt: skip
        if foreign := [name for name in said.columns if name not in given_.traffic.features]:
            return failed(
                f"a window is said to have drifted in {_some(foreign)}, which the reference does not have ({judged.place})",
                _some(said.columns), "columns of the reference",
            )  # fmt: skip
    for judged in verdicts.of("all null", "a column gone"):
        window, said = judged.window, judged.said
        if said.data != "drift" or (window.column and window.column not in said.columns):
            column = f", {window.column}" if window.column else ""
            return failed(
                f"of a window we know that {window.says}{column}, and it was not said ({judged.place})",
                judged.words(), f"data drift{f' ({window.column})' if window.column else ''}",
            )  # fmt: skip
    read(grading, grading.get(nothing), [], "an empty folder of windows")
    return passed(
        "every window is judged, and unknown is said where there are too few rows",
        f"{len(verdicts.every)} windows",
        "all",
    )


@check("monitoring.knows_the_age_of_the_model", uses=[given, first, found])
@with_all_windows
def knows_the_age_of_the_model(grading: Grading) -> Finding:
    """A model is stale by the last day that it learned from, however lately it was registered.

    Catches: the age of the version or of a file; a limit of one's own; the clock of the machine; a day too many or too few; the day that is
    written in `now` instead of that in UTC.
    Accepts: any way to count days.
    """
    verdicts = grading.get(found)
    limit = grading.get(given).traffic.rules.max_model_age_days
    wrong = [j for j in verdicts.every if (j.said.model_age == "stale") != j.window.stale]
    value = f"{len(verdicts.every) - len(wrong)} of {len(verdicts.every)} windows"
    if wrong:
        about, said = wrong[0].window.about, wrong[0].said.model_age
        return failed(
            f"model_age is {said} with model_train_end {about['model_train_end']}, registered {about['model_registered_at']}, now "
            f"{about['now']}; max_model_age_days is {limit} ({wrong[0].place})",
            value, "all",
        )  # fmt: skip
    return passed("old models are told from young ones by what they learned from", value, "all")


@check("monitoring.stays_quiet", uses=[given, first, found])
@with_all_windows
def stays_quiet(grading: Grading) -> Finding:
    """Good weeks raise few alarms.

    Catches: one test at .05 for each of twenty columns; tests that take the rows of a week for independent; limits of a library that never
    saw these data; a storm taken for drift. Accepts: any statistic whose usual size was learned from good weeks.
    """
    verdicts = grading.get(found)
    if verdicts.silence:
        raise Owed(f"{verdicts.silence}, so it proves nothing that good weeks are quiet: see monitoring.finds_drift")
    alarms = [judged for judged in verdicts.good if judged.alarm]
    value = f"alarms in {_of(len(alarms), len(verdicts.good))} good weeks"
    bar, chart = f"at most {BARS['alarms']:.0f}", _alarms(verdicts)
    named = Counter(name for judged in alarms for name in judged.said.columns)
    shown_charts = (chart, _spread(grading.get(given).traffic, [name for name, _ in named.most_common()]))
    if len(alarms) <= BARS["alarms"]:
        return passed("good weeks raise few alarms", value, bar, *shown_charts)
    flags = [flag for judged in alarms for flag in judged.alarms]
    by_flag = ", ".join(f"{flag} in {flags.count(flag)}" for flag in dict.fromkeys(flags))
    why = ""
    if flags.count("data") > len(alarms) / 2:
        columns = len(grading.get(given).traffic.features)
        why = (
            f". With {columns} columns, a test at the level .05 in each alarms in {1 - 0.95**columns:.0%} of good weeks (multiple "
            "comparisons), and in more where rows of one week are taken for independent"
        )
    return failed(f"there is an alarm in too many good weeks: {by_flag}{why}", value, bar, *shown_charts).showing(
        "alarms_in_good_weeks", _frame(alarms)
    )


def _spread(traffic: Traffic, names: Sequence[str]) -> Chart:
    """How far good weeks lie from each other in a column of numbers, and how far they would if rows were drawn one by one."""
    import numpy as np
    import pandas as pd

    weeks = [week.rows for week in traffic.reference]
    numbers = [
        n
        for n in (*names, "wx_temp", *traffic.features)
        if n in weeks[0] and pd.api.types.is_float_dtype(weeks[0][n].dtype)
    ]
    name = numbers[0]
    values = [np.sort(week[name].dropna().to_numpy()) for week in weeks]
    draw = np.random.default_rng(0)
    every = np.sort(np.concatenate(values))

    def distance(week: np.ndarray) -> float:
        """Kolmogorov's and Smirnov's, from all good weeks together."""
        at = np.searchsorted(every, week, side="right") / len(every)
        return float(np.abs(np.arange(1, len(week) + 1) / len(week) - at).max())

    found = np.sort([distance(week) for week in values])
    alone = np.sort([distance(np.sort(draw.choice(every, len(week)))) for week in values])
    share = tuple(round((n + 1) / len(values), 3) for n in range(len(values)))
    says = (
        f"in {name}, half of the {len(values)} good weeks of the reference lie further than {np.median(found):.3f} from all together; if "
        f"their rows had been drawn one by one, half would lie further than {np.median(alone):.3f}"
    )
    series = [
        Series(word, tuple(round(float(d), 4) for d in of), share)
        for word, of in (("good weeks", found), ("rows drawn one by one", alone))
    ]
    title = f"How much good weeks differ: {name}"
    return charts.line(title, "KS distance from all good weeks", "share of weeks at most so far", series, says)


def _of(hits: int, count: int) -> str:
    low, high = binomial_interval(hits, count)
    return f"{hits} of {count} ({low:.0%} to {high:.0%})"


def _alarms(verdicts: Verdicts) -> Chart:
    """What share of the windows of each kind raised which alarm."""
    kinds = [GOOD, *world.KINDS]
    groups = {kind: verdicts.of(kind) for kind in kinds}
    says = "; ".join(f"{kind}: alarm in {_of(sum(j.alarm for j in of), len(of))}" for kind, of in groups.items())
    series = [
        Series(
            flag, tuple(kinds), tuple(round(sum(flag in j.alarms for j in of) / len(of), 3) for of in groups.values())
        )
        for flag in ("data", "prediction", "performance")
    ]
    return charts.bars("Alarms by what was changed", "what was changed", "share of windows", series, says)


def _frame(of: Iterable[Judged]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        [
            {"window": j.window.name, "what": j.window.says, "got": j.words(), "columns": " ".join(j.said.columns)}
            for j in of
        ]
    )


@check("monitoring.finds_drift", uses=[given, first, found])
@with_all_windows
def finds_drift(grading: Grading) -> Finding:
    """Of each kind of change most weeks are noticed, in the flag that is about it.

    Catches: limits so wide that nothing is noticed; means only, so that gaps and new categories pass; nothing said about the answers; a
    look at the order of answers only, so that it passes when far more flights are late; flights whose label is not known yet taken for
    punctual. Accepts: more flags than the one.
    """
    verdicts = grading.get(found)
    if verdicts.noise:
        raise Owed(f"{verdicts.noise}, so it proves nothing that changed ones raise some: see monitoring.stays_quiet")
    return _noticed(verdicts, TO_NOTICE, "in changed weeks nothing was noticed")


def _noticed(verdicts: Verdicts, kinds: Sequence[str], otherwise: str) -> Finding:
    groups = {kind: verdicts.of(kind) for kind in kinds}
    counts = {kind: sum(judged.noticed for judged in of) for kind, of in groups.items()}
    value = "; ".join(f"{kind}: {_of(counts[kind], len(of))}" for kind, of in groups.items())
    bar, chart = f"at least {BARS['found']:.0f} of each", _alarms(verdicts)
    missed = {kind: [j for j in of if not j.noticed] for kind, of in groups.items() if counts[kind] < BARS["found"]}
    if missed:
        said = "; ".join(
            f"{kind}, such as {of[0].window.says} ({of[0].place}): {of[0].words()}" for kind, of in missed.items()
        )
        return failed(f"{otherwise}: {said}", value, bar, chart).showing(
            "missed", _frame(j for of in missed.values() for j in of)
        )
    return passed("changes of the stated sizes are noticed", value, bar, chart)


@check("monitoring.names_the_columns", uses=[given, first, found])
@with_all_windows
def names_the_columns(grading: Grading) -> Finding:
    """Where features drifted, the column that was changed is named, and hardly any other.

    Catches: all columns named, or the most important one; columns named by their place; the answers named as a column.
    Accepts: columns that follow the changed one, where other flights were drawn.
    """
    verdicts = grading.get(found)
    noticed = [judged for judged in verdicts.of(*DATA_KINDS) if judged.noticed]
    if verdicts.noise:
        raise Owed(f"{verdicts.noise}, so naming columns proves nothing: see monitoring.stays_quiet")
    if len(noticed) < BARS["found"] * len(DATA_KINDS):
        raise Owed("most weeks whose features were changed have to be noticed first: see monitoring.finds_drift")
    unnamed = [judged for judged in noticed if judged.window.column not in judged.said.columns]
    single = [judged for judged in noticed if judged.window.kind in ONE_COLUMN]
    others = sum(name != j.window.column for j in single for name in j.said.columns) / max(len(single), 1)
    value = f"named in {_of(len(noticed) - len(unnamed), len(noticed))}, {others:.1f} others"
    bar = f"at least {BARS['named']:.0%}, at most {BARS['others']:.0f} others"
    if len(unnamed) > (1 - BARS["named"]) * len(noticed):
        one = unnamed[0]
        return failed(
            f"columns that were changed are not named: {one.window.says}, and what is named is {_some(one.said.columns)} ({one.place})",
            value, bar,
        ).showing("not_named", _frame(unnamed))  # fmt: skip
    if others > BARS["others"]:
        one = max(single, key=lambda judged: len(judged.said.columns))
        return failed(
            f"columns are named that were not changed: {one.window.says}, and what is named is {_some(one.said.columns)} ({one.place})",
            value, bar,
        ).showing("named", _frame(single))  # fmt: skip
    return passed("the columns that were changed are named", value, bar)


@check("monitoring.sees_concept_drift", uses=[given, first, found])
@with_all_windows
def sees_concept_drift(grading: Grading) -> Finding:
    """Weeks in which features and answers are as always, but the labels no longer fit, are noticed once labels are known.

    Catches: labels never looked at; joined by position; the rate of late flights taken for a measure of fit; an average over all weeks.
    Accepts: any measure of fit that the order of the answers matters to.
    """
    verdicts = grading.get(found)
    if verdicts.noise or verdicts.silence:
        raise Owed("good weeks and changed ones have to be told apart first: see monitoring.finds_drift")
    return _noticed(verdicts, (TURNED,), "labels that no longer fit were not noticed")


@check("monitoring.waits_for_labels", uses=[given, first, found])
@with_all_windows
def waits_for_labels(grading: Grading) -> Finding:
    """Performance is unknown exactly where too few labels are known, and a corrected label counts as corrected.

    Catches: "ok" for want of labels; labels of the future; a label that comes twice counted twice; labels of other rows; the first
    word instead of the last, and the last of all instead of the last that is known; what became known in the moment of `now` left out;
    rows whose label is not known taken for late ones. Accepts: any measure of fit.
    """
    verdicts, rules = grading.get(found), grading.get(given).traffic.rules
    decided = [judged for judged in verdicts.every if judged.window.known is not None]
    wrong = [j for j in decided if (j.said.performance != "unknown") != j.window.known]
    value = f"{len(decided) - len(wrong)} of {len(decided)} windows"
    if wrong:
        one = wrong[0]
        known, lines = _known(one.window)
        return failed(
            f"a window has {len(one.window.rows):,} rows, and labels of {known:,} of them were known at its now ({lines:,} lines in "
            f"labels.parquet); min_labels is {rules.min_labels}, and performance is {one.said.performance} ({one.place})",
            value, "all",
        )  # fmt: skip
    if not [judged for judged in verdicts.of(TURNED) if judged.noticed]:
        raise Owed("labels that do not fit have to be noticed first: see monitoring.sees_concept_drift")
    for kind, wanted in (("corrected to good", "ok"), ("corrected to bad", "degraded")):
        of = verdicts.of(kind)
        otherwise = [judged for judged in of if judged.said.performance != wanted]
        value = f"{len(of) - len(otherwise)} of {len(of)} windows {wanted}"
        if len(otherwise) > BARS["corrected"]:
            one = otherwise[0]
            known, _ = _known(one.window)
            return failed(
                f"{one.window.says}, and performance is {one.said.performance}; labels of {known:,} of {len(one.window.rows):,} rows were "
                "known at its now. Of several labels of a row, the one counts that became known last, of those known at now, and a row "
                f"without one does not count ({one.place})",
                value, f"at least {len(of) - BARS['corrected']:.0f}",
            ).showing("corrected", _frame(otherwise))  # fmt: skip
    return passed("performance waits for labels, and takes their last word", f"{len(decided)} windows", "all")


def _known(window: Window) -> tuple[int, int]:
    """Rows whose label is known when the window is judged, and lines of the file of labels."""
    import pandas as pd

    if window.labels is None:
        return 0, 0
    known = window.labels[window.labels["label_known_at"] <= pd.Timestamp(window.about["now"])]
    return int(known["row_id"][known["row_id"].isin(window.rows["row_id"])].nunique()), len(window.labels)


@check("monitoring.sees_slow_drift", uses=[given, first, found])
@with_all_windows
def sees_slow_drift(grading: Grading) -> Finding:
    """A change that comes a little each week is noticed within some weeks.

    Catches: each week compared with the one before; a reference that follows the traffic. Accepts: any delay within the bound.
    """
    verdicts = grading.get(found)
    mix = verdicts.of(DATA_KINDS[3])
    if verdicts.noise or sum(judged.noticed for judged in mix) < BARS["found"]:
        raise Owed("good weeks and those of another mix have to be told apart first: see monitoring.finds_drift")
    said = {judged.window.name: judged for judged in verdicts.of(SLOWLY)}
    services = {name: [said[w.name] for w in weeks] for name, weeks in grading.get(given).traffic.slow.items()}
    delays = {name: _delay(weeks) for name, weeks in services.items()}
    in_time = [name for name, delay in delays.items() if delay is not None and delay <= BARS["slow_weeks"]]
    seen = sorted(delay for delay in delays.values() if delay is not None)
    middle = f"half of them within {seen[(len(seen) - 1) // 2]} weeks" if seen else "none ever"
    value = f"{len(in_time)} of {len(services)} services, {middle}"
    bar = f"at least {BARS['slow']:.0f} within {BARS['slow_weeks']:.0f} weeks"
    chart = _slowly(list(services.values()))
    if len(in_time) < BARS["slow"]:
        late = [name for name in services if name not in in_time]
        last = services[late[0]][-1]
        return failed(
            f"in services whose traffic changes a little each week it is not noticed: in week {last.window.position - ONSET + 1} of one, "
            f"{last.window.says} than before it began ({last.place}): {last.words()}",
            value, bar, chart,
        ).showing("slow", _frame(j for name in late for j in services[name]))  # fmt: skip
    return passed("changes that come slowly are noticed", value, bar, chart)


def _delay(weeks: Sequence[Judged]) -> int | None:
    """In which week of the change it was noticed, the first being 1; None if never."""
    noticed = [judged.window.position for judged in weeks if judged.noticed and judged.window.position >= ONSET]
    return min(noticed) - ONSET + 1 if noticed else None


def _slowly(services: Sequence[Sequence[Judged]]) -> Chart:
    """What share of the services was noticed in each week."""
    at = [judged.window.position - ONSET + 1 for judged in services[0]]
    share = [round(sum(weeks[n].noticed for weeks in services) / len(services), 3) for n in range(len(at))]
    says = "; ".join(f"week {week}: {part:.0%}" for week, part in zip(at, share, strict=True))
    return charts.line(
        "Services with a slow change", "week of the change (0 and before: none yet)", "share noticed",
        [Series("noticed", tuple(float(week) for week in at), tuple(share))], says,
    )  # fmt: skip


@check("monitoring.sees_skew", uses=[given, first, found])
@with_all_windows
def sees_skew(grading: Grading) -> Finding:
    """Where the nightly job computed other features for the same rows than the service did, the columns are named; to the row.

    Catches: rows compared by their place; distributions compared instead of rows; a null taken for equal to anything, or for different
    from another null, or from NaN; equality to the last bit; the infinite that is equal to anything, or not to itself; rows that only one
    side has. Accepts: any order, and a job that did only some rows.
    """
    verdicts = grading.get(found)
    wrong = [
        j for j in verdicts.every
        if j.said.skew != j.window.skew or (j.window.skew == "skew" and set(j.said.skewed) != set(j.window.skewed))
    ]  # fmt: skip
    compared = [judged for judged in verdicts.every if judged.window.batch is not None]
    value = f"{len([j for j in compared if j not in wrong])} of {len(compared)} windows with a nightly job"
    if wrong:
        one = wrong[0]
        got = f"{one.said.skew}{f' in {_some(one.said.skewed)}' if one.said.skewed else ''}"
        wanted = f"{one.window.skew}{f' in {_some(one.window.skewed)}' if one.window.skewed else ''}"
        return failed(
            f"{_difference(one.window)}; what was said is {got}, and should be {wanted} ({one.place})", value, "all"
        ).showing("side_by_side", _side_by_side(one))
    return passed("differences between service and nightly job are found, column by column", value, "all")


def _difference(window: Window) -> str:
    """How a window and its nightly job compare."""
    if window.batch is None:
        return "a window has no batch.parquet"
    pairs = _pairs(window, window.skewed[:1])
    said = f"the rows and batch.parquet of a window share {len(pairs):,} rows"
    if not window.skewed:
        return f"{said}, which differ in nothing but their order, null or NaN in both, the last digits, or a share of rows that is allowed"
    return f"{said}, and in {window.skewed[0]} {int(pairs['differs'].sum()):,} of them differ"


def _pairs(window: Window, columns: Sequence[str]) -> pd.DataFrame:
    """The rows that a window and its nightly job share, with the values of both in some columns, and whether any of them differs."""
    assert window.batch is not None
    names = ["row_id", *columns]
    pairs = window.rows[names].merge(window.batch[names], on="row_id", suffixes=("_served", "_batch"))
    differs = pairs["row_id"].isna()
    for name in columns:
        one, other = pairs[f"{name}_served"], pairs[f"{name}_batch"]
        differs |= (one != other) & ~(one.isna() & other.isna())
    return pairs.assign(differs=differs)


def _side_by_side(judged: Judged) -> pd.DataFrame:
    """The columns that are skewed or were called so, as the service and the nightly job have them, those rows first that differ."""
    import pandas as pd

    batch = judged.window.batch
    if batch is None:
        return pd.DataFrame()
    columns = [name for name in dict.fromkeys((*judged.window.skewed, *judged.said.skewed)) if name in batch.columns]
    return _pairs(judged.window, columns[:4]).sort_values("differs", ascending=False)


@check("monitoring.judges_each_window_alone", uses=[given, first, found, again])
@with_all_windows
def judges_each_window_alone(grading: Grading) -> Finding:
    """A window gets the same judgement without the others, and in a folder of another name.

    Catches: what is usual learned from the windows themselves; dice; rules by the name of the folder; what later weeks of the same
    service say. Accepts: what earlier ones say.
    """
    verdicts = grading.get(found)
    if len({judged.judgement for judged in verdicts.every}) == 1:
        return failed(
            "every window got the same judgement, so it proves nothing that it stayed the same", "1", "several"
        )
    before = {judged.window.name: judged for judged in verdicts.every}
    for name, judged in grading.get(again).items():
        if judged.judgement != before[name].judgement:
            later = ""
            if judged.window.kind == SLOWLY:
                later = f"; it is week {judged.window.position} of its service, whose earlier weeks were there, and not all later ones"
            return failed(
                f"a window, {judged.window.says} ({before[name].place}), was judged otherwise in other company and in a folder of another "
                f"name{later}",
                judged.words(), f"as before, {before[name].words()}",
            )  # fmt: skip
    return passed("windows get the same judgement alone", f"{len(grading.get(again))} windows judged again", "the same")


@check("monitoring.renders_reports", uses=[given, first, found])
@with_all_windows
def renders_reports(grading: Grading) -> Finding:
    """For each window that asks for one there is a page that opens without a network and shows what was decided.

    Catches: a page without the decision; one that says something else; pictures from elsewhere; flags that are in the page and not shown.
    Accepts: any page, by any library or none.
    """
    verdicts = grading.get(found)
    wanted = [judged for judged in verdicts.every if judged.window.about["render"]]
    if len({judged.judgement for judged in wanted}) == 1:
        raise Owed("windows have to be told apart first, or every page says the same: see monitoring.finds_drift")
    for judged in wanted:
        name = f"{judged.window.name}.html"
        try:
            page = grading.reader.page(grading.get(first).out / name, ATTRIBUTE, REPORT_MB)
        except Unreadable as problem:
            raise Fault(f"the window {judged.place} asks for a report, and {name} {problem}") from None
        if page.loads:
            return failed(
                f"{name} does not open without a network: it loads {page.loads[0]}",
                f"{len(page.loads)} things",
                "nothing",
            )
        for flag in (*FLAGS, "columns", "skewed"):
            expected = getattr(judged.said, flag)
            shown = [text for marked, text in page.flags if marked == flag]
            if not shown:
                return failed(f'{name} shows no element with {ATTRIBUTE}="{flag}"', "none", "one")
            got = [sorted(part.strip() for part in text.split(",") if part.strip()) for text in shown]
            if any(one != (sorted(expected) if isinstance(expected, list) else [expected]) for one in got):
                return failed(
                    f"{name} and decisions.json do not say the same of {flag}", shown[0] or "nothing",
                    _some(expected) or "nothing" if isinstance(expected, list) else expected,
                )  # fmt: skip
    return passed("reports say what was decided", f"{len(wanted)} pages", "all")
