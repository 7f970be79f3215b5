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
[label]
column = "arr_delay_min"
op = ">"
value = 15
"""
CONFIG = {"seed": 7, "train_start": "2013-01-01", "train_end": "2013-01-31"}


def make_flights(count: int = 1_500) -> pd.DataFrame:
    """January with two carriers of which one is often late, so that a model has something to find."""
    random = np.random.default_rng(0)
    departure = pd.Timestamp("2013-01-01T05:00", tz="UTC") + pd.to_timedelta(
        random.integers(0, 31 * 24 * 60, count), unit="m"
    )
    carrier = random.choice(["AA", "BB"], count)
    late = random.random(count) < np.where(carrier == "AA", 0.1, 0.6)
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
            "arr_delay_min": np.where(late, 40.0, -3.0),
            "label_known_at": departure + pd.Timedelta(hours=3),
            "outcome": "flown",
        }
    )


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
    (folder / "data" / "flights").mkdir(parents=True)
    make_flights().to_parquet(folder / "data" / "flights" / "2013-01.parquet", index=False)
    (folder / "usecase.toml").write_text(USECASE)
    return Commands(json.loads(os.environ["FLIGHTDELAY_COMMANDS"]), folder)


@pytest.fixture(scope="session")
def model(commands: Commands) -> str:
    """A trained model, shared by the tests that only ask it questions."""
    done = commands.train("model")
    assert done.returncode == 0, done.stderr
    return "model"


@pytest.fixture(scope="session")
def rows() -> pd.DataFrame:
    table = make_flights(60).drop(columns=["flight_id", "arr_delay_min", "label_known_at", "outcome"])
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
