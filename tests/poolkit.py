"""Grade the submissions of the pool, for tests."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from pathlib import Path

from grader import home, stages
from grader.engine import Plan, grade
from grader.sandbox import detect
from grader.verdict import Grade, Outcome

POOL = home.pool()


def seed_of(name: object) -> int:
    """A world of its own for each case, the same in every run."""
    return zlib.crc32(str(name).encode())


def graded(
    folder: Path,
    stage: str,
    seed: int,
    rung: str | None = None,
    skip: Collection[str] = (),
    only: Collection[str] = (),
    **more: float,
) -> Grade:
    """Grade one stage of a submission with the worker's full machinery: all its checks, or `only` some."""
    checks = tuple(c for c in stages.find(stage).checks if c.id not in skip and (not only or c.id in only))
    return grade(Plan(folder, checks, seed, str(seed), rung or detect().rung, 2, **more))


def failing(result: Grade) -> set[str]:
    return {c.id for c in result.checks if c.outcome is Outcome.FAIL}


def passing(result: Grade) -> set[str]:
    return {c.id for c in result.checks if c.outcome is Outcome.PASS}


def said(result: Grade) -> str:
    """The verdicts as text, for the message of a failing test."""
    return "\n".join(f"{c.outcome:<12} {c.id}: {c.value} [{c.bar}] {c.reason}" for c in result.checks)
