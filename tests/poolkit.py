"""Lay down the submissions that the grader is tested with: mutants, alternatives, attacks."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from grader import stages
from grader.engine import Plan, grade
from grader.overlays import checkpoint
from grader.sandbox import detect
from grader.verdict import Grade, Outcome

POOL = Path(__file__).parent / "pool"


@dataclass(frozen=True)
class Mutant:
    """A one-fault version of the reference, and the checks that must notice; those in `may` notice by chance."""

    stage: str
    name: str
    kills: frozenset[str]
    edits: tuple[dict[str, str], ...]
    files: dict[str, str]
    delete: tuple[str, ...]
    may: frozenset[str]

    def __str__(self) -> str:
        return f"{self.stage}-{self.name}"

    def lay_down(self, target: Path) -> None:
        checkpoint(self.stage, target)
        for edit in self.edits:
            _edit(target / edit["file"], edit["find"], edit["replace"])
        for name in self.delete:
            (target / name).unlink()
        for name, text in self.files.items():
            (target / name).write_text(text)


def mutants() -> list[Mutant]:
    found = []
    for path in sorted((POOL / "mutants").glob("*.toml")):
        for entry in tomllib.loads(path.read_text())["mutant"]:
            found.append(
                Mutant(
                    path.stem,
                    entry["name"],
                    frozenset(entry["kills"]),
                    tuple(entry.get("edits", ())),
                    entry.get("files", {}),
                    tuple(entry.get("delete", ())),
                    frozenset(entry.get("may", ())),
                )
            )
    return found


def _edit(path: Path, find: str, replace: str) -> None:
    """Replace a text that occurs exactly once; in a notebook, in the source of its cells."""
    if path.suffix != ".ipynb":
        text = path.read_text()
        assert text.count(find) == 1, f"{path.name}: {find!r} occurs {text.count(find)} times"
        path.write_text(text.replace(find, replace))
        return
    notebook = json.loads(path.read_text())
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    count = sum(source.count(find) for source in sources)
    assert count == 1, f"{path.name}: {find!r} occurs {count} times"
    for cell, source in zip(notebook["cells"], sources, strict=True):
        cell["source"] = source.replace(find, replace).splitlines(keepends=True)
    path.write_text(json.dumps(notebook))


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


def alternative(name: str, target: Path) -> None:
    """Lay down an independent right submission; one that goes on where others ended names them in a file BASE."""
    folder = POOL / "alternatives" / name
    if (base := folder / "BASE").exists():
        for line in base.read_text().splitlines():
            before, _, inside = line.partition(" ")
            alternative(before, target / inside)
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("BASE"), dirs_exist_ok=True)
