"""python -m flightdelay.pipeline --usecase F --source URL --history D --months M[,M] --now T --seed N --out F

Every step asks first whether its result is there already, or makes it again and gets the same. So a run that was killed anywhere is
finished by running it again, a month done twice changes nothing, and months may come in any order.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock
from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE

from flightdelay import promote, register, source, train
from flightdelay.config import LARGEST_SEED, refuse
from flightdelay.feed_contract import read_contract
from flightdelay.months import Months, Receipt
from flightdelay.registry import STATE, Registry
from flightdelay.source import NotThere
from flightdelay.tracking import finished_run, tracking_server
from flightdelay.usecase import UseCase, read_usecase
from flightdelay.validate import judge

FAILED = 3  # the exit code that says: some months could not be had
PAUSES = [0.5, 1, 2, 4]  # seconds before a file is asked for again


class MonthsFailed(Exception):
    """Some months could not be had; what could be done is done."""


def worth_another_try(task: object, run: object, state: Any) -> bool:
    """Whether asking again may help: not where the source says that there is no such thing."""
    return not isinstance(state.result(raise_on_failure=False), NotThere)


asking_again = task(
    name="ingest",
    retries=len(PAUSES),
    retry_delay_seconds=PAUSES,
    retry_condition_fn=worth_another_try,
    cache_policy=NO_CACHE,
)


@asking_again
def ingest_manifest(url: str, month: str, folder: Path) -> dict[str, Any]:
    return source.fetch_manifest(url, month, folder)


@asking_again
def ingest_file(url: str, month: str, file: dict[str, Any], folder: Path) -> None:
    source.fetch_file(url, month, file, folder)


@task(name="validate", cache_policy=NO_CACHE)
def validate_month(
    month: str, manifest: dict[str, Any], usecase: Path, history: Path, now: str, months: Months
) -> Receipt:
    """Hold the month to the data contract of stage 03, and keep what may be used."""
    return months.accept(month, manifest, judge(months.incoming / month, read_contract(usecase, history, now)))


@task(name="features", cache_policy=NO_CACHE)
def write_features(usecase: UseCase, months: Months) -> None:
    months.write_features(usecase)


@task(name="train", cache_policy=NO_CACHE)
def train_on(data_hash: str, seed: int, usecase: Path, case: UseCase, months: Months) -> str:
    """The run that learned from exactly these data: the one that is there, or a new one."""
    start, end = months.training_window(case)
    if run_id := finished_run(data_hash, (start, end), seed):
        return run_id
    work = STATE / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    config = work / "config.toml"
    config.write_text(f'seed = {seed}\ntrain_start = "{start}"\ntrain_end = "{end}"\n', encoding="utf-8")
    train.run(usecase, months.data, config, work / "model")
    return json.loads((work / "model" / "train.json").read_text(encoding="utf-8"))["run_id"]


@task(name="register", cache_policy=NO_CACHE)
def register_run(usecase: Path, run_id: str) -> str:
    out = STATE / "work" / "version.json"
    out.parent.mkdir(exist_ok=True)
    register.run(usecase, run_id, out)
    return json.loads(out.read_text(encoding="utf-8"))["version"]


@task(name="promote", cache_policy=NO_CACHE)
def promote_version(usecase: Path, case: UseCase, version: str, months: Months) -> bool:
    """Let the gate decide, unless it has decided about this version before."""
    with tracking_server():
        registry = Registry(case.model_name)
        with registry.locked():
            decided = registry.decision_about(version)
    if decided is None:
        out = STATE / "work" / "decision.json"
        promote.run(usecase, version, months.data, out)
        decided = json.loads(out.read_text(encoding="utf-8"))
    return decided["decision"] == "promoted"


def arrive(month: str, url: str, usecase: Path, history: Path, now: str, months: Months) -> Receipt:
    """Fetch a month and judge it; a receipt says what became of it, also when that was nothing."""
    folder = months.incoming / month
    try:
        manifest = ingest_manifest(url, month, folder)
        if kept := months.receipt(month, manifest):
            return kept
        for file in manifest["files"]:
            ingest_file(url, month, file, folder)
    except (source.NotDelivered, NotThere) as problem:
        return Receipt(month, "failed", reason=str(problem))
    return validate_month(month, manifest, usecase, history, now, months)


@flow(name="monthly", validate_parameters=False)
def monthly(usecase: Path, url: str, history: Path, wanted: list[str], now: str, seed: int, out: Path) -> None:
    """From the source to a judged model."""
    case, months = read_usecase(usecase), Months(STATE)
    receipts = [arrive(month, url, usecase, history, now, months) for month in wanted]
    version, promoted = None, False
    if months.arrived():
        months.lay_out(history)
        data_hash = months.seal(usecase, case.entity_table)
        write_features(case, months)
        version = register_run(usecase, train_on(data_hash, seed, usecase, case, months))
        promoted = promote_version(usecase, case, version, months)
    result = {
        "flow_run_id": str(runtime.flow_run.id),
        "months": [asdict(receipt) for receipt in receipts],
        "version": version,
        "promoted": promoted,
    }
    out.write_text(json.dumps(result, indent=2), encoding="utf-8")
    if failed := [f"{r.month}: {r.reason}" for r in receipts if r.status == "failed"]:
        raise MonthsFailed("; ".join(failed))


def read_months(text: str) -> list[str]:
    """The months of a list `M[,M]`, or the command is refused."""
    for month in (months := text.split(",")):
        if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", month):
            refuse(
                "bad_months",
                f"--months is {text!r}; it must be months like 2013-04, with commas between them",
                "months",
            )
    return months


def main() -> None:
    parser = argparse.ArgumentParser(prog="pipeline", description="From the source to a judged model, month by month.")
    for name in ("usecase", "history", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("source", "months", "now"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seed", type=int, required=True)
    given = parser.parse_args()
    wanted = read_months(given.months)
    if not 0 <= given.seed <= LARGEST_SEED:  # said before anything is fetched
        refuse("bad_seed", f"--seed is {given.seed}; it must be from 0 to {LARGEST_SEED}", "seed")
    STATE.mkdir(parents=True, exist_ok=True)
    with FileLock(STATE / "pipeline.lock"):
        try:
            monthly(given.usecase, given.source.rstrip("/"), given.history, wanted, given.now, given.seed, given.out)
        except MonthsFailed as problem:
            print(f"not all months could be had: {problem}", file=sys.stderr)
            sys.exit(FAILED)


if __name__ == "__main__":
    main()
