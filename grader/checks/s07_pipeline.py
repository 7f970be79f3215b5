"""Stage 07, the pipeline: months from a source that fails, and a run that may die anywhere and is simply run again.

The verdicts rest on what is there afterwards (tables, versions, audit log) and on the source's own log of calls. What Prefect says is
shown, and has to agree.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grader import services, stores
from grader.checks import charts, predictions, running, tracked
from grader.checks.api import Fault, Finding, Grading, Owed, Work, check, failed, passed, work
from grader.checks.s03_data_contract import as_read
from grader.checks.s04_features import differs, values_of
from grader.checks.s06_registry import Registered, audited, refused, registered
from grader.checks.tracked import Logged
from grader.contract import pipelines
from grader.contract.features import Feature
from grader.contract.outputs import AuditRecord, MonthRecord, PipelineRecord
from grader.sandbox import Mount
from grader.sandbox.base import Argument, Job, Service
from grader.sandbox.reader import INSIDE, TOOL_ENVIRONMENT, Read, Unreadable
from grader.submission import Ran, Server
from grader.verdict import Chart
from grader.world import deliveries, features, write_data, write_manifest
from grader.world.build import stream
from grader.world.delivery import Feed
from grader.world.feeds import COLUMNS, KEYS

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FLIGHTS_PER_MONTH = 3_000
SMALL_DISK_MB = 2
NEARER = 0.5  # of the distance between models of different data
PREFECT_MB = 256
CLOCK_SECONDS = 1.0  # by which clocks of the source and of Prefect's server may lie apart
RECORDED_SECONDS = 60  # within which Prefect's server has written down what tasks did
GRACE_SECONDS = 20  # beyond what the contract allows, before a call counts as late: the machine may be busy
MONTH_FILE = re.compile(
    r"\d{4}-\d\d(-\d+)?\.parquet"
)  # what else lies beside, such as a half of one, is nobody's month
TABLES = ("flights", "weather")
SMALL_TABLES = ("planes", "airports", "airlines")


@dataclass(frozen=True)
class Given:
    """The hidden data of this stage: folders, and what the source delivers.

    `spoiled` has the second month before it was mended, `turned` has it so as well, and the first one put right.
    """

    history: Path
    source: Path
    spoiled: Path
    turned: Path
    settings: Path
    deliveries: deliveries.Deliveries
    definitions: list[Feature]


@work
def prefect(grading: Grading) -> services.Prefect:
    """One server for all runs of the grading, started while data are made."""
    return services.Prefect(grading.sandbox, grading.folder("prefect", PREFECT_MB))


@work
def given(grading: Grading) -> Given:
    from grader.checks.s05_tracking import own_features

    world = grading.world()
    history, source, spoiled, turned_ = (
        grading.folder(name) for name in ("history", "source", "source-spoiled", "source-turned")
    )
    settings = grading.folder("given")
    write_data(world, history, deliveries.months_of(world)[0], FLIGHTS_PER_MONTH)
    made = deliveries.make_deliveries(world, history, FLIGHTS_PER_MONTH)
    for month, feed in made.feeds.items():
        feed.write(source / month)
        (made.spoiled if month == made.order[1] else feed).write(spoiled / month)
        {made.order[0]: made.corrected, made.order[1]: made.spoiled}.get(month, feed).write(turned_ / month)
    (settings / "usecase.toml").write_text(made.usecase, encoding="utf-8")
    return Given(history, source, spoiled, turned_, settings, made, own_features(grading))


# What has to be there


@dataclass(frozen=True)
class Truth:
    """The data and features that are right once some months have arrived: rows by file, features by month."""

    rows: Mapping[str, Counter[tuple[Any, ...]]]
    features: Mapping[str, pd.DataFrame]
    window: tuple[str, str]  # first and last day that the model may learn from
    folder: Path  # the data, laid down


def truth_after(label: str, count: int) -> Callable[[Grading], Truth]:
    def after(grading: Grading) -> Truth:
        given_ = grading.get(given)
        return _truth(grading, given_, {m: given_.deliveries.feeds[m] for m in given_.deliveries.order[:count]})

    after.__name__ = label
    return after


truth_first = work(truth_after("truth of the first month", 1))
truth_all = work(truth_after("truth of all months", 3))


@work
def truth_turned(grading: Grading) -> Truth:
    """What is right once all months have arrived and the first of them has been put right."""
    made = grading.get(given).deliveries
    return _truth(grading, grading.get(given), {**made.feeds, made.order[0]: made.corrected})


def _truth(grading: Grading, given_: Given, arrived: Mapping[str, Feed]) -> Truth:
    import pandas as pd
    import pyarrow.parquet as pq

    folder = grading.folder("truth")
    found: dict[str, pa.Table] = {}
    for name in TABLES:
        for month in given_.deliveries.history:
            found[f"{name}/{month}.parquet"] = pq.read_table(given_.history / name / f"{month}.parquet")
        for month in arrived:
            found[f"{name}/{month}.parquet"] = accepted(arrived[month], name)
    for name in SMALL_TABLES:
        found[f"{name}.parquet"] = pq.read_table(given_.history / f"{name}.parquet")
    for path, table in found.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / path)
    write_manifest(folder)
    rows = {}
    for path, table in found.items():
        columns = {name: as_read(table.column(name)) for name in table.column_names}
        rows[path] = _rows(columns, table_of(path))
    computed = {}
    for month in arrived:
        flights = found[f"flights/{month}.parquet"].to_pandas().sort_values("flight_id", ignore_index=True)
        flights.insert(0, "row_id", flights["flight_id"])
        computed[month] = features.compute(given_.definitions, given_.settings / "usecase.toml", folder, flights)
    days = pd.concat([found[path]["sched_dep_local"].to_pandas() for path in found if path.startswith("flights/")]).str[
        :10
    ]
    last = days.max()[:7]
    return Truth(rows, computed, (days.min(), days[days < last].max()), folder)


def accepted(feed: Feed, table: str) -> pa.Table:
    """The rows of a feed that are right, in the columns of the contract."""
    import numpy as np

    rows = feed.tables[table]
    right = np.setdiff1d(np.arange(rows.num_rows), list(feed.wrong_rows(table)))
    return rows.take(right).select(COLUMNS[table])


def table_of(path: str) -> str:
    """The table of a file of a data folder."""
    return path.split("/")[0].removesuffix(".parquet")


def _rows(columns: Mapping[str, Sequence[Any]], table: str) -> Counter[tuple[Any, ...]]:
    """The rows of a table in the columns of the contract, each as often as it stands there."""
    return Counter(zip(*([_plain(value) for value in columns[name]] for name in COLUMNS[table]), strict=True))


def _plain(value: Any) -> Any:
    if value is None or value != value:
        return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def wrong_tables(grading: Grading, ran: Ran, truth: Truth) -> str:
    """What is wrong with data and features after a run, for a person; empty if nothing is."""
    assert ran.state is not None
    found = []
    for name in ("data", "features"):
        try:
            found.append(grading.reader.folder(ran.state / name))
        except Unreadable as problem:
            return f"the folder {name} {problem}"
    return _wrong_data(found[0], truth) or _wrong_features(found[1], truth)


def _wrong_data(files: Mapping[str, Read], truth: Truth) -> str:
    for path, wanted in truth.rows.items():
        read = files.get(path)
        if read is None or read.table is None:
            return f"data/{path} {read.problem if read and read.problem else 'is not there'}"
        table = table_of(path)
        columns = read.table.columns
        if missing := [name for name in COLUMNS[table] if name not in columns or columns[name].values is None]:
            return f"data/{path} has no readable column {missing[0]}"
        got = _rows({name: columns[name].values or [] for name in COLUMNS[table]}, table)
        if got != wanted:
            return f"data/{path} {_difference(got, wanted, table)}"
    more = [
        path for path in files if path.startswith(("flights/", "weather/")) and MONTH_FILE.fullmatch(Path(path).name)
    ]
    if more := sorted(set(more) - set(truth.rows)):
        return f"data/{more[0][:80]} is there, and nothing of it should be"
    return ""


def _difference(got: Counter[tuple[Any, ...]], wanted: Counter[tuple[Any, ...]], table: str) -> str:
    """How two tables differ, by the keys of their rows."""
    places = [COLUMNS[table].index(name) for name in KEYS[table]]

    def keys(rows: Counter[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
        found: Counter[tuple[Any, ...]] = Counter()
        for row, count in rows.items():
            found[tuple(row[place] for place in places)] += count
        return found

    lost, more = keys(wanted) - keys(got), keys(got) - keys(wanted)
    if lost or more:
        doubled = sum(count for key, count in more.items() if key in keys(wanted))
        said = f"lacks {lost.total():,} rows and has {more.total():,} too many"
        return f"{said} ({doubled:,} of them doubled)" if doubled else said
    return f"has the right rows, {(got - wanted).total():,} of them with other values"


def _wrong_features(files: Mapping[str, Read], truth: Truth) -> str:
    import pandas as pd

    for month, wanted in truth.features.items():
        read = files.get(f"{month}.parquet")
        if read is None or read.table is None:
            return f"features/{month}.parquet {read.problem if read and read.problem else 'is not there'}"
        if missing := [name for name in wanted.columns if name not in read.table.columns]:
            return f"features/{month}.parquet has no column {missing[0]}"
        ids = read.table.columns["row_id"].values or []
        if Counter(ids) != Counter(wanted["row_id"]):
            return f"features/{month}.parquet holds {len(ids):,} rows that are not one for each accepted flight ({len(wanted):,})"
        got = pd.DataFrame({name: values_of(read.table, name, f"features/{month}.parquet") for name in wanted.columns})
        where = differs(wanted, got.sort_values("row_id", ignore_index=True))
        if where.to_numpy().any():
            names = [str(name) for name in where.columns if where[name].any()]
            rows = int(where.any(axis=1).sum())
            return f"features/{month}.parquet: {names[0]} is wrong in {int(where[names[0]].sum()):,} rows, {rows:,} rows in all"
    if more := sorted(path for path in files if MONTH_FILE.fullmatch(path) and path[:7] not in truth.features):
        return f"features/{more[0][:80]} is there, and nothing of it should be"
    return ""


# Runs


def plan_for(month: str, seed: int) -> dict[str, list[str]]:
    """How the source fails for a month: each file some times, each kind of failure once or more."""
    draw = stream(seed, "failures of the source")
    refusing, silent, broken = ["503", "500"], [SILENT[int(draw.integers(2))], "503"], ["short", "cut", "garbled"]
    draw.shuffle(broken)
    paths = [f"{month}/flights/{month}.parquet", f"{month}/weather/{month}.parquet"]
    draw.shuffle(paths)
    return {f"{month}/manifest.json": refusing, paths[0]: silent, paths[1]: broken}


@contextmanager
def source_of(
    grading: Grading, label: str, plan: Mapping[str, Sequence[str]], has: Path | None = None
) -> Iterator[services.Source]:
    """A source of the months of this stage with a plan of failures, for as long as it is needed; `has` is another folder of them."""
    with source_with(grading, has or grading.get(given).source, f"source-{label}", plan) as source:
        yield source


@contextmanager
def source_with(
    grading: Grading, folder: Path, label: str, plan: Mapping[str, Sequence[str]], year: Path | None = None
) -> Iterator[services.Source]:
    """A source of what is in a folder, with a plan of failures; `year` keeps what is in it step by step, where that changes."""
    own = grading.folder(label)
    source = services.Source(grading.sandbox, folder, own, plan)
    grading.submission.servers[source.url] = Server(folder, own / "plan.json", year)
    try:
        yield source
    finally:
        source.stop()


def pipeline(
    grading: Grading,
    label: str,
    months: Sequence[str],
    source: services.Source,
    earlier: Ran | None = None,
    kill_when: Callable[[Path], Callable[[], bool]] | None = None,
    disk_mb: int | None = None,
    seed: int = running.SEED,
) -> Ran:
    """Run the submission's pipeline on what an earlier run has left behind, or on nothing. Raises Owed."""
    out = grading.folder(label, disk_mb or grading.limits.disk_mb)
    argv, reads = line(grading, months, source, out, seed)
    limits = replace(grading.limits, disk_mb=disk_mb or grading.limits.disk_mb)
    return grading.submission.run(
        "pipeline", argv, reads, out, limits, env=environment(grading, out), network=True, cached=False,
        tracking=earlier.tracking if earlier else None, state=earlier.state if earlier else None,
        kill_when=kill_when(out) if kill_when else None,
    )  # fmt: skip


def line(
    grading: Grading, months: Sequence[str], source: services.Source, out: Path, seed: int = running.SEED
) -> tuple[list[Argument], list[Mount]]:
    given_ = grading.get(given)
    history, settings = Mount(given_.history, "history"), Mount(given_.settings, "given")
    argv: list[Argument] = [
        *running.command(grading, "pipeline"), "--usecase", settings / "usecase.toml", "--source", source.url, "--history", history,
        "--months", ",".join(months), "--now", given_.deliveries.now, "--seed", str(seed),
        "--out", Mount(out / "out", "out", writable=True) / "pipeline.json",
    ]  # fmt: skip
    return argv, [history, settings]


def environment(grading: Grading, out: Path) -> dict[str, Argument]:
    return {
        **services.PREFECT_QUIET,
        "PREFECT_API_URL": grading.get(prefect).url,
        "PREFECT_HOME": Mount(out / "state", "state", writable=True) / "prefect",
    }


@dataclass(frozen=True)
class Told:
    """A run, what the source was asked, and when it began (seconds since the epoch)."""

    ran: Ran
    calls: list[services.Call]
    began: float


def told_by(
    grading: Grading,
    label: str,
    months: Sequence[str],
    plan: Mapping[str, Sequence[str]],
    earlier: Ran | None = None,
    has: Path | None = None,
    seed: int = running.SEED,
) -> Told:
    """Run the pipeline with a source of its own, and keep what that was asked."""
    with source_of(grading, label, plan, has) as source:
        ran = pipeline(grading, label, months, source, earlier, seed=seed)
        began = time.time() - ran.finished.seconds  # it may have waited for its turn
    return Told(ran, source.calls(), began)


@work
def first(grading: Grading) -> Ran:
    """The first month of all, from a source that works."""
    return told_by(grading, "first-month", grading.get(given).deliveries.order[:1], {}).ran


@work
def faulty(grading: Grading) -> Told:
    """The first month of all, from a source that fails and recovers."""
    month = grading.get(given).deliveries.order[0]
    plan = plan_for(month, grading.world().seed or 0)
    return told_by(grading, "first-month-from-a-source-that-fails", [month], plan)


@work
def failing(grading: Grading) -> Told:
    """Three months on an empty state: a file of the first never arrives, the second is as it should be, the third is spoiled."""
    order = grading.get(given).deliveries.order
    table = stream(grading.world().seed or 0, "file that never comes").choice(TABLES)
    plan = {f"{order[2]}/{table}/{order[2]}.parquet": ["503", "garbled", "500", "always"]}
    spoiled = grading.get(given).spoiled
    return told_by(grading, "months-that-fail", [order[2], order[0], order[1]], plan, has=spoiled)


@work
def nothing(grading: Grading) -> Told:
    """Two months on an empty state of which nothing comes: the source does not have a file of the one, the other is spoiled."""
    order = grading.get(given).deliveries.order
    table = stream(grading.world().seed or 0, "file that is not there").choice(TABLES)
    plan = {f"{order[2]}/{table}/{order[2]}.parquet": NOT_THERE}
    return told_by(grading, "months-that-do-not-come", [order[2], order[1]], plan, has=grading.get(given).spoiled)


@work
def misspelled(grading: Grading) -> Told:
    """A month that is not written as months are, after one that is."""
    return told_by(grading, "a-month-of-one-digit", of_one_digit(grading), {})


def of_one_digit(grading: Grading) -> list[str]:
    month = grading.get(given).deliveries.order[0]
    return [month, f"{month[:4]}-{stream(grading.world().seed or 0, 'month of one digit').integers(1, 10)}"]


@work
def caught_up(grading: Grading) -> Ran:
    """Both again, the spoiled one mended and the other there; what the failing run left is still there."""
    order = grading.get(given).deliveries.order
    return told_by(grading, "the-same-months-mended", order[1:], {}, grading.get(failing).ran).ran


@work
def turned(grading: Grading) -> Told:
    """All three again: the first was put right, the second is spoiled once more, the third is not to be had any more."""
    order, spoils = grading.get(given).deliveries.order, grading.get(given).turned
    plan = {f"{order[2]}/manifest.json": NOT_THERE}
    return told_by(grading, "months-that-come-again", order, plan, grading.get(caught_up), spoils)


@work
def turned_back(grading: Grading) -> Ran:
    """The first once more, as it had been before it was put right."""
    order = grading.get(given).deliveries.order
    return told_by(grading, "a-month-as-it-was", order[:1], {}, grading.get(turned).ran).ran


NOT_THERE, OTHER_SEED = ("404", "always"), running.SEED + 1


@work
def again(grading: Grading) -> Told:
    """The first month once more."""
    return told_by(grading, "first-month-again", grading.get(given).deliveries.order[:1], {}, sound(grading))


@work
def reseeded(grading: Grading) -> Ran:
    """The first month once more, with another seed."""
    months = grading.get(given).deliveries.order[:1]
    return told_by(grading, "first-month-with-another-seed", months, {}, sound(grading), seed=OTHER_SEED).ran


@work
def barren(grading: Grading) -> Ran:
    """Two more months after the first, and nothing comes of them: one is spoiled, the other not there."""
    order, spoiled = grading.get(given).deliveries.order, grading.get(given).spoiled
    plan = {f"{order[2]}/manifest.json": NOT_THERE}
    return told_by(grading, "months-that-bring-nothing", order[1:], plan, sound(grading), spoiled).ran


def sound(grading: Grading) -> Ran:
    """The first run, on which others go on and with which they are compared. Raises Owed."""
    ran = grading.get(first)
    if ran.absent:
        raise Owed(f"there is no pipeline command yet; {ran.sentence()}")
    if grading.get(arrival):
        raise Owed("a month has to arrive as it should first: see pipeline.brings_a_month_in")
    return ran


@work
def arrival(grading: Grading) -> str:
    """What is wrong with the first run; empty if nothing is."""
    ran = grading.get(first)
    if not ran.ok:
        return ran.sentence()
    months = grading.get(given).deliveries.order[:1]
    try:
        record = told(grading, ran, "")
        return wrong_tables(grading, ran, grading.get(truth_first)) or wrong_months(grading, record.months, months)
    except Fault as problem:
        return str(problem).removeprefix("; ")


@work
def release(grading: Grading) -> str:
    """What is wrong with the version that the first run made; empty if nothing is."""
    ran = sound(grading)
    truth, record = grading.get(truth_first), told(grading, ran, "")
    return wrong_release(grading, ran, record) or wrong_window(grading, ran, str(record.version), truth)


def whole(grading: Grading) -> Ran:
    """The first run, if all of it is as it should be: only then can it be seen what disturbs it. Raises Owed."""
    ran = sound(grading)
    if grading.get(release):
        raise Owed("the data have to make one version first: see pipeline.makes_one_version_for_the_data")
    return ran


@dataclass(frozen=True)
class Killed:
    """Runs that were killed, one after the other in one state, with the moment; and the last, which was left alone."""

    moments: list[tuple[str, Ran]]
    last: Ran


@work
def killed(grading: Grading) -> Killed:
    """Four runs that are killed, and one that is left alone, all in one state."""
    month = grading.get(given).deliveries.order[0]
    watchers, found = list[Service](), list[tuple[str, Ran]]()
    ran: Ran | None = None
    with source_of(grading, "killed", {}) as source:
        for number, (says, moment) in enumerate(moments_of_death(grading, month, source, watchers), 1):
            ran = pipeline(grading, f"killed-{number}", [month], source, ran, moment)
            found.append((says, ran))
            while watchers:
                watchers.pop().stop(0)
        return Killed(found, pipeline(grading, "after-the-kills", [month], source, ran))


def moments_of_death(
    grading: Grading, month: str, source: services.Source, watchers: list[Service]
) -> list[tuple[str, Callable[[Path], Callable[[], bool]]]]:
    """When runs are killed, in words and as what makes of the folder of a run the question whether it is time."""
    name = f"{month}.parquet"
    early: list[tuple[str, Callable[[Path], Callable[[], bool]]]] = [
        ("when it had asked the source twice", lambda out: lambda: len(source.calls()) >= 2),
        ("when the flights of the month were there", lambda out: (out / "state/data/flights" / name).exists),
        ("when the features were there", lambda out: (out / "state/features" / name).exists),
    ]
    return [
        early[int(stream(grading.world().seed or 0, "moments of death").integers(len(early)))],
        ("when a run in MLflow had its metrics", lambda out: _store_has(grading, out, "latest_metrics", watchers)),
        ("when the version was in the registry", lambda out: _store_has(grading, out, "model_versions", watchers)),
        ("when the alias or the audit log had changed", lambda out: _decided(grading, out, watchers)),
    ]


def watcher_of(grading: Grading, out: Path, rows: str) -> Service:
    """A tool of ours, in a sandbox of its own, that ends when the store of a run has these rows: TABLE, or TABLE:N for more than N."""
    kit, store = Mount(INSIDE, "kit"), Mount(out / stores.NAME, stores.NAME)
    job = Job(
        ["python", kit / "watch_store.py", store / stores.DATABASE, rows], [kit, store], cwd=store,
        env={**TOOL_ENVIRONMENT, "HOME": "/tmp"}, limits=grading.limits, network=False,
    )  # fmt: skip
    return grading.sandbox.start(job)


def _store_has(grading: Grading, out: Path, table: str, watchers: list[Service]) -> Callable[[], bool]:
    """Whether a table of the store of a run has rows: a tool of ours, one of the `watchers`, looks from a sandbox of its own."""
    started: list[Service] = []

    def has() -> bool:
        if not started:
            started.append(watcher_of(grading, out, table))
            watchers.append(started[0])
        ended = started[0].poll()
        return ended is not None and ended.ok

    return has


def _decided(grading: Grading, out: Path, watchers: list[Service]) -> Callable[[], bool]:
    moved = _store_has(grading, out, "registered_model_aliases", watchers)
    log = out / "state" / "audit.jsonl"

    def decided() -> bool:
        try:
            noted = log.lstat().st_size > 0
        except OSError:
            noted = False
        return noted or moved()

    return decided


@work
def together(grading: Grading) -> list[Ran]:
    """The same month twice at the same moment, in one state and one store."""
    month = grading.get(given).deliveries.order[0]
    outs = [grading.folder(f"together-{number}", grading.limits.disk_mb) for number in (1, 2)]
    with source_of(grading, "together", {f"{month}/manifest.json": ["meet", "meet"]}) as source:
        lines = [line(grading, [month], source, out) for out in outs]
        return grading.submission.run_together(
            "pipeline", [argv for argv, _ in lines], lines[0][1], outs, grading.limits, None,
            env=environment(grading, outs[0]), network=True,
        )  # fmt: skip


@work
def full(grading: Grading) -> tuple[Ran, Ran]:
    """A run on a disk that is too small, and one that goes on with what it left, with room."""
    month = grading.get(given).deliveries.order[:1]
    with source_of(grading, "full-disk", {}) as source:
        small = pipeline(grading, "full-disk", month, source, disk_mb=SMALL_DISK_MB)
        return small, pipeline(grading, "after-the-full-disk", month, source, small)


# What a run says, and what is there


def told(grading: Grading, ran: Ran, what: str, code: int = 0) -> PipelineRecord:
    """What a run says that it did. Raises Fault, and Owed where there is no such command yet."""
    if ran.absent:
        raise Owed(f"there is no pipeline command yet; {ran.sentence()}")
    if ran.finished.ended != "exited" or ran.finished.code != code:
        raise Fault(f"{what}; it had to end with exit code {code}, and {ran.sentence()}")
    return predictions.read_json(grading.reader, PipelineRecord, ran.out / "pipeline.json", f"{what}; ")


def lines_of(grading: Grading, ran: Ran) -> list[AuditRecord]:
    """The whole lines of the audit log."""
    return [record for record in audited(grading, ran) if record is not None]


def ends_as_undisturbed(grading: Grading, ran: Ran, what: str) -> str:
    """What is wrong after the first month, however it came; empty if it is as after one undisturbed run. Raises Fault."""
    record = told(grading, ran, what)
    if wrong := wrong_tables(grading, ran, grading.get(truth_first)):
        return wrong
    if wrong := wrong_months(grading, record.months, grading.get(given).deliveries.order[:1]):
        return wrong
    return wrong_release(grading, ran, record)


def wrong_months(
    grading: Grading, records: Sequence[MonthRecord], months: Sequence[str], feeds: Mapping[str, Feed] | None = None
) -> str:
    """What is wrong with the lines of months that had to arrive, by what the source has, or by other `feeds`."""
    feeds = feeds or grading.get(given).deliveries.feeds
    if [record.month for record in records] != list(months):
        return f"months in --out are {', '.join(r.month for r in records)[:80] or 'none'}, not {', '.join(months)}"
    for record in records:
        feed = feeds[record.month]
        wrong = sum(len(feed.wrong_rows(table)) for table in feed.tables)
        wanted = (feed.status, feed.rows, feed.rows - wrong, wrong)
        got = (record.status, record.rows_in, record.rows_accepted, record.rows_quarantined)
        if got != wanted:
            why = f" (its reason: {record.reason[:300]})" if record.reason else ""
            return f"--out says of {record.month}: {_counted(got)}{why}; it was {_counted(wanted)}"
    return ""


def _counted(numbers: tuple[str, int, int, int]) -> str:
    return f"{numbers[0]}, {numbers[1]:,} rows in, {numbers[2]:,} accepted, {numbers[3]:,} quarantined"


def wrong_release(grading: Grading, ran: Ran, record: PipelineRecord) -> str:
    """What is wrong where the state has seen one version made: one in the registry, one line, alias and --out agree."""
    there, lines = registered(grading, ran), lines_of(grading, ran)
    if len(there.versions) != 1:
        return f"the registry has {len(there.versions)} versions, not 1"
    if record.version not in there.versions:
        return f"--out says version {record.version!r}, and the registry has {next(iter(there.versions))!r}"
    if len(lines) != 1:
        return f"the audit log has {len(lines)} whole lines, not 1"
    return disagreement(record, there, lines)


def disagreement(record: PipelineRecord, there: Registered, lines: Sequence[AuditRecord]) -> str:
    """Where --out, the last line of the audit log and the alias tell different stories of a version."""
    about = [line for line in lines if line.action == "promote" and line.after == record.version]
    if len(about) != 1:
        return f"the audit log has {len(about)} lines about version {record.version}, not 1"
    decided = about[0].decision == "promoted"
    champion = there.champion == record.version
    if not decided == champion == record.promoted:
        return (
            f"of version {record.version} the audit log says {about[0].decision}, --out says promoted: {str(record.promoted).lower()}, "
            f"and the alias champion points to {there.champion or 'nothing'}"
        )
    return ""


# Checks


RUN = (prefect, given, truth_first, first, arrival)


@check("pipeline.brings_a_month_in", uses=RUN)
def brings_a_month_in(grading: Grading) -> Finding:
    """After one month data and features hold exactly the right rows, and --out counts them.

    Catches: wrong rows that stay, also those that are wrong at `--now` only; rows lost; features of other data. Accepts: any order of
    rows, more columns.
    """
    what = "we ran pipeline for the first month"
    record = told(grading, grading.get(first), what)
    if wrong := grading.get(arrival):
        return failed(f"{what}; {wrong}", "", "the rows that are right, in data and features")
    count = record.months[0].rows_accepted
    return passed("the month is in data and features as it should be", f"{count:,} rows", "all right ones")


@check("pipeline.asks_again", uses=[*RUN, faulty])
def asks_again(grading: Grading) -> Finding:
    """A source that fails, hangs, breaks off and sends wrong bytes is asked again until the month is there.

    Catches: no retry; no time limit; trust in what arrives. Accepts: any way to wait.
    """
    sound(grading)
    found, what = grading.get(faulty), "we ran pipeline with a source that fails and recovers"
    table = timeline(found)
    try:
        record = told(grading, found.ran, what)
    except Fault as problem:
        last = found.calls[-1].path if found.calls else "nothing"
        times = sum(call.path == last for call in found.calls)
        return failed(str(problem), f"asked for {last[:80]} last, {times} times in all", "the month", *table)
    months = grading.get(given).deliveries.order[:1]
    wrong = wrong_months(grading, record.months, months) or wrong_tables(grading, found.ran, grading.get(truth_first))
    if wrong:
        return failed(f"{what}; {wrong}", "", "the month", *table)
    hung = next((call for call in found.calls if call.answer in SILENT), None)
    if hung is None:
        return failed(f"{what}; it never asked for the file that was first not delivered", "", "all files", *table)
    after = [call.at - hung.at for call in found.calls if call.path == hung.path and call.at > hung.at]
    allowed = pipelines.PATIENCE_SECONDS + GRACE_SECONDS
    if not after or after[0] > allowed:
        waited = f"{after[0]:.0f} s" if after else "for good"
        return failed(
            f"{what}; it waited {waited} for an answer that said nothing",
            waited,
            f"{pipelines.PATIENCE_SECONDS} s",
            *table,
        )
    return passed(
        "the source was asked again until all had arrived", f"{len(found.calls)} calls, {after[0]:.0f} s of silence borne",
        "all files, none trusted unseen", *table,
    )  # fmt: skip


def timeline(found: Told) -> list[Chart]:
    """What the source was asked and answered: how long each file was missing, and all calls."""
    ends = found.began + found.ran.finished.seconds
    spans: dict[str, list[tuple[float, float]]] = {"the run": [(0.0, ends - found.began)]}
    for number, call in enumerate(found.calls):
        if call.answer == "whole":
            continue
        later = [other.at for other in found.calls[number + 1 :] if other.path == call.path]
        name = f"{call.path.split('/')[1].removesuffix('.json')[:20]}: {call.answer}"
        spans.setdefault(name, []).append((call.at - found.began, (later[0] if later else ends) - found.began))
    rows = [
        (f"{call.at - found.began:.1f} s", call.path, ANSWERS.get(call.answer, call.answer)) for call in found.calls
    ]
    says = f"{len(rows)} calls, of which {sum(call.answer != 'whole' for call in found.calls)} were answered badly"
    drawn = dict(list(spans.items())[:MOST_SPANS])
    return [
        charts.timeline("How long each bad answer lasted, until the file was asked for again", drawn, says),
        charts.table("What the source was asked", ("after", "file", "answer"), rows[:MOST_CALLS_SHOWN], says),
    ]


MOST_SPANS, MOST_CALLS_SHOWN = 12, 40
SILENT = ("hang", "drip")
ANSWERS = {
    "whole": "the file", "hang": "nothing, for a minute", "drip": "a byte a second",  "cut": "half of it, then the line was dead",
    "short": "half of it, as if that were all", "garbled": "wrong bytes", "500": "status 500", "503": "status 503", "404": "status 404",
}  # fmt: skip


def wrong_failing(grading: Grading, ran: Ran, record: PipelineRecord) -> str:
    """What is wrong after the run with the months that fail; empty if the one that does not is there and the others are told."""
    order = grading.get(given).deliveries.order
    arrives = grading.get(given).deliveries.feeds[order[0]].status
    if wrong := _other_ends(record, [(order[2], "failed"), (order[0], arrives), (order[1], "refused")]):
        return wrong
    tables = wrong_tables(grading, ran, grading.get(truth_first))
    return tables or wrong_months(grading, record.months[1:2], order[:1]) or wrong_release(grading, ran, record)


@work
def failed_well(grading: Grading) -> bool:
    """Whether the run with the months that fail left what it should, so that others can go on from there."""
    try:
        ran = grading.get(failing).ran
        return not wrong_failing(grading, ran, told(grading, ran, "", code=3))
    except (Fault, Owed):
        return False


def after_failing(grading: Grading) -> Ran:
    """The run that goes on from there. Raises Owed."""
    if not grading.get(failed_well):
        raise Owed("a run in which months fail has to leave the others first: see pipeline.says_what_failed")
    return grading.get(caught_up)


@check("pipeline.says_what_failed", uses=[*RUN, release, failing, failed_well, nothing, misspelled])
def says_what_failed(grading: Grading) -> Finding:
    """A month that never arrives is failed, one that is spoiled is refused, both with a reason; the month between them is done.

    Where nothing else has come, no model is made. What the source does not have is asked for once. A month like 2013-4 is refused.

    Catches: half a month; a crash; endless asking, or any where a file is not there; a spoiled month in the data; all given up for one; a
    model of the history alone; a month that is no month and fails. Accepts: any wording.
    """
    whole(grading)
    order, found = grading.get(given).deliveries.order, grading.get(failing)
    spoiled = grading.get(given).deliveries.spoiled.says
    what = f"we ran pipeline for a month of which a file never arrives, one as it should be, and one that is spoiled ({spoiled})"
    record = told(grading, found.ran, what, code=3)
    if wrong := wrong_failing(grading, found.ran, record):
        return failed(
            f"{what}; {wrong}", "", f"{order[2]} failed, {order[1]} refused, all else as after {order[0]} alone"
        )
    counts = Counter(call.path for call in found.calls)
    path, most = counts.most_common(1)[0]
    if most > pipelines.MOST_CALLS:
        return failed(f"{what}; {path} was asked for {most} times", most, f"at most {pipelines.MOST_CALLS}")
    times = [call.at for call in found.calls if call.path == path]
    allowed = pipelines.SECONDS_PER_FILE + GRACE_SECONDS
    if times[-1] - times[0] > allowed:
        return failed(
            f"{what}; it asked for {path} for {times[-1] - times[0]:.0f} s", "", f"{pipelines.SECONDS_PER_FILE} s"
        )
    if wrong := wrong_nothing(grading):
        what = "we ran pipeline on an empty state for a month of which the source has not all files (status 404), and one that is spoiled"
        return failed(f"{what}; {wrong}", "", f"{order[2]} failed, {order[1]} refused, nothing else")
    bad, what = grading.get(misspelled), f"we ran pipeline with --months {','.join(of_one_digit(grading))}"
    refused(grading, bad.ran, what, "months")
    return passed(
        "both months are reported with a reason, and the third is done", "1 failed, 1 refused", "both", *timeline(found)
    )


def wrong_nothing(grading: Grading) -> str:
    """What is wrong after the run in which no month came; empty if it says so and made nothing. Raises Fault."""
    order, found = grading.get(given).deliveries.order, grading.get(nothing)
    record = told(grading, found.ran, "we ran pipeline on an empty state for two months that cannot be had", code=3)
    if wrong := _other_ends(record, [(order[2], "failed"), (order[1], "refused")]):
        return wrong
    missing = Counter(call.path for call in found.calls if call.answer == "404")
    if not missing:
        return "it never asked for the file that is not there"
    path, times = missing.most_common(1)[0]
    if times > 1:
        return f"it asked {times} times for {path[:80]}, which the source had said it does not have"
    versions, lines = registered(grading, found.ran).versions, lines_of(grading, found.ran)
    if record.version is not None or record.promoted or versions or lines:
        said = f"--out says version {record.version}, promoted: {str(record.promoted).lower()}"
        return f"no month has arrived, and {said}; the registry has {len(versions)} versions, the audit log {len(lines)} lines"
    return ""


def _other_ends(record: PipelineRecord, wanted: Sequence[tuple[str, str]]) -> str:
    """How months ended otherwise than they had to; empty if they did not."""
    got = [(entry.month, entry.status) for entry in record.months]
    if got == list(wanted):
        counted = (
            e for e in record.months if e.status in ("refused", "failed") and e.rows_accepted + e.rows_quarantined
        )
        one = next(counted, None)
        return (
            ""
            if one is None
            else (
                f"--out says of {one.month} that it is {one.status}, with {one.rows_accepted:,} rows accepted and {one.rows_quarantined:,} "
                "quarantined; of a month that is not taken in both are 0, whatever came of it before"
            )
        )
    return f"--out says {', '.join(f'{m[:10]} {s}' for m, s in got) or 'nothing'}, not {', '.join(f'{m} {s}' for m, s in wanted)}"


def moved(grading: Grading, before: Ran, after: Ran) -> str:
    """What has changed of versions, alias and audit log between two runs; empty if nothing."""
    was, now = registered(grading, before), registered(grading, after)
    if was.versions != now.versions:
        return f"the registry had {len(was.versions)} versions and has {len(now.versions)}"
    if was.champion != now.champion:
        return f"the alias champion pointed to {was.champion} and points to {now.champion}"
    lines, more = lines_of(grading, before), lines_of(grading, after)
    return "" if lines == more else f"the audit log had {len(lines)} lines and has {len(more)}"


@check("pipeline.does_nothing_twice", uses=[*RUN, release, again])
def does_nothing_twice(grading: Grading) -> Finding:
    """The same month again: the same tables, no new version, no new decision, the same answer.

    Catches: appended rows; a new version for every run. Accepts: fetching it again; computing it again.
    """
    before, what = whole(grading), "we ran pipeline for the same month twice"
    found = grading.get(again)
    ran = found.ran
    once, twice = told(grading, before, what), told(grading, ran, what)
    if wrong := wrong_tables(grading, ran, grading.get(truth_first)) or moved(grading, before, ran):
        return failed(f"{what}; {wrong}", "", "as after the first time")
    if (once.months, once.version, once.promoted) != (twice.months, twice.version, twice.promoted):
        return failed(
            f"{what}; --out says other things the second time", f"version {twice.version}, promoted: {str(twice.promoted).lower()}",
            f"version {once.version}, promoted: {str(once.promoted).lower()}, the same months",
        )  # fmt: skip
    if not any(call.path.endswith("/manifest.json") for call in found.calls):
        return failed(
            f"{what}; the second time it did not look up the manifest, by which alone it could see that the month was corrected",
            f"{len(found.calls)} calls of the source", "the manifest",
        )  # fmt: skip
    return passed("the same month twice changes nothing", "no new row, version or decision", "none")


TURNS: list[Work[Any]] = [*RUN, release, failing, failed_well, truth_all, caught_up, truth_turned, turned, turned_back]


@check("pipeline.takes_months_in_any_order", uses=TURNS)
def takes_months_in_any_order(grading: Grading) -> Finding:
    """Three months in another order than the calendar's, after a run that failed: data and features are as if they had come in order.

    Then they come again: one is put right, which replaces it; one is spoiled and one is not there any more, which changes nothing.

    Catches: features that were computed once; months that fall back behind the last one; a month that is lost when it comes again and
    fails or is refused; rows of before beside corrected ones. Accepts: any order of rows.
    """
    sound(grading)
    order, ran = grading.get(given).deliveries.order, after_failing(grading)
    what = f"we ran pipeline for {order[0]}, and after a run that failed for {order[1]} and {order[2]}"
    record = told(grading, ran, what)
    if wrong := wrong_months(grading, record.months, order[1:]):
        return failed(f"{what}; {wrong}", "", "what the feeds hold")
    if wrong := wrong_tables(grading, ran, grading.get(truth_all)):
        return failed(f"{what}; {wrong}", "", "as in order")
    what += (
        f", then again: {order[0]} was put right, {order[1]} is spoiled and {order[2]} not there any more (status 404)"
    )
    if wrong := wrong_turns(grading, told(grading, grading.get(turned).ran, what, code=3)):
        return failed(f"{what}; {wrong}", "", f"{order[0]} as it is now, the others as they were")
    ran, what = grading.get(turned_back), f"{what}, and {order[0]} once more as it had been"
    told(grading, ran, what)
    if wrong := wrong_tables(grading, ran, grading.get(truth_all)):
        return failed(f"{what}; {wrong}", "", "as before it was put right")
    return passed("months may come in any order, and again", ", ".join(order), "the same tables")


def wrong_turns(grading: Grading, record: PipelineRecord) -> str:
    """What is wrong with the tables after all months came again, and with what is said of them."""
    made = grading.get(given).deliveries
    order = made.order
    ends = [(order[0], made.corrected.status), (order[1], "refused"), (order[2], "failed")]
    if wrong := _other_ends(record, ends):
        return wrong
    first_ = wrong_months(grading, record.months[:1], order[:1], {order[0]: made.corrected})
    return first_ or wrong_tables(grading, grading.get(turned).ran, grading.get(truth_turned))


@check("pipeline.makes_one_version_for_the_data", uses=[*TURNS, reseeded, barren])
def makes_one_version_for_the_data(grading: Grading) -> Finding:
    """Each change of the data makes one version that learned from all days before the last month; gate, alias and --out agree.

    Data that were there before have their version already; another seed makes another.

    Catches: a model of the new month only; the gate's month learned from; an alias moved past the gate; a second version or decision when
    data are what they had been before the last ones; no version said where nothing has come; a training known again without its seed.
    Accepts: promoted or refused.
    """
    sound(grading)
    if wrong := grading.get(release):
        return failed(f"we ran pipeline for the first month; {wrong}", "", "one version for the data")
    ran, what = after_failing(grading), "we ran pipeline for a month, and then for two more"
    record, there = told(grading, ran, what), registered(grading, ran)
    new = there.versions - registered(grading, grading.get(failing).ran).versions
    if len(new) != 1 or record.version not in new:
        return failed(
            f"{what}; the second change of the data made {len(new)} new versions, and --out says version {record.version}",
            f"{len(new)} new versions", "1, that of --out",
        )  # fmt: skip
    wrong = disagreement(record, there, lines_of(grading, ran))
    if wrong := wrong or wrong_window(grading, ran, str(record.version), grading.get(truth_all)):
        return failed(f"{what}; {wrong}", "", "one version for the data")
    what += ", then for the first put right"
    after = grading.get(turned).ran
    corrected, now = told(grading, after, what, code=3), registered(grading, after)
    new = now.versions - there.versions
    if len(new) != 1 or corrected.version not in new:
        return failed(
            f"{what}; this made {len(new)} new versions, and --out says version {corrected.version}",
            f"{len(new)} new versions", "1, that of --out",
        )  # fmt: skip
    if wrong := disagreement(corrected, now, lines_of(grading, after)):
        return failed(f"{what}; {wrong}", "", "one version for the data")
    ran, what = grading.get(turned_back), f"{what}, and for the first as it had been"
    back = told(grading, ran, what)
    if wrong := moved(grading, after, ran):
        return failed(
            f"{what}, so that the data are those of version {record.version}; {wrong}", "", "no new version or decision"
        )
    if back.version != record.version:
        return failed(
            f"{what}; --out does not speak of the version that learned from these data",
            f"version {back.version}",
            f"{record.version}",
        )
    if wrong := wrong_barren(grading) or wrong_seed(grading):
        return failed(wrong, "", "one version for the data, code, use case and seed")
    return passed("each change of the data made one version, and gate, alias and --out agree", "3 versions", "3")


def wrong_barren(grading: Grading) -> str:
    """What is wrong after months of which nothing came, where another had come before. Raises Fault."""
    order, before, after = grading.get(given).deliveries.order, sound(grading), grading.get(barren)
    what = f"we ran pipeline for {order[0]}, then for {order[1]}, which is spoiled, and {order[2]}, which is not there"
    once, twice = told(grading, before, what), told(grading, after, what, code=3)
    wrong = _other_ends(twice, [(order[1], "refused"), (order[2], "failed")]) or moved(grading, before, after)
    if not wrong and (once.version, once.promoted) != (twice.version, twice.promoted):
        wrong = (
            f"--out says version {twice.version}, promoted: {str(twice.promoted).lower()}; the data are still those of version "
            f"{once.version}, of which it had said promoted: {str(once.promoted).lower()}"
        )
    return f"{what}; {wrong}" if wrong else ""


def wrong_seed(grading: Grading) -> str:
    """What is wrong after the first month came once more, with another seed. Raises Fault."""
    before, ran = sound(grading), grading.get(reseeded)
    what = "we ran pipeline for a month, and for the same month with another seed"
    record, there = told(grading, ran, what), registered(grading, ran)
    new = there.versions - registered(grading, before).versions
    if len(new) != 1 or record.version not in new:
        return f"{what}; this made {len(new)} new versions, and --out says version {record.version}"
    wrong = disagreement(record, there, lines_of(grading, ran))
    truth = grading.get(truth_first)
    wrong = wrong or wrong_window(grading, ran, str(record.version), truth, OTHER_SEED)
    return f"{what}; {wrong}" if wrong else ""


def wrong_window(grading: Grading, ran: Ran, version: str, truth: Truth, wanted: int = running.SEED) -> str:
    """What is wrong with the days and the seed that the run of a version says it learned with. Raises Fault."""
    assert ran.tracking is not None
    run_id = registered(grading, ran).runs.get(version, "")
    try:
        runs = grading.reader.store(ran.tracking, stores.NAME, run_id, "")
    except Unreadable as problem:
        raise Fault(f"the MLflow store {problem}") from None
    run = runs.get("run")
    if runs["runs"].get(run_id, {}).get("status") != "FINISHED" or not isinstance(run, dict):
        return f"the run of version {version} is not a finished one"
    params = run.get("params", {})
    start, end = str(params.get("train_start")), str(params.get("train_end"))
    earliest, last = truth.window
    if not (
        f"{earliest[:7]}-01" <= start <= earliest and last <= end < f"{max(truth.features)}-01"
    ):  # the same flights
        return (
            f"the run of version {version} learned from {start[:10]} to {end[:10]}, and should from {earliest} to {last}, the last day of "
            "the data before their last month"
        )
    seed = str(params.get("seed"))
    return "" if seed == str(wanted) else f"the run of version {version} has the seed {seed[:20]}, not {wanted}"


@work
def ideal(grading: Grading) -> tuple[Logged, Logged]:
    """What the submission's `train` makes of the data that are right, and of the history alone. Raises Owed."""
    from grader.checks.s05_tracking import configure, last_day

    given_, truth = grading.get(given), grading.get(truth_all)
    columns = [feature.name for feature in given_.definitions]
    history = (f"{given_.deliveries.history[0]}-01", last_day(given_.deliveries.history[-1]))
    found = []
    for name, window in (("all-that-arrived", truth.window), ("the-history-alone", history)):
        settings = configure(grading.folder(f"train-on-{name}-given"), window)
        (settings / "usecase.toml").write_text(given_.deliveries.usecase, encoding="utf-8")
        ran = running.train(grading, f"train-on-{name}", truth.folder, settings)
        try:
            found.append(tracked.read(grading, ran, columns, "we ran train"))
        except Fault as problem:
            raise Owed(f"{problem}; train is owed from stage 05") from None
    return found[0], found[1]


@check("pipeline.learns_from_what_arrived", uses=[*RUN, release, failing, failed_well, truth_all, caught_up, ideal])
def learns_from_what_arrived(grading: Grading) -> Finding:
    """The version answers as the model that `train` makes of the data as they are, not as one of older data, or as none at all.

    Catches: a model that was trained once and is registered again; a dummy; parameters that say otherwise. Accepts: rows in another
    order.
    """
    import numpy as np

    whole(grading)
    ran, what = after_failing(grading), "we asked the version that was made after all months had arrived"
    record, (fresh, old) = told(grading, ran, what), grading.get(ideal)
    truth = grading.get(truth_all)
    there = registered(grading, ran)
    if record.version not in there.versions:
        raise Owed("the data have to make one version first: see pipeline.makes_one_version_for_the_data")
    made = logged_model(grading, ran, there, record.version)
    flights = {"gate": truth.features[max(truth.features)]}
    answers = [
        tracked.scored(found)["gate"]
        for found in tracked.score(grading, [(run, flights) for run in (fresh, old, made)])
    ]
    apart = float(np.abs(answers[2] - answers[0]).mean())
    allowed = NEARER * float(np.abs(answers[1] - answers[0]).mean())
    said, bar = (
        f"{apart:.4f} from train on the data",
        f"at most {allowed:.4f}, half of what training on the history alone is",
    )
    if apart > allowed:
        return failed(
            f"{what} about the last month, and what train makes of the same data with the same window and seed: they differ as models "
            "of different data do", said, bar,
        )  # fmt: skip
    return passed("the version is what train makes of the data", said, bar)


def logged_model(grading: Grading, ran: Ran, there: Registered, version: str) -> tracked.Model:
    """The model of a version, to be scored. Raises Fault."""
    assert ran.tracking is not None
    run_id, source = there.runs[version], there.sources[version]
    try:
        run = grading.reader.store(ran.tracking, stores.NAME, run_id, source).get("run")
    except Unreadable as problem:
        raise Fault(f"the MLflow store {problem}") from None
    model = run.get("model") if isinstance(run, dict) else None
    if not isinstance(model, dict) or "path" not in model:
        raise Fault(f"the source of version {version} is no logged model of its run")
    return tracked.Model(ran, model["path"])


@check("pipeline.survives_kills", uses=[*RUN, release, killed])
def survives_kills(grading: Grading) -> Finding:
    """Killed once within training, registration and promotion each, and once before, and run again: the state of one undisturbed run.

    Catches: half files that are believed; a run taken for finished that is not; a version or a decision doubled or lost; a lock that
    outlives its process; an alias without a line. Accepts: work done again.
    """
    whole(grading)
    found = grading.get(killed)
    landed = [says for says, ran in found.moments if ran.finished.ended == "cancelled"]
    drawn = story(found, landed)
    what = f"we killed pipeline {len(landed)} times ({'; '.join(landed)}) and ran it again"
    if wrong := ends_as_undisturbed(grading, found.last, what):
        return failed(f"{what}; {wrong}", "", "as after one undisturbed run", *drawn)
    return passed(
        "killed and run again, it ends as if nothing had been",
        f"{len(landed)} kills survived",
        "as undisturbed",
        *drawn,
    )


def story(found: Killed, landed: Sequence[str]) -> list[Chart]:
    """The runs one after the other, by time and in words."""
    runs = [(says, ran.finished) for says, ran in found.moments] + [("left alone", found.last.finished)]
    spans, rows, begins = {}, [], 0.0
    for number, (moment, finished) in enumerate(runs, 1):
        end = "killed" if finished.ended == "cancelled" else finished.sentence()
        spans[f"run {number}"] = [(begins, begins + finished.seconds)]
        rows.append((str(number), moment, end, f"{finished.seconds:.1f} s"))
        begins += finished.seconds
    says = f"{len(landed)} runs were killed: {'; '.join(landed)}"
    return [
        charts.timeline("Killed, and run again", spans, says),
        charts.table("The runs, one after the other", ("run", "moment", "end", "after"), rows, says),
    ]


@check("pipeline.runs_one_at_a_time", uses=[*RUN, release, together])
def runs_one_at_a_time(grading: Grading) -> Finding:
    """Started twice at the same moment, both end well, with one version and one decision.

    Catches: no lock; a lock that makes the second fail. Accepts: either order.
    """
    whole(grading)
    what = "we started pipeline twice at the same moment, on one state and one store, where one has to wait until the other has ended"
    runs = grading.get(together)
    for ran in runs:
        if wrong := ends_as_undisturbed(grading, ran, what):
            return failed(f"{what}; {wrong}", "", "as after one run")
    return passed("two at the same moment end as one", "1 version, 1 decision", "1")


@check("pipeline.survives_a_full_disk", uses=[*RUN, release, full])
def survives_a_full_disk(grading: Grading) -> Finding:
    """On a disk that is too small it fails and says so; with room it goes on to the right end.

    Catches: half files that are believed; success where nothing was written. Accepts: any moment to notice.
    """
    whole(grading)
    small, roomy = grading.get(full)
    what = f"we ran pipeline on a disk of {SMALL_DISK_MB} MB, and again with room"
    if small.ok and (wrong := ends_as_undisturbed(grading, small, "we ran pipeline on a small disk")):
        return failed(f"{what}; it ended with exit code 0 on the small one, and {wrong}", "exit 0", "another exit code")
    if wrong := ends_as_undisturbed(grading, roomy, what):
        return failed(f"{what}; {wrong}", "", "as after one undisturbed run")
    return passed("a full disk costs a run and nothing else", small.finished.sentence(), "the right end")


@check("pipeline.shows_in_prefect", uses=[*RUN, faulty, failing])
def shows_in_prefect(grading: Grading) -> Finding:
    """Each run is one of the flow `monthly` with its tasks, whose state agrees with how the command ended.

    Catches: no flow; a flow that is completed where the command failed; retries that nobody sees; a run that was told of afterwards.
    Accepts: more tasks.
    """
    server, what = grading.get(prefect), "we asked Prefect's server about the runs"
    sound(grading)
    runs = (
        (grading.get(faulty), 0, "COMPLETED", "asks_again"),
        (grading.get(failing), 3, "FAILED", "says_what_failed"),
    )
    states, seen = [], []
    for found, code, wanted, owed in runs:
        try:
            record = told(grading, found.ran, what, code)
        except Fault:
            raise Owed(f"a run has to end as it should before it can be looked for: see pipeline.{owed}") from None
        run = server.flow_run(record.flow_run_id)
        if run is None:
            return failed(f"{what}; it has none of the id in --out", record.flow_run_id[:40], "a flow run")
        if run["flow_name"] != pipelines.FLOW:
            return failed(f"{what}; the flow has another name", str(run["flow_name"])[:40], pipelines.FLOW)
        if run.get("state_type") != wanted:
            return failed(
                f"{what}; the command ended with exit code {code}, and the state of its flow run is {run.get('state_type')}",
                str(run.get("state_type"))[:40], wanted,
            )  # fmt: skip
        states.append(record.flow_run_id)
        seen.append((run, found.calls))
    tasks = _recorded(server, states[0])
    names = named(tasks)
    if missing := [name for name in pipelines.TASKS if name not in names]:
        return failed(
            f"{what}; the first run has no task {missing[0]}",
            ", ".join(sorted(names))[:200],
            ", ".join(pipelines.TASKS),
        )
    attempts = sum(_tries(task) for task in tasks if str(task.get("name")).startswith("ingest"))
    retried = _retries(tasks)
    if retried < pipelines.FAILURES_IN_A_ROW:  # so often had one file not come
        return failed(
            f"{what}; one file did not come {pipelines.FAILURES_IN_A_ROW} times, and the retries of ingest do not show it",
            f"{attempts} attempts, {retried} retries", f"{pipelines.FAILURES_IN_A_ROW} retries",
        )  # fmt: skip
    for run, calls in seen:
        if problem := _elsewhen(run, calls):
            return failed(f"{what}; {problem}", problem, "a run in which the source was asked")
    return passed(
        "Prefect shows the runs as they were", f"{len(tasks)} tasks, {retried} retries", "flow, tasks and states"
    )


def _elsewhen(run: Mapping[str, Any], calls: Sequence[services.Call]) -> str:
    """How the time of a flow run does not hold the calls of the source; empty if it does."""
    times = [call.at for call in calls]
    began, ended = (_instant(run.get(name)) for name in ("start_time", "end_time"))
    if not times or began is None or ended is None:
        return "a flow run has no beginning or no end"
    if began > min(times) + CLOCK_SECONDS:
        return f"a flow run began {began - min(times):.1f} s after the source had first been asked"
    if ended < max(times) - CLOCK_SECONDS:
        return f"a flow run had ended {max(times) - ended:.1f} s before the source was last asked"
    return ""


def _instant(text: Any) -> float | None:
    """Seconds since the epoch, of a time as Prefect's server writes it."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except (ValueError, OverflowError):
        return None


def _retries(tasks: Sequence[Mapping[str, Any]]) -> int:
    """How often an ingest was tried again."""
    return sum(max(0, _tries(task) - 1) for task in tasks if str(task.get("name")).startswith("ingest"))


def _tries(task: Mapping[str, Any]) -> int:
    count = task.get("run_count")
    return count if isinstance(count, int) else 0


def named(tasks: Sequence[Mapping[str, Any]]) -> set[str]:
    """Which of the contract's tasks have runs: these are called after them, `ingest-9cd` or `ingest-2013-04`."""
    found = [str(task.get("name")) for task in tasks]
    return {name for name in pipelines.TASKS if any(run == name or run.startswith(f"{name}-") for run in found)}


def _recorded(server: services.Prefect, flow_run: str) -> list[dict[str, Any]]:
    """The task runs of a flow run, once no more are written down and none is under way."""
    deadline = time.monotonic() + RECORDED_SECONDS
    while True:
        found = server.task_runs(flow_run)
        names = named(found)
        done = all(task.get("state_type") in ("COMPLETED", "FAILED", "CRASHED") for task in found)
        told_all = names >= set(pipelines.TASKS) and done and _retries(found) >= pipelines.FAILURES_IN_A_ROW
        if told_all or time.monotonic() > deadline:
            return found
        time.sleep(0.3)
