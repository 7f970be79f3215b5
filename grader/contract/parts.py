"""The words in which the contract is written down as data: columns, keys, files, arguments, commands, endpoints."""

from __future__ import annotations

from dataclasses import dataclass

from grader.contract.outputs import Output

IMPLEMENTED = (
    "01",
    "02",
    "03",
    "04",
    "05",
    "06",
    "07",
    "08",
    "09",
    "10",
    "11",
)  # stages whose part of the contract no longer changes


@dataclass(frozen=True)
class Column:
    """A column of a table; `known` says when its value may be used, `nullable` whether it may be missing."""

    name: str
    type: str
    meaning: str
    unit: str = ""
    known: str = "always"
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """A table as it is handed over: its files, what one row is, and the columns that tell rows apart."""

    name: str
    files: str
    row: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Key:
    """A key of a JSON object."""

    name: str
    type: str
    meaning: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Written:
    """A file that a command writes, from `stage` on: a table (`columns`), JSON (`keys` or `model`), or free."""

    path: str
    stage: str
    meaning: str
    columns: tuple[Column, ...] = ()
    keys: tuple[Key, ...] = ()
    model: type[Output] | None = None


@dataclass(frozen=True)
class Argument:
    """An option of a command and what stands in its place."""

    option: str
    placeholder: str
    meaning: str
    optional: bool = False


EXITS = (
    (0, "done; everything promised is written"),
    (2, "refused: what was given is wrong, and the refusal file says why"),
)


@dataclass(frozen=True)
class Command:
    """A command line that the manifest names, as it is called and what it promises."""

    name: str
    stage: str
    purpose: str
    arguments: tuple[Argument, ...] = ()
    writes: tuple[Written, ...] = ()
    exits: tuple[tuple[int, str], ...] = EXITS
    refuses: str = ""
    rules: tuple[str, ...] = ()
    later: tuple[tuple[str, str], ...] = ()  # (stage, what changes there)

    def usage(self) -> str:
        """The command as one line: its name and its options."""
        words = [f"{a.option} {a.placeholder}" if a.placeholder else a.option for a in self.arguments]
        return " ".join(
            [self.name, *(f"[{w}]" if a.optional else w for w, a in zip(words, self.arguments, strict=True))]
        )


@dataclass(frozen=True)
class Endpoint:
    """A request that `serve` answers."""

    method: str
    path: str
    stage: str
    purpose: str
    request: str = ""
    response: str = ""
    statuses: str = "200"


@dataclass(frozen=True)
class Variable:
    """An environment variable; `only` names the command that alone is given it."""

    name: str
    stage: str
    meaning: str
    only: str = ""


def implemented(stage: str) -> bool:
    """Whether the contract of a stage is settled."""
    return stage in IMPLEMENTED
