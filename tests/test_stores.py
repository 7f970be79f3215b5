"""The MLflow store of a command: laid down, left empty, gone on from, and read without being believed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from grader import stores
from grader.reading import walk
from grader.sandbox import choose, detect
from grader.sandbox.reader import Reader, Unreadable
from grader.stores import Stores


@pytest.fixture
def sandbox():
    made = choose(detect().rung)
    yield made
    made.close()


@pytest.fixture
def laid(sandbox, tmp_path):
    """An empty store as a command finds it."""
    made = Stores(sandbox, tmp_path / "scratch")
    made.scratch.mkdir()
    made.lay_down(tmp_path / stores.NAME)
    return made, tmp_path / stores.NAME


@pytest.fixture
def reader(sandbox, tmp_path):
    return Reader(sandbox, tmp_path / "answers")


def write(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / stores.DATABASE) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


A_RUN = (
    "INSERT INTO runs (run_uuid, name, status, lifecycle_stage, artifact_uri, experiment_id, start_time, user_id) "
    "SELECT 'abc', 'a run', 'FINISHED', 'active', artifact_location || '/abc/artifacts', experiment_id, 1, 'me' FROM experiments "
    f"WHERE name = '{stores.EXPERIMENT}'"
)


def test_folders_deeper_than_python_calls_go_are_copied(very_deep, tmp_path):
    earlier, _ = very_deep
    stores.copy_files(earlier, tmp_path / "copy")
    assert [names for _, _, names in walk(tmp_path / "copy") if names] == [["file"]]
    subprocess.run(["rm", "-rf", tmp_path / "copy"], check=True)


def test_a_file_with_a_hole_that_is_larger_than_the_disk_is_no_fault_of_ours(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "earlier").mkdir()
    with (tmp_path / "earlier" / "hole").open("wb") as file:
        file.truncate(2 << 30)
    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_blocks=1 << 17, f_frsize=4096))
    with pytest.raises(stores.TooMuch, match=r"2,048 MB .*512 MB"):
        stores.copy_files(tmp_path / "earlier", tmp_path / "copy")
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_blocks=1 << 30, f_frsize=4096))
    with pytest.raises(OSError, match="No space left"):
        stores.copy_files(tmp_path / "earlier", tmp_path / "copy")


def test_the_number_of_a_run_in_a_view_is_read_as_text(laid, reader):
    _, folder = laid
    write(
        folder, A_RUN, "ALTER TABLE runs RENAME TO kept",
        "CREATE VIEW runs AS SELECT 123 AS run_uuid, status, lifecycle_stage, artifact_uri, experiment_id, start_time FROM kept",
    )  # fmt: skip
    answer = reader.store(folder, stores.NAME, "123", "")
    assert list(answer["runs"]) == ["123"]
    assert "run" in answer


def test_a_store_has_the_experiment_and_its_artifacts_where_a_job_sees_them(laid, sandbox):
    _, folder = laid
    (row,) = sqlite3.connect(folder / stores.DATABASE).execute(
        "SELECT artifact_location FROM experiments WHERE name = ?", (stores.EXPERIMENT,)
    )
    seen = "/mlekit/tracking" if sandbox.name == "bubblewrap" else str(folder)
    assert row[0].startswith(f"{seen}/artifacts/")
    assert str(Path.cwd()) not in row[0]


def test_a_store_is_untouched_until_something_is_logged(laid):
    made, folder = laid
    assert made.untouched(folder)
    write(folder, A_RUN)
    assert not made.untouched(folder)


@pytest.mark.parametrize("what", ["an artifact", "a further file", "a link"])
def test_a_store_with_files_in_it_is_not_untouched(laid, what):
    made, folder = laid
    if what == "an artifact":
        (folder / stores.ARTIFACTS / "x").write_text("x")
    elif what == "a further file":
        (folder / "x").write_text("x")
    else:
        database = folder / stores.DATABASE
        database.rename(folder.parent / "elsewhere.db")
        database.symlink_to(folder.parent / "elsewhere.db")
    assert not made.untouched(folder)


def test_a_copy_of_a_store_holds_plain_files_only(laid, tmp_path):
    made, folder = laid
    if made.sandbox.name == "plain":
        pytest.skip("there the store itself is gone on from")
    (folder / stores.ARTIFACTS / "link").symlink_to("/etc/passwd")
    made.go_on(folder, tmp_path / "copy")
    assert (tmp_path / "copy" / stores.DATABASE).is_file()
    assert not list((tmp_path / "copy" / stores.ARTIFACTS).iterdir())


def test_what_a_run_logged_is_read_as_mlflow_says_it(laid, reader):
    """The reader asks the database itself: this holds the two together when MLflow changes."""
    made, folder = laid
    if made.sandbox.name != "bubblewrap":
        pytest.skip("paths in the store are those of a job")
    write(
        folder, A_RUN,
        "INSERT INTO params (key, value, run_uuid) VALUES ('seed', '20', 'abc')",
        "INSERT INTO tags (key, value, run_uuid) VALUES ('t', 'x', 'abc')",
        "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES ('m', 0.5, 1, 0, 0, 'abc')",
        "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) VALUES ('n', 0, 1, 0, 1, 'abc')",
    )  # fmt: skip
    from mlflow import MlflowClient

    theirs = MlflowClient(f"sqlite:///{folder / stores.DATABASE}").get_run("abc")
    ours = reader.store(folder, stores.NAME, "abc", "runs:/abc/model")
    assert ours["runs"]["abc"] == {"status": theirs.info.status, "deleted": False, "experiment": stores.EXPERIMENT}
    assert ours["run"]["params"] == theirs.data.params
    assert ours["run"]["tags"] == theirs.data.tags
    assert ours["run"]["metrics"] == {"m": theirs.data.metrics["m"], "n": None}
    assert ours["run"]["model"] == {"problem": "was not logged"}


def test_a_model_is_described_without_being_loaded(laid, reader, sandbox):
    _, folder = laid
    write(folder, A_RUN)
    (location,) = sqlite3.connect(folder / stores.DATABASE).execute("SELECT artifact_uri FROM runs").fetchone()
    inner = location.split("/artifacts/", 1)[1]
    model = folder / stores.ARTIFACTS / inner / "model"
    model.mkdir(parents=True)
    (model / "input_example.json").write_text("{}")
    signature = {
        "inputs": json.dumps([{"type": "string", "name": "carrier"}]),
        "outputs": json.dumps([{"name": "probability"}]),
    }
    example = {"artifact_path": "input_example.json"}
    said = {"flavors": {"python_function": {}}, "signature": signature, "saved_input_example_info": example}
    (model / "MLmodel").write_text(json.dumps(said))
    (model / "python_model.pkl").write_bytes(b"\x80\x04cos\nabort\n(tR.")
    found = reader.store(folder, stores.NAME, "abc", "runs:/abc/model")["run"]["model"]
    assert found["pyfunc"]
    assert (found["inputs"], found["outputs"], found["example"]) == (["carrier"], ["probability"], True)
    assert found["path"] == f"{stores.ARTIFACTS}/{inner}/model"


def test_artifacts_outside_the_store_are_not_read(laid, reader):
    _, folder = laid
    write(folder, A_RUN.replace("artifact_location || '/abc/artifacts'", "'/etc'"))
    run = reader.store(folder, stores.NAME, "abc", "runs:/abc/passwd")["run"]
    assert "outside" in run["model"]["problem"]
    assert "outside" in run["validation"].problem


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "there is no mlflow.db"),
        (lambda path: path.write_bytes(b""), "no such table"),
        (lambda path: path.write_bytes(b"not a database" * 100), "not a database"),
        (lambda path: path.write_bytes(path.read_bytes()[:40_000]), "malformed"),
        (lambda path: write(path.parent, "DROP TABLE runs"), "no such table: runs"),
        (lambda path: write(path.parent, "ALTER TABLE runs RENAME COLUMN status TO state"), "no such column: status"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), "there is no mlflow.db"),
    ],
    ids=["missing", "empty", "no database", "torn", "no table", "another version", "a link"],
)
def test_a_spoiled_store_is_said_to_be_so(laid, reader, spoil, says):
    _, folder = laid
    spoil(folder / stores.DATABASE)
    with pytest.raises(Unreadable, match=says):
        reader.store(folder, stores.NAME, "abc", "runs:/abc/model")


def test_a_store_in_another_journal_mode_is_read(laid, reader):
    _, folder = laid
    connection = sqlite3.connect(folder / stores.DATABASE)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(A_RUN)
    connection.commit()
    connection.close()
    assert list(reader.store(folder, stores.NAME, "", "")["runs"]) == ["abc"]


def test_texts_are_found_in_packed_models(reader, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    with zipfile.ZipFile(folder / "model.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", json.dumps({"example": ["ana@example.org"] * 50}))
    assert reader.search(folder, ["ana@example.org", "ben@example.org"]) == [("model.skops", "ana@example.org")]


def test_the_environment_names_the_store_of_the_job(laid, tmp_path):
    from grader.sandbox import Mount

    given = stores.environment(Mount(tmp_path, stores.NAME, writable=True))
    uri = given["MLFLOW_TRACKING_URI"]
    assert uri.before + uri.inside() == "sqlite:////mlekit/tracking/mlflow.db"
    assert given["MLFLOW_EXPERIMENT_NAME"] == stores.EXPERIMENT
