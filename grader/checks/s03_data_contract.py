"""Stage 03, data-contract: `validate` judges a folder of feeds of which the grader knows what is wrong with each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grader import stages
from grader.checks import charts
from grader.checks.api import Fault, Finding, Grading, Owed, check, failed, passed, with_list, work
from grader.contract.outputs import FeedReport, OutputProblem, parse_output
from grader.contract.rules import BY_NAME
from grader.contract.sentences import shown
from grader.printable import one_line
from grader.sandbox import Mount
from grader.sandbox.base import Argument
from grader.sandbox.reader import Column, Read, Table, Unreadable
from grader.submission import CONTRACT_EXIT_REFUSED, Ran
from grader.verdict import Chart
from grader.world import feeds, write_data
from grader.world.build import stream
from grader.world.delivery import Feed
from grader.world.feed_kinds import PERSONAL, SPOILED, UNUSUAL

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FLIGHTS_OF_HISTORY = 3_000  # a month
BY_STATISTICS = "kilometres"  # a feed whose judgement could lean on its company
IN_OTHER_COMPANY = ("strike", "other_order", "too_small", "last_months_flights", "personal_column")
MORE_AGAIN = 15  # more feeds judged again: with 21 in all, judgements by lot agree once in some 100,000 gradings
BARS = stages.find("03").bars

Broken = tuple[str, str | None, str]  # table, column, rule
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Given:
    """The hidden data of this stage, laid down."""

    case: feeds.Case
    history: Path
    feeds: Path
    settings: Path


@dataclass(frozen=True)
class Judged:
    """What `validate` wrote about one feed, read back.

    `place` is where the feed lies in what `mlekit why` lays down. `accepted` holds its tables by table name, `quarantined` the
    rows of each table with what each breaks.
    """

    name: str
    place: str
    feed: Feed
    report: FeedReport
    accepted: dict[str, list[Table]]
    quarantined: dict[str, dict[int, set[tuple[str | None, str]]]] = field(default_factory=dict)

    @property
    def says(self) -> str:
        """What the feed is, and where it lies."""
        return _says(self.feed, self.place)

    @property
    def rows_accepted(self) -> int:
        return sum(table.rows for parts in self.accepted.values() for table in parts)

    @property
    def rows_quarantined(self) -> int:
        return sum(len(rows) for rows in self.quarantined.values())

    @property
    def broken(self) -> set[Broken]:
        """What the report says is broken."""
        return {(f.table, _named(f.rule, f.column), f.rule) for f in self.report.findings}

    @property
    def judgement(self) -> tuple[Any, ...]:
        """All of it that must not depend on anything but the feed."""
        found = sorted((f.table, str(f.column), f.rule, f.rows) for f in self.report.findings)
        rows = sorted(
            (t, row, *sorted(map(str, why))) for t, some in self.quarantined.items() for row, why in some.items()
        )
        return self.report.status, self.rows_accepted, found, rows

    def let_in(self) -> int:
        """How many rows it accepted that it had to stop."""
        if self.feed.status == "refused":
            return self.rows_accepted
        return sum(_let_in(self.feed, table, self.accepted.get(table, [])) for table in self.feed.tables)


def _says(feed: Feed, place: str) -> str:
    return f"{feed.says} ({place})"


def _named(rule: str, column: str | None) -> str | None:
    """The column of a finding, where the rule is about one."""
    return column if BY_NAME[rule].names_column else None  # type: ignore[index]


def _let_in(feed: Feed, table: str, accepted: list[Table]) -> int:
    """How many accepted rows of a table had to be stopped: by their keys, and at least as many as are too many."""
    wrong, rows = feed.wrong_rows(table), sum(part.rows for part in accepted)
    if not wrong:
        return 0
    key = feeds.KEYS[table]
    came = list(zip(*(as_read(feed.tables[table].column(name)) for name in key), strict=True))
    wrong_keys = {came[row] for row in wrong}
    found = 0
    for part in accepted:
        columns = [column.values for name in key if (column := part.columns.get(name)) and column.values is not None]
        found += sum(k in wrong_keys for k in zip(*columns, strict=True)) if len(columns) == len(key) else part.rows
    return max(found, rows - (len(came) - len(wrong)))


@work
def given(grading: Grading) -> Given:
    world = feeds.with_an_airline_to_come(grading.world())
    history, folder, settings = grading.folder("history"), grading.folder("feeds"), grading.folder("given")
    write_data(world, history, feeds.months_of(world)[1], FLIGHTS_OF_HISTORY)
    case = feeds.make_feeds(world, history)
    for name, feed in case.feeds.items():
        feed.write(folder / name)
    (settings / "usecase.toml").write_text(case.usecase, encoding="utf-8")
    return Given(case, history, folder, settings)


def validate(grading: Grading, label: str, folder: Path) -> Ran:
    """Run `validate` on a folder of feeds. Raises Owed."""
    argv = grading.submission.manifest.argv("validate")
    if argv is None:
        raise Owed("the command validate is not declared; add it to [tool.mlekit.commands]")
    given_ = grading.get(given)
    out = grading.folder(label, grading.limits.disk_mb)
    source, history, settings = (
        Mount(folder, "feeds"),
        Mount(given_.history, "history"),
        Mount(given_.settings, "given"),
    )
    arguments: list[Argument] = [
        *argv, "--usecase", settings / "usecase.toml", "--feeds", source, "--history", history, "--now", given_.case.now,
        "--out", Mount(out / "out", "out", writable=True),
    ]  # fmt: skip
    return grading.submission.run("validate", arguments, [source, history, settings], out, grading.limits)


@work
def company(grading: Grading) -> Ran:
    """All feeds in one run."""
    return validate(grading, "validate", grading.get(given).feeds)


@work
def found(grading: Grading) -> dict[str, Judged]:
    """What was written about each feed; for the checks that need it, it is owed that all of it can be read."""
    try:
        return judged(grading, grading.get(company), grading.get(given).case)
    except Fault:
        raise Owed("validate has to report on every feed first: see data_contract.adds_up") from None


@work
def nothing(grading: Grading) -> Ran:
    """A run on an empty folder of feeds."""
    return validate(grading, "validate-nothing", grading.folder("no-feeds"))


def again(grading: Grading, label: str, names: list[str]) -> dict[str, Judged]:
    """Judge some of the feeds again under other names; by their old names. Raises Fault."""
    given_ = grading.get(given)
    case, old = feeds.renamed(given_.case, names, grading.world().seed or 0, label)
    place = f"feeds-{label}"
    folder = grading.folder(place)
    for name, feed in case.feeds.items():
        feed.write(folder / name)
    grading.after(company)
    ran = validate(grading, f"validate-{label}", folder)
    return {old[name]: verdict for name, verdict in judged(grading, ran, case, place).items()}


@work
def alone(grading: Grading) -> dict[str, Judged]:
    """A feed whose judgement could lean on the others, without the others."""
    return again(grading, "alone", [grading.get(given).case.of_kind(BY_STATISTICS)])


@work
def other_company(grading: Grading) -> dict[str, Judged]:
    """A third of the feeds under other names."""
    case = grading.get(given).case
    chosen = [case.of_kind(kind) for kind in IN_OTHER_COMPANY]
    rest = sorted(case.feeds.keys() - chosen)
    more = stream(grading.world().seed or 0, "judged again").choice(rest, MORE_AGAIN, replace=False)
    return again(grading, "other-company", [*chosen, *more.tolist()])


def judged(grading: Grading, ran: Ran, case: feeds.Case, place: str = "feeds") -> dict[str, Judged]:
    """Read what a run wrote about each feed. Raises Owed where there is no such program, Fault with what is wrong."""
    if ran.absent:
        raise Owed(f"there is no validate command yet; {ran.sentence()}")
    if not ran.ok:
        raise Fault(f"we ran validate on {len(case.feeds)} feeds; {ran.sentence()}")
    try:
        files = grading.reader.folder(ran.out)
    except Unreadable as problem:
        raise Fault(f"the folder of --out {problem}") from None
    return {name: _judged(name, f"{place}/{name}", feed, _below(files, name)) for name, feed in case.feeds.items()}


def _below(files: dict[str, Read], folder: str) -> dict[str, Read]:
    start = f"{folder}/"
    return {name.removeprefix(start): read for name, read in files.items() if name.startswith(start)}


def _judged(folder: str, place: str, feed: Feed, files: dict[str, Read]) -> Judged:
    """What was written about one feed. Raises Fault."""
    said = f"for a feed, {_says(feed, place)},"
    for name, read in files.items():
        if read.problem and name.startswith(("report.json", "quarantine.parquet", "accepted/")):
            raise Fault(f"{said} {one_line(name, 100)} {read.problem}")
    if "report.json" not in files:
        raise Fault(f"{said} there is no report.json in a folder of the feed's name below --out")
    try:
        report = parse_output(FeedReport, files["report.json"].value)
    except OutputProblem as problem:
        raise Fault(f"{said} {problem}") from None
    accepted: dict[str, list[Table]] = {}
    for name, read in sorted(files.items()):
        if name.startswith("accepted/") and read.table is not None:
            accepted.setdefault(name.split("/")[1].removesuffix(".parquet"), []).append(read.table)
    quarantine = files.get("quarantine.parquet", Read()).table
    return Judged(folder, place, feed, report, accepted, _quarantined(quarantine, said) if quarantine else {})


def _quarantined(table: Table, said: str) -> dict[str, dict[int, set[tuple[str | None, str]]]]:
    """The quarantined rows by table, with the column and rule of each. Raises Fault."""
    columns = [_column(table, name, said) for name in ("table", "source_row", "rule", "column")]
    rows: dict[str, dict[int, set[tuple[str | None, str]]]] = {}
    for name, row, rule, column in zip(*columns, strict=True):
        if not isinstance(name, str) or not isinstance(row, int) or rule not in BY_NAME:
            got = f"table {shown(name)}, source_row {shown(row)}, rule {shown(rule)}"
            raise Fault(f"{said} quarantine.parquet has a row with {got}")
        rows.setdefault(name, {}).setdefault(row, set()).add((_named(rule, column), rule))
    return rows


def _column(table: Table, name: str, said: str) -> list[Any]:
    column = table.columns.get(name)
    if column is None or (column.values is None and table.rows and column.type != "null"):
        raise Fault(
            f"{said} quarantine.parquet has no readable column {name}; it needs table, source_row, rule, column"
        )
    return column.values or [None] * table.rows


def _all_feeds(grading: Grading) -> pd.DataFrame:
    """One row a feed: where it lies, what it is, what should have been said of it and what was."""
    import pandas as pd

    case = grading.get(given).case
    try:
        files = grading.reader.folder(grading.get(company).out)
    except (Unreadable, Owed):
        files = {}
    records = []
    for name, feed in case.feeds.items():
        expected, _, findings = _expected_findings(feed).partition(": ")
        try:
            status, _, found = _said(_judged(name, f"feeds/{name}", feed, _below(files, name))).partition(": ")
        except Fault:
            status, found = "nothing that can be read", ""
        records.append((f"feeds/{name}", feed.says, expected, status, findings, found))
    records.sort(key=lambda record: record[2::2] == record[3::2])  # what differs first
    columns = ["feed", "what", "expected_status", "got_status", "expected_findings", "got_findings"]
    return pd.DataFrame(records, columns=columns)


with_all_feeds = with_list("feeds", _all_feeds, first=True)


@check("data_contract.adds_up", uses=[given, company, nothing])
@with_all_feeds
def adds_up(grading: Grading) -> Finding:
    """Each feed gets a report whose numbers are those of the rows that came, were accepted and were quarantined.

    Catches: a crash at a spoiled feed; rows that vanish; a report of made-up numbers; a row counted once for each rule.
    Accepts: no quarantine.parquet where nothing is quarantined; no manifest among the accepted.
    """
    case = grading.get(given).case
    verdicts = judged(grading, grading.get(company), case)
    for verdict in verdicts.values():
        if problem := _sums(verdict):
            sentence, value, bar = problem
            return failed(f"for a feed, {verdict.says}, {sentence}", value, bar)
    ran = grading.get(nothing)
    if not (ran.ok or (ran.finished.ended == "exited" and ran.finished.code == CONTRACT_EXIT_REFUSED)):
        raise Fault(f"we ran validate on an empty folder of feeds; {ran.sentence()}")
    left = [name for name in _files(grading, ran) if name.endswith("report.json") or "accepted" in name]
    if left:
        return failed(
            "we ran validate on an empty folder of feeds, and it reported on a feed", f"{len(left)} files", "none"
        )
    rows = sum(feed.rows for feed in case.feeds.values())
    return passed("every feed has a report and its rows add up", f"{len(verdicts)} feeds, {rows:,} rows", "all")


def _files(grading: Grading, ran: Ran) -> dict[str, Read]:
    try:
        return grading.reader.folder(ran.out)
    except Unreadable as problem:
        raise Fault(f"the folder of --out {problem}") from None


def _sums(verdict: Judged) -> tuple[str, str, str] | None:
    """What does not add up in one report: sentence, value, bar."""
    report, feed = verdict.report, verdict.feed
    if report.status == "refused":
        got = f"{report.rows_accepted + report.rows_quarantined + verdict.rows_accepted:,} rows"
        if report.rows_accepted or report.rows_quarantined or verdict.rows_accepted:
            return "that is refused, rows are accepted or quarantined all the same", got, "0 rows"
        return None
    numbers = {
        "rows_accepted": (report.rows_accepted, verdict.rows_accepted, "the rows in accepted/"),
        "rows_quarantined": (report.rows_quarantined, verdict.rows_quarantined, "the rows in quarantine.parquet, each counted once"),
        "rows_in": (report.rows_in, report.rows_accepted + report.rows_quarantined, "rows_accepted + rows_quarantined"),
    }  # fmt: skip
    if feed.status != "refused":
        numbers["rows_in "] = (report.rows_in, feed.rows, "the rows of its tables")
    for name, (said, counted, what) in numbers.items():
        if said != counted:
            return f"{name.strip()} is not {what}", f"{said:,}", f"{counted:,}"
    wanted = "quarantined" if report.rows_quarantined else "accepted"
    if report.status != wanted:
        return f"with {report.rows_quarantined:,} quarantined rows the status is wrong", report.status, wanted
    return None


@check("data_contract.changes_nothing", uses=[given, company, found])
@with_all_feeds
def changes_nothing(grading: Grading) -> Finding:
    """The accepted tables hold the rows that are not quarantined, each value as it came.

    Catches: nulls filled on the way; numbers rounded; columns dropped; instants turned into text; the wrong rows taken out.
    Accepts: another order of rows and columns, several files, further columns, wider types.
    """
    if shut := _shut(grading):
        return failed(f"{SHUT} they came unchanged", *shut)
    rows = 0
    for verdict in grading.get(found).values():
        if "refused" in (verdict.feed.status, verdict.report.status):
            continue
        for name, came in verdict.feed.tables.items():
            kept = verdict.quarantined.get(name, {})
            expected = _expected(grading, came, name, set(kept))
            try:
                got = _content(verdict.accepted.get(name, []), list(expected.columns))
            except KeyError as missing:
                return failed(
                    f"for a feed, {verdict.says}, the accepted {name} have no column {missing.args[0]}", "missing", "as it came"
                )  # fmt: skip
            wanted = Counter(expected.itertuples(index=False, name=None))
            strange, lost = got - wanted, wanted - got
            if strange or lost:
                return failed(
                    f"for a feed, {verdict.says}, the accepted {name} are not the rows that came without those it quarantined",
                    f"{strange.total():,} rows that did not come so, {lost.total():,} rows missing", "0 and 0",
                ).showing("not_as_it_came", _frame(strange, expected)).showing("missing", _frame(lost, expected))  # fmt: skip
            rows += len(expected)
    return passed("accepted rows are the rows that came, unchanged", f"{rows:,} rows compared", "all values equal")


def _expected(grading: Grading, came: pa.Table, name: str, without: set[int]) -> pd.DataFrame:
    """The rows that should be accepted, in the columns of the contract, as plain values."""
    import pandas as pd

    columns = [c for c in feeds.COLUMNS[name] if c in came.column_names]
    kept = [row for row in range(came.num_rows) if row not in without]
    values = {c: [column[row] for row in kept] for c in columns for column in [as_read(came.column(c))]}
    return pd.DataFrame(values, dtype=object)


def as_read(column: pa.ChunkedArray) -> list[Any]:
    """A column as the reader would hand it over: instants as microseconds, NaN as null."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64())
    return [None if value != value else value for value in column.to_pylist()]


def _content(parts: list[Table], columns: list[str]) -> Counter[Row]:
    """The rows of tables that were read, in these columns. Raises KeyError for one that is not there."""
    rows: Counter[Row] = Counter()
    for part in parts:
        rows.update(zip(*(_plain(part.columns[name], part.rows) for name in columns), strict=True))
    return rows


def _plain(column: Column, rows: int) -> list[Any]:
    values = column.values if column.values is not None else ["(unreadable)" if column.type != "null" else None] * rows
    return [None if value != value else value for value in values]


def _frame(rows: Counter[Row], like: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows.elements())[:50], columns=like.columns)


SHUT = "most rows of feeds that break no rule were not accepted, so it proves nothing that"


def _shut(grading: Grading) -> tuple[str, str] | None:
    """Value and bar where too little of the clean feeds is accepted for their rows to say anything."""
    clean = _of_kinds(grading, UNUSUAL)
    rows, accepted = sum(v.feed.rows for v in clean), sum(min(v.rows_accepted, v.feed.rows) for v in clean)
    if accepted >= BARS["let_in"] * rows:
        return None
    return f"{accepted:,} of {rows:,} rows accepted", f"at least {BARS['let_in']:.0%}"


def _of_kinds(grading: Grading, *kinds: Iterable[str]) -> list[Judged]:
    """The judgements of feeds of some kinds, in the order of the kinds."""
    wanted = [kind for some in kinds for kind in some]
    verdicts = {verdict.feed.kind: verdict for verdict in grading.get(found).values()}
    return [verdicts[kind] for kind in wanted]


@check("data_contract.lets_nothing_wrong_in", uses=[given, company, found])
@with_all_feeds
def lets_nothing_wrong_in(grading: Grading) -> Finding:
    """Of spoiled feeds nothing is accepted that breaks a rule.

    Catches: no look at the history, so that kilometres pass; only the first file read; a duplicate kept; accepting everything;
    refusing everything. Accepts: refusing a feed as a whole where its rows could have been quarantined.
    """
    wrong = _of_kinds(grading, SPOILED)
    missed = [verdict for verdict in wrong if verdict.let_in()]
    expected = [f"{v.feed.status}, {_to_stop(v.feed):,} rows not let in" for v in wrong]
    got = [f"{v.report.status}, {v.let_in():,} of them let in" for v in wrong]
    chart = _chart("Spoiled feeds", wrong, expected, got, missed)
    if shut := _shut(grading):
        return failed(f"{SHUT} spoiled ones were not accepted", *shut, chart)
    stopped, rows = len(wrong) - len(missed), sum(min(v.let_in(), _to_stop(v.feed)) for v in missed)
    value = f"{stopped} of {len(wrong)} feeds, {rows:,} wrong rows let in"
    if missed:
        return failed(
            f"rows were accepted that break a rule: {'; '.join(v.says for v in missed)}", value, "all feeds", chart
        ).showing("let_in", _case_of(missed))
    return passed("nothing that breaks a rule was accepted", value, "all feeds", chart)


def _chart(title: str, verdicts: list[Judged], expected: list[str], got: list[str], wrong: list[Judged]) -> Chart:
    """What was expected of some feeds and what came, those first that are wrong."""
    rows = sorted(zip(verdicts, expected, got, strict=True), key=lambda row: row[0] not in wrong)
    lines = [(v.feed.says, "no" if v in wrong else "yes", e, g) for v, e, g in rows]
    says = f"{len(verdicts) - len(wrong)} of {len(verdicts)} as expected"
    return charts.table(title, ("feed", "as expected", "expected", "got"), lines, says)


def _to_stop(feed: Feed) -> int:
    """How many rows of a feed must not be accepted."""
    return feed.rows if feed.status == "refused" else sum(len(feed.wrong_rows(table)) for table in feed.tables)


def _case_of(missed: list[Judged]) -> pd.DataFrame:
    """For each feed that let something wrong in: what is wrong with it, and what was said."""
    import pandas as pd

    records = [
        {
            "feed": v.place,
            "what": v.feed.says,
            "table": fault.table,
            "column": fault.column,
            "rule": fault.rule,
            "rows": len(fault.rows) or None,
            "expected": v.feed.status,
            "got": v.report.status,
            "wrong_rows_accepted": v.let_in(),
        }
        for v in missed
        for fault in v.feed.faults
    ]
    return pd.DataFrame(records)


@check("data_contract.lets_the_unusual_in", uses=[given, company, found])
@with_all_feeds
def lets_the_unusual_in(grading: Grading) -> Finding:
    """Feeds that are only unusual are accepted whole, without a finding.

    Catches: limits on delays that a storm breaks; cancelled flights taken for missing values; an airport of arrival that has to
    be known; a fixed distance from UTC; types compared to the bit. Accepts: dropping a column the history does not have.
    """
    spoiled = _of_kinds(grading, SPOILED)
    stopped = [v for v in spoiled if v.report.status != "accepted"]
    if len(stopped) < BARS["stopped"] * len(spoiled):
        return failed(
            "most spoiled feeds were accepted whole, so it proves nothing that unusual ones were",
            f"{len(stopped)} of {len(spoiled)} stopped", f"at least {BARS['stopped']:.0%}",
        )  # fmt: skip
    clean = _of_kinds(grading, UNUSUAL)
    alarmed = [v for v in clean if v.report.status != "accepted" or v.rows_accepted != v.feed.rows or v.report.findings]
    chart = _chart("Unusual feeds", clean, ["accepted: no finding"] * len(clean), [_said(v) for v in clean], alarmed)
    value = f"{len(clean) - len(alarmed)} of {len(clean)} feeds accepted"
    if alarmed:
        said = "; ".join(f"{v.says}, {_said(v)}" for v in alarmed)
        return failed(f"feeds that break no rule were not accepted as they are: {said}", value, "all", chart)
    return passed("feeds that are unusual but right are accepted", value, "all", chart)


def _expected_findings(feed: Feed) -> str:
    """What a right report says, in a few words."""
    return f"{feed.status}: {_spelled({(f.table, f.column, f.rule) for f in feed.faults}) or 'no finding'}"


def _said(verdict: Judged) -> str:
    """What a report said, in a few words."""
    return f"{verdict.report.status}: {_spelled(verdict.broken) or 'no finding'}"


@check("data_contract.names_what_is_wrong", uses=[given, company, found])
@with_all_feeds
def names_what_is_wrong(grading: Grading) -> Finding:
    """A stopped feed has the right status, and table, column, rule and rows of what is wrong are named, and nothing else.

    Catches: one rule for everything; a renamed column called missing; right rows quarantined with the wrong ones; a whole feed
    refused for a few rows. Accepts: more findings about the same column of a refused feed.
    """
    spoiled = _of_kinds(grading, SPOILED, PERSONAL)
    stopped = [v for v in spoiled if not v.let_in()]
    if len(stopped) < BARS["stopped"] * len(spoiled):
        raise Owed("most spoiled feeds have to be stopped first: see data_contract.lets_nothing_wrong_in")
    wrong = {v.name: problem for v in stopped if (problem := _misnamed(v))}
    chart = _chart(
        "What was said of feeds that let nothing wrong in",
        stopped,
        [_expected_findings(v.feed) for v in stopped],
        [wrong.get(v.name, _said(v)) for v in stopped],
        [v for v in stopped if v.name in wrong],
    )
    value = f"{len(stopped) - len(wrong)} of {len(stopped)} feeds that let nothing wrong in"
    if wrong:
        said = "; ".join(f"{v.says}: {wrong[v.name]}" for v in stopped if v.name in wrong)
        return failed(f"what is wrong with a feed is not what was said: {said}", value, "all", chart)
    return passed("what was stopped is rightly named, to the row", value, "all", chart)


def _misnamed(verdict: Judged) -> str | None:
    """What is wrong with what was said about a spoiled feed."""
    feed, report = verdict.feed, verdict.report
    if report.status != feed.status:
        return f"expected {feed.status}, got {report.status}"
    expected: set[Broken] = {(f.table, f.column, f.rule) for f in feed.faults if f.rule != "personal_data"}
    got = {found for found in verdict.broken if found[2] != "personal_data" or not feed.secrets}
    if missing := expected - got:
        return f"no finding {_spelled(missing)}; got {_spelled(got) or 'none'}"
    more = got - expected
    if feed.status == "refused":
        places = {(table, column) for table, column, _ in expected}
        more = {(t, c, r) for t, c, r in more if (t, c) not in places and (t, None) not in places}
    if more:
        return f"a finding {_spelled(more)} too many"
    return None if feed.status == "refused" else _misplaced(verdict)


def _spelled(broken: Iterable[Broken]) -> str:
    return ", ".join(
        f"{rule} in {table}{f'.{column}' if column else ''}" for table, column, rule in sorted(broken, key=str)
    )


def _misplaced(verdict: Judged) -> str | None:
    """What is wrong with the rows that were quarantined."""
    counted = {(f.table, _named(f.rule, f.column), f.rule): f.rows for f in verdict.report.findings}
    expected: dict[tuple[str, int], set[tuple[str | None, str]]] = {}
    for fault in verdict.feed.faults:
        for row in fault.rows:
            expected.setdefault((fault.table, row), set()).add((fault.column, fault.rule))
        if fault.rows and counted[(fault.table, fault.column, fault.rule)] != len(fault.rows):
            said = counted[(fault.table, fault.column, fault.rule)]
            return f"the finding {fault.rule} counts {said:,} rows, not {len(fault.rows):,}"
    got = {(table, row): why for table, rows in verdict.quarantined.items() for row, why in rows.items()}
    if innocent := got.keys() - expected.keys():
        return f"{len(innocent):,} rows that break no rule are quarantined"
    otherwise = [row for row, why in expected.items() if got.get(row) != why]
    return f"{len(otherwise):,} rows are quarantined for another rule or column" if otherwise else None


@check("data_contract.keeps_personal_data_out", uses=[given, company, found])
@with_all_feeds
def keeps_personal_data_out(grading: Grading) -> Finding:
    """Columns of mail addresses, telephone and card numbers are named, and nothing of them is written or printed.

    Catches: passing on whatever columns come; examples of bad values in a report or a log; a look at the first rows only; a
    feed refused although the rest of it is right; a column of hashes in its place. Accepts: any handling of columns that hold no
    personal data.
    """
    verdicts = [v for v in _of_kinds(grading, SPOILED, PERSONAL) if v.feed.secrets]
    secrets = [secret for verdict in verdicts for secret in verdict.feed.secrets]
    ran = grading.get(company)
    try:
        hits = grading.reader.search(ran.out.parent, _forms(secrets))
    except Unreadable as problem:
        raise Fault(f"what validate wrote {problem}") from None
    printed = ran.finished.output.lower()
    spilled = sorted(
        {name.split("/", 2)[-1] if name.startswith("out/") else f"MLEKIT_STATE/{name}" for name, _ in hits}
    )
    spilled += ["what it printed"] if any(form.lower() in printed for form in _forms(secrets)) else []
    if spilled:
        return failed(
            f"personal data that came in a column nobody asked for stands in {', '.join(one_line(name, 100) for name in spilled[:4])}",
            f"found in {len(spilled)} places", "nowhere",
        )  # fmt: skip
    for verdict in verdicts:
        wanted = {
            (fault.table, fault.column, fault.rule) for fault in verdict.feed.faults if fault.rule == "personal_data"
        }
        if not wanted <= verdict.broken:
            return failed(
                f"a feed brought {verdict.says}, and no finding personal_data names the column",
                _said(verdict),
                "named",
            )
        kept = [n for t, n, _ in wanted if any(n in part.columns for part in verdict.accepted.get(t, []))]
        if kept:
            return failed(
                f"a feed brought {verdict.says}, and the accepted rows have the column {one_line(str(kept[0]), 60)}; it is to be left out, "
                "whatever stands in it", "there", "left out",
            )  # fmt: skip
        if verdict.report.status == "refused":
            return failed(
                f"a feed that brought {verdict.says} is refused; the column is to be left out, the rows are right",
                "refused", verdict.feed.status,
            )  # fmt: skip
    return passed(
        "columns with personal data are named and left out",
        f"{len(verdicts)} feeds; {len(secrets)} texts searched for, none found",
        "none",
    )


def _forms(secrets: Iterable[str]) -> list[str]:
    """Personal data as it came, and telephone numbers without blanks."""
    return sorted({form for secret in secrets for form in (secret, secret.replace(" ", ""))})


@check("data_contract.judges_each_feed_alone", uses=[given, company, found, alone, other_company])
@with_all_feeds
def judges_each_feed_alone(grading: Grading) -> Finding:
    """A feed gets the same judgement without the others, and under another name.

    Catches: usual values taken from the feeds that came along instead of from the history; rules by the name of the folder; state
    that one feed leaves for the next. Accepts: any order of work.
    """
    first = grading.get(found)
    if len({verdict.report.status for verdict in first.values()}) == 1:
        return failed(
            "every feed got the same judgement, so it proves nothing that it stayed the same", "1 status", "2 or 3"
        )
    runs = {"alone": grading.get(alone), "in other company, in a folder of another name": grading.get(other_company)}
    count = 0
    for how, verdicts in runs.items():
        for name, verdict in verdicts.items():
            count += 1
            if verdict.judgement != first[name].judgement:
                return failed(
                    f"a feed, {verdict.feed.says} ({first[name].place}, {verdict.place}), was judged otherwise {how}",
                    _said(verdict), f"as before, {_said(first[name])}",
                )  # fmt: skip
    return passed("feeds get the same judgement alone and in other company", f"{count} feeds judged again", "the same")
