"""The worker: one process a grading, in namespaces of its own, that runs the checks and reports each verdict at once.

    python -m grader.engine.worker EVENT_FD < plan.json

Everything it starts ends with it, however it ends.
"""

from __future__ import annotations

import json
import os
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

SCRATCH_MB = 4096


def main(event_fd: int) -> int:
    namespaces.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides what an interrupt means
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.set_inheritable(event_fd, False)
    plan = Plan.from_json(sys.stdin.read())
    scratch = Path(tempfile.mkdtemp(prefix="mlekit-"))
    isolated = plan.rung == "bubblewrap"
    try:
        if isolated:
            namespaces.enter()
            namespaces.mount_tmpfs(scratch, SCRATCH_MB)
        return _run(plan, scratch, isolated, event_fd)
    finally:
        if isolated:
            try:
                namespaces.unmount(scratch)
            except OSError:
                pass
        shutil.rmtree(scratch, ignore_errors=True)


def _run(plan: Plan, scratch: Path, isolated: bool, event_fd: int) -> int:
    from grader import stages, world
    from grader.checks.api import Grading
    from grader.contract import read_manifest
    from grader.engine.plugin import run_checks
    from grader.home import PACKAGE
    from grader.sandbox import choose
    from grader.sandbox.reader import Reader
    from grader.submission import Submission, clean_copy

    lock = threading.Lock()

    def emit(event: dict[str, Any]) -> None:
        if "result" in event:
            event = {**event, "result": asdict(event["result"])}
        line = (json.dumps(event) + "\n").encode()
        with lock:
            view = memoryview(line)
            while view:
                view = view[os.write(event_fd, view) :]

    def capped(path: Path, size_mb: int) -> None:
        path.mkdir(parents=True)
        if isolated:
            namespaces.mount_tmpfs(path, size_mb)

    copy = scratch / "submission"
    copy.mkdir()
    clean_copy(plan.submission, copy)
    sandbox = choose(plan.rung, plan.cores)
    submission = Submission(copy, read_manifest(copy), sandbox, hidden=[PACKAGE])
    with ThreadPoolExecutor(max_workers=32) as pool:
        grading = Grading(
            submission, sandbox, Reader(sandbox, scratch / "answers"), lru_cache(1)(lambda: world.build(plan.seed)), plan.world_name,
            scratch, pool, Limits(), capped,
        )  # fmt: skip
        wanted = {spec.stage for spec in plan.checks}
        modules = [f"grader.checks.{s.module}" for s in stages.all_stages() if s.id in wanted]
        try:
            run_checks(modules, plan.checks, grading, emit)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            sandbox.close()
    emit({"event": "done", "submission_seconds": round(submission.seconds, 3)})
    return 0


if __name__ == "__main__":
    code = main(int(sys.argv[1]))
    sys.stdout.flush()
    os._exit(code)  # threads of unfinished work must not hold up the end
