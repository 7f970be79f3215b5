"""The rules of the pipeline (stage 07), and the numbers in them."""

from __future__ import annotations

from typing import Literal

MonthStatus = Literal["accepted", "quarantined", "refused", "failed"]
FLOW = "monthly"
TASKS = ("ingest", "validate", "features", "train", "register", "promote")
FAILURES_IN_A_ROW = 3  # of one file, after which it may still arrive
PATIENCE_SECONDS = 10  # in which an answer has to be there, whole
MOST_CALLS = 20  # of one file in one command
SECONDS_PER_FILE = 60  # that a file may be asked for before its month has failed

SOURCE_RULES = (
    "`SOURCE/M/` is a feed of month M as in stage 03: `manifest.json`, and the files that it lists.",
    "**The source fails.** An answer with a status of 500 or more, one that ends early, one that is not there after "
    f"{PATIENCE_SECONDS} seconds, and bytes of which the SHA-256 is not that of the manifest are no delivery. The same file is asked for "
    f"again: up to {FAILURES_IN_A_ROW} failures of a file in a row are survived, whatever their kinds. Each file is asked for at most "
    f"{MOST_CALLS} times in one command, and given up within {SECONDS_PER_FILE} seconds, pauses included. A status of 404 says that "
    "the source does not have it: then nothing is asked again. Other statuses between 201 and 499 do not come.",
    "**A month has a status**: `accepted` or `quarantined` as stage 03 says, `refused` or `failed`.",
    "**A month that cannot be had** is `failed`, with a `reason`. Other months of the command are done all the same, then it ends with "
    "exit code 3; --out is written. What was there before stays as it was.",
    "**A month that the data contract refuses** is `refused`, with a `reason`; that is a result, and the exit code is 0. What was there "
    "before stays here, too.",
    "**A month may come again**, with the same files or corrected ones, which take the place of those of before. What the manifest says "
    "is looked up each time. No month is named twice in one command.",
)

STATE_RULES = (
    "**The data** are a data folder like those you are given: the months of --history and its small tables, and the accepted rows of "
    "each month that arrived, a file a month. Rows are judged by stage 03, with --history as its history, whatever else has arrived.",
    "**Features** are those of your `features.toml`, of every month that arrived (not of the history's), as of the data as they are now: a "
    "month that comes late changes those of the months after it.",
    "**The model** is what `train` makes of the data, with `seed` as given and as its window all days of the data before their last month: "
    "`train_start` is the first day of the data, `train_end` the last one before that month, and a month in between may be missing. It "
    "becomes a version, and the gate of stage 06 judges it on the last month. The same data, code, use case and seed make one version, "
    "judged once, however often and in whatever order they come, also where other data came between. `version` is the one that learned "
    "from the data as they are now, and `promoted` what the gate said of it, wherever the alias is now; where no month has arrived yet "
    "there is no version.",
    "**Killed at any moment**, all processes at once, and called again with the same arguments, it ends where it would have ended: the "
    "same tables, one version, one line in the audit log, the alias where that line says. Runs that are not `FINISHED` may be left in "
    "MLflow, and files beside those above in your folder.",
    "**Called twice at the same moment** with one state and one store, in containers of their own, both end as if one had come after the "
    "other. **A full disk** is a way to die like others.",
    "**Any order of months** leads to the same tables.",
    "**The MLflow store** stays from one command to the next, like `MLEKIT_STATE`.",
)

PREFECT_RULES = (
    f"Each command is one run of the Prefect flow `{FLOW}`, of which `flow_run_id` is the id. Its state is `COMPLETED` where the exit code "
    f"is 0 and `FAILED` where it is 3.",
    f"Its tasks are {', '.join(f'`{name}`' for name in TASKS)}, in any number and order, and the names of their runs begin so, as "
    "`ingest-9cd` does; a command that has nothing to do may leave out all but `ingest`. Tasks of "
    "flows that it calls count as its own. Attempts at `ingest` show as its retries.",
    "There is a server at `PREFECT_API_URL`, one for all commands of a grading. `PREFECT_HOME` is a folder of your state.",
)
