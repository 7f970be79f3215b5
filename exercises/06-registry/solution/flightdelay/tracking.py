"""What a training leaves behind in MLflow, and how a model comes back from there."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import requests
from mlflow.exceptions import MlflowException
from mlflow.models import Model, infer_signature
from sqlalchemy.exc import SQLAlchemyError

from flightdelay.config import Config
from flightdelay.definitions import HOME, own_definitions
from flightdelay.learning import Trained
from flightdelay.usecase import UseCase

# By default the client tries for minutes to reach a server that is down.
for setting, value in (("MAX_RETRIES", "2"), ("BACKOFF_FACTOR", "1"), ("TIMEOUT", "20")):
    os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{setting}", value)

MODEL = "model"  # the name of the logged model in its run
FILES = "files"  # what `train` wrote, inside the logged model
NOT_CODE = {"data", "briefs", "rows.parquet", "mlruns"}  # what lies beside the work where it is run by hand
CACHES = {
    ".git", ".hypothesis", ".ipynb_checkpoints", ".mlekit", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".venv", "__pycache__",
    "mlartifacts", "venv",
}  # fmt: skip
REQUIREMENTS = [f"{name}=={version(name)}" for name in ("scikit-learn", "polars", "pandas", "joblib")]


def log(trained: Trained, usecase: UseCase, data: Path, settings: Config, out: Path) -> None:
    """Log one run, and say in `out` where it is. It is FINISHED once all of it is there, and FAILED if anything goes wrong."""
    with tracking_server(), mlflow.start_run() as run:  # the experiment is that of MLFLOW_EXPERIMENT_NAME
        mlflow.log_params(parameters(settings))
        mlflow.set_tags({"mlekit.dataset_hash": dataset_hash(data), "mlekit.code_hash": code_hash(HOME)})
        mlflow.log_metrics(trained.metrics())
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder, "validation.parquet")
            trained.validation(usecase).write_parquet(table)
            mlflow.log_artifact(str(table))
        model = log_model(trained, out)
        (out / "train.json").write_text(json.dumps({"run_id": run.info.run_id, "model_uri": model}, indent=2))


def parameters(settings: Config) -> dict[str, str]:
    """Every key of the configuration with the value that was used, whether it was given or is a default."""
    return {key: str(value) for key, value in asdict(settings).items()}


def dataset_hash(data: Path) -> str:
    """The hash of the data by its manifest; data made by hand, as in tests, has none."""
    manifest = data / "manifest.json"
    return json.loads(manifest.read_text(encoding="utf-8"))["dataset_hash"] if manifest.exists() else "unknown"


def code_hash(folder: Path) -> str:
    """SHA-256 over the paths and bytes of all files of a folder; caches and data are no code.

    Feature definitions count as much as programs do.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        code = inner.parts[0] not in NOT_CODE and CACHES.isdisjoint(inner.parts[:-1])
        if path.is_file() and code and not path.name.startswith("mlflow.db"):
            digest.update(f"{inner.as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


class LoggedModel(mlflow.pyfunc.PythonModel):
    """The model as MLflow loads it, in any process: a table of features in, a table with `probability` out."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        import joblib

        self.model = joblib.load(Path(context.artifacts[FILES], "model.joblib"))

    def predict(
        self, context: mlflow.pyfunc.PythonModelContext, model_input: pd.DataFrame, params=None
    ) -> pd.DataFrame:
        return pd.DataFrame({"probability": self.model.probability(pl.from_pandas(model_input))})


def log_model(trained: Trained, out: Path) -> str:
    """Log the files that `train` wrote as a model that says what it takes and gives; returns its URI.

    Requirements are named: left to itself MLflow finds them out by loading the model in a process of its own, for seconds. The package
    goes along, since the model is no use without it.
    """
    features = as_table(trained.features)
    logged = mlflow.pyfunc.log_model(
        name=MODEL,
        python_model=LoggedModel(),
        artifacts={FILES: str(out)},
        signature=infer_signature(features, pd.DataFrame({"probability": trained.probability})),
        input_example=features.head(3),
        pip_requirements=REQUIREMENTS,
        code_paths=[str(Path(__file__).parent)],
    )
    return logged.model_uri


def as_table(features: pl.DataFrame) -> pd.DataFrame:
    """Features as logged models take them: numbers of one type, since whole ones have no way to say that nothing is known.

    Instants are in UTC and do not say so, since MLflow knows no others.
    """
    numbers, instants = pl.selectors.numeric().cast(pl.Float64), pl.selectors.datetime(time_zone="*")
    return features.with_columns(numbers, instants.dt.convert_time_zone("UTC").dt.replace_time_zone(None)).to_pandas()


def load(uri: str) -> tuple[Callable[[pl.DataFrame], np.ndarray], Path]:
    """What a logged or registered model says of features, and their definitions: those it brought along, or else today's."""
    with tracking_server():
        folder = Path(mlflow.artifacts.download_artifacts(uri))
        brought = Model.load(folder).flavors["python_function"].get("artifacts", {}).get(FILES)
        model = mlflow.pyfunc.load_model(str(folder))
    definitions = folder / brought["path"] / "features.toml" if brought else own_definitions()
    return lambda features: model.predict(as_table(features))["probability"].to_numpy(), definitions


@contextmanager
def tracking_server() -> Iterator[None]:
    """Say in one sentence what is wrong with the store, where that is what is wrong."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, requests.RequestException) as problem:
        sys.exit(
            f"the tracking store {mlflow.get_tracking_uri()} could not be used, so nothing is finished: {str(problem)[:300]}"
        )
