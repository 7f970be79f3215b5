"""The blocks of CONTRIBUTING.md are executed in a copy of the kit, as a contributor would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)(?: append=(\S+))?\n(.*?)^```$", re.M | re.S)


def test_adding_a_check_works_as_written(tmp_path):
    kit = tmp_path / "kit"
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("grader", "exercises", "reference_solution", "datasets", "tests"):
        shutil.copytree(ROOT / name, kit / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", kit)
    for language, target, text in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()):
        if target:
            with (kit / target).open("a") as file:
                file.write(text)
        elif language == "sh":
            command = text.replace("python -m", f"{sys.executable} -m")
            environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
            environment |= {"PYTHONPATH": str(kit), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            done = subprocess.run(
                command, shell=True, cwd=kit, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
            assert re.search(r"\b3 passed", done.stdout), done.stdout[-1000:]
