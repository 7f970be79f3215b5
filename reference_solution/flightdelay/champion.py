"""The champion as the service knows it: followed while it runs, and kept for a day on which the registry does not answer."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from flightdelay.data import DataFolder
from flightdelay.definitions import read_definitions
from flightdelay.features import Features
from flightdelay.files import write_whole
from flightdelay.registry import CHAMPION, STATE
from flightdelay.tracking import open_model
from flightdelay.usecase import UseCase

REFRESH_SECONDS = float(os.environ.get("MLEKIT_REFRESH_SECONDS", "5"))
AGAIN_SECONDS = 10.0  # until a version that could not be loaded is tried again
KEPT = STATE / "serving"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A version that can answer."""

    version: str
    run_id: str | None
    features: Features
    answer: Callable[[pl.DataFrame], np.ndarray]

    def probability(self, rows: pl.DataFrame) -> np.ndarray:
        """The probability that the label holds, shape (n,), of rows with the columns of `request`."""
        return self.answer(self.features.of(rows))


class Champion:
    """Follows the alias. `loaded` changes in one step: whoever took it before goes on with what it took."""

    def __init__(self, usecase: UseCase, data: Path) -> None:
        self.usecase, self.data = usecase, DataFolder(data)
        self.loaded: Loaded | None = None
        self.problem = "it has just started and is looking for a model"
        self._failed, self._again = "", 0.0  # a version that could not be loaded, and when it is tried again
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="champion", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _follow(self) -> None:
        self._take_what_was_kept()  # first: a registry that does not answer may take minutes to say so
        while not self._stop.is_set():
            try:
                self.look()
            except Exception as problem:  # whatever is wrong with a registry or a model, the service goes on
                self._note(f"the registry could not be asked: {_short(problem)}")
            self._stop.wait(REFRESH_SECONDS)

    def look(self) -> None:
        """Ask the registry who is champion, and load it if it is another one. Raises what MLflow raises."""
        try:
            version = MlflowClient().get_model_version_by_alias(self.usecase.model_name, CHAMPION)
        except MlflowException as problem:
            if problem.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            self._note(f"{self.usecase.model_name} has no champion")
            return
        number = str(version.version)
        if self.loaded is not None and (number, version.run_id) == (self.loaded.version, self.loaded.run_id):
            return
        if number == self._failed and time.monotonic() < self._again:
            return
        try:
            self._take(self._keep(number), number, version.run_id)
        except Exception as problem:  # the one that answers now is better than none
            self._failed, self._again = number, time.monotonic() + AGAIN_SECONDS
            self._note(f"version {number} could not be loaded: {_short(problem)}")

    def _keep(self, version: str) -> Path:
        """Copy a version here, so that what answers is what will be there when the registry is not."""
        folder, aside = KEPT / f"version-{version}", KEPT / f".version-{version}.part"
        shutil.rmtree(aside, ignore_errors=True)
        fetched = mlflow.artifacts.download_artifacts(f"models:/{self.usecase.model_name}/{version}")
        shutil.copytree(fetched, aside)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
        return folder

    def _take(self, folder: Path, version: str, run_id: str | None) -> None:
        answer, definitions = open_model(folder)
        loaded = Loaded(version, run_id, Features(read_definitions(definitions), self.usecase, self.data), answer)
        self._try_out(loaded)
        self.loaded = loaded
        log.info("version %s answers", version)
        write_whole(KEPT / "current.json", json.dumps({"version": version, "run_id": run_id}).encode())
        for old in KEPT.glob("version-*"):
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)

    def _try_out(self, loaded: Loaded) -> None:
        """Ask it about one row before anybody else does: the first answer takes long, and there may be none."""
        rows = self.data.table(self.usecase.entity_table).select(list(self.usecase.request)).head(1)
        found = loaded.probability(rows)
        if not ((found >= 0) & (found <= 1)).all():  # also of a NaN this is false
            raise ValueError("it gives no probability")

    def _take_what_was_kept(self) -> None:
        """The last model that answered before this service was started again."""
        try:
            current = json.loads((KEPT / "current.json").read_bytes())
            self._take(KEPT / f"version-{current['version']}", current["version"], current["run_id"])
        except FileNotFoundError:
            return
        except Exception as problem:
            self._note(f"the model that was kept could not be loaded: {_short(problem)}")

    def _note(self, problem: str) -> None:
        if problem != self.problem:
            log.warning(problem)
        self.problem = problem


def _short(problem: Exception) -> str:
    return f"{type(problem).__name__}: {str(problem)[:200]}"
