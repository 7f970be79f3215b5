"""What a training logged, read back from its MLflow store, and logged models scored in the submission's own sandbox."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grader import stores
from grader.checks import predictions, statistics
from grader.checks.api import Fault, Grading
from grader.contract.outputs import TrainRecord
from grader.printable import one_line
from grader.sandbox import Mount
from grader.sandbox.base import Argument
from grader.sandbox.reader import INSIDE, Read, Unreadable
from grader.submission import Ran

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

VALID = ("valid.log_loss", "valid.brier", "valid.auc")
BASELINE = ("baseline.log_loss", "baseline.brier")
TAGS = ("mlekit.dataset_hash", "mlekit.code_hash")
RUN_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
MODEL_URI = re.compile(r"(models:/m-[0-9A-Za-z-]{1,64}|runs:/[0-9A-Za-z_-]{1,64}/[^\x00-\x1f\x7f]{1,100})")
CLIP = 2.220446049250313e-16  # as scikit-learn does, so that a certain and wrong answer has a finite log loss


@dataclass(frozen=True)
class Validation:
    """The logged validation rows: ids, what the model said (n,), and the label (n,) bool."""

    ids: list[str]
    probability: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class Model:
    """A logged model: the command that left it in its store, and its folder below that, or the URI of a registered version."""

    ran: Ran
    model: str


@dataclass(frozen=True)
class Logged:
    """The MLflow run of one training.

    `model` is the folder of the logged model below the store's.
    """

    ran: Ran
    run_id: str
    model_uri: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    validation: Validation
    model: str


def statuses(grading: Grading, ran: Ran) -> list[str]:
    """The status of every run that a command left in its store. Raises Fault."""
    if ran.tracking is None:
        return []
    try:
        runs = grading.reader.store(ran.tracking, stores.NAME, "", "")["runs"]
    except Unreadable as problem:
        raise Fault(f"the MLflow store {problem}") from None
    return [str(run.get("status")) for run in runs.values() if isinstance(run, dict) and not run.get("deleted")]


def read(grading: Grading, ran: Ran, columns: Sequence[str], what: str) -> Logged:
    """What a training logged, complete; `columns` are the features that its model has to take. Raises Fault.

    `what` says which training it was, as the beginning of a sentence.
    """
    if not ran.ok:
        raise Fault(f"{what}; {ran.sentence()}")
    record = predictions.read_json(grading.reader, TrainRecord, ran.out / "train.json", f"{what}; it ended well, but ")
    if ran.tracking is None:
        raise Fault(f"{what}; it ended well and logged nothing to the store that MLFLOW_TRACKING_URI names")
    if not RUN_ID.fullmatch(record.run_id):
        raise Fault(f"{what}; run_id in train.json is no id of an MLflow run")
    if not MODEL_URI.fullmatch(record.model_uri):
        raise Fault(f"{what}; model_uri in train.json has to be models:/ID or runs:/RUN_ID/NAME")
    try:
        answer = grading.reader.store(ran.tracking, stores.NAME, record.run_id, record.model_uri)
    except Unreadable as problem:
        raise Fault(f"{what}; the MLflow store {problem}") from None
    run = answer["runs"].get(record.run_id)
    if run is None:
        raise Fault(
            f"{what}; the run that train.json names is not in the store, which holds {len(answer['runs'])} runs"
        )
    if run["experiment"] != stores.EXPERIMENT:
        raise Fault(f"{what}; the run is not in the experiment that MLFLOW_EXPERIMENT_NAME names")
    if run["deleted"] or run["status"] != "FINISHED":
        state = "deleted" if run["deleted"] else one_line(str(run["status"]), 40)
        raise Fault(f"{what}; it ended well, and the status of its run is {state}, not FINISHED")
    return _complete(record, ran, answer["run"], columns, what)


def _complete(record: TrainRecord, ran: Ran, run: dict[str, Any], columns: Sequence[str], what: str) -> Logged:
    params, tags, metrics = run["params"], run["tags"], run["metrics"]
    if missing := [name for name in ("seed", "train_start", "train_end") if name not in params]:
        raise Fault(f"{what}; the run has no parameter {missing[0]}")
    if missing := [name for name in (*VALID, *BASELINE) if name not in metrics]:
        raise Fault(f"{what}; the run has no metric {missing[0]}")
    wrong = [name for name in (*VALID, *BASELINE) if not _finite(metrics[name])]
    if wrong:
        raise Fault(f"{what}; the metric {wrong[0]} is no finite number")
    if missing := [name for name in TAGS if not str(tags.get(name) or "").strip()]:
        raise Fault(f"{what}; the run has no tag {missing[0]}")
    model = run["model"]
    if "problem" in model:
        raise Fault(f"{what}; the logged model {record.model_uri} {model['problem']}")
    if not model["pyfunc"]:
        raise Fault(f"{what}; the logged model has no flavor python_function, so mlflow.pyfunc cannot load it")
    if model["inputs"] is None or model["outputs"] is None:
        raise Fault(f"{what}; the logged model has no signature of its input and output")
    if set(model["inputs"]) != set(columns):
        differ = sorted(set(model["inputs"]) ^ set(columns))
        raise Fault(f"{what}; the input in the model's signature is not the features of features.toml: {_some(differ)}")
    if "probability" not in model["outputs"]:
        raise Fault(f"{what}; the output in the model's signature has no column probability")
    if not model["example"]:
        raise Fault(f"{what}; the logged model has no input example")
    if model["run"] is not None and model["run"] != record.run_id:
        raise Fault(f"{what}; the logged model says that it is from another run")
    values = {name: float(metrics[name]) for name in (*VALID, *BASELINE)}
    return Logged(
        ran,
        record.run_id,
        record.model_uri,
        params,
        values,
        tags,
        validation_of(run["validation"], what),
        model["path"],
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(one_line(name, 60) for name in names[:5]) + (" and others" if len(names) > 5 else "")


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def validation_of(read: Read, what: str) -> Validation:
    """The artifact validation.parquet. Raises Fault."""
    import numpy as np

    name = f"{what}; the artifact validation.parquet"
    if read.problem or read.table is None:
        raise Fault(f"{name} {read.problem or 'could not be read'}")
    columns = read.table.columns
    for column, kinds in (("row_id", ("str",)), ("probability", ("float",)), ("label", ("bool", "int", "float"))):
        if column not in columns or columns[column].values is None:
            raise Fault(f"{name} has no readable column {column}; it needs row_id, probability and label")
        if columns[column].type not in kinds:
            raise Fault(f"{name}: {column} is of type {columns[column].type}")
    ids = columns["row_id"].values or []
    found = [
        np.array([np.nan if v is None else v for v in columns[c].values or []], dtype=np.float64)
        for c in ("probability", "label")
    ]
    if not ids or len(set(ids)) != len(ids) or None in ids:
        raise Fault(f"{name} is empty, or has a row_id that is missing or twice there")
    if not (np.isfinite(found[0]).all() and (found[0] >= 0).all() and (found[0] <= 1).all()):
        raise Fault(f"{name}: a probability is missing, not finite, or outside 0 to 1")
    if not np.isin(found[1], (0.0, 1.0)).all():
        raise Fault(f"{name}: a label is neither 0 nor 1")
    return Validation([str(i) for i in ids], found[0], found[1] == 1.0)


def log_loss(late: np.ndarray, probability: np.ndarray) -> float:
    """Mean negative log-likelihood of labels (n,) bool under probabilities (n,), clipped away from 0 and 1."""
    import numpy as np

    clipped = np.clip(probability, CLIP, 1 - CLIP)
    return float(-np.where(late, np.log(clipped), np.log1p(-clipped)).mean())


def measured(late: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Log loss, Brier score and AUC of probabilities (n,) for labels (n,) bool with both classes."""
    return {
        "log_loss": log_loss(late, probability),
        "brier": float(((probability - late) ** 2).mean()),
        "auc": statistics.auc(late, probability),
    }


def score(
    grading: Grading,
    plan: Sequence[tuple[Logged | Model, Mapping[str, pd.DataFrame]]],
    tracking: Path | None = None,
) -> list[dict[str, np.ndarray] | Fault]:
    """Score feature tables with logged models, each in a process of the submission's environment that sees nothing of the others.

    Two models of one process could tell each other what they answered, and many a check compares two. For each model of `plan`, by the
    names of its tables: the probabilities in the order of the rows (n,); or what went wrong with it. `tracking` is the store that
    registered versions are looked up in.
    """
    return [_score(grading, number, logged, tables, tracking) for number, (logged, tables) in enumerate(plan)]


def _score(
    grading: Grading, number: int, logged: Logged | Model, tables: Mapping[str, pd.DataFrame], tracking: Path | None
) -> dict[str, np.ndarray] | Fault:
    import numpy as np
    import pandas as pd

    assert logged.ran.tracking is not None
    given, out = grading.folder(f"score-given-{number}"), grading.folder(f"score-{number}", grading.limits.disk_mb)
    settings, written = Mount(given, "given"), Mount(out / "out", "out", writable=True)
    kit, store = Mount(INSIDE, "kit"), Mount(logged.ran.tracking, "store")
    together = pd.concat([t.assign(row_id=_ids(name, t)) for name, t in tables.items()], ignore_index=True)
    for name in together.select_dtypes("object"):
        if pd.api.types.infer_dtype(together[name], skipna=True).startswith("datetime"):
            together[name] = pd.to_datetime(together[name], utc=True).dt.tz_localize(None)  # MLflow knows no zone
    together.to_parquet(given / "features.parquet", index=False)
    seen = grading.sandbox.path
    job = {
        "model": logged.model if logged.model.startswith("models:/") else seen(store / logged.model),
        "features": seen(settings / "features.parquet"), "out": seen(written / "answer.parquet"),
    }  # fmt: skip
    (given / "job.json").write_text(json.dumps(job))
    argv: list[Argument] = ["python", kit / "score.py", settings / "job.json", written / "problem.json"]
    ran = grading.submission.run("score", argv, [settings, kit, store], out, grading.limits, tracking=tracking)
    if not ran.ok:
        return Fault(f"we loaded a logged model with mlflow.pyfunc.load_model and scored features; {ran.sentence()}")
    try:
        if said := grading.reader.json(ran.out / "problem.json"):
            return Fault(f"we scored features with the logged model; {one_line(str(said), 700)}")
        ids = [row for name, table in tables.items() for row in _ids(name, table)]
        found = predictions.read_ids(grading.reader, ran.out / "answer.parquet", ids)
    except (Unreadable, Fault) as problem:
        return Fault(f"we scored features with the logged model; {problem}")
    ends = list(itertools.accumulate(len(table) for table in tables.values()))
    return dict(zip(tables, np.split(found, ends[:-1]), strict=True))


def _ids(name: str, table: pd.DataFrame) -> list[str]:
    return [f"{name} {row}" for row in range(len(table))]


def scored(found: dict[str, np.ndarray] | Fault) -> dict[str, np.ndarray]:
    """The scores of a model, or its fault. Raises Fault."""
    if isinstance(found, Fault):
        raise Fault(str(found))
    return found


def labels_of(validation: Validation, flights: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The landed flights of the validation rows in their order, and their labels (n,) bool. Raises Fault."""
    import pandas as pd

    at = pd.Index(flights["flight_id"]).get_indexer(pd.Index(validation.ids))
    if strange := int((at < 0).sum()):
        raise Fault(f"validation.parquet: {strange:,} row_id are not the flight_id of a landed flight of the window")
    rows = flights.iloc[at].reset_index(drop=True)
    return rows, rows["late"].to_numpy(bool)
