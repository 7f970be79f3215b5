"""The rubric as data: rows, and in each row one cell a level, read from `rubric.toml` or a file of the same shape."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

BUILT_IN = Path(__file__).with_name("rubric.toml")
MACHINE = ("full", "partly", "none")
CELL_KEYS = ("text", "machine", "check", "question")
ROW_KEYS = ("id", "category", "title")


class RubricProblem(ValueError):
    """The rubric cannot be used; the message names the file, the key, what it holds and what is allowed."""


@dataclass(frozen=True)
class Cell:
    """One level of one row: what it asks, what a machine verifies of it, and the question for a person.

    `machine` says how much of `text` checks can verify: full, partly or none. `anchor` is what a good answer to
    `question` holds; it may be empty.
    """

    row: str
    level: str
    text: str
    machine: str
    check: str
    question: str
    anchor: str = ""


@dataclass(frozen=True)
class Row:
    """One row of the rubric, with its cells in the order of the levels; reports show `headline` rows first."""

    id: str
    category: str
    title: str
    headline: bool
    cells: tuple[Cell, ...]

    def cell(self, level: str) -> Cell:
        return next(cell for cell in self.cells if cell.level == level)


@dataclass(frozen=True)
class Rubric:
    """Levels in order, lowest first, and rows in the order of the file."""

    levels: tuple[str, ...]
    rows: tuple[Row, ...]

    def row(self, id: str) -> Row:
        return next(row for row in self.rows if row.id == id)

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(cell for row in self.rows for cell in row.cells)


def load(path: Path | None = None) -> Rubric:
    """The rubric in `path`, or the kit's own; raises RubricProblem with a sentence for a person.

    A file may have any rows and any level names. To compute levels with it, its level names have to be those that
    checks are tagged with (`grader.rubric.levels.assess` says so where they are not).
    """
    return _built_in() if path is None else _read(path)


@lru_cache(maxsize=1)
def _built_in() -> Rubric:
    return _read(BUILT_IN)


def _read(path: Path) -> Rubric:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise RubricProblem(f"{path} cannot be read: {problem}") from None
    except tomllib.TOMLDecodeError as problem:
        raise RubricProblem(f"{path} is not TOML: {problem}") from None
    try:
        return _rubric(data)
    except RubricProblem as problem:
        raise RubricProblem(f"{path}: {problem}") from None


def _rubric(data: dict[str, Any]) -> Rubric:
    _only(data, ("levels", "row"), (), "the file")
    levels = data["levels"]
    if not isinstance(levels, list) or not levels or not all(isinstance(x, str) and x.strip() for x in levels):
        raise RubricProblem(f"levels is {levels!r}; it is a list of at least one name, lowest level first")
    _distinct(levels, "levels")
    taken = sorted({*ROW_KEYS, "headline"} & set(levels))
    if taken:
        raise RubricProblem(f"levels holds {taken[0]!r}, which is a key of a row; a level needs another name")
    rows = data["row"]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise RubricProblem("row is not a list of tables; write one [[row]] for each row, and at least one")
    made = tuple(_row(row, number, tuple(levels)) for number, row in enumerate(rows, 1))
    _distinct([row.id for row in made], "row.id")
    return Rubric(tuple(levels), made)


def _row(data: dict[str, Any], number: int, levels: tuple[str, ...]) -> Row:
    where = f"row {data.get('id', f'number {number}')}"
    _only(data, (*ROW_KEYS, *levels), ("headline",), where)
    words = {key: _words(data, key, where) for key in ROW_KEYS}
    headline = data.get("headline", False)
    if not isinstance(headline, bool):
        raise RubricProblem(f"{where}: headline is {headline!r}; allowed are true and false")
    cells = tuple(_cell(data[level], words["id"], level) for level in levels)
    return Row(**words, headline=headline, cells=cells)


def _cell(data: Any, row: str, level: str) -> Cell:
    where = f"row {row}, {level}"
    if not isinstance(data, dict):
        raise RubricProblem(f"{where} is {data!r}; it is a table with {_list(CELL_KEYS)}")
    _only(data, CELL_KEYS, ("anchor",), where)
    if data["machine"] not in MACHINE:
        raise RubricProblem(f"{where}: machine is {data['machine']!r}; allowed are {_list(MACHINE)}")
    words = {key: _words(data, key, where) for key in ("text", "question")}
    words |= {key: _words(data, key, where, empty=True) for key in ("check", "anchor")}
    if bool(words["check"]) == (data["machine"] == "none"):
        raise RubricProblem(
            f"{where}: machine is {data['machine']!r} and check is {words['check']!r}; "
            "check is empty exactly where machine is 'none'"
        )
    return Cell(row=row, level=level, machine=data["machine"], **words)


def _words(data: dict[str, Any], key: str, where: str, empty: bool = False) -> str:
    value = data.get(key, "")
    if not isinstance(value, str) or not (empty or value.strip()):
        raise RubricProblem(f"{where}: {key} is {value!r}; it is {'text' if empty else 'text that is not empty'}")
    return value.strip()


def _only(data: dict[str, Any], needed: tuple[str, ...], optional: tuple[str, ...], where: str) -> None:
    allowed = _list((*needed, *optional))
    for key in needed:
        if key not in data:
            raise RubricProblem(f"{where} has no {key!r}; its keys are {allowed}")
    for key in data:
        if key not in (*needed, *optional):
            raise RubricProblem(f"{where} has the unknown key {key!r}; its keys are {allowed}")


def _distinct(names: list[str], key: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise RubricProblem(f"{key} holds {name!r} more than once; each name is allowed once")


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names)
