"""One program, another way: pandas, gradient boosting, the fluent API avoided, the model kept as an MLflow model everywhere."""

import argparse
import datetime
import fcntl
import hashlib
import json
import os
import sys
import time
import tomllib
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
DEFAULTS = {"rounds": 60, "leaves": 12, "days_held_out": 14}
TEXTS = ("carrier", "origin", "dest")
LOGGED = "late flights"


class Refused(Exception):
    def __init__(self, message, key=None):
        super().__init__(message)
        self.key = key


@cache
def definitions():
    return tomllib.loads((HERE / "conf" / "what we know.toml").read_text())["feature"]


def known(table, by, value, known_at, time_at):
    """Events in the order in which they became known."""
    events = table.dropna(subset=[value, known_at, *by])
    return events[list(dict.fromkeys([*by, value, known_at, time_at]))].sort_values(known_at, kind="stable")


def microseconds(moments):
    return moments.dt.as_unit("us").astype("int64").to_numpy()


def microseconds_of(duration):
    return pd.Timedelta(duration) // pd.Timedelta("1us")


class History:
    """What was known of each group, and since when; built once and asked often, about one row or about many."""

    def __init__(self, events, by, value, known_at, time_at):
        events = events.reset_index(drop=True)
        self.by, groups = by, events.groupby(by, sort=False)
        self.since, self.groups = microseconds(events[known_at]), {}
        for key, places in groups.indices.items():
            self.groups[key if isinstance(key, tuple) else (key,)] = places, self.since[places]
        # Each array ends with what holds where there is no place: place -1.
        self.count, self.sum = np.append(groups.cumcount() + 1.0, 0), np.append(groups[value].cumsum().to_numpy("float64"), 0)
        order = events[time_at].rank(method="first")
        best = order.groupby([events[b] for b in by]).cummax()
        newest = pd.Series(events.index, index=order.values).loc[best.values].to_numpy()  # of those known by then the latest
        self.value = np.append(events[value].to_numpy("float64")[newest], np.nan)
        self.time = np.append(microseconds(events[time_at])[newest], 0)

    def places(self, asked, moments):
        """For each row the place of the last event of its group that was known at its moment; -1 where there is none."""
        rows_of = {}
        for row, key in enumerate(zip(*(asked[b] for b in self.by))):
            rows_of.setdefault(key, []).append(row)
        out = np.full(len(asked), -1)
        for key, rows in rows_of.items():
            if key in self.groups:
                places, since = self.groups[key]
                found = np.searchsorted(since, moments[rows], side="right") - 1
                out[rows] = np.where(found >= 0, places[found], -1)
        return out

    def asof(self, asked, decided):
        """The value with the latest time among those known, and its age in hours."""
        at = self.places(asked, decided)
        return self.value[at], np.where(at >= 0, (decided - self.time[at]) / 1e6 / 3600, np.nan)

    def mean(self, asked, decided, window):
        def until(moments):
            at = self.places(asked, moments)
            return self.count[at], self.sum[at]

        (n1, s1), (n0, s0) = until(decided), until(decided - window)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(n1 > n0, (s1 - s0) / (n1 - n0), np.nan)


class Source:
    def __init__(self, usecase, data):
        self.case, self.data = tomllib.loads(Path(usecase).read_text()), Path(data)
        self.histories = {}
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

    def history(self, table, by, column):
        if (table, by, column) not in self.histories:
            spec = self.case["tables"][table]
            at = spec.get("known", {}).get(column, spec["known_at"])
            if column == "label":
                at = self.case["label"]["known_at"]
            events = known(self.tables[table], list(by), column, at, spec["time"])
            self.histories[table, by, column] = History(events, list(by), column, at, spec["time"])
        return self.histories[table, by, column]

    def features(self, rows):
        decided = rows["sched_dep"] - pd.Timedelta(self.case["decision_lead"])
        moments, columns = microseconds(decided), {}
        for d in definitions():
            if d["kind"] == "column":
                column = rows[d["column"]]
                numeric = pd.api.types.is_numeric_dtype(column)
                columns[d["name"]] = column.astype(float) if numeric else column.astype(object).where(column.notna(), None)
            elif d["kind"] == "calendar":
                local = rows[d["of"]].dt.tz_convert(d["zone"]).dt
                columns[d["name"]] = {"hour": local.hour, "dow": local.dayofweek, "month": local.month}[d["part"]].astype(float)
            else:
                history = self.history(d["table"], tuple(d["by"]), d["column"])
                if d["kind"] == "mean":
                    columns[d["name"]] = history.mean(rows, moments, microseconds_of(d["window"]))
                else:
                    value, age = history.asof(rows, moments)
                    fresh = age <= microseconds_of(d["max_age"]) / 1e6 / 3600
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
        max_iter=config["rounds"], max_leaf_nodes=config["leaves"], learning_rate=0.1, random_state=config["seed"],
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
            [RunTag("mlekit.dataset_hash", dataset), RunTag("mlekit.code_hash", code_hash())],
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


@contextmanager
def turn():
    """One command at a time. The kernel holds the lock, knows it through any container, and lets it go with its holder."""
    with open(Path(os.environ["MLEKIT_STATE"]) / "turn", "a") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        yield


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


def audit(action, before, to, decision, reasons):
    line = {"at": datetime.datetime.now(datetime.UTC).isoformat(), "action": action, "from": before, "to": to, "decision": decision, "reasons": reasons}
    with open(Path(os.environ["MLEKIT_STATE"]) / "audit.jsonl", "a+b") as log:
        if log.tell() and (log.seek(-1, os.SEEK_END), log.read())[1] != b"\n":
            log.write(b"\n")  # what a crash left half written ends here
        log.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        log.flush()
        os.fsync(log.fileno())


def register(a):
    import mlflow

    registry = Registry(a.usecase)
    with turn():
        run = registry.there(registry.client.get_run, a.run_id)
        if run is None or run.info.lifecycle_stage != "active":
            raise Refused(f"there is no run {a.run_id}")
        if run.info.status != "FINISHED":
            raise Refused(f"run {a.run_id} is {run.info.status}; only a FINISHED one can be registered")
        versions = [v for v in registry.client.search_model_versions(f"run_id = '{a.run_id}'") if v.name == registry.name]
        if versions:
            version = min(versions, key=lambda v: int(v.version)).version
        else:
            version = mlflow.register_model(f"runs:/{a.run_id}/{LOGGED}", registry.name).version
    Path(a.out).write_text(json.dumps({"version": str(version)}))


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


def promote(a):
    import mlflow

    registry, source = Registry(a.usecase), Source(a.usecase, a.data)
    if not registry.has(a.version):
        raise Refused(f"{registry.name} has no version {a.version}")
    flights = source.tables["flights"]
    month = flights["sched_dep_local"].str[:7]
    flights = flights[(month == month.max()) & flights["label"].notna()].reset_index(drop=True)
    if flights["label"].nunique() < 2:
        raise Refused("the last month has no landed flights of both kinds to judge by")
    x = source.features(flights)
    with turn():
        champion, path = registry.champions()
        reasons = objections(
            lambda version: mlflow.pyfunc.load_model(f"models:/{registry.name}/{version}"), champion, a.version, x, flights, source.case["slices"]
        )
        decision = "refused" if reasons else "promoted"
        if not reasons:
            registry.crown([*path, a.version])
        audit("promote", champion, a.version, decision, reasons)
    after = champion if reasons else a.version
    Path(a.out).write_text(json.dumps({"decision": decision, "champion_before": champion, "champion_after": after, "reasons": reasons}))


def rollback(a):
    registry = Registry(a.usecase)
    with turn():
        champion, path = registry.champions()
        path = path[:-1]
        while path and not registry.has(path[-1]):
            path.pop()
        if not path:
            raise Refused(f"no champion of {registry.name} before {champion} is known")
        registry.crown(path)
        audit("rollback", champion, path[-1], "promoted", [])
    Path(a.out).write_text(json.dumps({"from": champion, "to": path[-1]}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("train", "predict", "staleness", "register", "promote", "rollback"))
    for option in ("usecase", "data", "config", "model", "rows", "out", "run-id", "version"):
        parser.add_argument(f"--{option}")
    arguments = parser.parse_args()
    try:
        globals()[arguments.command](arguments)
    except Refused as problem:
        Path(os.environ["MLEKIT_REFUSAL"]).write_text(json.dumps({"code": "refused", "message": str(problem), "key": problem.key}))
        sys.exit(2)
