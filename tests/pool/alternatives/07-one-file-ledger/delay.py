"""One program, another way: pandas, gradient boosting, the fluent API avoided, the model kept as an MLflow model everywhere."""

import argparse
import datetime
import functools
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import socket
import sqlite3
import sys
import tempfile
import threading
import time
import tomllib
import traceback
import urllib.parse
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
DEFAULTS = {"rounds": 60, "leaves": 12, "days_held_out": 14, "rate": 0.1, "least": 20}
TEXTS = ("carrier", "origin", "dest")
LOGGED = "late flights"


class Refused(Exception):
    def __init__(self, message, key=None):
        super().__init__(message)
        self.key = key


def definitions():
    return tomllib.loads((HERE / "conf" / "what we know.toml").read_text())["feature"]


def known(flights, decided, by, value, known_at, time_at, asked):
    """Events in the order in which they became known, by group."""
    events = flights.dropna(subset=[value, known_at, *by])
    return events[[*by, value, known_at, time_at]].sort_values(known_at, kind="stable")


def asof(events, by, value, known_at, time_at, asked, decided):
    """The value with the latest time among those known, and that time."""
    events = events.assign(_t=events[time_at].astype("int64"))
    order = events["_t"].rank(method="first")
    best = order.groupby([events[b] for b in by]).cummax()
    lookup = pd.Series(events.index, index=order.values)
    events = events.assign(_src=lookup.loc[best.values].values)
    left = asked[by].assign(_at=decided, _row=range(len(asked))).sort_values("_at", kind="stable")
    found = pd.merge_asof(left, events[[*by, known_at, "_src"]], left_on="_at", right_on=known_at, by=by)
    found = found.set_index("_row").sort_index()
    there = found["_src"].notna().to_numpy()
    value_out, time_out = np.full(len(asked), np.nan), pd.Series(pd.NaT, index=range(len(asked)), dtype="datetime64[us, UTC]")
    picked = events.loc[found["_src"].dropna()]
    value_out[there] = picked[value].to_numpy("float64")
    time_out[there] = picked[time_at].to_numpy()
    return value_out, time_out


def mean(events, by, value, known_at, window, asked, decided):
    group = events.groupby(by, sort=False)[value]
    steps = events.assign(_n=group.cumcount() + 1, _s=group.cumsum())[[*by, known_at, "_n", "_s"]]

    def until(moment):
        left = asked[by].assign(_at=moment, _row=range(len(asked))).sort_values("_at", kind="stable")
        found = pd.merge_asof(left, steps, left_on="_at", right_on=known_at, by=by).set_index("_row").sort_index()
        return found["_n"].fillna(0).to_numpy(), found["_s"].fillna(0).to_numpy()

    (n1, s1), (n0, s0) = until(decided), until(decided - pd.Timedelta(window))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n1 > n0, (s1 - s0) / (n1 - n0), np.nan)


class Source:
    def __init__(self, usecase, data):
        self.case, self.data = tomllib.loads(Path(usecase).read_text()), Path(data)
        self.tables = {name: self.read(name) for name in ("flights", "weather")}
        label = self.case["label"]
        flights = self.tables["flights"]
        flights["label"] = (flights[label["column"]] > label["value"]).astype(float).where(flights[label["column"]].notna())

    def read(self, name):
        parts = [pd.read_parquet(path) for path in sorted((self.data / name).glob("*.parquet"))]
        table = pd.concat(parts, ignore_index=True)
        known_columns = {*self.case["request"], *self.case["slices"], "flight_id"}
        wanted = [c for c in table if name != "flights" or c in known_columns or c in WANTED]
        return table[wanted].sort_values(self.case["tables"][name]["key"], ignore_index=True)

    def features(self, rows):
        decided = rows["sched_dep"] - pd.Timedelta(self.case["decision_lead"])
        columns = {}
        for d in definitions():
            if d["kind"] == "column":
                column = rows[d["column"]]
                numeric = pd.api.types.is_numeric_dtype(column)
                columns[d["name"]] = column.astype(float) if numeric else column.astype(object).where(column.notna(), None)
            elif d["kind"] == "calendar":
                local = rows[d["of"]].dt.tz_convert(d["zone"]).dt
                columns[d["name"]] = {"hour": local.hour, "dow": local.dayofweek, "month": local.month}[d["part"]].astype(float)
            else:
                spec = self.case["tables"][d["table"]]
                at = spec.get("known", {}).get(d["column"], spec["known_at"])
                events = known(self.tables[d["table"]], decided, d["by"], d["column"], at, spec["time"], rows)
                if d["kind"] == "mean":
                    columns[d["name"]] = mean(events, d["by"], d["column"], at, d["window"], rows, decided)
                else:
                    value, when = asof(events, d["by"], d["column"], at, spec["time"], rows, decided)
                    age = (decided.reset_index(drop=True) - when).dt.total_seconds().to_numpy() / 3600
                    fresh = age <= pd.Timedelta(d["max_age"]).total_seconds() / 3600
                    columns[d["name"]] = np.where(fresh, value if d["kind"] == "asof" else age, np.nan)
        return pd.DataFrame({name: pd.Series(np.asarray(c)) for name, c in columns.items()})


WANTED = {"dep_delay_min", "dep_known_at", "arr_delay_min", "label_known_at", "outcome"}


def read_config(path):
    given = tomllib.loads(Path(path).read_text())
    for key in given:
        if key not in {"seed", "train_start", "train_end", *DEFAULTS}:
            raise Refused(f"{key} is no key", key)
    for key in ("seed", "train_start", "train_end"):
        if key not in given:
            raise Refused(f"{key} is missing", key)
    if type(given["seed"]) is not int:
        raise Refused("seed is no whole number", "seed")
    for key in ("train_start", "train_end"):
        try:
            pd.Timestamp(given[key]).date()
        except (TypeError, ValueError):
            raise Refused(f"{key} is no day", key) from None
    return {**DEFAULTS, **given}


def fitted(source, config):
    """The model of a window, what it was validated on, and what went in."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    flights = source.tables["flights"]
    day = flights["sched_dep_local"].str[:10]
    landed = flights[(day >= config["train_start"]) & (day <= config["train_end"]) & flights["label"].notna()]
    split = str((pd.Timestamp(config["train_end"]) - pd.Timedelta(days=config["days_held_out"] - 1)).date())
    learn, valid = (landed[keep].reset_index(drop=True) for keep in (landed["sched_dep_local"] < split, landed["sched_dep_local"] >= split))
    if learn["label"].nunique() < 2 or valid["label"].nunique() < 2:
        raise Refused("the window has too few flights", "train_end")
    texts = [d["name"] for d in definitions() if d["name"] in TEXTS]
    encode = ColumnTransformer(
        [("texts", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), texts)], remainder="passthrough"
    )
    trees = HistGradientBoostingClassifier(
        max_iter=config["rounds"], max_leaf_nodes=config["leaves"], learning_rate=config["rate"],
        min_samples_leaf=config["least"], random_state=config["seed"],
        early_stopping=False,
    )
    x = source.features(learn)
    return make_pipeline(encode, trees).fit(x, learn["label"]), x, learn, valid


def measures(label, p):
    from sklearn import metrics

    return {
        "log_loss": metrics.log_loss(label, p), "brier": metrics.brier_score_loss(label, p), "auc": metrics.roc_auc_score(label, p),
    }


def code_hash():
    files = sorted(path for path in HERE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return hashlib.sha1(b"".join(str(f.relative_to(HERE)).encode() + f.read_bytes() for f in files)).hexdigest()


def train(a):
    config = read_config(a.config)
    source = Source(a.usecase, a.data)
    model, x, learn, valid = fitted(source, config)
    import mlflow
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.models import infer_signature

    held = source.features(valid)
    p = model.predict_proba(held)[:, 1]
    rate = np.full(len(valid), learn["label"].mean())
    found = {f"valid.{k}": v for k, v in measures(valid["label"], p).items()}
    found |= {f"baseline.{k}": v for k, v in measures(valid["label"], rate).items() if k != "auc"}
    out = Path(a.out)
    (out / "model.json").write_text(json.dumps({k: config[k] for k in ("seed", "train_start", "train_end")} | {"rows": len(learn)}))

    class Late(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            import pandas

            return pandas.DataFrame({"probability": self.model.predict_proba(model_input)[:, 1]})

    late = Late()
    late.model = model
    about = {
        "python_model": late, "signature": infer_signature(held, pd.DataFrame({"probability": p})),
        "input_example": held.head(2), "pip_requirements": ["scikit-learn"],
    }
    mlflow.pyfunc.save_model(out / "model", **about)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    run = client.create_run(experiment.experiment_id).info.run_id
    try:
        dataset = json.loads((Path(a.data) / "manifest.json").read_text())["dataset_hash"]
        client.log_batch(
            run,
            [Metric(k, v, int(time.time() * 1000), 0) for k, v in found.items()],
            [Param(k, str(v)) for k, v in config.items()],
            [RunTag("mlekit.dataset_hash", dataset), RunTag("mlekit.code_hash", code_hash())]
            + ([RunTag(FOR, a.mark)] if "mark" in a else []),
        )
        shuffled = pd.DataFrame({"row_id": valid["flight_id"], "probability": p, "label": valid["label"] == 1}).sample(frac=1, random_state=1)
        shuffled.to_parquet(out / "validation.parquet", index=False)
        client.log_artifact(run, str(out / "validation.parquet"))
        with mlflow.start_run(run_id=run):
            mlflow.pyfunc.log_model(name=LOGGED, **about)
        (out / "train.json").write_text(json.dumps({"run_id": run, "model_uri": f"runs:/{run}/{LOGGED}"}))
    except BaseException:
        client.set_terminated(run, "FAILED")
        raise


def predict(a):
    import mlflow

    rows = pd.read_parquet(a.rows)
    model = mlflow.pyfunc.load_model(a.model if ":/" in a.model else f"{a.model}/model")
    found = model.predict(Source(a.usecase, a.data).features(rows))
    pd.DataFrame({"row_id": rows["row_id"], "probability": found["probability"].to_numpy()}).to_parquet(a.out, index=False)


def staleness(a):
    config = read_config(a.config)
    source = Source(a.usecase, a.data)
    flights = source.tables["flights"]
    month = flights["sched_dep_local"].str[:7]
    months = sorted(month.unique())
    parts = {m: flights[(month == m) & flights["label"].notna()].reset_index(drop=True) for m in months}
    tables = {m: source.features(part) for m, part in parts.items()}
    points = []
    for place, m in enumerate(months[:-1]):
        end = str((pd.Period(m).end_time).date())
        if end < config["train_end"]:
            continue
        model = fitted(source, {**config, "train_end": end})[0]
        for age, later in enumerate(months[place + 1 :], 1):
            p = model.predict_proba(tables[later])[:, 1]
            points.append({"train_end": end, "scored_month": later, "age_months": age, "n": len(p), **measures(parts[later]["label"], p)})
    pd.DataFrame(points[::-1]).to_parquet(a.out, index=False)


# The registry. Who was champion when is a tag of the registered model, a list of versions whose last one is champion now. It is written
# before the alias moves, and read together with it, so that a crash between the two is seen and counts as no move.

BARS = {"not_better": -2.0, "slice": 3.5, "too_good": 0.9, "calibration": 0.095, "latency": 5.5}  # the first two in spreads
PATH, FLIGHTS_OF_A_SLICE, ROWS_OF_A_CALL = "champions", 300, 100


def state(*parts):
    return Path(os.environ["MLEKIT_STATE"], *parts)


@contextmanager
def turn(registry):
    """One command at a time: who has the ledger has the turn, from here until its connection is closed, over any number of commits.

    It is SQLite's own lock on the file, which the kernel holds, knows through any container, and lets go with its holder. Exclusive locking is
    asked for inside the transaction: asked for before, two that come together would keep each other's shared locks waiting.
    """
    ledger = sqlite3.connect(state("ledger.sqlite"), timeout=285, isolation_level=None, check_same_thread=False)
    try:
        ledger.execute("BEGIN EXCLUSIVE")
        ledger.execute("PRAGMA locking_mode = EXCLUSIVE")
        ledger.execute("CREATE TABLE IF NOT EXISTS arrived (month, path, parquet BLOB, PRIMARY KEY (month, path))")
        ledger.execute("CREATE TABLE IF NOT EXISTS verdict (run PRIMARY KEY, model, version, line, settled)")
        ledger.execute("COMMIT")
        settle(ledger, registry)
        yield ledger
    finally:
        ledger.close()


def settle(ledger, registry):
    """Let the world follow the verdicts in the ledger. One is only ever half followed where a crash was, and everybody comes by here first."""
    for run, version, line in ledger.execute("SELECT run, version, line FROM verdict WHERE NOT settled AND model = ?", [registry.name]).fetchall():
        champion, path = registry.champions()
        if json.loads(line)["decision"] == "promoted" and champion != version:
            registry.crown([*path, version])
        log = state("audit.jsonl")
        if not log.exists() or line.encode() not in log.read_bytes().split(b"\n"):
            note(line)
        ledger.execute("UPDATE verdict SET settled = 1 WHERE run = ?", [run])


class Registry:
    def __init__(self, usecase):
        import mlflow

        self.client, self.name = mlflow.MlflowClient(), tomllib.loads(Path(usecase).read_text())["model_name"]

    def has(self, version):
        return self.there(self.client.get_model_version, self.name, version) is not None

    def there(self, ask, *what):
        from mlflow.exceptions import MlflowException

        try:
            return ask(*what)
        except MlflowException as problem:
            if problem.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def champions(self):
        """The champion, if there is one, and the path that led to it."""
        model = self.there(self.client.get_registered_model, self.name)
        if model is None:
            return None, []
        at, path = model.aliases.get("champion"), json.loads(model.tags.get(PATH, "[]"))
        if at is None:
            return None, path
        at = str(at)  # MLflow's SQL store gives a number here
        path = path[: len(path) - path[::-1].index(at)] if at in path else [*path, at]
        return (at if self.has(at) else None), path

    def crown(self, path):
        self.client.set_registered_model_tag(self.name, PATH, json.dumps(path[-200:]))
        self.client.set_registered_model_alias(self.name, "champion", path[-1])


def worded(at, action, before, to, decision, reasons):
    return json.dumps({"at": at, "action": action, "from": before, "to": to, "decision": decision, "reasons": reasons}, allow_nan=False)


def audit(*what):
    note(worded(datetime.datetime.now(datetime.UTC).isoformat(), *what))


def note(line):
    with open(state("audit.jsonl"), "a+b") as log:
        if log.tell() and (log.seek(-1, os.SEEK_END), log.read())[1] != b"\n":
            log.write(b"\n")  # what a crash left half written ends here
        log.write(line.encode() + b"\n")
        log.flush()
        os.fsync(log.fileno())


def enrolled(registry, run):
    """The version of a run: the one that is there, or a new one."""
    import mlflow

    versions = [v for v in registry.client.search_model_versions(f"run_id = '{run}'") if v.name == registry.name]
    if versions:
        return str(min(versions, key=lambda v: int(v.version)).version)
    return str(mlflow.register_model(f"runs:/{run}/{LOGGED}", registry.name).version)


def register(a):
    registry = Registry(a.usecase)
    with turn(registry):
        run = registry.there(registry.client.get_run, a.run_id)
        if run is None or run.info.lifecycle_stage != "active":
            raise Refused(f"there is no run {a.run_id}")
        if run.info.status != "FINISHED":
            raise Refused(f"run {a.run_id} is {run.info.status}; only a FINISHED one can be registered")
        version = enrolled(registry, a.run_id)
    Path(a.out).write_text(json.dumps({"version": version}))


def said(model, x):
    """The probabilities of a model, or an error that says why they are none."""
    p = np.asarray(model.predict(x.copy())["probability"])
    if p.shape != (len(x),) or p.dtype.kind not in "fiu":
        raise ValueError(f"probability has shape {p.shape} and type {p.dtype} for {len(x)} rows")
    p = p.astype("float64")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"{int((~((p >= 0) & (p <= 1))).sum())} probabilities are missing or outside 0 to 1")
    return p


def losses(label, p):
    return -np.log(np.clip(np.where(label, p, 1 - p), np.finfo(float).eps, 1 - np.finfo(float).eps))


def spread(difference, times=500):
    """How far the mean of a paired difference moves when other flights of the same kind had been drawn: the bootstrap."""
    draw, n = np.random.default_rng(6), len(difference)
    return np.std([difference[draw.integers(n, size=n)].mean() for _ in range(times)])


def calibration_error(label, p):
    order = np.argsort(p, kind="stable")
    return np.mean([abs(p[part].mean() - label[part].mean()) for part in np.array_split(order, 10)])


def pace(models, x, rounds=9):
    """Median seconds of a call, the models taking turns, so that a busy machine is as busy for each."""
    def seconds(model):
        start = time.perf_counter()
        said(model, x)
        return time.perf_counter() - start

    return np.median([[seconds(model) for model in models] for _ in range(rounds)], axis=0)


def objections(load, champion, challenger, x, flights, slices):
    """The reasons of all gates that say no."""
    from sklearn.metrics import roc_auc_score

    label = flights["label"].to_numpy() == 1
    old = champion and load(champion)
    q = said(old, x) if champion else None
    try:
        new = load(challenger)
        p = said(new, x)
        paces = pace((old, new), x.head(ROWS_OF_A_CALL)) if champion else said(new, x.head(1))
    except Exception as problem:
        return [{"gate": "schema", "metric": "usable", "champion": None, "challenger": None, "bar": None, "problem": f"{type(problem).__name__}: {problem}"[:500]}]
    reasons = []

    def ask(gate, metric, champion, challenger, bar, **where):
        if not challenger < bar:
            champion = None if champion is None else float(champion)
            reasons.append({"gate": gate, "metric": metric, "champion": champion, "challenger": float(challenger), "bar": float(bar), **where})

    for gate, metric, measure in (("too_good", "auc", roc_auc_score), ("calibration", "calibration_error", calibration_error)):
        ask(gate, metric, measure(label, q) if champion else None, measure(label, p), BARS[gate])
    if champion:
        ours, theirs = losses(label, q), losses(label, p)
        everywhere = [("not_better", {}, np.arange(len(x)))]
        for column in slices:
            parts = flights.groupby(column).indices.items()
            everywhere += [("slice", {"slice": f"{column}={value}"}, rows) for value, rows in parts if len(rows) >= FLIGHTS_OF_A_SLICE]
        for gate, where, rows in everywhere:
            bar = ours[rows].mean() + BARS[gate] * spread(theirs[rows] - ours[rows])
            ask(gate, "log_loss", ours[rows].mean(), theirs[rows].mean(), bar, **where)
        ask("latency", "seconds", *paces, BARS["latency"] * paces[0])
    return reasons


def judge(registry, version, source, among=None):
    """The champion, the path that led to it, and what speaks against this version, on these flights or those of the last month."""
    import mlflow

    flights = source.tables["flights"]
    month = flights["sched_dep_local"].str[:7]
    chosen = month == month.max() if among is None else among(flights["sched_dep_local"].str[:10])
    flights = flights[chosen & flights["label"].notna()].reset_index(drop=True)
    if flights["label"].nunique() < 2:
        raise Refused("there are no landed flights of both kinds to judge by")
    champion, path = registry.champions()
    load = lambda v: mlflow.pyfunc.load_model(f"models:/{registry.name}/{v}")  # noqa: E731
    return champion, path, objections(load, champion, version, source.features(flights), flights, source.case["slices"])


def promote(a):
    registry, source = Registry(a.usecase), Source(a.usecase, a.data)
    if not registry.has(a.version):
        raise Refused(f"{registry.name} has no version {a.version}")
    with turn(registry):
        champion, path, reasons = judge(registry, a.version, source)
        decision = "refused" if reasons else "promoted"
        if not reasons:
            registry.crown([*path, a.version])
        audit("promote", champion, a.version, decision, reasons)
    after = champion if reasons else a.version
    Path(a.out).write_text(json.dumps({"decision": decision, "champion_before": champion, "champion_after": after, "reasons": reasons}))


def rollback(a):
    registry = Registry(a.usecase)
    with turn(registry):
        champion, path = registry.champions()
        path = path[:-1]
        while path and not registry.has(path[-1]):
            path.pop()
        if not path:
            raise Refused(f"no champion of {registry.name} before {champion} is known")
        registry.crown(path)
        audit("rollback", champion, path[-1], "promoted", [])
    Path(a.out).write_text(json.dumps({"from": champion, "to": path[-1]}))


# The door: the rules of stage 03, on files that are still in memory.

def kind(t):
    import pyarrow.types as is_

    if is_.is_dictionary(t) and kind(t.value_type) == "text":
        return "text"
    kinds = {"text": ("string", "large_string", "string_view"), "whole": ("integer",), "number": ("floating",), "truth": ("boolean",)}
    for name, tests in kinds.items():
        if any(getattr(is_, f"is_{test}")(t) for test in tests):
            return name
    return "instant" if is_.is_timestamp(t) and t.tz is not None else str(t)


def plain(table):
    """Without dictionaries, NaN and what programs note down in a schema."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {}
    for name, column in zip(table.column_names, table.columns):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        columns[name] = column
    return pa.table(columns)


def packed(table, key, schema=None):
    """The one file for these rows: the same bytes however they came. Types are the history's, unless a value does not fit."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = plain(table)
    if schema is not None:
        columns = []
        for field in schema:
            column = table[field.name]
            try:
                column = column.cast(field.type)
            except pa.ArrowInvalid:
                pass
            columns.append(column)
        table = pa.table(columns, names=schema.names)
    order = [(column, "ascending") for column in [*key, *table.column_names] if column in table.column_names]
    table = table.sort_by(list(dict(order).items())).combine_chunks()
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


@functools.cache
def stood(history, name):
    """A table of the history, all its files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pa.concat_tables([plain(pq.read_table(path, partitioning=None)) for path in sorted(Path(history, name).glob("*.parquet"))])


def nulls(frame, spec, column):
    filled = spec.get("filled", {})
    if column in filled.get("columns", ()):
        for where, value in filled.get("where", {}).items():
            if where not in frame:
                return None
            frame = frame[frame[where] == value]
    return frame[column].isna().mean() if len(frame) else None


def read_feed_table(manifest, files, name, findings):
    import pyarrow.parquet as pq

    listed = manifest.get("files", []) if isinstance(manifest, dict) else []
    listed = sorted((f for f in listed if f["path"].startswith(f"{name}/") and f["path"].endswith(".parquet")), key=lambda f: f["path"])
    tables = []
    for f in listed:
        try:
            table = pq.ParquetFile(io.BytesIO(files[f["path"]])).read()
        except Exception:
            table = None
        if table is None or not table.num_rows or table.num_rows != f.get("rows"):
            findings.add((name, None, "truncated"))
        else:
            tables.append(table)
    if not listed:
        findings.add((name, None, "truncated"))
    return tables


def about_columns(tables, name, expected, findings):
    """What is wrong with the columns of a table's files; True for those that can be looked into."""
    import pyarrow as pa
    import pyarrow.compute as pc

    usable = set(expected.names)
    for table in tables:
        for field, column in zip(table.schema, table.columns):
            if kind(field.type) == "text":
                try:
                    for chunk in column.chunks:
                        (chunk.dictionary if pa.types.is_dictionary(field.type) else chunk).validate(full=True)
                        if field.type == pa.string_view():
                            pc.utf8_length(chunk.cast(pa.string())).validate(full=True)
                except pa.ArrowInvalid:
                    findings.add((name, field.name, "encoding"))
                    usable.discard(field.name)
        new = {kind(f.type) for f in table.schema if f.name not in expected.names}
        for field in expected:
            there = table.schema.get_all_field_indices(field.name)
            if not there:
                findings.add((name, field.name, "renamed_column" if kind(field.type) in new else "missing_column"))
            elif len(there) > 1 or kind(table.schema.field(there[0]).type) != kind(field.type):
                findings.add((name, field.name, "wrong_type"))
            else:
                continue
            usable.discard(field.name)
    return [column for column in expected.names if column in usable]


def wrong_rows(frame, case, name, history, now):
    """For each rule about rows that is broken, in which column, and where."""
    spec, found = case["tables"][name], []
    for column, limits in spec.get("values", {}).items():
        if column not in frame:
            continue
        value, there = frame[column], frame[column].notna()
        bad = pd.Series(False, index=frame.index)
        if "min" in limits:
            bad |= there & (value < limits["min"])
        if "max" in limits:
            bad |= there & (value > limits["max"])
        if "one_of" in limits:
            bad |= there & ~value.isin(limits["one_of"])
        if "form" in limits:
            def exists(text, form=limits["form"]):
                try:
                    return bool(datetime.datetime.strptime(text, form))
                except ValueError:
                    return False

            good = {text: exists(text) for text in value[there].unique()}
            bad |= there & ~value.map(good).eq(True)
        found.append(("out_of_range", column, bad))
        if "in" in limits:
            keys = pd.read_parquet(Path(history, f"{limits['in']}.parquet"))[case["tables"][limits["in"]]["key"][0]]
            found.append(("unknown_reference", column, there & ~value.isin(set(keys.dropna()))))
    found.append(("out_of_range", spec["time"], frame[spec["time"]] > now))
    found.append(("duplicate_key", None, frame.duplicated(spec["key"], keep=False)))
    return [(rule, column, np.asarray(bad.fillna(False), dtype=bool)) for rule, column, bad in found if bad.any()]


def inspected(case, manifest, files, history, now):
    """What stage 03 says of a feed: how many rows, what is wrong, and the accepted rows of each table."""
    import pyarrow as pa

    findings, found, feed = set(), {}, {}
    for name in case["feeds"]["tables"]:
        spec, past = case["tables"][name], stood(history, name)
        tables = read_feed_table(manifest, files, name, findings)
        if not tables:
            continue
        usable = about_columns(tables, name, past.schema, findings)
        if not usable:
            continue
        parts = [plain(t.select(usable)) for t in tables]
        frames, before = [t.to_pandas() for t in parts], past.select(usable).to_pandas()
        frame = pd.concat(frames, ignore_index=True)
        if spec["time"] in usable:
            if any(not (f[spec["time"]].max() > before[spec["time"]].max()) for f in frames):
                findings.add((name, None, "stale"))
        for column in usable:
            here, there = nulls(frame, spec, column), nulls(before, spec, column)
            if here is not None and here - (there or 0) > case["feeds"]["null_share"] + 1e-12:
                findings.add((name, column, "null_rate"))
        for column in spec.get("steady", []):
            if column in usable:
                here, there, factor = frame[column].mean(), before[column].mean(), case["feeds"]["mean_factor"]
                if here > there * factor or here < there / factor:
                    findings.add((name, column, "unit_change"))
        feed[name] = parts, frame
    rows_in = sum(len(frame) for _, frame in feed.values())
    if findings:
        said_ = ", ".join(sorted(f"{rule} in {table}" + (f".{column}" if column else "") for table, column, rule in findings))
        return {"status": "refused", "rows_in": rows_in, "rows_accepted": 0, "rows_quarantined": 0, "reason": f"the data contract is broken: {said_}"}, {}
    accepted, stopped, why = {}, 0, {}
    for name, (parts, frame) in feed.items():
        bad = np.zeros(len(frame), dtype=bool)
        for rule, column, where in wrong_rows(frame, case, name, history, now):
            bad |= where
            why[f"{rule} in {name}" + (f".{column}" if column else "")] = int(where.sum())
        stopped += int(bad.sum())
        past = stood(history, name)
        whole = pa.concat_tables(parts, promote_options="permissive").filter(pa.array(~bad))
        accepted[name] = packed(whole, case["tables"][name]["key"], past.schema)
    report = {"status": "quarantined" if stopped else "accepted", "rows_in": rows_in, "rows_accepted": rows_in - stopped, "rows_quarantined": stopped}
    if why:
        report["reason"] = ", ".join(f"{n} rows: {what}" for what, n in sorted(why.items()))
    return report, accepted


# The source. Every file has a Prefect task of its own, and every attempt at it is one of that task's.

WAIT, PAUSES = 10, [0.4, 1.0, 2.0]  # seconds


class Gone(Exception):
    pass


def delivery(url, digest=None):
    """The bytes of a file, or an error that says what there was instead of them. Without a digest it is a manifest."""
    where = urllib.parse.urlsplit(url)
    line = (http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection)(where.netloc, timeout=WAIT)
    late = threading.Event()

    def hang_up(wire):
        late.set()
        with suppress(OSError):
            wire.shutdown(socket.SHUT_RDWR)  # whoever reads from it now reads the end

    clock = None
    try:
        start = time.monotonic()
        line.connect()
        clock = threading.Timer(start + WAIT - time.monotonic(), hang_up, [line.sock])
        clock.daemon = True
        clock.start()
        line.request("GET", where.path, headers={"Connection": "close"})
        answer = line.getresponse()
        status, length, data = answer.status, answer.headers.get("Content-Length"), answer.read()
    except Exception as problem:
        said_ = f"was not there after {WAIT} seconds" if late.is_set() or isinstance(problem, TimeoutError) else f"broke off: {problem!r}"
        raise OSError(f"{url} {said_}") from None
    finally:
        if clock:
            clock.cancel()
        line.close()
    if late.is_set():
        raise OSError(f"{url} was not there after {WAIT} seconds")
    if status in (404, 410):
        raise Gone(f"the source does not have {url} ({status})")
    if status != 200:
        raise OSError(f"{url} answered {status}")
    if length is not None and len(data) != int(length):
        raise OSError(f"{url} broke off after {len(data)} of {length} bytes")
    if digest is not None:
        if hashlib.sha256(data).hexdigest() != digest.lower():
            raise OSError(f"{url} sent bytes that are not those of the manifest")
        return bytes(data)
    try:
        manifest = json.loads(data)
        assert all(isinstance(f["path"], str) and isinstance(f["sha256"], str) for f in manifest["files"])
    except (ValueError, KeyError, TypeError, AssertionError):
        raise OSError(f"{url} is no manifest") from None
    return manifest


# What stays. The ledger is the truth about rows, and files are its shadow: written anew from it by every command, each as a whole.


def shadow(path, data):
    if path.exists() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = state("aside")
    aside.mkdir(exist_ok=True)
    with open(aside / "file", "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside / "file", path)


def cast_shadow(ledger, case, history):
    """The folder data, as the history and the ledger say; gives the hash of its rows."""
    import pyarrow.parquet as pq

    files = {}
    for path in sorted(Path(history).rglob("*.parquet")):
        name = path.relative_to(history)
        key = case["tables"].get(name.parts[0].removesuffix(".parquet"), {}).get("key", [])
        files[name.as_posix()] = packed(pq.read_table(path, partitioning=None), key)
    files.update(ledger.execute("SELECT path, parquet FROM arrived"))
    manifest = [
        {"path": name, "rows": pq.ParquetFile(io.BytesIO(data)).metadata.num_rows, "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in sorted(files.items())
    ]
    whole = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    for name, data in files.items():
        shadow(state("data", name), data)
    for path in state("data").rglob("*.parquet"):
        if path.relative_to(state("data")).as_posix() not in files:
            path.unlink()
    months = sorted({Path(name).stem for name in files if "/" in name})
    shadow(state("data", "manifest.json"), json.dumps({"usecase": case["name"], "dataset_hash": whole, "months": months, "files": manifest}).encode())
    return whole


def lesson(flights, seed):
    """The configuration that learns from all days before the last month, or None where there is nothing to learn or judge by."""
    day = flights["sched_dep_local"].str[:10]
    last = day.max()[:7]
    landed = day[flights["label"].notna() & (day < last)].sort_values()
    judged = flights[flights["label"].notna() & (day > last)]
    if landed.nunique() < 2 or judged["label"].nunique() < 2:
        return None
    end = pd.Timestamp(day[day < last].max())  # a month in between may not have arrived
    return f'seed = {seed}\ntrain_start = "{landed.iloc[0]}"\ntrain_end = "{end.date()}"\n'


FOR = "mlekit.pipeline"  # the run that the pipeline made for this hash of data, code, use case and seed


def finished(registry, mark):
    experiment = registry.client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    found = registry.client.search_runs([experiment.experiment_id], f"tags.`{FOR}` = '{mark}' and attributes.status = 'FINISHED'")
    return min(found, key=lambda run: run.info.end_time).info.run_id if found else None


def pipeline(a):
    asked = a.months.split(",")
    for month in asked:
        if not re.fullmatch("[0-9]{4}-(0[1-9]|1[0-2])", month):
            raise Refused(f"{month!r} is no month; they are written YYYY-MM, with commas between them", "months")
    try:
        seed, now = int(a.seed), pd.Timestamp(a.now)
        now = now.tz_localize("UTC") if now.tz is None else now
    except (TypeError, ValueError):
        raise Refused(f"the seed {a.seed} is no whole number or the time {a.now} none", "seed") from None
    registry = Registry(a.usecase)
    try:
        with turn(registry) as ledger:
            shutil.rmtree(state("aside"), ignore_errors=True)
            return run_flow(a, asked, seed, now, registry, ledger)
    except Exception:
        traceback.print_exc()
        return 70


def run_flow(a, asked, seed, now, registry, ledger):
    from prefect import flow, runtime, task
    from prefect.cache_policies import NO_CACHE
    from prefect.futures import wait
    from prefect.states import Failed
    from prefect.task_runners import ThreadPoolTaskRunner

    case, history = tomllib.loads(Path(a.usecase).read_text()), Path(a.history)

    def worth_it(task, task_run, result):
        return isinstance(result.result(raise_on_failure=False), OSError)

    step = functools.partial(task, cache_policy=NO_CACHE, persist_result=False)
    lost = []

    @step(name="ingest", retries=len(PAUSES), retry_delay_seconds=PAUSES, retry_condition_fn=worth_it)
    def ingest(url, digest=None):
        return delivery(url, digest)

    def url(month, path):
        return f"{a.source.rstrip('/')}/{month}/{urllib.parse.quote(path)}"

    def outcomes(futures):
        wait(list(futures.values()))
        return {what: future.result(raise_on_failure=False) for what, future in futures.items()}

    def fetched():
        """Of each month its manifest and files, or the reason why not."""
        months = list(dict.fromkeys(asked))
        manifests = outcomes({month: ingest.submit(url(month, "manifest.json")) for month in months})
        wanted = {
            (month, f["path"]): f["sha256"] for month, manifest in manifests.items() if isinstance(manifest, dict) for f in manifest["files"]
        }
        files = outcomes({(month, path): ingest.submit(url(month, path), digest) for (month, path), digest in wanted.items()})
        months = {}
        for month, manifest in manifests.items():
            mine = {path: data for (m, path), data in files.items() if m == month}
            problems = [str(p) for p in (manifest, *mine.values()) if isinstance(p, BaseException)]
            months[month] = "; ".join(problems)[:1000] if problems else (manifest, mine)
        return months

    @step(name="validate")
    def validate(month, manifest, files):
        return inspected(case, manifest, files, history, now)

    @step(name="features")
    def features(months):
        source = Source(a.usecase, state("data"))
        for month in months:
            rows = pd.read_parquet(state("data", "flights", f"{month}.parquet"))
            table, out = source.features(rows), io.BytesIO()
            table.insert(0, "row_id", rows["flight_id"].to_numpy())
            table.to_parquet(out, index=False)
            shadow(state("features", f"{month}.parquet"), out.getvalue())
        return source

    @step(name="train")
    def teach(config, mark):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "model")
            out.mkdir()
            Path(folder, "config.toml").write_text(config)
            train(argparse.Namespace(config=f"{folder}/config.toml", usecase=a.usecase, data=str(state("data")), out=str(out), mark=mark))
        return finished(registry, mark)

    @step(name="register")
    def enrol(run):
        return enrolled(registry, run)

    @step(name="promote")
    def pass_judgement(run, version, source):
        champion, _, reasons = judge(registry, version, source)
        line = worded(now.isoformat(), "promote", champion, version, "refused" if reasons else "promoted", reasons)
        ledger.execute("INSERT INTO verdict VALUES (?, ?, ?, ?, 0)", [run, registry.name, version, line])  # from here on it is decided
        settle(ledger, registry)

    def verdict(run):
        found = ledger.execute("SELECT version, line FROM verdict WHERE run = ?", [run]).fetchone()
        return (found[0], json.loads(found[1])["decision"] == "promoted") if found else None

    def follow():
        """Bring everything to where the ledger is; gives the version and whether it was promoted."""
        months = [m for (m,) in ledger.execute("SELECT DISTINCT month FROM arrived ORDER BY month")]
        if not months:
            return None, False
        whole = cast_shadow(ledger, case, history)
        source = features(months)
        mark = hashlib.sha256(json.dumps([whole, code_hash(), case, seed], sort_keys=True, default=str).encode()).hexdigest()
        run = finished(registry, mark)
        if run is None:
            config = lesson(source.tables["flights"], seed)
            if config is None:
                return None, False
            run = teach(config, mark)
        if verdict(run) is None:
            pass_judgement(run, enrol(run), source)
        return verdict(run)

    @flow(name="monthly", task_runner=ThreadPoolTaskRunner(max_workers=8), persist_result=False, validate_parameters=False)
    def monthly(months):
        months, reports = fetched(), {}
        judged = outcomes({month: validate.submit(month, *found) for month, found in months.items() if not isinstance(found, str)})
        ledger.execute("BEGIN")
        for month, found in months.items():
            if isinstance(found, str):
                reports[month] = {"status": "failed", "rows_in": 0, "rows_accepted": 0, "rows_quarantined": 0, "reason": found}
                continue
            if isinstance(judged[month], BaseException):
                raise judged[month]
            reports[month], accepted = judged[month]
            if accepted:
                ledger.execute("DELETE FROM arrived WHERE month = ?", [month])
                ledger.executemany(
                    "INSERT INTO arrived VALUES (?, ?, ?)", [(month, f"{name}/{month}.parquet", data) for name, data in accepted.items()]
                )
        ledger.execute("COMMIT")
        version, promoted = follow()
        report = {"flow_run_id": str(runtime.flow_run.id), "months": [{"month": m, **reports[m]} for m in asked], "version": version, "promoted": promoted}
        Path(a.out).write_text(json.dumps(report, allow_nan=False))
        lost.extend(m for m in months if reports[m]["status"] == "failed")
        return Failed(message=f"could not be had: {', '.join(lost)}") if lost else None

    result = monthly(asked, return_state=True)
    if result.is_completed():
        return 0
    if result.is_failed() and lost:
        return 3
    result.result()
    raise RuntimeError(f"the flow ended {result}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("train", "predict", "staleness", "register", "promote", "rollback", "pipeline"))
    for option in ("usecase", "data", "config", "model", "rows", "out", "run-id", "version", "source", "history", "months", "now", "seed"):
        parser.add_argument(f"--{option}")
    arguments = parser.parse_args()
    try:
        sys.exit(globals()[arguments.command](arguments))
    except Refused as problem:
        Path(os.environ["MLEKIT_REFUSAL"]).write_text(json.dumps({"code": "refused", "message": str(problem), "key": problem.key}))
        sys.exit(2)
