"""Lay files of the kit into a learner's folder without ever losing one of theirs.

Whatever would be replaced or moved away is first copied to `.mlekit/backups/`, and each file appears whole or not at all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from grader import home
from grader.overlays import overlay
from grader.stages import Stage, all_stages
from grader.workspace import STATE, Workspace

BRIEFS = "briefs"
BACKUPS = "backups"
DATA_MONTHS = 6  # of the real year, to work with; the grader brings its own
DATA_ROWS = 2_000
IGNORED = (
    "data/\nrows.parquet\nout/\nmlruns/\nmlartifacts/\nmlflow.db\n.mlekit/\n.venv/\n__pycache__/\n.ipynb_checkpoints/\n"
)


class NotPossible(ValueError):
    """The files cannot be laid down as asked; the message says why and what to do. Nothing has been changed."""


@dataclass
class Laid:
    """What was done: paths below the workspace.

    `aside` are files of the kit that lie beside the learner's own of the same name, which was kept; `left` are files of the learner
    in folders out of which files were moved away.
    """

    written: list[Path] = field(default_factory=list)
    replaced: list[Path] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    aside: list[Path] = field(default_factory=list)
    left: list[Path] = field(default_factory=list)
    backup: Path | None = None
    beside: Path | None = None  # the folder in which those aside lie


def starter(stage: Stage) -> dict[Path, Path]:
    """What a stage starts with, by path below the workspace."""
    return dict(overlay(stage, "starter"))


def checkpoint(stage: Stage) -> dict[Path, Path]:
    """Where someone stands who has solved all stages before this one: their solutions, and the starter of this one."""
    found: dict[Path, Path] = {}
    for one in all_stages():
        if one.id <= stage.id:
            found.update(overlay(one, "solution" if one.id < stage.id else "starter"))
    return found


def later_files(stage: Stage) -> set[Path]:
    """The files that only this stage's solution or a later stage brings; going back to the stage moves them away."""
    names = {
        p
        for one in all_stages()
        if one.id >= stage.id
        for part in ("starter", "solution")
        for p, _ in overlay(one, part)
    }
    return names - set(checkpoint(stage))


def add(mine: Workspace, stage: Stage) -> Laid:
    """Lay a stage's starter beside what is there: a file of the learner stays, and the kit's goes to `.mlekit/starters/`."""
    return _lay(mine.folder, starter(stage), set(), None, aside=Path(STATE, "starters", stage.folder.name))


def restore(mine: Workspace, files: Mapping[Path, Path], name: str, remove: Iterable[Path] = ()) -> Laid:
    """Make files as the kit has them, and move `remove` away; what was there before is kept in a backup called by `name`."""
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
    backup = Path(STATE, BACKUPS, f"{stamp}-{name}")
    number = 1
    while (mine.folder / backup).exists():
        number += 1
        backup = Path(STATE, BACKUPS, f"{stamp}-{name}-{number}")
    return _lay(mine.folder, files, set(remove), backup, aside=None)


def _lay(folder: Path, files: Mapping[Path, Path], remove: set[Path], backup: Path | None, aside: Path | None) -> Laid:
    laid = Laid(beside=aside)
    beside = [folder_ / "x" for folder_ in (backup, aside) if folder_ is not None]
    for relative in (*files, *remove, *beside):
        _possible(folder, relative)
    old = [p for p in files if os.path.lexists(folder / p) and not _same(folder / p, files[p])]
    gone = [p for p in sorted(remove) if os.path.lexists(folder / p)]
    try:
        if backup is not None and (old or gone):
            for relative in (*old, *gone, *_state(folder)):
                _copy(folder / relative, folder / backup / relative, with_times=True)
            laid.backup = backup
        for relative, source in files.items():
            if relative not in old:
                if not os.path.lexists(folder / relative):
                    _copy(source, folder / relative)
                    laid.written.append(relative)
            elif aside is not None:
                _copy(source, folder / aside / relative)
                laid.aside.append(relative)
            else:
                _copy(source, folder / relative)
                laid.replaced.append(relative)
        for relative in gone:
            (folder / relative).unlink()
            laid.removed.append(relative)
        laid.left = sorted(
            path.relative_to(folder)
            for parent in {folder / relative.parent for relative in gone} - {folder}
            for path in parent.glob("*")
            if path.is_file() and path.relative_to(folder) not in files
        )
    except OSError as problem:
        kept = f"; what was there is kept in {folder / laid.backup}" if laid.backup else ""
        raise NotPossible(f"{problem.filename or folder} cannot be written ({problem.strerror}){kept}") from None
    return laid


def check_briefs(mine: Workspace) -> None:
    """Find out before anything is changed whether the briefs can be laid down. Raises NotPossible."""
    for relative in _briefs():
        _possible(mine.folder, relative)


def add_briefs(mine: Workspace) -> Laid:
    """Lay down briefs that are not there yet; one that was changed stays, and the kit's goes to `.mlekit/starters/`."""
    return _lay(mine.folder, _briefs(), set(), None, aside=Path(STATE, "starters"))


def _possible(folder: Path, relative: Path) -> None:
    """Find out before anything is changed whether a path can be written below the workspace."""
    for parent in list(relative.parents)[:-1]:
        if (folder / parent).is_symlink() or ((folder / parent).exists() and not (folder / parent).is_dir()):
            raise NotPossible(f"{folder / parent} is a link or a file where a folder has to be; move it away first")
    if (folder / relative).is_dir() and not (folder / relative).is_symlink():
        raise NotPossible(f"{folder / relative} is a folder where a file has to be; move it away first")


def _state(folder: Path) -> list[Path]:
    """What is known of the learner's progress, to be brought back together with the files."""
    found = [*(folder / STATE).glob("check-*.json"), folder / STATE / "progress.toml"]
    return [path.relative_to(folder) for path in found if path.is_file() and not path.is_symlink()]


def _same(mine: Path, kits: Path) -> bool:
    return mine.is_file() and not mine.is_symlink() and mine.read_bytes() == kits.read_bytes()


def _copy(source: Path, target: Path, with_times: bool = False) -> None:
    """Copy a file so that nobody meets half of it; a link is copied as a link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        (shutil.copy2 if with_times else shutil.copyfile)(source, partial, follow_symlinks=False)
        os.replace(partial, target)
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, str(target)) from None
    finally:
        partial.unlink(missing_ok=True)


def _briefs() -> dict[Path, Path]:
    """The texts a learner reads, by path below the workspace: briefs, the map and the contract, their links intact."""
    exercises = home.exercises()
    found = [exercises / "README.md", exercises / "CONTRACT.md", *sorted((exercises / "schemas").glob("*.json"))]
    found += [stage.folder / "README.md" for stage in all_stages()]
    return {Path(BRIEFS, source.relative_to(exercises)): source for source in found}


def data(target: Path) -> None:
    """Lay down flights of the real year to work with: six months to learn from, and rows of the seventh to score."""
    from grader.world import build, draw_rows, write_data

    world = build()
    write_data(world, target / "data", world.months[:DATA_MONTHS])
    rows = draw_rows(world, world.months[DATA_MONTHS : DATA_MONTHS + 1], DATA_ROWS, "workspace", careless=True)
    rows.write(target / "rows.parquet")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to fill that becomes `target` when all went well, and leaves nothing when it did not. Raises OSError.

    `target` must not be there, or be empty.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        partial.chmod(0o755)
        yield partial
        if target.is_dir():
            target.rmdir()
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def make(target: Path, stage: Stage, workflow: str) -> None:
    """Make a new workspace at `stage`, whole or not at all. Raises NotPossible."""
    from grader import progress

    if os.path.lexists(target) and (not target.is_dir() or any(target.iterdir())):
        raise NotPossible(f"{target} is there already; give a folder that is not there yet, or is empty")
    try:
        with whole_folder(target) as partial:
            for relative, source in {**checkpoint(stage), **_briefs()}.items():
                _copy(source, partial / relative)
            (partial / ".gitignore").write_text(IGNORED, encoding="utf-8")
            (partial / ".github" / "workflows").mkdir(parents=True)
            (partial / ".github" / "workflows" / "mlekit.yml").write_text(workflow, encoding="utf-8")
            data(partial)
            progress.save(Workspace(partial), progress.Progress(stage=stage.id))
    except OSError as problem:
        raise NotPossible(f"{target} cannot be made ({problem.strerror}); give a place where you can write") from None
