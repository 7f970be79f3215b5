"""The stages, read from `exercises/*/stage.toml`: the one definition that commands, checks, docs and tests share."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from grader import home
from grader.verdict import CheckSpec, Level

PLANNED = 16  # stages of the whole course


@dataclass(frozen=True)
class Stage:
    """One exercise.

    `module` is the module of `grader.checks` that holds its checks, `bars` the numbers those compare with.
    """

    id: str
    name: str
    title: str
    todo: str
    act: str
    hours: float
    module: str
    checks: tuple[CheckSpec, ...]
    bars: dict[str, float]
    folder: Path


class UnknownStage(ValueError):
    """No stage has this number or name; the message lists those that exist."""


@lru_cache(maxsize=1)
def all_stages() -> tuple[Stage, ...]:
    """Every stage that is there, in order."""
    return tuple(_read(path) for path in sorted(home.exercises().glob("[0-9][0-9]-*/stage.toml")))


def find(name: str) -> Stage:
    """A stage by number (`1`, `01`), name (`baseline`) or folder (`01-baseline`)."""
    wanted = name.strip().lower().rstrip("/")
    for stage in all_stages():
        if wanted in (stage.id, stage.id.lstrip("0"), stage.name, stage.folder.name):
            return stage
    known = ", ".join(s.folder.name for s in all_stages())
    if wanted.lstrip("0").isdigit() and int(wanted) <= PLANNED:
        raise UnknownStage(f"stage {int(wanted):02d} is not there yet; the stages are {known}")
    raise UnknownStage(f"there is no stage {name!r}; the stages are {known}")


def all_checks() -> tuple[CheckSpec, ...]:
    return tuple(check for stage in all_stages() for check in stage.checks)


def _read(path: Path) -> Stage:
    data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    number = path.parent.name[:2]
    checks = tuple(CheckSpec(stage=number, **{**entry, "level": Level(entry["level"])}) for entry in data["check"])
    return Stage(
        id=number,
        name=data["name"],
        title=data["title"],
        todo=data["todo"],
        act=data["act"],
        hours=data["hours"],
        module=data["module"],
        checks=checks,
        bars=data.get("bars", {}),
        folder=path.parent,
    )
