"""Answers that need nothing heavy: `list`, and a `check` of which nothing has changed.

Imports the standard library and the kit's plain data only; a test holds that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from grader import stages, workspace
from grader.report.terminal import check_report
from grader.report.text import Names, Style, clean
from grader.verdict import Grade

STATE_WIDTH = 11


def answer(argv: Sequence[str]) -> int | None:
    """The exit code if the command could be answered here, else None."""
    match list(argv):
        case ["list"]:
            return list_stages()
        case ["check", *rest] if len(words := [word for word in rest if word != "--json"]) <= 1:
            if not any(word.startswith("-") for word in words):
                return check_unchanged(words[0] if words else None, "--json" in rest)
    return None


def list_stages() -> int:
    """Print the stages: number, hours, title and what to do; in a workspace also where each stands."""
    try:
        mine = workspace.find(Path.cwd())
    except (workspace.NoWorkspace, OSError):
        mine = None
    style = Style.of(sys.stdout)
    for stage in stages.all_stages():
        state = f"{_state(mine, stage):<{STATE_WIDTH}}" if mine else ""
        lead = f"{stage.id}  {state}{stage.hours:g} h"
        indent = 4 + len(state) + 7
        for line in style.wrap(stage.title, indent, lead):
            print(line)
        for line in style.wrap(stage.todo, indent):
            print(line)
    notices(mine)
    return 0


def check_unchanged(name: str | None, as_json: bool) -> int | None:
    """Repeat the stored verdict if nothing has changed since; None where the check has to be run."""
    try:
        mine = workspace.find(Path.cwd())
        stage = stages.find(name) if name else workspace.first_incomplete(mine, stages.all_stages())
    except (workspace.NoWorkspace, stages.UnknownStage) as problem:
        return refuse(str(problem))
    if stage is None:
        notices(mine)
        return all_complete()
    stored = mine.load(stage)
    notices(mine)
    if stored is None or stored.grade is None or not workspace.unchanged(mine, stage, stored):
        return None
    return repeat(stored, as_json)


def repeat(stored: workspace.Stored, as_json: bool) -> int:
    """Print a stored verdict and since when it stands; returns the exit code of the check."""
    assert stored.grade is not None
    since = f"unchanged since {stored.at}; --fresh draws new data"
    if as_json:
        print(stored.grade.to_json(), end="")
        print(since, file=sys.stderr)
    else:
        show_check(stored.grade)
        print(since)
    return 0 if stored.complete else 1


def show_check(grade: Grade) -> None:
    """Print the report of a checked stage."""
    print(check_report(grade, stage_names(), Style.of(sys.stdout)), end="")


def stage_names() -> Names:
    """The names of the stages, for reports."""
    every = stages.all_stages()
    return Names(stages={s.id: s.title for s in every}, folders={s.id: s.folder.name for s in every})


def all_complete() -> int:
    """Say that there is nothing left to check."""
    print("All stages are complete. Name one to check it again, or grade everything on new data: mlekit grade .")
    return 0


def refuse(sentence: str) -> int:
    """Say in one sentence on stderr what is wrong with the command; returns the exit code for that."""
    print(f"mlekit: {clean(sentence)}", file=sys.stderr)
    return 2


def notices(mine: workspace.Workspace | None) -> None:
    """Say what of the workspace's state was damaged."""
    for sentence in mine.notices if mine else ():
        print(f"mlekit: {clean(sentence)}", file=sys.stderr)


def _state(mine: workspace.Workspace, stage: stages.Stage) -> str:
    stored = mine.load(stage)
    if stored is None or stored.grade is None:
        return "-"
    return "complete" if stored.complete else "begun"
