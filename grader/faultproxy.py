"""A fault planted between a submission's tests and its commands, where neither can see it.

The tests call one small client, the same in every run. Behind it a proxy in a sandbox of its own copies the tests' files, and the judge
runs the real command on the copy in a third sandbox; the proxy then spoils what came out and lays it down for the tests.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from grader.sandbox import Limits, Mount, Sandbox
from grader.sandbox.base import Argument, Finished, Job, SandboxFault, Service
from grader.sandbox.reader import INSIDE, TOOL_ENVIRONMENT
from grader.submission import Submission

AREAS = ("out", "state", "work")  # the folders that tests can write
START_SECONDS = 60
MAX_REQUEST = 1_000_000  # bytes of one call
MAX_CALLS = 500  # of commands by the tests in one run
TIMED_OUT, COULD_NOT_RUN, NOT_FOUND = 124, 126, 127  # as shells say it
POLL_SECONDS = 0.01
PASSED_ON = ("MLEKIT_REFUSAL", "PYTHONHASHSEED")  # of the environment in which the tests call


class Ended(Exception):
    """The proxy was over before the tests were; the message says how."""


class FaultProxy:
    """Use as a context around the run of the tests.

    `shared` is the folder below which the tests write, `copies` an empty one of the same size for the commands, `line` an empty
    one that the tests can see. Raises SandboxFault where it does not start, and Ended on leaving where it was over before the
    tests: then nothing can be said of them.
    """

    def __init__(
        self,
        submission: Submission,
        sandbox: Sandbox,
        commands: Mapping[str, Sequence[str]],
        fault: str,
        shared: Path,
        copies: Path,
        line: Path,
        limits: Limits,
    ) -> None:
        self._submission, self._sandbox, self._commands, self._limits = submission, sandbox, commands, limits
        self._shared, self._copies, self._line = shared, copies, line
        self._fault = fault
        self._closing = threading.Event()
        self._running: Service | None = None
        self._tracking: Mount | None = None
        self._lock = threading.Lock()

    def words(self, name: str) -> list[str]:
        """What the tests are to call in place of the command `name`."""
        kit, line = Mount(INSIDE, "kit"), Mount(self._line, "line")
        places = [self._sandbox.path(kit / "call.py"), self._sandbox.path(line / "calls")]
        return [self._submission.kit_interpreter(), *places, name]

    def __enter__(self) -> FaultProxy:
        for area in AREAS:
            (self._shared / area).mkdir(exist_ok=True)
            (self._copies / area).mkdir()
        for name in ("scratch", "own"):
            (self._copies / name).mkdir()
        empty = self._submission.stores
        self._tracking = empty.lay_down(self._copies / "tracking") if empty else None  # one for all commands of a run
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._copies / "own" / "judge"))
        listener.listen(1)
        self._proxy = self._sandbox.start(self._job())
        try:
            self._judge = self._accepted(listener)
        except BaseException:
            self._proxy.stop(0)
            raise
        finally:
            listener.close()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = self._proxy.poll()
        self._closing.set()
        with self._lock:
            if self._running is not None:
                self._running.stop(0)
        self._proxy.stop(0)
        self._judge.close()
        self._thread.join(timeout=START_SECONDS)
        if ended is not None and problem is None:
            raise Ended(
                f"what its tests wrote or asked for ended the proxy that stands in for its commands: {ended.sentence()}"
            )

    def _job(self) -> Job:
        """The proxy's own process: it sees the shared folders, the copies, and nothing else of the grading."""
        kit, own = Mount(INSIDE, "kit"), Mount(self._copies / "own", "own", writable=True)
        shared, line = Mount(self._shared, "shared", writable=True), Mount(self._line, "line", writable=True)
        scratch = self._scratch()
        copies = self._mounts()
        settings = {
            "fault": self._fault,
            "address": self._sandbox.path(line / "calls"),
            "scratch": self._sandbox.path(scratch),
            "areas": [
                {
                    "seen": self._sandbox.path(Mount(self._shared / area, area)),
                    "shared": self._sandbox.path(shared / area),
                    "copy": self._sandbox.path(mount),
                }
                for area, mount in copies.items()
            ],
        }
        self._settings = settings
        home = Mount(self._submission.folder, "submission")
        return Job(
            ["python", kit / "fault_proxy.py", own / "judge"],
            [kit, own, shared, line, scratch, home, *copies.values()],
            cwd=home,
            env={**TOOL_ENVIRONMENT, "HOME": scratch},
            limits=replace(self._limits, seconds=self._limits.seconds + START_SECONDS),
            hidden=self._submission.hidden,
            network=False,
        )  # fmt: skip

    def _mounts(self) -> dict[str, Mount]:
        return {area: Mount(self._copies / area, area, writable=True) for area in AREAS}

    def _scratch(self) -> Mount:
        return Mount(self._copies / "scratch", "scratch", writable=True)

    def _accepted(self, listener: socket.socket) -> socket.socket:
        """The proxy's line to us, once it says that it takes calls. Raises SandboxFault."""
        listener.settimeout(0.2)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if (ended := self._proxy.poll()) is not None:
                raise SandboxFault(f"the proxy between tests and commands did not start: {ended.output[-300:]}")
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(START_SECONDS)
            connection.sendall(
                json.dumps(self._settings).encode() + b"\n"
            )  # by no file: paths of the tests could lead to it
            with connection.makefile("rb") as stream:
                stream.readline(MAX_REQUEST)
            connection.settimeout(None)
            return connection
        raise SandboxFault("the proxy between tests and commands did not start in time")

    def _serve(self) -> None:
        """Run one command after the other as the proxy asks; what it sends may come from anyone."""
        try:
            with self._judge.makefile("rb") as stream:
                for _ in range(MAX_CALLS):
                    line = stream.readline(MAX_REQUEST)
                    if not line.endswith(b"\n"):
                        return
                    self._judge.sendall(json.dumps(self._answer(line)).encode() + b"\n")
        except (OSError, ValueError):
            pass
        finally:
            try:
                self._judge.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            real = self._commands[request["command"]]
            words = [str(word) for word in request["argv"]]
            env = {str(name): str(value) for name, value in request["env"].items() if name in PASSED_ON}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {"code": NOT_FOUND, "output": "this is no call of a command\n"}
        if any("\0" in word for word in (*words, *env.values())):
            return {"code": NOT_FOUND, "output": "an argument holds a zero byte\n"}
        try:
            for word in (*words, *env.values()):
                os.fsencode(word)
        except UnicodeEncodeError:
            return {"code": NOT_FOUND, "output": "an argument holds what is no character\n"}
        try:
            finished = self._run([*real, *words], env)
        except (SandboxFault, OSError) as problem:  # such as a list of arguments that is too long
            return {"code": COULD_NOT_RUN, "output": f"{problem}\n"}
        codes = {"time": TIMED_OUT, "missing": NOT_FOUND}
        code = finished.code if finished.code is not None else codes.get(finished.ended, 1)
        said = "" if finished.ended == "exited" else f"{finished.sentence()}\n"
        return {"code": code, "output": finished.output + said}

    def _run(self, argv: Sequence[Argument], env: Mapping[str, Argument]) -> Finished:
        """Run a command of the submission on the copy, outside the turn of the tests, which wait for it."""
        mounts = self._mounts()
        environment = {"TMPDIR": mounts["work"], **env}
        job = self._submission.job(
            argv,
            [mounts["work"], self._scratch()],
            mounts["out"],
            mounts["state"],
            self._limits,
            environment,
            self._tracking,
        )
        with self._lock:
            if self._closing.is_set():
                return Finished("cancelled", None, 0.0, "")
            self._running = self._sandbox.start(job)
        while (finished := self._running.poll()) is None:
            time.sleep(POLL_SECONDS)
        return finished
