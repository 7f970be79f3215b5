"""Answers that need nothing heavy: `list`, `hint`, `next`, and a `check` of which nothing has changed.

Imports the standard library and the kit's plain data only; a test holds that.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from grader import hints, progress, stages, workspace
from grader.report.terminal import check_report, completeness
from grader.report.text import BOLD, Names, Style, clean, minutes
from grader.verdict import CheckResult, CheckSpec, Grade, Outcome

STATE_WIDTH = 19
LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
ITEM = re.compile(r"(?:-|\d+\.) ")


def answer(argv: Sequence[str]) -> int | None:
    """The exit code if the command could be answered here, else None."""
    match list(argv):
        case ["list"] | ["list", "--json"]:
            return list_stages("--json" in argv)
        case ["hint"] | ["hint", _] if not argv[-1].startswith("-"):
            return hint(argv[1] if len(argv) > 1 else None, False, False)
        case ["next"]:
            try:
                return next_step(workspace.here(), False)
            except workspace.NoWorkspace as problem:
                return refuse(str(problem))
        case ["check", *rest] if len(words := [word for word in rest if word != "--json"]) <= 1:
            if not any(word.startswith("-") for word in words):
                return check_unchanged(words[0] if words else None, "--json" in rest)
    return None


def list_stages(as_json: bool = False) -> int:
    """Print the stages: number, hours, title and what to do; in a workspace also where each stands."""
    try:
        mine = workspace.here()
    except workspace.NoWorkspace:
        mine = None
    style = Style.of(sys.stdout)
    here = progress.current(mine) if mine else None
    if as_json:
        rows = [
            {"stage": s.id, "name": s.name, "title": s.title, "todo": s.todo, "hours": s.hours, "here": s == here,
             "state": _state(mine, s, False) if mine else None}
            for s in stages.all_stages()
        ]  # fmt: skip
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        notices(mine)
        return 0
    for stage in stages.all_stages():
        state = f"{_state(mine, stage, stage == here):<{STATE_WIDTH}}" if mine else ""
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
        mine = workspace.here()
        stage = stages.find(name) if name else progress.current(mine)
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
    since = f"unchanged since {clean(stored.at)}; --fresh draws new data"
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
    step = first_to_mend(grade)
    if step is not None:
        show(f"Next: mlekit hint {step.id}, or mlekit why {step.id}")
    elif grade.stages and all(stage.complete for stage in grade.stages):
        show(f"Next: mlekit next, or the kit's solution explained: mlekit solution {grade.stages[0].id}")


def stage_names() -> Names:
    """The names of the stages, for reports."""
    every = stages.all_stages()
    return Names(stages={s.id: s.title for s in every}, folders={s.id: s.folder.name for s in every})


def all_complete() -> int:
    """Say that there is nothing left to check."""
    show("All stages are complete. Name one to check it again, or grade everything on new data: mlekit grade .")
    return 0


def refuse(sentence: str) -> int:
    """Say in one sentence on stderr what is wrong with the command; returns the exit code for that."""
    print(f"mlekit: {clean(sentence)}", file=sys.stderr)
    return 2


def notices(mine: workspace.Workspace | None) -> None:
    """Say what of the workspace's state was damaged."""
    for sentence in mine.notices if mine else ():
        print(f"mlekit: {clean(sentence)}", file=sys.stderr)


def _state(mine: workspace.Workspace, stage: stages.Stage, here: bool) -> str:
    stored = mine.load(stage)
    word = "-" if stored is None or stored.grade is None else "complete" if stored.complete else "begun"
    if stored is not None and stored.complete and here and not workspace.unchanged(mine, stage, stored):
        word = "changed"
    return f"{word} (here)" if here else word


def next_step(mine: workspace.Workspace, as_json: bool) -> int | None:
    """Say what to do next in the stage at work; None where it is complete and there is something new to lay down."""
    stage = progress.current(mine)
    if stage is None:
        notices(mine)
        return all_complete()
    stored = mine.load(stage)
    if stored is not None and stored.complete and not workspace.unchanged(mine, stage, stored):
        show(
            f"{stage.folder.name} was complete at {clean(stored.at)}; files have changed since. Check again: mlekit check"
        )
        return 0
    if stored is not None and stored.complete:
        return None if as_json or stage != stages.all_stages()[-1] else _at_the_end(mine, stage)
    notices(mine)
    brief = f"briefs/{stage.folder.name}/README.md"
    step = first_to_mend(stored.grade) if stored and stored.grade else None
    if as_json:
        check = {"check": step.id, "title": step.title, "minutes": step.effort} if step else {"check": None}
        print(json.dumps({"stage": stage.id, "complete": False, **check, "brief": brief}))
        return 0
    if stored is None or stored.grade is None:
        show(f"You are at {stage.folder.name}: {stage.title}. {stage.todo}", "", f"Read {brief}, then: mlekit check")
        return 0
    if not workspace.unchanged(mine, stage, stored):
        show(
            f"Files have changed since you checked at {clean(stored.at)}; this was so before: mlekit check looks again",
            "",
        )
    show(completeness(stored.grade, stage.id, stage_names()))
    if step is not None:
        show(
            "", f"Next: {step.title} ({step.id}, {minutes(step.effort)}).", step.reason, "",
            f"  mlekit hint {step.id}", f"  mlekit why {step.id}", "  mlekit check",
        )  # fmt: skip
    return 0


def _at_the_end(mine: workspace.Workspace, stage: stages.Stage) -> int:
    """Say that no further stage is there, and which of those before are open."""
    open_ = [one for one in stages.all_stages() if not ((stored := mine.load(one)) and stored.complete)]
    if not open_:
        return all_complete()
    from grader.overlays import provided_stages  # late: it reads every file of the stages

    provided = provided_stages(mine.folder)
    skipped = [one for one in open_ if one.id in provided]
    yours = [one for one in open_ if one not in skipped]
    show(f"{stage.folder.name} is complete, and the last stage that is there.")
    if yours:
        show(f"Not checked or not complete: {_folders(yours)}.")
    if skipped:
        show(f"Skipped with goto, so the kit's work stands there: {_folders(skipped)}.")
    show(f"Next: mlekit check {yours[0].id}" if yours else f"To do one yourself: mlekit goto {skipped[0].id}")
    return 0


def _folders(some: list[stages.Stage]) -> str:
    return ", ".join(one.folder.name for one in some)


def first_to_mend(grade: Grade) -> CheckResult | None:
    """The check to look at first: a required one that fails, before one that waits for it, before the others."""
    order = {Outcome.FAIL: 0, Outcome.BLOCKED: 1}
    open_ = [check for check in grade.checks if check.outcome in order]
    return min(open_, key=lambda c: (not (c.required or c.critical), order[c.outcome]), default=None)


def hint(name: str | None, again: bool, as_json: bool) -> int:
    """Print one more hint of a stage, or the hint for a check; returns the exit code."""
    try:
        mine = workspace.here()
    except workspace.NoWorkspace as problem:
        return refuse(str(problem))
    check = find_check(name) if name else None
    try:
        stage = stages.find(check.stage if check else name) if name else progress.current(mine)
    except stages.UnknownStage:
        return refuse(unknown_check(name or ""))
    if stage is None:
        return all_complete()
    if check:
        found = hints.of_check(stage, check.id)
        if found is None:
            return refuse(f"there is no hint for {check.id}; try `mlekit hint {stage.id}`")
        return _show_hints(stage, [found], "", as_json)
    every, state = hints.of_stage(stage), progress.load(mine)
    taken = state.hints.get(stage.id, 0)
    if not every:
        return refuse(f"{stage.folder.name} has no hints")
    if again or taken >= len(every):
        chosen = every[:taken] if again else every[-1:]
        if not chosen:
            return refuse(f"no hint of {stage.folder.name} has been taken yet; `mlekit hint` shows the first")
    else:
        chosen = every[taken : taken + 1]
        try:
            progress.save(mine, state.with_hint(stage.id, taken + 1))
        except OSError as problem:
            print(f"mlekit: the hint cannot be counted ({problem.strerror})", file=sys.stderr)
    notices(mine)
    last = chosen[-1].number or 0
    more = "`mlekit hint` tells more" if last < len(every) else "That was the last; `mlekit hint --again` repeats all"
    failing = mine.load(stage)
    step = first_to_mend(failing.grade) if failing and failing.grade else None
    return _show_hints(stage, chosen, f"{more}. For one check: mlekit hint {step.id if step else 'CHECK'}", as_json)


def find_check(name: str) -> CheckSpec | None:
    """The check of this id, or the only one whose id ends so."""
    every = stages.all_checks()
    ends = [one for one in every if one.id.partition(".")[2] == name]
    return next((one for one in every if one.id == name), ends[0] if len(ends) == 1 else None)


def unknown_check(name: str) -> str:
    """What to say where no check is called so: the nearest names, else all of the nearest stage."""
    import difflib

    known = [one.id for one in stages.all_checks()]
    near = difflib.get_close_matches(name, [*known, *(one.partition(".")[2] for one in known)], 3)
    if near:
        return f"there is no check {name!r}; did you mean {' or '.join(near)}?"
    return f"there is no check {name!r}; the checks are {', '.join(known)}"


def _show_hints(stage: stages.Stage, found: Sequence[hints.Hint], more: str, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"stage": stage.id, "hints": [{"title": h.title, "text": h.text} for h in found]}))
        return 0
    style, of = Style.of(sys.stdout), len(hints.of_stage(stage))
    for one in found:
        lead = f"{stage.folder.name}, hint {one.number} of {of}: " if one.number else ""
        print("\n".join(style.paint(line, BOLD) for line in style.wrap(lead + one.title)))
        print()
        for line in prose(one.text, style):
            print(line)
        print()
    if more:
        show(more)
    return 0


def prose(text: str, style: Style) -> Iterator[str]:
    """Markdown paragraphs wrapped to the page; code and lists keep their lines."""
    for number, block in enumerate(text.split("```")):
        if number % 2:
            yield from (f"    {line}" for line in block.splitlines()[1:])
            yield ""
            continue
        for paragraph in (part.strip("\n") for part in block.split("\n\n") if part.strip()):
            yield from _paragraph(LINK.sub(r"\1", paragraph), style)
            yield ""


def _paragraph(text: str, style: Style) -> Iterator[str]:
    """A paragraph, a heading, a table as it is, or the items of a list with their lines hanging."""
    if text.startswith("#"):
        yield from (style.paint(line, BOLD) for line in style.wrap(text.lstrip("# ")))
    elif text.startswith("|"):
        yield from text.splitlines()
    elif ITEM.match(text):
        for item in re.split(r"\n(?=(?:-|\d+\.) )", text):
            mark, _, rest = item.partition(" ")
            yield from style.wrap(rest, len(mark) + 1, mark)
    else:
        yield from style.wrap(text)


def show(*paragraphs: str) -> None:
    """Print sentences wrapped to the page; a line that starts with a space keeps its shape."""
    style = Style.of(sys.stdout)
    for text in paragraphs:
        print(text if text.startswith(" ") else "\n".join(style.wrap(text)))


@contextmanager
def working(on: str) -> Iterator[None]:
    """Say in a terminal what is going on meanwhile."""
    live = sys.stderr.isatty()
    if live:
        print(f"{on} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
