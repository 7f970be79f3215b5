"""The commands of a learner: make a workspace, move between stages, ask for a hint, a reason or the solution, watch, doctor."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from grader.laying import Laid
    from grader.stages import Stage
    from grader.workspace import Workspace

JsonOption = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


def _stage_names(incomplete: str) -> list[str]:
    from grader import stages

    return [one.folder.name for one in stages.all_stages() if one.folder.name.startswith(incomplete)]


def _check_names(incomplete: str) -> list[str]:
    from grader import stages

    return [check.id for check in stages.all_checks() if check.id.startswith(incomplete)]


def _fault_names(incomplete: str) -> list[str]:
    from grader.faults import FAULTS

    return [name for name in FAULTS if name.startswith(incomplete)]


StageArgument = Annotated[
    str | None,
    typer.Argument(help="01 or baseline; without it the stage you are at.", autocompletion=_stage_names),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line, in the order in which a learner meets them."""
    for name, function in (
        ("new", new), ("next", next_step), ("hint", hint), ("why", why), ("watch", watch), ("goto", goto), ("reset", reset),
        ("solution", solution), ("break", break_), ("doctor", doctor),
    ):  # fmt: skip
        app.command(name)(function)


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet.")],
    stage: Annotated[str, typer.Option(help="Start at this stage, on the kit's work for those before.")] = "01",
    inside: Annotated[bool, typer.Option("--inside", help="Make it although DIR lies in another workspace.")] = False,
) -> None:
    """Make a workspace: the first notebook, the briefs, flights to work with, and a workflow for GitHub."""
    from grader import fast, laying, stages, workspace
    from grader.cli import Refused

    chosen, target = stages.find(stage), workspace.cwd() / os.path.normpath(folder)
    above = workspace.above(target)
    if above is not None and not inside:
        raise Refused(
            f"{folder} would lie in the workspace {above.folder} and become part of that submission; choose a folder outside, "
            "or give --inside"
        )
    with fast.working("laying down files and six months of flights"):
        try:
            laying.make(target, chosen, _workflow())
        except laying.NotPossible as problem:
            raise Refused(str(problem)) from None
    fast.show(
        f"{folder} is your workspace, at {chosen.folder.name}: {chosen.title}.",
        "",
        f"  cd {_quoted(folder)}",
        f"  open {laying.BRIEFS}/{chosen.folder.name}/README.md{_begin(chosen)}",
        "  mlekit check           run the checks of the stage",
        "  mlekit watch           the same at every change",
        "  mlekit hint            when you are stuck, one more each time",
        "  mlekit next            what to do next, at any time",
    )


def _begin(stage: Stage) -> str:
    from grader import laying

    first = next((path for path in sorted(laying.starter(stage)) if path.suffix == ".ipynb"), None)
    return f", then {first}" if first else ""


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))


def _workflow() -> str:
    from importlib.resources import files

    from grader import __version__

    return (files("grader") / "workflow.yml").read_text(encoding="utf-8").replace("@VERSION@", __version__)


def next_step(as_json: JsonOption = False) -> None:
    """Say what to do next; when the stage is complete, lay down what the next one starts from."""
    from grader import fast, laying, progress, stages, workspace

    mine = workspace.here()
    answered = fast.next_step(mine, as_json)
    if answered is not None:
        raise typer.Exit(answered)
    stage = progress.current(mine)
    following = next((one for one in stages.all_stages() if stage is not None and one.id > stage.id), None)
    if stage is None or following is None:
        raise typer.Exit(fast.all_complete())
    laid = _laid(mine, lambda: laying.add(mine, following))
    _arrive(mine, following, laid, as_json)


def goto(
    stage: Annotated[str, typer.Argument(help="01 or baseline.", autocompletion=_stage_names)],
    as_json: JsonOption = False,
) -> None:
    """Start a stage from the kit's work for all before it; your own files are kept in a backup."""
    from grader import laying, stages, workspace

    mine, chosen = workspace.here(), stages.find(stage)
    name = f"goto-{chosen.folder.name}"
    laid = _laid(mine, lambda: laying.restore(mine, laying.checkpoint(chosen), name, laying.later_files(chosen)))
    for one in stages.all_stages():
        if one.id >= chosen.id:
            mine.forget(one)
    _arrive(mine, chosen, laid, as_json)


def reset(stage: StageArgument = None, as_json: JsonOption = False) -> None:
    """Lay down what the stage started with; your own files are kept in a backup."""
    from grader import laying, workspace

    mine = workspace.here()
    chosen = _chosen(mine, stage)
    files = laying.starter(chosen)
    if not (mine.folder / "pyproject.toml").exists():
        files |= {p: s for p, s in laying.checkpoint(chosen).items() if p.name == "pyproject.toml"}
    laid = _laid(mine, lambda: laying.restore(mine, files, f"reset-{chosen.folder.name}"))
    mine.forget(chosen)
    _tell(mine, chosen, laid, as_json, [f"{chosen.folder.name} is as it started. Check it: mlekit check {chosen.id}"])


def _laid(mine: Workspace, lay: Callable[[], Laid]) -> Laid:
    from grader import laying
    from grader.cli import Refused, unwritable

    try:
        laying.check_briefs(mine)
        laid = lay()
        laying.add_briefs(mine)
    except laying.NotPossible as problem:
        raise Refused(str(problem)) from None
    except OSError as problem:
        raise Refused(unwritable(mine.folder, problem)) from None
    return laid


def _arrive(mine: Workspace, stage: Stage, laid: Laid, as_json: bool) -> None:
    """Note that this is the stage at work, and say where to begin."""
    from dataclasses import replace

    from grader import laying, progress

    progress.save(mine, replace(progress.load(mine), stage=stage.id))
    said = [
        f"You are at {stage.folder.name}: {stage.title} (about {stage.hours:g} h).",
        f"Read {laying.BRIEFS}/{stage.folder.name}/README.md{_begin(stage)}; check it: mlekit check",
    ]
    _tell(mine, stage, laid, as_json, said)


def _tell(mine: Workspace, stage: Stage, laid: Laid, as_json: bool, said: Sequence[str]) -> None:
    from grader import fast

    if as_json:
        lists = {n: [str(p) for p in getattr(laid, n)] for n in ("written", "replaced", "removed", "aside")}
        typer.echo(json.dumps({"stage": stage.id, **lists, "backup": str(laid.backup) if laid.backup else None}))
        return
    for verb, paths in (("new", laid.written), ("replaced", laid.replaced), ("moved away", laid.removed)):
        for path in paths:
            typer.echo(f"  {verb:<10}  {path}")
    for path in laid.aside:
        typer.echo(f"  {'kept':<10}  {path}, yours; the kit's is {laid.beside}/{path}")
    for path in laid.left:
        typer.echo(f"  {'left':<10}  {path}")
    if laid.backup:
        folder = mine.folder
        fast.show(
            f"What was there before is in {laid.backup}. This brings it back, with what had been found of it:",
            f"  cp -Rp {_quoted(folder / laid.backup)}/. {_quoted(folder)}",
        )
    fast.show(*said)


def hint(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A check that fails, or a stage; without it one more hint for yours.", autocompletion=_check_names
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Repeat those already taken.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one more hint for the stage, or the one for a check that fails."""
    from grader import fast

    raise typer.Exit(fast.hint(name, again, as_json))


def why(
    check: Annotated[
        str, typer.Argument(help="The id of a check, as baseline.calibrated.", autocompletion=_check_names)
    ],
    as_json: JsonOption = False,
) -> None:
    """Lay down what a check gave your work and what it got: rows, files, plots, and the command to run it yourself."""
    from grader import asking

    raise typer.Exit(asking.why(check, as_json))


def watch(stage: StageArgument = None) -> None:
    """Check the stage again at every change of your files, until Ctrl-C."""
    from grader import watching, workspace

    mine = workspace.here()
    raise typer.Exit(watching.watch(mine, _chosen(mine, stage) if stage else None))


def solution(
    stage: StageArgument = None,
    diff: Annotated[bool, typer.Option("--diff", help="Print what it changes in your text files.")] = False,
    early: Annotated[
        bool, typer.Option("--early", help="Although the stage is not complete; this is recorded.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how the kit solved a stage you have completed, explained and beside your own work."""
    from grader import asking, workspace

    mine = workspace.here()
    raise typer.Exit(asking.solution(mine, _chosen(mine, stage), diff, early, as_json))


def break_(
    fault: Annotated[
        str | None, typer.Argument(help="What goes wrong; without it, what there is.", autocompletion=_fault_names)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start your service, let something around it fail, and watch what it does."""
    from grader import breakage, workspace

    if fault is None:
        raise typer.Exit(breakage.say_which(as_json))
    raise typer.Exit(breakage.show(workspace.here(), fault, as_json))


def doctor(as_json: JsonOption = False) -> None:
    """Look at Python, packages, isolation, ports and disk, and say how to mend what is wrong."""
    from grader import doctor as look
    from grader import workspace

    raise typer.Exit(look.report(look.examine(workspace.cwd()), as_json, sys.stdout))


def _chosen(mine: Workspace, name: str | None) -> Stage:
    from grader import progress, stages

    stage = stages.find(name) if name else progress.current(mine)
    return stage or stages.all_stages()[-1]
