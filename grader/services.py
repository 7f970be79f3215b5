"""Servers of the judge that a submission talks to: the source of months, and Prefect's. They run in sandboxes of their own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from grader.sandbox import Limits, Mount, Sandbox
from grader.sandbox.base import Job, SandboxFault, Service
from grader.sandbox.reader import INSIDE, TOOL_ENVIRONMENT
from grader.stores import kept

HOST = "127.0.0.1"
SERVER_LIMITS = Limits(seconds=7200, memory_mb=2048, disk_mb=512)
START_SECONDS, POLL_SECONDS = 120, 0.05
MIGRATION_SECONDS = 300
MAX_ANSWER = 8 << 20  # bytes of an answer of Prefect's server, which repeats what the submission told it
PREFECT_QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "true"}
PREFECT_DATABASE = "prefect.db"


@dataclass(frozen=True)
class Call:
    """One call of the source: which file was asked for, when (seconds since the epoch), and how it was answered."""

    path: str
    at: float
    answer: str


class Source:
    """Hands out the files of a folder, and fails as planned: `plan` has the answers to the first calls of a path.

    Answers are `whole`, a status, `hang`, `drip`, `cut`, `short`, `garbled`, or `meet`, which waits some seconds for a second call;
    `always` repeats the one before. Raises SandboxFault.
    """

    def __init__(self, sandbox: Sandbox, folder: Path, scratch: Path, plan: Mapping[str, Sequence[str]]) -> None:
        self._log = scratch / "calls.jsonl"
        (scratch / "plan.json").write_text(json.dumps({path: list(answers) for path, answers in plan.items()}))
        kit, files, own = Mount(INSIDE, "kit"), Mount(folder, "files"), Mount(scratch, "own", writable=True)
        job = Job(
            ["python", kit / "source_server.py", files, own / "plan.json", own / "calls.jsonl"],
            [kit, files, own],
            cwd=own,
            env={**TOOL_ENVIRONMENT, "HOME": "/tmp"},
            limits=SERVER_LIMITS,
        )
        self._service = sandbox.start(job)
        _wait(self._service, lambda: bool(self._lines()), "the source of months")
        self.url = f"http://{HOST}:{self._lines()[0]['port']}"

    def calls(self) -> list[Call]:
        """What was asked for so far. The log is ours: nothing of a submission is in it but paths."""
        return [Call(line["path"], line["at"], line["answer"]) for line in self._lines()[1:]]

    def stop(self) -> None:
        self._service.stop(0)

    def _lines(self) -> list[dict[str, Any]]:
        try:
            text = self._log.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


class Prefect:
    """Prefect's server, warm from the start: its database is a copy of one that has been migrated before. Raises SandboxFault."""

    def __init__(self, sandbox: Sandbox, scratch: Path) -> None:
        shutil.copyfile(_migrated(scratch), scratch / PREFECT_DATABASE)
        home, port = Mount(scratch, "prefect", writable=True), _free_port()
        job = Job(
            [
                "python", "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--host", HOST, "--port", str(port),
                "--log-level", "warning",
            ],
            [home],
            cwd=home,
            env={**TOOL_ENVIRONMENT, **PREFECT_QUIET, "HOME": home, "PREFECT_HOME": home, "PREFECT_SERVER_UI_ENABLED": "false"},
            limits=SERVER_LIMITS,
        )  # fmt: skip
        self._service = sandbox.start(job)
        self.url = f"http://{HOST}:{port}/api"
        _wait(self._service, self.answers, "Prefect's server")

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, ValueError):
            return False

    def flow_run(self, id: str) -> dict[str, Any] | None:
        """A flow run as the server knows it, with its `flow_name`; None if there is none of that id."""
        found = self._filter("flow_runs", {"flow_runs": {"id": {"any_": [id]}}})
        if not found:
            return None
        flows = self._filter("flows", {"flows": {"id": {"any_": [found[0].get("flow_id")]}}})
        return {**found[0], "flow_name": flows[0].get("name") if flows else None}

    def task_runs(self, flow_run: str) -> list[dict[str, Any]]:
        """The task runs of a flow run, as far as they have been recorded: that happens some seconds after."""
        return self._filter("task_runs", {"flow_runs": {"id": {"any_": [flow_run]}}, "limit": 200})

    def _filter(self, what: str, question: dict[str, Any]) -> list[dict[str, Any]]:
        body = json.dumps(question).encode()
        request = urllib.request.Request(
            f"{self.url}/{what}/filter", body, {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                found = json.loads(answer.read(MAX_ANSWER))
        except urllib.error.HTTPError:  # such as an id that is none
            return []
        except (OSError, ValueError) as problem:
            raise SandboxFault(f"Prefect's server did not answer: {problem}") from None
        return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []

    def stop(self) -> None:
        self._service.stop(0)


def _wait(service: Service, ready: Callable[[], bool], what: str) -> None:
    """Wait until a server is ready. Raises SandboxFault."""
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if (ended := service.poll()) is not None:
            raise SandboxFault(f"{what} did not start: {ended.output[-300:]}")
        if time.monotonic() > deadline:
            service.stop(0)
            raise SandboxFault(f"{what} did not start within {START_SECONDS} s")
        time.sleep(POLL_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _migrated(scratch: Path) -> Path:
    """An empty database of this version of Prefect; migrations take it ten seconds."""
    return kept(f"prefect-{metadata.version('prefect')}.db", PREFECT_DATABASE, _migrate, scratch / "fresh")


def _migrate(folder: Path) -> None:
    """Raises SandboxFault."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    try:
        made = subprocess.run(
            [sys.executable, "-P", "-m", "prefect", "server", "database", "upgrade", "-y"],
            env={**others, **PREFECT_QUIET, "PREFECT_HOME": str(folder)}, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=MIGRATION_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SandboxFault(f"Prefect did not make its database within {MIGRATION_SECONDS} s") from None
    if made.returncode or not (folder / PREFECT_DATABASE).is_file():
        raise SandboxFault(f"Prefect could not make its database: {made.stderr.strip()[-300:]}")
