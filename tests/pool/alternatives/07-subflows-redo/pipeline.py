"""The pipeline as a tree of flows: `monthly` starts a subflow `arrival` for each month, all at once, and a subflow `model` after them.

There is no ledger. A month is staged, committed by one rename, and laid into `data/` by moves that can be made again (a redo log). What the
model needs to know is asked of MLflow: which run learned from these data, which version came of it, and what was decided about it.
"""

import argparse
import asyncio
import datetime
import functools
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import sys
import tempfile
import tomllib
from pathlib import Path
from urllib.parse import quote

import httpx
import pandas as pd
import pyarrow.parquet as pq

import delay
import gate
from door import delay as door

SECONDS, PAUSES = 10, [0.3, 0.9, 2.7]
VERDICT = "pipeline.verdict"


def state(*parts):
    return Path(os.environ["MLEKIT_STATE"], *parts)


def place(path, data):
    """Write a file as a whole, unless it is there already."""
    if path.exists() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=state("staged"))
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    os.replace(name, path)


# Months


def commit(month, tables):
    staged, ready = state("staged", month), state("ready")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    ready.mkdir(exist_ok=True)
    for name, data in tables.items():
        (staged / f"{name}.parquet").write_bytes(data)
    shutil.rmtree(ready / month, ignore_errors=True)
    staged.rename(ready / month)


def redo():
    """Lay what was committed into the data; a run that died in the middle of it is continued by the next."""
    for folder in sorted(state("ready").glob("*")):
        for path in sorted(folder.iterdir()):
            target = state("data", path.stem, f"{folder.name}.parquet")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target.with_suffix(".part"))
            os.replace(target.with_suffix(".part"), target)
        (state("arrived") / folder.name).touch()
        shutil.rmtree(folder)


def arrived():
    return sorted(path.name for path in state("arrived").iterdir())


def complete(case, usecase, history):
    """The history beside the months, and a manifest whose hash speaks of all rows and of the use case."""
    for path in history.rglob("*.parquet"):
        place(state("data", path.relative_to(history)), path.read_bytes())
    files = {path.relative_to(state("data")).as_posix(): path for path in sorted(state("data").rglob("*.parquet"))}
    told = [
        {"path": name, "rows": pq.ParquetFile(path).metadata.num_rows, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for name, path in files.items()
    ]
    whole = hashlib.sha256(json.dumps(told).encode() + Path(usecase).read_bytes()).hexdigest()
    months = sorted({path.stem for name, path in files.items() if "/" in name})
    manifest = {"usecase": case["name"], "dataset_hash": whole, "months": months, "files": told}
    place(state("data", "manifest.json"), json.dumps(manifest).encode())
    return whole


# The source


class Absent(Exception):
    """The source says that there is no such file."""


class NotDelivered(Exception):
    pass


async def get(client, url, digest=None):
    try:
        async with asyncio.timeout(SECONDS):
            answer = await client.get(url)
    except TimeoutError:
        raise NotDelivered(f"{url}: nothing whole after {SECONDS} seconds") from None
    except httpx.HTTPError as problem:
        raise NotDelivered(f"{url}: {type(problem).__name__}") from None
    if answer.status_code == 404:
        raise Absent(f"{url}: the source does not have it")
    if answer.status_code != 200:
        raise NotDelivered(f"{url}: status {answer.status_code}")
    if digest is not None and hashlib.sha256(answer.content).hexdigest() != digest:
        raise NotDelivered(f"{url}: other bytes than those of the manifest")
    if digest is None:
        try:
            manifest = answer.json()
            return manifest if [(f["path"], f["sha256"]) for f in manifest["files"]] else manifest
        except (ValueError, KeyError, TypeError):
            raise NotDelivered(f"{url}: no manifest") from None
    return answer.content


# The flows


def flows(given, case, registry, book):
    from prefect import flow, runtime, task
    from prefect.cache_policies import NO_CACHE
    from prefect.states import Failed

    history, now = Path(given.history), pd.Timestamp(given.now)
    step = functools.partial(task, cache_policy=NO_CACHE, persist_result=False)
    quiet = {"persist_result": False, "validate_parameters": False}

    async def may_come(task, run, at):
        return not isinstance(at.data, Absent)

    @step(name="ingest", task_run_name="ingest-{path}", retries=len(PAUSES), retry_delay_seconds=PAUSES, retry_condition_fn=may_come)
    async def ingest(client, month, path, digest=None):
        return await get(client, f"{given.source.rstrip('/')}/{month}/{quote(path)}", digest)

    @step(name="validate", task_run_name="validate-{month}")
    def validate(month, manifest, files):
        return door.inspected(case, manifest, files, history, now)

    @flow(name="arrival", flow_run_name="arrival-{month}", **quiet)
    async def arrival(month):
        async with httpx.AsyncClient(timeout=SECONDS + 1, headers={"Connection": "close", "Accept-Encoding": "identity"}) as client:
            manifest = await ingest(client, month, "manifest.json")
            listed = {f["path"]: f["sha256"] for f in manifest["files"]}
            contents = await asyncio.gather(*(ingest(client, month, path, digest) for path, digest in listed.items()))
        report, tables = validate(month, manifest, dict(zip(listed, contents, strict=True)))
        if tables:
            commit(month, tables)
        return report

    @step(name="features", task_run_name="features-{month}")
    def features(source, month):
        rows, out = pd.read_parquet(state("data", "flights", f"{month}.parquet")), io.BytesIO()
        found = source.features(rows)
        found.insert(0, "row_id", rows["flight_id"].to_numpy())
        found.to_parquet(out, index=False)
        place(state("features", f"{month}.parquet"), out.getvalue())

    @step(name="train")
    def learn(source):
        day = source.tables["flights"]["sched_dep_local"].str[:10]
        config = {"seed": given.seed, "train_start": day.min(), "train_end": day[day < day.max()[:7]].max()}
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder, "config.toml")
            written.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in config.items()))
            out = Path(folder, "out")
            out.mkdir()
            delay.train(argparse.Namespace(usecase=given.usecase, data=str(state("data")), config=str(written), out=str(out)))
            return json.loads((out / "train.json").read_text())["run_id"]

    def learned(whole):
        """The finished run that learned from just these data, with this code and seed."""
        experiment = registry.client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
        query = f"tags.`mlekit.dataset_hash` = '{whole}' AND tags.`mlekit.code_hash` = '{delay.code_hash()}'"
        query += f" AND params.seed = '{given.seed}' AND attributes.status = 'FINISHED'"
        found = registry.client.search_runs([experiment.experiment_id], query)
        return min(found, key=lambda run: run.info.start_time).info.run_id if found else None

    def version_of(run):
        found = [v for v in registry.client.search_model_versions(f"run_id = '{run}'") if v.name == registry.name]
        return str(min(int(v.version) for v in found)) if found else None

    @step(name="register")
    def enrol(run):
        import mlflow

        return str(mlflow.register_model(f"runs:/{run}/{delay.LOGGED}", registry.name).version)

    @step(name="promote")
    def pass_gate(version, source):
        """Decide once, and write that to the version; then do what was decided as often as it takes."""
        import mlflow

        client = registry.client
        with book.turn():
            line = client.get_model_version(registry.name, version).tags.get(VERDICT)
            if line is None:
                flights = source.tables["flights"]
                month = flights["sched_dep_local"].str[:7]
                flights = flights[(month == month.max()) & flights["label"].notna()].reset_index(drop=True)
                champion = book.champion()
                against = gate.reasons_against(
                    lambda v: mlflow.pyfunc.load_model(f"models:/{registry.name}/{v}"),
                    champion, version, source.features(flights), flights, case["slices"],
                )  # fmt: skip
                told = {"at": now.isoformat(), "action": "promote", "from": champion, "to": version}
                told |= {"decision": "refused" if against else "promoted", "reasons": against}
                line = json.dumps(told, allow_nan=False)
                client.set_model_version_tag(registry.name, version, VERDICT, line)
            told = json.loads(line)
            if told["decision"] == "promoted" and not book.moved(version):
                book.move(told["from"], version)
            write_once(line)
        return told["decision"] == "promoted"

    @flow(name="model", **quiet)
    def model(months, whole):
        source = delay.Source(given.usecase, state("data"))
        for future in [features.submit(source, month) for month in months]:
            future.result()
        run = learned(whole) or learn(source)
        version = version_of(run) or enrol(run)
        return version, decided(version) if settled(version) else pass_gate(version, source)

    def decided(version):
        line = registry.client.get_model_version(registry.name, version).tags.get(VERDICT)
        return line and json.loads(line)["decision"] == "promoted"

    def settled(version):
        """Whether nothing is left to do for it."""
        line = registry.client.get_model_version(registry.name, version).tags.get(VERDICT)
        return line is not None and line in audited() and (not decided(version) or book.moved(version))

    @flow(name="monthly", **quiet)
    async def monthly(asked):
        redo()
        names = list(dict.fromkeys(asked))
        ended = await asyncio.gather(*(arrival(month) for month in names), return_exceptions=True)
        reports = {}
        for month, found in zip(names, ended, strict=True):
            if isinstance(found, (NotDelivered, Absent)):
                found = {"status": "failed", "rows_in": 0, "rows_accepted": 0, "rows_quarantined": 0, "reason": str(found)}
                lost.append(month)
            elif isinstance(found, BaseException):
                raise found
            reports[month] = found
        redo()
        version, promoted = None, False
        if arrived():
            whole = complete(case, given.usecase, history)
            version, promoted = model(arrived(), whole)
        answer = {"flow_run_id": str(runtime.flow_run.id), "months": [{"month": m, **reports[m]} for m in asked]}
        Path(given.out).write_text(json.dumps(answer | {"version": version, "promoted": bool(promoted)}))
        return Failed(message=f"not delivered: {', '.join(lost)}") if lost else None

    lost = []
    return monthly, lost


def audited():
    path = state("audit.jsonl")
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def write_once(line):
    if line in audited():
        return
    with open(state("audit.jsonl"), "a+b") as log:
        torn = log.tell() and (log.seek(-1, os.SEEK_END), log.read())[1] != b"\n"
        log.write(b"\n" * bool(torn) + line.encode() + b"\n")


class Book(gate.Book):
    """Its turn may be taken inside that of the pipeline."""

    def moved(self, version):
        self.door.execute(gate.TABLES)
        return self.door.execute("SELECT 1 FROM moves WHERE upto = ? AND state IN ('done', 'undone')", (version,)).fetchone() is not None


def main():
    parser = argparse.ArgumentParser()
    for name in ("usecase", "source", "history", "months", "now", "seed", "out"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    try:
        months = given.months.split(",")
        for month in months:
            if not re.fullmatch("[0-9]{4}-(0[1-9]|1[0-2])", month):
                raise delay.Refused(f"{month!r} is no month such as 2013-04", "months")
        given.seed = int(given.seed)
        datetime.datetime.fromisoformat(given.now)
    except delay.Refused as problem:
        Path(os.environ["MLEKIT_REFUSAL"]).write_text(json.dumps({"code": "bad_months", "message": str(problem), "key": problem.key}))
        return 2
    case = tomllib.loads(Path(given.usecase).read_text())
    with sqlite3.connect(state("pipeline.db"), timeout=280, isolation_level=None) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        shutil.rmtree(state("staged"), ignore_errors=True)
        for name in ("staged", "ready", "arrived"):
            state(name).mkdir(exist_ok=True)
        registry = delay.Registry(given.usecase)
        monthly, lost = flows(given, case, registry, Book(registry))
        end = asyncio.run(monthly(months, return_state=True))
    if end.is_completed():
        return 0
    if end.is_failed() and lost:
        return 3
    end.result()  # raises what the flow ended with
    return 1


if __name__ == "__main__":
    sys.exit(main())
