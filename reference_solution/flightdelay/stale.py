"""Is the champion still worth what it was? And if not, since when?

Asked is not whether the months look different, which they always do, but what the champion is worth in them: by how much its log loss is
lower than that of the rate of late flights alone. Of a stormy month both are worse, and the difference stays. Flights of one day share
its storm, so days are counted and not flights.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlflow
import numpy as np
import polars as pl

from flightdelay.data import DataFolder, label_of, local_day
from flightdelay.definitions import read_definitions
from flightdelay.features import compute_features
from flightdelay.registry import Registry
from flightdelay.tracking import load
from flightdelay.usecase import LABEL, UseCase

LEFT = 0.5  # of what it usually is worth; a month is stale if it is below that ...
ERRORS = 1.5  # ... by so many standard errors
SMALL = 1e-6


@dataclass(frozen=True)
class Worth:
    """What a model is worth on some days: how much lower its log loss is than that of their rate of late flights.

    Attributes
    ----------
    mean : over the flights.
    error : its standard error, by days.
    flights : how many there are.
    """

    mean: float
    error: float
    flights: int


@dataclass(frozen=True)
class Champion:
    """A version, the days that it learned from, and what it was worth on the last of them, on which it was measured."""

    uri: str
    start: str
    end: str
    measured: Worth


def champion_of(registry: Registry, version: str) -> Champion:
    """What the run of a version says of it."""
    found = registry.client.get_model_version(registry.model, version)
    run = registry.client.get_run(found.run_id).data
    table = pl.read_parquet(
        mlflow.artifacts.download_artifacts(run_id=found.run_id, artifact_path="validation.parquet")
    )
    late, probability = table["label"].to_numpy().astype(float), table["probability"].to_numpy()
    measured = worth(late, probability, np.arange(len(late)))
    return Champion(registry.uri(version), run.params["train_start"], run.params["train_end"], measured)


def stale_since(champion: Champion, usecase: UseCase, data: DataFolder) -> tuple[str | None, str]:
    """The month from which on the champion is stale to this day, or None; and in words what was found.

    What it is usually worth is learned from the months in which it was not stale, and from its own validation.
    """
    found = worth_by_month(champion, usecase, data)
    since, usual = None, [champion.measured]
    for month, now in found.items():
        bar = LEFT * np.average([past.mean for past in usual], weights=[past.flights for past in usual])
        if now.mean < bar - ERRORS * now.error:
            since = since or month
        else:
            since = None
            usual.append(now)
    said = "; ".join(f"{month} {now.mean:+.3f} ± {now.error:.3f}" for month, now in found.items())
    return since, f"worth {champion.measured.mean:+.3f} at first; since then {said or 'no month'}"


def worth_by_month(champion: Champion, usecase: UseCase, data: DataFolder) -> dict[str, Worth]:
    """What the champion is worth on the days of each month that it has not learned from."""
    flights = data.table(usecase.entity_table).with_columns(label_of(usecase.label).alias(LABEL))
    flights = flights.with_columns(local_day(usecase.event_time, flights.columns).alias("day"))
    flights = flights.filter(pl.col("day") > champion.end, pl.col(LABEL).is_not_null())
    if flights.is_empty():
        return {}
    answer, definitions = load(champion.uri)
    probability = answer(compute_features(read_definitions(definitions), usecase, data, flights))
    late, day = flights[LABEL].to_numpy().astype(float), flights["day"].to_numpy()
    month = flights["day"].str.slice(0, 7).to_numpy()
    return {name: worth(late[at], probability[at], day[at]) for name in np.unique(month) for at in [month == name]}


def worth(late: np.ndarray, probability: np.ndarray, day: np.ndarray) -> Worth:
    """How much lower the log loss of probabilities is than that of the rate of `late`, 0 or 1; all of shape (n,)."""

    def loss(p: np.ndarray) -> np.ndarray:
        p = np.clip(p, SMALL, 1 - SMALL)
        return -(late * np.log(p) + (1 - late) * np.log(1 - p))

    better = loss(np.full(len(late), late.mean())) - loss(probability)
    _, which = np.unique(day, return_inverse=True)
    off = np.bincount(which, better - better.mean())  # how far each day's sum lies from where the mean puts it
    return Worth(better.mean(), np.sqrt((off**2).sum()) / len(better), len(better))
