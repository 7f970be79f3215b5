"""A submission's service in front of a registry of ours: how it is started, asked and stopped; shared by the stages that serve."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grader import services, stores
from grader.checks import challengers, running
from grader.checks.api import Grading, Owed, Unavailable, work
from grader.checks.s06_registry import answers, cases, gate, given, lined_up, tables, trained
from grader.contract.serving import GRACE_SECONDS, MEMORY_MB, PATIENCE_SECONDS
from grader.sandbox import Mount
from grader.sandbox.base import Argument, Job
from grader.sandbox.base import Service as Begun
from grader.sandbox.reader import INSIDE, TOOL_ENVIRONMENT
from grader.services import HOST, Answer, Request
from grader.submission import Ran, Running

if TYPE_CHECKING:
    import numpy as np

DAMAGED = "damaged"
NO_MODEL = "flavors:\n  python_function:\n    loader_module: no_such_module\n    python_version: 3.11.0\n"
LOGGED_MODEL = re.compile(r"m-[0-9a-f]{32}")
REFRESH_SECONDS = 1
FOLLOWED = REFRESH_SECONDS + GRACE_SECONDS  # until a new champion has to answer
CLIENT_MB = 256
HEALTHZ, READYZ, VERSION = Request("GET", "/healthz"), Request("GET", "/readyz"), Request("GET", "/version")


# The registry that is served


@dataclass(frozen=True)
class Shop:
    """A store, versions in it by name, and what those say of the rows, shape (n,).

    `own` is the submission's own model, and champion at first; `better` and `best` are challengers around it. Of `missing` there are no
    files, and those of `damaged` cannot be loaded.
    """

    store: Path
    versions: Mapping[str, str]
    says: Mapping[str, np.ndarray]


@work
def shop(grading: Grading) -> Shop:
    line, run, at = grading.get(lined_up), grading.get(trained), grading.get(gate)
    rows, own = grading.get(tables).rows, grading.get(answers)["rows"]
    last = max(int(number) for number in (line.champion, *line.versions.values()))
    versions = {name: line.versions[name] for name in ("better", "best")}
    versions |= {name: str(last + number) for number, name in enumerate(("own", "missing", "damaged"), 1)}
    out = copied(grading, line.store, "shop")
    logged = LOGGED_MODEL.search(run.model)  # MLflow cannot load a version whose source is runs:/ID/NAME
    inside = Mount(out, stores.NAME)
    stores.copy_files(out / run.model, out / DAMAGED)
    (out / DAMAGED / "MLmodel").write_text(NO_MODEL)
    sources = {
        "own": f"models:/{logged[0]}" if logged else grading.sandbox.path(inside / run.model),
        "missing": f"models:/m-{'0' * 32}",
        "damaged": grading.sandbox.path(inside / DAMAGED),
    }
    for name, source in sources.items():
        alter(grading, out, "add", versions[name], source, run.run_id)
    alter(grading, out, "champion", versions["own"])
    says = {
        name: challengers.answers(own, rows, at.outcomes, grading.get(cases)[name].setting)
        for name in ("better", "best")
    }
    return Shop(out, versions, {"own": own, **says})


def copied(grading: Grading, store: Path, label: str) -> Path:
    """A copy of a store, which knows where it lies."""
    assert grading.submission.stores is not None
    out = grading.folder(label, grading.limits.disk_mb)
    grading.submission.stores.go_on(store, out)
    return out


def alter(grading: Grading, store: Path, what: str, version: str, *more: str) -> None:
    """Change a store behind the back of whoever uses it. Raises Owed."""
    altered(altering(grading, store, what, version, *more), what)


def altering(grading: Grading, store: Path, what: str, version: str, *more: str) -> Begun:
    """Begin to change it, and return at once."""
    kit, place = Mount(INSIDE, "kit"), Mount(store, stores.NAME, writable=True)
    job = Job(
        ["python", kit / "alter_registry.py", place / stores.DATABASE, what, grading.get(given).model, version, *more], [kit, place],
        cwd=place,
        env={**TOOL_ENVIRONMENT, "HOME": "/tmp"}, limits=grading.limits, network=False,
    )  # fmt: skip
    return grading.sandbox.start(job)


def altered(begun: Begun, what: str) -> None:
    """Wait until it is changed. Raises Owed."""
    finished = begun.wait()
    if not finished.ok:
        raise Owed(f"we changed the registry ({what}); {finished.sentence()}: {finished.output[-200:]}")


# The service


@dataclass
class Service:
    """A service of the submission, in a folder of its own with its store and state, and the client that asks it."""

    grading: Grading
    store: Path
    port: int
    out: Path
    client: services.Client
    printed: Path
    """All that it prints, over all starts."""
    running: Running | None = None
    beside: Running | None = None
    """A command that goes on, whose store it looks at instead of a copy of `store`."""
    reads: tuple[Path, Path] | None = None
    """The data and the folder of the use case, where they are not those of stage 06."""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def own_store(self) -> Path:
        """The store that it looks at, a copy of `store`."""
        return self.out / stores.NAME

    def start(self, before: Sequence[Argument] = (), tools: Sequence[Mount] = ()) -> None:
        """Start it, or start it again where it left off; `before` is a program of ours, in `tools`, that runs it. Raises Owed."""
        data, use_case = self.reads or (self.grading.get(given).data, self.grading.get(given).settings)
        source, settings = Mount(data, "data"), Mount(use_case, "given")
        argv: list[Argument] = [
            *before, *running.command(self.grading, "serve"), "--usecase", settings / "usecase.toml", "--data", source,
        ]  # fmt: skip
        limits = replace(self.grading.limits, seconds=3600, memory_mb=MEMORY_MB)
        env: dict[str, Argument] = {
            "MLEKIT_HOST": HOST, "MLEKIT_PORT": str(self.port), "MLEKIT_REFRESH_SECONDS": str(REFRESH_SECONDS),
        }  # fmt: skip
        self.running = self.grading.submission.start(
            "serve", argv, [source, settings, *tools], self.out, limits, env, tracking=None if self.beside else self.store,
            printed=self.printed, beside=self.beside,
        )  # fmt: skip

    def ended(self) -> Ran | None:
        return None if self.running is None else self.running.ended()

    def stop(self, grace_seconds: float = 0.0) -> Ran:
        assert self.running is not None
        return self.running.stop(grace_seconds)

    def ask(self, *requests: Request, **how: Any) -> list[Answer]:
        """Ask and wait for the answers."""
        return self.begin(*requests, **how).answers()

    def begin(self, *requests: Request, **how: Any) -> services.Asking:
        return self.client.ask(self.url, requests, **how)

    def wait(self, seconds: float, request: Request = READYZ) -> list[Answer]:
        """Ask until it says 200, has ended, or this time is over."""
        asked = self.begin(request, count=1_000_000, seconds=seconds, pause=0.05, until=200, keep=500)
        while not asked.over():
            if self.ended() is not None:
                asked.stop()
            time.sleep(0.02)
        return asked.answers()

    def alter(self, what: str, version: str = "0") -> None:
        alter(self.grading, self.own_store, what, version)

    def is_there(self) -> bool:
        return self.ended() is None and self.ask(HEALTHZ, deadline=PATIENCE_SECONDS)[0].status == 200


def service(grading: Grading, label: str, store: Path, port: int | None = None) -> Service:
    client = services.Client(grading.sandbox, grading.folder(f"{label}-client", CLIENT_MB))
    out = grading.folder(label, grading.limits.disk_mb)
    printed = grading.folder(f"{label}-printed") / "printed.txt"
    return Service(grading, store, port or services.free_port(), out, client, printed)


def is_ready(answered: Sequence[Answer]) -> bool:
    return bool(answered) and answered[-1].status == 200 and answered[-1].error is None


def version_of(answer: Answer) -> str | None:
    """The version that an answer says it is from."""
    try:
        value = json.loads(answer.body)
        return str(value["model_version"]) if answer.status == 200 else None
    except (ValueError, RecursionError, TypeError, KeyError):
        return None


class Disk:
    """The disk under the state of a service, whose writes can be made slow (`slow 0.5`), impossible (`full`) and well again (`none`)."""

    CANNOT = 70  # exit code of disk_fault.py where the kernel does not help, which it finds out at once
    SECONDS = 1.0

    def __init__(self, grading: Grading, of: Service) -> None:
        self._of, self._control = of, grading.folder("disk") / "control"

    def start(self) -> None:
        """Start the service on it. Raises Owed, Unavailable."""
        kit, place = Mount(INSIDE, "kit"), Mount(self._control.parent, "disk")
        state = Mount(self._of.out / "state", "state", writable=True)
        self._of.start(["python", kit / "disk_fault.py", state, place / self._control.name, "--"], [kit, place])
        deadline = time.monotonic() + self.SECONDS
        while (ended := self._of.ended()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if ended is not None and ended.finished.code == self.CANNOT:
            raise Unavailable(f"a disk cannot be made full or slow on this machine; {ended.last_line}")

    def set(self, how: str) -> None:
        aside = self._control.with_suffix(".part")
        aside.write_text(how)
        aside.rename(self._control)
