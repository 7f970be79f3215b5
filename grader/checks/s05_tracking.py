"""Stage 05, tracking: what `train` logs has to follow from the run; the grader scores the logged models itself."""

from __future__ import annotations

import calendar
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from grader import home, stages, stores
from grader.checks import charts, predictions, running, tracked, yardstick
from grader.checks.api import Fault, Finding, Grading, Owed, check, failed, passed, work
from grader.checks.tracked import BASELINE, VALID, Logged
from grader.contract.features import Feature, FeatureProblem
from grader.contract.outputs import ModelRecord
from grader.sandbox import Job, Mount
from grader.sandbox.base import Argument
from grader.sandbox.reader import INSIDE, TOOL_ENVIRONMENT, Column, Table, Unreadable
from grader.submission import Ran
from grader.verdict import Chart
from grader.world import Rows, draw_rows, features, write_data
from grader.world.build import stream
from grader.world.layout import SCHEDULE, copy_with_exchanged_outcomes, write_manifest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TRAIN_MONTHS, DATA_MONTHS = 2, 4  # so the study has two models, and both are measured
FLIGHTS_PER_MONTH, ROWS = 2_000, 500
OTHER_SEED = running.SEED + 1
PEOPLE = 40
BARS = stages.find("05").bars


@dataclass(frozen=True)
class Case:
    """The hidden data of this stage.

    `months` are those of the data; `window` the training window; `given` holds use case and configuration; `flights` are all
    flights of the data with a label; `secrets` the personal data in a column that nobody asked for.
    """

    data: Path
    given: Path
    months: list[str]
    window: tuple[str, str]
    flights: pd.DataFrame
    rows: Rows
    definitions: list[Feature]
    secrets: list[str]
    hash: str

    @property
    def columns(self) -> list[str]:
        return [feature.name for feature in self.definitions]

    def landed(self, window: tuple[str, str]) -> pd.DataFrame:
        """The landed flights of a window, with `day` and `late`."""
        return self.flights[self.flights["day"].between(*window)]


@work
def case(grading: Grading) -> Case:
    world = grading.world()
    data, given = grading.folder("data"), grading.folder("given")
    months = world.months[:DATA_MONTHS]
    rows = draw_rows(world, months[TRAIN_MONTHS + 1 : TRAIN_MONTHS + 2], ROWS, "tracking")
    write_data(world, data, months, FLIGHTS_PER_MONTH, without=rows)
    secrets = plant_personal_data(data, world.seed or 0)
    content_hash = write_manifest(data)
    window = (f"{months[0]}-01", last_day(months[TRAIN_MONTHS - 1]))
    configure(given, window)
    return Case(
        data, given, months, window, labelled(data), rows, own_features(grading), secrets, content_hash
    )  # fmt: skip


def last_day(month: str) -> str:
    return f"{month}-{calendar.monthrange(int(month[:4]), int(month[5:]))[1]}"


def configure(given: Path, window: tuple[str, str], seed: int = running.SEED) -> Path:
    """Lay use case and configuration into a folder."""
    running.usecase(given)
    (given / "config.toml").write_text(running.config(window, seed))
    return given


def labelled(data: Path) -> pd.DataFrame:
    """The landed flights of a data folder with `late` and `day`, sorted by flight_id."""
    import pandas as pd

    flights = yardstick.labelled(pd.read_parquet(data / "flights"))
    flights["day"] = flights["sched_dep_local"].str.slice(0, 10)
    return flights.sort_values("flight_id", ignore_index=True)


def own_features(grading: Grading) -> list[Feature]:
    """The submission's own feature definitions. Raises Owed."""
    try:
        return running.own_features(grading.submission)
    except Fault as problem:
        raise Owed(f"{problem}; it is owed from stage 04") from None


def plant_personal_data(data: Path, seed: int) -> list[str]:
    """Add a column of invented mail addresses to the flights of a data folder; returns all of them."""
    import pandas as pd

    from grader.world.feed_kinds import FIRST, LAST, PERSONAL_NAMES

    draw = stream(seed, "people")
    domain = f"{''.join(draw.choice(list('abcdefghkmnpqrstuvw'), 9))}.example"
    numbers = draw.choice(10**4, PEOPLE, replace=False)
    people = [f"{draw.choice(FIRST)}.{draw.choice(LAST)}{number:04d}@{domain}" for number in numbers]
    name = str(draw.choice(PERSONAL_NAMES))
    for path in sorted((data / "flights").glob("*.parquet")):
        table = pd.read_parquet(path)
        table[name] = [people[i] for i in draw.integers(0, PEOPLE, len(table))]
        table.to_parquet(path, index=False)
    return people


def feature_table(case_: Case, data: Path, flights: pd.DataFrame) -> pd.DataFrame:
    """The judge's own features of rows: `row_id` and a column for each of the submission's definitions. Raises Owed."""
    if "row_id" not in flights:
        flights = flights.rename(columns={"flight_id": "row_id"})
    try:
        return features.compute(case_.definitions, home.datasets() / "usecase.toml", data, flights)
    except FeatureProblem as problem:
        raise Owed(f"{problem}; features.toml is owed from stage 04") from None


@work
def first_training(grading: Grading) -> Ran:
    case_ = grading.get(case)
    return running.train(grading, "train", case_.data, case_.given, {"PYTHONHASHSEED": "1"})


def logged(grading: Grading, ran: Ran, what: str) -> Logged:
    return tracked.read(grading, ran, grading.get(case).columns, what)


@work
def first(grading: Grading) -> Logged:
    """The run of the first training; for the checks that need it, it is owed that it is complete."""
    try:
        return logged(grading, grading.get(first_training), "we ran train")
    except Fault:
        raise Owed("train has to log a complete run first: see tracking.run_is_complete") from None


@work
def again(grading: Grading) -> Logged:
    """The same training once more."""
    case_ = grading.get(case)
    grading.after(first_training)
    ran = running.train(grading, "train-again", case_.data, case_.given, {"PYTHONHASHSEED": "2"})
    return logged(grading, ran, "we ran train again on the same data with the same configuration")


@dataclass(frozen=True)
class Changed:
    """A training of which something was changed: the run, its data, its window, and the flights of that data."""

    logged: Logged
    data: Path
    window: tuple[str, str]
    flights: pd.DataFrame
    hash: str


@work
def exchanged(grading: Grading) -> Changed:
    """The same training where, of half of the flights that it validated on, the late ones were punctual and the punctual ones late.

    Whatever was learned from them or chosen by them then comes out otherwise: how often they were late, which way a column points, and
    how strongly.
    """
    case_, before = grading.get(case), grading.get(first)
    ids = sorted(before.validation.ids)
    draw = stream(grading.world().seed or 0, "turned outcomes")
    turned = {ids[place] for place in draw.permutation(len(ids))[: len(ids) // 2]}
    data = grading.folder("data-exchanged")
    copy_with_exchanged_outcomes(
        grading.world(), case_.data, data, "validation", lambda flights: flights["flight_id"].isin(turned), turned=True
    )
    content_hash = write_manifest(data)
    ran = running.train(grading, "train-exchanged", data, case_.given, {"PYTHONHASHSEED": "1"})
    what = "we exchanged the outcomes of the validation flights and ran train again"
    return Changed(logged(grading, ran, what), data, case_.window, labelled(data), content_hash)


@work
def other_seed(grading: Grading) -> Changed:
    """A training with another seed, where the feature definitions have another comment, or one more."""
    case_ = grading.get(case)
    grading.after(first_training)
    window = (later_start(case_), case_.window[1])
    given = configure(grading.folder("given-seed"), window, OTHER_SEED)
    name = grading.submission.manifest.features
    ran = train_altered(grading, "train-other-seed", name, given)
    what = f"we ran train with another seed and a later train_start, after we had changed a comment in {name}, or added one"
    return Changed(logged(grading, ran, what), case_.data, window, case_.flights, case_.hash)


def later_start(case_: Case) -> str:
    """A first day of a window before which the data has others, which nothing may be learned from."""
    return f"{case_.months[0]}-10"


@work
def other_end(grading: Grading) -> Changed:
    """A training with another seed on a longer window, where a program file has another comment, of the same length if it had one."""
    case_ = grading.get(case)
    grading.after(first_training)
    draw = stream(grading.world().seed or 0, "other end")
    window = (later_start(case_), last_day(case_.months[TRAIN_MONTHS]))
    given = configure(grading.folder("given-end"), window, OTHER_SEED)
    folder = grading.submission.folder
    programs = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py") if path.is_file())
    commented = [name for name in programs if _other_comment((folder / name).read_bytes())]
    name = str(draw.choice(commented or programs)) if programs else "NOTES.txt"
    ran = train_altered(grading, "train-other-end", name, given)
    what = f"we ran train with another seed and train_end, after we had changed a comment in {name}, or added one"
    return Changed(logged(grading, ran, what), case_.data, window, case_.flights, case_.hash)


def train_altered(grading: Grading, label: str, name: str, given: Path) -> Ran:
    """Run `train` of a copy of the submission that has another comment in a file, or one more."""
    from dataclasses import replace

    copy = grading.folder("submission-altered") / "submission"
    shutil.copytree(grading.submission.folder, copy)
    text = (copy / name).read_bytes() if (copy / name).exists() else b""
    (copy / name).write_bytes(_other_comment(text) or text + b"\n# one more comment\n")
    altered = replace(grading.submission, folder=copy)
    before = altered.seconds
    ran = running.train(grading, label, grading.get(case).data, given, {"PYTHONHASHSEED": "1"}, altered)
    grading.submission.seconds += altered.seconds - before
    return ran


def _other_comment(program: bytes) -> bytes:
    """A Python program with another letter in a comment, which does nothing; empty where there is none."""
    import tokenize

    lines = program.splitlines(keepends=True)
    try:
        tokens = list(tokenize.tokenize(iter(lines).__next__))
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError, StopIteration):
        return b""
    for token in tokens:
        row, column = token.start
        if token.type == tokenize.COMMENT and row > 2 and token.line.isascii() and token.string[-1].isalpha():
            at = column + len(token.string) - 1
            lines[row - 1] = (
                lines[row - 1][:at] + (b"x" if token.string[-1] != "x" else b"y") + lines[row - 1][at + 1 :]
            )
            return b"".join(lines)
    return b""


def nudged(case_: Case, name: str, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A feature table as it is, and with all that is reckoned a little smaller and a little larger.

    Features agree to 6 digits, and a tree may have a threshold where many rows have their value.
    """
    reckoned = [f.name for f in case_.definitions if f.kind in ("mean", "age")]
    by = BARS["nudge"]
    return {
        f"{name}{sign}": table.assign(**{column: table[column] * (1 + n) for column in reckoned})
        for sign, n in zip(NUDGES, (0, -by, by), strict=True)
    }


NUDGES = ("", "-", "+")


@dataclass(frozen=True)
class Scores:
    """What the logged models say of features that we computed, by training and by table."""

    models: dict[str, dict[str, np.ndarray] | Fault]
    problems: dict[str, Fault] = field(default_factory=dict)

    def near(self, training: str, table: str, said: np.ndarray) -> np.ndarray:
        """Of the probabilities for a nudged table, in each row the one that is nearest to what was said (n,). Raises Fault."""
        import numpy as np

        found = np.stack([self.of(training, f"{table}{sign}") for sign in NUDGES])
        picked: np.ndarray = found[np.abs(found - said).argmin(axis=0), np.arange(len(said))]
        return picked

    def of(self, training: str, table: str) -> np.ndarray:
        """The probabilities of one table (n,). Raises Fault."""
        if training in self.problems:
            raise Fault(str(self.problems[training]))
        return tracked.scored(self.models[training])[table]


TRAININGS = {"exchanged": exchanged, "other seed": other_seed, "other end": other_end}


@work
def scores(grading: Grading) -> Scores:
    """Score with each logged model: its validation rows, those of the first training, rows of a later month, later months."""
    case_, base = grading.get(case), grading.get(first)
    problems: dict[str, Fault] = {}
    found: dict[str, tuple[Logged, dict[str, pd.DataFrame]]] = {}
    valid = held_out(case_, case_.data, case_.flights, base)
    rows = nudged(case_, "rows", feature_table(case_, case_.data, case_.rows.table))
    found["first"] = (base, {**nudged(case_, "validation", valid), **rows})
    later = {month: feature_table(case_, case_.data, of_month(case_, month)) for month in case_.months[TRAIN_MONTHS:]}
    for name, training in TRAININGS.items():
        try:
            changed = grading.get(training)
            tables = nudged(case_, "validation", held_out(case_, changed.data, changed.flights, changed.logged))
        except Fault as problem:
            problems[name] = problem
            continue
        if name == "exchanged":
            tables["as before"] = valid
        else:
            tables |= {month: table for month, table in later.items() if last_day(month) > changed.window[1]}
        found[name] = (changed.logged, tables)
    answers = tracked.score(grading, list(found.values()))
    return Scores(dict(zip(found, answers, strict=True)), problems)


def of_month(case_: Case, month: str) -> pd.DataFrame:
    return case_.flights[case_.flights["day"].str.startswith(month)].reset_index(drop=True)


def held_out(case_: Case, data: Path, flights: pd.DataFrame, run: Logged) -> pd.DataFrame:
    """The features of the validation rows of a run, in their order. Raises Fault."""
    return feature_table(case_, data, tracked.labels_of(run.validation, flights)[0])


@check("tracking.run_is_complete", uses=[case, first_training, first])
def run_is_complete(grading: Grading) -> Finding:
    """`train` ends with a FINISHED run in the given experiment that holds everything the contract names.

    Catches: a store of its own choice; a model without signature or example; parameters left to defaults; artifacts forgotten.
    Accepts: nested runs, more parameters, metrics, tags and artifacts.
    """
    case_, ran = grading.get(case), grading.get(first_training)
    if ran.absent:
        raise Owed(f"there is no train command yet; {ran.sentence()}")
    run = logged(grading, ran, "we ran train")
    given = {"seed": str(running.SEED), "train_start": case_.window[0], "train_end": case_.window[1]}
    for name, value in given.items():
        if run.params[name] != value:
            return failed(
                f"the parameter {name} of the run is not what the configuration gave", run.params[name], value
            )
    return passed(
        "the run is finished and holds parameters, metrics, hashes, validation rows and a model with signature and example",
        f"{len(run.params)} parameters, {len(run.validation.ids):,} validation rows", "all that the contract names",
    )  # fmt: skip


@check("tracking.metrics_follow", uses=[case, first_training, first, exchanged, other_seed, other_end, scores])
def metrics_follow(grading: Grading) -> Finding:
    """The metrics of four trainings are those of the logged model, the logged rows and the outcomes in the data.

    Catches: numbers made up, copied from an earlier run or another model; the best of several test sets; rounded labels;
    metrics of the training rows. Accepts: more metrics; validation rows in any order.
    """
    case_, found = grading.get(case), grading.get(scores)
    runs = {"first": Changed(grading.get(first), case_.data, case_.window, case_.flights, case_.hash)}
    said: dict[str, tuple[float, float]] = {}
    for name, training in {"first": None, **TRAININGS}.items():
        run = grading.get(training) if training else runs["first"]
        _, late = tracked.labels_of(run.logged.validation, run.flights)
        kept = run.logged.validation
        probability = found.near(name, "validation", kept.probability)
        what = HOW[name]
        if wrong := int((kept.label != late).sum()):
            return failed(
                f"{what}: labels in validation.parquet are not the outcomes in the data",
                f"{wrong:,} of {len(late):,}",
                "none",
            )
        if late.all() or not late.any():
            return failed(f"{what}: the validation rows all have one outcome", f"{len(late):,} rows", "both outcomes")
        moved = int((abs(kept.probability - probability) > BARS["equal"]).sum())
        ours = tracked.measured(late, probability)
        apart = max(abs(ours[key] - run.logged.metrics[f"valid.{key}"]) for key in ours)
        if moved > BARS["moved"] * len(late):
            beside = kept.probability - probability
            return failed(
                f"{what}: the probabilities in validation.parquet are not those that the logged model gives on the features of these "
                f"flights; they lie {beside[late].mean():+.3f} beside them where the flight was late, and {beside[~late].mean():+.3f} "
                "where not",
                f"{moved:,} of {len(late):,} differ", f"at most {BARS['moved']:.0%}",
            ).showing("differ", predictions.moved(_rows(run, kept.ids), kept.probability, probability, BARS["equal"]))  # fmt: skip
        for key, value in tracked.measured(late, kept.probability).items():
            got = run.logged.metrics[f"valid.{key}"]
            if name == "first":
                said[key] = (got, ours[key])
            if abs(got - value) > BARS["metric"]:
                return failed(
                    f"{what}: the metric valid.{key} is not what the logged validation rows give", f"{got:.6f}",
                    f"{value:.6f}, to 6 digits", charts.pairs("Metrics of the run", {**said, key: (got, value)}),
                )  # fmt: skip
        if apart > BARS["point"]:
            return failed(
                f"{what}: on the features of the validation rows the logged model gets other metrics than were logged",
                f"off by {apart:.4f}", f"at most {BARS['point']:.0g}",
            )  # fmt: skip
    chart = charts.pairs("Metrics of the first run", said)
    return passed(
        "metrics follow from the logged model, its validation rows and the data",
        f"{len(TRAININGS) + 1} trainings",
        "all",
        chart,
    )


HOW = {
    "first": "in the first training",
    "exchanged": "in a training with exchanged outcomes",
    "other seed": "in a training with another seed",
    "other end": "in a training on a longer window",
}


def _rows(run: Changed, ids: Sequence[str]) -> pd.DataFrame:
    return run.flights.set_index("flight_id").loc[list(ids)].reset_index().rename(columns={"flight_id": "row_id"})


@work
def by_folder(grading: Grading) -> np.ndarray:
    case_, run = grading.get(case), grading.get(first)
    return running.predict(grading, "predict", run.ran, case_.rows, case_.data)


@work
def by_uri(grading: Grading) -> np.ndarray:
    case_, run = grading.get(case), grading.get(first)
    return running.predict(grading, "predict-by-uri", run.ran, case_.rows, case_.data, uri=run.model_uri)


@work
def by_other_uri(grading: Grading) -> np.ndarray | None:
    """The same by the form of URI that train.json does not say; None where MLflow knows of none."""
    case_, run = grading.get(case), grading.get(first)
    assert run.ran.tracking is not None
    kit, store, out = Mount(INSIDE, "kit"), Mount(run.ran.tracking, stores.NAME), grading.folder("other-uri")
    found = Mount(out, "out", writable=True)
    job = Job(
        ["python", kit / "other_uri.py", store / stores.DATABASE, run.model_uri, found / "uri.json"], [kit, store, found],
        cwd=found, env={**TOOL_ENVIRONMENT, "HOME": "/tmp"}, limits=grading.limits, network=False,
    )  # fmt: skip
    grading.sandbox.start(job).wait()
    try:
        other = grading.reader.json(out / "uri.json")["uri"]
    except (Unreadable, TypeError, KeyError):
        return None
    if not isinstance(other, str) or not tracked.MODEL_URI.fullmatch(other):
        return None
    return running.predict(grading, "predict-by-other-uri", run.ran, case_.rows, case_.data, uri=other)


@check("tracking.model_gives_predictions", uses=[case, first_training, first, by_folder, by_uri, by_other_uri, scores])
def model_gives_predictions(grading: Grading) -> Finding:
    """The logged model, `predict` with the folder and `predict` with the URI, in both its forms, give the same probabilities.

    Catches: a model refitted after it was logged; another model logged than kept; preprocessing left out of the logged model;
    labels instead of probabilities; one form of URI only. Accepts: an MLflow model kept in the folder, too.
    """
    rows = grading.get(case).rows
    folder, uri, other_uri = grading.get(by_folder), grading.get(by_uri), grading.get(by_other_uri)
    ours = grading.get(scores).near("first", "rows", folder)
    for what, other, most in (
        ("predict with the URI of the logged model", uri, 0.0),
        ("predict with the other form of the URI of the logged model", uri if other_uri is None else other_uri, 0.0),
        ("the logged model on the features of these rows", ours, BARS["moved"]),
    ):
        moved, apart = int((abs(folder - other) > BARS["equal"]).sum()), float(abs(folder - other).mean())
        if moved > most * len(rows) or apart > BARS["point"]:
            return failed(
                f"{what} gives other probabilities than predict with the folder that train wrote",
                f"{moved:,} of {len(rows):,} rows differ", f"at most {most:.0%}",
            ).showing("differ", predictions.moved(rows.table, folder, other, BARS["equal"]))  # fmt: skip
    if float(folder.max() - folder.min()) <= BARS["equal"]:
        return failed("all rows get one probability, so it proves nothing that it is the same", "1 value", "several")
    return passed("the logged model gives what predict gives, by folder and by URI", f"{len(rows):,} rows", "the same")


@check("tracking.logs_what_changed", uses=[case, first_training, first, again, exchanged, other_seed, other_end])
def logs_what_changed(grading: Grading) -> Finding:
    """Parameters and hashes change with what they are about, and with nothing else.

    Catches: parameters typed in; a hash of the time, of a path or of one file; the hash of yesterday's data; a step that draws
    without a seed. Accepts: any text as code hash, such as that of a tree of files.
    """
    case_, base = grading.get(case), grading.get(first)
    data, code = tracked.TAGS
    same = grading.get(again)
    if same.run_id == base.run_id:
        return failed("two trainings have one run_id; each has to log a run of its own", "1 run", "2 runs")
    for name in (*tracked.TAGS, *base.params):
        before, after = (base.params | base.tags)[name], ({**same.params, **same.tags}).get(name)  # type: ignore[operator]
        if before != after:
            return failed(f"we trained twice with nothing changed, and {name} is another one", str(after), str(before))
    for name in (*VALID, *BASELINE):
        apart = abs(same.metrics[name] - base.metrics[name])
        if apart > BARS["equal"]:
            return failed(
                f"we trained twice with nothing changed, and {name} differs",
                f"{apart:.2g}",
                f"at most {BARS['equal']:.0g}",
            )
    if base.tags[data] != case_.hash:
        return failed(f"the tag {data} is not the dataset_hash in DATA/manifest.json", base.tags[data], case_.hash)
    for name, training in TRAININGS.items():
        changed = grading.get(training)
        run, what = changed.logged, HOW[name]
        if run.tags[data] != changed.hash:
            return failed(f"{what}: the tag {data} is not the dataset_hash of that data", run.tags[data], changed.hash)
        seed = str(running.SEED if name == "exchanged" else OTHER_SEED)
        for key, value in {"seed": seed, "train_start": changed.window[0], "train_end": changed.window[1]}.items():
            if run.params[key] != value:
                return failed(f"{what}: the parameter {key} is not what the configuration gave", run.params[key], value)
        if (run.tags[code] == base.tags[code]) != (name == "exchanged"):
            wanted = "the same" if name == "exchanged" else "another one"
            return failed(
                f"{what}: the tag {code} {CODE[name]}", f"{base.tags[code][:16]}, then {run.tags[code][:16]}", wanted
            )
    return passed(
        "what is logged changes with what it is about, and with nothing else", f"{len(TRAININGS) + 2} trainings", "all"
    )


CODE = {
    "exchanged": "changed with the data; it is about the files of the submission",
    "other seed": "is as before, and we had changed a comment in the feature definitions, or added one",
    "other end": "is as before, and we had changed a comment in a program file, or added one",
}


@check("tracking.baselines_logged", uses=[case, first_training, first, exchanged, other_end])
def baselines_logged(grading: Grading) -> Finding:
    """The baseline is the base rate of the flights before the validation rows, measured on the validation rows.

    Catches: the rate of the validation rows themselves; of the whole data; a constant .5; an honest model's numbers.
    Accepts: more baselines under other names.
    """
    case_, base = grading.get(case), grading.get(first)
    runs = {"first": Changed(base, case_.data, case_.window, case_.flights, case_.hash)}
    runs |= {name: grading.get(TRAININGS[name]) for name in ("exchanged", "other end")}
    value = ""
    for name, run in runs.items():
        rows, late = tracked.labels_of(run.logged.validation, run.flights)
        landed = run.flights[run.flights["day"].between(*run.window)]
        before = landed[landed["day"] < rows["day"].min()]
        if len(before) + len(rows) != len(landed) or not len(before):
            raise Owed("the validation rows have to be the last days first: see tracking.validation_is_honest")
        rate = float(before["late"].mean())
        constant = late * 0.0 + rate
        expected = {"log_loss": tracked.log_loss(late, constant), "brier": float(((constant - late) ** 2).mean())}
        for key, wanted in expected.items():
            got = run.logged.metrics[f"baseline.{key}"]
            if abs(got - wanted) > BARS["metric"]:
                return failed(
                    f"{HOW[name]}: baseline.{key} is not what the late rate of the flights before the validation rows gives on the "
                    "validation rows", f"{got:.6f}", f"{wanted:.6f}, to 6 digits",
                )  # fmt: skip
        if name == "first":
            value = f"baseline.brier {expected['brier']:.4f}, valid.brier {run.logged.metrics['valid.brier']:.4f}"
    return passed("the baseline is the base rate of what was learned from", value, "what we measured")


@check("tracking.validation_is_honest", uses=[case, first_training, first, exchanged, other_seed, other_end, scores])
def validation_is_honest(grading: Grading) -> Finding:
    """The validation rows are the last days of the window, all of them, and the logged model knows nothing of their outcomes.

    Catches: a random split; the days that look best; a week of any window; a refit on all rows; stopping early by the validation score.
    Accepts: a third part between training and validation; any share from a tenth to a half.
    """
    case_, base = grading.get(case), grading.get(first)
    landed = case_.landed(case_.window)
    rows, _ = tracked.labels_of(base.validation, landed)
    others = [grading.get(TRAININGS[name]) for name in ("other seed", "other end")]
    for run, window in ((base, case_.window), *((other.logged, other.window) for other in others)):
        if wrong := _wrong_split(case_, run, window):
            return wrong
    share, first_day = len(rows) / len(landed), rows["day"].min()
    bar, spans = SPLIT_BAR, _spans(case_.window, first_day)
    record = predictions.read_json(grading.reader, ModelRecord, base.ran.out / "model.json", "train ended well, but ")
    if record.rows > len(landed) - len(rows):
        return failed(
            "model.json counts more rows that were learned from than the window has landed flights before its validation rows",
            f"{record.rows:,} rows", f"at most {len(landed) - len(rows):,}", spans,
        )  # fmt: skip
    found = grading.get(scores)
    before, after = found.of("first", "validation"), found.of("exchanged", "as before")
    moved = int((abs(before - after) > BARS["equal"]).sum())
    if moved:
        return failed(
            "we turned the outcomes of half of the validation rows round, trained again, and gave both logged models the same features; "
            "they differ, so the model has learned from these rows or was chosen by them", f"{moved:,} of {len(rows):,} rows differ",
            "none", spans,
        ).showing("moved", predictions.moved(rows.rename(columns={"flight_id": "row_id"}), before, after, BARS["equal"]))  # fmt: skip
    if set(grading.get(exchanged).logged.validation.ids) != set(base.validation.ids):
        return failed(
            "we turned the outcomes of half of the validation rows round, and the next training validated on others",
            "others",
            "the same",
        )
    return passed(
        "the validation rows are the last days, and the model knows nothing of them",
        f"{share:.1%} of the window",
        bar,
        spans,
    )


SPLIT_BAR = f"{BARS['least']:.0%} to {BARS['most']:.0%} of the window's landed flights"


def _spans(window: tuple[str, str], first_day: str) -> Chart:
    return charts.calendar("The split", {"before": (window[0], first_day), "validated on": (first_day, window[1])})


def _wrong_split(case_: Case, run: Logged, window: tuple[str, str]) -> Finding | None:
    """What is wrong with the validation rows of a training, as rows of its window."""
    landed = case_.landed(window)
    rows, _ = tracked.labels_of(run.validation, landed)
    first_day, said = rows["day"].min(), f"we trained on {window[0]} to {window[1]}; "
    stretch, share = landed[landed["day"] >= first_day], len(rows) / len(landed)
    spans = _spans(window, first_day)
    if len(stretch) != len(rows):
        return failed(
            f"{said}the first validation row is of {first_day}, and not all landed flights from that day on are validation rows",
            f"{len(rows):,} rows", f"{len(stretch):,} rows", spans,
        )  # fmt: skip
    if not BARS["least"] <= share <= BARS["most"]:
        return failed(
            f"{said}too few or too many flights of the window are validation rows", f"{share:.1%}", SPLIT_BAR, spans
        )
    return None


@dataclass(frozen=True)
class Study:
    """The staleness study as it was written: `points` by last day learned from and month scored."""

    ran: Ran
    points: dict[tuple[str, str], dict[str, float]]


STUDY = ("train_end", "scored_month", "age_months", "n", "log_loss", "brier", "auc")


@work
def study_run(grading: Grading) -> Ran:
    case_ = grading.get(case)
    argv = running.command(grading, "staleness")
    out = grading.folder("staleness", grading.limits.disk_mb)
    # Its last day is none of a month: each model of the study is trained to the end of one all the same.
    window = (later_start(case_), f"{case_.window[1][:7]}-15")
    given = configure(grading.folder("given-staleness"), window, OTHER_SEED)
    source, settings = Mount(case_.data, "data"), Mount(given, "given")
    arguments: list[Argument] = [
        *argv, "--usecase", settings / "usecase.toml", "--data", source, "--config", settings / "config.toml",
        "--out", Mount(out / "out", "out", writable=True) / "staleness.parquet",
    ]  # fmt: skip
    return grading.submission.run("staleness", arguments, [source, settings], out, grading.limits)


@work
def study(grading: Grading) -> Study:
    ran = grading.get(study_run)
    if ran.absent:
        raise Owed(f"there is no staleness command yet; {ran.sentence()}")
    if not ran.ok:
        raise Fault(f"we ran staleness; {ran.sentence()}")
    try:
        table = grading.reader.parquet(ran.out / "staleness.parquet")
    except Unreadable as problem:
        raise Fault(f"we ran staleness; staleness.parquet {problem}") from None
    return Study(ran, _points(table))


def _points(table: Table) -> dict[tuple[str, str], dict[str, float]]:
    """The points of a study. Raises Fault."""
    values = {name: _numbers(table.columns.get(name), name) for name in STUDY}
    points: dict[tuple[str, str], dict[str, float]] = {}
    for row in range(table.rows):
        point = {name: values[name][row] for name in STUDY}
        key = (str(point.pop("train_end")), str(point.pop("scored_month")))
        if key in points:
            raise Fault(f"staleness.parquet has two rows for train_end {key[0]} and scored_month {key[1]}")
        points[key] = point
    return points


def _numbers(column: Column | None, name: str) -> list:  # type: ignore[type-arg]
    if column is None or column.values is None or None in column.values:
        raise Fault(f"staleness.parquet has no column {name} without gaps; it needs {', '.join(STUDY)}")
    if column.type not in (("str",) if name in STUDY[:2] else ("int",) if name in STUDY[2:4] else ("float",)):
        raise Fault(f"staleness.parquet: {name} is of type {column.type}")
    return column.values


def later_months(grading: Grading, label: str, training: Changed) -> dict[str, np.ndarray]:
    """What `predict` says of the flights of each month after a training (n,), all asked in one run."""
    import numpy as np
    import pandas as pd

    case_ = grading.get(case)
    months = [month for month in case_.months if last_day(month) > training.window[1]]
    parts = [of_month(case_, month) for month in months]
    flights = pd.concat(parts, ignore_index=True)
    table = flights.assign(row_id=[f"l{number:06d}" for number in range(len(flights))])[["row_id", *SCHEDULE]]
    rows = Rows(table, flights["late"].to_numpy(bool), flights)
    found = running.predict(grading, label, training.logged.ran, rows, training.data)
    return dict(zip(months, np.split(found, np.cumsum([len(part) for part in parts])[:-1]), strict=True))


@work
def later_by_seed(grading: Grading) -> dict[str, np.ndarray]:
    return later_months(grading, "predict-later", grading.get(other_seed))


@work
def later_by_end(grading: Grading) -> dict[str, np.ndarray]:
    return later_months(grading, "predict-later-still", grading.get(other_end))


@check(
    "tracking.staleness_measured",
    uses=[case, first_training, first, study_run, study, other_seed, other_end, later_by_seed, later_by_end, scores],
)
def staleness_measured(grading: Grading) -> Finding:
    """The study has a point for each month end and each later month, and points are what we measure with models of `train`.

    Catches: one model for all ends; a model that knows the month it is scored on; ages off by one; cancelled flights counted; numbers
    made up. Accepts: rows in any order, more columns.
    """
    grading.get(first)
    case_, found = grading.get(case), grading.get(study).points
    ends = case_.months[TRAIN_MONTHS - 1 : -1]
    expected = {
        (last_day(end), month): case_.months.index(month) - case_.months.index(end)
        for end in ends
        for month in case_.months
        if month > end
    }
    if set(found) != set(expected):
        return failed(
            "staleness has to give one row for each month end from train_end on and each later month of the data",
            f"{len(set(found) & set(expected))} of them, {len(set(found) - set(expected))} others", f"{len(expected)}, 0 others",
        )  # fmt: skip
    for key, age in expected.items():
        for name, wanted in {"age_months": age, "n": len(of_month(case_, key[1]))}.items():
            if found[key][name] != wanted:
                return failed(
                    f"for train_end {key[0]} and scored_month {key[1]}, {name} is wrong", found[key][name], wanted
                )
    ours: dict[tuple[str, str], dict[str, float]] = {}
    for name, work_ in {"other seed": later_by_seed, "other end": later_by_end}.items():
        end = grading.get(TRAININGS[name]).window[1]
        for month, said in grading.get(work_).items():
            late = of_month(case_, month)["late"].to_numpy(bool)
            ours[end, month] = tracked.measured(late, said)
            roughly = tracked.measured(late, grading.get(scores).of(name, month))
            if max(abs(roughly[key] - ours[end, month][key]) for key in roughly) > BARS["rough"]:
                return failed(
                    f"on the flights of {month} predict is another model than the one that was logged",
                    "other metrics",
                    "the same",
                )
    chart = charts.aging("Log loss by month, of models trained up to three month ends", found, ours)
    for key, measured in ours.items():
        for name, value in measured.items():
            got = found[key][name]
            if not abs(got - value) <= BARS["metric"]:
                return failed(
                    f"we ran train with train_end {key[0]} and predict on the flights of {key[1]}; {name} in the study is another number",
                    f"{got:.6f}", f"{value:.6f}, to 6 digits", chart,
                )  # fmt: skip
    return passed(
        "the study's points are what we measure",
        f"{len(ours)} of {len(expected)} points measured again",
        "all equal",
        chart,
    )


@work
def failures(grading: Grading) -> list[tuple[str, Ran]]:
    """Trainings that cannot go well: a window without flights or of one day, and a file of the data that breaks off."""
    case_ = grading.get(case)
    grading.get(first)
    year = int(case_.months[0][:4]) - 2
    given = configure(grading.folder("given-empty"), (f"{year}-01-01", f"{year}-02-28"))
    day = str(case_.landed(case_.window)["day"].value_counts().index[0])
    one_day = configure(grading.folder("given-one-day"), (day, day))
    broken = {"weather": case_.months[TRAIN_MONTHS - 1], "flights": case_.months[0]}
    return [
        ("we ran train on a window without flights", running.train(grading, "train-empty", case_.data, given)),
        ("we ran train on a window of one day", running.train(grading, "train-one-day", case_.data, one_day)),
        *(
            (
                f"we ran train on data with a file of {table} that breaks off",
                running.train(grading, f"train-damaged-{table}", _damaged(grading, table, month), case_.given),
            )
            for table, month in broken.items()
        ),
    ]


def _damaged(grading: Grading, table: str, month: str) -> Path:
    """The DATA folder with half of a file."""
    folder = grading.folder(f"data-damaged-{table}") / "data"
    shutil.copytree(grading.get(case).data, folder)
    path = folder / table / f"{month}.parquet"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return folder


@check("tracking.failure_leaves_no_finished_run", uses=[case, first_training, first, failures])
def failure_leaves_no_finished_run(grading: Grading) -> Finding:
    """A training that is refused or crashes leaves no run with status FINISHED.

    Catches: a run begun without `with`, which MLflow finishes when Python ends; an exception caught and forgotten; a run logged
    before the data is read; a window of one day that is learned from and validated on. Accepts: a failed run, or none at all.
    """
    for what, ran in grading.get(failures):
        if ran.ok:
            return failed(f"{what}; it ended as if all had gone well", "exit 0", "another exit code")
        finished = tracked.statuses(grading, ran).count("FINISHED")
        if finished:
            return failed(
                f"{what}; {ran.finished.sentence()}, and left a run that says FINISHED", f"{finished} runs", "none"
            )
    return passed(
        "trainings that failed left no finished run", f"{len(grading.get(failures))} failed trainings", "none finished"
    )


@check("tracking.keeps_personal_data_out", uses=[case, first_training, first, study_run])
def keeps_personal_data_out(grading: Grading) -> Finding:
    """Mail addresses in a column of the flights that nobody asked for are in nothing that `train` and `staleness` leave behind.

    Catches: an input example of raw rows; a sample of the data as an artifact; flights pickled with the model; addresses printed.
    Accepts: the name of the column anywhere.
    """
    case_, base = grading.get(case), grading.get(first)
    runs = {"train": base.ran, "staleness": grading.get(study_run)}
    for name, ran in runs.items():
        try:
            hits = {file for file, _ in grading.reader.search(ran.out.parent, case_.secrets)}
        except Unreadable as problem:
            raise Fault(f"what {name} wrote {problem}") from None
        if any(secret in ran.finished.output.lower() for secret in case_.secrets):
            hits.add("what it printed")
        if hits:
            return failed(
                f"the flights came with a column of mail addresses that nobody asked for; after {name} some of them stand in "
                f"{', '.join(sorted(hits)[:3])}", f"found in {len(hits)} places", "nowhere",
            )  # fmt: skip
    return passed(
        "no personal data is in store, model or output", f"{len(case_.secrets)} addresses searched for", "none found"
    )
