"""Write exercises/CONTRACT.md and exercises/schemas/*.json from the contract as data.

python -m grader.contract.document
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from grader import CONTRACT, home
from grader.contract import (
    commands,
    endpoints,
    features,
    gates,
    monitoring,
    observing,
    pipelines,
    retraining,
    rules,
    serving,
    tables,
)
from grader.contract.manifest import MAX_BYTES, Documents, Manifest
from grader.contract.outputs import (
    AuditRecord,
    BaselineReport,
    FeedReport,
    GateDecision,
    LoopAnswer,
    ModelRecord,
    Monitored,
    OpsAnswer,
    PipelineRecord,
    PredictAnswer,
    Readiness,
    Refusal,
    RollbackRecord,
    Running,
    SuiteResult,
    TrainRecord,
    VersionRecord,
)
from grader.contract.parts import EXITS, IMPLEMENTED, Column, Command, Endpoint, Table, Written, implemented
from grader.sandbox.base import MEBI, Limits
from grader.sandbox.reader import MAX_FILE_MB, MAX_JSON_BYTES, MAX_ROWS

SCHEMAS: dict[str, type[BaseModel]] = {
    "manifest": Manifest,
    "report": BaselineReport,
    "model": ModelRecord,
    "train": TrainRecord,
    "test": SuiteResult,
    "feed-report": FeedReport,
    "refusal": Refusal,
    "version": VersionRecord,
    "decision": GateDecision,
    "rollback": RollbackRecord,
    "audit": AuditRecord,
    "pipeline": PipelineRecord,
    "predict-answer": PredictAnswer,
    "readiness": Readiness,
    "running": Running,
    "ops": OpsAnswer,
    "decisions": Monitored,
    "loop-answer": LoopAnswer,
}
# As in grader.submission, which stands above this package; a test holds them equal.
MAX_COPIED_FILES, MAX_COPIED_MB = 5_000, 256
LEFT_OUT_FOLDERS = frozenset({
    ".git", ".hg", ".svn", ".venv", "venv", ".mlekit", "__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".mypy_cache",
    ".ruff_cache", ".tox", ".nox", ".hypothesis", "node_modules", "mlruns", "mlartifacts",
})  # fmt: skip
LEFT_OUT_ENDINGS = (".pyc", ".pyo", ".egg-info", "mlflow.db", "mlflow.db-journal")

INTRODUCTION = f"""\
# The contract, version {CONTRACT}

<!-- Written by `python -m grader.contract.document`. Change the data in grader/contract/, not this file. -->

A submission is a folder with a `pyproject.toml`. The grader never reads its source: it calls the commands that the
manifest names, sends requests to its service, and looks at the files and numbers that come out. Whatever keeps this page
is right, in any design and with any library.

Stages {", ".join(IMPLEMENTED[:-1])} and {IMPLEMENTED[-1]} are settled. What belongs to a later stage is marked **planned: may still
change**, and is here so that you can see where the road leads.

| look here | for |
|---|---|
| [The manifest](#the-manifest) | how a submission says what it is |
| [How a command runs](#how-a-command-runs) | folders, environment, limits, exit codes, refusals |
| [The decision](#the-decision) | what may be known when |
| [What you are given](#what-you-are-given) | data, rows to score, use case, configuration, column by column |
| Stages [01](#stage-01-the-notebook), [02](#stage-02-the-package), [03](#stage-03-the-data-contract), \
[04](#stage-04-the-features), [05](#stage-05-tracking), [06](#stage-06-the-registry), \
[07](#stage-07-the-pipeline), [08](#stage-08-the-service), \
[09](#stage-09-what-the-service-tells), [10](#stage-10-the-monitor), [11](#stage-11-the-loop) | what is called and must write |
| [Later stages](#later-stages) | the plan |
| [Why it is so](#why-it-is-so), [Versions](#versions) | reasons, and what may change |
"""

DECISION = """\
## The decision

The question is always the same: two hours before the scheduled departure (`decision_at = sched_dep - 2 h`), how probable is
it that the flight arrives more than 15 minutes late?

So a value may be used if and only if it was known by then: `known_at <= decision_at`. That is why the tables say when a value
became known, in columns of their own. A null there means that it never did. The schedule and the small tables are always known.

Cancelled and diverted flights have no label: they are neither learned from nor scored. A day is a day by the clock on the wall
in New York, the first ten characters of `sched_dep_local`.
"""

REASONS = """\
## Why it is so

- **Commands instead of imports.** A black box leaves you every freedom inside, and is what production calls too.
- **Exit code and refusal file instead of messages.** A program that reads another's prose breaks with the next wording.
- **Parquet and JSON only.** Both have types and neither runs code when it is opened, as a pickle does. Even so the grader opens
  your files in a throw-away process of their own.
- **A read-only copy.** What only works on the machine of its author fails here, on the first day instead of the last.
- **Time is an argument.** A command that asks the clock cannot be tested, repeated or run for last March.
- **Features are declared.** One definition for training and serving is the cure for training-serving skew; a file that any
  language can read lets you compute it with whatever you like.
- **The use case is an argument.** In stage 16 another one arrives. Read names from the file now, and that day is quiet.
"""

VERSIONS = f"""\
## Versions

This is `contract = {CONTRACT}`. Within a version, settled parts only grow in ways that no right submission notices: a key or a
column that may be absent, a file you may ignore. So ignore keys and columns you do not know in what you are given.
Whatever could turn a right submission into a wrong one gets a new number, and the manifest says which one you wrote for.

The JSON Schemas in [schemas/](schemas/) hold the same rules for your editor and your tests. They cannot say everything: a
date must exist, numbers are finite, a start is not after its end.
"""


def contract() -> str:
    """The text of CONTRACT.md."""
    parts = [
        INTRODUCTION, _manifest(), _running(), DECISION, _given(), _first_stage(), _second_stage(), _third_stage(),
        _fourth_stage(), _fifth_stage(), _sixth_stage(), _seventh_stage(), _eighth_stage(), _ninth_stage(),
        _tenth_stage(), _eleventh_stage(), _later(), REASONS, VERSIONS,
    ]  # fmt: skip
    return "\n".join(part.strip() + "\n" for part in parts)


def schemas() -> dict[str, str]:
    """The JSON Schemas by file name."""
    return {f"{name}.json": json.dumps(_schema(model), indent=2) + "\n" for name, model in SCHEMAS.items()}


def write(folder: Path) -> list[Path]:
    """Write CONTRACT.md and schemas/ into a folder and return what was written."""
    contents = {"CONTRACT.md": contract(), **{f"schemas/{name}": text for name, text in schemas().items()}}
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in contents]


def _manifest() -> str:
    keys = [
        [f"`{k}`", _default(f.default), f.description or ""]
        for k, f in Manifest.model_fields.items()
        if k != "documents"
    ]
    names = ", ".join(f"`{c.name}` ({c.stage})" for c in commands.COMMANDS)
    documents = _table(
        ["key", "from stage", "default", "what the file says"],
        [
            [f"`{name}`", stage, f"`{Documents.model_fields[name].default}`", meaning]
            for stage, name, meaning in commands.DOCUMENTS
        ],
    )
    return f"""\
## The manifest

`[tool.mlekit]` in `pyproject.toml` is the only thing of a submission that is read before it runs.

```toml
[tool.mlekit]
contract = {CONTRACT}
environment = "kit"
notebook = "notebooks/baseline.ipynb"

[tool.mlekit.commands]
train = "python -m flightdelay.train"
predict = "python -m flightdelay.predict"
test = "python -m flightdelay.test"
```

{_table(["key", "default", "meaning"], keys)}

The file is a regular file of at most {MAX_BYTES // 1024} kB in UTF-8. A key that is not in the table is refused, because a typing
error that is ignored costs more time than one that is named. Paths are inside the submission.

**Commands** are split into words as a shell would, and run without one: no `&&`, `|`, `~` or `$NAME`. The grader adds the options.
Declare all of them on the first day; one whose program is not there yet is reported as blocked, not as wrong. The names, with
the stage each first appears in: {names}.

**Documents** (`[tool.mlekit.documents]`) are files that later stages read (planned: may still change):

{documents}

**Environments.** With `"kit"`, `python` is the kit's interpreter with the kit's packages. With `"locked"`, it is one that is
built once from your `requirements.lock` (exact versions, wheels only). The package `grader` is in neither of them for you."""


def _default(value: Any) -> str:
    if value is None or type(value).__name__ == "PydanticUndefinedType":
        return "none"
    return f"`{json.dumps(value)}`"


def _running() -> str:
    limits = Limits()
    variables = [v for v in commands.ENVIRONMENT if implemented(v.stage)]
    environment = _table(
        ["variable", "given to", "value"],
        [[f"`{v.name}`", _receiver(v.stage, v.only), v.meaning] for v in variables],
    )
    limit = _table(
        ["limit of one command", "", "what is counted"],
        [
            ["time", f"{limits.seconds:.0f} s", "wall clock, start of Python and imports included"],
            ["memory", f"{limits.memory_mb:,} MB", "all its processes together, shared pages counted once"],
            ["processes", f"{limits.processes}", "processes at one time"],
            ["disk", f"{limits.disk_mb} MB", "what it writes to its folders and to `/tmp`"],
            ["printed", f"{limits.output_kb // 1024} MB", "standard output and standard error together"],
        ],
    )
    return f"""\
## How a command runs

- **A clean copy.** The grader copies your folder without links, caches, environments and histories (at most {MAX_COPIED_FILES:,} files
  and {MAX_COPIED_MB} MB) and makes the copy read-only. It is the working directory. Left out are folders called
  {", ".join(f"`{name}`" for name in sorted(LEFT_OUT_FOLDERS))}, and what ends with
  {", ".join(f"`{ending}`" for ending in LEFT_OUT_ENDINGS)}.
- **Folders.** A command may write to what `--out` names, to `MLEKIT_STATE` and to `/tmp`. What it is given is read-only and
  may lie at another path the next time.
- **No network.** There is a loopback, and nothing behind it. Bring what you need, or lock it.
- **Nothing stays.** When the command ends, whatever it started ends too.
- **Output.** What you print is shown to you when something fails and decides nothing. A folder of files that you write for others
  to read holds at most 10,000 of them and 256 MB.

{limit}

In the sandbox there are no memory files (`memfd_create`), no shared memory or messages of System V and no keyrings: a program that asks for
them is told that the kernel has none (`ENOSYS`). Shared memory of POSIX, `/dev/shm`, is there.

Where the machine has no sandbox the grader says so, and the limits are watched instead of enforced.

### Environment

This is all of it; nothing of the grader's own environment is passed on. (Without a sandbox, `MLEKIT_JOB` marks a command's
processes, so that they can be found and ended.)

{environment}

### Exit codes and refusals

{_table(["code", "meaning"], [[str(code), text] for code, text in EXITS] + [["any other", "a crash"]])}

`test` (and later `ci`) answer a question and use 0 and 1 for yes and no. To refuse is not to crash: the command
understood that what it was given is wrong, changed nothing, and says so in the file that `MLEKIT_REFUSAL` names:

```json
{{"code": "unknown_key", "message": "sede is not a key of the configuration; known are seed, train_start, train_end", "key": "sede"}}
```

{_keys(Refusal)}

A good message names what was given and what is allowed.

### Files you write

Tables are Parquet with flat columns: at most {MAX_FILE_MB} MB and {MAX_ROWS:,} rows.
JSON is UTF-8, at most {MAX_JSON_BYTES // MEBI} MB, without NaN or infinity; further keys are yours.
Text in a number's place (`"0.7"`, `true`) is refused, and so are links."""


def _given() -> str:
    files = _table(
        ["file", "one row is", "key"],
        [[f"`{t.files}`", t.row, ", ".join(f"`{k}`" for k in t.key)] for t in tables.DATA],
    )
    parts = "\n\n".join(_columns_of(t) for t in tables.DATA)
    usecase = (home.datasets() / "usecase.toml").read_text(encoding="utf-8").strip()
    config = _table(["key", "type", "meaning"], [[f"`{k.name}`", k.type, k.meaning] for k in commands.CONFIG])
    return f"""\
## What you are given

### A data folder

{files}

`manifest.json` beside them says `{{usecase, dataset_hash, months, files: [{{path, rows, sha256}}]}}`. The months are consecutive.
Codes of carriers and aircraft differ from the public data set, and so does the year: nothing you know by heart is in it.

In the tables below, *known* names the column that says when the value may be used.

{parts}

### Rows to score

One Parquet file: `row_id` ({tables.ROW_ID.meaning[0].lower()}{tables.ROW_ID.meaning[1:-1]}) and the schedule columns of `flights`, from
`carrier` to `distance_miles`, in an order that means nothing. Never a label, except in stage 01, where the after-departure columns
came along by mistake.

### Predictions

{_columns(tables.PREDICTION)}

One row for each row to score, in their order. More columns are ignored.

### The use case

From stage 02 on, commands are told what they work on by a file. This is the one of the flights; what `validate` and `monitor` are given
differs from it in [some](#the-rules) [numbers](#what-is-said-of-a-window):

```toml
{usecase}
```

The label is true where `column op value` holds, and exists where that column is not null. `tables` gives each table's key, the
time a row is about, and the column that says from when it may be used; a table without `known_at` is always known. In
`flights` that holds for the after-departure columns, as the schedule is always known. `request` lists the columns of a row to
score; `?` means that a value may be missing.

### The configuration

TOML, three keys of the contract at the top level and any number of your own, which need defaults:

{config}

```toml
seed = 20
train_start = "2019-01-01"
train_end = "2019-03-31"
```"""


def _columns_of(table: Table) -> str:
    return f"#### {table.name}\n\n{_columns(table.columns)}"


def _first_stage() -> str:
    return f"## Stage 01: the notebook\n\n{_command(commands.NOTEBOOK)}"


def _second_stage() -> str:
    return f"## Stage 02: the package\n\n{_commands_of('02')}"


def _third_stage() -> str:
    broken = _table(
        ["rule", "is broken when", "then", "`column`"],
        [[f"`{r.name}`", r.broken, rules.FOLLOWS[r.scope], "named" if r.names_column else "null"] for r in rules.RULES],
    )
    return f"""\
## Stage 03: the data contract

{_commands_of("03")}

### A feed

A feed is what an airport's data source delivers for one month: a folder like a data folder, with `manifest.json`,
`flights/YYYY-MM.parquet` and `weather/YYYY-MM.parquet`, and none of the small tables; those are the history's. A table may come in
several files, `flights/YYYY-MM-1.parquet` and so on, whose rows are one table. The manifest says which files belong to the feed; what
else lies in the folder does not, and is no fault. Nothing in the name of its folder matters. A column that the history does not have
is no fault.

### The rules

What is allowed stands in the file of `--usecase`: `[feeds]`, and for each table `values`, `steady` and `filled`. The columns and
their kinds are those of the history. **Each grading hands over a use case of its own**, with the tables, columns and rules of
[the one above](#the-use-case) and other numbers, patterns and names of outcomes in `[feeds]` and `values`. So read that file, and
carry no copy of it.

{broken}

- Tables are judged each on its own. A rule about rows holds however many rows break it, even all.
- A finding names table, column and rule, and counts rows. Findings of a refused feed name what it is refused for; further ones
  about the same column do no harm.
- A destination or an aircraft that nobody has seen before breaks no rule, and neither do delays within the range, many cancellations or
  few flights."""


def _fourth_stage() -> str:
    kinds = _table(
        ["kind", "keys", "value"],
        [[f"`{k.name}`", ", ".join(f"`{key}`" for key in k.keys), k.value] for k in features.KINDS],
    )
    rules_ = "\n".join(f"- {rule}" for rule in features.RULES)
    return f"""\
## Stage 04: the features

{_commands_of("04")}

### Feature definitions

`features.toml` holds entries `[[feature]]`, at most 200, each with a `name` (lower-case letters, digits and `_`, at most 60; it may be
that of a column), a `kind`, and the keys of its kind, all of them needed; no number in a duration has more than four digits:

{kinds}

{rules_}

From this stage on your own `features.toml` holds these fifteen, which later stages count on, and any others you like:

```toml
{features.REQUIRED.strip()}
```"""


def _fifth_stage() -> str:
    return f"""\
## Stage 05: tracking

### The run of a training

From this stage on `train` logs one MLflow run to the experiment that `MLFLOW_EXPERIMENT_NAME` names, in the store that
`MLFLOW_TRACKING_URI` names, and writes `train.json`. Further runs, such as nested ones, and further entries are yours.

{_table(["entry", "name", "what it is"], [[kind, ", ".join(f"`{name}`" for name in names), text] for kind, names, text in commands.RUN])}

- **Status.** The run is `FINISHED` once all of this is there, and only then. A training that is refused or crashes leaves no run
  that is finished; it may leave a failed one, or none. So does one where a file of flights or weather cannot be read.
- **The same again.** Two trainings on the same files, data and configuration log the same values.
- **Personal data.** Nothing of a column that this page does not name is in store, model or input example.
- **Validation rows** are the landed flights of the last days of the window, from some day to `train_end`: all of them, at least a
  tenth and at most half of the window's. The logged model has not learned from them and was not chosen by them, so early stopping
  on them is learning from them: with other outcomes of theirs, and another share of late ones, it has to be the same model. `rows`
  in `model.json` counts what was learned from. A window that cannot be split so is refused like one without flights.
- **Metrics.** The log loss is the mean of `-log` of the probability of what happened, with probabilities clipped to
  2.2e-16 and 1 less that, as scikit-learn does it; the Brier score is the mean squared difference of probability and label.
- **Stores.** Each command gets a store of its own that is empty but for the experiment. `predict` with a URI gets that in which the model
  was logged.

### The validation rows

`validation.parquet` lies at the top of the run's artifacts.

{_columns(tables.LOGGED_VALIDATION)}

### The logged model

It is the model that `predict` uses. It is loaded with `mlflow.pyfunc.load_model` in your environment, in your folder. It takes a table
with one column for each entry of your `features.toml`, in their order, as of the decisions: numbers are float64 with NaN for
null, texts are objects with None, instants are datetime64 in UTC that names no zone, as MLflow's `datetime` takes them. It gives
a table with the column `probability`, one row a row. Signature and input example say the same.

{_commands_of("05")}"""


def _sixth_stage() -> str:
    gates_ = _table(
        ["gate", "metric", "has to refuse a challenger where", "and must not where"],
        [[f"`{g.name}`", f"`{g.metric}`" if g.metric else "yours", g.refuses, g.allows] for g in gates.GATES],
    )
    rules_ = "\n".join(f"- {rule}" for rule in gates.RULES)
    return f"""\
## Stage 06: the registry

{rules_}

### The gates

{gates_}

{_commands_of("06")}"""


def _seventh_stage() -> str:
    return f"""\
## Stage 07: the pipeline

### The source

{_listed(pipelines.SOURCE_RULES)}

### What stays

{_listed(pipelines.STATE_RULES)}

### Prefect

{_listed(pipelines.PREFECT_RULES)}

{_commands_of("07")}"""


def _eighth_stage() -> str:
    return f"""\
## Stage 08: the service

{_commands_of("08")}

### The requests

{_requests(serving.ENDPOINTS)}

{_listed(serving.REQUEST_RULES)}

An answer to `POST /v1/predict`, to `GET /readyz` and to `GET /version`; further keys are yours:

{_keys(PredictAnswer)}

{_keys(Readiness)}

{_keys(Running)}

### The model that answers

{_listed(serving.MODEL_RULES)}

### Where it runs

{_listed(serving.PLACE_RULES)}"""


def _ninth_stage() -> str:
    metrics = _table(
        ["metric", "type", "labels", "counts"],
        [[f"`{n}`", t, ", ".join(f"`{label}`" for label in labels), m] for n, t, labels, m in observing.METRICS],
    )
    asked = _table(
        ["question", "with", "answer", "which is"], [[f"`{q}`", f"`{w}`", a, m] for q, w, a, m in observing.ASKED]
    )
    return f"""\
## Stage 09: what the service tells

`serve` is that of stage 08, and also counts, keeps and prints.

### What it counts

{_requests(observing.ENDPOINTS)}

{metrics}

{_listed(observing.METRICS_RULES)}

### What it keeps

{_listed(observing.LOG_RULES)}

### What it prints

{_listed(observing.PRINTED_RULES)}

{_commands_of("09")}

### The questions

{asked}"""


def _tenth_stage() -> str:
    files = _table(["file", "what it holds"], [[f"`{name}`", meaning] for name, meaning in monitoring.WINDOW_FILES])
    keys = _table(
        ["key", "type", "meaning"],
        [[", ".join(f"`{name}`" for name in k.split(", ")), t, m] for k, t, m in monitoring.WINDOW_KEYS],
    )
    return f"""\
## Stage 10: the monitor

{_commands_of("10")}

### Windows

Each window is a folder:

{files}

`rows.parquet`:

{_columns(tables.WINDOW_ROWS)}

`labels.parquet`:

{_columns(tables.WINDOW_LABELS)}

`window.json`:

{keys}

{_listed(monitoring.WINDOW_RULES)}

### What is said of a window

The numbers `min_rows`, `min_labels`, `max_model_age_days`, `skew_share` and `skew_relative` stand in `[monitoring]` of
[the use case](#the-use-case); each grading has others.

{_listed(monitoring.FLAG_RULES)}

### The report

{_listed(monitoring.REPORT_RULES)}"""


def _eleventh_stage() -> str:
    keys = _table(["key", "value", "meaning"], [[f"`{name}`", t, m] for name, t, m in retraining.MESSAGE_KEYS])
    return f"""\
## Stage 11: the loop

{_commands_of("11")}

### The mailbox

{keys}

{_listed(retraining.MAILBOX_RULES)}

### What arrives

{_listed(retraining.ARRIVAL_RULES)}

### What is decided

{_listed(retraining.DECISION_RULES)}"""


def _listed(of: Iterable[str]) -> str:
    return "\n".join(f"- {rule}" for rule in of)


def _requests(of: Iterable[Endpoint]) -> str:
    return _table(
        ["request", "purpose", "body", "answer", "status"],
        [[f"`{e.method} {e.path}`", e.purpose, e.request, e.response, e.statuses] for e in of],
    )


def _commands_of(stage: str) -> str:
    """The commands that first appear in a settled stage."""
    return "\n\n".join(f"### {c.name}\n\n{_command(c)}" for c in commands.COMMANDS if c.stage == stage)


def _later() -> str:
    later = [c for c in commands.COMMANDS if not implemented(c.stage)]
    parts = "\n\n".join(f"### Stage {c.stage}: {c.name}\n\n{_command(c)}" for c in later)
    headers = _table(["stage", "header", "meaning"], [[s, f"`{n}`", m] for n, s, m in endpoints.HEADERS])
    variables = _table(
        ["variable", "given to", "value"],
        [
            [f"`{v.name}`", _receiver(v.stage, v.only), v.meaning]
            for v in commands.ENVIRONMENT
            if not implemented(v.stage)
        ],
    )
    stages = _table(["stage", "what it adds"], [[number, text] for number, text in commands.LATER])
    changes = "; ".join(f"from stage {stage} on {change}" for stage, change in endpoints.RESPONSE_LATER)
    return f"""\
## Later stages

**Planned: may still change**, everything down to [Why it is so](#why-it-is-so).

{stages}

{parts}

### The service

What `serve` also answers, planned: may still change.

{_requests(endpoints.ENDPOINTS)}

{headers}

{changes[0].upper()}{changes[1:]}.

### Environment of later stages

{variables}"""


def _command(command: Command) -> str:
    """Everything about a command below its heading."""
    lines = [command.purpose]
    if not implemented(command.stage):
        lines[0] += " *Planned: may still change.*"
    if command is not commands.NOTEBOOK:
        lines.append(f"```\n{command.usage()}\n```")
    if command.arguments:
        rows = [[f"`{a.option}`", a.meaning + (" (optional)" if a.optional else "")] for a in command.arguments]
        lines.append(_table(["option", "meaning"], rows))
    lines += [_written(w, command.stage) for w in command.writes]
    if command.exits and command.exits != EXITS:
        lines.append(
            "Exit codes: " + "; ".join(f"{code} {text}" for code, text in command.exits) + "; any other is a crash."
        )
    if command.refuses:
        lines.append(f"It refuses {command.refuses}.")
    if command.rules:
        lines.append("\n".join(f"- {rule}" for rule in command.rules))
    if command.later:
        later = "\n".join(f"- from stage {stage} on: {change}" for stage, change in command.later)
        lines.append(f"Planned, may still change:\n\n{later}")
    return "\n\n".join(lines)


def _written(written: Written, stage: str) -> str:
    """A file that a command writes, and its columns or keys."""
    path = written.path if written.path in ("anything else", "the file of --out") else f"`{written.path}`"
    later = "" if implemented(written.stage) else "; planned"
    planned = "" if written.stage == stage else f" (from stage {written.stage} on{later})"
    head = f"It writes {path}: {written.meaning}{planned}."
    if written.columns:
        return f"{head}\n\n{_columns(written.columns)}"
    if written.model:
        return f"{head}\n\n{_keys(written.model)}"
    if written.keys:
        rows = [[f"`{k.name}`{'?' if k.optional else ''}", k.type, k.meaning] for k in written.keys]
        return f"{head}\n\n{_table(['key', 'value', 'meaning'], rows)}"
    return head


def _columns(columns: Sequence[Column]) -> str:
    """Columns as a table, without the headings that none of them needs."""
    rows = [
        [f"`{c.name}`", c.type + (", may be null" if c.nullable else ""), c.unit, c.known, c.meaning] for c in columns
    ]
    return _table(["column", "type", "unit", "known", "meaning"], rows, needed={"unit": "", "known": "always"})


def _keys(model: type[BaseModel]) -> str:
    """The keys of a JSON object as a table, from its schema."""
    schema = _resolved(_schema(model))
    required = set(schema.get("required", ()))
    rows = [
        [f"`{name}`{'' if name in required else '?'}", _value(part), str(part.get("description", ""))]
        for name, part in schema["properties"].items()
    ]
    return _table(["key", "value", "meaning"], rows)


def _value(part: dict[str, Any]) -> str:
    """What a JSON Schema allows, in words."""
    if "enum" in part:
        *most, last = part["enum"]
        return f"{', '.join(most)} or {last}"
    if part.get("type") == "array":
        if "properties" not in part["items"]:
            return f"[{_value(part['items'])}]"
        keys = ", ".join(
            f"{name}{'' if name in part['items']['required'] else '?'}" for name in part["items"]["properties"]
        )
        return f"[{{{keys}}}]"
    if part.get("format") == "date":
        return "date, `YYYY-MM-DD`"
    if "anyOf" in part:
        return " or ".join(_value(p) for p in part["anyOf"])
    name = {"string": "text", "integer": "whole number"}.get(part["type"], part["type"])
    low, high = part.get("minimum"), part.get("maximum")
    if low is not None and high is not None:
        return f"{name}, {low} to {high}"
    return f"{name}, at least {low}" if low is not None else str(name)


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a model, without the titles that only repeat names."""
    schema: dict[str, Any] = _without_titles(model.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": model.__name__, **schema}


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its definitions put where they are used."""
    definitions = schema.get("$defs", {})

    def put(part: Any) -> Any:
        if isinstance(part, list):
            return [put(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return put(definitions[part["$ref"].rsplit("/", 1)[1]])
        return {key: put(value) for key, value in part.items()}

    found: dict[str, Any] = put(schema)
    return found


def _without_titles(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_titles(item) for item in part]
    if not isinstance(part, dict):
        return part
    return {k: _without_titles(v) for k, v in part.items() if not (k == "title" and isinstance(v, str))}


def _receiver(stage: str, only: str) -> str:
    who = (
        f"`{only}`" if only in ("train", "serve") else f"the {only}" if only == "notebook" else only or "every command"
    )
    return who if stage == "01" else f"{who}, from stage {stage} on"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], needed: dict[str, str] | None = None) -> str:
    """A Markdown table; a column in `needed` is left out where all its cells have the value given there."""
    rows = list(rows)
    kept = [
        i for i, name in enumerate(headings)
        if needed is None or name not in needed or any(row[i] != needed[name] for row in rows)
    ]  # fmt: skip

    def lines() -> Iterator[str]:
        yield _line([headings[i] for i in kept])
        yield "|" + "---|" * len(kept)
        for row in rows:
            yield _line([row[i] for i in kept])

    return "\n".join(lines())


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    for path in write(home.exercises()):
        print(path)
