"""Show a learner what their service does while something around it fails: `mlekit break`. No verdict comes of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from grader import services
from grader.checks.api import Fault, Grading, Owed, Unavailable
from grader.checks.asking import question, rows_of
from grader.checks.s06_registry import given
from grader.checks.s08_serving import full_rows
from grader.checks.s09_observability import export, read_log
from grader.checks.served import CLIENT_MB, HEALTHZ, READYZ, Disk, Service, is_ready, service, shop, version_of
from grader.contract.serving import MAX_ROWS, PATIENCE_SECONDS, START_SECONDS
from grader.faults import AFTER, BEFORE, DURING
from grader.services import Answer

Emit = Callable[[dict[str, Any]], None]
CLIENTS, PAUSE = 4, 0.02
BURST = 200
SLOW_SECONDS = 0.5


def play(name: str, grading: Grading, emit: Emit) -> None:
    """Start the service, let clients ask, make a fault and mend it; tell what was answered in each second."""
    try:
        emit({"event": "step", "says": "training a model and making it champion"})
        grading.get(shop)
        emit({"event": "step", "says": "starting the service"})
        with _service(name, grading) as (made, disk):
            _show(name, grading, made, disk, emit)
    except (Owed, Fault, Unavailable) as problem:
        emit({"event": "cannot", "why": str(problem)})


@contextmanager
def _service(name: str, grading: Grading) -> Iterator[tuple[Service, Disk]]:
    made = service(grading, "service", grading.get(shop).store)
    disk = Disk(grading, made)
    with grading.sandbox.turn:
        if name.endswith("-disk"):
            disk.start()
        else:
            made.start()
        waited = made.wait(START_SECONDS)
    try:
        if not is_ready(waited):
            ended = made.stop()
            if ended.absent:
                raise Owed("there is no serve command yet")
            raise Fault(f"the service did not become ready; {ended.sentence()}")
        yield made, disk
    finally:
        made.stop()


@dataclass
class Seconds:
    """What was answered, second by second."""

    began: float
    told: int = 0
    answers: list[Answer] = field(default_factory=list)
    probes: list[Answer] = field(default_factory=list)

    def tell(self, emit: Emit, now: float) -> None:
        """Tell of each second that is over."""
        while self.told + 1 <= now - self.began:
            start, end = self.began + self.told, self.began + self.told + 1
            done = [a for a in self.answers if start <= a.done < end]
            waited = sorted(a.done - a.sent for a in done if a.status == 200)
            emit({
                "event": "second", "at": self.told, "phase": _phase(self.told), "kinds": dict(Counter(map(_kind, done))),
                "p50": _quantile(waited, 0.5), "p99": _quantile(waited, 0.99),
                "healthz": _last(self.probes, 0, start, end), "readyz": _last(self.probes, 1, start, end),
            })  # fmt: skip
            self.told += 1


def _phase(second: int) -> str:
    return "before" if second < BEFORE else "during" if second < BEFORE + DURING else "after"


def _kind(answer: Answer) -> str:
    if answer.status is None or answer.error is not None:
        return answer.error or "no answer"
    if answer.status == 200:
        version = version_of(answer)  # not to be seen where only the beginning of a long answer was kept
        return f"version {version}" if version else "whole large answers"
    return f"turned away ({answer.status})" if answer.headers.get("retry-after") else f"status {answer.status}"


def _quantile(values: Sequence[float], share: float) -> float | None:
    return round(values[min(len(values) - 1, int(share * len(values)))] * 1000, 1) if values else None


def _last(probes: Sequence[Answer], request: int, start: float, end: float) -> str:
    found = [a for a in probes if a.request == request and start <= a.done < end]
    return "no answer" if not found or found[-1].status is None else str(found[-1].status)


def _show(name: str, grading: Grading, made: Service, disk: Disk, emit: Emit) -> None:
    rows = rows_of(grading.get(given).rows.table)
    seconds = float(BEFORE + DURING + AFTER)
    probes = services.Client(grading.sandbox, grading.folder("probes", CLIENT_MB))
    load = made.begin(
        *(question([row]) for row in rows), count=1_000_000, seconds=2 * seconds, concurrency=CLIENTS, pause=PAUSE,
        deadline=PATIENCE_SECONDS, keep=400,
    )  # fmt: skip
    health = probes.ask(made.url, [HEALTHZ, READYZ], count=1_000_000, seconds=2 * seconds, pause=0.2, deadline=2)
    while not (load.so_far() and health.so_far()):
        load.over()
        time.sleep(0.02)
    made_fault, mended, burst = False, False, None
    seen = Seconds(time.monotonic())
    while (now := time.monotonic()) - seen.began < seconds + 0.2:
        if not made_fault and now - seen.began >= BEFORE:
            made_fault = True
            burst = _make(name, grading, made, disk)
        if made_fault and not mended and now - seen.began >= BEFORE + DURING:
            mended = True
            _mend(name, grading, made, disk)
        seen.answers = [*load.so_far(), *(burst.so_far() if burst is not None else [])]
        seen.probes = health.so_far()
        seen.tell(emit, now - 0.2)
        time.sleep(0.05)
    load.stop()
    health.stop()
    ended = made.ended()
    shown = seen.began, seen.began + seen.told
    read = [
        a for a in (*load.answers(), *(burst.answers() if burst is not None else [])) if shown[0] <= a.done < shown[1]
    ]
    emit({"event": "over", "ended": ended.sentence() if ended is not None else "", **_log(grading, made, read)})


def _log(grading: Grading, made: Service, read: Sequence[Answer]) -> dict[str, Any]:
    """How many of the answers that clients read are in the log, or why that cannot be said."""
    try:
        log = read_log(grading, export(grading, made, "exported"), "we ran export-log")
    except Owed:
        return {}
    except Fault as problem:
        return {"log": str(problem)}
    ids = [a.headers.get("x-request-id", "") for a in read if a.status == 200 and a.error is None]
    return {"read": len(ids), "kept": sum(id in log.entries for id in ids)}


def _make(name: str, grading: Grading, made: Service, disk: Disk) -> services.Asking | None:
    """Make the fault; returns the requests that it consists of."""
    match name:
        case "registry":
            made.alter("break")
        case "model":
            made.alter("champion", grading.get(shop).versions["missing"])
        case "slow-disk":
            disk.set(f"slow {SLOW_SECONDS}")
        case "full-disk":
            disk.set("full")
        case "kill":
            made.stop()
            made.start()
        case "burst":
            other = services.Client(grading.sandbox, grading.folder("burst", CLIENT_MB))
            return other.ask(
                made.url, [question(full_rows(grading, MAX_ROWS))], count=BURST, concurrency=BURST, deadline=PATIENCE_SECONDS + 5,
                keep=200,
            )  # fmt: skip
    return None


def _mend(name: str, grading: Grading, made: Service, disk: Disk) -> None:
    match name:
        case "registry":
            made.alter("mend")
        case "model":
            made.alter("champion", grading.get(shop).versions["better"])
        case "slow-disk" | "full-disk":
            disk.set("none")
