"""The wheel carries what the commands need: exercises, reference and data."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).parents[1]


def test_the_wheel_carries_exercises_reference_and_data(tmp_path):
    subprocess.run([find_uv_bin(), "build", "-q", "--wheel", "-o", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("exercises", "reference_solution", "datasets"):
        files = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True)
        missing = {f"grader/_kit/{name}" for name in files.stdout.splitlines()} - names
        assert not missing
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]
