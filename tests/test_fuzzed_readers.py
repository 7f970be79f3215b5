"""Every reader of what a submission wrote, fuzzed: it gives what it says it gives, or raises its own error with one printable line.

Never another exception, never a hang, and no path of the judge in a message. What is read, by whom, and which sample here stands for it
(`HERE` is the table as a test sees it; `test_no_reader_is_missing` holds it against the code):

| what a submission wrote | who reads it | samples |
|---|---|---|
| tables | sandbox/inside/read.py, sandbox/reader.py `parquet` | parquet |
| JSON files, lines of JSON, what was printed | the same: `json`, `lines`, `printed` | json, lines, printed |
| folders | `folder`, `search` | folder, search |
| MLflow's database, MLmodel | `store`, `registry` | store, registry, mlmodel |
| metrics of a service | `metrics` | metrics |
| pages | `page` | page |
| whatever takes the reader's process over | sandbox/reader.py, all of it | answers |
| prediction tables | checks/predictions.py, s01, s02, tracked.py | predictions |
| JSON of the contract, all models of it | contract/outputs.py, checks/predictions.py `read_json` | outputs |
| feeds | checks/s03_data_contract.py `_judged` | feeds |
| features | checks/s04_features.py `read_features` | features |
| staleness | checks/s05_tracking.py `study` | staleness |
| runs and models that were logged | checks/tracked.py `read`, `statuses` | logged |
| registry and audit log | checks/s06_registry.py `registered`, `audited` | registered |
| data, features and runs of a pipeline | checks/s07_pipeline.py `wrong_tables`, services.py `Prefect` | pipeline, prefect |
| answers of a service | checks/asking.py, served.py `version_of`, s08_serving.py `_names` | answered |
| the same on the wire | sandbox/inside/http_client.py, services.py `Asking` | wire, told |
| its description | sandbox/inside/probe_openapi.py `fields` | described |
| the exported log, lines about requests | checks/s09_observability.py `read_log`, `_wrong_lines`, `parsed_scrapes` | log |
| decisions about windows | checks/s10_monitoring.py `read` | decisions |
| answers of the loop | checks/s11_retraining.py by `json` and LoopAnswer | outputs |
| pyproject.toml, features.toml, lock file | contract/manifest.py, features.py, environment.py | manifest, definitions, lock |
| notebooks | sandbox/inside/run_notebook.py, grader/asking.py | notebook |
| the files of a submission | grader/submission.py `files_of`, `submission_hash`, runcache.py `content_of` | names |
| what a command printed | grader/printable.py, submission.py `Ran`, report/ (text, JUnit, HTML, JSON) | output |
| calls of its tests | grader/faultproxy.py | calls |
| grades, events, runs, progress, answers | verdict.py, supervisor.py, workspace.py, runcache.py, progress.py, recall.py | grade, kept |

No file of JUnit, of coverage or of pytest is read: a submission says in tests.json how its tests went (SuiteResult, in outputs).
"""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import os
import random
import re
import resource
import signal
import sqlite3
import sys
import tempfile
import time
import urllib.request
import xml.etree.ElementTree as ET
import zipfile
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gradekit import NAMES, check, graded
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from grader import asking as learner
from grader import environment, progress, recall, services
from grader.checks import (
    asking,
    predictions,
    s03_data_contract,
    s04_features,
    s05_tracking,
    s06_registry,
    s07_pipeline,
    s08_serving,
    s09_observability,
    s10_monitoring,
    served,
    tracked,
)
from grader.checks.api import Fault
from grader.contract import ManifestProblem, outputs, read_manifest
from grader.contract.features import AsofFeature, FeatureProblem, parse_features
from grader.engine import supervisor
from grader.faultproxy import FaultProxy
from grader.printable import one_line, printable
from grader.report.github import annotations, inert, summary
from grader.report.html import html
from grader.report.junit import junit
from grader.report.terminal import grade_report
from grader.report.text import Style
from grader.runcache import NotKept, RunCache, content_of
from grader.sandbox import Finished, Mount, choose
from grader.sandbox.base import SandboxFault
from grader.sandbox.inside import http_client, probe_openapi
from grader.sandbox.reader import INSIDE, Metrics, Page, Read, Reader, Table, Unreadable
from grader.services import Answer
from grader.stages import all_stages
from grader.stores import TooMuch
from grader.submission import Ran, UnusableSubmission, files_of, submission_hash
from grader.verdict import Outcome, UnreadableGrade, read_grade
from grader.workspace import Workspace

SECONDS, LONG_SECONDS = 20, 180  # that one sample may take; that a long run spends on one kind of sample
LONGEST = 1_500  # characters of a message
MOST_MB = 1_500  # that all samples of a kind may add to the memory of this process
QUICK = 25  # samples of a kind in the default run
HERE = {}  # the readers: by the kind of sample, its strategy and what is done with one


def reader(kind, sample, quick=QUICK):
    """Mark a function as what is done with a sample; `quick` is how many the default run takes."""

    def mark(function):
        HERE[kind] = sample, function, quick
        return function

    return mark


# What is asked of each


class Hang(BaseException):
    pass


@contextmanager
def within(seconds):
    def ring(*_):
        raise Hang(f"not over within {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def said(message, place=None):
    """Hold a message to what any has to be."""
    text = str(message)
    assert 0 < len(text) <= LONGEST, len(text)
    assert "\n" not in text, text
    assert all(c.isprintable() or printable(c.encode("utf-8", "surrogatepass")) == c for c in text), text
    for word in ("RecursionError", "MemoryError", "Traceback", *([str(place)] if place else [])):
        assert word not in text, text
    return text


def own(errors, place, function, *arguments):
    """What a reader gives, or None where it raises its own error."""
    try:
        return function(*arguments)
    except errors as problem:
        said(problem, place)
        return None


def hold(kind, examples, number=None):
    sample, function, _ = HERE[kind]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(
        max_examples=examples,
        derandomize=number is None,
        database=None,
        deadline=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    @given(sample)
    def held(value):
        with tempfile.TemporaryDirectory(prefix="fuzz-") as place, within(SECONDS):
            try:
                function(value, Path(place).resolve())
            finally:
                for folder, _, _ in os.walk(place):
                    Path(folder).chmod(0o700)

    (held if number is None else seed(number)(held))()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert grown < MOST_MB, f"{grown} MB"


class InProcess:
    """A sandbox that is none: runs the reader here, so that thousands of samples take seconds. `says` are bytes that it answers instead."""

    name = "plain"

    def __init__(self, says=None):
        self.says = says

    def run(self, job):
        words = [str(word.outside()) if isinstance(word, Mount) else word for word in job.argv[2:]]
        if self.says is None:
            INNER.main(*words)
        else:
            Path(words[2]).write_bytes(self.says)
        return Finished("exited", 0, 0.0, "")


def module(name):
    spec = importlib.util.spec_from_file_location(f"fuzzed_{name}", INSIDE / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


INNER = module("read")


def a_reader(place, says=None):
    return Reader(InProcess(says), place / "scratch")


# Odd values

ODD_TEXTS = (
    "",
    "\0",
    "\x1b[2J\x1b]0;x\x07",
    "a\nb",
    "\u202eevil",
    "\u2028",
    "\ud800",
    "\udcff",
    "\U0001f600",
    "e\u0301",
    "x" * 5000,
    "NaN",
    "null",
    "::error::x",
    "##[error]x",
    "%0A",
    "../../etc/passwd",
    "{{7*7}}",
    "=1+1",
    "2023-02-30",
    "0x10",
    "١٢",
    "²",
)
ODD_INTS = (0, -1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**39, 10**41, 10**309, 10**4200)
ODD_FLOATS = (0.0, -0.0, 5e-324, 1.7e308, float("inf"), float("-inf"), float("nan"))
texts = st.sampled_from(ODD_TEXTS) | st.text(st.characters(codec=None), max_size=20)
ints = st.sampled_from(ODD_INTS) | st.integers(-3, 3)
floats = st.sampled_from(ODD_FLOATS) | st.floats()
scalars = st.none() | st.booleans() | ints | floats | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)


def spelled(value):
    """JSON as json.dumps would not dare to: whole numbers of any length."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value)
    finally:
        sys.set_int_max_str_digits(limit)


BAD_JSON = (
    b"",
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"),
    b"\xff\xfe",
    b"[" * 50_000,
    b'{"a":' * 3_000,
    b"[" * 101 + b"]" * 101,
    b"[" * 990 + b"]" * 990,
    b"[" * 900 + b"]" * 900,
    b"9" * 5_000,
    b"[" + b"9" * 310 + b"]",
    b"-" + b"9" * 4_301,
    b"1e999",
    b"NaN",
    b"[Infinity, -Infinity]",
    b'{"a": 1, "a": 2}',
    b'"\\ud800"',
    b'"\\u0000"',
    b'"\xed\xa0\x80"',
    b"{} {}",
    b"nul",
    b"[1,]",
    b"\0" * 100,
    b'{"a": ' + b"9" * 5_000 + b"}",
    b'{"x": {"y": ' * 60 + b"1",
    b'"' + b"a" * 100_000,
    b"1" * 41,
    b"0" * 400,
    b"-0",
    b"1.",
)


@st.composite
def mutated(draw, whole):
    """Bytes of a right file, and then less right."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["cut", "flip", "put", "drop", "zero", "twice", "size"])):
            case "cut":
                del data[at:]
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "put":
                data[at:at] = draw(st.binary(max_size=8))
            case "drop":
                del data[at : at + draw(st.integers(1, 20))]
            case "zero":
                data[at : at + 8] = b"\0" * len(data[at : at + 8])
            case "twice":
                data[at:at] = data[at : at + 200]
            case "size":  # lengths and counts in binary files
                data[at : at + 4] = draw(
                    st.sampled_from([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x01\0\0\0"])
                )
    return bytes(data)


json_bytes = (
    st.sampled_from(BAD_JSON)
    | values.map(lambda v: spelled(v).encode())
    | values.map(lambda v: spelled(v).replace("\\ud800", "\ud800").encode("utf-8", "surrogatepass"))
    | mutated(values.map(lambda v: spelled(v).encode()))
)

ARRAYS = st.sampled_from(
    [
        lambda n: pa.array(["a"] * n),
        lambda n: pa.array([None] * n),
        lambda n: pa.array([0.5] * n),
        lambda n: pa.array([1] * n, pa.uint64()),
        lambda n: pa.array([float("nan")] * n, pa.float32()),
        lambda n: pa.array([0.5] * n, pa.float16()),
        lambda n: pa.array([True] * n),
        lambda n: pa.array([2**64 - 1] * n, pa.uint64()),
        lambda n: pa.array([b"\xff\0"] * n),
        lambda n: pa.array(["u"] * n).dictionary_encode(),
        lambda n: pa.array([[1]] * n),
        lambda n: pa.array([{"x" * 3000: {"y": 1}}] * n),
        lambda n: pa.array([1] * n, pa.timestamp("ns")),
        lambda n: pa.array([2**62] * n, pa.timestamp("s")),
        lambda n: pa.array([-(2**63)] * n, pa.timestamp("us", "UTC")),
        lambda n: pa.array([1] * n, pa.date32()),
        lambda n: pa.array([1] * n, pa.duration("ns")),
        lambda n: pa.array(["x" * 2000] * n),
        lambda n: pa.array([b"M\xfcnchen"] * n).view(pa.string()) if n else pa.array([], pa.string()),
        lambda n: pa.array([b"\xff"] * n, pa.large_binary()).view(pa.large_string()),
        lambda n: pa.array([1] * n).cast(pa.decimal128(23, 2)),
        lambda n: pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int8()), pa.array([1.5])),
        lambda n: pa.nulls(n),
        lambda n: pa.array(["1", "two", None][:n] + ["x"] * max(0, n - 3)),
        lambda n: pa.array([0.1, 1.5, None][:n] + [0.2] * max(0, n - 3)),
    ]
)
COLUMN_NAMES = st.sampled_from(
    ["row_id", "probability", "label", "train_end", "n", "request_id", "rule", "source_row", "table", "column"]
)
names = COLUMN_NAMES | texts.map(lambda text: text.encode("utf-8", "replace").decode())


@st.composite
def tables(draw, wanted=()):
    rows = draw(st.sampled_from([0, 1, 3, 40]))
    given_ = list(wanted) if draw(st.booleans()) else []
    given_ += draw(st.lists(names, max_size=3))
    arrays = [draw(ARRAYS)(rows) for _ in given_]
    table = pa.Table.from_arrays(arrays, names=given_) if given_ else pa.table({})
    if draw(st.booleans()):
        table = table.replace_schema_metadata({b"pandas": draw(st.binary(max_size=20))})
    return table


def parquet_of(table, **how):
    out = io.BytesIO()
    try:
        pq.write_table(table, out, **how)
    except (pa.ArrowException, UnicodeDecodeError, OSError):
        return b"PAR1"
    return out.getvalue()


def parquets(wanted=()):
    whole = st.builds(
        lambda table, version, codec: parquet_of(table, version=version, compression=codec),
        tables(wanted),
        st.sampled_from(["1.0", "2.6"]),
        st.sampled_from(["none", "snappy", "zstd", "gzip"]),
    )
    return (
        whole
        | mutated(whole)
        | st.sampled_from([b"", b"PAR1", b"PAR1\xff\xff\xff\x7fPAR1", b"PAR1" + b"\xff" * 99 + b"PAR1"])
    )


# The reader's process, here


def is_table(found):
    assert isinstance(found, Table)
    assert 0 <= found.rows <= 2_000_000
    for column in found.columns.values():
        said(column.type)
        assert column.values is None or len(column.values) == found.rows


@reader("parquet", parquets(("row_id", "probability")), 60)
def _(data, place):
    (place / "t.parquet").write_bytes(data)
    if found := own(Unreadable, place, a_reader(place).parquet, place / "t.parquet"):
        is_table(found)


@reader("json", json_bytes, 80)
def _(data, place):
    (place / "a.json").write_bytes(data)
    own(Unreadable, place, a_reader(place).json, place / "a.json")


@reader("lines", st.lists(json_bytes, max_size=4).map(b"\n".join))
def _(data, place):
    (place / "a.jsonl").write_bytes(data)
    found = a_reader(place).lines(place / "a.jsonl")
    assert len(found) == sum(bool(line.strip()) for line in data.split(b"\n"))


@reader(
    "printed", st.lists(json_bytes | st.binary(max_size=30) | st.just(b"{" * 3_000), max_size=4).map(b" 50% {".join)
)
def _(data, place):
    (place / "printed.txt").write_bytes(data)
    assert all(isinstance(line, dict) for line in a_reader(place).printed(place / "printed.txt", 1 << 20))


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, data in enumerate(members):
            archive.writestr(f"m{number}", data)
    return out.getvalue()


zips = st.lists(st.binary(max_size=50), max_size=3).map(zipped)
file_names = st.sampled_from(
    [
        b"a.json",
        b"t.parquet",
        b"out/a.json",
        b"accepted/flights.parquet",
        b"quarantine.parquet",
        b"report.json",
        b"\xff\xfe.json",
        b"a\nb.parquet",
        b"::error::x.parquet",
        b"\x1b[2J.json",
        b"x" * 200 + b".parquet",
        b"model.skops",
        b"d/" * 150 + b"deep.json",
        b"link.json",
        b"pipe.parquet",
        b"accepted/\xe2\x80\xae.parquet",
        b"secret ana@x.example",
        b"locked/a.json",
    ]
)
folders = st.dictionaries(
    file_names, json_bytes | parquets() | zips | mutated(zips) | st.just(b"ana@x.example"), max_size=4
)


def lay(files, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if name == b"link.json":
            Path(os.fsdecode(path)).symlink_to("/etc/passwd")
        elif name == b"pipe.parquet":
            os.mkfifo(path)
        else:
            with open(path, "wb") as file:
                file.write(data)
    if b"locked/a.json" in files:
        (folder / "locked").chmod(0)


@reader("folder", folders, 25)
def _(files, place):
    lay(files, place / "out")
    found = own(Unreadable, place, a_reader(place).folder, place / "out")
    for one in (found or {}).values():
        assert isinstance(one, Read)
        if one.problem:
            said(one.problem, place)
        if one.table:
            is_table(one.table)


@reader("search", folders, 25)
def _(files, place):
    lay(files, place / "out")
    found = own(Unreadable, place, a_reader(place).search, place / "out", ["ana@x.example", "\ud800"])
    plain = {
        os.fsdecode(name)
        for name, data in files.items()
        if data == b"ana@x.example" and name not in (b"link.json", b"pipe.parquet")
    }
    assert found is None or plain <= {name for name, _ in found}


SCHEMA = """
CREATE TABLE alembic_version (version_num); INSERT INTO alembic_version VALUES ('x');
CREATE TABLE experiments (experiment_id, name); INSERT INTO experiments VALUES (1, 'departures');
CREATE TABLE runs (run_uuid, status, lifecycle_stage, experiment_id, artifact_uri, start_time);
CREATE TABLE params (key, value, run_uuid); CREATE TABLE tags (key, value, run_uuid);
CREATE TABLE latest_metrics (key, value, is_nan, run_uuid);
CREATE TABLE logged_models (model_id, artifact_location, status, source_run_id, name, creation_timestamp_ms);
CREATE TABLE model_versions (name, version, run_id, source, current_stage);
CREATE TABLE registered_model_aliases (name, alias, version);
"""
EVIL_SQL = (
    "",
    "DROP TABLE runs",
    "DROP TABLE experiments",
    "DROP TABLE logged_models",
    "INSERT INTO runs SELECT * FROM runs",
    "DROP TABLE params; CREATE VIEW params AS SELECT hex(zeroblob(900000000)) AS key, 1 AS value, 'abc' AS run_uuid",
    "DROP TABLE tags; CREATE VIEW tags AS SELECT x'ff' AS key, x'00' AS value, 'abc' AS run_uuid",
    "DROP TABLE registered_model_aliases; "
    "CREATE VIEW registered_model_aliases AS SELECT 'departures' AS name, NULL AS alias, x'ff' AS version",
    "DROP TABLE tags; CREATE VIEW tags AS SELECT CAST(x'fffe' AS TEXT) AS key, 'v' AS value, 'abc' AS run_uuid",
)
cells = st.sampled_from(
    [
        None,
        "abc",
        "",
        "1",
        1,
        -1,
        2**63 - 1,
        0.5,
        b"\xff\0",
        "x" * 5000,
        "FINISHED",
        "active",
        "a\nb\x1b[2J",
        "departures",
        "/etc",
        "file:///etc/passwd",
        "\0",
        float("inf"),
        "PLACE",
        "PLACE/../..",
        "PLACE/model",
    ]
)
MLMODELS = (
    b"",
    b"[]",
    b"- a",
    b"x",
    b"flavors: [python_function]",
    b"flavors: {python_function: {}}\nsignature: x\n",
    b"a: &a [*a]",
    b"{" * 2000,
    b"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b,*b]\nrun_id: *c\n",
    b"? [a]\n: b",
    b"\0",
    b"\xff",
    b"!!python/object:os.system {}",
    b"x: 1:1" + b":1" * 20_000,
    b"saved_input_example_info: {artifact_path: [a]}",
    b"signature: {inputs: '[1]'}",
    b"signature: {inputs: '[{}]', outputs: '" + b"[" * 2000 + b"'}",
    b"run_id: " + b"9" * 5000,
    b"<<: [{a: 1}]",
    b"%YAML 9\n---\n",
    b"x0: &x0 [lol]\n"
    + b"".join(b"x%d: &x%d [%s]\n" % (n, n, b",".join([b"*x%d" % (n - 1)] * 9)) for n in range(1, 30))
    + b"run_id: *x29\n",
    b"x0: &x0 {a: b}\n" + b"".join(b"x%d: &x%d {<<: [*x%d, *x%d]}\n" % (n, n, n - 1, n - 1) for n in range(1, 40)),
    b"saved_input_example_info: {artifact_path: PLACE}\nflavors: {python_function: {}}\n"
    b"signature: {inputs: '[{\"name\": 1}]', outputs: null}",
)
GOOD_MLMODEL = b"""flavors:
  python_function: {loader_module: mlflow.sklearn}
signature: {inputs: '[{"type": "string", "name": "carrier"}]', outputs: '[{"name": "probability"}]'}
saved_input_example_info: {artifact_path: input_example.json}
run_id: abc
"""
mlmodels = st.sampled_from(MLMODELS) | mutated(st.just(GOOD_MLMODEL)) | st.binary(max_size=30)


@st.composite
def databases(draw):
    """Statements that make a store, what is changed in its bytes, and the files of a model."""
    row = lambda n: [draw(cells) for _ in range(n)]  # noqa: E731
    return {
        "run": [draw(st.sampled_from(["abc", *ODD_TEXTS[:3], 7])), *row(4), draw(st.integers(0, 3))],
        "params": [row(2) for _ in range(2)],
        "metrics": [row(3)],
        "model": row(2),
        "version": row(4),
        "alias": row(2),
        "evil": draw(st.sampled_from(EVIL_SQL)),
        "uri": draw(
            st.sampled_from(["models:/m-1", "runs:/abc/model", "runs:/abc/../../x", "x", "", "models:/\0", "runs:///"])
        ),
        "bytes": draw(st.lists(st.tuples(st.integers(0, 40_000), st.binary(min_size=1, max_size=4)), max_size=2)),
        "mlmodel": draw(mlmodels),
        "table": draw(parquets(("row_id", "probability", "label"))),
        "left": draw(st.sampled_from(["", "-wal", "-journal"])),
    }


def make_store(sample, folder):
    placed = lambda row: [c.replace("PLACE", str(folder)) if isinstance(c, str) else c for c in row]  # noqa: E731
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "MLmodel").write_bytes(sample["mlmodel"].replace(b"PLACE", os.fsencode(folder)))
    (folder / "validation.parquet").write_bytes(sample["table"])
    connection = sqlite3.connect(folder / "mlflow.db")
    connection.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY; BEGIN;" + SCHEMA)

    def put(table, *row):
        connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", placed(row))

    run, status, stage, experiment, where, started = sample["run"]
    put("runs", run, status, stage, experiment if sample["left"] else 1, where if sample["left"] else "PLACE", started)
    for key, value in sample["params"]:
        put("params", key, value, "abc")
        put("tags", key, value, "abc")
    for row in sample["metrics"]:
        put("latest_metrics", *row, "abc")
    put("logged_models", "m-1", sample["model"][0], sample["model"][1], "abc", "model", 1)
    put("model_versions", "departures", *sample["version"])
    put("registered_model_aliases", "departures", *sample["alias"])
    try:
        connection.executescript(sample["evil"])
    except sqlite3.Error:
        pass
    connection.commit()
    connection.close()
    data = bytearray((folder / "mlflow.db").read_bytes())
    for at, put_ in sample["bytes"]:
        data[at : at + len(put_)] = put_
    (folder / "mlflow.db").write_bytes(data)
    if sample["left"]:
        (folder / f"mlflow.db{sample['left']}").write_bytes(sample["mlmodel"][:100])


@reader("store", databases(), 25)
def _(sample, place):
    make_store(sample, place / "tracking")
    found = own(Unreadable, place, a_reader(place).store, place / "tracking", "tracking", "abc", sample["uri"])
    if found and "run" in found:
        model, validation = found["run"]["model"], found["run"]["validation"]
        for problem in (model.get("problem"), validation.problem):
            assert problem is None or said(problem, place)


@reader("mlmodel", mlmodels, 30)
def _(data, place):
    """The same with a right database, so that the file is come to."""
    cells_ = {
        "run": ["abc", "FINISHED", "active", 1, "PLACE", 1],
        "params": [],
        "metrics": [],
        "model": ["PLACE/model", "READY"],
    }
    sample = {
        **cells_,
        "version": ["1", "abc", "x", "None"],
        "alias": ["champion", "1"],
        "evil": "",
        "bytes": [],
        "left": "",
        "table": b"",
    }
    make_store({**sample, "mlmodel": data}, place / "tracking")
    found = a_reader(place).store(place / "tracking", "tracking", "abc", "models:/m-1")["run"]["model"]
    if "problem" in found:
        said(found["problem"], place)
    else:
        assert len(found["run"] or "") <= 5000


@reader("registry", databases(), 12)
def _(sample, place):
    make_store(sample, place / "tracking")
    own(Unreadable, place, a_reader(place).registry, place / "tracking", "tracking", "departures")


METRICS = b"""# HELP mlekit_requests_total Requests.
# TYPE mlekit_requests_total counter
mlekit_requests_total{route="/v1/predict",status="200"} 5.0
# HELP mlekit_seconds Seconds.
# TYPE mlekit_seconds histogram
mlekit_seconds_bucket{le="0.1"} 1
mlekit_seconds_bucket{le="+Inf"} 2
mlekit_seconds_count 2
mlekit_seconds_sum 0.3
"""
BAD_METRICS = (
    b"",
    b"mlekit_x{",
    b'mlekit_x{a="' + b"x" * 5_000,
    b"mlekit_x 1\nmlekit_x 1\n",
    b"mlekit_x " + b"9" * 5_000,
    b"mlekit_x NaN\n",
    b"# TYPE mlekit_x nonsense\n",
    b'mlekit_x{a="\\"}",b="\\n"} 1 2 3\n',
    b"mlekit_x{" + b'a="b",' * 3_000 + b"} 1\n",
    b"\0",
    b"# EOF",
    b"mlekit_x 0x1p3\n",
    b"mlekit_x 1_0\n",
    b"# HELP mlekit_x \\",
    b"{}",
    b"mlekit_x{a='b'} 1\n",
    "mlekit_é 1\n".encode(),
    b'{"mlekit_x"} 1\n',
)
scrapes = st.sampled_from(BAD_METRICS) | mutated(st.just(METRICS))
types = st.sampled_from(["text/plain", "application/openmetrics-text", "", "\0"])


@reader("metrics", st.lists(st.tuples(types, scrapes), max_size=3), 60)
def _(given_, place):
    answers = [{"format": kind, "text": data.decode("utf-8", "backslashreplace")} for kind, data in given_]
    (place / "scrapes.json").write_text(json.dumps(answers))
    found = a_reader(place).metrics(place / "scrapes.json")
    assert len(found) == len(given_)
    for one in found:
        assert isinstance(one, Metrics)
        assert one.problem is None or said(one.problem, place)


PAGE = (
    b'<html><body><p data-mlekit="data">drift</p><script src="http://x"></script>'
    b'<div hidden><b data-mlekit="skew">x</b></div></body></html>'
)
BAD_PAGES = (
    b"",
    b"<" * 2000,
    b"<!--" * 500,
    b"<![CDATA[" * 300,
    b"<a " * 300,
    b"<b>" * 5000 + b"</c>" * 5000,
    b"&#" * 500,
    b"&#99999999999;",
    b'<p data-mlekit="' + b"x" * 5000,
    b"<p data-mlekit=data>" * 300 + b"x" * 300,
    b"<?" * 300,
    b"<!DOCTYPE " + b"[" * 300,
    b"\xff\xfe\0",
    b"</",
    b"<!ELEMENT br EMPTY>",
    b"<![if IE]>",
    b"<![unknown",
    b"<!x[",
    b"<script>" * 50,
    b"<textarea>" + b"</" * 300,
)


@reader("page", st.sampled_from(BAD_PAGES) | mutated(st.just(PAGE)), 60)
def _(data, place):
    (place / "w.html").write_bytes(data)
    if found := own(Unreadable, place, a_reader(place).page, place / "w.html", "data-mlekit", 20):
        assert isinstance(found, Page)


# The reader's process, taken over: it answers what it likes

columns_ = st.fixed_dictionaries(
    {}, optional={"type": scalars | st.sampled_from(["int", "str", "float", "timestamp", "null"]), "values": values}
)
handed_tables = st.fixed_dictionaries(
    {},
    optional={
        "rows": ints | st.integers(0, 3),
        "columns": values | st.dictionaries(names, columns_ | values, max_size=3),
        "problem": values,
    },
)
models = st.fixed_dictionaries(
    {},
    optional={
        "path": scalars | st.sampled_from(["../x", "/etc", "artifacts/1"]),
        "pyfunc": scalars,
        "inputs": values,
        "outputs": values,
        "example": scalars,
        "run": scalars,
        "problem": values,
    },
)
handed_runs = st.fixed_dictionaries(
    {}, optional={"params": values, "tags": values, "metrics": values, "validation": handed_tables, "model": models}
)
handed = (
    values
    | st.fixed_dictionaries(
        {},
        optional={
            "value": values,
            "problem": values,
            "files": values | st.dictionaries(texts, handed_tables | values, max_size=3),
            "hits": values,
            "lines": values | st.lists(values, max_size=3),
            "answers": st.lists(
                values
                | st.fixed_dictionaries(
                    {},
                    optional={
                        "families": values,
                        "samples": values | st.lists(st.tuples(texts, values, scalars), max_size=2),
                        "problem": values,
                    },
                ),
                max_size=2,
            )
            | values,
            "runs": values | st.dictionaries(texts, values, max_size=2),
            "run": values | handed_runs,
            "versions": values,
            "aliases": values,
            "flags": values,
            "loads": values,
            "rows": ints,
            "columns": values | st.dictionaries(names, columns_, max_size=2),
        },
    )
    | handed_tables
)


@reader("answers", handed.map(lambda v: spelled(v).encode()) | json_bytes, 25)
def _(data, place):
    (place / "out").mkdir()
    (place / "x").touch()
    made, file, folder = a_reader(place, data), place / "x", place / "out"
    for function, *arguments in (
        (made.parquet, file),
        (made.json, file),
        (made.lines, file),
        (made.printed, file, 9),
        (made.metrics, file),
        (made.page, file, "a", 1),
        (made.folder, folder),
        (made.search, folder, ["a"]),
        (made.store, folder, "t", "abc", "u"),
        (made.registry, folder, "t", "m"),
    ):
        found = own(Unreadable, place, function, *arguments)
        if isinstance(found, Table):
            is_table(found)
        if function == made.store and found and "run" in found and "problem" not in (model := found["run"]["model"]):
            assert (folder / model["path"]).resolve().is_relative_to(folder)


# What checks make of it


def given_a(place, **more):
    """A grading, as far as those need one who read."""
    return SimpleNamespace(reader=a_reader(place), folder=lambda *_: Path(tempfile.mkdtemp(dir=place)), **more)


def ran_in(place, **more):
    (place / "out").mkdir(exist_ok=True)
    return Ran("x", Finished("exited", 0, 1.0, "ended"), place / "out", place / "out" / "refusal.json", **more)


IDS = [f"r{number}" for number in range(3)]
right_table = st.builds(
    lambda ids, said_: parquet_of(pa.table({"row_id": ids, "probability": said_})),
    st.lists(st.sampled_from([*IDS, "x", None]), min_size=3, max_size=3),
    st.lists(floats | st.none(), min_size=3, max_size=3).map(lambda v: pa.array(v, pa.float64())),
)


@reader("predictions", right_table | parquets(("row_id", "probability")), 40)
def _(data, place):
    (place / "predictions.parquet").write_bytes(data)
    found = own(Fault, place, predictions.read_ids, a_reader(place), place / "predictions.parquet", IDS)
    assert found is None or (found.shape == (3,) and ((found >= 0) & (found <= 1)).all())
    own(Fault, place, predictions.read_subset, a_reader(place), place / "predictions.parquet", pd.Series(IDS))


MODELS = [
    model
    for model in vars(outputs).values()
    if isinstance(model, type) and issubclass(model, outputs.Output) and model is not outputs.Output
]
KEYS = sorted(
    {key for model in MODELS for key in model.model_fields} | {"from", "to", "windows", "gate", "month", "row_id"}
)
NEAR = st.sampled_from(
    [
        "promoted",
        "refused",
        "retrain",
        "keep",
        "accepted",
        "ok",
        "drift",
        "2023-01-31",
        "2023-13-31",
        "unknown_key",
        "1",
    ]
)
near = st.recursive(
    scalars | NEAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=5),
    max_leaves=10,
)
objects = st.sampled_from(MODELS).flatmap(
    lambda model: st.tuples(
        st.just(model),
        st.fixed_dictionaries({}, optional={(f.alias or k): near for k, f in model.model_fields.items()})
        | near
        | json_bytes,
    )
)


@reader("outputs", objects, 60)
def _(sample, place):
    model, value = sample
    data = value if isinstance(value, bytes) else spelled(value).encode()
    (place / "a.json").write_bytes(data)
    found = own(Fault, place, predictions.read_json, a_reader(place), model, place / "a.json", "we ran it; ")
    assert found is None or isinstance(found, model)
    if not isinstance(value, bytes):  # as an HTTP answer is parsed
        found = own(outputs.OutputProblem, place, outputs.parse_output, model, value)
        assert found is None or isinstance(found, model)


REPORT = {"status": "accepted", "rows_in": 1, "rows_accepted": 1, "rows_quarantined": 0, "findings": []}
reports = st.just(json.dumps(REPORT).encode()) | mutated(st.just(json.dumps(REPORT).encode())) | json_bytes
feeds = st.fixed_dictionaries(
    {},
    optional={
        b"report.json": reports,
        b"quarantine.parquet": parquets(("table", "source_row", "rule", "column")),
        b"accepted/flights.parquet": parquets(),
        b"accepted/a\nb/x.parquet": parquets(),
        b"accepted/\xff.json": json_bytes,
    },
)


@reader("feeds", feeds, 40)
def _(files, place):
    lay({b"f1/" + name: data for name, data in files.items()}, place / "out")
    feed = SimpleNamespace(says="all right", kind="good", status="accepted", rows=1, oddity="", faults=())
    case = SimpleNamespace(feeds={"f1": feed})
    own(Fault, place, lambda: s03_data_contract.judged(given_a(place), ran_in(place), case))


DEFINED = [AsofFeature(name="n", kind="asof", table="flights", by=["origin"], column="dep_delay_min", max_age="P1D")]


@reader("features", parquets(("row_id", "n")), 30)
def _(data, place):
    ran = ran_in(place)
    (ran.out / "features.parquet").write_bytes(data)
    for ids in (IDS, []):
        table = pd.DataFrame({"row_id": ids})
        own(Fault, place, s04_features.read_features, given_a(place), ran, "we ran features", DEFINED, table)


@reader("staleness", parquets(s05_tracking.STUDY), 30)
def _(data, place):
    (place / "staleness.parquet").write_bytes(data)
    own((Fault, Unreadable), place, lambda: s05_tracking._points(a_reader(place).parquet(place / "staleness.parquet")))


TRAINED = {"run_id": "abc", "model_uri": "models:/m-1"}


@reader("logged", st.tuples(databases(), st.just(json.dumps(TRAINED).encode()) | json_bytes), 15)
def _(sample, place):
    database, record = sample
    make_store(database, place / "tracking")
    ran = ran_in(place, tracking=place / "tracking")
    (ran.out / "train.json").write_bytes(record)
    own(Fault, place, tracked.read, given_a(place), ran, ["carrier"], "we trained")
    own(Fault, place, tracked.statuses, given_a(place), ran)


@reader(
    "registered",
    st.tuples(databases(), st.lists(json_bytes | near.map(lambda v: spelled(v).encode()), max_size=3).map(b"\n".join)),
)
def _(sample, place):
    database, log = sample
    make_store(database, place / "tracking")
    (place / "state").mkdir()
    (place / "state" / "audit.jsonl").write_bytes(log)
    ran = ran_in(place, tracking=place / "tracking", state=place / "state")
    own(Fault, place, s06_registry.registered, given_a(place), ran)
    own(Fault, place, s06_registry.audited, given_a(place), ran)


@reader("pipeline", st.tuples(parquets(s07_pipeline.COLUMNS["flights"]), folders), 30)
def _(sample, place):
    data, files = sample
    month = b"flights/2023-01.parquet"
    lay({b"data/" + name: data_ for name, data_ in {**files, month: data}.items()}, place / "state")
    lay({b"features/" + name: data_ for name, data_ in files.items()}, place / "state")
    ran = ran_in(place, state=place / "state")
    truth = SimpleNamespace(rows={"flights/2023-01.parquet": s07_pipeline.Counter()}, features={})
    wrong = own(Fault, place, s07_pipeline.wrong_tables, given_a(place), ran, truth)
    if wrong:
        said(wrong, place)


class Served:
    def __init__(self, data):
        self.data, self.status = data, 200

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read(self, most):
        return self.data[:most]


@reader(
    "prefect",
    json_bytes
    | st.lists(
        near | st.dictionaries(st.sampled_from(["name", "run_count", "state_type", "flow_id"]), near), max_size=3
    ).map(lambda v: spelled(v).encode()),
    40,
)
def _(data, place):
    server, before = object.__new__(services.Prefect), urllib.request.urlopen
    server.url = "http://127.0.0.1:1/api"
    urllib.request.urlopen = lambda *_, **__: Served(data)
    try:
        found = own((SandboxFault, TooMuch), place, server.task_runs, "x")
        own((SandboxFault, TooMuch), place, server.flow_run, "x")
    finally:
        urllib.request.urlopen = before
    if found is not None:
        assert s07_pipeline._retries(found) >= 0
        s07_pipeline.named(found)


# Answers over HTTP

PREDICTED = {"request_id": "a", "model_version": "1", "predictions": [{"row_id": "r0", "probability": 0.5}]}
predicted = st.fixed_dictionaries(
    {}, optional={"request_id": near, "model_version": near, "predictions": near | st.lists(near, max_size=2)}
)
bodies = json_bytes | predicted.map(lambda v: spelled(v).encode()) | mutated(st.just(json.dumps(PREDICTED).encode()))
headers = st.dictionaries(
    st.sampled_from(["content-type", "content-encoding", "location", "x-request-id"]), texts, max_size=2
)
http_answers = st.builds(
    lambda status, head, body, error: Answer(
        0, 0.0, 1.0, status, head, body.decode("utf-8", "backslashreplace"), error
    ),
    st.sampled_from([None, 200, 404, 422, 503]),
    headers,
    bodies,
    st.sampled_from([None, "the connection was refused"]),
)


@reader("answered", http_answers, 100)
def _(answer, place):
    for status in (200, 422):
        own(Fault, place, asking.value_of, answer, status, "we asked")
        own(Fault, place, asking.parsed, outputs.Readiness, answer, status, "we asked")
    own(Fault, place, asking.predicted, answer, [{"row_id": "r0"}], "we asked")
    version = served.version_of(answer)
    assert version is None or isinstance(version, str)
    assert s08_serving._names(answer, "rows") in (True, False)


line_keys = ("n", "sent", "done", "status", "headers", "body", "error")
GOOD_LINE = {"n": 0, "sent": 1.0, "done": 2.0, "status": 200, "headers": {}, "body": "{}", "error": None}
lines_ = st.fixed_dictionaries({}, optional=dict.fromkeys(line_keys, near)).map(
    lambda v: spelled({**GOOD_LINE, **v}).encode()
)


@reader("told", st.lists((lines_ | json_bytes).map(lambda line: line.replace(b"\n", b" ")), max_size=3), 60)
def _(lines, place):
    (place / "0.jsonl").write_bytes(b"".join(line + b"\n" for line in lines) + b'{"n": ')
    found = own(SandboxFault, place, services.Asking(SimpleNamespace(file=lambda name: place / name), 0).so_far)
    assert found is None or all(isinstance(one, Answer) for one in found)


HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
BAD_HTTP = (
    b"",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    b"HTTP/1.1 99999999999 x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000,
    b"HTTP/1.1 307 x\r\nLocation: \xff\xfe\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    b"\0" * 300,
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 101 x\r\nUpgrade: x\r\n\r\n",
    b"HTTP/9.9 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX-Request-ID: \xed\xa0\x80\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 204 \xff\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nSet-Cookie: \x01=\x02; expires=x; max-age=99999999999999999999\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; domain=\xff..; max-age=1e9\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: ;charset=\xff\r\nContent-Length: 1\r\n\r\nx",
)


@reader("wire", st.sampled_from(BAD_HTTP) | mutated(st.just(HTTP)) | st.binary(max_size=50), 30)
def _(data, place):
    asyncio.run(_over_the_wire(data, place))


async def _over_the_wire(data, place):
    async def answer(_, writer):
        try:
            writer.write(data)
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    request = {"method": "GET", "path": "/", "headers": {}, "body64": None}
    plan = {
        "url": url,
        "requests": [request],
        "count": 1,
        "seconds": 5,
        "concurrency": 1,
        "pause": 0,
        "deadline": 0.3,
        "longest": 4000,
        "keep": 100,
        "until": None,
    }
    found = []
    try:
        await http_client.carry_out(plan, place / "stop", found.append)
    finally:
        server.close()
    answer_ = services._answer(json.dumps(found[0]).encode())
    assert answer_.error is None or said(answer_.error)
    assert len(answer_.body) <= 4 * 1000


@st.composite
def descriptions(draw):
    part = st.recursive(
        scalars
        | st.sampled_from(["#/components/schemas/A0", "#/paths", "#/", "#/components/schemas/A9"]).map(
            lambda to: {"$ref": to}
        ),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["properties", "$ref", "items", "allOf", "x"]), inner, max_size=3)
        ),
    )
    layers = draw(st.sampled_from([1, 3, 60]))
    bomb = {
        f"A{n}": {"allOf": [{"$ref": f"#/components/schemas/A{n + 1}"}] * 9, "properties": {f"p{n}": {}}}
        for n in range(layers)
    }
    return draw(part | st.just({"$ref": "#/components/schemas/A0"})), {
        "components": {"schemas": draw(part) if draw(st.booleans()) else bomb}
    }


@reader("described", descriptions(), 30)
def _(sample, place):
    part, whole = sample
    found = probe_openapi.fields(part, whole)
    assert all(isinstance(name, str) for name in found)
    for paths in (part, {"/v1/predict": part}, {"/v1/predict": {"post": {"requestBody": part, "responses": part}}}):
        probe_openapi.described(SimpleNamespace(path="/v1/predict", method="POST"), {**whole, "paths": paths})


LOGGED = [column.name for column in s09_observability.PREDICTION_LOG]


@reader("log", st.tuples(parquets(LOGGED), near, st.lists(st.tuples(types, scrapes), min_size=1, max_size=2)), 40)
def _(sample, place):
    data, value, scraped = sample
    ran = ran_in(place)
    (ran.out / "log.parquet").write_bytes(data)
    own(Fault, place, s09_observability.read_log, given_a(place), ran, "we ran export-log")
    made = [
        s09_observability.Scrape(
            "we asked",
            Answer(0, 0.0, 1.0, 200, {"content-type": kind}, text.decode("utf-8", "replace"), None),
            [],
            0.0,
            1.0,
        )
        for kind, text in scraped
    ]
    for one in own(Fault, place, s09_observability.parsed_scrapes, given_a(place), made) or []:
        s09_observability.summed(one, "mlekit_requests_total", ["route"])
    exchange = SimpleNamespace(
        answer=Answer(0, 0.0, 1.0, 200, {}, "", None), route="/v1/predict", version="1", said=None
    )
    keys = s09_observability.PRINTED
    line = dict.fromkeys(keys, value) | (
        {k: v for k, v in value.items() if k in keys} if isinstance(value, dict) else {}
    )
    for lines in ([line], [{**line, "route": "/v1/predict", "status": 200, "model_version": "1"}], []):
        wrong = s09_observability._wrong_lines(lines, "a", [exchange])
        assert wrong is None or said(wrong[0], place)


@reader("decisions", near.map(lambda v: spelled({"windows": v}).encode()) | json_bytes, 40)
def _(data, place):
    ran = ran_in(place)
    (ran.out / "decisions.json").write_bytes(data)
    window = SimpleNamespace(name="w1", says="all is well")
    own(Fault, place, s10_monitoring.read, given_a(place), ran, [window], "all windows")


# Files that are read where the judge is

MANIFEST = b"""[project]
name = "x"
[tool.mlekit]
contract = 1
environment = "kit"
notebook = "notebooks/baseline.ipynb"
[tool.mlekit.commands]
train = "python -m x.train"
[tool.mlekit.documents]
claims = "claims.toml"
"""
BAD_TOML = (
    b"",
    b"\xef\xbb\xbf",
    b"tool = 1",
    b"tool.mlekit = 1",
    b"[tool.mlekit]\ncontract = " + b"9" * 5000,
    b"x = " + b"[" * 5000,
    b"[" * 500,
    b"\0",
    b".".join([b"a"] * 60_000) + b" = 1",
    b"[" + b" . ".join([b'"a"'] * 30_000) + b"]",
    b"x = {" + b".".join([b"a"] * 60_000) + b" = 1}",
    b'[tool.mlekit]\ncontract = 1\n"' + b"k" * 5000 + b'" = 1',
    b'[tool.mlekit]\ncontract = 1\n"\\u001b[2J\\n" = 1',
    b"[tool.mlekit]\ncontract = 1.0",
    b'[tool.mlekit]\ncontract = 1\nnotebook = "\\u0000"',
    b'[tool.mlekit]\ncontract = 1\n[tool.mlekit.commands]\n"\\u202e" = "x"',
    b"[[tool]]",
    b'[tool.mlekit]\ncontract = 1\n[tool.mlekit.commands]\ntrain = "\'"',
    b"a = 1979-05-27T99:99:99Z",
    b"a = 0b2",
    b"a = 1__0",
    b"'" * 7,
    b"a = '''",
    b"\xed\xa0\x80 = 1",
    b'a = "\\uD800"',
    b"[tool.mlekit]\ncontract = true\ndocuments = []",
    b"a = inf\nb = nan\n" * 3,
    b"x=" + b"{a=" * 3000,
    b'[tool.mlekit."' + b"\\n" * 500 + b'"]\ncontract = 1',
    b"[tool.mlekit]\n1 = 1\ncontract = 1\ncontract = 2",
)
tomls = st.sampled_from(BAD_TOML) | mutated(st.just(MANIFEST))


@reader("manifest", tomls, 60)
def _(data, place):
    (place / "pyproject.toml").write_bytes(data)
    try:
        read_manifest(place)
    except ManifestProblem as problem:
        said(str(problem).replace(str(place), "PLACE"))  # there it names the learner's folder


FEATURES = b'[[feature]]\nname = "a"\nkind = "asof"\ntable = "t"\nby = ["x"]\ncolumn = "c"\nmax_age = "P2D"\n'
BAD_FEATURES = (
    b"feature = 1",
    b"[[feature]]\nname = 1",
    b'[[feature]]\nkind = "' + b"x" * 5000 + b'"',
    b'[[feature]]\nname = "a\\u001b[2J"\nkind = "asof"',
    b'[[feature]]\nkind = "asof"\n"' + b"\\n" * 500 + b'" = 1',
    b'feature = [1, "x", []]',
    b"[[feature]]\n" * 300,
    b"[feature]\na = 1",
    FEATURES.replace(b"P2D", b"P" + b"9" * 400 + b"D"),
    FEATURES.replace(b"P2D", "P٢D".encode()),
    FEATURES * 2,
    FEATURES.replace(b'["x"]', b"[" * 900),
)


@reader("definitions", tomls | st.sampled_from(BAD_FEATURES) | mutated(st.just(FEATURES)), 60)
def _(data, place):
    own(FeatureProblem, place, parse_features, data.decode("utf-8", "replace"))


LOCK = b"polars==1.30.0 \\\n    --hash=sha256:" + b"a" * 64 + b"\n# x\nmlflow==3.17.2\n"
BAD_LOCKS = (
    b"",
    b"\xff",
    b"\\\n" * 3000,
    b"a==1" + b" --hash=a:b" * 3000 + b"!",
    b"-r /etc/passwd",
    b"a @ http://x",
    b"\\ " * 3000,
    b"#" * 3000,
    b"\x1b[2J",
    b"a==" + b"1." * 3000,
    b" " * 5000 + b"#",
    b"a[" + b"b," * 3000,
    b"a==1;" + b" " * 5000,
)


@reader("lock", st.sampled_from(BAD_LOCKS) | mutated(st.just(LOCK)), 40)
def _(data, place):
    (place / environment.LOCK).write_bytes(data)
    own(UnusableSubmission, place, environment.read_lock, place)


NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "x"}},
    "cells": [
        {"cell_type": "code", "id": "a", "source": ["x = 1\n"], "metadata": {}, "outputs": [], "execution_count": None}
    ],
}
cells_ = st.fixed_dictionaries(
    {}, optional={"cell_type": near | st.just("code"), "source": near, "metadata": near, "outputs": near, "id": near}
)
notebooks = st.fixed_dictionaries(
    {},
    optional={
        "nbformat": st.sampled_from([4, 3, 2, 1, 0, -1, 99, "4", None, 4.5, 10**30]),
        "nbformat_minor": scalars,
        "metadata": near,
        "cells": near | st.lists(cells_, max_size=2),
        "worksheets": near,
    },
).map(lambda v: spelled({**NOTEBOOK, **v}).encode())


@reader("notebook", notebooks | json_bytes | mutated(st.just(json.dumps(NOTEBOOK).encode())), 40)
def _(data, place):
    inner = notebook_runner()
    path = place / "baseline.ipynb"
    path.write_bytes(data)
    assert isinstance(learner._lines(path), list)
    printed, here = io.StringIO(), Path.cwd()
    os.chdir(place)
    try:
        with redirect_stdout(printed):
            code = inner.main(str(path))
    finally:
        os.chdir(here)
    if code:
        text = ran_of(printed.getvalue().encode("utf-8", "surrogatepass")).last_line
        assert "is not a notebook" in said(text, place)


def notebook_runner(found=[]):  # noqa: B006 -- made once
    import logging
    import warnings

    if not found:
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        found.append(module("run_notebook"))
        found[0].Runner.execute = lambda self: None
        logging.disable(logging.NOTSET)
    return found[0]


odd_names = (
    st.binary(min_size=1, max_size=40)
    .map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_"))
    .filter(lambda n: n not in (b".", b".."))
)


@reader(
    "names",
    st.dictionaries(
        odd_names | st.sampled_from([b"\xff\xfe", b"a\nb", b"\x1b[2J", b".git", b"x.pyc"]),
        st.binary(max_size=9),
        max_size=4,
    ),
)
def _(files, place):
    lay(files, place / "work")
    assert own(UnusableSubmission, place, lambda: len(list(files_of(place / "work")))) is not None
    assert re.fullmatch("[0-9a-f]{64}", submission_hash(place / "work"))
    own(NotKept, None, content_of, place / "work")


def ran_of(printed):
    return Ran("x", Finished("exited", 1, 1.0, printable(printed)), Path("out"), Path("refusal.json"))


prints = (
    st.binary(max_size=60)
    | texts.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.sampled_from(
        [
            b"\r" * 50,
            b"E " * 5000,
            b"A." * 5000 + b"Error",
            b"FAILED \x1b[31m::error::x",
            b"\xe2\x80\xa8::error::x",
            b"a\n::error::x\n##[error]y",
            b"x" * 200 + b" ::warning::y",
            b"\x85::error::x",
            b"\x0b\x0c\x1c::error::x",
        ]
    )
)


@reader("output", st.lists(prints, max_size=4).map(b"\n".join), 12)
def _(data, place):
    ran = ran_of(data)
    for text in (
        ran.last_line,
        ran.telling_line,
        ran.sentence(),
        one_line(data.decode("utf-8", "surrogateescape"), 100),
    ):
        if text:
            assert len(said(text, place)) <= 400
    reason = data.decode("utf-8", "surrogateescape")
    result = graded(
        *(check(f"a.b{n}", outcome, value=reason, bar=reason, reason=reason) for n, outcome in enumerate(Outcome))
    )
    whole = {
        "text": grade_report(result, NAMES, Style()),
        "json": result.to_json(),
        "junit": junit(result, NAMES),
        "html": html(result, NAMES),
    }
    for kind, document in whole.items():
        shown = document if kind == "text" else inert(document, kind)
        lines = re.split(r"[\r\n]", shown)
        assert not [line for line in lines if line.lstrip().startswith("::") or "##[" in line]
    assert ET.tostring(ET.fromstring(whole["junit"])) == ET.tostring(ET.fromstring(inert(whole["junit"], "junit")))
    assert json.loads(whole["json"]) == json.loads(inert(whole["json"], "json"))
    summary(result, NAMES)
    assert all(line.startswith("::") for line in annotations(result, NAMES).splitlines())


class Proxy(FaultProxy):
    def __init__(self):
        self._commands = {"train": ["python"]}

    def _run(self, argv, env):
        for word in (*argv, *env.values()):
            assert b"\0" not in os.fsencode(word)
        return Finished("exited", 0, 0.0, "")


call_keys = {"command": near | st.just("train"), "argv": near | st.lists(texts, max_size=2), "env": near, "cwd": near}


@reader(
    "calls",
    json_bytes
    | st.fixed_dictionaries({}, optional=call_keys).map(
        lambda v: spelled({"command": "train", "argv": [], "env": {}, **v}).encode()
    ),
    60,
)
def _(line, place):
    found = Proxy()._answer(line)
    assert isinstance(found["code"], int)
    assert isinstance(found["output"], str)


# What is kept


def a_grade():
    return json.loads(graded(check("a.b", Outcome.FAIL, reason="x"), check("a.c")).to_json())


@st.composite
def altered(draw):
    """A grade with something else in some place of it."""
    value = a_grade()
    for _ in range(draw(st.integers(0, 3))):
        part = value
        while isinstance(part, (dict, list)) and part:
            key = draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part))))
            if not isinstance(part[key], (dict, list)) or draw(st.booleans()):
                part[key] = draw(values | st.sampled_from(["pass", "junior", [[]], {}]))
                break
            part = part[key]
        else:
            break
    return value


@reader("grade", altered().map(lambda v: spelled(v).encode()) | json_bytes, 100)
def _(data, place):
    (place / "grade.json").write_bytes(data)
    try:
        found = read_grade(place / "grade.json")
    except UnreadableGrade as problem:
        said(str(problem).replace(str(place), "PLACE"))  # it names the file that it was given
    else:
        grade_report(found, NAMES, Style())
        ET.fromstring(junit(found, NAMES))
        html(found, NAMES)
        annotations(found, NAMES)
        summary(found, NAMES)
    lines = supervisor.Lines()
    tally = supervisor.Tally(SimpleNamespace(checks=(check("a.b").spec,), provided=(), command_for=lambda spec: ""), "")
    for line in lines.feed(data + b"\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        checks_ = value.get("checks") if isinstance(value, dict) else None
        results = checks_ if isinstance(checks_, list) else [checks_]
        for event in (
            value,
            {"event": "check", "result": value},
            *({"event": "check", "result": r, "submission_seconds": r} for r in results),
        ):
            assert tally.accept(event) in (True, False)


STAGE = all_stages()[0]
FINISHED = asdict(Finished("exited", 0, 1.0, "x"))
finished = st.fixed_dictionaries({}, optional=dict.fromkeys([*FINISHED, "more"], near)).map(
    lambda v: spelled({**FINISHED, **v}).encode()
)
STORED = {
    "format": 1,
    "seed": 1,
    "key": "k",
    "at": "",
    "signature": "",
    "skipped": {"folders": [], "endings": []},
    "grade": None,
}
stored = st.fixed_dictionaries({}, optional=dict.fromkeys(STORED, near)).map(
    lambda v: spelled({**STORED, **v}).encode()
)
steps = st.sampled_from(
    [
        b"kit = 1\nhints = 1",
        b"kit = ''\nstage = 1",
        b"kit = ''\n[hints]\n01 = -1",
        b"kit=''\nsolutions = []",
        b"kit=''\nhints = ['a']",
        b"stage = '01'\nkit = '0'\n[hints]\n01 = 2\n[solutions]\n01 = 'x'",
    ]
)


@reader(
    "kept",
    st.tuples(finished | json_bytes, stored | json_bytes, tomls | steps | mutated(steps), st.binary(max_size=30)),
    60,
)
def _(sample, place):
    run, state, told, remembered = sample
    cache = RunCache(place / "runs")
    (place / "runs" / "key" / "written").mkdir(parents=True)
    (place / "runs" / "key" / "finished.json").write_bytes(run)
    found = cache.load("key", place / "laid")
    if found is not None:
        assert found.sentence()
        assert isinstance(found.ok, bool)
        json.dumps(asdict(found))
    mine = Workspace(place / "work")
    (place / "work" / ".mlekit").mkdir(parents=True)
    mine.state_file(STAGE).write_bytes(state)
    (place / "work" / ".mlekit" / progress.FILE).write_bytes(told)
    mine.load(STAGE)
    at = progress.load(mine)
    assert all(type(number) is int for number in at.hints.values())
    at.to_toml()
    for notice in mine.notices:
        said(notice.replace(str(place), "PLACE"))
    (place / "recalled").write_bytes(remembered)
    recall._read(str(place / "recalled"))


# The runs


@pytest.mark.parametrize("kind", HERE)
def test_a_few_samples(kind):
    hold(kind, HERE[kind][2])


@pytest.mark.study
@pytest.mark.parametrize("kind", HERE)
def test_many_samples(kind):
    """With new seeds each time; what fails names its seed."""
    end = time.monotonic() + float(os.environ.get("MLEKIT_FUZZ_SECONDS", LONG_SECONDS))
    while time.monotonic() < end:
        number = random.SystemRandom().getrandbits(32)
        try:
            hold(kind, 400, number)
        except BaseException as problem:
            problem.add_note(f"seed {number}")
            raise


def test_no_reader_is_missing():
    """Each kind of the reader's process has samples, and the table above names each kind of sample."""
    table = {
        word
        for line in __doc__.splitlines()
        if line.startswith("|")
        for word in line.rstrip("| ").split("|")[-1].replace(",", "").split()
    }
    assert set(HERE) <= table
    assert set(INNER.READ) <= set(HERE)
    assert {name for name in vars(Reader) if not name.startswith("_")} == set(INNER.READ)


@pytest.mark.parametrize("text", [b'{"x": 1', b"9" * 5000, b"[" * 500 + b"]" * 500, b"\xff"])
def test_the_real_process_says_the_same(text, tmp_path):
    sandbox = choose("plain", slots=1)
    try:
        (tmp_path / "a.json").write_bytes(text)
        problems = []
        for made in (Reader(sandbox, tmp_path / "s"), a_reader(tmp_path)):
            with pytest.raises(Unreadable) as problem:
                made.json(tmp_path / "a.json")
            problems.append(said(problem.value, tmp_path))
    finally:
        sandbox.close()
    assert problems[0] == problems[1]


def test_a_view_with_rows_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(INNER, "MOST_SECONDS", 0.3)
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.executescript(SCHEMA)
        connection.executescript(
            "DROP TABLE runs; CREATE VIEW runs AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS run_uuid, "
            "'' AS status, '' AS lifecycle_stage, 1 AS experiment_id, '' AS artifact_uri, x AS start_time FROM c"
        )
    connection.close()
    with within(SECONDS), pytest.raises(Unreadable, match="interrupted"):
        a_reader(tmp_path.parent).store(tmp_path, "tracking", "abc", "")


def test_folders_deeper_than_python_calls_go_are_searched(very_deep, tmp_path):
    folder, name = very_deep
    assert [found for found, _ in a_reader(tmp_path).search(folder, ["ana@x.example"])] == [name]
