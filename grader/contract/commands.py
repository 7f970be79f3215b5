"""Every command of the contract as data, stage by stage, and the environment that commands are given.

The names are those of `manifest.CommandName`; a test holds them equal. Stages outside `IMPLEMENTED` may still change.
"""

from __future__ import annotations

from grader.contract.monitoring import COMPANY_RULES
from grader.contract.observing import EXPORT_RULES, OPS_RULES, QUESTIONS
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
    RollbackRecord,
    SuiteResult,
    TrainRecord,
    VersionRecord,
)
from grader.contract.parts import EXITS, Argument, Column, Command, Key, Variable, Written
from grader.contract.tables import PREDICTION, PREDICTION_LOG, QUARANTINE, STALENESS, TEXT, VALIDATION

USECASE = Argument("--usecase", "F", "the use case, a TOML file (see above)")
DATA = Argument("--data", "D", "a data folder (see above)")
ROWS = Argument("--rows", "F", "Parquet file of rows to score")
STATE = Argument("--state", "D", "the folder that is left in place from one command of a run to the next")
NOW = Argument("--now", "T", "the time it is, RFC 3339; never ask the clock")
SPEC = Argument("--spec", "F", "feature definitions, a TOML file (see below)")
SOURCE = Argument("--source", "URL", "the source server that data is fetched from; it fails now and then")


def out_file(meaning: str) -> Argument:
    return Argument("--out", "F", f"{meaning}; its folder exists")


def out_folder(meaning: str) -> Argument:
    return Argument("--out", "D", f"{meaning}; it exists and is empty")


NOTEBOOK = Command(
    "notebook",
    "01",
    "Learn from the data, measure honestly, score the rows.",
    writes=(
        Written("predictions.parquet", "01", "one row per row to score, in their order", columns=PREDICTION),
        Written("validation.parquet", "01", "the flights the score was measured on, in any order", columns=VALIDATION),
        Written("report.json", "01", "what you report", model=BaselineReport),
    ),
    exits=(),
    rules=(
        "The notebook that the manifest names is executed from top to bottom by nbclient in a fresh kernel of your "
        "environment; a cell that raises ends it.",
        "`MLEKIT_DATA`, `MLEKIT_ROWS` and `MLEKIT_OUT` say where things are. Give each a default, so that the notebook "
        "also opens in Jupyter: `os.environ.get(\"MLEKIT_DATA\", \"data\")`.",
        "Here, and only here, the rows to score also carry the after-departure columns, as a careless dump has them. "
        "At the time of the decision they are not known.",
        "The validation rows are all landed flights of one stretch of days, at least 2 % of those of the data, of which one day may be "
        "split; they come after all rows that the scored model learned from: the model will be "
        "used on days that come after those it knows. No outcome from the first of them on may be known to that model, nor choose it; "
        "the schedule of those days may, as it is known long before.",
        "Two runs on the same data give the same report, and on the same rows the same predictions: fix every seed.",
    ),
)  # fmt: skip

TRAIN = Command(
    "train",
    "02",
    "Learn a model from the flights of the configured window.",
    (USECASE, DATA, Argument("--config", "F", "the configuration, a TOML file (see above)"), out_folder("where the model goes")),
    (
        Written("model.json", "02", "what was trained", model=ModelRecord),
        Written("anything else", "02", "the model, in any format; `predict` finds it at another path, so keep paths relative"),
        Written("train.json", "05", "where the run was logged", model=TrainRecord),
    ),
    refuses="a configuration with an unknown key, a missing contract key, a value of the wrong type or without sense, or a "
    "window without flights to learn from (one whose flights all have the same outcome may be refused); the refusal names the `key`, and "
    "`--out` stays empty",
    rules=(
        "Only flights scheduled from `train_start` to `train_end` may be learned from, also which categories there are; the data goes on "
        "after the window.",
        "The same seed and the same flights give the same predictions, whatever the order of the rows in the files.",
    ),
)  # fmt: skip

PREDICT = Command(
    "predict",
    "02",
    "Score rows with a trained model.",
    (
        USECASE,
        Argument(
            "--model",
            "REF",
            "the folder that `train` wrote, read-only; from stage 05 on also the URI of a logged model, `models:/ID` or "
            "`runs:/ID/NAME`; from stage 06 on also that of a registered one, `models:/NAME/VERSION` or `models:/NAME@ALIAS`",
        ),
        DATA,
        ROWS,
        out_file("the predictions, Parquet"),
    ),
    (Written("the file of --out", "02", "one row per row to score, in their order", columns=PREDICTION),),
    rules=(
        "What a row gets depends on that row and the data, not on its neighbours, their number or their order.",
        "Categories never seen, missing values and extreme numbers get a finite probability.",
        "The data goes on after the decision about a row, as in any backtest, and holds other flights of that day; the rows "
        "themselves are not in it. What was not known at the decision may not be used.",
    ),
)

TEST = Command(
    "test",
    "02",
    "Run your own tests against the commands you are given.",
    (
        Argument("--commands", "F", 'JSON: command name to words, `{"train": ["...", "..."], "predict": ["..."]}`'),
        out_file("the result, JSON"),
    ),
    (Written("the file of --out", "02", "how the tests went", model=SuiteResult),),
    exits=((0, "at least one test ran and all passed"), (1, "a test failed")),
    rules=(
        "The tests call exactly the words in `--commands`, with the options of `train` and `predict` added as "
        "`--name value`, and bring their own small data. The grader puts faults between your tests and your commands, "
        "which tests that import the package cannot notice.",
        "The commands run apart from the tests, in the submission's folder, on a copy of what the tests wrote: below `TMPDIR`, "
        "`HOME` or the folder of `--out`. What a command leaves at its own `--out` and at `MLEKIT_REFUSAL` comes back, what "
        "it prints arrives on stderr, and of the environment of the call only `MLEKIT_REFUSAL` and `PYTHONHASHSEED` reach it.",
        "A test of refusals sets `MLEKIT_REFUSAL` for the command it calls.",
    ),
)

VALIDATE = Command(
    "validate",
    "03",
    "Judge feeds before anything is learned from them.",
    (
        USECASE,
        Argument("--feeds", "DIR", "a folder of feeds (see below), each judged on its own; it may be empty"),
        Argument("--history", "D", "a data folder of the months before, which is known to be good"),
        NOW,
        out_folder("a folder for each feed, under the feed's name"),
    ),
    (
        Written("FEED/report.json", "03", "the judgement", model=FeedReport),
        Written(
            "FEED/accepted/", "03",
            "what may be used, laid out like the feed: `flights/NAME.parquet`, `weather/NAME.parquet`, under any names; a manifest is not "
            "needed, nor a file for no rows. A feed that is refused has none",
        ),
        Written(
            "FEED/quarantine.parquet", "03",
            "what may not be used, one row for each row and rule it breaks in a column; it may be left out if there is none",
            columns=QUARANTINE,
        ),
    ),
    rules=(
        "A feed that breaks a rule about feeds is `refused`: nothing of it is accepted, and its rows are not judged. Otherwise it "
        "is `quarantined` if any row is, and `accepted` if none is.",
        "Accepted and quarantined rows add up to the rows that came in. A row that breaks two rules is one row.",
        "Accepted rows keep every value in every column of the history's table, in any order of rows and columns. Other columns "
        "may be kept or left out; those with personal data are left out, and do not change the status.",
        "No value of a column with personal data is in anything that `validate` writes or prints, in whatever form: tables, "
        "reports, quarantine, files in `MLEKIT_STATE`.",
        "A feed gets the same judgement alone, in company, and in a folder of another name.",
        "A null breaks no rule about values. NaN counts as null.",
        "Judging is what it is for: exit code 0, also when every feed is refused.",
    ),
)  # fmt: skip

FEATURES = Command(
    "features",
    "04",
    "Compute the defined features for rows, as of their decisions.",
    (USECASE, SPEC, DATA, ROWS, out_file("the features, Parquet")),
    (
        Written(
            "the file of --out", "04", "one row per row, in their order, and no column but these",
            columns=(
                Column("row_id", TEXT, "as in the rows"),
                Column("<name>", "as it is", "the value of that feature; one column for each entry of --spec, in their order"),
            ),
        ),
    ),
    refuses="definitions with an unknown kind, an unknown or missing key, a table or column that is not there, a duration, zone or part "
    "that is none, or a name twice or `row_id`; the refusal's `key` is the name of the feature, null where there is none. What else makes "
    "no sense, such as a mean of texts, a look-up by another column than the key, or the hour of a text, is not asked for",
    rules=(
        "A value may be used if and only if it was known at the decision of the row.",
        "What a row gets depends on that row and the data, not on its neighbours, their number or their order, and not on the "
        "order of rows in the data.",
        "--spec is any set of definitions, not only your own. `train` and `predict` use those of the file that the manifest "
        "names as `features`, and the model learns from all of them: who adds an entry there need change nothing else. `predict` may "
        "use those that its model was trained with.",
    ),
)  # fmt: skip

STALENESS_STUDY = Command(
    "staleness",
    "05",
    "Measure how a model ages: train as if at the end of each month, and score every month that came after.",
    (
        USECASE, DATA,
        Argument(
            "--config", "F",
            "a configuration as for `train`: its `train_end` says which model is the first; all else holds for all models",
        ),
        out_file("the study, Parquet"),
    ),
    (Written("the file of --out", "05", "one row for each model and each later month, in any order", columns=STALENESS),),
    refuses="what `train` refuses",
    rules=(
        "For each month of the data whose last day is `train_end` or later, and that has another month of the data after it: the "
        "model that `train` makes with this configuration and that last day as `train_end`. Like there, it does not learn from its "
        "validation rows.",
        "It is scored on the landed flights of each later month of the data, as `predict` scores them.",
    ),
)  # fmt: skip

REGISTER = Command(
    "register",
    "06",
    "Put the model of a finished run into the registry.",
    (USECASE, Argument("--run-id", "ID", "the MLflow run"), out_file("the version, JSON")),
    (Written("the file of --out", "06", "which version it is", model=VersionRecord),),
    refuses="a run that is not there or not finished",
    rules=(
        "The version is of the use case's `model_name`, and its source is the run's logged model, that of `train.json`. Registered again, "
        "a run keeps its version. No alias moves.",
    ),
)  # fmt: skip

PROMOTE = Command(
    "promote",
    "06",
    "Let a challenger pass the gate, or refuse it.",
    (USECASE, Argument("--version", "N", "the challenger"), DATA, out_file("the decision, JSON")),
    (
        Written("the file of --out", "06", "the decision", model=GateDecision),
        Written("MLEKIT_STATE/audit.jsonl", "06", "one line more", model=AuditRecord),
    ),
    refuses="a version that is not there. To find a challenger wanting is its work, and ends with exit code 0",
    rules=("The champion itself, asked again, is a challenger whose log loss is not lower than the champion's.",),
)  # fmt: skip

ROLLBACK = Command(
    "rollback",
    "06",
    "Make the champion before this one champion again.",
    (USECASE, out_file("what changed, JSON")),
    (
        Written("the file of --out", "06", "what changed", model=RollbackRecord),
        Written("MLEKIT_STATE/audit.jsonl", "06", "one line more", model=AuditRecord),
    ),
    refuses="to go back where no champion before is known",
    rules=(
        "Each rollback takes back one promotion that is not taken back yet, the last first. So it works twice in a row, and does not go "
        "back and forth. Versions that were deleted meanwhile are passed over: their promotion is taken back by the same rollback. Where "
        "the champion itself was deleted there is a way back too; `from` is then null, or that version.",
    ),
)  # fmt: skip

PIPELINE = Command(
    "pipeline",
    "07",
    "From the source to a judged model, month by month.",
    (
        USECASE,
        SOURCE,
        Argument("--history", "D", "a data folder: the months that were there before the first one arrived"),
        Argument("--months", "M[,M]", "the months to do, `YYYY-MM`, in any order"),
        NOW,
        Argument("--seed", "N", "the seed of the training"),
        out_file("what happened, JSON"),
    ),
    (
        Written("the file of --out", "07", "what happened", model=PipelineRecord),
        Written("MLEKIT_STATE/data/", "07", "all accepted rows, laid out like a data folder; `manifest.json` is yours to shape"),
        Written("MLEKIT_STATE/features/M.parquet", "07", "`row_id`, which is the `flight_id`, and a column for each definition"),
        Written("MLEKIT_STATE/audit.jsonl", "07", "one line more for each version that is made", model=AuditRecord),
    ),
    exits=(EXITS[0], (3, "a month could not be had; --out says which and why"), EXITS[1]),
    refuses="what is no month written as `YYYY-MM`, with the key `months`",
)  # fmt: skip

SERVE = Command(
    "serve",
    "08",
    "Answer over HTTP until it is told to stop (SIGTERM).",
    (USECASE, DATA),
    exits=((0, "it was told to stop; being ended by SIGTERM counts as this"),),
    later=(
        (
            "12",
            "reads the experiment in `MLEKIT_EXPERIMENT`: `{name, mode, control, challenger, share, salt, "
            "max_error_rate, max_latency_ratio}` with mode shadow, canary, ab or off",
        ),
    ),
)

EXPORT_LOG = Command(
    "export-log",
    "09",
    "Write out what was answered.",
    (STATE, out_file("Parquet")),
    (Written("the file of --out", "09", "the log, in any order", columns=PREDICTION_LOG),),
    rules=EXPORT_RULES,
    later=(("12", "adds the columns `unit_id`, `variant`, `shadow_probability?`"),),
)
OPS = Command(
    "ops",
    "09",
    "Answer a question of operations from the log.",
    (
        Argument("--question", "Q", f"{', '.join(QUESTIONS[:-1])} or {QUESTIONS[-1]}"),
        Argument("--request-id", "ID", "the request asked about", optional=True),
        Argument("--from", "T", "from this time on, RFC 3339", optional=True),
        Argument("--to", "T", "before this time, RFC 3339", optional=True),
        STATE,
        out_file("JSON"),
    ),
    (Written("the file of --out", "09", "the answer", model=OpsAnswer),),
    rules=OPS_RULES,
)

MONITOR = Command(
    "monitor",
    "10",
    "Judge windows of traffic: is the model still right?",
    (
        USECASE,
        Argument("--reference", "D", "a folder of windows (see below): what is normal"),
        Argument("--windows", "D", "a folder of windows, each judged on its own; it may be empty"),
        out_folder("decisions and reports"),
    ),
    (
        Written("decisions.json", "10", "what each window gets, in any order", model=Monitored),
        Written("ID.html", "10", "a report for people, for each window with `render` true, under the window's name"),
    ),
    rules=COMPANY_RULES,
)

LOOP = Command(
    "loop",
    "11",
    "Keep the model right as months pass, until it is told to stop (SIGTERM).",
    (
        USECASE,
        Argument("--mailbox", "D", "the mailbox (see below)"),
        SOURCE,
        Argument("--history", "D", "a data folder: the months that were there before the first one arrived"),
        Argument("--seed", "N", "the seed of every training"),
    ),
    (
        Written("MAILBOX/out/0007.json", "11", "the answer to a step", model=LoopAnswer),
        Written("MLEKIT_STATE/audit.jsonl", "11", "one line more for each version that is judged", model=AuditRecord),
    ),
    exits=((0, "it was told to stop; being ended by SIGTERM counts as this"),),
)

PLANNED = (
    Command(
        "analyze", "12", "Read experiments.",
        (Argument("--experiments", "D", "a folder of experiments"), out_file("JSON")),
        (Written("the file of --out", "12", "a list, one object an experiment", keys=(
            Key("experiment_id", "string"), Key("verdict", "better, worse, no_difference or invalid"),
            Key("reason", "srm, novelty or underpowered", optional=True), Key("effect", "number"),
            Key("low", "number"), Key("high", "number"),
        )),),
    ),
    Command(
        "decide", "12", "Turn probabilities into actions at least expected cost.",
        (ROWS, Argument("--predictions", "F", "Parquet: row_id, probability"), Argument("--costs", "F", "the cost matrix"),
         out_file("Parquet")),
        (Written("the file of --out", "12", "one row per row", columns=(
            Column("row_id", TEXT, "as in the rows"), Column("action", TEXT, "an action of the cost matrix"),
        )),),
    ),
    Command(
        "ci", "13", "Judge a commit, run in a fresh copy.",
        exits=((0, "accept"), (1, "reject")),
        rules=("The documents `compose` and `dockerfile` of the manifest say how it is shipped.",),
    ),
    Command(
        "batch", "14", "Score a folder of rows on a Dask cluster.",
        (USECASE, Argument("--model", "REF", "as for predict"), DATA, Argument("--rows", "D", "folder of Parquet files"),
         out_folder("predictions"), Argument("--scheduler", "URL", "tcp://HOST:PORT of the Dask scheduler")),
        (Written("part-*.parquet", "14", "one row per row to score", columns=PREDICTION),),
        rules=("The rows are the same for any partitioning, and when a worker dies midway.",),
    ),
    Command(
        "replay", "16", "Compute one answer again, bit for bit.",
        (Argument("--request-id", "ID", "the request"), STATE, out_file("JSON")),
        (Written("the file of --out", "16", "the answer and what it came from", keys=(
            Key("row_id", "string"), Key("probability", "number"), Key("features", "object"),
        )),),
    ),
)  # fmt: skip

COMMANDS = (
    TRAIN,
    PREDICT,
    TEST,
    VALIDATE,
    FEATURES,
    STALENESS_STUDY,
    REGISTER,
    PROMOTE,
    ROLLBACK,
    PIPELINE,
    SERVE,
    EXPORT_LOG,
    OPS,
    MONITOR,
    LOOP,
    *PLANNED,
)

# What a later stage asks beyond commands.
DOCUMENTS = (
    ("15", "failures", "`[[failure]]` with name (tracking_down, source_slow, store_slow, artifact_corrupt, disk_full, "
                       "clock_jump), answers (last_good, degraded, refused), ready, recovery_s"),
    ("16", "claims", "`[[claim]]` with metric, value, unit, tolerance: what the system can do, measured again"),
    ("16", "onboarding", "how to start, whose code blocks are run in order in a clean place"),
    ("16", "assessment", "28 items of the ML Test Score, each with the check that shows it"),
    ("13", "compose", "the services of the system"),
    ("13", "dockerfile", "how its image is built"),
)  # fmt: skip

# What each stage that is still planned adds to the contract.
LATER = (
    ("12", "shadow, canary and A/B releases, `analyze`, `decide`"),
    ("13", "`ci`, and the documents `compose` and `dockerfile`"),
    ("14", "`batch`; `features`, `train` and `predict` on twenty times the data"),
    ("15", "the document `failures`: what happens when something breaks, compared with what does; `degraded` answers"),
    (
        "16",
        "every command with another use case, `replay`, `/v2/predict`, the documents `claims`, `onboarding`, `assessment`",
    ),
)

# What `train` logs from stage 05 on: kind of entry, name, what it is.
RUN = (
    ("parameter", ("seed", "train_start", "train_end"),
     "and every other key of the configuration, with the value that was used, also a default; a key in a table has a dotted "
     "name, `model.depth`"),
    ("metric", ("valid.log_loss", "valid.brier", "valid.auc"), "of the logged model on the validation rows"),
    ("metric", ("baseline.log_loss", "baseline.brier"),
     "of a constant on the validation rows: the late rate of the landed flights of the window before them"),
    ("tag", ("mlekit.dataset_hash",), "`dataset_hash` in the manifest of the data"),
    ("tag", ("mlekit.code_hash",), "any text that is another one when any file of the submission is, and else the same; the "
     "working directory of a command is a clean copy and holds nothing else. Where you run it by hand more lies there: what a clean copy "
     "leaves out, and what you were given beside your work (`data/`, `briefs/`, `rows.parquet`), may be left out of the hash"),
    ("artifact", ("validation.parquet",), "the validation rows (see below)"),
    ("model", (), "under any name: the logged model (see below), whose URI is in `train.json`"),
)  # fmt: skip

CONFIG = (
    Key("seed", "whole number", "from which everything random is drawn"),
    Key(
        "train_start",
        'text, "YYYY-MM-DD"',
        "first day to learn from, by `sched_dep_local`; a TOML date may be taken or refused",
    ),
    Key("train_end", 'text, "YYYY-MM-DD"', "last day to learn from, included"),
)

ENVIRONMENT = (
    Variable("MLEKIT_CONTRACT", "01", "`1`, the version of this contract"),
    Variable("MLEKIT_REFUSAL", "01", "the file to write a refusal to"),
    Variable(
        "MLEKIT_STATE",
        "01",
        "a writable folder for your own files, empty at the start except where a stage says that it stays",
    ),
    Variable("HOME", "01", "the same folder as `MLEKIT_STATE`"),
    Variable("TMPDIR", "01", "`/tmp`, empty at the start and gone at the end"),
    Variable("TZ", "01", "`UTC`, so that a local time zone cannot hide a mistake"),
    Variable("LANG", "01", "`C.UTF-8`"),
    Variable("PATH", "01", "your environment's programs, then `/usr/bin` and `/bin`"),
    Variable("OMP_NUM_THREADS", "01", "`1`: libraries that each take all cores are slower together"),
    Variable("PYTHONNOUSERSITE", "01", "`1`: packages of a home folder are not seen"),
    Variable(
        "MLFLOW_TRACKING_URI",
        "01",
        "where MLflow logs: an SQLite store of this command alone, except where a stage says that it stays; needed from stage 05 on",
    ),
    Variable("MLFLOW_EXPERIMENT_NAME", "01", "the experiment to log to; it is there"),
    Variable("MLFLOW_DISABLE_TELEMETRY", "01", "`true`: there is no network to tell anybody"),
    Variable("DO_NOT_TRACK", "01", "`true`, for the same reason"),
    Variable("GIT_PYTHON_REFRESH", "01", "`quiet`: MLflow asks for git, which need not be there"),
    Variable("MLEKIT_DATA", "01", "the data folder", "notebook"),
    Variable("MLEKIT_ROWS", "01", "the file of rows to score", "notebook"),
    Variable("MLEKIT_OUT", "01", "the folder to write to", "notebook"),
    Variable("PYTHONHASHSEED", "02", "a number that may change from call to call", "train"),
    Variable("PREFECT_API_URL", "07", "the Prefect server", "pipeline and loop"),
    Variable("PREFECT_HOME", "07", "Prefect's own folder, in that of `MLEKIT_STATE`", "pipeline and loop"),
    Variable(
        "PREFECT_SERVER_ANALYTICS_ENABLED", "07", "`false`: there is no network to tell anybody", "pipeline and loop"
    ),
    Variable("MLEKIT_HOST", "08", "the address to listen on", "serve"),
    Variable("MLEKIT_PORT", "08", "the port to listen on", "serve"),
    Variable("MLEKIT_REFRESH_SECONDS", "08", "how often to look for a new champion", "serve"),
    Variable("MLEKIT_CLOCK", "16", "a file with the time it is, RFC 3339; absent means the system's clock", "serve"),
    Variable("MLEKIT_EXPERIMENT", "12", "the file that describes the running experiment", "serve"),
)


def find(name: str) -> Command:
    """The command of a name, or the notebook. Raises KeyError."""
    known = {command.name: command for command in (NOTEBOOK, *COMMANDS)}
    if name not in known:
        raise KeyError(f"{name} is not a command of the contract; known are {', '.join(known)}")
    return known[name]
