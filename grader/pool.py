"""The pool: submissions whose verdict is known beforehand, which the grader is tested with.

Right ones are the reference, variants (the reference with one change that the contract allows) and alternatives of other design.
Wrong ones are mutants (the reference with one fault, and the checks that must notice it), attacks (made to deceive or harm the
grader), starters, and a submission of nothing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from grader import home, stages
from grader.overlays import checkpoint

EMPTY = "[tool.mlekit]\ncontract = 1\n"


class Kind(StrEnum):
    """What a submission of the pool is."""

    REFERENCE = "reference"
    VARIANT = "variant"
    ALTERNATIVE = "alternative"
    MUTANT = "mutant"
    ATTACK = "attack"
    STARTER = "starter"
    NOTHING = "nothing"

    @property
    def right(self) -> bool:
        return self in (Kind.REFERENCE, Kind.VARIANT, Kind.ALTERNATIVE)


@dataclass(frozen=True)
class Entry:
    """One submission for one stage.

    Attributes
    ----------
    kills : checks that must notice it; an attack or a starter need not name all that do.
    may : checks that notice by chance, or for another reason.
    earns : checks that an attack may pass at most; None where nothing is said of that.
    family : what an attack goes against.
    seconds : the time limit of one command, where the usual one would only be waited for.
    """

    kind: Kind
    stage: str
    name: str
    kills: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()
    earns: frozenset[str] | None = None
    family: str = ""
    seconds: float | None = None
    edits: tuple[tuple[str, str, str], ...] = ()  # file, what to find, what to put there
    files: tuple[tuple[str, str], ...] = ()
    delete: tuple[str, ...] = ()
    folder: str = ""  # below the pool, for those that are files

    def __str__(self) -> str:
        if self.kind in (Kind.MUTANT, Kind.VARIANT):
            return f"{self.stage}-{self.name}"
        return self.name if self.kind in (Kind.ALTERNATIVE, Kind.ATTACK) else f"{self.kind} {self.stage}"

    @property
    def seed(self) -> int:
        """The world it is graded in unless one is given: its own, the same in every run."""
        return zlib.crc32(str(self).encode())

    @cached_property
    def digest(self) -> str:
        """What tells whether it is still the same submission, whatever is expected of it."""
        made_of = (self.kind.value, self.stage, self.name, self.seconds, self.edits, self.files, self.delete)
        found = hashlib.sha256(repr(made_of).encode())
        for path in sorted(self._folders()):
            for file in sorted(path.rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    found.update(str(file.relative_to(path)).encode() + file.read_bytes())
        return found.hexdigest()[:16]

    def _folders(self) -> Iterator[Path]:
        if self.kind is Kind.ALTERNATIVE:
            yield from (home.pool() / "alternatives" / name for name, _ in _layers(self.name))
        elif self.folder:
            yield home.pool() / self.folder

    def lay_down(self, target: Path) -> None:
        """Write it into a new folder."""
        target.mkdir(parents=True, exist_ok=True)
        match self.kind:
            case Kind.REFERENCE | Kind.STARTER:
                checkpoint(self.stage, target, starter=self.kind is Kind.STARTER)
            case Kind.ALTERNATIVE:
                for name, inside in reversed(list(_layers(self.name))):
                    source = home.pool() / "alternatives" / name
                    shutil.copytree(
                        source,
                        target / inside,
                        ignore=shutil.ignore_patterns("BASE", "__pycache__"),
                        dirs_exist_ok=True,
                    )
            case Kind.NOTHING:
                (target / "pyproject.toml").write_text(EMPTY)
            case _ if self.folder:
                shutil.copytree(home.pool() / self.folder, target, symlinks=True, dirs_exist_ok=True)
            case _:
                checkpoint(self.stage, target)
        for file, find, replace in self.edits:
            _edit(target / file, find, replace)
        for file in self.delete:
            (target / file).unlink()
        for file, text in self.files:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            (target / file).write_text(text)


def entries() -> list[Entry]:
    """All of the pool, by stage."""
    found = [*mutants(), *variants(), *attacks(), *alternatives()]
    for stage in stages.all_stages():
        found += [
            Entry(Kind.REFERENCE, stage.id, stage.id),
            Entry(Kind.STARTER, stage.id, stage.id),
            Entry(Kind.NOTHING, stage.id, stage.id),
        ]
    return sorted(found, key=lambda entry: (entry.stage, list(Kind).index(entry.kind), entry.name))


def mutants() -> list[Entry]:
    return _changed(Kind.MUTANT)


def variants() -> list[Entry]:
    return _changed(Kind.VARIANT)


def _changed(kind: Kind) -> list[Entry]:
    """Those that are changes of the reference, a file for each stage."""
    return [
        _made(kind, path.stem, told)
        for path in sorted((home.pool() / f"{kind}s").glob("*.toml"))
        for told in tomllib.loads(path.read_text(encoding="utf-8"))[kind]
    ]


def attacks() -> list[Entry]:
    return [
        _made(Kind.ATTACK, told["stage"], told)
        for told in tomllib.loads((home.pool() / "attacks.toml").read_text(encoding="utf-8"))["attack"]
    ]


def alternatives() -> list[Entry]:
    """Right submissions by other hands; one that goes on where others ended names them in a file BASE."""
    return [
        Entry(Kind.ALTERNATIVE, path.name[:2], path.name)
        for path in sorted((home.pool() / "alternatives").iterdir())
        if path.is_dir()
    ]


def _made(kind: Kind, stage: str, told: dict[str, Any]) -> Entry:
    return Entry(
        kind, stage, told["name"], frozenset(told.get("kills", ())), frozenset(told.get("may", ())),
        frozenset(told["earns"]) if "earns" in told else None, told.get("family", ""), told.get("seconds"),
        tuple((edit["file"], edit["find"], edit["replace"]) for edit in told.get("edits", ())),
        tuple(told.get("files", {}).items()), tuple(told.get("delete", ())), told.get("folder", ""),
    )  # fmt: skip


def _layers(name: str, inside: str = "") -> Iterator[tuple[str, str]]:
    """An alternative and those that it is laid over, each with its folder."""
    yield name, inside
    base = home.pool() / "alternatives" / name / "BASE"
    for line in reversed(base.read_text(encoding="utf-8").splitlines() if base.exists() else []):
        before, _, below = line.partition(" ")
        yield from _layers(before, str(Path(inside, below)))


def _edit(path: Path, find: str, replace: str) -> None:
    """Replace a text that occurs exactly once; in a notebook, in the source of its cells."""
    if path.suffix != ".ipynb":
        text = path.read_text(encoding="utf-8")
        assert text.count(find) == 1, f"{path.name}: {find!r} occurs {text.count(find)} times"
        path.write_text(text.replace(find, replace), encoding="utf-8")
        return
    notebook = json.loads(path.read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    count = sum(source.count(find) for source in sources)
    assert count == 1, f"{path.name}: {find!r} occurs {count} times"
    for cell, source in zip(notebook["cells"], sources, strict=True):
        cell["source"] = source.replace(find, replace).splitlines(keepends=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")
