"""python -m flightdelay.loop --usecase F --mailbox D --source URL --history D --seed N

Each step has four parts: bring in what came, decide, do it, answer. The decision is written down before anything is done, and whatever is
done asks first whether it is done already. So a loop that was killed anywhere finishes the step that it was in, as it was decided.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock
from prefect import flow

from flightdelay.data import DataFolder, local_day
from flightdelay.files import write_whole
from flightdelay.mailbox import Mailbox
from flightdelay.months import Months
from flightdelay.pipeline import arrive, learn_from, promote_version, register_run
from flightdelay.registry import STATE, Registry
from flightdelay.stale import champion_of, stale_since
from flightdelay.tracking import tracking_server
from flightdelay.usecase import UseCase, read_usecase

Window = tuple[str, str]

ENOUGH_DAYS = 45  # a model that learned from fewer is made once more as soon as there are more of them
MOST_TRIES = 5  # at a first champion
JUDGED_SHARE = 1 / 3  # of the days of the newest month: the gate's, and never learned from


@dataclass(frozen=True)
class Plan:
    """What is to be done at a step, and why: the windows that models are to learn from."""

    trigger: str
    windows: list[Window]


@dataclass(frozen=True)
class Loop:
    """What stays the same from step to step."""

    usecase: Path
    source: str
    history: Path
    seed: int

    def step(self, message: dict[str, Any]) -> dict[str, Any]:
        """The answer to a message."""
        case, months = read_usecase(self.usecase), Months(STATE)
        receipts = [
            arrive(month, self.source, self.usecase, self.history, message["now"], months)
            for month in message["months"]
        ]
        months.lay_out(self.history)
        months.seal(self.usecase, case.entity_table)
        notes = Notes(message["step"])
        plan = notes.plan() or notes.decided(decide(case, DataFolder(months.data), message.get("order")))
        versions = [self.make(notes, number, window, case, months) for number, window in enumerate(plan.windows)]
        while notes.run(len(versions)) or (champion_now(case) is None and len(versions) < MOST_TRIES):
            # There has to be a first champion; where the gate refuses it, the next learns from fewer days and is judged on more.
            start, end = plan.windows[0]
            end = str(date.fromisoformat(end) - timedelta(days=7 * len(versions)))
            versions.append(self.make(notes, len(versions), (start, end), case, months))
        champion = champion_now(case)
        return {
            "step": message["step"],
            "decision": "retrain" if versions else "keep",
            "trigger": plan.trigger,
            "versions": versions,
            "champion": champion,
            "months": [asdict(receipt) for receipt in receipts],
        }

    def make(self, notes: Notes, number: int, window: Window, case: UseCase, months: Months) -> str:
        """A version that learned from a window, judged on days after it."""
        run_id = notes.run(number) or notes.trained(number, learn_from(window, self.seed, self.usecase, months))
        version = register_run(self.usecase, run_id)
        promote_version(self.usecase, case, version, months, after=window[1])
        return version


class Notes:
    """What was decided and done at a step, for whoever has to go on after a crash."""

    def __init__(self, step: int) -> None:
        self.path = STATE / "steps" / f"{step:04d}.json"

    def _read(self) -> dict[str, Any]:
        return json.loads(self.path.read_bytes()) if self.path.exists() else {}

    def _write(self, **more: Any) -> None:
        write_whole(self.path, json.dumps({**self._read(), **more}, indent=2).encode())

    def plan(self) -> Plan | None:
        found = self._read()
        return Plan(found["trigger"], [tuple(window) for window in found["windows"]]) if found else None

    def decided(self, plan: Plan) -> Plan:
        self._write(**asdict(plan))
        return plan

    def run(self, number: int) -> str | None:
        return self._read().get(f"run {number}")

    def trained(self, number: int, run_id: str) -> str:
        self._write(**{f"run {number}": run_id})
        return run_id


def champion_now(case: UseCase) -> str | None:
    with tracking_server():
        return Registry(case.model_name).champion()


def decide(case: UseCase, data: DataFolder, order: dict[str, str] | None) -> Plan:
    """Which models to make, and why."""
    with tracking_server():
        registry = Registry(case.model_name)
        version = registry.champion()
        champion = champion_of(registry, version) if version else None
    first, learnable = days_to_learn_from(case, data)
    ordered = [(order["train_start"], order["train_end"])] if order else []
    if champion is None:
        return Plan("there is no champion", [(first, learnable), *ordered])
    since, found = stale_since(champion, case, data)
    if since:
        return Plan(f"version {version} is stale since {since}: {found}", [*ordered, (f"{since}-01", learnable)])
    if days(champion.start, champion.end) < ENOUGH_DAYS and champion.end < learnable:
        return Plan(f"version {version} learned from few days: {found}", [*ordered, (champion.start, learnable)])
    return Plan(f"{'somebody asked; ' if order else ''}version {version} is {found}", ordered)


def days_to_learn_from(case: UseCase, data: DataFolder) -> Window:
    """The first day of the data, and the last one that leaves the gate its share of the newest month."""
    flights = data.table(case.entity_table)
    known = flights.select(local_day(case.event_time, flights.columns).unique().sort()).to_series()
    newest = known.filter(known.str.slice(0, 7) == known.max()[:7])
    return known.min(), newest[int(len(newest) * (1 - JUDGED_SHARE)) - 1]


def days(start: str, end: str) -> int:
    return (date.fromisoformat(end) - date.fromisoformat(start)) // timedelta(days=1) + 1


def main() -> None:
    parser = argparse.ArgumentParser(prog="loop", description="Keep the model right as months pass.")
    for name in ("usecase", "mailbox", "history"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--seed", type=int, required=True)
    given = parser.parse_args()
    mailbox = Mailbox(given.mailbox)
    loop = Loop(given.usecase, given.source.rstrip("/"), given.history, given.seed)
    step = flow(name="step", validate_parameters=False)(loop.step)
    STATE.mkdir(parents=True, exist_ok=True)
    with FileLock(STATE / "pipeline.lock"):
        while True:
            message = mailbox.next()
            mailbox.answer(message["step"], step(message))


if __name__ == "__main__":
    main()
