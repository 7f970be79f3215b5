"""The supervisor: starts the worker, keeps the verdict in its own memory, and always ends with a valid grade."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from grader import CONTRACT, __version__
from grader.engine.plan import Plan
from grader.rubric import assess
from grader.submission import submission_hash
from grader.verdict import CheckResult, Grade, Level, Outcome, Submission

Watch = Callable[[dict[str, Any]], None]


def grade(plan: Plan, watch: Watch = lambda event: None, partial: Path | None = None) -> Grade:
    """Run the plan and return the grade.

    `watch` is told of events as they happen; `partial` is a file that holds a valid grade at any moment. On an
    interrupt the grade so far comes back with `finished` False, and nothing of the run is left.
    """
    began = time.monotonic()
    results: dict[str, CheckResult] = {}
    digest = submission_hash(plan.submission)
    spent = {"submission": 0.0}

    def now(finished: bool, why: str = "") -> Grade:
        checks = tuple(
            results.get(spec.id) or CheckResult.of(spec, Outcome.NOT_RUN, reason=why or "it has not run yet")
            for spec in plan.checks
        )
        return assess(
            Grade(
                kit=__version__, contract=CONTRACT, world=plan.world_name, isolation=plan.rung,
                submission=Submission(str(plan.submission), digest), seconds=round(time.monotonic() - began, 3),
                submission_seconds=spent["submission"], checks=checks, finished=finished, notes=plan.notes,
            )
        )  # fmt: skip

    def handle(event: dict[str, Any]) -> None:
        if event["event"] == "check":
            data = event["result"]
            result = CheckResult(
                **{
                    **data,
                    "level": Level(data["level"]),
                    "outcome": Outcome(data["outcome"]),
                    "evidence": tuple(data["evidence"]),
                }
            )
            results[result.id] = result
            if partial is not None:
                now(False).write(partial)
        elif event["event"] == "done":
            spent["submission"] = event["submission_seconds"]
        watch(event)

    if partial is not None:
        now(False).write(partial)
    interrupted, code, errors = _drive(plan, handle)
    complete = len(results) == len(plan.checks)
    if interrupted:
        final = now(False, "the grading was interrupted before this check ran")
    elif complete:
        final = now(True)
    else:
        for spec in plan.checks:
            if spec.id not in results:
                results[spec.id] = CheckResult.of(
                    spec,
                    Outcome.GRADER_ERROR,
                    reason=f"the grader's worker ended early (code {code}): {errors or 'no message'}",
                )
        final = now(True)
    if partial is not None:
        final.write(partial)
    return final


def _drive(plan: Plan, handle: Watch) -> tuple[bool, int, str]:
    """Run the worker to its end; returns (interrupted, exit code, last line of its errors)."""
    read_end, write_end = os.pipe()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONSAFEPATH": "1"}
    interrupted = False
    with tempfile.TemporaryFile() as errors:
        worker = subprocess.Popen(
            [sys.executable, "-m", "grader.engine.worker", str(write_end)],
            stdin=subprocess.PIPE, stdout=errors, stderr=errors, pass_fds=(write_end,), start_new_session=True, env=environment,
        )  # fmt: skip
        os.close(write_end)
        try:
            assert worker.stdin is not None
            try:
                worker.stdin.write(plan.to_json().encode())
                worker.stdin.close()
            except BrokenPipeError:
                pass
            with os.fdopen(read_end, "rb") as events:
                _read_events(events, handle)
            worker.wait()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            _end(worker)
        errors.seek(0, os.SEEK_END)
        errors.seek(max(0, errors.tell() - 4000))
        lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return interrupted, worker.returncode, lines[-1] if lines else ""


def _read_events(events: IO[bytes], handle: Watch) -> None:
    for line in events:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the worker died in the middle of a line
        handle(event)


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Let the worker clean up, then end it; whatever it started dies with it."""
    if worker.poll() is None:
        worker.terminate()
        try:
            worker.wait(10)
        except subprocess.TimeoutExpired:
            pass
        except KeyboardInterrupt:
            pass
    try:
        os.killpg(worker.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    worker.wait()
