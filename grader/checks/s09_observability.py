"""Stage 09, observability: what the service counted, kept and printed has to be what we know that it answered."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grader import stages
from grader.checks import charts, predictions, running
from grader.checks.api import Fault, Finding, Grading, Owed, check, failed, passed, work
from grader.checks.asking import PREDICT, got, parsed, question, rows_of
from grader.checks.s06_registry import LINE, given
from grader.checks.s08_serving import wrong_requests
from grader.checks.served import (
    FOLLOWED,
    HEALTHZ,
    READYZ,
    VERSION,
    Disk,
    Service,
    alter,
    copied,
    is_ready,
    service,
    shop,
)
from grader.checks.tracked import log_loss
from grader.contract import Refusal
from grader.contract.observing import (
    COUNTED_SECONDS,
    METRICS,
    METRICS_PATH,
    MODEL,
    OTHER,
    PREDICTIONS,
    PRINTED,
    REQUESTS,
    ROUTES,
    SECONDS,
)
from grader.contract.outputs import OpsAnswer, OutputProblem, PredictAnswer, Prediction, parse_output
from grader.contract.serving import MAX_ROWS, PATIENCE_SECONDS, START_SECONDS
from grader.contract.tables import PREDICTION_LOG
from grader.printable import one_line
from grader.sandbox import Mount
from grader.sandbox.base import MEBI, Argument
from grader.sandbox.reader import Metrics, Table, Unreadable
from grader.services import Answer, Request
from grader.submission import CONTRACT_EXIT_REFUSED, Ran
from grader.verdict import Outcome
from grader.world.build import stream

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

BARS = stages.find("09").bars
CLIENTS = 4
CLOSED, SINGLES, GROUP, UNKNOWN_PATHS, LARGE = 5, 40, 17, 40, 3
KILLS, KILL_ROWS, KILL_AFTER = 3, 400, (5, 15)  # requests of so many rows; killed after so many answers, drawn
HOLDS, HELD_SECONDS, HELD_ROWS, HELD_REQUESTS = 8, 0.8, 400, 40  # times that the service stands still while it is asked
MOST_PRINTED = 64 * MEBI
BUCKETS = 5  # bounds of a histogram that says anything
KINDS = {"string": ("str",), "timestamp[us, UTC]": ("timestamp",), "float64": ("float",), "int64": ("int",)}
ODD_IDS = (  # they come back as something else from whoever reads them as numbers, dates or parts of a text file
    "007",
    "1e5",
    "null",
    "NaN",
    " 12 ",
    "True",
    'a,b;"c"\td',
    "Größe ☂",
    "two\u2028lines\u0085more",  # ends of lines to some, and characters like others to JSON
    "2023-01-01",
    "'); DROP TABLE log; --",
    "x" * 300,
)


TO_REFUSE = (
    (("weather",), "which is none"),
    (("count", "--from", "yesterday"), "which names no time"),
    (("count", "--to", "2023-01-31T12:00:00"), "which is a time without a zone"),
    (("error_rate", "--from", "2023-01-31"), "which is a day and no time"),
    (("version_of_request",), "which names no request"),
)
FULL = "we let every write to MLEKIT_STATE fail for want of room"
AGAIN = "it-comes-again"  # the id of two requests
REFUSED_AGAIN = "it-comes-again-wrongly"  # the same, but the later one is refused
AT_ONE_TIME, SAME_ID = 24, "at-one-time"  # so many requests with one id, several of them at a time
EAST, WEST = timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-7))
BOUNDS = ((1 / 8, 5 / 8), (1 / 4, 3 / 4), (3 / 8, 7 / 8))  # shares of the log between which rows are counted


@dataclass(frozen=True)
class Exchange:
    """A request of ours and what it got; `said` is the answer about rows that were scored."""

    request: Request
    answer: Answer
    said: PredictAnswer | None = None

    @classmethod
    def of(cls, request: Request, answer: Answer) -> Exchange:
        """Raises Owed where an answer of the contract is none."""
        found = cls(request, answer)
        if not found.asks or answer.status != 200:
            return found
        try:
            return replace(found, said=parsed(PredictAnswer, answer, 200, "we asked about rows"))
        except Fault as problem:
            raise Owed(f"the service has to answer rightly first: see stage 08 ({problem})") from None

    @property
    def route(self) -> str:
        path = self.request.path.partition("?")[0]
        return path if path in ROUTES else OTHER

    @property
    def asks(self) -> bool:
        """Whether it belongs into the log."""
        return self.request.method == "POST" and self.route == PREDICT

    @property
    def version(self) -> str:
        return self.said.model_version if self.said else ""

    @property
    def predictions(self) -> list[Prediction]:
        return self.said.predictions if self.said else []

    @property
    def id(self) -> str:
        """The id of the request: that of the answer where rows were scored, else ours."""
        return self.said.request_id if self.said else self.request.headers.get("X-Request-ID", "")


@dataclass(frozen=True)
class Scrape:
    """An answer of `/metrics`, with all that was answered since the scrape before, or since the start."""

    says: str
    answer: Answer
    exchanges: list[Exchange]
    began: float  # wall clock, in gaps between answers
    ended: float


@dataclass
class Record:
    """All that we asked a service and what it answered."""

    service: Service
    all: list[Exchange] = field(default_factory=list)
    scrapes: list[Scrape] = field(default_factory=list)
    personal: list[tuple[str, str]] = field(default_factory=list)  # a secret, and how it was sent
    since: int = 0
    began: float = field(default_factory=time.time)
    offset: float = field(default_factory=lambda: time.time() - time.monotonic())
    printed: Path | None = None  # what it had printed when everything had to have been printed, and it still ran

    def ask(self, *requests: Request, **how: Any) -> list[Exchange]:
        return self.took(requests, self.service.ask(*requests, **how))

    def took(self, requests: Sequence[Request], answers: Iterable[Answer]) -> list[Exchange]:
        """Remember answers, each of which has to be there, whatever it says. Raises Owed."""
        found = []
        for answer in answers:
            if answer.status is None or answer.error is not None:
                ended = self.service.ended()
                why = f"{requests[answer.request].path}: {got(answer)}" + (f"; {ended.sentence()}" if ended else "")
                raise Owed(f"the service has to answer first: see stage 08 ({why})")
            found.append(Exchange.of(requests[answer.request], answer))
        self.all += found
        return found

    def wait(self, request: Request = READYZ) -> None:
        """Raises Owed unless it says 200 in time."""
        found = self.service.wait(START_SECONDS, request)
        self.took([request], [answer for answer in found if answer.status is not None])
        if not is_ready(found):
            ended = self.service.stop()
            if ended.absent:
                raise Owed(f"there is no serve command yet; {ended.sentence()}")
            heard = got(found[-1]) if found else ended.sentence()
            raise Owed(f"the service has to become ready first: see stage 08 ({request.path}: {heard})")

    def follow(self, name: str, version: str, row: Request, seconds: float = 2 * FOLLOWED) -> None:
        """Move the champion, and ask until that answers. Raises Owed."""
        self.service.alter("champion", version)
        deadline = time.monotonic() + seconds
        while {e.version for e in self.ask(*[row] * 3 * CLIENTS, concurrency=CLIENTS)} != {version}:  # of all workers
            if time.monotonic() > deadline:
                raise Owed(f"the service has to follow the champion first ({name}): see stage 08")
            time.sleep(0.1)

    def scrape(self, says: str) -> None:
        """Ask for the metrics, when everything has to have been counted."""
        time.sleep(COUNTED_SECONDS / 2)
        now = time.time()
        time.sleep(COUNTED_SECONDS / 2)
        answer = self.service.ask(Request("GET", METRICS_PATH), deadline=PATIENCE_SECONDS)[0]
        self.scrapes.append(Scrape(says, answer, self.all[self.since :], self.began, now))
        self.since, self.began = len(self.all), now

    def wall(self, monotonic: float) -> float:
        return monotonic + self.offset


# What was asked


def shown(exchanges: Iterable[Exchange]) -> pd.DataFrame:
    """Requests and what they got, for a person."""
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "method": e.request.method, "path": e.request.path, "request_id": e.id, "status": e.answer.status, "version": e.version,
                "rows": len(e.predictions), "milliseconds": round(1000 * (e.answer.done - e.answer.sent), 1),
                "body": (e.request.body or b"")[:400].decode("utf-8", "replace"), "answer": e.answer.body[:400],
            }
            for e in exchanges
        ]
    )  # fmt: skip


def with_id(request: Request, id: str) -> Request:
    return replace(request, headers={**request.headers, "X-Request-ID": id})


def ordinary(grading: Grading, rows: list[dict[str, Any]]) -> list[Request]:
    """Rows one by one and in groups, with odd ids, with faults, and requests for other things."""
    draw = stream(grading.world().seed or 0, "observed")
    asked = [
        question([rows[i]], f"single-{i}" if i % 2 else None) for i in draw.choice(len(rows), SINGLES, replace=False)
    ]
    mixed = [int(i) for i in draw.permutation(len(rows))]
    asked += [question([rows[i] for i in mixed[at : at + GROUP]], f"group-{at}") for at in range(0, 6 * GROUP, GROUP)]
    asked.append(question([{**row, "row_id": id} for row, id in zip(rows, ODD_IDS, strict=False)], "odd-ids.1"))
    asked += [question(rows[:3], "same-rows-1"), question(rows[:3], "same-rows-2"), question(rows[:2], AGAIN)]
    asked.append(question([{**row, "row_id": "one-for-all"} for row in rows[:GROUP]], "one-row-id"))
    asked.append(question(rows[:2], REFUSED_AGAIN))
    asked.append(replace(question(rows[:1], "other-method"), method="PUT"))
    asked.append(replace(question(rows[:1], "other-path"), path="/v1/predictions"))
    wrong = [
        with_id(r, f"wrong-{n}")
        for n, (_, r, _) in enumerate(wrong_requests(rows[0]))
        if len(r.body or b"") < MEBI // 4
    ]
    unknown = [Request("GET", f"/v1/flights/{int(number)}") for number in draw.integers(1, 10**9, UNKNOWN_PATHS)]
    asked += [*wrong, *unknown, HEALTHZ, VERSION, READYZ, Request("GET", "/healthz?from=a-probe")]
    return [asked[int(i)] for i in draw.permutation(len(asked))]


def personal(grading: Grading, row: dict[str, Any]) -> list[tuple[str, str, Request]]:
    """Requests that bring what nobody asked for: a text that occurs nowhere else, how it was sent, and the request."""
    draw = stream(grading.world().seed or 0, "personal")
    made: list[tuple[str, str, Request]] = []

    def add(how: str, make: Callable[[str], Request]) -> None:
        secret = "Quist" + "".join(f"{int(n):02x}" for n in draw.integers(0, 256, 8))
        made.append((secret, how, make(secret)))

    def body(value: Any) -> Request:
        return Request("POST", PREDICT, json.dumps(value).encode())

    add("a further key of a row", lambda s: body({"rows": [{**row, "passenger": f"Marlene {s}"}]}))
    add("a further key beside rows", lambda s: body({"rows": [row], "contact": {"mail": f"{s}@example.org"}}))
    add("a query behind the path", lambda s: replace(question([row]), path=f"{PREDICT}?mail={s}%40example.org"))
    add("a cookie", lambda s: replace(question([row]), headers={"Cookie": f"session={s}"}))
    add("the header Authorization", lambda s: replace(question([row]), headers={"Authorization": f"Bearer {s}"}))
    add("the header User-Agent", lambda s: replace(question([row]), headers={"User-Agent": f"desk of {s}"}))
    add("an id that is not of the allowed form", lambda s: question([row], f"{s}@example.org"))
    add("a number that is a text", lambda s: body({"rows": [{**row, "distance_miles": s}]}))
    add("a text that is an object", lambda s: body({"rows": [{**row, "carrier": {"name": s}}]}))
    add("a time that is none", lambda s: body({"rows": [{**row, "sched_dep": f"{s}, soon"}]}))
    add("a body that is no JSON", lambda s: Request("POST", PREDICT, f'{{"rows": [{{"passenger": "{s}"'.encode()))
    add("a path that is not there", lambda s: Request("GET", f"/v1/passengers/{s}"))
    return made


@work
def observed(grading: Grading) -> Record:
    """A service from its start on: without a champion, with one, with large requests, with another one. Raises Owed."""
    shop_, rows = grading.get(shop), rows_of(grading.get(given).rows.table)
    store = copied(grading, shop_.store, "shop-without-a-champion-to-observe")
    alter(grading, store, "no-champion", "0")
    record = Record(service(grading, "service-observed", store))
    one = question(rows[:1])
    with grading.sandbox.turn:
        record.service.start()
        record.wait(HEALTHZ)
        record.ask(*(question([rows[n]], f"closed-{n}") for n in range(CLOSED)))
        record.scrape(f"we asked {CLOSED} times while there was no champion")
        record.follow("the first one", shop_.versions["own"], one, START_SECONDS)  # it has only just started
        record.ask(*ordinary(grading, rows), concurrency=CLIENTS, deadline=PATIENCE_SECONDS)
        record.scrape(
            f"{CLIENTS} clients asked about rows alone and in groups, wrongly, and for paths that are not there"
        )
        large = [{**rows[n % len(rows)], "row_id": f"large-{n}"} for n in range(MAX_ROWS)]
        small = [question([rows[n]], f"small-{n}") for n in range(2 * LARGE)]
        record.ask(
            *small[:LARGE],
            *(question(large, f"large-{n}") for n in range(LARGE)),
            *small[LARGE:],
            deadline=PATIENCE_SECONDS,
        )
        record.scrape(f"we asked {LARGE} times about {MAX_ROWS:,} rows, and a few times about one")
        record.follow("another one", shop_.versions["better"], one)
        singles = [question([row], f"later-{n}") for n, row in enumerate(rows[:SINGLES])]
        same = [
            question([{**rows[n + k], "row_id": f"at-one-time-{n}-{k}"} for k in range(1 + n % GROUP)], SAME_ID)
            for n in range(AT_ONE_TIME)
        ]
        none = Request("POST", PREDICT, b'{"rows": []}', {"X-Request-ID": REFUSED_AGAIN})
        record.ask(*singles, question(rows[2:5], AGAIN), none, *same, concurrency=CLIENTS)
        record.scrape("we asked about rows alone after another version had become champion")
        requests = personal(grading, rows[0])
        record.personal = [(secret, how) for secret, how, _ in requests]
        record.ask(*(request for _, _, request in requests), deadline=PATIENCE_SECONDS)
        record.scrape("we sent requests with things that nobody asked for")
        hold(record, [{**rows[n % len(rows)], "row_id": f"held-{n}"} for n in range(HELD_ROWS)])
        record.scrape(
            f"we let the service stand still {HOLDS} times for {HELD_SECONDS:g} s while {CLIENTS} clients asked"
        )
        time.sleep(COUNTED_SECONDS)  # twice what it may take: the way from its pipe to our file is not its own
        record.printed = grading.folder("printed-in-time") / "printed"
        shutil.copyfile(record.service.printed, record.printed)
    return record


def hold(record: Record, rows: list[dict[str, Any]]) -> None:
    """Ask, and let the service stand still meanwhile, each time after another answer: some requests take long then, whoever answers.

    Often enough that one is under way by the service's own clock, too, and has not only been sent.
    """
    asked = [question(rows, f"held-{n}") for n in range(HELD_REQUESTS)]
    load = record.service.begin(*asked, concurrency=CLIENTS, deadline=PATIENCE_SECONDS + HOLDS * HELD_SECONDS)
    for _ in range(HOLDS):
        count = len(load.so_far())
        while len(load.so_far()) == count and not load.over():
            time.sleep(0.001)
        assert record.service.running is not None
        with record.service.running.paused():
            time.sleep(HELD_SECONDS)
    record.took(asked, load.answers())


def _held(exchange: Exchange) -> bool:
    """Whether it is one of those during which the service stood still."""
    return exchange.said is not None and exchange.said.request_id.startswith("held-")


@work
def metrics(grading: Grading) -> list[Metrics]:
    """The scrapes of the record, parsed. Raises Owed where there are none."""
    record = grading.get(observed)
    if record.scrapes[0].answer.status == 404:
        raise Owed(f"there is no {METRICS_PATH} yet: see observability.exposes_its_metrics")
    return parsed_scrapes(grading, record.scrapes)


def parsed_scrapes(grading: Grading, scrapes: Sequence[Scrape]) -> list[Metrics]:
    path = grading.folder("scrapes") / "scrapes.json"
    answers = [{"format": s.answer.headers.get("content-type", ""), "text": s.answer.body} for s in scrapes]
    path.write_text(json.dumps(answers))
    try:
        found = grading.reader.metrics(path)
    except Unreadable as problem:
        raise Fault(f"what {METRICS_PATH} answered {problem}") from None
    if len(found) != len(scrapes):
        raise Fault(f"what {METRICS_PATH} answered could not be read")
    return [
        replace(metrics_, problem=s.answer.error) if s.answer.error else metrics_
        for s, metrics_ in zip(scrapes, found, strict=True)
    ]


def readable(grading: Grading) -> list[Metrics]:
    """The scrapes, all of them in order. Raises Owed."""
    found = grading.get(metrics)
    record = grading.get(observed)
    if any(m.problem for m in found) or any(s.answer.status != 200 for s in record.scrapes):
        raise Owed("the metrics have to be readable first: see observability.exposes_its_metrics")
    return found


def summed(found: Metrics, name: str, labels: Sequence[str]) -> Counter[tuple[str, ...]]:
    """The values of a metric, by the values of some of its labels, added up over the others."""
    sums: Counter[tuple[str, ...]] = Counter()
    for sample, has, value in found.samples:
        if sample == name:
            sums[tuple(has.get(label, "") for label in labels)] += value  # type: ignore[assignment]
    return +sums


def grown(before: Metrics | None, now: Metrics, name: str, labels: Sequence[str]) -> dict[tuple[str, ...], float]:
    """By how much a counter grew since the scrape before, or since the start."""
    later = summed(now, name, labels)
    earlier = summed(before, name, labels) if before is not None else Counter[tuple[str, ...]]()
    return {key: later[key] - earlier[key] for key in {*later, *earlier} if later[key] != earlier[key]}


# The metrics


@check("observability.exposes_its_metrics", uses=[*LINE, shop, observed, metrics])
def exposes_its_metrics(grading: Grading) -> Finding:
    """`/metrics` is what the official parser reads, with the metrics of the contract and labels that stay few.

    Catches: text of another make; a series for each path that somebody asks for; an old version that still counts as the one that answers.
    Accepts: both formats, more metrics, more labels.
    """
    record = grading.get(observed)
    first = record.scrapes[0].answer
    what = f"we asked for {METRICS_PATH}"
    if first.status != 200 or first.error is not None:
        raise Fault(f"{what}; it has to get 200, and got {got(first)}")
    scraped: list[Metrics] = grading.get(metrics)
    for scrape, found in zip(record.scrapes, scraped, strict=True):
        what = f"{scrape.says}, and then for {METRICS_PATH}"
        if found.problem is not None or scrape.answer.status != 200:
            raise Fault(f"{what}; {found.problem or got(scrape.answer)}")
        if not scrape.answer.headers.get("content-type", "").startswith(("text/plain", "application/openmetrics-text")):
            raise Fault(f"{what}; its Content-Type is {scrape.answer.headers.get('content-type')!r}")
    last = scraped[-1]
    for name, kind, labels, _ in METRICS:
        family = name.removesuffix("_total")
        if family not in last.families:
            raise Fault(f"{what}; there is no {name}")
        type_, help_ = last.families[family]
        if type_ != kind or not help_.strip():
            return failed(
                f"{what}; {name} has the type {type_} and the help text {help_!r}; it has to be a {kind} with some help",
                type_,
                kind,
            )
        lacking = [label for _, has, _ in _samples(last, name) for label in labels if label not in has]
        if lacking:
            return failed(
                f"{what}; a series of {name} has no label {lacking[0]}", f"no {lacking[0]}", ", ".join(labels)
            )
    strange = {has["route"] for name in (REQUESTS, SECONDS) for _, has, _ in _samples(last, name)} - {
        *ROUTES,
        METRICS_PATH,
    }
    if strange:
        return failed(
            f"{what}; label values of route grow with what people ask for: {sorted(strange)[0]!r}",
            f"{len(strange)} routes of which the contract knows nothing", f"those of the contract, and {OTHER!r}",
        )  # fmt: skip
    shop_ = grading.get(shop)
    for scrape, found, name in zip(record.scrapes[:4], scraped, ("", "own", "own", "better"), strict=False):
        right = {shop_.versions[name]} if name else set()
        said = {version for (version,), value in summed(found, MODEL, ["version"]).items() if value == 1}
        if said != right:
            names, one = ", ".join(sorted(said)) or "no version", ", ".join(right) or "no version"
            return failed(f"{scrape.says}; {MODEL} is 1 for {names}, and it is {one} that answers", names, one)
    return passed(f"{METRICS_PATH} can be read", f"{len(last.samples)} series after {len(record.all)} requests", "few")


def _samples(found: Metrics, name: str) -> list[tuple[str, dict[str, str], float]]:
    names = {name, f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    return [sample for sample in found.samples if sample[0] in names]


@check("observability.counts_what_it_answers", uses=[*LINE, shop, observed, metrics])
def counts_what_it_answers(grading: Grading) -> Finding:
    """After each part of our traffic the counters have grown by what we know that was answered, exactly.

    Catches: refused requests that nobody counts; a version noted at the start; requests counted as rows; a worker that counts for itself.
    Accepts: counting up to a second later; requests for metrics counted or not.
    """
    record, found = grading.get(observed), readable(grading)
    before: Metrics | None = None
    asked = rows = 0
    for scrape, now in zip(record.scrapes, found, strict=True):
        right = Counter((e.route, str(e.answer.status), e.version) for e in scrape.exchanges)
        scored: Counter[str] = Counter()
        for exchange in scrape.exchanges:
            if count := len(exchange.predictions):
                scored[exchange.version] += count
        labels = ("route", "status", "model_version")
        got_ = {k: v for k, v in grown(before, now, REQUESTS, labels).items() if k[0] != METRICS_PATH}
        if problem := _apart(REQUESTS, labels, right, got_):
            return failed(f"{scrape.says}; {problem[0]}", problem[1], problem[2]).showing(
                "requests", shown(scrape.exchanges)
            )
        got_ = grown(before, now, PREDICTIONS, ("model_version",))
        if problem := _apart(PREDICTIONS, ("model_version",), {(v,): n for v, n in scored.items()}, got_):
            return failed(f"{scrape.says}; {problem[0]}", problem[1], problem[2]).showing(
                "requests", shown(scrape.exchanges)
            )
        before, asked, rows = now, asked + len(scrape.exchanges), rows + sum(scored.values())
    return passed("the counters are what we counted", f"{asked:,} requests, {rows:,} rows", "exactly")


def _apart(
    name: str, labels: Sequence[str], right: Mapping[Any, int], found: dict[tuple[str, ...], float]
) -> tuple[str, str, str] | None:
    """Where a counter did not grow as it had to: in words, with both numbers."""
    for key in sorted({*right, *found}):
        if right.get(key, 0) != found.get(key, 0):
            series = ", ".join(f'{label}="{value}"' for label, value in zip(labels, key, strict=True))
            grew, should = f"{found.get(key, 0):g}", f"{right.get(key, 0)}"
            return f"{name}{{{series}}} grew by {grew}, and had to grow by {should}", grew, should
    return None


@check("observability.times_requests", uses=[*LINE, shop, observed, metrics])
def times_requests(grading: Grading) -> Finding:
    """The histogram has one observation for each request, and its seconds are those that callers waited, or a good part of them.

    Catches: milliseconds; a clock started after the work; requests that are refused and not timed; a number that nobody measured.
    Accepts: any bounds that tell anything.
    """
    import numpy as np

    record, found = grading.get(observed), readable(grading)
    for number, (scrape, now) in enumerate(zip(record.scrapes, found, strict=True)):
        before = found[number - 1] if number else None
        right = Counter((e.route,) for e in scrape.exchanges)
        count = {k: v for k, v in grown(before, now, f"{SECONDS}_count", ("route",)).items() if k[0] != METRICS_PATH}
        if problem := _apart(f"{SECONDS}_count", ("route",), right, count):
            return failed(f"{scrape.says}; {problem[0]}", problem[1], problem[2]).showing(
                "requests", shown(scrape.exchanges)
            )
    scrape, now, before = record.scrapes[2], found[2], found[1]
    waited = np.sort([e.answer.done - e.answer.sent for e in scrape.exchanges if e.route == PREDICT])
    said = grown(before, now, f"{SECONDS}_sum", ("route",)).get((PREDICT,), 0.0)
    buckets = grown(before, now, f"{SECONDS}_bucket", ("route", "le"))
    within = {_bound(le): n for (route, le), n in buckets.items() if route == PREDICT}
    bounds = sorted(
        {
            _bound(has.get("le", ""))
            for name, has, _ in now.samples
            if name == f"{SECONDS}_bucket" and has.get("route") == PREDICT
        }
    )
    series = np.array([within.get(b, 0) for b in bounds])
    what = f"{scrape.says}; callers waited {waited.sum():.3f} s in all, and {SECONDS} has {said:.3f} s"
    value, bar = f"{said:.3f} s", f"{waited.sum():.3f} s, or a good part of it"
    if not BARS["share"] * waited.sum() <= said <= (1 + BARS["late"]) * waited.sum() + BARS["lag"] * len(waited):
        return failed(what, value, bar)
    finite = [b for b in bounds if np.isfinite(b)]
    if len(finite) < BUCKETS or (np.diff(series) < 0).any():
        return failed(
            f"{SECONDS} has too few bounds, or counts that fall", f"{len(finite)} bounds", f"{BUCKETS}, rising"
        )
    longest = (1 + BARS["late"]) * waited[-1] + BARS["lag"]
    if above := [b for b in bounds if b >= longest and within.get(b, 0) != len(waited)]:
        found_ = f"{within.get(above[0], 0):.0f} of {len(waited)}"
        return failed(
            f"no caller waited longer than {waited[-1]:.3f} s, and {SECONDS} has {found_} requests within {above[0]:g} s",
            found_, "all",
        )  # fmt: skip
    if problem := held_unseen(record.scrapes[-1], found[-2], found[-1]):
        return failed(*problem)
    seen = {"callers": waited * 1000, "the service, upper bounds": _upper(bounds, series) * 1000}
    chart = charts.shares("What callers waited, and what the service says", "milliseconds", seen)
    return passed(what, value, bar, chart)


def held_unseen(scrape: Scrape, before: Metrics, now: Metrics) -> tuple[str, str, str] | None:
    """Where requests that took long, since the service stood still, are not in the histogram: in words, as found, and as is right."""
    posts = [e for e in scrape.exchanges if e.route == PREDICT]
    longest = max(e.answer.done - e.answer.sent for e in posts)
    said = grown(before, now, f"{SECONDS}_sum", ("route",)).get((PREDICT,), 0.0)
    buckets = grown(before, now, f"{SECONDS}_bucket", ("route", "le"))
    within = {_bound(le): n for (route, le), n in buckets.items() if route == PREDICT}
    below = max((bound for bound in within if bound <= HELD_SECONDS / 2), default=None)
    what = f"{scrape.says}; a caller waited {longest:.1f} s, and {SECONDS}"
    if longest < HELD_SECONDS:  # none was under way just then
        return None
    if below is not None and within[below] >= len(posts):
        return (
            f"{what} has all {len(posts)} requests within {below:g} s",
            f"{within[below]:.0f} of {len(posts)}",
            "fewer",
        )
    if said < HELD_SECONDS / 2:
        return f"{what} has {said:.2f} s for all {len(posts)} requests", f"{said:.2f} s", f"{HELD_SECONDS:g} s at least"
    return None


def _bound(text: str) -> float:
    """Raises Fault."""
    try:
        return float(text)
    except ValueError:
        raise Fault(f"a bucket of {SECONDS} has the bound {text!r}, which is no number") from None


def _upper(bounds: Sequence[float], within: np.ndarray) -> np.ndarray:
    """The upper bounds of so many observations, sorted, shape (n,); those above all bounds get the last one."""
    import numpy as np

    last = max(b for b in bounds if np.isfinite(b))
    each = np.diff(np.concatenate([[0], within])).astype(int)
    return np.repeat([min(b, last) for b in bounds], each)


# The log


@dataclass(frozen=True)
class Entry:
    """A row of the log, without its time."""

    row_id: str | None
    version: str | None
    probability: float | None
    status: int


@dataclass(frozen=True)
class Log:
    """The log by request, as `export-log` wrote it, with the times in seconds since the epoch."""

    entries: dict[str, list[Entry]]
    times: dict[str, list[float]]


@dataclass(frozen=True)
class Export:
    """An export, beside a service that was asked meanwhile: what was answered before it began, and what meanwhile."""

    ran: Ran
    before: list[Exchange]
    meanwhile: list[Exchange]


def read_log(grading: Grading, ran: Ran, what: str) -> Log:
    """Raises Fault."""
    if not ran.ok:
        raise Fault(f"{what}; {ran.sentence()}")
    try:
        table = grading.reader.parquet(ran.out / "log.parquet")
    except Unreadable as problem:
        raise Fault(f"{what}; what it wrote {problem}") from None
    columns = {
        column.name: _values(table, column.name, column.type, column.nullable, what) for column in PREDICTION_LOG
    }
    log = Log({}, {})
    for id, row, at, version, probability, status in zip(*columns.values(), strict=True):
        log.entries.setdefault(id, []).append(Entry(row, version, probability, status))
        log.times.setdefault(id, []).append(at / 1e6)
    return log


def _values(table: Table, name: str, type_: str, nullable: bool, what: str) -> list[Any]:
    if name not in table.columns:
        got = ", ".join(one_line(other, 60) for other in sorted(table.columns)[:8])
        raise Fault(f"{what}; the log has no column {name}; it has {got or 'none'}")
    column = table.columns[name]
    if column.values is None or column.type not in KINDS[type_]:
        raise Fault(f"{what}; {name} is of type {column.type}, and has to be {type_}")
    if not nullable and (empty := column.values.count(None)):
        raise Fault(f"{what}; {name} is null in {empty:,} of {table.rows:,} rows")
    return column.values


@work
def exported(grading: Grading) -> Export:
    """The log, written out while clients ask. Raises Owed."""
    record = grading.get(observed)
    rows = rows_of(grading.get(given).rows.table)
    asked = [question([row]) for row in rows[:SINGLES]]
    before = list(record.all)
    load = record.service.begin(*asked, count=1_000_000, seconds=120, concurrency=2, pause=0.01)
    try:
        ran = export(grading, record.service, "exported")
    finally:
        load.stop()
        meanwhile = record.took(asked, load.answers())
    return Export(ran, before, meanwhile)


def export(grading: Grading, of: Service, label: str) -> Ran:
    """Run `export-log` on the state of a service. Raises Owed."""
    return beside(grading, of, label, "export-log", "log.parquet")


def beside(grading: Grading, of: Service, label: str, command: str, name: str, *more: str) -> Ran:
    """Run a command on the state of a service that goes on. Raises Owed."""
    out = grading.folder(label, grading.limits.disk_mb)
    assert of.running is not None
    argv: list[Argument] = [
        *running.command(grading, command), *more, "--state", Mount(of.out / "state", "state", writable=True),
        "--out", Mount(out / "out", "out", writable=True) / name,
    ]  # fmt: skip
    ran = grading.submission.run(command, argv, [], out, grading.limits, beside=of.running)
    if ran.absent:
        raise Owed(f"there is no {command} command yet; {ran.sentence()}")
    return ran


@check("observability.logs_predictions", uses=[*LINE, shop, observed, exported])
def logs_predictions(grading: Grading) -> Finding:
    """The exported log has each row that was answered once, under its ids to the letter, and labels that come later find theirs.

    Catches: ids that became numbers; probabilities that were rounded; rows joined by their place; refused requests that nobody noted; the
    request's time for the answer's; requests of other methods. Accepts: any form in which it is kept, any order, further columns.
    """
    record, found = grading.get(observed), grading.get(exported)
    what = "we ran export-log while the service went on"
    if lost := [e for e in found.meanwhile if e.answer.status != 200]:
        raise Fault(f"{what}; requests meanwhile have to be answered, and one got {got(lost[0].answer)}")
    log = read_log(grading, found.ran, what)
    if problem := wrong_in(log, found.before, record):
        asked = shown(e for e in found.before if e.asks and e.id in problem[0].split())
        return failed(f"{what}; {problem[0]}", problem[1], problem[2]).showing("requests", asked)
    known = {e.id for e in (*found.before, *found.meanwhile) if e.asks}
    for other in found.before:
        if not other.asks and other.id in log.entries and other.id not in known:
            one = f"{other.request.method} {other.request.path}"
            return failed(
                f"{what}; it has rows of {one}, and is of requests to POST {PREDICT} alone", one, f"POST {PREDICT}"
            )
    personal_ids = sum(e.asks and not e.id for e in found.before)  # refused, with an id of the service's own
    if len(more := set(log.entries) - known) > personal_ids:
        return failed(f"{what}; it has rows of requests that we did not make, such as {sorted(more)[0]!r}",
                      f"{len(more)} requests", f"{personal_ids}")  # fmt: skip
    return passed(*joined(grading, log, known))


def wrong_in(log: Log, exchanges: Iterable[Exchange], record: Record) -> tuple[str, str, str] | None:
    """What is not in a log as it was answered: in words, what was found, and what is right."""
    by_id: dict[str, list[Exchange]] = {}
    for exchange in exchanges:
        if exchange.asks and exchange.id:
            by_id.setdefault(exchange.id, []).append(exchange)
    for id, of in by_id.items():
        if problem := _wrong(log, id, of, record):
            return problem
    return None


def _wrong(log: Log, id: str, of: Sequence[Exchange], record: Record) -> tuple[str, str, str] | None:
    """The same for all requests with one id."""
    right = [entry for exchange in of for entry in _entries(exchange)]
    rows = f"{len(right)} row{'s' if len(right) > 1 else ''}"
    scored = f" for {rows}" if of[-1].predictions else ""
    says = f"request {id} was answered with {of[-1].answer.status}{scored}" + (
        " when it came again" if len(of) > 1 else ""
    )
    found = log.entries.get(id, [])
    if len(found) != len(right):
        return f"{says}; the log has {len(found)} rows of it, and it has to be {len(right)}", f"{len(found)}", rows
    for one, other in zip(sorted(found, key=_order), sorted(right, key=_order), strict=True):
        near = one.probability == other.probability or (
            one.probability is not None and other.probability is not None
            and abs(one.probability - other.probability) <= BARS["probability"]
        )  # fmt: skip
        if not near or replace(one, probability=None) != replace(other, probability=None):
            return f"{says}; the log has a row ({_row(one)}) that has to be ({_row(other)})", _row(one), _row(other)
    early = record.wall(min(e.answer.sent for e in of)) - BARS["clock"]
    late = record.wall(max(e.answer.done for e in of)) + BARS["clock"]
    for at in log.times[id]:
        if not early <= at <= late:
            return (
                f"{says} between {_time(early)} and {_time(late)}; answered_at is {_time(at)}",
                _time(at),
                "between them",
            )
    return None


def _entries(exchange: Exchange) -> list[Entry]:
    """The rows of the log that an answer has to leave."""
    rows = [Entry(p.row_id, exchange.version, p.probability, 200) for p in exchange.predictions]
    return rows or [Entry(None, None, None, exchange.answer.status or 0)]


def _order(entry: Entry) -> tuple[str, str, float]:
    return entry.row_id or "", entry.version or "", entry.probability or 0.0


def _row(entry: Entry) -> str:
    return f"{entry.row_id!r}, version {entry.version}, {entry.probability}, status {entry.status}"[:160]


def _time(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{at:g} seconds after 1970"


def joined(grading: Grading, log: Log, known: Collection[str]) -> tuple[str, str, str, Any]:
    """What the log is for: labels joined to it, and how good each version was."""
    import numpy as np

    given_ = grading.get(given)
    late = dict(zip(given_.rows.table["row_id"], given_.rows.late, strict=True))
    by_version: dict[str, list[tuple[bool, float]]] = {}
    for id, entries in log.entries.items():
        for entry in entries if id in known else ():
            if entry.row_id in late and entry.version is not None and entry.probability is not None:
                by_version.setdefault(entry.version, []).append((late[entry.row_id], entry.probability))
    rows = []
    for version, pairs in sorted(by_version.items()):
        labels, probability = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
        rows.append((f"version {version}", f"{len(pairs):,}", f"{log_loss(labels, probability):.4f}"))
    count = sum(len(pairs) for pairs in by_version.values())
    chart = charts.table(
        "The log, joined to labels that came later", ("", "rows", "log loss"), rows,
        "; ".join(f"{name}: {n} rows, log loss {loss}" for name, n, loss in rows),
    )  # fmt: skip
    total = sum(len(entries) for entries in log.entries.values())
    return "the log is what was answered", f"{total:,} rows, {count:,} of them joined to labels", "each once", chart


@work
def trusted_log(grading: Grading) -> bool:
    """Whether the log is right at all; if not, that is said once."""
    try:
        return logs_predictions(grading).outcome is Outcome.PASS
    except (Fault, Owed):
        return False


def right_log(grading: Grading) -> None:
    """Raises Owed."""
    if not grading.get(trusted_log):
        raise Owed("the log has to be right first: see observability.logs_predictions")


# The questions


@dataclass(frozen=True)
class Asked:
    """A question to `ops`: its arguments, which answers are right (None: it has to be refused), and how those are said."""

    argv: tuple[str, ...]
    right: Callable[[Any], bool] | None
    says: str
    ran: Ran | None = None


def questions(record: Record, log: Log) -> list[Asked]:
    """Questions about the first four parts of the record, whose answers we know; the log tells when each was given."""
    closed, first, large, moved = record.scrapes[:4]
    odd = next(e for e in first.exchanges if e.id == "odd-ids.1")
    again = next(e for e in moved.exchanges if e.id == AGAIN)
    scored = next(e for e in first.exchanges if e.id == REFUSED_AGAIN)
    refused = next(e for e in moved.exchanges if e.id == REFUSED_AGAIN)
    if not odd.predictions or not again.predictions or not scored.predictions or refused.predictions:
        raise Owed("rows under any ids have to be scored, and wrong ones refused, first: see stage 08")
    posts = [e for s in (closed, first) for e in s.exchanges if e.asks]
    rate = sum((e.answer.status or 0) >= 500 for e in posts) / len(posts)
    took = {e.id: e.answer.done - e.answer.sent for e in large.exchanges if e.asks}
    slow = {id for id, seconds in took.items() if seconds >= max(took.values()) / 2}
    begun, over = (min(at for e in s.exchanges if e.asks and e.id for at in log.times[e.id]) for s in (closed, large))

    def is_(value: Any) -> Callable[[Any], bool]:
        return lambda answer: type(answer) is type(value) and answer == value

    def window(*scrapes: Scrape) -> tuple[str, ...]:
        return ("--from", _stamp(scrapes[0].began), "--to", _stamp(scrapes[-1].ended))

    rows = [p.row_id for p in odd.predictions]
    asked = [
        (("version_of_request", "--request-id", odd.id), is_(odd.version), odd.version),
        (("version_of_request", "--request-id", AGAIN), is_(again.version), f"{again.version}, of the later of two requests"),
        (("version_of_request", "--request-id", refused.id), is_(None), "null, since the later of two requests was refused"),
        (("version_of_request", "--request-id", "nobody-asked-this"), is_(None), "null, since there is no such request"),
        (("rows_of_request", "--request-id", odd.id), is_(rows), json.dumps(rows)),
        (("rows_of_request", "--request-id", refused.id), is_([]), "[], since the later of two requests was refused"),
        *(
            (("count", "--from", _stamp(start, EAST), "--to", _stamp(end, WEST)), lambda answer, right=right: answer == right, f"{right}")
            for start, end, right in stretches(log)
        ),
        (
            ("error_rate", "--from", _stamp(begun), "--to", _stamp(over)),
            lambda answer: isinstance(answer, float) and abs(answer - rate) < 1e-9, f"{rate}",
        ),
        (("slowest", *window(large)), lambda answer: answer in slow, " or ".join(sorted(slow))),
    ]  # fmt: skip
    return [Asked(argv, right, says) for argv, right, says in asked]


def stretches(log: Log) -> list[tuple[float, float, int]]:
    """Stretches of time that begin and end when rows were answered, not so many at the one as at the other, and the rows within.

    So whoever puts an answer on the wrong side of a bound, at whichever end, counts other rows.
    """
    rows: Counter[float] = Counter()
    for id, entries in log.entries.items():
        for entry, at in zip(entries, log.times[id], strict=True):
            rows[at] += entry.status == 200
    times = sorted(at for at, count in rows.items() if count)
    found = []
    for from_, to in BOUNDS:
        start = times[int(from_ * len(times))]
        later = times[int(to * len(times)) :]
        end = next((at for at in later if rows[at] != rows[start]), later[0])
        found.append((start, end, sum(rows[at] for at in times if start <= at < end)))
    return found


def _stamp(at: float, zone: timezone = UTC) -> str:
    return datetime.fromtimestamp(at, zone).isoformat()


@work
def questioned(grading: Grading) -> list[Asked]:
    """Raises Owed."""
    grading.settle(exported)
    record = grading.get(observed)
    right_log(grading)
    log = read_log(grading, grading.get(exported).ran, "we ran export-log")
    asked = [*questions(record, log), *(Asked(argv, None, says) for argv, says in TO_REFUSE)]
    return [
        replace(
            one, ran=beside(grading, record.service, f"ops-{number}", "ops", "answer.json", "--question", *one.argv)
        )
        for number, one in enumerate(asked)
    ]


@check("observability.answers_questions", uses=[*LINE, shop, observed, exported, questioned])
def answers_questions(grading: Grading) -> Finding:
    """`ops` answers which version answered a request and for which rows, how many, how many failed and what took longest.

    Catches: a rate by rows instead of requests, or of refused requests; bounds that are not kept, or finer than the exported times; answers
    from memory of the last start; the last that was scored for the last; a zone that was guessed; a refusal of which
    only the exit code tells. Accepts: a whole number as 12 or 12.0.
    """
    asked = grading.get(questioned)
    for one in asked:
        assert one.ran is not None
        what = f"we ran ops --question {' '.join(one.argv)}"
        if one.right is None:
            if one.ran.finished.code != CONTRACT_EXIT_REFUSED:
                ended = one.ran.sentence()[:160]
                return failed(f"{what}, {one.says}; it has to be refused, and {ended}", ended, "exit code 2")
            predictions.read_json(
                grading.reader, Refusal, one.ran.refusal, f"{what}, {one.says}; it ended with exit code 2, but "
            )
            continue
        if not one.ran.ok:
            raise Fault(f"{what}; {one.ran.sentence()}")
        try:
            answer = parse_output(OpsAnswer, grading.reader.json(one.ran.out / "answer.json")).answer
        except (Unreadable, OutputProblem) as problem:
            raise Fault(
                f"{what}; {problem if isinstance(problem, OutputProblem) else f'its answer {problem}'}"
            ) from None
        if not one.right(answer):
            gave = json.dumps(answer, ensure_ascii=False)[:160]
            return failed(f"{what}; it answered {gave}, and right is {one.says[:160]}", gave, one.says[:160])
    return passed("its answers are what we know", f"{len(asked)} questions", "right")


# What it printed


@check("observability.prints_lines", uses=[*LINE, shop, observed])
def prints_lines(grading: Grading) -> Finding:
    """Each request to predict left one line of JSON with its id, route, status, time and version.

    Catches: lines for people only; refused requests that leave none; two lines of one request; an id of the log's own; lines that wait in
    a buffer until the service ends.
    Accepts: more keys, more lines of other kinds, stdout or stderr.
    """
    record = grading.get(observed)
    assert record.printed is not None
    try:
        lines = grading.reader.printed(record.printed, MOST_PRINTED)
    except Unreadable as problem:
        raise Fault(f"what the service printed {problem}") from None
    found: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        if isinstance(line, dict) and all(name in line for name in PRINTED) and isinstance(line["request_id"], str):
            found.setdefault(line["request_id"], []).append(line)
    posts = [e for s in record.scrapes for e in s.exchanges if e.asks and e.id]
    if not found:
        return failed(
            f"the service printed {len(lines):,} JSON objects, and none of them has {', '.join(PRINTED)}",
            "none",
            f"{len(posts)}",
        )
    by_id: dict[str, list[Exchange]] = {}
    for exchange in posts:
        by_id.setdefault(exchange.id, []).append(exchange)
    for id, exchanges in by_id.items():
        if wrong := _wrong_lines(found.get(id, []), id, exchanges):
            return failed(*wrong).showing("requests", shown(exchanges))
    return passed("each request left a line", f"{len(posts)} requests", "1 line each")


def _wrong_lines(lines: Sequence[dict[str, Any]], id: str, of: Sequence[Exchange]) -> tuple[str, str, str] | None:
    """What is wrong with the lines about requests with one id: in words, what was found, and what is right."""
    says = f"request {id} was answered with {of[-1].answer.status}" + (
        f", and came {len(of)} times" if len(of) > 1 else ""
    )
    if len(lines) != len(of):
        return (
            f"{says}; there are {len(lines)} lines about it, and it has to be {len(of)}",
            f"{len(lines)}",
            f"{len(of)}",
        )
    right = sorted((e.route, str(e.answer.status), e.version) for e in of)
    said = sorted((str(line["route"]), str(line["status"]), str(line["model_version"] or "")) for line in lines)
    for one, other in zip(said, right, strict=True):
        if one != other:
            told = str(one)[:120]
            return f"{says}; route, status and version in its line are {told}, and have to be {other}", told, str(other)
    # a service that stood still between the answer and the line counts that time, too
    waited = max(e.answer.done - e.answer.sent for e in of) + (HOLDS * HELD_SECONDS if any(map(_held, of)) else 0.0)
    for seconds in (line["seconds"] for line in lines):
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not number or not 0 <= seconds <= (1 + BARS["late"]) * waited + BARS["lag"]:
            told = f"{seconds!r}"[:60]
            return f"{says} after {waited:.3f} s; `seconds` in its line is {told}", told, f"at most {waited:.3f}"
    return None


@check("observability.keeps_personal_data_out", uses=[*LINE, shop, observed, exported])
def keeps_personal_data_out(grading: Grading) -> Finding:
    """What callers sent and nobody asked for is in no file, line or label.

    Catches: bodies of refused requests in a log; access logs with the query; headers kept for debugging; whole requests in the record.
    Accepts: columns of the request kept with the predictions; further keys ignored or refused.
    """
    record = grading.get(observed)
    if not grading.get(trusted_log):
        raise Owed(
            "there has to be a log before it can be said that nothing personal is in it: see observability.logs_predictions"
        )
    how = dict(record.personal)
    secrets = list(how)
    places: dict[str, set[str]] = {}
    try:
        for folder, name in ((record.service.out, ""), (record.service.printed.parent, "what it printed")):
            for file, secret in grading.reader.search(folder, secrets):
                places.setdefault(secret, set()).add(name or one_line(file, 100))
    except Unreadable as problem:
        raise Fault(f"what the service wrote {problem}") from None
    for scrape in record.scrapes:
        for secret in secrets:
            if secret in scrape.answer.body:
                places.setdefault(secret, set()).add(METRICS_PATH)
    if places:
        import pandas as pd

        rows = [{"sent": how[s], "text": s, "found_in": ", ".join(sorted(places.get(s, ())))} for s in secrets]
        spilled = [f"{how[s]} (in {', '.join(sorted(places[s])[:2])})" for s in secrets if s in places]
        return failed(
            f"we sent something personal in {len(secrets)} ways, and found again what was {'; '.join(spilled)}"[:1000],
            f"{len(places)} of {len(secrets)} found", "none",
        ).showing("personal", pd.DataFrame(rows))  # fmt: skip
    return passed("nothing personal was kept or printed", f"{len(secrets)} texts searched for, none found", "none")


# Killed


@dataclass(frozen=True)
class Killed:
    """What was answered until the service was killed, which happened more than once, and what it tells after its last start."""

    answered: list[Exchange]
    in_work: int
    last: list[Exchange]
    scrape: Scrape
    """What was counted after the last start, which has answered `last` alone."""
    ran: Ran


@work
def killed(grading: Grading) -> Killed:
    """Raises Owed, Fault."""
    grading.settle(exported, questioned)
    record = grading.get(observed)
    running.command(grading, "export-log")
    rows = rows_of(grading.get(given).rows.table)
    draw = stream(grading.world().seed or 0, "kills")
    answered: list[Exchange] = []
    in_work = 0
    asked = [
        question([{**rows[(n + k) % len(rows)], "row_id": f"k{n}"} for n in range(KILL_ROWS)]) for k in range(CLIENTS)
    ]
    for _ in range(KILLS):
        with grading.sandbox.turn:
            load = record.service.begin(
                *asked, count=1_000_000, seconds=60, concurrency=CLIENTS, deadline=PATIENCE_SECONDS
            )
            enough = int(draw.integers(*KILL_AFTER))
            while len(load.so_far()) < enough and not load.over():
                time.sleep(0.001)
            record.service.stop(0)
            load.stop()
            got_ = load.answers()
            in_work += sum(answer.error is not None for answer in got_)
            answered += record.took(asked, [a for a in got_ if a.status is not None and a.error is None])
            record.service.start()
            if not is_ready(found := record.service.wait(START_SECONDS)):
                raise Fault(f"we killed the service under load and started it again; it was not ready after {START_SECONDS} s "
                            f"({got(found[-1]) if found else 'no answer'})")  # fmt: skip
            record.took([READYZ], [answer for answer in found if answer.status is not None])
    with grading.sandbox.turn:
        last = record.ask(*(question([row], f"after-the-kill-{n}") for n, row in enumerate(rows[:CLIENTS])))
        scrape = told(record.service, last)
    return Killed(answered, in_work, last, scrape, export(grading, record.service, "exported-after-kills"))


def told(of: Service, exchanges: list[Exchange]) -> Scrape:
    """What a service has counted since its start, when everything has to have been counted."""
    time.sleep(COUNTED_SECONDS)
    answer = of.ask(Request("GET", METRICS_PATH), deadline=PATIENCE_SECONDS)[0]
    return Scrape("", answer, exchanges, 0.0, 0.0)


def wrong_rows(grading: Grading, scrape: Scrape) -> tuple[str, str, str] | None:
    """Where a service has not counted since its start the rows that it answered; whether its metrics can be read is said elsewhere."""
    if scrape.answer.status != 200:
        return None
    try:
        found = parsed_scrapes(grading, [scrape])[0]
    except Fault:
        return None
    right: Counter[tuple[str, ...]] = Counter()
    for exchange in scrape.exchanges:
        right[(exchange.version,)] += len(exchange.predictions)
    labels = ("model_version",)
    return None if found.problem else _apart(PREDICTIONS, labels, +right, grown(None, found, PREDICTIONS, labels))


@check("observability.survives_a_kill", uses=[*LINE, shop, observed, exported, questioned, killed])
def survives_a_kill(grading: Grading) -> Finding:
    """Killed under load again and again, it has every prediction whose answer we read in its log, once, with all that was there before.

    And counts from 0. Catches: a log written after the answer; one that is buffered, or kept in memory; one that a start begins anew or
    writes twice; counters that go on from the log. Accepts: rows of requests that were in work, or none of them.
    """
    right_log(grading)
    record, found = grading.get(observed), grading.get(killed)
    what = f"we killed the service {KILLS} times under load and started it again"
    for exchange in found.last:
        if exchange.answer.status != 200:
            raise Fault(f"{what}; a request has to get 200, and got {got(exchange.answer)}")
    log = read_log(grading, found.ran, f"{what}; we ran export-log")
    before = grading.get(exported)
    everything = [e for e in (*before.before, *before.meanwhile, *found.answered, *found.last) if e.asks and e.id]
    lost = [e for e in everything if e.id not in log.entries]
    if lost:
        return failed(
            f"{what}; requests whose answers we had read are not in the log afterwards",
            f"{len(lost)} of {len(everything):,}",
            "none",
        )
    if problem := wrong_in(log, everything, record):
        return failed(f"{what}; {problem[0]}", problem[1], problem[2])
    ours = {e.id for e in everything}
    more = set(log.entries) - ours
    room = found.in_work + KILLS * CLIENTS + sum(e.asks and not e.id for e in before.before)
    if len(more) > room:
        return failed(f"{what}; the log has requests that we never got an answer to", f"{len(more)}", f"at most {room}")
    if problem := wrong_rows(grading, found.scrape):
        return failed(
            f"{what}, and asked about {len(found.last)} rows; counting begins at 0 with each start, and {problem[0]}",
            problem[1],
            problem[2],
        )
    return passed("everything that was answered is in the log, once",
                  f"{len(found.answered)} requests around {KILLS} kills, {len(everything):,} in all", "none lost")  # fmt: skip


# On a full disk


@dataclass(frozen=True)
class Filled:
    """Requests before, while and after the disk was full, as three lists, what was counted, and the log then."""

    answers: tuple[list[Exchange], list[Exchange], list[Exchange]]
    scrape: Scrape | None
    """None where some got no answer: whether those are counted is for the service to decide."""
    ran: Ran


@work
def filled(grading: Grading) -> Filled:
    """A service of its own, whose writes can be made to fail. Raises Owed, Fault, Unavailable."""
    grading.settle(exported, questioned, killed)
    rows = rows_of(grading.get(given).rows.table)
    made = service(grading, "service-on-a-full-disk", grading.get(shop).store)
    disk = Disk(grading, made)
    record = Record(made)
    asked = [question([row]) for row in rows[:SINGLES]]
    with grading.sandbox.turn:
        disk.start()
        record.wait(READYZ)
        found = [record.ask(*asked, concurrency=CLIENTS, deadline=PATIENCE_SECONDS)]
        disk.set("full")
        answers = made.ask(*asked, concurrency=CLIENTS, deadline=PATIENCE_SECONDS)
        found.append([Exchange.of(asked[a.request], a) for a in answers if a.error is None])
        disk.set("none")
        try:
            record.wait(READYZ)
            found.append(record.ask(*asked, concurrency=CLIENTS, deadline=PATIENCE_SECONDS))
        except Owed as problem:  # it was well before
            raise Fault(f"{FULL}, and then there was room again; {problem}") from None
        scrape = told(made, [e for part in found for e in part]) if len(found[1]) == len(asked) else None
    return Filled((found[0], found[1], found[2]), scrape, export(grading, made, "exported-after-a-full-disk"))


@check("observability.answers_only_what_it_keeps", uses=[*LINE, shop, observed, exported, questioned, killed, filled])
def answers_only_what_it_keeps(grading: Grading) -> Finding:
    """While nothing can be written to its disk it answers nothing that is not in the log; afterwards all is as before.

    Catches: an error of writing that is swallowed; a service that ends, or stays ill, or has lost what was there; rows counted whose
    answer was held back.
    Accepts: 503 or another 5xx, or no answer at all; a log that had room left.
    """
    right_log(grading)
    found = grading.get(filled)
    before, full, after = found.answers
    what = FULL
    for exchange in after:
        if exchange.answer.status != 200:
            raise Fault(
                f"{what}, and then there was room again; a request has to get 200, and got {got(exchange.answer)}"
            )
    log = read_log(grading, found.ran, f"{what}; then we ran export-log")
    for when, exchanges in (("before that", before), ("during that", full), ("after that", after)):
        scored = [e for e in exchanges if e.predictions]
        if lost := [e for e in scored if len(log.entries.get(e.id, [])) != 1]:
            value = f"{len(lost)} of {len(scored)} answers"
            return failed(f"{what}; {value} that were given {when} are not in the log once", value, "none")
    if found.scrape is not None and (problem := wrong_rows(grading, found.scrape)):
        return failed(f"{what}, and then there was room again; {problem[0]}", problem[1], problem[2])
    turned = sum(not e.predictions for e in full)
    return passed(
        "it answered nothing that it could not keep", f"{turned} of {len(full)} turned away", "all in the log"
    )
