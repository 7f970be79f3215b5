"""train, predict and staleness from stage 05 on. Two fifths of the window are for validation; ridges are compared before that, and each
of these comparisons is a run of its own below that of the training."""

import argparse
import datetime
import json
import os
import tempfile
import tomllib
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from airport.dated import HOME, World, own, stop
from airport.model import Binned, is_number

DEFAULTS = {"ridge": {"tried": [3.0, 30.0], "days": 10}, "held_out": 0.4, "note": ""}


def flat(tree, above=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def configuration(file):
    given = dict(flat(tomllib.loads(Path(file).read_text())))
    usual = dict(flat(DEFAULTS))
    for key in given:
        if key not in {"seed", "train_start", "train_end", *usual}:
            stop("unknown", f"{key} is not known", key)
    for key, kind in {"seed": int, "train_start": str, "train_end": str}.items():
        if type(given.get(key)) is not kind:
            stop("wrong", f"{key} has to be a {kind.__name__}", key)
        try:
            kind is str and datetime.date.fromisoformat(given[key])
        except ValueError:
            stop("wrong", f"{key} is no day", key)
    return {**usual, **given}


def measures(late, p):
    p, late = np.asarray(p), np.asarray(late)
    sure = np.clip(p, 2.2e-16, 1 - 2.2e-16)
    rank = pd.Series(p).rank().to_numpy()
    n1 = late.sum()
    return {
        "log_loss": float(-np.mean(np.where(late == 1, np.log(sure), np.log1p(-sure)))), "brier": float(np.mean((p - late) ** 2)),
        "auc": float((rank[late == 1].sum() - n1 * (n1 + 1) / 2) / (n1 * (len(late) - n1))),
    }  # fmt: skip


class Study:
    """The landed flights of the data with their features, which are computed once."""

    def __init__(self, usecase, data, first, last):
        self.world = World(usecase, data)
        flights = self.world.table("flights")
        day = flights["sched_dep_local"].str.slice(0, 10)
        some = flights[flights["label"].notna() & (day >= first) & (day <= last)]
        self.flights = some.sort_values("flight_id", ignore_index=True)
        self.day = self.flights["sched_dep_local"].str.slice(0, 10)
        found = self.world.features(own(), self.flights)
        self.x = pd.DataFrame({
            name: c.astype("float64") if is_number(c) else pd.Series(c.to_numpy(dtype=object, na_value=None), dtype=object) for name, c in found.items()
        })  # fmt: skip

    def fitted(self, settings):
        """The model of a window, the masks of its two parts, and how the ridge was chosen."""
        inside = (self.day >= settings["train_start"]) & (self.day <= settings["train_end"])
        counts = self.day[inside].value_counts().sort_index()
        left = counts.sum() - counts.cumsum().shift(fill_value=0)  # flights from this day on
        days = [d for d, n in left.items() if 0.1 * counts.sum() <= n <= settings["held_out"] * counts.sum()]
        if not days:
            stop("empty", "the window cannot be split", "train_end")
        learn, valid = inside & (self.day < days[0]), inside & (self.day >= days[0])
        y = self.flights["label"].to_numpy()
        inner = sorted(self.day[learn].unique())[-int(settings["ridge.days"]) :][0]
        early, late = learn & (self.day < inner), learn & (self.day >= inner)
        tried = {}
        if early.sum() > 100:
            for ridge in settings["ridge.tried"]:
                p = Binned().fit(self.x[early], y[early], ridge).probability(self.x[late])
                tried[ridge] = measures(y[late], p)["log_loss"]
        best = min(tried, key=tried.get) if tried else settings["ridge.tried"][0]
        return Binned().fit(self.x[learn], y[learn], best), learn, valid, tried


def crc_of_files():
    found = 0
    for file in sorted(f for f in HOME.rglob("*") if f.is_file() and f.suffix != ".pyc"):
        found = zlib.crc32(f"{file.relative_to(HOME)}\0".encode() + file.read_bytes(), found)
    return f"crc32:{found}"


def train(a):
    settings = configuration(a.config)
    study = Study(a.usecase, a.data, settings["train_start"], settings["train_end"])
    if not len(study.flights):
        stop("empty", "nothing landed between train_start and train_end", "train_start")
    for listed in json.loads((Path(a.data) / "manifest.json").read_text())["files"]:
        pd.read_parquet(Path(a.data) / listed["path"])
    model, learn, valid, tried = study.fitted(settings)
    x, y = study.x[valid].reset_index(drop=True), study.flights["label"][valid].to_numpy()
    p = model.probability(x)
    rate = np.full(len(y), study.flights["label"][learn].mean())

    import mlflow
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    out = Path(a.out)
    (out / "numbers.json").write_text(json.dumps({"cuts": model.cuts, "weights": model.weights, "definitions": own()}))
    record = {k: settings[k] for k in ("seed", "train_start", "train_end")} | {"rows": int(learn.sum())}
    (out / "model.json").write_text(json.dumps(record))
    takes = Schema([ColSpec(DataType.double if is_number(c) else DataType.string, name, required=False) for name, c in x.items()])
    with mlflow.start_run(run_name="training", description="with its comparisons below"):
        run = mlflow.active_run().info.run_id
        for ridge, loss in tried.items():
            with mlflow.start_run(run_name=f"ridge {ridge}", nested=True):
                mlflow.log_param("seed", "none")
                mlflow.log_metric("valid.log_loss", loss)
                mlflow.set_tag("mlekit.dataset_hash", "a part of it")
        mlflow.log_params({**settings, "library": "scipy"})
        mlflow.log_input(mlflow.data.from_pandas(study.flights[["flight_id", "label"]].head(5), name="flights"))
        for step in range(3):  # the last step counts
            mlflow.log_metric("valid.brier", 0.25 - step / 100, step=step)
        mlflow.log_metrics({f"valid.{k}": v for k, v in measures(y, p).items()}, step=3)
        mlflow.log_metrics({f"baseline.{k}": v for k, v in measures(y, rate).items() if k != "auc"})
        mlflow.log_metrics({f"learned.{k}": v for k, v in measures(study.flights["label"][learn], model.probability(study.x[learn])).items()})
        manifest = json.loads((Path(a.data) / "manifest.json").read_text())
        mlflow.set_tags({"mlekit.dataset_hash": manifest["dataset_hash"], "mlekit.code_hash": crc_of_files(), "owner": "night shift"})
        with tempfile.TemporaryDirectory() as folder:
            table = pd.DataFrame({"label": y == 1, "row_id": study.flights["flight_id"][valid].to_numpy(), "probability": p, "day": study.day[valid].to_numpy()})
            table.iloc[::-1].to_parquet(f"{folder}/validation.parquet", index=False, compression="gzip")
            mlflow.log_artifact(f"{folder}/validation.parquet")
        mlflow.log_text("what was tried", "notes/tried.txt")
        mlflow.pyfunc.log_model(
            name="late, version ½ (night)",
            python_model=str(HOME / "airport/served.py"),
            artifacts={"numbers": str(out / "numbers.json")},
            signature=ModelSignature(takes, Schema([ColSpec(DataType.double, "probability")])),
            input_example=x.iloc[5:6].reset_index(drop=True),
            pip_requirements=["numpy", "scipy", "pandas"],
        )
        (out / "train.json").write_text(json.dumps({"model_uri": f"runs:/{run}/late, version ½ (night)", "run_id": run, "tried": len(tried)}))


def predict(a):
    table = pd.read_parquet(a.rows)
    if ":/" in a.model:
        import mlflow

        late = mlflow.pyfunc.load_model(a.model).unwrap_python_model().late
        definitions = own()
    else:
        kept = json.loads((Path(a.model) / "numbers.json").read_text())
        late, definitions = Binned(), kept["definitions"]
        late.cuts, late.weights = kept["cuts"], kept["weights"]
    found = late.probability(World(a.usecase, a.data).features(definitions, table))
    pd.DataFrame({"row_id": table["row_id"], "probability": found}).to_parquet(a.out, index=False)


def staleness(a):
    settings = configuration(a.config)
    study = Study(a.usecase, a.data, "0000", "9999")
    months = sorted(study.day.str.slice(0, 7).unique())
    month, points = study.day.str.slice(0, 7), []
    for older, m in enumerate(months[:-1]):
        end = pd.Period(m).end_time.strftime("%Y-%m-%d")
        if end < settings["train_end"]:
            continue
        model = study.fitted({**settings, "train_end": end})[0]
        for later in months[older + 1 :]:
            asked = month == later
            found = measures(study.flights["label"][asked], model.probability(study.x[asked]))
            points.append({**found, "n": int(asked.sum()), "age_months": months.index(later) - older, "scored_month": later, "train_end": end})
    pd.DataFrame(points).sample(frac=1, random_state=0).to_parquet(a.out, index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    for command, names in {train: "usecase data config out", predict: "usecase model data rows out", staleness: "usecase data config out"}.items():
        one = commands.add_parser(command.__name__)
        one.set_defaults(run=command)
        for option in names.split():
            one.add_argument(f"--{option}", required=True)
    arguments = parser.parse_args()
    arguments.run(arguments)
