"""The `mlekit` program as a process, for tests of what people meet."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from grader import stages, workspace
from grader.rubric import assess
from grader.verdict import CheckResult, Grade, Outcome, Submission

MLEKIT = Path(sys.executable).with_name("mlekit")
HEAVY = ("typer", "rich", "pydantic", "pytest", "pandas", "numpy", "psutil", "sklearn", "mlflow")


def mlekit(*arguments, cwd=None, **env):
    """Run the program without a terminal."""
    return subprocess.run(
        [MLEKIT, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
        stdin=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "80", **env},
    )  # fmt: skip


def refused(result, *words):
    """It ended with 2 and one sentence that holds the words."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert all(word in last for word in words), last


def stored_check(folder, outcome=Outcome.PASS, **over):
    """A workspace whose first stage has a stored verdict."""
    mine, stage = workspace.Workspace(folder), stages.find("01")
    checks = tuple(CheckResult.of(spec, outcome, reason="we looked") for spec in stage.checks)
    grade = assess(Grade("0.1.0", 1, "7", "plain", Submission(str(folder), "x"), 1.0, 0.5, checks))
    skipped = workspace.Skipped((".mlekit",), (".pyc",))
    stored = workspace.Stored(7, workspace.key(stage), "2026-01-01 10:00:00", mine.signature(skipped), skipped, grade)
    mine.store(stage, replace(stored, **over))
    return mine, stage


def imported(*arguments, cwd):
    """The heavy packages one command imports, and its exit code."""
    program = (
        "import sys; from grader.entry import main; code = main(); "
        f"print(code, [m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    return result.stderr.strip().splitlines()[-1]
