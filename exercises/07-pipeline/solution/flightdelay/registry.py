"""The registry: versions of one model, the champion among them, and a record of every decision about it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from flightdelay.config import refuse
from flightdelay.files import write_whole
from flightdelay.tracking import MODEL

CHAMPION = "champion"
STATE = Path(os.environ.get("MLEKIT_STATE", "state"))


class Registry:
    """The versions of a registered model. Whoever changes the champion holds the lock from the first look to the last write."""

    def __init__(self, model: str, state: Path = STATE) -> None:
        self.model, self.state = model, state
        self.client = MlflowClient()
        self.audit = Audit(state / "audit.jsonl")
        self.begun = state / "begun.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One decision at a time: two that began with the same champion could both be right, and one would be lost.

        The lock is one of the system, which goes when its process does; a file that just lies there would stay after a crash.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        with FileLock(self.state / "registry.lock"):
            self._finish_what_was_begun()
            yield

    def register(self, run_id: str) -> str:
        """The version of a run's model: a new one, or the one it has."""
        try:
            run = self.client.get_run(run_id)
        except MlflowException:
            refuse("unknown_run", f"there is no run {run_id} in the tracking store")
        if run.info.status != "FINISHED":
            refuse("unfinished_run", f"run {run_id} is {run.info.status}; only finished runs are registered")
        try:
            self.client.create_registered_model(self.model)
        except MlflowException as problem:
            if problem.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        for version in self.client.search_model_versions(f"name = '{self.model}'"):
            if version.run_id == run_id:
                return str(version.version)
        source, logged = f"{run.info.artifact_uri}/{MODEL}", None
        for model in self.client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'"):
            source, logged = model.model_uri, model.model_id  # a server wants to be told both
        return str(self.client.create_model_version(self.model, source, run_id, model_id=logged).version)

    def uri(self, version: str) -> str:
        return f"models:/{self.model}/{version}"

    def has(self, version: str | None) -> bool:
        try:
            found = self.client.get_model_version(self.model, version) if version else None
            return found is not None and str(found.version) == version  # MLflow takes 01 for 1
        except MlflowException:
            return False

    def champion(self) -> str | None:
        """The version that is champion; None also where the alias points to a version that was deleted."""
        try:
            version = str(self.client.get_model_version_by_alias(self.model, CHAMPION).version)
        except MlflowException:
            return None
        return version if self.has(version) else None

    def crown(self, version: str, action: str, before: str | None, reasons: list[dict[str, Any]]) -> None:
        """Move the alias and note it: two places, and a crash may come between them.

        So the line is first put where whoever comes next finds it.
        """
        record = self.audit.record(action, before, version, "promoted", reasons)
        write_whole(self.begun, json.dumps(record).encode())
        self.client.set_registered_model_alias(self.model, CHAMPION, version)
        self.audit.write(record)
        self.begun.unlink()

    def _finish_what_was_begun(self) -> None:
        """If the alias was moved and the process died before it was noted, note it. If it was not moved, nothing was decided."""
        if not self.begun.exists():
            return
        record = json.loads(self.begun.read_bytes())
        if self.champion() == record["to"] and record not in self.audit.records():
            self.audit.write(record)
        self.begun.unlink()

    def decision_about(self, version: str) -> dict[str, Any] | None:
        """The last decision of the gate about a version."""
        found = [r for r in self.audit.records() if r["action"] == "promote" and r["to"] == version]
        return found[-1] if found else None

    def previous(self) -> str | None:
        """The champion before this one, by what was decided: each rollback takes back the last promotion that is not taken back yet."""
        promotions: list[dict[str, Any]] = []
        for record in self.audit.records():
            if record["action"] == "rollback":
                while promotions and promotions.pop()["from"] != record["to"]:
                    pass  # the version that it came from was deleted: the promotion to that one is taken back as well
            elif record["decision"] == "promoted":
                promotions.append(record)
        return next((p["from"] for p in reversed(promotions) if self.has(p["from"])), None)


class Audit:
    """One JSON line a decision, only ever added to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(
        self, action: str, before: str | None, after: str | None, decision: str, reasons: list[dict[str, Any]]
    ) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return {"at": now, "action": action, "from": before, "to": after, "decision": decision, "reasons": reasons}

    def add(
        self, action: str, before: str | None, after: str | None, decision: str, reasons: list[dict[str, Any]]
    ) -> None:
        self.write(self.record(action, before, after, decision, reasons))

    def write(self, record: dict[str, Any]) -> None:
        """Write a line and see it on the disk. A line that a crash left half written stays, and does not spoil this one."""
        with self.path.open("ab+") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            torn = file.read() not in (b"", b"\n")
            file.write((b"\n" if torn else b"") + json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> Iterator[dict[str, Any]]:
        """The decisions in their order; what is no whole line is left out."""
        if not self.path.exists():
            return
        for line in self.path.read_bytes().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue
