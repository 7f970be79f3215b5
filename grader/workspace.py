"""A learner's folder: where it is, and the last verdict on each stage that `mlekit check` keeps in it.

Imports only the standard library and plain data, so that an unchanged check answers at once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from grader import __version__
from grader.reading import small_text, toml_of
from grader.stages import Stage
from grader.verdict import Grade, grade_from, write_atomically

STATE = ".mlekit"
FORMAT = 1


class NoWorkspace(ValueError):
    """The command was not given in a learner's folder; the message says how to get into one."""


@dataclass(frozen=True)
class Skipped:
    """What of a folder does not count, as it was when the verdict was stored."""

    folders: tuple[str, ...]
    endings: tuple[str, ...]


@dataclass(frozen=True)
class Stored:
    """The last check of a stage.

    `seed` stays until a fresh one is asked for; `key` names the kit and the stage's definition; `signature` stands for
    path, size and time of every file; `grade` is None while no verdict has been reached.
    """

    seed: int
    key: str
    at: str = ""
    signature: str = ""
    skipped: Skipped = Skipped((), ())
    grade: Grade | None = None

    @property
    def complete(self) -> bool:
        return self.grade is not None and any(stage.complete for stage in self.grade.stages)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Workspace:
    """A folder with [tool.mlekit] in its pyproject.toml, and the state kept in its `.mlekit/`.

    `notices` are sentences on what was found damaged.
    """

    folder: Path
    notices: list[str] = field(default_factory=list)

    @property
    def runs(self) -> Path:
        """Where finished runs are kept, so that a check goes on instead of starting over. Raises NoWorkspace."""
        return self.own(Path(STATE, "runs"))

    def state_file(self, stage: Stage) -> Path:
        return self.folder / STATE / f"check-{stage.id}.json"

    def load(self, stage: Stage) -> Stored | None:
        """The last check of a stage, if any; a damaged file is set aside with a notice."""
        path = self.state_file(stage)
        try:
            return _stored(json.loads(small_text(path)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.notices.append(set_aside(path, "the stage is checked anew"))
            return None

    def store(self, stage: Stage, stored: Stored) -> None:
        write_atomically(self.state_file(stage), stored.to_json())

    def own(self, relative: Path) -> Path:
        """A path below the workspace that may be written or removed. Raises NoWorkspace where a link leads elsewhere."""
        for part in (relative, *relative.parents):
            if (self.folder / part).is_symlink():
                raise NoWorkspace(
                    f"{self.folder / part} is a link; move it away, since what it leads to may not be ours"
                )
        return self.folder / relative

    def forget(self, stage: Stage) -> None:
        """Forget what was found of a stage, whose files are others now."""
        self.state_file(stage).unlink(missing_ok=True)

    def signature(self, skipped: Skipped) -> str:
        """A hash over path, size and time of change of every file that counts; nothing is opened."""
        digest = hashlib.sha256()
        for line in sorted(_lines(self.folder, str(self.folder), skipped)):
            digest.update(line)
        return digest.hexdigest()


def here() -> Workspace:
    """The workspace one is in. Raises NoWorkspace."""
    return find(cwd())


def cwd() -> Path:
    """The folder one is in. Raises NoWorkspace where it has been removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise NoWorkspace("the folder you are in is not there any more; change into one that is") from None


def find(start: Path) -> Workspace:
    """The workspace that `start` is in. Raises NoWorkspace."""
    for folder in (start, *start.parents):
        if _declares(folder / "pyproject.toml"):
            if (folder / STATE).is_symlink():
                raise NoWorkspace(
                    f"{folder / STATE} is a link; put a folder in its place, since files are written and removed there"
                )
            return Workspace(folder)
    raise NoWorkspace(
        f"{start} is not in a workspace: neither it nor a folder above has a pyproject.toml with [tool.mlekit]; "
        "change into yours, make one with `mlekit new DIR`, or grade a folder with `mlekit grade PATH`"
    )


def above(folder: Path) -> Workspace | None:
    """The workspace that a folder lies in, itself apart; None where there is none."""
    try:
        return find(Path(os.path.realpath(folder)).parent)
    except NoWorkspace:
        return None


def _declares(path: Path) -> bool:
    if (path.parent / STATE / "progress.toml").is_file():
        return True  # made by `new`: where its pyproject.toml is gone, the check says how to get it back
    try:
        table = toml_of(small_text(path))
    except (OSError, ValueError, RecursionError):
        return (
            path.is_file() and (path.parent / STATE).is_dir()
        )  # a broken one is still theirs: the check says what is wrong
    tool = table.get("tool")
    return isinstance(tool, dict) and "mlekit" in tool


def key(stage: Stage) -> str:
    """What a stored verdict depends on besides the submission: the kit and the stage's definition."""
    definition = hashlib.sha256((stage.folder / "stage.toml").read_bytes()).hexdigest()
    return f"{__version__} {definition}"


def unchanged(workspace: Workspace, stage: Stage, stored: Stored | None) -> bool:
    """Whether the stored verdict still stands without a look into any file."""
    return reusable(stage, stored) and stored is not None and workspace.signature(stored.skipped) == stored.signature


def reusable(stage: Stage, stored: Stored | None) -> bool:
    """Whether there is a verdict of this kit on this definition; one with something left open is tried again."""
    return stored is not None and stored.grade is not None and not stored.grade.provisional and stored.key == key(stage)


def first_incomplete(workspace: Workspace, stages: Iterable[Stage]) -> Stage | None:
    """The first stage whose last check did not find it complete."""
    for stage in stages:
        stored = workspace.load(stage)
        if stored is None or not stored.complete:
            return stage
    return None


def _lines(folder: Path | str, root: str, skipped: Skipped) -> Iterator[bytes]:
    with os.scandir(folder) as listing:
        for entry in listing:
            if entry.name.endswith(skipped.endings):
                continue
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in skipped.folders:
                    yield from _lines(entry.path, root, skipped)
            elif entry.is_file(follow_symlinks=False):
                found = entry.stat(follow_symlinks=False)
                yield os.fsencode(entry.path[len(root) :]) + f"\0{found.st_size}\0{found.st_mtime_ns}\n".encode()


def _stored(data: dict[str, Any]) -> Stored:
    if data["format"] != FORMAT or type(data["seed"]) is not int or not 0 <= data["seed"] < 2**63:
        raise ValueError("not a stored check of this kit")
    skipped = Skipped(*(tuple(map(str, data["skipped"][name])) for name in ("folders", "endings")))
    grade = None if data["grade"] is None else grade_from(data["grade"])
    return Stored(data["seed"], str(data["key"]), str(data["at"]), str(data["signature"]), skipped, grade)


def set_aside(path: Path, meaning: str) -> str:
    """Keep a damaged file under another name; returns the notice that says so."""
    aside = path.with_name(path.name + ".damaged")
    try:
        os.replace(path, aside)
    except OSError as problem:
        return f"{path} is damaged and cannot be moved away ({problem.strerror}); remove it"
    return f"{path} was damaged; it is now {aside.name}, and {meaning}"
