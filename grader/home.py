"""Where the kit's own files are: the checkout, or the copy that the wheel carries."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def kit_home() -> Path:
    """The folder that holds `exercises/`, `reference_solution/` and `datasets/`."""
    carried = PACKAGE / "_kit"
    return carried if carried.is_dir() else PACKAGE.parent


def exercises() -> Path:
    return kit_home() / "exercises"


def reference_solution() -> Path:
    return kit_home() / "reference_solution"


def datasets() -> Path:
    return kit_home() / "datasets"


def pool() -> Path:
    """The submissions that the grader is tested with."""
    carried = PACKAGE / "_kit" / "pool"
    return carried if carried.is_dir() else PACKAGE.parent / "tests" / "pool"
