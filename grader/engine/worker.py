"""The worker: one process a grading, in namespaces of its own, that runs the checks and reports each verdict at once.

    python -m grader.engine.worker EVENT_FD < plan.json

Everything it starts ends with it, however it ends.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from grader.engine.plan import Plan
from grader.sandbox import Limits, namespaces
from grader.verdict import CheckResult, Outcome

SCRATCH_MB = 4096  # for what the judge itself writes
WRITTEN_MB = 4096  # for what all commands of a submission write together: memory, until the grading ends
LEAST_MB = 8  # what a command can write however much others have


def main(event_fd: int) -> int:
    namespaces.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides what an interrupt means
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash of a submission leaves nothing on the machine
    os.set_inheritable(event_fd, False)
    plan = Plan.from_json(sys.stdin.read())
    try:
        python = _interpreter(plan)  # may need the network, so before that is gone
    except _Unusable as problem:
        _settle_all(plan, problem, event_fd)
        return 0
    if plan.rung == "docker":
        from grader.engine import contained

        return contained.outside(plan, python, event_fd, SCRATCH_MB, WRITTEN_MB)
    scratch = Path(tempfile.mkdtemp(prefix="mlekit-")).resolve()  # one spelling, also where /tmp is a link
    isolated = plan.rung == "bubblewrap"
    try:
        if isolated:
            namespaces.enter()
            namespaces.mount_tmpfs(scratch, SCRATCH_MB)
            namespaces.die_with_parent()  # new credentials may have cleared it
        return run(plan, python, scratch, isolated, event_fd)
    finally:
        if isolated:
            try:
                namespaces.unmount(scratch)
            except OSError:
                pass
        shutil.rmtree(scratch, ignore_errors=True)


class _Unusable(Exception):
    """No check can run; `outcome` is what all of them get."""

    def __init__(self, outcome: Outcome, why: str) -> None:
        super().__init__(why)
        self.outcome = outcome


def _interpreter(plan: Plan) -> Path | None:
    """The interpreter of a locked environment, built now if need be; None for the kit's."""
    from grader import environment
    from grader.contract import ManifestProblem, read_manifest
    from grader.submission import UnusableSubmission

    try:
        manifest = read_manifest(plan.submission)
        return environment.resolve(manifest, plan.submission)
    except (ManifestProblem, UnusableSubmission) as problem:
        raise _Unusable(Outcome.BLOCKED, str(problem)) from None
    except environment.NotReachable as problem:
        raise _Unusable(Outcome.NOT_RUN, str(problem)) from None


def _settle_all(plan: Plan, why: _Unusable, event_fd: int) -> None:
    """Give every check of the plan the same verdict."""
    with os.fdopen(event_fd, "w", encoding="utf-8", closefd=False) as events:
        if plan.fault is not None:
            events.write(json.dumps({"event": "cannot", "why": str(why)}) + "\n")
        for spec in plan.checks:
            result = CheckResult.of(spec, why.outcome, reason=str(why))
            events.write(
                json.dumps({"event": "check", "result": asdict(result), "details": "", "submission_seconds": 0.0})
                + "\n"
            )
        events.write(json.dumps({"event": "done", "submission_seconds": 0.0}) + "\n")


class Disks:
    """Size-capped folders for what commands write; all of them together stay within one budget of memory."""

    def __init__(self, total_mb: int) -> None:
        self._total_mb = total_mb
        self._mounted: list[Path] = []
        self._lock = threading.Lock()

    def mount(self, path: Path, size_mb: int) -> None:
        """Mount a new folder of at most `size_mb`, less where others have used up the budget."""
        path.mkdir(parents=True)
        with self._lock:
            left = self._total_mb - sum(_used_mb(other) for other in self._mounted)
            namespaces.mount_tmpfs(path, min(size_mb, max(LEAST_MB, left)))
            self._mounted.append(path)


def _used_mb(path: Path) -> int:
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize >> 20


def run(plan: Plan, python: Path | None, scratch: Path, isolated: bool, event_fd: int) -> int:
    """Run the plan's checks and tell their verdicts; `isolated` says that this process may mount within its own namespace."""
    from grader import stages, world
    from grader.checks import breaking
    from grader.checks.api import Grading
    from grader.contract import read_manifest
    from grader.engine import case
    from grader.engine.plugin import run_checks
    from grader.home import PACKAGE, datasets, exercises, reference_solution
    from grader.runcache import RunCache
    from grader.sandbox import choose
    from grader.sandbox.reader import Reader
    from grader.stores import Stores
    from grader.submission import Submission, clean_copy

    lock = threading.Lock()

    def emit(event: dict[str, Any]) -> None:
        if "result" in event:
            seconds = round(submission.seconds, 3)
            event = {**event, "result": asdict(event["result"]), "submission_seconds": seconds}
        line = (json.dumps(event) + "\n").encode()
        with lock:
            view = memoryview(line)
            while view:
                view = view[os.write(event_fd, view) :]

    copy = scratch / "submission"
    copy.mkdir()
    clean_copy(plan.submission, copy)
    sandbox = choose(plan.rung, plan.cores)
    hidden = [PACKAGE, exercises(), reference_solution(), datasets()]
    runs = RunCache(plan.cache) if plan.cache else None
    stores = Stores(sandbox, scratch, python)
    submission = Submission(copy, read_manifest(copy), sandbox, python, hidden, cache=runs, stores=stores)
    submission.tell = lambda label: emit({"event": "runs", "what": label})
    disks = Disks(WRITTEN_MB).mount if isolated else Grading.disk
    with ThreadPoolExecutor(max_workers=32) as pool:
        grading = Grading(
            submission, sandbox, Reader(sandbox, scratch / "answers"), lru_cache(1)(lambda: world.build(plan.seed)), plan.world_name,
            scratch, pool, Limits(seconds=plan.command_seconds), disks, plan.own,
        )  # fmt: skip
        wanted = {spec.stage for spec in plan.checks}
        modules = [f"grader.checks.{s.module}" for s in stages.all_stages() if s.id in wanted]
        try:
            if plan.fault is not None:
                breaking.play(plan.fault, grading, emit)
            else:
                run_checks(modules, plan.checks, grading, emit)
            if plan.case is not None:
                submission.end_all()
                case.lay_down(plan.case, plan.submission, submission, tuple(grading.rows))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            sandbox.close()
    emit({"event": "done", "submission_seconds": round(submission.seconds, 3)})
    return 0


if __name__ == "__main__":
    code = main(int(sys.argv[1]))
    sys.stdout.flush()
    os._exit(code)  # threads of unfinished work must not hold up the end
