"""How far a learner is, as a plain text file in the workspace: the stage at work, hints taken, solutions looked at.

Imports only the standard library and plain data, so that hints come at once. Nothing here advances by itself: only `next` and
`goto` change the stage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from grader import __version__, workspace
from grader.reading import small_text, toml_of
from grader.stages import Stage, all_stages
from grader.verdict import write_atomically
from grader.workspace import STATE, Workspace

FILE = "progress.toml"
HEAD = "# Kept by mlekit. You may read it; `mlekit goto STAGE` changes the stage.\n"


@dataclass(frozen=True)
class Progress:
    """`stage` is the number of the stage at work (None: the first that is not complete).

    `hints` counts the hints taken by stage; `solutions` says when the solution of a stage was looked at before it was complete.
    """

    stage: str | None = None
    hints: Mapping[str, int] = field(default_factory=dict)
    solutions: Mapping[str, str] = field(default_factory=dict)
    kit: str = __version__

    def with_hint(self, stage: str, number: int) -> Progress:
        """The same after `number` hints of a stage have been taken; a number never goes down."""
        return replace(self, hints={**self.hints, stage: max(number, self.hints.get(stage, 0))})

    def to_toml(self) -> str:
        """The text of the file."""
        lines = [HEAD, f"kit = {json.dumps(self.kit)}"]
        if self.stage is not None:
            lines.append(f"stage = {json.dumps(self.stage)}")
        for name, table in (("hints", self.hints), ("solutions", self.solutions)):
            if table:
                lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in sorted(table.items()))]
        return "\n".join(lines) + "\n"


def path_of(mine: Workspace) -> Path:
    """Where the progress of a workspace is kept."""
    return mine.folder / STATE / FILE


def load(mine: Workspace) -> Progress:
    """The progress of a workspace; a damaged file is set aside with a notice, and what it said is found out anew."""
    path = path_of(mine)
    try:
        data = toml_of(small_text(path))
        hints, solutions = data.get("hints", {}), data.get("solutions", {})
        stage = data.get("stage")
        if not isinstance(stage, (str, type(None))) or not all(type(n) is int and n >= 0 for n in hints.values()):
            raise ValueError("not a progress file of this kit")
        return Progress(stage, hints, {str(k): str(v) for k, v in solutions.items()}, str(data["kit"]))
    except FileNotFoundError:
        return Progress()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        mine.notices.append(workspace.set_aside(path, "where you are is taken from your last checks"))
        return Progress()


def save(mine: Workspace, progress: Progress) -> None:
    """Write the progress so that nobody meets half of it. Raises OSError."""
    write_atomically(path_of(mine), replace(progress, kit=__version__).to_toml())


def current(mine: Workspace) -> Stage | None:
    """The stage at work: the one gone to last, else the first that is not complete; None when all are."""
    chosen = load(mine).stage
    known = {stage.id: stage for stage in all_stages()}
    if chosen in known:
        return known[chosen]
    return workspace.first_incomplete(mine, all_stages())
