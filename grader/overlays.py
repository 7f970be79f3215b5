"""Stages as overlays: which files each stage adds or replaces, merged into checkpoints.

The reference solution is the merge of all solution overlays; `goto k` is the merge of those before k plus the starter of k.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from grader.stages import Stage, all_stages
from grader.submission import files_of


def overlay(stage: Stage, part: str) -> Iterator[tuple[Path, Path]]:
    """The files of one overlay (`starter` or `solution`): relative path and source."""
    folder = stage.folder / part
    if folder.is_dir():
        for path in files_of(folder):
            yield path.relative_to(folder), path


def lay_down(stage: Stage, part: str, target: Path) -> None:
    """Copy one overlay over `target`."""
    for relative, source in overlay(stage, part):
        copy = target / relative
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


def checkpoint(number: str, target: Path, starter: bool = False) -> None:
    """Lay down the solutions of all stages up to `number`; with `starter`, the starter of `number` instead of its solution."""
    for stage in all_stages():
        if stage.id < number or (stage.id == number and not starter):
            lay_down(stage, "solution", target)
        elif stage.id == number:
            lay_down(stage, "starter", target)


def provided_stages(submission: Path) -> frozenset[str]:
    """The stages whose solution stands in a submission byte for byte: work the kit laid down, which never counts.

    A stage counts as provided when each file of its overlay is equal to the kit's, as laid down by it or by a later
    starter or solution that replaces it.
    """
    latest: dict[Path, set[str]] = {}
    for stage in all_stages():
        for relative, source in overlay(stage, "starter"):
            if relative in latest:
                latest[relative].add(_digest(source))
        for relative, source in overlay(stage, "solution"):
            latest.setdefault(relative, set()).add(_digest(source))
    found = set()
    for stage in all_stages():
        mine = [relative for relative, _ in overlay(stage, "solution") if relative != Path("pyproject.toml")]
        if mine and all((submission / r).is_file() and _digest(submission / r) in latest[r] for r in mine):
            found.add(stage.id)
    return frozenset(found)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
