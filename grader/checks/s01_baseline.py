"""Stage 01, baseline: the notebook is run on data its author has never seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grader.checks import predictions
from grader.checks.api import Fault, Finding, Grading, Owed, check, failed, passed, work
from grader.sandbox import Mount
from grader.sandbox.reader import INSIDE
from grader.submission import Ran
from grader.world import Rows, draw_rows, write_data
from grader.world.layout import scrambled

if TYPE_CHECKING:
    import numpy as np

TRAIN_MONTHS, LATER_MONTHS = slice(0, 3), slice(3, 5)
FLIGHTS_PER_MONTH = 8_000
ROWS = 8_000
EQUAL = 1e-9


@dataclass(frozen=True)
class Case:
    """The hidden data of this stage: a DATA folder to learn from and later rows to score."""

    data: Path
    rows: Rows


@work
def case(grading: Grading) -> Case:
    world = grading.world()
    data = grading.folder("data")
    write_data(world, data, world.months[TRAIN_MONTHS], FLIGHTS_PER_MONTH)
    return Case(data, draw_rows(world, world.months[LATER_MONTHS], ROWS, "baseline", careless=True))


def run_notebook(grading: Grading, rows: Rows, label: str) -> Ran:
    """Execute the submission's notebook in the sandbox on the hidden data and `rows`."""
    notebook = grading.submission.manifest.notebook
    if not (grading.submission.folder / notebook).is_file():
        raise Owed(f"the notebook {notebook} is not there; write it, or name yours in [tool.mlekit] notebook")
    given = grading.folder(f"{label}-rows")
    rows.write(given / "rows.parquet")
    out = grading.folder(label, grading.limits.disk_mb)
    data, table, tools = Mount(grading.get(case).data, "data"), Mount(given, "given"), Mount(INSIDE, "kit")
    written = Mount(out / "out", "out", writable=True)
    return grading.submission.run(
        "notebook",
        ["python", tools / "run_notebook.py", Mount(grading.submission.folder, "submission") / notebook],
        [data, table],
        out,
        grading.limits,
        env={"MLEKIT_DATA": data, "MLEKIT_ROWS": table / "rows.parquet", "MLEKIT_OUT": written},
        tools=[tools],
    )


@work
def first_run(grading: Grading) -> Ran:
    return run_notebook(grading, grading.get(case).rows, "run")


@work
def scrambled_run(grading: Grading) -> Ran:
    """The same rows, half of them with every after-departure value exchanged with another row's."""
    return run_notebook(grading, scrambled(grading.get(case).rows, share=0.5), "scrambled")


def answers(grading: Grading, ran: Ran) -> np.ndarray:
    """The probabilities one run wrote, in the order of the rows. Raises Fault."""
    if not ran.ok:
        raise Fault(
            f"we ran the notebook from top to bottom in a fresh kernel; {ran.finished.sentence()}{_last_line(ran)}"
        )
    return predictions.read(grading.reader, ran.out / "predictions.parquet", grading.get(case).rows)


def _last_line(ran: Ran) -> str:
    lines = [line for line in ran.finished.output.splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""


@check("baseline.runs_top_to_bottom", uses=[case, first_run])
def runs_top_to_bottom(grading: Grading) -> Finding:
    """A fresh kernel runs every cell on unseen data and leaves one finite probability for each row, in order.

    Catches: a notebook that only works with state of an old kernel, with files on its author's disk, or in another order.
    Accepts: a notebook of a single cell.
    """
    found = answers(grading, grading.get(first_run))
    return passed(
        f"the notebook ran and scored all {len(found):,} rows", f"{len(found):,} probabilities", "one per row"
    )


@check("baseline.ignores_after_departure", uses=[case, first_run, scrambled_run])
def ignores_after_departure(grading: Grading) -> Finding:
    """Exchanging what is only known after departure between rows changes no prediction.

    Catches: dep_delay as a feature; a same-hour mean of arrival delays over the rows to score; air_time hidden in a ratio.
    Accepts: a model that uses counts of the rows to score themselves (they do not change).
    """
    import numpy as np

    before, after = answers(grading, grading.get(first_run)), answers(grading, grading.get(scrambled_run))
    touched = np.arange(len(before)) < len(before) // 2
    moved = np.abs(after - before) > EQUAL
    if moved[touched].any():
        share, control = moved[touched].mean(), moved[~touched].mean()
        if control > 0.5 * share:
            return failed(
                "we ran the notebook twice on the same rows and predictions differed even where nothing was changed; "
                "fix the seed (random_state) so that two runs agree",
                f"{control:.1%} of unchanged rows moved", "0 %",
            )  # fmt: skip
        return failed(
            "we exchanged the after-departure columns between rows and predictions moved; the model reads something that is "
            "not known two hours before departure",
            f"{share:.1%} of changed rows moved", "0 %",
        )  # fmt: skip
    return passed("predictions stayed the same when after-departure columns were scrambled", "0 rows moved", "0 rows")
