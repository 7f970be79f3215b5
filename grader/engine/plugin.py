"""The pytest plugin that collects checks, starts shared work ahead, and turns what happened into verdicts.

Nothing of the submission is ever collected: pytest is pointed at `grader.checks` alone, with no configuration file and no
other plugin.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from grader.checks.api import Check, Fault, Finding, Grading, Owed, Unavailable
from grader.stores import TooMuch
from grader.verdict import CheckResult, CheckSpec, Outcome

Emit = Callable[[dict[str, Any]], None]

LONGEST = 4_000  # characters of a sentence of a verdict
LONGEST_CHARTS = 160_000  # characters that they take as Python shows them, each at most six bytes of an event


class EnginePlugin:
    """One instance a grading; `emit` carries events to the supervisor."""

    def __init__(self, specs: Iterable[CheckSpec], grading: Grading, emit: Emit) -> None:
        self._specs = {spec.id: spec for spec in specs}
        self._grading, self._emit = grading, emit

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A check module that cannot be imported ends the worker with its reason: our fault, said aloud."""
        if report.failed:
            raise RuntimeError(
                f"a module of checks cannot be imported: {str(report.longrepr).strip().splitlines()[-1]}"
            )

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self, collector: Any, name: str, obj: Any) -> Any:
        """Collect functions marked with @check, and nothing else."""
        check: Check | None = getattr(obj, "__mlekit_check__", None)
        if check is None:
            return []
        return [pytest.Function.from_parent(collector, name=name, originalname=name)] if check.id in self._specs else []

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Keep the order of the plan, and start the shared work of all checks in that order."""
        order = {check_id: number for number, check_id in enumerate(self._specs)}
        items.sort(key=lambda item: order[_check(item).id])
        for item in items:
            for work in _check(item).uses:
                self._grading.start(work)

    @pytest.fixture(name="grading", scope="session")
    def _grading_fixture(self) -> Grading:
        return self._grading

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: Any) -> bool:
        """Run one check and report its verdict; only a Finding is one."""
        check = _check(pyfuncitem)
        spec = self._specs[check.id]
        self._emit({"event": "started", "id": spec.id})
        began = time.monotonic()
        details = ""
        try:
            finding = check.function(self._grading)
            if not isinstance(finding, Finding) or finding.outcome not in (Outcome.PASS, Outcome.FAIL):
                finding = Finding(Outcome.GRADER_ERROR, "the check came to no verdict; this is a fault of the kit")
        except Fault as fault:
            finding = Finding(Outcome.FAIL, str(fault))
        except Owed as owed:
            finding = Finding(Outcome.BLOCKED, str(owed))
        except TooMuch as left:
            finding = Finding(Outcome.FAIL, str(left))
        except Unavailable as lacking:
            finding = Finding(Outcome.NOT_RUN, str(lacking))
        except Exception as problem:  # ours: shown as such, kept for a report, never held against the submission
            details = traceback.format_exc()
            finding = Finding(
                Outcome.GRADER_ERROR,
                f"the check itself failed ({type(problem).__name__}: {problem}); this is a fault of the kit",
            )
        self._grading.rows += finding.rows
        result = CheckResult.of(
            spec, finding.outcome, value=_short(finding.value), bar=_short(finding.bar), reason=_short(finding.reason),
            charts=finding.charts if len(repr(finding.charts)) <= LONGEST_CHARTS else (),
            seconds=round(time.monotonic() - began, 3),
        )  # fmt: skip
        self._emit({"event": "check", "result": result, "details": details})
        return True


def _short(text: str) -> str:
    """The text, unless it is longer than anybody reads: a submission names its columns and types as long as it likes."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


def _check(item: Any) -> Check:
    check: Check = item.function.__mlekit_check__
    return check


def run_checks(modules: list[str], specs: Iterable[CheckSpec], grading: Grading, emit: Emit) -> None:
    """Run the checks of `modules` under pytest's machinery. Raises RuntimeError when pytest itself fails."""
    code = pytest.main(
        [
            "--pyargs", *modules,
            "-c", "/dev/null", "--rootdir", str(grading.scratch), "--import-mode=importlib", "-o", "python_files=*.py",
            "-p", "no:cacheprovider", "-p", "no:terminal", "-p", "no:faulthandler", "-p", "no:junitxml", "-p", "no:logging",
            "-p", "no:warnings", "-p", "no:unraisableexception", "-p", "no:threadexception", "-s",
        ],
        plugins=[EnginePlugin(specs, grading, emit)],
    )  # fmt: skip
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"pytest ended with {code!r}")
