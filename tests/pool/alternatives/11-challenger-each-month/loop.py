"""The loop: messages in, answers out. All that it remembers stands in the ledger, one SQLite file; whatever is left half done is done by who comes next."""

import argparse
import json
import os
import signal
import tempfile
import time
import tomllib
import traceback
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

import delay
import sense

SMOOTH = {"rate": 0.05, "least": 60}  # trees for few days
delay.BARS["not_better"] = -1.5  # the days of one month say less than those of two
ATTEMPTS, PAUSES = 4, (0.3, 0.8, 1.5)
MOST_TROUBLE = 5  # times that one step may go wrong before the loop ends


class Ledger:
    """What is decided, by step. Something that is written here is never asked again."""

    def __init__(self, db):
        self.db = db
        db.execute("CREATE TABLE IF NOT EXISTS decided (step, what, value, PRIMARY KEY (step, what))")

    def get(self, step, what):
        found = self.db.execute("SELECT value FROM decided WHERE step = ? AND what = ?", [step, what]).fetchone()
        return json.loads(found[0]) if found else None

    def put(self, step, what, value, rows=()):
        """Write a decision down, together with the rows that it accepts, or nothing at all."""
        self.db.execute("BEGIN")
        for month, files in rows:
            self.db.execute("DELETE FROM arrived WHERE month = ?", [month])
            self.db.executemany("INSERT INTO arrived VALUES (?, ?, ?)", [(month, path, data) for path, data in files.items()])
        self.db.execute("INSERT INTO decided VALUES (?, ?, ?)", [step, what, json.dumps(value, allow_nan=False)])
        self.db.execute("COMMIT")
        return value


# Months


def stubborn(url, digest=None):
    for attempt in range(ATTEMPTS):
        try:
            return delay.delivery(url, digest)
        except OSError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSES[attempt])


def fetched(source, month, pool):
    base = f"{source.rstrip('/')}/{month}"
    manifest = stubborn(f"{base}/manifest.json")
    files = {f["path"]: pool.submit(stubborn, f"{base}/{urllib.parse.quote(f['path'])}", f["sha256"]) for f in manifest["files"]}
    return manifest, {path: future.result() for path, future in files.items()}


def arrival(a, case, month, now):
    """What became of a month, and the files to keep of it."""
    nothing = {"month": month, "rows_in": 0, "rows_accepted": 0, "rows_quarantined": 0}
    try:
        with ThreadPoolExecutor(8) as pool:
            manifest, files = fetched(a.source, month, pool)
    except (OSError, delay.Gone) as problem:
        return {**nothing, "status": "failed", "reason": str(problem)[:500]}, None
    report, tables = delay.inspected(case, manifest, files, Path(a.history), now)
    if tables:
        flights = tables["flights"]
        wrong = sense.doubt(pd.read_parquet(delay.io.BytesIO(flights)), delay.stood(Path(a.history), "flights").to_pandas())
        if wrong:
            return {**nothing, "status": "refused", "rows_in": report["rows_in"], "reason": wrong}, None
    return {"month": month, **report}, {f"{name}/{month}.parquet": data for name, data in tables.items()}


def bring(a, case, ledger, message):
    months, now = list(dict.fromkeys(message.get("months", []))), pd.Timestamp(message["now"])
    with ThreadPoolExecutor(4) as pool:
        arrived = dict(zip(months, pool.map(lambda month: arrival(a, case, month, now), months)))
    rows = [(month, files) for month, (_, files) in arrived.items() if files]
    return ledger.put(message["step"], "months", [arrived[month][0] for month in message.get("months", [])], rows)


# Decisions


def learned_from(registry, version, history):
    """The window of a version, as its run says; of one that came from elsewhere the history, as nothing better is known."""
    run = registry.client.get_model_version(registry.name, version).run_id
    params = registry.client.get_run(run).data.params if run else {}
    if not {"train_start", "train_end", "days_held_out"} <= params.keys():
        days = delay.stood(history, "flights")["sched_dep_local"].to_pandas().str[:10]
        return {"train_start": days.min(), "train_end": days.max(), "days": days.nunique()}
    span = (pd.Timestamp(params["train_end"]) - pd.Timestamp(params["train_start"])).days + 1
    return {"train_start": params["train_start"], "train_end": params["train_end"], "days": span - int(params["days_held_out"])}


def plan(message, registry, source, case, history):
    """The windows to train on at this step, and on what that rests."""
    import mlflow

    reasons, windows = [], []
    champion, _ = registry.champions()
    view = sense.View.of(source, pd.Timestamp(message["now"]))
    if champion is None:
        reasons.append("there is no champion")
        windows.append(sense.window(view.days))
    else:
        model = mlflow.pyfunc.load_model(f"models:/{registry.name}/{champion}")
        reason, window = sense.look(view, model, learned_from(registry, champion, history), case["retraining"]["cost"])
        reasons.append(reason)
        windows += [window] if window else []
    if order := message.get("order"):
        reasons.append(f"a model of {order['train_start']} to {order['train_end']} was ordered")
        span = (pd.Timestamp(order["train_end"]) - pd.Timestamp(order["train_start"])).days + 1
        windows.append({"train_start": order["train_start"], "train_end": order["train_end"], "days_held_out": min(14, max(1, span // 4))})
    return {"trigger": "; ".join(reasons), "windows": windows}


def make(a, message, place, window, ledger, registry, source, seed):
    """The version of a window: trained, registered and judged, each of them once."""
    mark = f"loop {message['step']}.{place}"
    run = delay.finished(registry, mark)
    if run is None:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "model")
            out.mkdir()
            config = {"seed": seed, **SMOOTH} | {key: window[key] for key in ("train_start", "train_end", "days_held_out")}
            Path(folder, "config.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in config.items()))
            asked = argparse.Namespace(config=f"{folder}/config.toml", usecase=a.usecase, data=str(delay.state("data")), out=str(out), mark=mark)
            delay.train(asked)
        run = delay.finished(registry, mark)
    version = delay.enrolled(registry, run)
    if not ledger.db.execute("SELECT 1 FROM verdict WHERE run = ?", [run]).fetchone():
        last = source.tables["flights"].loc[source.tables["flights"]["label"].notna(), "sched_dep_local"].max()[:10]
        held = pd.Timestamp(window["train_end"]) - pd.Timedelta(days=window["days_held_out"])  # the last day it has learned from
        edge = str(max(held, pd.Timestamp(last) - pd.Timedelta(days=sense.LATELY)).date())
        champion, _, reasons = delay.judge(registry, version, source, lambda days: days > edge)
        line = delay.worded(message["now"], "promote", champion, version, "refused" if reasons else "promoted", reasons)
        ledger.db.execute("INSERT INTO verdict VALUES (?, ?, ?, ?, 0)", [run, registry.name, version, line])
    delay.settle(ledger.db, registry)
    return version


def answered(a, message, db):
    step, seed, ledger = message["step"], int(a.seed), Ledger(db)
    if answer := ledger.get(step, "answer"):
        return answer
    case, registry = tomllib.loads(Path(a.usecase).read_text()), delay.Registry(a.usecase)
    months = ledger.get(step, "months")
    if months is None:
        months = bring(a, case, ledger, message)
    delay.cast_shadow(db, case, a.history)
    source = delay.Source(a.usecase, delay.state("data"))
    decided = ledger.get(step, "plan")
    if decided is None:
        decided = ledger.put(step, "plan", plan(message, registry, source, case, Path(a.history)))
    versions, trigger, windows = [], decided["trigger"], list(decided["windows"])
    for place, window in enumerate(windows):
        try:
            versions.append(make(a, message, place, window, ledger, registry, source, seed))
        except delay.Refused as problem:
            trigger += f"; {window['train_start']} to {window['train_end']} cannot be learned from: {problem}"
        if place == 0:  # where the gate finds the very first one wanting: once more, with more days to judge by
            again = ledger.get(step, "again")
            if again is None:
                again = ledger.put(step, "again", registry.champions()[0] is None)
            windows += [{**window, "days_held_out": 2 * window["days_held_out"]}] if again else []
    champion, _ = registry.champions()
    if champion is None:
        raise RuntimeError("no version has passed the gate, and there is no champion to answer with")
    answer = {"step": step, "decision": "retrain" if versions else "keep", "trigger": trigger, "versions": versions, "champion": champion, "months": months}
    return ledger.put(step, "answer", answer)


def deliver(path, answer):
    part = path.with_suffix(".part")
    with open(part, "w") as file:
        json.dump(answer, file, allow_nan=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def live(a):
    mailbox, trouble = Path(a.mailbox), 0
    (mailbox / "out").mkdir(exist_ok=True)
    while True:
        waiting = [path for path in sorted((mailbox / "in").glob("*.json")) if not (mailbox / "out" / path.name).exists()]
        for path in waiting[:1]:
            try:
                with delay.turn(delay.Registry(a.usecase)) as db:
                    answer = answered(a, json.loads(path.read_text()), db)
                print(json.dumps(answer), flush=True)
                deliver(mailbox / "out" / path.name, answer)
                trouble = 0
            except Exception:
                traceback.print_exc()
                trouble += 1
                if trouble >= MOST_TROUBLE:
                    raise
                time.sleep(1)
        if not waiting:
            time.sleep(0.2)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # at any moment: the ledger is made for worse
    parser = argparse.ArgumentParser()
    for option in ("usecase", "mailbox", "source", "history", "seed"):
        parser.add_argument(f"--{option}", required=True)
    live(parser.parse_args())
