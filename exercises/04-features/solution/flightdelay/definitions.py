"""Feature definitions: read from TOML into typed objects at the door, and refused there if they are wrong."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn
from zoneinfo import available_timezones

from flightdelay.config import refuse
from flightdelay.usecase import LABEL, UseCase, duration

HOME = Path(__file__).parents[1]  # the folder of the submission
NAME = re.compile(r"[a-z0-9_]{1,60}")
PARTS = ("hour", "dow", "month")
NO_PLACE = {"Factory", "localtime"}  # names in the list of zones that are none
MOST = 200
ROW_ID = "row_id"


@dataclass(frozen=True)
class Definition:
    """What all kinds have in common."""

    name: str


@dataclass(frozen=True)
class Column(Definition):
    """A column of the row itself."""

    column: str


@dataclass(frozen=True)
class Calendar(Definition):
    """What calendar and clock show at an instant of the row, in a time zone."""

    of: str
    part: str
    zone: str


@dataclass(frozen=True)
class FromTable(Definition):
    """A column of a table, in the rows that agree with the row to compute in the columns `by`."""

    table: str
    by: list[str]
    column: str


@dataclass(frozen=True)
class Lookup(FromTable):
    """The value in the one row with that key."""


@dataclass(frozen=True)
class AsOf(FromTable):
    """The latest value that was known."""

    max_age: timedelta


@dataclass(frozen=True)
class Age(AsOf):
    """How old that value is, in hours."""


@dataclass(frozen=True)
class Count(FromTable):
    """How many values became known in the window up to the decision."""

    window: timedelta


@dataclass(frozen=True)
class Mean(Count):
    """Their mean."""


KINDS: dict[str, type[Definition]] = {
    "column": Column, "calendar": Calendar, "lookup": Lookup, "asof": AsOf, "age": Age, "mean": Mean, "count": Count,
}  # fmt: skip


def own_definitions() -> Path:
    """The file that the manifest names as `features`: the one that the model learns from."""
    manifest = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mlekit"]
    return HOME / manifest.get("features", "features.toml")


def read_definitions(path: Path) -> list[Definition]:
    """The definitions of a file, in their order. Each is right in itself, or the command is refused."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        refuse("bad_definitions", f"{path.name} cannot be read: {problem}")
    entries = given.get("feature")
    if set(given) != {"feature"} or not isinstance(entries, list) or not 1 <= len(entries) <= MOST:
        refuse("bad_definitions", f"{path.name} must hold 1 to {MOST} entries [[feature]] and nothing else")
    found = [_definition(number, entry) for number, entry in enumerate(entries, 1)]
    names = [definition.name for definition in found]
    for name in names:
        if names.count(name) > 1:
            _refuse(name, "is defined more than once; a name stands for one feature")
    return found


def _refuse(name: str, what: str) -> NoReturn:
    refuse("bad_feature", f"feature {name}: {what}", name)


def _definition(number: int, entry: Any) -> Definition:
    if not isinstance(entry, dict) or not isinstance(name := entry.get("name"), str):
        refuse("bad_feature", f"feature number {number} has no name")
    if not NAME.fullmatch(name):
        _refuse(name, "name must be lower-case letters, digits and _, and be at most 60 long")
    if name == ROW_ID:
        _refuse(name, f"{ROW_ID} is what says which row it is; give the feature another name")
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        _refuse(name, f"kind is {kind!r}; known are {', '.join(KINDS)}")
    keys = [field.name for field in fields(KINDS[kind])]
    for key in entry:
        if key not in (*keys, "kind"):
            _refuse(name, f"{key} is not a key of {kind}; known are {', '.join(keys)}")
    for key in keys:
        if key not in entry:
            _refuse(name, f"{key} is missing; {kind} needs {', '.join(keys)}")
    try:
        return KINDS[kind](**{key: PARSERS.get(key, _text)(entry[key]) for key in keys})
    except (TypeError, ValueError) as problem:
        _refuse(name, str(problem))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} must be a text")
    return value


def _columns(value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise TypeError(f"by is {value!r}; it must be a list of columns")
    return [_text(column) for column in value]


def _part(value: Any) -> str:
    if value not in PARTS:
        raise ValueError(f"part is {value!r}; it must be one of {', '.join(PARTS)}")
    return value


def _zone(value: Any) -> str:
    if _text(value) not in available_timezones() - NO_PLACE:
        raise ValueError(f"zone is {value!r}; it must be a time zone of the IANA database, like America/New_York")
    return value


def _length(value: Any) -> timedelta:
    try:
        length = duration(_text(value))
    except ValueError as problem:
        raise ValueError(f"{value!r} {problem}") from None
    if not length:
        raise ValueError(f"{value!r} must be longer than nothing")
    return length


PARSERS: dict[str, Callable[[Any], Any]] = {
    "by": _columns, "part": _part, "zone": _zone, "max_age": _length, "window": _length,
}  # fmt: skip


def check_names(definition: Definition, usecase: UseCase, schema_of: Callable[[str], Mapping[str, Any]]) -> None:
    """Refuse a definition whose tables and columns do not exist or cannot be used in that way.

    `schema_of` gives the columns of a table of the use case, as they are in the data, and their Polars types.
    """

    def must_be_in(value: str, known: Iterable[str], what: str) -> None:
        if value not in known:
            _refuse(definition.name, f"{value} is not {what}; known are {', '.join(known)}")

    match definition:
        case Column(_, column) | Calendar(_, column):
            must_be_in(column, usecase.request, "a column of a row")
            if isinstance(definition, Calendar) and usecase.request[column].rstrip("?") != "timestamp":
                _refuse(definition.name, f"{column} is {usecase.request[column]}; a calendar needs a timestamp")
        case FromTable(_, name, by, column):
            must_be_in(name, usecase.tables, "a table of the use case")
            table, schema = usecase.tables[name], schema_of(name)
            labels = [LABEL] if name == usecase.entity_table else []
            must_be_in(column, [*schema, *labels], f"a column of {name}")
            for key in by:
                must_be_in(key, usecase.request, "a column of a row")
                must_be_in(key, schema, f"a column of {name}")
            if isinstance(definition, Lookup):
                if table.known_at:
                    _refuse(definition.name, f"{name} is not always known; use asof")
                if sorted(by) != sorted(table.key):
                    _refuse(definition.name, f"by must be the key of {name}: {', '.join(table.key)}")
            elif not (table.time and table.known_at):
                _refuse(definition.name, f"{name} has no history; use lookup")
            if isinstance(definition, Mean) and column not in labels and not _is_number(schema[column]):
                _refuse(definition.name, f"{column} is {schema[column]}; a mean needs numbers")


def _is_number(kind: Any) -> bool:
    return kind.is_numeric() or str(kind) in ("Boolean", "Null")  # Null: a column in which nothing is
