"""train, predict, staleness: the tracking client only, two runs a training, the smallest validation that is allowed."""

import datetime
import hashlib
import itertools
import json
import os
import pathlib
import sys
import tempfile
import tomllib

import numpy as np
import pandas as pd

from airport.dated import World, own, stop

ROOT = pathlib.Path(__file__).parents[2]
KNOWN = {"seed": None, "train_start": None, "train_end": None, "model": {"knots": 5, "c": 0.1}, "label": "plain"}


def configuration(path):
    given = tomllib.loads(pathlib.Path(path).read_text())
    if unknown := sorted(given.keys() - KNOWN.keys()):
        stop("unknown_key", f"{unknown[0]} is not known", unknown[0])
    for key in ("seed", "train_start", "train_end"):
        if key not in given:
            stop("missing_key", f"{key} is missing", key)
        try:
            assert type(given[key]) is int if key == "seed" else datetime.date.fromisoformat(given[key])
        except (AssertionError, ValueError, TypeError):
            stop("wrong_value", f"{key} is {given[key]!r}", key)
    if unknown := sorted(given.get("model", {}).keys() - KNOWN["model"].keys()):
        stop("unknown_key", f"model.{unknown[0]} is not known", f"model.{unknown[0]}")
    return {**KNOWN, **given, "model": {**KNOWN["model"], **given.get("model", {})}}


def landed(world):
    flights = world.table("flights")
    return flights[flights["label"].notna()].sort_values(["sched_dep", "flight_id"], ignore_index=True)


def table_of(world, rows):
    x = world.features(own(), rows)
    for name, column in x.items():
        number = pd.api.types.is_numeric_dtype(column)
        x[name] = column.astype("float64") if number else pd.Series(column.to_numpy(dtype=object, na_value=None), dtype=object)
    return x


def split(day, first, last):
    """Places learned from, and of the fewest last days that hold a tenth of the window."""
    window = np.flatnonzero((day >= first) & (day <= last))
    for cut in sorted(set(day[window]), reverse=True):
        later = window[day[window] >= cut]
        if 10 * len(later) >= len(window):
            if 2 * len(later) > len(window):
                break
            return window[day[window] < cut], later
    stop("no_flights", f"from {first} to {last} there are not enough flights to learn from and to validate on", "train_start")


def fit(settings, x, y, learn):
    from late.chance import Chance

    return Chance(**settings["model"]).fit(x.iloc[learn].reset_index(drop=True), y[learn])


def scores(y, p):
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    return {"log_loss": log_loss(y, p), "brier": brier_score_loss(y, p), "auc": roc_auc_score(y, p)}


def train(usecase, data, config, out):
    settings = configuration(config)
    world = World(usecase, data)
    flights = landed(world)
    day = flights["sched_dep_local"].str[:10].to_numpy(dtype=object)
    flights = flights[(day >= settings["train_start"]) & (day <= settings["train_end"])].reset_index(drop=True)
    day = flights["sched_dep_local"].str[:10].to_numpy(dtype=object)
    learn, valid = split(day, settings["train_start"], settings["train_end"])
    manifest = json.loads(pathlib.Path(data, "manifest.json").read_text())
    for file in manifest["files"]:
        assert len(pd.read_parquet(pathlib.Path(data, file["path"]))) == file["rows"], file["path"]
    x, y = table_of(world, flights), flights["label"].to_numpy()
    model = fit(settings, x, y, learn)
    held = x.iloc[valid].reset_index(drop=True)
    said = model.predict(held)
    found = {f"valid.{k}": v for k, v in scores(y[valid], said["probability"]).items()}
    rate = np.full(len(valid), y[learn].mean())
    found |= {f"baseline.{k}": v for k, v in scores(y[valid], rate).items()}  # baseline.auc is .5 and nobody asked for it

    import mlflow
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.models import infer_signature

    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"]).experiment_id
    data_run = client.create_run(experiment, run_name="what went in").info.run_id  # a run beside, not below
    run = client.create_run(experiment, run_name="train").info.run_id
    try:
        client.log_dict(data_run, {"rows": len(flights)}, "counts.json")
        params = [(k, v) for k, v in settings.items() if k != "model"] + [(f"model.{k}", v) for k, v in settings["model"].items()]
        client.log_batch(run, params=[Param(k, str(v)) for k, v in params])
        for k, v in found.items():
            client.log_metric(run, k, v)
        digest = hashlib.blake2b()
        for file in sorted(ROOT.rglob("*")):
            if file.is_file() and file.suffix != ".pyc":
                digest.update(repr((str(file.relative_to(ROOT)), file.read_bytes())).encode())
        client.log_batch(run, tags=[RunTag("mlekit.code_hash", digest.hexdigest()), RunTag("mlekit.dataset_hash", manifest["dataset_hash"])])
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "validation.parquet")
            rows = pd.DataFrame({"row_id": flights["flight_id"].iloc[valid].astype("category"), "probability": said["probability"].to_numpy(), "label": y[valid] == 1})
            rows.to_parquet(path)  # the index goes along
            client.log_artifact(run, path)
        with mlflow.start_run(run_id=run):
            logged = mlflow.sklearn.log_model(
                model, name="chance", signature=infer_signature(held, said), input_example=held.tail(4).reset_index(drop=True), pyfunc_predict_fn="predict",
                serialization_format="cloudpickle", pip_requirements=["scikit-learn"], code_paths=["src/late"],
                metadata={"by": "late"}, params={"knots": settings["model"]["knots"]},
            )  # fmt: skip
        mlflow.sklearn.save_model(
            model, pathlib.Path(out, "model"), pyfunc_predict_fn="predict", serialization_format="cloudpickle", pip_requirements=["scikit-learn"]
        )
        kept = {k: settings[k] for k in ("seed", "train_start", "train_end")} | {"rows": len(learn)}
        pathlib.Path(out, "model.json").write_text(json.dumps(kept))
        pathlib.Path(out, "train.json").write_text(json.dumps({"run_id": run, "model_uri": logged.model_uri}))
        client.set_terminated(data_run)
        client.set_terminated(run)
    except BaseException:
        for one in (run, data_run):
            client.set_terminated(one, "FAILED")
        raise


def predict(usecase, model, data, rows, out):
    import mlflow

    asked = pd.read_parquet(rows)
    late = mlflow.pyfunc.load_model(model if ":/" in model else f"{model}/model")
    said = late.predict(table_of(World(usecase, data), asked))
    said.insert(0, "row_id", asked["row_id"])
    said.to_parquet(out, index=False)


def staleness(usecase, data, config, out):
    settings = configuration(config)
    world = World(usecase, data)
    flights = landed(world)
    day = flights["sched_dep_local"].str[:10].to_numpy(dtype=object)
    month = np.array([d[:7] for d in day], dtype=object)
    x, y = table_of(world, flights), flights["label"].to_numpy()
    months, found = sorted(set(month)), []
    models = {}
    for older, later in itertools.combinations(range(len(months)), 2):
        end = str(pd.Period(months[older]).asfreq("D", "end"))
        if end < settings["train_end"]:
            continue
        if end not in models:
            models[end] = fit(settings, x, y, split(day, settings["train_start"], end)[0])
        rows = np.flatnonzero(month == months[later])
        p = models[end].predict(x.iloc[rows].reset_index(drop=True))["probability"]
        found.append({"scored_month": months[later], "train_end": end, "n": len(rows), "age_months": later - older, **scores(y[rows], p)})
    pd.DataFrame(found).to_parquet(out)


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    globals()[command](**{name[2:]: value for name, value in itertools.batched(words, 2)} if hasattr(itertools, "batched") else dict(zip((w[2:] for w in words[::2]), words[1::2])))
