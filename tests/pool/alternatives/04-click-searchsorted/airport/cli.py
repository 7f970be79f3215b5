"""The commands, with click."""

import datetime
import json
import os
import tomllib
from pathlib import Path

import click
import joblib
import pandas as pd

from airport.dated import World, own, stop
from airport.model import Trees

path = click.Path(path_type=Path)


@click.group()
def main():
    """Late flights."""


def options(*names):
    def add(command):
        for name in names:
            command = click.option(f"--{name}", type=path, required=True)(command)
        return main.command()(command)

    return add


def configuration(file):
    given = tomllib.loads(file.read_text())
    for key in given:
        if key not in ("seed", "train_start", "train_end"):
            stop("unknown", f"{key} is not known", key)
    for key, kind in {"seed": int, "train_start": str, "train_end": str}.items():
        if type(given.get(key)) is not kind:
            stop("wrong", f"{key} has to be a {kind.__name__}", key)
        try:
            kind is str and datetime.date.fromisoformat(given[key])
        except ValueError:
            stop("wrong", f"{key} is no day", key)
    return given


@options("usecase", "spec", "data", "rows", "out")
def features(usecase, spec, data, rows, out):
    try:
        given = tomllib.loads(spec.read_text()).get("feature", [])
    except tomllib.TOMLDecodeError as problem:
        stop("no_toml", str(problem))
    table = pd.read_parquet(rows)
    found = World(usecase, data).features(given, table)
    found.insert(0, "row_id", table["row_id"].to_numpy())
    found.to_parquet(out, index=False, row_group_size=7_000)


@options("usecase", "data", "config", "out")
def train(usecase, data, config, out):
    settings = configuration(config)
    world = World(usecase, data)
    flights = world.table("flights")
    day = flights["sched_dep_local"].str.slice(0, 10)
    inside = flights["label"].notna() & (day >= settings["train_start"]) & (day <= settings["train_end"])
    mine = flights[inside].sort_values("flight_id", ignore_index=True)
    if not len(mine):
        stop("empty", "nothing landed between train_start and train_end", "train_start")
    model = Trees().fit(world.features(own(), mine), mine["label"].to_numpy().astype(int), settings["seed"])
    (out / "deep/down").mkdir(parents=True)
    joblib.dump(model, out / "deep/down/model", compress=3)
    (out / "deep/definitions.json").write_text(json.dumps(own()))
    (out / "model.json").write_text(json.dumps({**settings, "rows": len(mine)}))


@options("usecase", "model", "data", "rows", "out")
def predict(usecase, model, data, rows, out):
    late, definitions = joblib.load(model / "deep/down/model"), json.loads((model / "deep/definitions.json").read_text())
    table = pd.read_parquet(rows)
    found = late.probability(World(usecase, data).features(definitions, table))
    pd.DataFrame({"row_id": table["row_id"], "probability": found}).to_parquet(out)


if __name__ == "__main__":
    main()
