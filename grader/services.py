"""Programs of the judge that talk with a submission's, each in a sandbox of its own: servers, and a client that asks its service."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from grader.printable import one_line
from grader.sandbox import Limits, Mount, Sandbox
from grader.sandbox.base import Job, SandboxFault, Service
from grader.sandbox.reader import INSIDE, TOOL_ENVIRONMENT
from grader.stores import TooMuch, kept

HOST = "127.0.0.1"
SERVER_LIMITS = Limits(seconds=7200, memory_mb=2048, disk_mb=512)
START_SECONDS, POLL_SECONDS = 120, 0.05
MIGRATION_SECONDS = 300
SUBFLOWS_DEEP, MOST_RUNS = 4, 200  # of what Prefect's server is asked about
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
        home, port = Mount(scratch, "prefect", writable=True), free_port()
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
        """The task runs of a flow run and of the flows it called, as far as they have been recorded: that happens some seconds after."""
        runs = called = [flow_run]
        for _ in range(SUBFLOWS_DEEP):
            wanted = {"flow_runs": {"parent_flow_run_id": {"any_": called}}, "limit": MOST_RUNS}
            if not (called := [str(run.get("id")) for run in self._filter("flow_runs", wanted)]):
                break
            runs = [*runs, *called]
        return self._filter("task_runs", {"flow_runs": {"id": {"any_": runs}}, "limit": MOST_RUNS})

    def _filter(self, what: str, question: dict[str, Any]) -> list[dict[str, Any]]:
        body = json.dumps(question).encode()
        request = urllib.request.Request(
            f"{self.url}/{what}/filter", body, {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read(MAX_ANSWER + 1)
            if len(text) > MAX_ANSWER:
                raise TooMuch(f"what Prefect's server was told of {what} has more than {MAX_ANSWER >> 20} MB")
            found = json.loads(text)
        except urllib.error.HTTPError:  # such as an id that is none
            return []
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as problem:
            raise SandboxFault(f"Prefect's server did not answer: {one_line(str(problem), 300)}") from None
        return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []

    def stop(self) -> None:
        self._service.stop(0)


@dataclass(frozen=True)
class Answer:
    """What a request got, and when it was sent and answered, in seconds of the system's monotonic clock.

    `request` is its place in what was asked; `error` says why there is no whole answer.
    """

    request: int
    sent: float
    done: float
    status: int | None
    headers: Mapping[str, str]
    body: str
    error: str | None


@dataclass(frozen=True)
class Request:
    """A request; `body` is sent as it is."""

    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Asking:
    """Requests that are being made."""

    def __init__(self, client: Client, number: int) -> None:
        self._client, self._number = client, number
        self._read, self._found = 0, list[Answer]()

    def so_far(self) -> list[Answer]:
        """The answers that are there, in the order in which they came."""
        try:
            with self._client.file(f"{self._number}.jsonl").open("rb") as file:
                file.seek(self._read)
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        for line in lines:
            if line.endswith(b"\n"):
                self._read += len(line)
                self._found.append(_answer(line))
        return list(self._found)

    def stop(self) -> None:
        """Begin no more requests."""
        self._client.file(f"{self._number}.stop").touch()

    def over(self) -> bool:
        """Whether all answers are there. Raises SandboxFault."""
        self._client.see_that_it_runs()
        return self._client.file(f"{self._number}.done").exists()

    def answers(self) -> list[Answer]:
        """All answers, when all are there. Raises SandboxFault."""
        while not self.over():
            time.sleep(POLL_SECONDS / 5)
        return self.so_far()


class Client:
    """Asks a service as planned, one plan after the other.

    What is answered is read in a sandbox, never unpacked or followed, and bounded in size and time.
    """

    def __init__(self, sandbox: Sandbox, scratch: Path) -> None:
        self._folder, self._numbers = scratch, itertools.count()
        kit, own = Mount(INSIDE, "kit"), Mount(scratch, "own", writable=True)
        job = Job(
            ["python", kit / "http_client.py", own], [kit, own], cwd=own, env={**TOOL_ENVIRONMENT, "HOME": "/tmp"},
            limits=SERVER_LIMITS,
        )  # fmt: skip
        self._service = sandbox.start(job)

    def ask(
        self,
        url: str,
        requests: Sequence[Request],
        count: int | None = None,
        seconds: float = 600.0,
        concurrency: int = 1,
        pause: float = 0.0,
        deadline: float = 30.0,
        longest: int = 1 << 20,
        keep: int = 1 << 20,
        until: int | None = None,
    ) -> Asking:
        """Begin to make requests in turn, each once unless `count` says how many, and return at once.

        None is begun after `seconds`, or after an answer with the status `until`; `pause` are seconds between two. An answer may take
        `deadline` seconds and have `longest` bytes, of which `keep` are kept.
        """
        number = next(self._numbers)
        plan = {
            "url": url, "count": len(requests) if count is None else count, "seconds": seconds, "concurrency": concurrency,
            "pause": pause, "deadline": deadline, "longest": longest, "keep": keep, "until": until,
            "requests": [
                {
                    "method": request.method, "path": request.path, "headers": dict(request.headers),
                    "body64": None if request.body is None else base64.b64encode(request.body).decode(),
                }
                for request in requests
            ],
        }  # fmt: skip
        aside = self.file(f"{number}.part")
        aside.write_text(json.dumps(plan))
        aside.rename(self.file(f"{number}.json"))
        return Asking(self, number)

    def file(self, name: str) -> Path:
        return self._folder / name

    def see_that_it_runs(self) -> None:
        """Raises SandboxFault."""
        if (ended := self._service.poll()) is not None:
            raise SandboxFault(f"the client that asks the service ended: {ended.output[-300:]}")


class Control:
    """The calibration service: what it takes on this machine, at this minute, is what others are measured by. Raises SandboxFault."""

    def __init__(self, sandbox: Sandbox, scratch: Path) -> None:
        port, kit, own = free_port(), Mount(INSIDE, "kit"), Mount(scratch, "own", writable=True)
        job = Job(
            ["python", kit / "control_server.py", str(port)], [kit, own], cwd=own, env={**TOOL_ENVIRONMENT, "HOME": "/tmp"},
            limits=SERVER_LIMITS,
        )  # fmt: skip
        self.url = f"http://{HOST}:{port}"
        self._service = sandbox.start(job)
        _wait(self._service, lambda: _is_open(port), "the calibration service")

    def stop(self) -> None:
        self._service.stop(0)


def _answer(line: bytes) -> Answer:
    """An answer as the client wrote it down. Raises SandboxFault: what it talks to may have taken it over."""
    try:
        said = json.loads(line)
        found = Answer(*(said[name] for name in ("n", "sent", "done", "status", "headers", "body", "error")))
        texts = [*found.headers, *found.headers.values(), found.body, found.error or ""]
        if not all(isinstance(text, str) for text in texts) or type(found.request) is not int:
            raise ValueError
        if not all(isinstance(at, float) and math.isfinite(at) for at in (found.sent, found.done)):
            raise ValueError
        if found.status is not None and (type(found.status) is not int or not 0 <= found.status < 1000):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise SandboxFault("the client that asks the service wrote down what is no answer") from None
    return found


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


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


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
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
