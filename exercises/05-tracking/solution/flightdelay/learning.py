"""From flights to a model and what it is worth: what `train` and `staleness` have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from flightdelay.config import Config, refuse
from flightdelay.data import DataFolder, local_day, read_training_flights
from flightdelay.definitions import Definition
from flightdelay.features import compute_features
from flightdelay.model import Model, fit
from flightdelay.usecase import LABEL, UseCase

LEAST_HELD_OUT, MOST_HELD_OUT = 0.1, 0.5  # of the flights of a window


@dataclass(frozen=True)
class Trained:
    """A model, the flights it learned from, and the later ones it was measured on: their features and probabilities."""

    model: Model
    learned: pl.DataFrame
    held_out: pl.DataFrame
    features: pl.DataFrame
    probability: np.ndarray

    def metrics(self) -> dict[str, float]:
        """What the model gets on the flights that were held out, and what their base rate alone would get.

        A model that does not beat the base rate of what it learned from has learned nothing.
        """
        label = self.held_out[LABEL].to_numpy()
        base_rate = np.full(len(label), self.learned[LABEL].mean())
        return {
            **{f"valid.{name}": value for name, value in measure(label, self.probability).items()},
            "baseline.log_loss": log_loss(label, base_rate),
            "baseline.brier": brier_score_loss(label, base_rate),
        }

    def validation(self, usecase: UseCase) -> pl.DataFrame:
        """The flights that were held out, as they are logged: so that anyone can measure again."""
        ids, label = self.held_out[usecase.entity], self.held_out[LABEL]
        return pl.DataFrame({"row_id": ids, "probability": self.probability, "label": label})


def learn(usecase: UseCase, data: DataFolder, definitions: list[Definition], settings: Config) -> Trained:
    """Learn from the first days of the window, and score its last ones."""
    flights = read_training_flights(usecase, data, settings)
    doubled = 0 if flights.is_empty() else len(flights) - flights.n_unique(usecase.entity)
    if doubled:
        refuse(
            "duplicate_key",
            f"{doubled} flights of the window are in the data more than once; what came twice has to go first",
        )
    learned, held_out = split(usecase, flights, settings)
    model = fit(compute_features(definitions, usecase, data, learned), learned[LABEL], definitions, settings)
    features = compute_features(definitions, usecase, data, held_out)
    return Trained(model, learned, held_out, features, model.probability(features))


def split(usecase: UseCase, flights: pl.DataFrame, settings: Config) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What is learned from, and what is held out: the last days of the window, as the model will be used on days to come."""
    parts = [flights, flights]
    if not flights.is_empty():
        later = local_day(usecase.event_time, flights.columns) >= str(settings.validation_start)
        parts = [flights.filter(~later), flights.filter(later)]
    for part, what in zip(parts, ("before", "from"), strict=True):
        if part.is_empty() or part[LABEL].n_unique() < 2:
            refuse(
                "empty_window",
                f"the window {settings.train_start} to {settings.train_end} holds {len(part)} flights with a label {what} "
                f"{settings.validation_start}, where validation begins; both outcomes are needed",
                "train_end",
            )
    if not LEAST_HELD_OUT <= len(parts[1]) / len(flights) <= MOST_HELD_OUT:
        refuse(
            "empty_window",
            f"from {settings.validation_start} on, where validation begins, there are {len(parts[1])} of the {len(flights)} flights of the "
            f"window; it must be {LEAST_HELD_OUT:.0%} to {MOST_HELD_OUT:.0%} of them",
            "train_end",
        )
    return parts[0], parts[1]


def measure(label: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """How good probabilities are, shape (n,), for labels with both outcomes, shape (n,)."""
    return {
        "log_loss": log_loss(label, probability),
        "brier": brier_score_loss(label, probability),
        "auc": roc_auc_score(label, probability),
    }
