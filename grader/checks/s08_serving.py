"""Stage 08, the service: the same answers over HTTP as in batch, the truth about itself, and none lost whatever happens meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from grader import services, stages
from grader.checks import asking, charts, predictions, running
from grader.checks.api import Fault, Finding, Grading, Owed, check, failed, passed, work
from grader.checks.asking import got, parsed, predicted, question, rows_of
from grader.checks.s06_registry import LINE, given, trained
from grader.checks.served import (
    FOLLOWED,
    HEALTHZ,
    READYZ,
    REFRESH_SECONDS,
    VERSION,
    Service,
    alter,
    altered,
    altering,
    copied,
    is_ready,
    service,
    shop,
    version_of,
)
from grader.contract.outputs import PredictAnswer, Prediction, Readiness
from grader.contract.outputs import Running as Told
from grader.contract.serving import (
    BACK_SECONDS,
    GRACE_SECONDS,
    MAX_BODY_MB,
    MAX_ROWS,
    PATIENCE_SECONDS,
    START_SECONDS,
    STOP_SECONDS,
)
from grader.sandbox import Mount
from grader.sandbox.base import Job
from grader.sandbox.reader import INSIDE, TOOL_ENVIRONMENT, Unreadable
from grader.services import HOST, Answer, Request
from grader.submission import Ran
from grader.verdict import Outcome
from grader.world.build import stream

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

BARS = stages.find("08").bars
OTHER_HOST = "127.0.0.2"  # also the loopback, and not the address that it was told
SINGLES, GROUP = 40, 17  # rows asked one by one, and how many are asked together
LOAD, LEAST, MOST = 4, 200, 2_000  # clients at a time; requests during the swaps, at least and about
PACE_SECONDS, PACE_ROUNDS = 2.0, 2
FRESH = 180  # rows that nobody asks about before the pace is measured: an answer that was kept says nothing of it
BURST_LEAST, BURST_MOST = 50, 400
BURST_APART = 4  # large requests for each that asks whether the service is alive
ELSEWHERE = timezone(timedelta(hours=5, minutes=45))
HELD_SECONDS, HELD_PAUSE = 5.0, 0.1  # for which the registry's database is locked, and between two requests meanwhile
AIRBORNE_SECONDS = 0.05  # after which a request that was sent has arrived


@dataclass(frozen=True)
class Opened:
    """The first start of the service: what `/readyz` said until it was ready, and the answers right after that."""

    service: Service
    waited: list[Answer]
    seconds: float
    after: list[Answer]  # predict, healthz, version
    ended: Ran | None = None  # how it ended, or was ended, where it did not become ready


@work
def opened(grading: Grading) -> Opened:
    """Raises Owed where there is no such command."""
    made = service(grading, "service", grading.get(shop).store)
    with grading.sandbox.turn:
        began = time.monotonic()
        made.start()
        waited = made.wait(START_SECONDS)
        seconds = time.monotonic() - began
        if not is_ready(waited):
            ended = made.stop()
            if ended.absent:
                raise Owed(f"there is no serve command yet; {ended.sentence()}")
            return Opened(made, waited, seconds, [], ended)
        after = made.ask(question(rows_of(grading.get(given).rows.table)[:3]), HEALTHZ, VERSION)
    return Opened(made, waited, seconds, after)


def ready_service(grading: Grading) -> Service:
    """The service, ready; started again where it has ended. Raises Owed, Fault."""
    found = grading.get(opened)
    if not is_ready(found.waited):
        raise Owed("the service has to become ready first: see serving.ready_when_it_can_answer")
    if not found.service.is_there():
        found.service.stop()
        found.service.alter("champion", grading.get(shop).versions["own"])
        with grading.sandbox.turn:
            found.service.start()
            if not is_ready(found.service.wait(START_SECONDS)):
                raise Fault("the service had ended, and started again it did not become ready")
    # whether it says the truth about that is another question
    found.service.wait(FOLLOWED, question(rows_of(grading.get(given).rows.table)[:1]))
    return found.service


# Its answers


@dataclass(frozen=True)
class Batch:
    """Rows with some odd ones at the end, what `predict` says of them, and what the service says, by request.

    What was asked: rows, their places among all, and the id of the request. A `row_id` says nothing: some have that of others.
    """

    rows: list[dict[str, Any]]
    batch: np.ndarray
    asked: list[tuple[list[dict[str, Any]], list[int], str | None]]
    answers: list[Answer]


ODD = 12
OTHER_IDS = ("x" * 65, "two words", "<script>alert(1)</script>")  # none of the form that ids have


def odd_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows with categories never seen, nothing where nothing may be, times in no order, and numbers far away.

    They have no right answer but one, and nobody may refuse them.
    """
    import pandas as pd

    odd = table.iloc[:ODD].copy()
    odd["row_id"] = [f"odd-{number}" for number in range(len(odd))]
    odd["tailnum"], odd["sched_arr"] = odd["tailnum"].astype(object), odd["sched_arr"].astype(object)
    departs, origins = list(odd["sched_dep"]), list(odd["origin"])
    for number, (column, value) in enumerate(
        (
            ("tailnum", None), ("sched_arr", pd.NaT), ("carrier", "Q9"), ("dest", "ÅÄÖ"), ("distance_miles", 1e9),
            ("distance_miles", -5.0), ("flight_no", 99_999_999), ("origin", "XXX"), ("sched_arr", departs[8] - pd.Timedelta("1h")),
            ("dest", origins[9]), ("carrier", ""), ("sched_dep", departs[11] + pd.Timedelta("3650D")),
        )
    ):  # fmt: skip
        odd.loc[odd.index[number], column] = value
    odd["sched_arr"] = pd.to_datetime(odd["sched_arr"], utc=True).astype(table["sched_arr"].dtype)
    return pd.concat([table, odd], ignore_index=True)


@work
def batch(grading: Grading) -> np.ndarray:
    """What `predict` says of the rows, shape (n,), with the model that the service begins with."""
    import numpy as np

    given_, shop_ = grading.get(given), grading.get(shop)
    table = odd_rows(given_.rows.table)
    rows = replace(given_.rows, table=table, late=np.zeros(len(table), bool))
    uri = f"models:/{given_.model}/{shop_.versions['own']}"
    ran = running.predict_run(grading, "predict-champion", uri, rows, given_.data, tracking=shop_.store)
    if not ran.ok:
        raise Owed(f"predict with the URI of a registered model is owed from stage 06; {ran.sentence()}")
    return predictions.read(grading.reader, ran.out / "predictions.parquet", rows)


def fresh_rows(grading: Grading) -> range:
    """The places of the rows that are kept for measuring the pace."""
    count = len(grading.get(given).rows.table)
    return range(count - FRESH, count)


@work
def scored(grading: Grading) -> Batch:
    found = ready_service(grading)
    table = odd_rows(grading.get(given).rows.table)
    rows = rows_of(table)
    for number, row in enumerate(rows):
        if number % 2:  # what may be null may also be left out
            for name in ("tailnum", "sched_arr"):
                if row[name] is None:
                    del row[name]
        if number % 3 == 0:  # the same instant, by the clock of another place
            row["sched_dep"] = datetime.fromisoformat(row["sched_dep"]).astimezone(ELSEWHERE).isoformat()
    draw = stream(grading.world().seed or 0, "requests")
    fresh = fresh_rows(grading)
    places = [i for i in range(len(rows)) if i not in fresh]
    mixed = [int(i) for i in draw.permutation(places)]
    chosen: list[tuple[list[int], str | None]] = [(places, "all-of-them.1")]
    chosen.append(([*range(len(rows) - ODD, len(rows)), 0], None))
    chosen += [([int(i)], f"one-{i}" if i % 2 else None) for i in draw.choice(places, SINGLES, replace=False)]
    chosen += [(mixed[at : at + GROUP], None) for at in range(0, len(mixed), GROUP)]
    asked = [([rows[i] for i in some], some, id) for some, id in chosen]
    one, other = mixed[:GROUP], mixed[GROUP : 2 * GROUP]
    asked.append(([{**rows[i], "row_id": "one-for-all"} for i in one], one, "one-row-id"))
    asked.append(
        ([{**rows[i], "row_id": rows[j]["row_id"]} for i, j in zip(one, other, strict=True)], one, "row-ids-of-others")
    )
    asked += [([rows[i]], [i], id) for i, id in zip(mixed, OTHER_IDS, strict=False)]
    made = [question(some, id) for some, _, id in asked]
    with grading.sandbox.turn:
        got_ = found.ask(*made, concurrency=LOAD)
    got_.sort(key=lambda answer: answer.request)
    return Batch(rows, grading.get(batch), asked, got_)


@check("serving.answers_like_batch", uses=[*LINE, shop, opened, batch, scored])
def answers_like_batch(grading: Grading) -> Finding:
    """The same rows get the same probabilities over HTTP as from `predict`, alone, together, in any order and at the same time.

    Catches: features made anew for the service; scores that depend on neighbours; an answer sorted; the version of another model; rows
    known by their `row_id`, or refused since they are odd; any text taken for the id of a request. Accepts: any server, any batching.
    """
    import numpy as np

    shop_, found = grading.get(shop), grading.get(scored)
    most, ids = 0.0, set()
    for (rows, places, id), answer in zip(found.asked, found.answers, strict=True):
        what = f"we asked about {len(rows)} row{'s' if len(rows) > 1 else ''}" + (f" as request {id!r}" if id else "")
        said = predicted(answer, rows, what)
        if said.model_version != shop_.versions["own"]:
            raise Fault(f"{what}; model_version is {said.model_version}, and the champion is {shop_.versions['own']}")
        if id in OTHER_IDS and said.request_id == id:
            return failed(
                f"{what}; the id came back, and it is of another form than ids are: one has to be made in its place",
                id[:40], "up to 64 letters, digits, -, _ and .",
            )  # fmt: skip
        if answer.headers.get("x-request-id") != said.request_id or id not in (None, *OTHER_IDS, said.request_id):
            header = answer.headers.get("x-request-id")
            raise Fault(f"{what}; its answer has request_id {said.request_id!r} and the header X-Request-ID {header!r}")
        ids.add(said.request_id)
        over_http, right = np.array([p.probability for p in said.predictions]), found.batch[places]
        apart = np.abs(over_http - right)
        at = int(apart.argmax())
        worst = float(apart[at])
        most = max(most, worst)
        if worst > BARS["batch"]:
            return failed(
                f"{what}; {int((apart > BARS['batch']).sum())} of them get something else than from predict with the same model and data, "
                f"most of all row {rows[at]['row_id']} with sched_dep {rows[at]['sched_dep']}: {over_http[at]:.6f} over HTTP and "
                f"{right[at]:.6f}",
                f"{worst:.2g} apart", f"at most {BARS['batch']:g}",
            )  # fmt: skip
    if len(ids) < len(found.asked):
        return failed("two requests got the same request_id", f"{len(ids)} ids", f"{len(found.asked)}")
    own = found.batch[: len(shop_.says["own"])]
    beside = float((np.abs(own - shop_.says["own"]) > BARS["equal"]).mean())
    if beside > BARS["beside"]:
        return failed(
            "the probabilities are not those of the champion on the right features", f"{beside:.0%} differ", "none"
        )
    return passed("HTTP and batch say the same", f"at most {most:.2g} apart", f"{BARS['batch']:g}")


# A registry without a champion, one that gets one, and one that is gone


@dataclass
class Story:
    """A service in front of a registry that has no champion, then one, then cannot be read, and comes back.

    What was not reached is empty.
    """

    service: Service
    closed: list[Answer] = field(default_factory=list)  # readyz, predict, healthz, version, without a champion
    waited: list[Answer] = field(default_factory=list)  # readyz, after there was one
    opened: list[Answer] = field(default_factory=list)  # predict, then
    beside: list[Answer] = field(default_factory=list)  # predict, of the other service at that time
    held: list[Answer] = field(default_factory=list)  # predict and healthz, while the registry's database is locked
    gone: list[Answer] = field(default_factory=list)  # predict and readyz, while the registry cannot be read
    half: list[Answer] = field(default_factory=list)  # predict: another champion, and the files of no model
    mended: list[Answer] = field(default_factory=list)  # predict, until the champion of the mended registry answers
    again: list[Answer] = field(default_factory=list)  # healthz, readyz and predict in turn, started again without it
    back: list[Answer] = field(default_factory=list)  # predict, until the registry's next champion answers
    ended: str = ""  # why it went no further
    patience: float = FOLLOWED
    """Seconds that it had to become ready, once there was a champion: more where it had only just started."""


@work
def story(grading: Grading) -> Story:
    grading.settle(opened)
    shop_, rows = grading.get(shop), rows_of(grading.get(given).rows.table)[:3]
    made = service(grading, "service-without-a-champion", shop_.store)
    told = Story(made)
    predict = question(rows)
    with grading.sandbox.turn:
        bare = copied(grading, shop_.store, "shop-without-a-champion")
        alter(grading, bare, "no-champion", "0")
        made.store = bare
        began = time.monotonic()
        made.start()
        if not is_ready(made.wait(START_SECONDS, HEALTHZ)):
            return _cut(told, "it did not answer /healthz")
        time.sleep(FOLLOWED)  # by now it has looked, and found none
        told.closed = made.ask(READYZ, predict, HEALTHZ, VERSION)
        made.alter("champion", shop_.versions["better"])
        told.patience = max(FOLLOWED, began + START_SECONDS - time.monotonic())
        told.waited = made.wait(told.patience)
        if not is_ready(told.waited):
            return _cut(told, "it did not become ready when there was a champion")
        told.opened = made.ask(predict)
        told.beside = grading.get(opened).service.ask(predict)
        holding = altering(grading, made.own_store, "hold", str(HELD_SECONDS))
        count = round(HELD_SECONDS / HELD_PAUSE)
        told.held = made.ask(
            predict, HEALTHZ, count=count, seconds=HELD_SECONDS + 0.5, pause=HELD_PAUSE, deadline=PATIENCE_SECONDS
        )
        altered(holding, "hold")
        made.alter("break")
        told.gone = made.ask(predict, READYZ, count=12, pause=(2 * REFRESH_SECONDS + 1) / 12)
        made.alter("hide")
        made.alter("mend")
        made.alter("champion", shop_.versions["best"])
        told.half = made.ask(predict, count=6, pause=(2 * REFRESH_SECONDS + 1) / 6)
        made.alter("show")
        told.mended = _followed(made, predict, shop_.versions["best"])
        made.alter("break")
        made.stop()
        made.start()
        if not is_ready(made.wait(START_SECONDS, HEALTHZ)):
            return _cut(told, "started again while the registry cannot be read, it did not answer /healthz")
        made.wait(GRACE_SECONDS / 2)
        asked = (HEALTHZ, READYZ, predict)
        told.again = made.ask(*asked, count=12, pause=(2 * REFRESH_SECONDS + 1) / 12, deadline=PATIENCE_SECONDS)
    made.alter("mend")
    made.alter("champion", shop_.versions["better"])
    told.back = _followed(made, predict, shop_.versions["better"])
    made.stop()
    return told


def _followed(made: Service, predict: Request, version: str) -> list[Answer]:
    """Ask a service whose registry is there again until the champion of now answers, or for as long as it may take."""
    deadline = time.monotonic() + BACK_SECONDS
    found = made.ask(predict)
    while version_of(found[0]) != version and time.monotonic() < deadline and made.ended() is None:
        time.sleep(0.2)
        found = made.ask(predict)
    return found


def _cut(told: Story, why: str) -> Story:
    ran = told.service.stop()
    told.ended = f"{why}; {ran.sentence()}"
    return told


@work
def trusted(grading: Grading) -> bool:
    """Whether the service gives the right numbers at all; if not, that is said once."""
    try:
        return answers_like_batch(grading).outcome is Outcome.PASS
    except Fault:
        return False


@contextmanager
def right_numbers(grading: Grading) -> Iterator[None]:
    """What is at fault in here counts only for a service whose numbers are right. Raises Owed, Fault."""
    try:
        yield
    except Fault:
        if not grading.get(trusted):
            raise Owed("the service has to give right answers first: see serving.answers_like_batch") from None
        raise


def says_right(grading: Grading, answer: Answer, name: str, what: str) -> None:
    """See that the first three rows got what a version says. Raises Owed, Fault."""
    shop_, rows = grading.get(shop), rows_of(grading.get(given).rows.table)[:3]
    with right_numbers(grading):
        said = predicted(answer, rows, what)
        if said.model_version != shop_.versions[name]:
            raise Fault(f"{what}; model_version is {said.model_version}, and it has to be {shop_.versions[name]}")
        apart = [abs(p.probability - right) for p, right in zip(said.predictions, shop_.says[name], strict=False)]
        if sorted(apart)[1] > BARS["equal"]:  # one of three may differ where two engines see another feature
            raise Fault(f"{what}; the probabilities are not those of version {shop_.versions[name]}, which it names")


# an answer, its rows, and their places among all rows
About = tuple[Answer, Sequence[Mapping[str, Any]], Sequence[int]]


def wrong_numbers(grading: Grading, told: About, what: str) -> bool:
    """Whether an answer is not that of the version that it names. Raises Owed, Fault."""
    import numpy as np

    shop_, (answer, rows, places) = grading.get(shop), told
    with right_numbers(grading):
        said = predicted(answer, rows, what)
    name = next((name for name, version in shop_.versions.items() if version == said.model_version), None)
    if name is None or name not in shop_.says:
        kind = "one that cannot be loaded" if name else "no champion"
        raise Fault(f"{what}; an answer names version {said.model_version}, which is {kind}")
    apart = np.abs(np.array([p.probability for p in said.predictions]) - shop_.says[name][list(places)])
    return bool((apart > BARS["equal"]).mean() > BARS["beside"])


def wrong_answers(grading: Grading, told: Sequence[About], what: str) -> Finding | None:
    """What is wrong where more than a few answers are not those of the versions that they name. Raises Owed, Fault."""
    wrong = sum(wrong_numbers(grading, one, what) for one in told)
    if wrong <= BARS["beside"] * len(told):
        return None
    if not grading.get(trusted):
        raise Owed("the service has to give right answers first: see serving.answers_like_batch")
    return failed(f"{what}; answers are not those of the version that they name", f"{wrong:,} of {len(told):,}", "none")


def says_alive(answer: Answer, what: str) -> None:
    """See that /healthz said 200. Raises Fault."""
    if answer.status != 200:
        raise Fault(f"{what}; /healthz has to get 200, since the process is alive, and got {got(answer)}")


NOT_YET = ("the connection was refused", "the connection was closed without an answer")


@check("serving.ready_when_it_can_answer", uses=[*LINE, shop, opened, batch, scored, story])
def ready_when_it_can_answer(grading: Grading) -> Finding:
    """`/readyz` says 200 when requests would be answered, and 503 with a reason when not; `/healthz` tells only of the process.

    Catches: ready before the model is there; a service that ends, or stays unready, where there is no champion at first.
    Accepts: answering before the model is loaded, or only then.
    """
    found, shop_ = grading.get(opened), grading.get(shop)
    what = "we started serve in front of a registry with a champion"
    if found.ended is not None and found.ended.finished.ended == "exited":
        raise Fault(f"{what}; {found.ended.sentence()}")
    for answer in found.waited[:-1]:
        if answer.status is not None or answer.error not in NOT_YET:
            parsed(Readiness, answer, 503, f"{what} and asked /readyz before it was ready")
    if found.ended is not None:
        heard = got(found.waited[-1]) if found.waited else "there was none"
        printed = f"; it printed: {found.ended.telling_line}" if found.ended.telling_line else ""
        return failed(
            f"{what}; it was not ready in time; the last answer: {heard}{printed}",
            f"not in {found.seconds:.0f} s",
            f"{START_SECONDS} s",
        )
    said = parsed(Readiness, found.waited[-1], 200, f"{what} and asked /readyz")
    if not said.ready:
        return failed(f"{what}; /readyz has status 200 and says that it is not ready", "ready: false", "ready: true")
    first, alive, version = found.after
    says_right(grading, first, "own", f"{what} and asked for a prediction as soon as it said that it was ready")
    if alive.status != 200:
        raise Fault(f"{what}; /healthz has to get 200, and got {got(alive)}")
    told = parsed(Told, version, 200, f"{what} and asked /version")
    if (told.model_name, told.model_version, told.run_id) != (
        grading.get(given).model,
        shop_.versions["own"],
        grading.get(trained).run_id,
    ):
        is_now = f"{told.model_name}, version {told.model_version}, run {told.run_id}"
        return failed(f"{what}; /version tells of another model", is_now,
                      f"{grading.get(given).model}, version {shop_.versions['own']}, run {grading.get(trained).run_id}")  # fmt: skip
    later = grading.get(story)
    what = "we started serve in front of a registry without a champion"
    if not later.closed:
        raise Fault(f"{what}; {later.ended}")
    ready, predict, alive, version = later.closed
    parsed(Readiness, ready, 503, f"{what} and asked /readyz")
    asking.value_of(predict, 503, f"{what} and asked for a prediction")
    says_alive(alive, what)
    if parsed(Told, version, 200, f"{what} and asked /version").model_version is not None:
        raise Fault(f"{what}; /version names a version")
    what = "we started serve without a champion, and then there was one"
    if not is_ready(later.waited):
        last = later.waited[-1] if later.waited else None
        return failed(f"{what}; {later.ended} (the last answer was {got(last) if last else 'none'})",
                      f"not in {later.patience:.0f} s", f"{later.patience:.0f} s")  # fmt: skip
    says_right(grading, later.opened[0], "better", f"{what}; it said that it was ready")
    return passed("it says that it is ready when it is", f"ready after {found.seconds:.1f} s", f"{START_SECONDS} s")


@check("serving.outlives_the_registry", uses=[*LINE, shop, opened, batch, scored, story])
def outlives_the_registry(grading: Grading) -> Finding:
    """A registry that cannot be read takes nothing away; the service starts without it, or says that it cannot, and follows it again.

    Catches: a look at the registry for each request, or where requests wait for it; an end at the start; a model that is never looked
    up again, or never tried again.
    Accepts: the last model kept, or the truth that there is none; models fetched before they are champion.
    """
    found = grading.get(story)
    if not found.opened or found.opened[0].status != 200:
        raise Owed("the service has to become ready first: see serving.ready_when_it_can_answer")
    what = f"we locked the registry's database for {HELD_SECONDS:g} s while the service ran"
    for answer in found.held:
        if answer.request == 0:
            says_right(grading, answer, "better", what)
        else:
            says_alive(answer, what)
    waited = max(answer.done - answer.sent for answer in found.held)
    if waited > BARS["waits"]:
        return failed(f"{what}; a request waited for it", f"{waited:.1f} s", f"{BARS['waits']:g} s")
    what = "we made the registry's database unreadable while the service ran"
    for answer in found.gone:
        if answer.request == 0:
            says_right(grading, answer, "better", what)
        else:
            parsed(Readiness, answer, 200, f"{what} and asked /readyz")
    half = "we gave the registry back, with another champion, but the files of no model"
    for answer in found.half:  # whoever had kept that model as well may answer with it
        name = "best" if version_of(answer) == grading.get(shop).versions["best"] else "better"
        says_right(grading, answer, name, half)
    says_right(grading, found.mended[0], "best", f"{half}, and then these too")
    if not found.again:
        raise Fault(f"{what}; {found.ended}")
    what = "we started the service again while the registry's database was unreadable"
    how = "it said that it was not ready"
    for answer in found.again:
        if answer.request == 0:
            says_alive(answer, what)
        elif answer.request == 1 and answer.status == 200:
            how = "the last model answered"
        elif answer.request == 1:
            parsed(Readiness, answer, 503, what)
        elif answer.status == 200 or how == "the last model answered":
            says_right(grading, answer, "best", f"{what}; it said that it was ready")
        else:
            asking.value_of(answer, 503, f"{what}; it said that it was not ready, and a prediction")
    says_right(grading, found.back[0], "better", f"{what}, and gave it back, with another champion")
    return passed("what was loaded went on answering", how, "the last model, or the truth")


# Its place


@work
def taken(grading: Grading) -> tuple[Ran | None, list[Answer], list[Answer]]:
    """A second service on the port of the first: how it ended, what the first says then, and what another address says."""
    first = ready_service(grading)
    second = service(grading, "service-on-a-taken-port", grading.get(shop).store, first.port)
    with grading.sandbox.turn:
        second.start()
        deadline = time.monotonic() + START_SECONDS
        while second.ended() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    ended = second.ended()
    if ended is None:
        second.stop()
    elsewhere = first.client.ask(f"http://{OTHER_HOST}:{first.port}", [HEALTHZ], deadline=5).answers()
    return ended, first.ask(question(rows_of(grading.get(given).rows.table)[:3])), elsewhere


@check("serving.takes_its_place_from_the_environment", uses=[*LINE, shop, opened, batch, scored, story, taken])
def takes_its_place_from_the_environment(grading: Grading) -> Finding:
    """Two services run at once on ports and registries of their own; a port that is taken ends a third.

    Catches: all addresses instead of the one that was given; another port where one is taken; a registry or state shared.
    Accepts: any server.
    """
    told, (ended, still, elsewhere) = grading.get(story), grading.get(taken)
    if not told.beside:
        raise Owed("the service has to become ready first: see serving.ready_when_it_can_answer")
    says_right(grading, told.beside[0], "own", "we ran a second service with another port and registry; the first one")
    what = "we started serve on a port that was taken"
    if ended is None:
        return failed(f"{what}; it went on", f"not ended after {START_SECONDS} s", "an exit code other than 0")
    if ended.ok:
        return failed(f"{what}; it ended as if all were well", "exit code 0", "an exit code other than 0")
    says_right(grading, still[0], "own", f"{what}; the one that was there")
    if elsewhere[0].status is not None:
        return failed(
            f"MLEKIT_HOST was {HOST}, and the service also answers at {OTHER_HOST}: it listens on more than it was told",
            "answered", "no connection",
        )  # fmt: skip
    return passed("address, port and registry are those of the environment", "3 services", "each in its place")


# What is wrong with requests


def wrong_requests(row: Mapping[str, Any]) -> list[tuple[str, Request, tuple[str, ...]]]:
    """Requests that have to be refused: what is wrong in words, and the fields that the answer has to name."""

    def with_(**changed: Any) -> bytes:
        return json.dumps({"rows": [{**row, **changed}]}).encode()

    def without(name: str) -> bytes:
        return json.dumps({"rows": [{key: value for key, value in row.items() if key != name}]}).encode()

    many = json.dumps({"rows": [{**row, "row_id": str(number)} for number in range(MAX_ROWS + 1)]}).encode()
    half = json.dumps({"rows": [row]}).encode()[:-20]
    good = json.dumps({"rows": [row, {**row, "row_id": "second", "carrier": 7}]}).encode()
    two = json.dumps(
        {"rows": [{**row, "carrier": 7}, {key: value for key, value in row.items() if key != "origin"}]}
    ).encode()
    long = with_(sched_dep_local="x" * (MAX_BODY_MB << 20))
    bodies: list[tuple[str, bytes, str | None]] = [
        ("an empty body", b"", None),
        ("half a JSON text", half, None),
        ("bytes that are no UTF-8", b'{"rows": "\xff\xfe"}', None),
        ("a list instead of an object", b"[]", None),
        ("a hundred thousand brackets", b"[" * 100_000, None),
        ("an object without rows", b"{}", "rows"),
        ("rows that are a text", b'{"rows": "all"}', "rows"),
        ("no rows at all", b'{"rows": []}', "rows"),
        ("a row that is a number", b'{"rows": [1]}', None),
        ("a row without row_id", without("row_id"), "row_id"),
        ("a row without origin", without("origin"), "origin"),
        ("a row without distance_miles", without("distance_miles"), "distance_miles"),
        ("a carrier that is null", with_(carrier=None), "carrier"),
        ("a carrier that is a list", with_(carrier=["AA"]), "carrier"),
        ("a distance that is a word", with_(distance_miles="far"), "distance_miles"),
        ("a distance that is NaN", with_(distance_miles=float("nan")), None),
        ("a time that is none", with_(sched_dep="2023-02-30T10:00:00Z"), "sched_dep"),
        ("a time without a zone", with_(sched_dep="2023-02-20T10:00:00"), "sched_dep"),
        ("a time in month 13", with_(sched_dep="2023-13-01T10:00:00+00:00"), "sched_dep"),
        ("one row of two with a number for a carrier", good, "carrier"),
        (f"{MAX_ROWS + 1:,} rows", many, "rows"),
        (f"a body of more than {MAX_BODY_MB} MiB", long, None),
    ]
    found = [(says, Request("POST", asking.PREDICT, body), (name,) if name else ()) for says, body, name in bodies]
    far = with_(carrier=7, distance_miles="far")
    many_faults = [
        ("a row with a number for a carrier and a word for a distance", far, ("carrier", "distance_miles")),
        ("two rows, one with a number for a carrier and one without origin", two, ("carrier", "origin")),
    ]  # fmt: skip
    in_chunks = Request("POST", asking.PREDICT, long, {"Transfer-Encoding": "chunked"})
    return [
        *found,
        *((says, Request("POST", asking.PREDICT, body), names) for says, body, names in many_faults),
        (f"a body of more than {MAX_BODY_MB} MiB in chunks, without its length", in_chunks, ()),
        ("GET instead of POST", Request("GET", asking.PREDICT), ()),
        ("a path that is not there", Request("GET", "/v0/predict"), ()),
    ]


def long_question(rows: Sequence[Mapping[str, Any]]) -> Request:
    """A right request that is nearly as long as one may be, with blanks behind it."""
    asked = question(rows)
    return replace(asked, body=(asked.body or b"").ljust((MAX_BODY_MB << 20) - 1024))


def strange_requests(row: Mapping[str, Any]) -> list[tuple[str, Request]]:
    """Requests that may be refused or answered, but not with a failure of the service."""
    changes: list[tuple[str, dict[str, Any]]] = [
        ("half a character of UTF-16 in row_id", {"row_id": "\ud800"}),
        ("half a character of UTF-16 in carrier", {"carrier": "\ud800"}),
        ("a time at the beginning of the calendar", {"sched_dep": "0001-01-01T00:00:00+14:00"}),
        ("a time at the end of the calendar", {"sched_dep": "9999-12-31T23:59:59-12:00"}),
        ("a flight number of forty digits", {"flight_no": 10**40}),
        ("a distance larger than any number", {"distance_miles": 10**400}),
        ("a carrier of a hundred thousand letters", {"carrier": "A" * 100_000}),
    ]
    return [(says, question([{**row, **change}])) for says, change in changes]


@work
def refused(grading: Grading) -> tuple[list[Answer], list[Answer], list[Answer], Ran | None]:
    """Wrong requests, strange ones, and right ones at the end, a short and a long one."""
    grading.settle(scored)
    found, row = ready_service(grading), rows_of(grading.get(given).rows.table)[0]
    with grading.sandbox.turn:
        wrong = found.ask(*(request for _, request, _ in wrong_requests(row)), deadline=PATIENCE_SECONDS)
        strange = found.ask(*(request for _, request in strange_requests(row)), deadline=PATIENCE_SECONDS)
        rows = rows_of(grading.get(given).rows.table)[:3]
        right = found.ask(question(rows), long_question(rows), deadline=PATIENCE_SECONDS)
    return wrong, strange, right, found.ended()


@check("serving.refuses_what_is_wrong", uses=[*LINE, shop, opened, batch, scored, refused])
def refuses_what_is_wrong(grading: Grading) -> Finding:
    """What is wrong gets a 4xx that names the field; nothing that anybody sends makes the service fail.

    Catches: 500 for bad rows; a null scored as if it were there; an answer about NaN that is itself no JSON; a process that ends; the first
    fault named and no other; a length that is believed. Accepts: any 4xx, any words.
    """
    row = rows_of(grading.get(given).rows.table)[0]
    wrong, strange, right, ended = grading.get(refused)
    for (says, _, names), answer in zip(wrong_requests(row), wrong, strict=True):
        what = f"we sent {says}"
        if answer.status is None or not 400 <= answer.status < 500:
            return failed(f"{what}; it has to get a 4xx, and got {got(answer)}", got(answer)[:60], "4xx")
        for name in names:
            if not _names(answer, name):
                return failed(
                    f"{what}; the answer does not name {name} in a `loc` of `detail` ({answer.body[:160]!r})",
                    "not named",
                    name,
                )
    for (says, _), answer in zip(strange_requests(row), strange, strict=True):
        if answer.status is None or not (answer.status == 200 or 400 <= answer.status < 500):
            return failed(
                f"we sent {says}; it has to get 200 or a 4xx, and got {got(answer)}", got(answer)[:60], "200 or 4xx"
            )
    what = "after all these we sent a right request"
    if ended is not None:
        raise Fault(f"{what}; the service had ended: {ended.sentence()}")
    with right_numbers(grading):
        predicted(right[0], rows_of(grading.get(given).rows.table)[:3], what)
        what = f"we sent a right request, with blanks up to a little less than {MAX_BODY_MB} MiB"
        predicted(right[1], rows_of(grading.get(given).rows.table)[:3], what)
    return passed("what is wrong is refused with a reason", f"{len(wrong)} of {len(wrong)}", "all")


def _names(answer: Answer, name: str) -> bool:
    """Whether a refusal has an entry in `detail` whose `loc` holds the field."""
    try:
        detail = json.loads(answer.body)["detail"]
        return any(name in entry["loc"] and str(entry["msg"]).strip() for entry in detail)
    except (ValueError, RecursionError, TypeError, KeyError):
        return False


# Its description


@work
def described(grading: Grading) -> dict[str, Any]:
    """What schemathesis finds, in a sandbox of its own. Raises Fault."""
    grading.settle(scored, refused)
    found = ready_service(grading)
    out, kit = grading.folder("probed"), Mount(INSIDE, "kit")
    written = Mount(out, "out", writable=True)
    job = Job(
        ["python", kit / "probe_openapi.py", found.url, str(grading.world().seed or 0), written / "found.json"], [kit, written],
        cwd=written, env={**TOOL_ENVIRONMENT, "HOME": "/tmp"}, limits=replace(grading.limits, seconds=180),
    )  # fmt: skip
    with grading.sandbox.turn:
        finished = grading.sandbox.start(job).wait()
    try:
        answer = grading.reader.json(out / "found.json")
    except Unreadable as problem:
        raise Fault(f"we probed the service by its /openapi.json; {finished.sentence()}, {problem}") from None
    if not isinstance(answer, dict) or not (
        "problem" in answer or {"operations", "fields", "asked", "faults"} <= answer.keys()
    ):
        raise Fault("we probed the service by its /openapi.json; what was found could not be read")
    return answer


def described_fields(grading: Grading) -> dict[str, set[str]]:
    """What a description has to name, by operation: the fields of the contract, in bodies and in answers."""
    row = set(grading.get(given).rows.table.columns)
    return {
        f"POST {asking.PREDICT}": {"rows", *row, *PredictAnswer.model_fields, *Prediction.model_fields},
        "GET /healthz": set(),
        "GET /readyz": {"ready"},
        "GET /version": set(Told.model_fields),
    }


@check("serving.is_as_described", uses=[*LINE, shop, opened, described])
def is_as_described(grading: Grading) -> Finding:
    """`/openapi.json` describes the four requests, and what the service answers is what is described, whatever is sent.

    Catches: a description that knows no errors, or no fields; answers of another shape.
    Accepts: any description that is true.
    """
    found = grading.get(described)
    if problem := found.get("problem"):
        raise Fault(f"we read /openapi.json; {problem}")
    needed = described_fields(grading)
    if missing := [name for name in needed if name not in found["operations"]]:
        return failed(
            "we read /openapi.json; a request of the contract is not described",
            f"no {', '.join(missing)}",
            "4 requests",
        )
    for operation, names in needed.items():
        if lacking := sorted(names - set(found["fields"].get(operation, ()))):
            return failed(
                f"we read /openapi.json; what it says of the body and the answer of {operation} does not name all their fields",
                f"no {', '.join(lacking)}", "all fields of the contract",
            )  # fmt: skip
    if faults := found["faults"]:
        first = faults[0]
        return failed(
            f"we asked {first['operation']} as its description allows and forbids ({first['sent']}); {first['said']}",
            f"{len(faults)} kinds of answers not as described", "none",
        )  # fmt: skip
    return passed("what it answers is what it describes", f"{found['asked']} requests", "as described")


# Under load


def single_questions(grading: Grading) -> list[Request]:
    return [question([row]) for row in rows_of(grading.get(given).rows.table)]


BEFORE_LOAD = (scored, refused, described, taken, story)


@work
def pace(grading: Grading) -> tuple[list[tuple[Answer, int]], list[Answer]]:
    """Answers of the service, with the places of the rows, and of the calibration service, in turns, alone on the machine.

    The rows are new to the service; the other is asked about them again and again, until it is warm.

    The service stands still from before the other is there until it is gone: they share a loopback, and one could keep the other busy.
    """
    grading.settle(*BEFORE_LOAD)
    found = ready_service(grading)
    singles = single_questions(grading)
    own: list[tuple[Answer, int]] = []
    calibrated: list[Answer] = []
    with grading.sandbox.alone():
        for number in range(PACE_ROUNDS):
            places = fresh_rows(grading)[number::PACE_ROUNDS]
            asked = [singles[place] for place in places]
            how: dict[str, Any] = {"concurrency": LOAD, "seconds": PACE_SECONDS}
            with found.running.paused() if found.running else nullcontext():
                control = services.Control(grading.sandbox, grading.folder("control"))
                calibrated += found.client.ask(control.url, asked, **how, count=1_000_000).answers()
                control.stop()
            own += [(answer, places[answer.request]) for answer in found.client.ask(found.url, asked, **how).answers()]
    return own, calibrated


def _milliseconds(answers_: Sequence[Answer]) -> np.ndarray:
    import numpy as np

    return np.sort(np.array([(answer.done - answer.sent) * 1000 for answer in answers_]))


@check("serving.keeps_pace", uses=[*LINE, shop, opened, pace])
def keeps_pace(grading: Grading) -> Finding:
    """Requests about one row, four at a time: the 95th percentile of their times is a bounded multiple of a service that does nothing.

    Catches: the model loaded, or all features computed, for each request. Accepts: tables for one row, one worker, any library.
    """
    import numpy as np

    own, calibrated = grading.get(pace)
    what = f"we asked about one row at a time with {LOAD} clients"
    for answer, _ in own:
        asking.value_of(answer, 200, what)
    rows = rows_of(grading.get(given).rows.table)
    if wrong := wrong_answers(grading, [(answer, [rows[place]], [place]) for answer, place in own], what):
        return wrong
    times = {
        "this service": _milliseconds([answer for answer, _ in own]),
        "a service that does nothing": _milliseconds(calibrated),
    }
    at = {name: float(np.percentile(found, 95)) for name, found in times.items()}
    ratio = at["this service"] / at["a service that does nothing"]
    chart = charts.shares("How long requests took", "milliseconds", times)
    value = f"{ratio:.0f} times ({at['this service']:.0f} ms)"
    bar = f"{BARS['pace']:.0f} times"
    if ratio > BARS["pace"]:
        return failed(
            f"{what}; 19 of 20 took up to so many times what the calibration service takes", value, bar, chart
        )
    return passed("requests about one row are answered at a good pace", value, bar, chart)


@dataclass(frozen=True)
class Swaps:
    """Requests while the alias moved, and when it did, with the name of the version; `ended` if the process did."""

    answers: list[Answer]
    moves: list[tuple[str, float]]
    ended: Ran | None


@work
def swaps(grading: Grading) -> Swaps:
    """Load without a break, while the champion changes: to a better one, to two that cannot be loaded, and to the best."""
    grading.settle(*BEFORE_LOAD, pace)
    found, shop_ = ready_service(grading), grading.get(shop)
    asked = single_questions(grading)
    moves: list[tuple[str, float]] = []
    with grading.sandbox.alone():
        load = found.begin(*asked, count=1_000_000, seconds=120, concurrency=LOAD, deadline=PATIENCE_SECONDS, keep=400)
        _until(load, lambda answers_: len(answers_) >= LEAST / 4, PATIENCE_SECONDS)
        for name in ("better", "missing", "damaged", "best"):
            moves.append((name, time.monotonic()))
            found.alter("champion", shop_.versions[name])
            if name not in shop_.says:
                time.sleep(2.5 * REFRESH_SECONDS)
            else:
                _until(load, _from(shop_.versions[name]), FOLLOWED)
        _until(load, lambda answers_: len(answers_) >= MOST, max(1.0, FOLLOWED - (time.monotonic() - moves[-1][1])))
        left = moves[-1][1] + FOLLOWED + 0.5 - time.monotonic()
        time.sleep(max(0.0, left))
        load.stop()
        return Swaps(load.answers(), moves, found.ended())


def _from(version: str) -> Callable[[list[Answer]], bool]:
    """Whether one of the last answers is from a version."""
    return lambda answers_: any(version_of(answer) == version for answer in answers_[-2 * LOAD :])


def _until(load: services.Asking, holds: Callable[[list[Answer]], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds(load.so_far()) and time.monotonic() < deadline and not load.over():
        time.sleep(0.1)


@check("serving.follows_the_champion", uses=[*LINE, shop, opened, batch, scored, swaps])
def follows_the_champion(grading: Grading) -> Finding:
    """While the alias moves under load, no request fails, each answer is that of the version it names, and the new one answers in time.

    Catches: the alias read once at the start; a restart; a version named that did not answer; an end where a champion cannot be loaded.
    Accepts: several workers that change one after the other.
    """
    found, shop_ = grading.get(swaps), grading.get(shop)
    names = {version: name for name, version in shop_.versions.items()}
    rows = rows_of(grading.get(given).rows.table)
    what = f"we moved the champion four times while {LOAD} clients asked"
    spans: dict[str, list[tuple[float, float]]] = {}
    began, wrong = min(answer.sent for answer in found.answers), 0
    for answer in found.answers:
        wrong += wrong_numbers(grading, (answer, [rows[answer.request]], [answer.request]), what)
        name = names[version_of(answer) or ""]
        first, last = spans.get(f"version {name}", [(answer.sent, answer.done)])[0]
        spans[f"version {name}"] = [(min(first, answer.sent), max(last, answer.done))]
    seconds = {name: [(a - began, b - began) for a, b in found_] for name, found_ in spans.items()}
    moved = {f"alias: {name}": [(at - began, at - began + 0.1)] for name, at in found.moves}
    chart = charts.timeline(
        "Who answered while the champion changed", {**seconds, **moved},
        "; ".join(f"{name}: {a:.1f} to {b:.1f} s" for name, [(a, b)] in seconds.items()),
    )  # fmt: skip
    if found.ended is not None:
        raise Fault(f"{what}; {found.ended.sentence()}")
    if wrong > BARS["beside"] * len(found.answers):
        if not grading.get(trusted):
            raise Owed("the service has to give right answers first: see serving.answers_like_batch")
        return failed(
            f"{what}; answers are not those of the version that they name",
            f"{wrong:,} of {len(found.answers):,}",
            "none",
            chart,
        )
    stood = {"better": found.moves[-1][1], "best": float("inf")}
    for name, at in (found.moves[0], found.moves[-1]):
        due = at + FOLLOWED
        late = [a for a in found.answers if due < a.sent < stood[name] and names.get(version_of(a) or "") != name]
        if late or not any(
            names.get(version_of(a) or "") == name for a in found.answers if a.sent < min(due, stood[name])
        ):
            return failed(f"{what}; the new champion does not answer all requests in time", f"not {FOLLOWED} s later",
                          f"{FOLLOWED} s", chart)  # fmt: skip
    if len(found.answers) < LEAST:
        return failed(
            f"{what}; so few were answered that nothing can be said", f"{len(found.answers)}", f"{LEAST}", chart
        )
    return passed(
        "no request failed while the champion changed", f"{len(found.answers):,} requests", "none failed", chart
    )


def full_rows(grading: Grading, count: int) -> list[dict[str, Any]]:
    """So many rows, the same ones again and again under new ids."""
    rows = rows_of(grading.get(given).rows.table)
    return [{**rows[number % len(rows)], "row_id": f"r{number}"} for number in range(count)]


def all_full(grading: Grading) -> tuple[list[dict[str, Any]], list[int]]:
    """The rows of a large request, and their places among all rows."""
    count = len(grading.get(given).rows.table)
    return full_rows(grading, MAX_ROWS), [number % count for number in range(MAX_ROWS)]


@dataclass(frozen=True)
class Burst:
    """One large request alone, as many at once as it would take three times too long, and a small and a large one afterwards.

    Between the many there were others, which asked `/healthz`.
    """

    at_once: int
    one: Answer
    all: list[Answer]
    alive: list[Answer]
    after: list[Answer]
    ended: Ran | None


@work
def burst(grading: Grading) -> Burst:
    grading.settle(*BEFORE_LOAD, pace, swaps)
    found, large = ready_service(grading), question(full_rows(grading, MAX_ROWS))
    with grading.sandbox.alone():
        alone = min((found.ask(large, deadline=PATIENCE_SECONDS)[0] for _ in range(3)), key=lambda a: a.done - a.sent)
        count = min(BURST_MOST, max(BURST_LEAST, int(3 * PATIENCE_SECONDS / max(0.001, alone.done - alone.sent))))
        asked = [
            *[large] * BURST_APART,
            HEALTHZ,
        ]  # whoever has an answer asks once more, while the service works on what it let in
        many = found.ask(*asked, count=2 * count, concurrency=count, deadline=PATIENCE_SECONDS + 5)
        after = found.wait(PATIENCE_SECONDS)
        if is_ready(after):
            after = found.ask(question(full_rows(grading, 1)), large, deadline=PATIENCE_SECONDS)
    alive = [answer for answer in many if answer.request == BURST_APART]
    return Burst(count, alone, [answer for answer in many if answer.request < BURST_APART], alive, after, found.ended())


@check("serving.sheds_a_burst", uses=[*LINE, shop, opened, batch, scored, burst])
def sheds_a_burst(grading: Grading) -> Finding:
    """Far more at once than can be answered: each is answered in time or turned away with `Retry-After`, and then all is as before.

    Catches: a queue without an end; memory that grows with it; a service that does not come back, or looks dead meanwhile.
    Accepts: 429 or 503, seconds or a date, or being that fast; whatever `/readyz` says meanwhile.
    """
    found = grading.get(burst)
    what = f"we sent {len(found.all)} requests of {MAX_ROWS:,} rows, up to {found.at_once} at once"
    if found.one.status != 200:
        raise Fault(f"we sent one request of {MAX_ROWS:,} rows; it has to get 200, and got {got(found.one)}")
    if found.ended is not None:
        raise Fault(f"{what}; {found.ended.sentence()}")
    counts = {"answered": 0, "turned away": 0}
    for answer in found.all:
        late = answer.done - answer.sent > PATIENCE_SECONDS
        if answer.status == 200 and answer.error is None and not late:
            counts["answered"] += 1
        elif answer.status in (429, 503) and not late and says_when(answer):
            counts["turned away"] += 1
        else:
            told = "it took too long" if late else got(answer)
            header = answer.headers.get("retry-after")
            lacking = f" with Retry-After {header!r}" if header else " without Retry-After"
            lacking = lacking if answer.status in (429, 503) and not late else ""
            return failed(f"{what}; one was neither answered in time nor turned away: {told}{lacking}",
                          f"{counts['answered']} answered, {counts['turned away']} turned away", "all of them")  # fmt: skip
    if not counts["answered"]:
        return failed(f"{what}; not one was answered", "0 answered", "some")
    for answer in found.alive:
        late = answer.done - answer.sent > PATIENCE_SECONDS
        if answer.status != 200 or answer.error is not None or late:
            told = "it took too long" if late else f"got {got(answer)}"
            return failed(
                f"{what}, and asked /healthz meanwhile; it has to get 200, since the process is alive, and {told}",
                told[:60], "200",
            )  # fmt: skip
    rows, places = all_full(grading)
    if wrong := wrong_answers(grading, [(answer, rows, places) for answer in found.all if answer.status == 200], what):
        return wrong
    for answer, count in zip(found.after, (1, MAX_ROWS), strict=False):
        asked = f"{count:,} row{'s' if count > 1 else ''}"
        with right_numbers(grading):
            predicted(answer, full_rows(grading, count), f"after a burst we sent a request of {asked}")
    if len(found.after) < 2:
        raise Fault("after a burst we asked /readyz; the service was not ready again")
    return passed(
        "a burst is answered or turned away",
        f"{counts['answered']} answered, {counts['turned away']} turned away",
        "all of them",
    )


def says_when(answer: Answer) -> bool:
    """Whether `Retry-After` tells when to ask again, in seconds or as a date of HTTP."""
    text = answer.headers.get("retry-after", "").strip()
    try:
        return text.isdecimal() or parsedate_to_datetime(text) is not None
    except (ValueError, TypeError, IndexError, OverflowError):
        return False


@dataclass(frozen=True)
class Stopped:
    """Requests while the service was told to stop, when that was, and how it ended."""

    answers: list[Answer]
    told: float
    seconds: float
    ran: Ran


@work
def stopped(grading: Grading) -> Stopped:
    grading.settle(*BEFORE_LOAD, pace, swaps, burst)
    found = ready_service(grading)
    some = question(full_rows(grading, MAX_ROWS))
    with grading.sandbox.alone():
        load = found.begin(some, count=1_000_000, seconds=4, concurrency=2 * LOAD)
        time.sleep(1.5)
        told = time.monotonic()
        ran = found.stop(STOP_SECONDS + 5)
        return Stopped(load.answers(), told, time.monotonic() - told, ran)


@check("serving.stops_when_told", uses=[*LINE, shop, opened, stopped])
def stops_when_told(grading: Grading) -> Finding:
    """Told to stop while it works, it answers what it was asked before and ends.

    Catches: an end in the middle of an answer; a process that does not end; a crash at the end. Accepts: ended by SIGTERM, or exit code 0.
    """
    found = grading.get(stopped)
    what = f"we sent SIGTERM while {2 * LOAD} clients asked"
    before = [answer for answer in found.answers if answer.sent < found.told - AIRBORNE_SECONDS]
    in_work = sum(answer.done > found.told for answer in before)
    for answer in before:
        turned_away = answer.status in (429, 503) and says_when(answer) and answer.done < found.told
        if not turned_away and (answer.status != 200 or answer.error is not None):
            return failed(f"{what}; a request that it had been sent before got: {got(answer)}", "lost", "answered")
    rows, places = all_full(grading)
    late = [(answer, rows, places) for answer in before if answer.status == 200 and answer.done > found.told]
    if wrong := wrong_answers(grading, late, what):
        return wrong
    if found.ran.finished.ended == "cancelled" or found.seconds > STOP_SECONDS:
        return failed(f"{what}; it did not end", f"after {found.seconds:.0f} s", f"{STOP_SECONDS} s")
    if found.ran.finished.code not in (0, 143):
        return failed(
            f"{what}; {found.ran.sentence()}", f"exit code {found.ran.finished.code}", "0, or ended by SIGTERM"
        )
    memory = f"{found.ran.finished.peak_memory_mb} MB of memory at most in its whole life"
    return passed(
        "what was asked before is answered, then it ends",
        f"{in_work} in work, all answered; {found.seconds:.1f} s; {memory}", f"{STOP_SECONDS} s",
    )  # fmt: skip
