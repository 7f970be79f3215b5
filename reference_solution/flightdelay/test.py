"""python -m flightdelay.test --commands F --out F

Runs the tests in tests/ against the commands named in a JSON file {"train": [...], "predict": [...]}, and writes how many
passed and failed. The tests call the commands, they do not import the package: so they hold for any program that keeps the
contract, and notice when ours stops doing so.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import pytest


class Count:
    """A pytest plugin that counts."""

    def __init__(self) -> None:
        self.passed = self.failed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed += 1
        elif report.when == "call" and report.passed:
            self.passed += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.failed += report.failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="test", description="Run the tests against commands.")
    parser.add_argument("--commands", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    os.environ["FLIGHTDELAY_COMMANDS"] = arguments.commands.read_text(encoding="utf-8")
    count = Count()
    pytest.main(["-q", "-p", "no:cacheprovider", str(Path(__file__).parents[1] / "tests")], plugins=[count])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"passed": count.passed, "failed": count.failed}))
    return 0 if count.passed and not count.failed else 1


if __name__ == "__main__":
    sys.exit(main())
