"""The typed configuration: read once, at the door, and refused there if it is wrong."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from dataclasses import dataclass, fields
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NoReturn

LARGEST_SEED = 2**32 - 1  # of NumPy, and so of scikit-learn
REFUSED = 2  # the exit code that says: what you gave me is wrong, I am not


def refuse(code: str, message: str, key: str | None = None) -> NoReturn:
    """End the command, and say why where the caller looks for it."""
    if path := os.environ.get("MLEKIT_REFUSAL"):
        Path(path).write_text(json.dumps({"code": code, "message": message, "key": key}), encoding="utf-8")
    print(message, file=sys.stderr)
    raise SystemExit(REFUSED)


@dataclass(frozen=True)
class Config:
    """What a training run may be told. Dates are wall-clock days of the scheduled departure, both included."""

    seed: int
    train_start: date
    train_end: date
    trees: int = 100
    leaves: int = 8
    learning_rate: float = 0.1
    validation_share: float = 0.2  # of the days of the window, its last ones: measured on, never learned from

    def as_record(self) -> dict[str, Any]:
        return {"seed": self.seed, "train_start": str(self.train_start), "train_end": str(self.train_end)}

    @property
    def validation_start(self) -> date:
        """The first of the days at the end of the window that are kept for measuring; at least one day is."""
        days = (self.train_end - self.train_start).days + 1
        return self.train_end - timedelta(days=max(1, round(days * self.validation_share)) - 1)


def read_config(path: Path) -> Config:
    """Read a TOML file; every key is known, of its type, and sensible, or the command is refused."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        refuse("bad_config", f"{path} cannot be read: {problem}")
    kinds = {field.name: field.type for field in fields(Config)}
    for key in given:
        if key not in kinds:
            refuse("bad_config", f"{key} is not a key of the configuration; known are {', '.join(kinds)}", key)
    for key in ("seed", "train_start", "train_end"):
        if key not in given:
            refuse("bad_config", f"{key} is missing", key)
    config = Config(**{key: parsers[kinds[key]](key, value) for key, value in given.items()})
    if not 0 <= config.seed <= LARGEST_SEED:
        refuse("bad_config", f"seed is {config.seed}; it must be from 0 to {LARGEST_SEED}", "seed")
    if config.train_end < config.train_start:
        refuse("bad_config", f"train_end {config.train_end} is before train_start {config.train_start}", "train_end")
    for key, least in (("trees", 1), ("leaves", 2)):
        if getattr(config, key) < least:
            refuse("bad_config", f"{key} is {getattr(config, key)}; it must be at least {least}", key)
    if not 0 < config.learning_rate <= 1:
        refuse(
            "bad_config", f"learning_rate is {config.learning_rate}; it must be above 0 and at most 1", "learning_rate"
        )
    if not 0.1 <= config.validation_share <= 0.5:
        share = config.validation_share
        refuse("bad_config", f"validation_share is {share}; it must be from 0.1 to 0.5", "validation_share")
    return config


def _whole_number(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        refuse("bad_config", f"{key} is {value!r}; it must be a whole number", key)
    return value


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse("bad_config", f"{key} is {value!r}; it must be a number", key)
    return float(value)


def _day(key: str, value: Any) -> date:
    try:
        if str(found := date.fromisoformat(value)) == value:  # it also reads other forms, such as 20130131
            return found
    except (TypeError, ValueError):
        pass
    refuse("bad_config", f"{key} is {value!r}; it must be a date like 2013-01-31", key)


parsers = {"int": _whole_number, "float": _number, "date": _day}
