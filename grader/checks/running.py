"""Running the commands of the contract that several stages ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grader import home
from grader.checks import predictions
from grader.checks.api import Fault, Grading, Owed
from grader.contract.features import MAX_BYTES, Feature, FeatureProblem, parse_features
from grader.reading import small_text
from grader.sandbox import Mount
from grader.sandbox.base import Argument
from grader.submission import Ran, Submission
from grader.world import Rows

if TYPE_CHECKING:
    import numpy as np

SEED = 20


def command(grading: Grading, name: str) -> list[str]:
    """The submission's command line. Raises Owed."""
    argv = grading.submission.manifest.argv(name)
    if argv is None:
        raise Owed(f"the command {name} is not declared; add it to [tool.mlekit.commands]")
    return argv


def own_features(submission: Submission) -> list[Feature]:
    """The submission's own feature definitions. Raises Fault."""
    name = submission.manifest.features
    try:
        return parse_features(small_text(submission.folder / name, MAX_BYTES))
    except FileNotFoundError:
        raise Fault(f"there is no {name}, which the manifest names as its feature definitions") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise Fault(f"{name} cannot be read: {problem}") from None
    except FeatureProblem as problem:
        raise Fault(str(problem)) from None


def usecase(given: Path) -> None:
    """Lay the use case of the flights into a folder."""
    (given / "usecase.toml").write_bytes((home.datasets() / "usecase.toml").read_bytes())


def config(window: tuple[str, str], seed: int = SEED) -> str:
    """The text of a configuration; `window` is the first and the last day to learn from."""
    return f'seed = {seed}\ntrain_start = "{window[0]}"\ntrain_end = "{window[1]}"\n'


def train(
    grading: Grading,
    label: str,
    data: Path,
    given: Path,
    env: dict[str, Argument] | None = None,
    submission: Submission | None = None,
) -> Ran:
    """Run `train` on a data folder with the configuration and use case in `given`. Raises Owed.

    `submission` is an altered copy of the one that is graded.
    """
    argv = command(grading, "train")
    out = grading.folder(label, grading.limits.disk_mb)
    source, settings = Mount(data, "data"), Mount(given, "given")
    arguments: list[Argument] = [
        *argv, "--usecase", settings / "usecase.toml", "--data", source, "--config", settings / "config.toml",
        "--out", Mount(out / "out", "out", writable=True),
    ]  # fmt: skip
    return (submission or grading.submission).run("train", arguments, [source, settings], out, grading.limits, env)


def predict_run(
    grading: Grading,
    label: str,
    model: Argument,
    rows: Rows,
    data: Path,
    mounts: Sequence[Mount] = (),
    tracking: Path | None = None,
    submission: Submission | None = None,
) -> Ran:
    """Run `predict` on rows with a model, which lies in one of the `mounts` or is a URI in the store `tracking`. Raises Owed."""
    argv = command(grading, "predict")
    out, given = grading.folder(label, grading.limits.disk_mb), grading.folder(f"{label}-rows")
    rows.write(given / "rows.parquet")
    usecase(given)
    source, settings = Mount(data, "data"), Mount(given, "given")
    arguments: list[Argument] = [
        *argv, "--usecase", settings / "usecase.toml", "--model", model, "--data", source,
        "--rows", settings / "rows.parquet", "--out", Mount(out / "out", "out", writable=True) / "predictions.parquet",
    ]  # fmt: skip
    return (submission or grading.submission).run(
        "predict", arguments, [source, settings, *mounts], out, grading.limits, tracking=tracking
    )


def predict(
    grading: Grading,
    label: str,
    model: Ran,
    rows: Rows,
    data: Path,
    submission: Submission | None = None,
    uri: str | None = None,
) -> np.ndarray:
    """Run `predict` with a trained model on rows; the probabilities in their order. Raises Owed, Fault.

    `uri` names the model by where it was logged instead of by the folder that `train` wrote.
    """
    if uri:
        ran = predict_run(grading, label, uri, rows, data, tracking=model.tracking, submission=submission)
    else:
        trained = Mount(model.out, "model")
        ran = predict_run(grading, label, trained, rows, data, [trained], submission=submission)
    if not ran.ok:
        by = f" with --model {uri}" if uri else ""
        raise Fault(f"we ran predict on {len(rows):,} rows{by}; {ran.sentence()}")
    return predictions.read(grading.reader, ran.out / "predictions.parquet", rows)
