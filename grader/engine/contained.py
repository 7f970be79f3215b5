"""The worker of the docker rung: outside it starts the container and hands over the plan, inside it grades.

    python -m grader.engine.contained      inside; reads one line, and ends when its stdin does

The container's stdout is the worker's stream of events. Its stdin stays open: whoever ends the worker, and however, closes it.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

from grader.engine.plan import Plan
from grader.sandbox import container, namespaces

PASSED_ON = ("LANG", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTHONSAFEPATH", "TZ")
KILLED = 137
END_SECONDS = 10.0


def outside(plan: Plan, python: Path | None, event_fd: int, scratch_mb: int, written_mb: int) -> int:
    """Grade in a container; returns the exit code. What the container says goes to `event_fd`."""
    from grader.home import kit_home

    try:
        program = container.engine()
    except container.NoEngine as problem:
        print(f"the container could not be started: {problem}", file=sys.stderr)
        return container.NOT_STARTED
    writable = [folder for folder in (plan.cache, plan.case) if folder is not None]
    for folder in writable:
        folder.mkdir(parents=True, exist_ok=True)
    given = {
        "plan": replace(plan, rung="bubblewrap").to_json(),
        "python": str(python or ""),
        "scratch_mb": scratch_mb,
        "owner": [os.getuid(), os.getgid()],
    }
    name = f"mlekit-{secrets.token_hex(8)}"
    line = container.line(
        program, name, [sys.executable, "-m", "grader.engine.contained"], [Path(sys.executable), *([python] if python else [])],
        [kit_home(), plan.submission], writable, _environment(), plan.cores, scratch_mb + written_mb,
    )  # fmt: skip
    running = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=event_fd)
    assert running.stdin is not None
    try:
        running.stdin.write(json.dumps(given).encode() + b"\n")
        running.stdin.flush()
        code = running.wait()
    except BrokenPipeError:  # it ended before it read anything; what docker said stands on stderr
        code = running.wait()
    finally:
        if running.poll() is None:
            running.kill()  # with us its stdin ends, and with that the container
    if code == KILLED:
        allowed = container.memory_mb(plan.cores, scratch_mb + written_mb)
        print(f"the container was ended, most likely for using more than {allowed} MB of memory", file=sys.stderr)
    return code


def _environment() -> dict[str, str]:
    passed = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    return {"HOME": "/tmp", "TMPDIR": "/tmp", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", **passed}


def inside() -> int:
    """Grade what the line on stdin says; the container is the grading's namespace."""
    from grader.engine.worker import run

    given = json.loads(sys.stdin.buffer.readline())
    events = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no event
    os.set_inheritable(events, False)
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    plan = Plan.from_json(given["plan"])
    scratch = Path("/tmp/grading")
    namespaces.mount_tmpfs(scratch, given["scratch_mb"])
    try:
        return run(plan, Path(given["python"]) if given["python"] else None, scratch, True, events)
    finally:
        for folder in (plan.cache, plan.case):
            if folder is not None:
                _hand_over(folder, *given["owner"])


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)  # the first process of the container: all others end with it


def _hand_over(folder: Path, user: int, group: int) -> None:
    """Make whoever asked for the grading own what was written for them."""
    for where, _, names in os.walk(folder):
        for path in (where, *(os.path.join(where, name) for name in names)):
            os.chown(path, user, group, follow_symlinks=False)


if __name__ == "__main__":
    code = inside()
    sys.stdout.flush()
    os._exit(code)  # threads of unfinished work must not hold up the end
