"""The contract: manifests and outputs that are refused say why, and the written contract is the data it is made from."""

from __future__ import annotations

import ast
import json
import math
import os
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import get_args

import jsonschema
import pyarrow.parquet as pq
import pytest

import grader.submission
from grader import CONTRACT, home
from grader.contract import (
    BaselineReport,
    ManifestProblem,
    ModelRecord,
    OutputProblem,
    Refusal,
    SuiteResult,
    commands,
    document,
    endpoints,
    parse_output,
    read_manifest,
    tables,
)
from grader.contract.manifest import MAX_BYTES, CommandName, Documents, parse_manifest
from grader.contract.parts import implemented
from grader.contract.sentences import shown
from grader.sandbox import Limits, Mount
from grader.submission import Submission
from grader.world import draw_rows, write_data
from grader.world.build import build

HEAD = "[tool.mlekit]\ncontract = 1\n"


def manifest(tmp_path, text: str | bytes):
    (tmp_path / "pyproject.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("[tool.mlekit\n", ["pyproject.toml", "not valid TOML", "line 1"], id="not TOML"),
        pytest.param("# caf\xe9\n".encode("latin-1") + HEAD.encode(), ["not UTF-8", "save it as UTF-8"], id="latin-1"),
        pytest.param("", ["no table [tool.mlekit]", "contract = 1"], id="empty file"),
        pytest.param("[project]\nname = 'a'\n", ["no table [tool.mlekit]", "contract = 1"], id="no table"),
        pytest.param("tool = 3\n", ["tool is 3", "must be a table"], id="tool is a number"),
        pytest.param("[[tool]]\nmlekit = 1\n", ["tool is [", "must be a table"], id="tool is a list"),
        pytest.param("[tool]\nmlekit = 'yes'\n", ["tool.mlekit is 'yes'", "must be a table"], id="mlekit is text"),
        pytest.param("[[tool.mlekit]]\ncontract = 1\n", ["tool.mlekit is [", "must be a table"], id="mlekit is a list"),
        pytest.param("[tool.mlekit]\n", ["tool.mlekit.contract is missing", "`contract = 1`"], id="contract missing"),
        pytest.param("[tool.mlekit]\ncontract = 2\n", ["tool.mlekit.contract is 2", "allowed: 1"], id="contract 2"),
        pytest.param("[tool.mlekit]\ncontract = '1'\n", ["contract is '1'", "whole number 1"], id="contract text"),
        pytest.param("[tool.mlekit]\ncontract = true\n", ["contract is True", "whole number 1"], id="contract true"),
        pytest.param("[tool.mlekit]\ncontract = 1.0\n", ["contract is 1.0", "whole number 1"], id="contract 1.0"),
        pytest.param("[tool.mlekit]\ncontract = [1]\n", ["contract is [1]", "whole number 1"], id="contract list"),
        pytest.param(HEAD + "environment = 'conda'\n", ["environment is 'conda'", "'kit' or 'locked'"], id="environment"),
        pytest.param(HEAD + "environment = 1\n", ["environment is 1", "'kit' or 'locked'"], id="environment number"),
        pytest.param(HEAD + "enviroment = 'kit'\n", ["enviroment = 'kit'", "not a key", "environment"], id="unknown key"),
        pytest.param(HEAD + "[tool.mlekit.documents]\nclaim = 'a'\n", ["documents.claim = 'a'", "claims"], id="unknown document"),
        pytest.param(HEAD + "documents = ['a']\n", ["documents is ['a']", "a table"], id="documents list"),
        pytest.param(HEAD + "documents = { claims = '../c.toml' }\n", ["documents.claims is '../c.toml'", "inside"], id="document .."),
        pytest.param(HEAD + "notebook = '/etc/passwd'\n", ["notebook is '/etc/passwd'", "inside"], id="absolute path"),
        pytest.param(HEAD + "notebook = '../n.ipynb'\n", ["notebook is '../n.ipynb'", "inside"], id="path .."),
        pytest.param(HEAD + "notebook = 'a/../../n'\n", ["notebook is 'a/../../n'", "inside"], id="path .. within"),
        pytest.param(HEAD + "notebook = ''\n", ["notebook is ''", "inside"], id="path empty"),
        pytest.param(HEAD + "notebook = '.'\n", ["notebook is '.'", "inside"], id="path of the folder itself"),
        pytest.param(HEAD + 'notebook = "a\\u0000b"\n', ["notebook is 'a\\x00b'", "inside"], id="path with NUL"),
        pytest.param(HEAD + "notebook = ['a.ipynb']\n", ["notebook is ['a.ipynb']", "must be text"], id="path list"),
        pytest.param(HEAD + "features = 4\n", ["features is 4", "must be text"], id="features number"),
        pytest.param(HEAD + "commands = 'train'\n", ["commands is 'train'", "a table"], id="commands text"),
        pytest.param(HEAD + "commands = ['train']\n", ["commands is ['train']", "a table"], id="commands list"),
        pytest.param(HEAD + "commands.trian = 'a'\n", ["commands has the key 'trian'", "'train'"], id="unknown command"),
        pytest.param(HEAD + "commands.train = ''\n", ["commands.train is ''", "name a program"], id="command empty"),
        pytest.param(HEAD + "commands.train = '  '\n", ["commands.train is '  '", "name a program"], id="command blank"),
        pytest.param(HEAD + 'commands.train = "a \'b"\n', ["commands.train is", "split into words"], id="unbalanced quote"),
        pytest.param(HEAD + "commands.train = ['a', 'b']\n", ["commands.train is ['a', 'b']", "must be text"], id="command list"),
        pytest.param(HEAD + 'commands.train = "a\\u0000"\n', ["commands.train is 'a\\x00'", "printable"], id="command NUL"),
        pytest.param(HEAD + f"notebook = {'9' * 5000}\n", ["not valid TOML"], id="endless number"),
        pytest.param(HEAD + f"notebook = 0x{'f' * 5000}\n", ["notebook is", "must be text"], id="endless hexadecimal"),
        pytest.param(HEAD + f"notebook = {'[' * 50_000}\n", ["not valid TOML"], id="endless nesting"),
    ],
)  # fmt: skip
def test_a_wrong_manifest_is_refused_with_key_value_and_what_is_allowed(tmp_path, text, said):
    with pytest.raises(ManifestProblem) as problem:
        manifest(tmp_path, text)
    message = str(problem.value)
    assert all(part in message for part in said), message
    assert len(message) < 600
    assert "\n" not in message


def test_a_folder_without_a_manifest_is_told_where_it_goes(tmp_path):
    with pytest.raises(ManifestProblem, match=r"has no pyproject\.toml; .*\[tool\.mlekit\]"):
        read_manifest(tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ManifestProblem, match="is not a folder"):
        read_manifest(tmp_path / "file")


def test_a_large_manifest_is_not_read(tmp_path):
    with pytest.raises(ManifestProblem, match=f"1,048,5.. bytes; at most {MAX_BYTES:,}"):
        manifest(tmp_path, HEAD + "#" * (2**20 - len(HEAD)))


def test_a_linked_manifest_is_not_followed(tmp_path):
    (tmp_path / "real.toml").write_text(HEAD)
    (tmp_path / "pyproject.toml").symlink_to("real.toml")
    with pytest.raises(ManifestProblem, match="is a link; it must be a regular file"):
        read_manifest(tmp_path)


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pyproject.toml")
    with pytest.raises(ManifestProblem, match="is a special file"):
        read_manifest(tmp_path)


def test_a_folder_named_like_the_manifest_is_refused(tmp_path):
    (tmp_path / "pyproject.toml").mkdir()
    with pytest.raises(ManifestProblem, match="is a folder"):
        read_manifest(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_manifest_says_so(tmp_path):
    (tmp_path / "pyproject.toml").write_text(HEAD)
    (tmp_path / "pyproject.toml").chmod(0)
    with pytest.raises(ManifestProblem, match="cannot be read"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("text", "attribute", "value"),
    [
        pytest.param(HEAD, "environment", "kit", id="the least there is"),
        pytest.param(HEAD.replace("\n", "\r\n"), "contract", 1, id="Windows line ends"),
        pytest.param("tool.mlekit.contract = 0b1\n", "contract", 1, id="dotted and binary"),
        pytest.param("tool = { mlekit = { contract = 1 } }\n", "contract", 1, id="inline tables"),
        pytest.param("[tool.other]\na = 1\n" + HEAD, "contract", 1, id="other tools beside it"),
        pytest.param(HEAD + "notebook = 'päper/ein heft.ipynb'\n", "notebook", "päper/ein heft.ipynb", id="odd path"),
        pytest.param(HEAD + "notebook = './a..b.ipynb'\n", "notebook", "./a..b.ipynb", id="dots in a name"),
        pytest.param(HEAD + "[tool.mlekit.commands]\n", "commands", {}, id="no commands"),
    ],
)
def test_a_right_but_odd_manifest_is_accepted(tmp_path, text, attribute, value):
    assert getattr(manifest(tmp_path, text), attribute) == value


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("python -m a.b", ["python", "-m", "a.b"]),
        ("  python   'my file.py' ", ["python", "my file.py"]),
        ('sh -c "a && b"', ["sh", "-c", "a && b"]),
        ("./run; rm -rf $HOME", ["./run;", "rm", "-rf", "$HOME"]),
    ],
)
def test_a_command_is_words_and_never_a_shell_line(line, words):
    found = parse_manifest({"contract": 1, "commands": {"train": line}})
    assert found.argv("train") == words
    assert found.argv("predict") is None


def test_every_name_of_a_command_is_in_manifest_and_contract_alike():
    assert tuple(c.name for c in commands.COMMANDS) == get_args(CommandName)
    assert {name for _, name, _ in commands.DOCUMENTS} == set(Documents.model_fields)


def test_the_starter_declares_every_command():
    found = read_manifest(home.exercises() / "01-baseline" / "starter")
    assert set(found.commands) == {c.name for c in commands.COMMANDS}


def test_all_sixteen_stages_are_in_the_contract():
    stages = {c.stage for c in (commands.NOTEBOOK, *commands.COMMANDS)} | {s for s, _ in commands.LATER}
    assert stages == {f"{n:02d}" for n in range(1, 17)}
    assert {e.stage for e in endpoints.ENDPOINTS} <= stages


def test_commands_stand_in_the_order_of_their_stages():
    stages = [c.stage for c in commands.COMMANDS]
    assert stages == sorted(stages)


def test_find_names_what_is_known():
    assert commands.find("train").usage() == "train --usecase F --data D --config F --out D"
    assert commands.find("notebook") is commands.NOTEBOOK
    with pytest.raises(KeyError, match=r"trian is not a command .* train"):
        commands.find("trian")


REPORT = {
    "auc": 0.7, "auc_low": 0.68, "auc_high": 0.72, "brier": 0.18, "base_rate": 0.22,
    "train_start": "2019-01-01", "train_end": "2019-03-10", "valid_start": "2019-03-11", "valid_end": "2019-03-31",
}  # fmt: skip
RECORD = {"train_start": "2019-01-01", "train_end": "2019-03-31", "rows": 20_000, "seed": 20}
REFUSED = {"code": "unknown_key", "message": "sede is not a key", "key": "sede"}
GOOD = [
    (BaselineReport, REPORT, "report"),
    (ModelRecord, RECORD, "model"),
    (SuiteResult, {"passed": 3, "failed": 0}, "test"),
    (Refusal, REFUSED, "refusal"),
]


@pytest.mark.parametrize(("model", "value", "name"), GOOD, ids=[name for _, _, name in GOOD])
def test_a_right_output_is_accepted_by_model_and_schema(model, value, name):
    schema = json.loads(document.schemas()[f"{name}.json"])
    for given in (value, {**value, "further": [1, {"a": None}]}):
        found = parse_output(model, json.loads(json.dumps(given)))
        assert {k: getattr(found, k) for k in value} == value
        jsonschema.validate(given, schema)


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (BaselineReport, {**REPORT, "auc": 1, "auc_high": 1}),
        (BaselineReport, {**REPORT, "valid_start": "2019-03-31"}),
        (ModelRecord, {**RECORD, "seed": -1}),
        (ModelRecord, {**RECORD, "train_start": "2020-02-29", "train_end": "2020-02-29"}),
        (Refusal, {"code": "x", "message": "y", "key": None}),
        (SuiteResult, {"passed": 0, "failed": 0}),
    ],
)
def test_a_right_but_odd_output_is_accepted(model, value):
    parse_output(model, value)


WRONG = [
    (BaselineReport, {**REPORT, "auc": math.nan}, "report.json: auc is nan; it must be a finite number"),
    (BaselineReport, {**REPORT, "brier": math.inf}, "report.json: brier is inf; it must be "),
    (BaselineReport, {**REPORT, "auc": "0.7"}, "report.json: auc is '0.7'; it must be a number"),
    (BaselineReport, {**REPORT, "auc": True}, "report.json: auc is True; it must be a number"),
    (BaselineReport, {**REPORT, "auc": None}, "report.json: auc is None; it must be a number"),
    (BaselineReport, {**REPORT, "auc": [0.7]}, "report.json: auc is [0.7]; it must be a number"),
    (BaselineReport, {**REPORT, "auc": 10**5000}, "report.json: auc is a number too long to show; it must be a number"),
    (BaselineReport, {**REPORT, "auc": 70}, "report.json: auc is 70; it must be at most 1"),
    (BaselineReport, {**REPORT, "base_rate": -0.1}, "report.json: base_rate is -0.1; it must be at least 0"),
    (
        BaselineReport,
        {**REPORT, "train_end": "31.03.2019"},
        "train_end is '31.03.2019'; it must be a date written YYYY-MM-DD",
    ),
    (BaselineReport, {**REPORT, "train_end": "20190331"}, "train_end is '20190331'; it must be a date"),
    (BaselineReport, {**REPORT, "train_end": "2019-03-31\n"}, "train_end is '2019-03-31\\n'; it must be a date"),
    (BaselineReport, {**REPORT, "train_end": "2019-02-29"}, "train_end is '2019-02-29'; it must be a date"),
    (BaselineReport, {**REPORT, "train_end": 20190331}, "train_end is 20190331; it must be text"),
    (BaselineReport, {**REPORT, "valid_end": "2019-03-01"}, "valid_start must be at most valid_end"),
    (BaselineReport, {}, "report.json: auc is missing; needed are auc, auc_low"),
    (BaselineReport, [REPORT], "report.json is [{"),
    (BaselineReport, None, "report.json is None; it must be an object with keys"),
    (BaselineReport, "x" * 10_000, "it must be an object with keys"),
    (ModelRecord, {**RECORD, "rows": 0}, "model.json: rows is 0; it must be at least 1"),
    (ModelRecord, {**RECORD, "rows": 20.0}, "model.json: rows is 20.0; it must be a whole number"),
    (ModelRecord, {**RECORD, "rows": "many"}, "model.json: rows is 'many'; it must be a whole number"),
    (ModelRecord, {**RECORD, "seed": True}, "model.json: seed is True; it must be a whole number"),
    (ModelRecord, {**RECORD, "seed": None}, "model.json: seed is None; it must be a whole number"),
    (ModelRecord, {**RECORD, "train_start": "2019-04-01"}, "train_start must be at most train_end"),
    (SuiteResult, {"passed": True, "failed": False}, "passed is True; it must be a whole number"),
    (SuiteResult, {"passed": 3, "failed": -1}, "failed is -1; it must be at least 0"),
    (SuiteResult, {"passed": 3}, "failed is missing; needed are passed, failed"),
    (Refusal, {"code": "x"}, "message is missing; needed are code, message"),
    (Refusal, {"code": "Unknown key!", "message": "y"}, "code is 'Unknown key!'; it must be lower-case letters"),
    (Refusal, {"code": "x", "message": " "}, "message is ' '; it must say what is wrong"),
    (Refusal, {"code": "x", "message": "y", "key": ["seed"]}, "key is ['seed']; it must be text"),
]


@pytest.mark.parametrize(("model", "value", "said"), WRONG)
def test_a_wrong_output_is_refused_with_key_value_and_what_is_allowed(model, value, said):
    with pytest.raises(OutputProblem) as problem:
        parse_output(model, value)
    message = str(problem.value)
    assert said in message
    assert len(message) < 300
    assert "\n" not in message


def test_a_message_calls_the_file_as_the_caller_does():
    with pytest.raises(OutputProblem, match=r"^tests\.json: passed is missing"):
        parse_output(SuiteResult, {}, "tests.json")


def test_deeply_nested_values_are_shown_short():
    value: list = []
    for _ in range(100_000):
        value = [value]
    assert len(shown(value)) < 100


@pytest.mark.parametrize("name", sorted(document.SCHEMAS))
def test_schemas_are_valid(name):
    jsonschema.Draft202012Validator.check_schema(json.loads(document.schemas()[f"{name}.json"]))


@pytest.mark.parametrize("folder", ["starter", "solution"])
def test_the_manifest_schema_accepts_the_manifests_of_the_exercises(folder):
    text = (home.exercises() / "01-baseline" / folder / "pyproject.toml").read_text(encoding="utf-8")
    jsonschema.validate(tomllib.loads(text)["tool"]["mlekit"], json.loads(document.schemas()["manifest.json"]))


def test_the_written_contract_is_the_one_the_data_gives(tmp_path):
    written = document.write(tmp_path)
    kept = home.exercises()
    stale = [
        str(path.relative_to(tmp_path)) for path in written
        if not (kept / path.relative_to(tmp_path)).is_file()
        or (kept / path.relative_to(tmp_path)).read_bytes() != path.read_bytes()
    ]  # fmt: skip
    assert not stale, "run `python -m grader.contract.document`"
    assert {p.name for p in (kept / "schemas").iterdir()} == {p.name for p in (tmp_path / "schemas").iterdir()}


def test_the_document_names_every_command_endpoint_variable_and_limit():
    text = document.contract()
    wanted = [f"\n{c.usage()}\n" for c in commands.COMMANDS]
    wanted += [f"`{e.method} {e.path}`" for e in endpoints.ENDPOINTS] + [f"`{v.name}`" for v in commands.ENVIRONMENT]
    wanted += [f"`{c.name}`" for t in tables.DATA for c in t.columns]
    wanted += [f"{Limits().seconds:.0f} s", f"{Limits().memory_mb:,} MB", f"{Limits().disk_mb} MB"]
    assert [w for w in wanted if w not in text] == []


def test_only_later_stages_are_marked_as_planned():
    for command in commands.COMMANDS:
        settled = implemented(command.stage)
        section = document.contract().split(f"### {command.name}\n" if settled else f": {command.name}\n")[1]
        assert section[:200].count("*Planned: may still change.*") == (not settled), command.name


def test_every_limit_of_the_sandbox_is_in_the_document():
    assert {f.name for f in fields(Limits)} == {"seconds", "memory_mb", "processes", "disk_mb", "output_kb"}
    assert document.MAX_COPIED_FILES == grader.submission.MAX_FILES
    assert document.MAX_COPIED_MB == grader.submission.MAX_TOTAL_MB
    assert document.LEFT_OUT_FOLDERS == grader.submission.SKIPPED_FOLDERS
    assert document.LEFT_OUT_ENDINGS == grader.submission.SKIPPED_ENDINGS


def test_the_environment_of_a_command_is_the_one_in_the_contract(tmp_path):
    submission = Submission(tmp_path, parse_manifest({"contract": CONTRACT}), None)
    given = submission.environment(Mount(tmp_path, "state", writable=True), Mount(tmp_path, "tracking", writable=True))
    assert set(given) == {v.name for v in commands.ENVIRONMENT if v.stage == "01" and not v.only}
    assert given["MLEKIT_CONTRACT"] == str(CONTRACT)


@pytest.fixture(scope="module")
def handed(tmp_path_factory):
    """A data folder of one month, careless rows and plain ones, as a grading lays them down."""
    world, folder = build(5), tmp_path_factory.mktemp("handed")
    write_data(world, folder / "data", world.months[:1])
    for name, careless in (("rows", False), ("careless", True)):
        draw_rows(world, world.months[1:2], 50, name, careless=careless).write(folder / f"{name}.parquet")
    return folder


def columns_of(path: Path) -> list[tuple[str, str, bool]]:
    """Name, type and whether values are missing, in the words of the contract."""
    table = pq.read_table(path)
    names = {"large_string": "string", "double": "float64", "timestamp[us, tz=UTC]": "timestamp[us, UTC]"}
    return [
        (f.name, names.get(str(f.type), str(f.type)), table.column(f.name).null_count > 0) for f in table.schema
    ]  # fmt: skip


@pytest.mark.parametrize("table", tables.DATA, ids=lambda t: t.name)
def test_data_has_the_columns_of_the_contract(handed, table):
    (path,) = (handed / "data").glob(table.files.replace("YYYY-MM", "*"))
    found = columns_of(path)
    assert [(name, kind) for name, kind, _ in found] == [(c.name, c.type) for c in table.columns]
    undeclared = [
        name for (name, _, missing), c in zip(found, table.columns, strict=True) if missing and not c.nullable
    ]
    assert undeclared == []
    assert pq.read_table(path).to_pandas().set_index(list(table.key)).index.is_unique


def test_rows_to_score_have_the_columns_of_the_contract(handed):
    plain = [(c.name, c.type) for c in tables.ROWS.columns]
    careless = [*plain, *((c.name, c.type) for c in tables.AFTER_DEPARTURE)]
    assert [(n, t) for n, t, _ in columns_of(handed / "rows.parquet")] == plain
    assert [(n, t) for n, t, _ in columns_of(handed / "careless.parquet")] == careless


def test_the_data_manifest_has_the_keys_of_the_contract(handed):
    found = json.loads((handed / "data" / "manifest.json").read_text())
    assert list(found) == ["usecase", "dataset_hash", "months", "files"]
    assert set(found["files"][0]) == {"path", "rows", "sha256"}


def test_the_use_case_names_tables_and_columns_of_the_contract():
    usecase = tomllib.loads((home.datasets() / "usecase.toml").read_text(encoding="utf-8"))
    known = {t.name: {c.name for c in t.columns} for t in tables.DATA}
    assert set(usecase["tables"]) == set(known)
    for table in tables.DATA:
        said = usecase["tables"][table.name]
        assert tuple(said["key"]) == table.key
        assert {said[k] for k in ("time", "known_at") if k in said} <= known[table.name]
    assert list(usecase["request"]) == [c.name for c in tables.SCHEDULE]
    nullable = {c.name for c in tables.SCHEDULE if c.nullable}
    assert {name for name, kind in usecase["request"].items() if kind.endswith("?")} == nullable
    assert {usecase["label"]["column"], usecase["label"]["known_at"], usecase["entity"]} <= known["flights"]


def test_the_contract_imports_nothing_heavy():
    heavy = {"pandas", "numpy", "pyarrow", "pytest", "typer", "rich", "jinja2", "sklearn"}
    program = f"import sys, grader.contract; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == []
