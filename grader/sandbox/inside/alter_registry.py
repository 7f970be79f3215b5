"""Change a copied MLflow store behind its back: python alter_registry.py DATABASE WHAT MODEL VERSION [SOURCE RUN_ID].

WHAT is
    champion           the alias points to the version
    no-champion        no alias is left
    deleted-champion   the alias is left and its version deleted
    deleted            the version is deleted
    add                a version more, with a source and a run
    elsewhere          another registered model has a version, of a run
    FAILED, KILLED, RUNNING    the run ended so, or goes on; VERSION and SOURCE do not matter
    break, mend        the database is no database any more, or what it was
    hide, show         the folder of all artifacts has another name, or that which it had
    hold               nobody else can read the database for so many seconds; VERSION says how many
"""

import shutil
import sqlite3
import sys
import time
from pathlib import Path


def main(database, what, model, version, source=None, run=None):
    aside = f"{database}.aside"
    artifacts, hidden = (Path(database).with_name(name) for name in ("artifacts", "artifacts.aside"))
    if what == "break":
        shutil.copyfile(database, aside)
        with open(database, "r+b") as file:
            file.write(b"this is no database" * 1000)
    elif what == "mend":
        with open(aside, "rb") as kept, open(database, "r+b") as file:
            shutil.copyfileobj(kept, file)
            file.truncate()
    elif what == "hold":
        connection = sqlite3.connect(database, timeout=30)
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(float(version))
        connection.close()
    elif what == "hide":
        artifacts.rename(hidden)
    elif what == "show":
        hidden.rename(artifacts)
    else:
        with sqlite3.connect(database, timeout=30) as connection:
            alter(connection, what, model, int(version), source, run)
        connection.close()


def alter(connection, what, model, version, source, run):
    if what in ("no-champion", "champion"):
        connection.execute("DELETE FROM registered_model_aliases WHERE name = ? AND alias = 'champion'", (model,))
    if what == "champion":
        connection.execute(
            "INSERT INTO registered_model_aliases (name, alias, version) VALUES (?, 'champion', ?)", (model, version)
        )
    if what in ("deleted", "deleted-champion"):
        connection.execute(
            "UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE name = ? AND version = ?",
            (model, version),
        )
    if what in ("FAILED", "KILLED", "RUNNING"):
        connection.execute("UPDATE runs SET status = ? WHERE run_uuid = ?", (what, run))
        if what == "RUNNING":
            connection.execute("UPDATE runs SET end_time = NULL WHERE run_uuid = ?", (run,))
    if what == "elsewhere":
        other = f"{model}-of-another-team"
        connection.execute(
            "INSERT INTO registered_models (name, creation_time, last_updated_time) VALUES (?, 0, 0)", (other,)
        )
        connection.execute(
            "INSERT INTO model_versions (name, version, creation_time, last_updated_time, current_stage, source, run_id, status) "
            "SELECT ?, ?, start_time, start_time, 'None', artifact_uri, run_uuid, 'READY' FROM runs WHERE run_uuid = ?",
            (other, version, run),
        )
    if what == "add":
        connection.execute(
            "INSERT INTO model_versions (name, version, creation_time, last_updated_time, current_stage, source, run_id, status) "
            "SELECT name, ?, creation_time, last_updated_time, current_stage, ?, ?, status FROM model_versions WHERE name = ? LIMIT 1",
            (version, source, run, model),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
