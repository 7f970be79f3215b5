"""A small made-up world, and the commands under test as functions."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

USECASE = """
name = "flights"
model_name = "flight-delay"
entity = "flight_id"
event_time = "sched_dep"
decision_lead = "PT2H"
slices = ["origin"]

[label]
column = "arr_delay_min"
op = ">"
value = 15
known_at = "label_known_at"

[tables.flights]
key = ["flight_id"]
time = "sched_dep"
known_at = "label_known_at"
known = { dep_time = "dep_known_at", dep_delay_min = "dep_known_at" }

[tables.weather]
key = ["origin", "observed_at"]
time = "observed_at"
known_at = "known_at"

[tables.planes]
key = ["tailnum"]

[request]
carrier = "str"
flight_no = "int"
tailnum = "str?"
origin = "str"
dest = "str"
sched_dep = "timestamp"
sched_arr = "timestamp?"
sched_dep_local = "str"
distance_miles = "float"
"""
CONFIG = {"seed": 7, "train_start": "2013-01-01", "train_end": "2013-01-31"}


def make_flights(count: int = 1_500) -> pd.DataFrame:
    """January with two carriers of which one is often late, so that a model has something to find."""
    random = np.random.default_rng(0)
    departure = pd.Timestamp("2013-01-01T05:00", tz="UTC") + pd.to_timedelta(
        random.integers(0, 31 * 24 * 60, count), unit="m"
    )
    carrier = random.choice(["AA", "BB"], count)
    late = random.random(count) < np.where(carrier == "AA", 0.02, 0.95)
    return pd.DataFrame(
        {
            "flight_id": [f"F{i:06d}" for i in range(count)],
            "carrier": carrier,
            "flight_no": random.integers(1, 999, count).astype("int32"),
            "tailnum": random.choice(["N1", "N2", "N3"], count),
            "origin": random.choice(["EWR", "JFK", "LGA"], count),
            "dest": random.choice(["ATL", "BOS", "ORD"], count),
            "sched_dep": departure,
            "sched_arr": departure + pd.Timedelta(hours=2),
            "sched_dep_local": (departure - pd.Timedelta(hours=5)).strftime("%Y-%m-%dT%H:%M"),
            "distance_miles": random.integers(200, 2500, count).astype(float),
            "dep_delay_min": random.integers(-5, 30, count).astype(float),
            "dep_known_at": departure + pd.Timedelta(minutes=10),
            "arr_delay_min": np.where(late, 40.0, -3.0),
            "label_known_at": departure + pd.Timedelta(hours=3),
            "outcome": "flown",
        }
    )


def make_weather() -> pd.DataFrame:
    """An observation every hour of the month at each airport, known an hour later."""
    hours = pd.date_range("2013-01-01", "2013-02-01", freq="h", tz="UTC")
    observed = pd.MultiIndex.from_product([["EWR", "JFK", "LGA"], hours], names=["origin", "observed_at"]).to_frame(
        index=False
    )
    random = np.random.default_rng(0)
    return observed.assign(
        known_at=observed["observed_at"] + pd.Timedelta(hours=1),
        **{name: random.random(len(observed)) * 10 for name in ("temp", "wind_speed", "precip", "visib")},
    )


def write_world(folder: Path) -> None:
    """The use case and a data folder of one month."""
    planes = pd.DataFrame({"tailnum": ["N1", "N2"], "seats": [50, 180]})
    for path, table in (("flights/2013-01", make_flights()), ("weather/2013-01", make_weather()), ("planes", planes)):
        target = folder / "data" / f"{path}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(target, index=False)
    (folder / "usecase.toml").write_text(USECASE)


@dataclass
class Commands:
    """The commands under test, called as a user would: by command line, looking only at files and exit codes."""

    argv: dict[str, list[str]]
    folder: Path

    def call(self, name: str, **arguments: Path) -> subprocess.CompletedProcess[str]:
        words = [word for key, value in arguments.items() for word in (f"--{key}", str(value))]
        environment = {**os.environ, "MLEKIT_REFUSAL": str(self.folder / "refusal.json")}
        return subprocess.run([*self.argv[name], *words], env=environment, capture_output=True, text=True, check=False)

    def train(self, out: str, **settings: object) -> subprocess.CompletedProcess[str]:
        config = self.folder / f"{out}.toml"
        config.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in {**CONFIG, **settings}.items()))
        return self.call(
            "train",
            usecase=self.folder / "usecase.toml",
            data=self.folder / "data",
            config=config,
            out=self.folder / out,
        )

    def predict(self, model: str, rows: pd.DataFrame) -> pd.DataFrame:
        rows.to_parquet(self.folder / "rows.parquet", index=False)
        out = self.folder / "predictions.parquet"
        out.unlink(missing_ok=True)
        done = self.call(
            "predict", usecase=self.folder / "usecase.toml", model=self.folder / model, data=self.folder / "data",
            rows=self.folder / "rows.parquet", out=out,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return pd.read_parquet(out)


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return Commands(json.loads(os.environ["FLIGHTDELAY_COMMANDS"]), folder)


@pytest.fixture(scope="session")
def model(commands: Commands) -> str:
    """A trained model, shared by the tests that only ask it questions."""
    done = commands.train("model")
    assert done.returncode == 0, done.stderr
    return "model"


@pytest.fixture(scope="session")
def rows() -> pd.DataFrame:
    table = make_flights(60).loc[:, "carrier":"distance_miles"]
    table.insert(0, "row_id", [f"r{i:03d}" for i in range(len(table))])
    return table


@pytest.fixture(scope="session")
def odd_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows again under other ids, with an unseen carrier, airport and route, and missing values."""
    odd = rows.assign(row_id="odd-" + rows["row_id"])
    odd.loc[0, "carrier"] = "ZZ"
    odd.loc[1, "origin"] = "XXX"
    odd.loc[2, "dest"] = "QQQ"
    odd.loc[3, ["tailnum", "distance_miles"]] = [None, np.nan]
    return odd


@pytest.fixture(scope="session")
def answers(commands: Commands, model: str, rows: pd.DataFrame, odd_rows: pd.DataFrame) -> pd.DataFrame:
    """What the model says to the usual rows followed by the odd ones; asked once, since a start costs a second."""
    return commands.predict(model, pd.concat([rows, odd_rows], ignore_index=True))
