"""`mlekit dev`: what authors of exercises run."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="For authors: look for what is missing in stages, or begin a new one.",
)  # fmt: skip


@app.callback()
def main() -> None:
    """For authors: look for what is missing in stages, or begin a new one."""


@app.command()
def check(
    stage: Annotated[list[str] | None, typer.Argument(help="01 or baseline; without it all stages.")] = None,
    grade: Annotated[bool, typer.Option("--grade/--no-grade", help="Also grade starters and solutions.")] = True,
) -> None:
    """Say what is missing or wrong in stages; exits with 1 if there is anything."""
    from grader import fast
    from grader.dev import dev_check
    from grader.report.text import clean, count
    from grader.stages import UnknownStage

    try:
        problems = dev_check(stage or [], grade=grade, watch=lambda what: typer.echo(clean(what), err=True))
    except UnknownStage as problem:
        raise typer.Exit(fast.refuse(str(problem))) from None
    for sentence in problems:
        typer.echo(clean(sentence))
    typer.echo(f"{count(len(problems), 'problem')} found" if problems else "nothing is missing or wrong")
    raise typer.Exit(1 if problems else 0)


@app.command("new-stage")
def new_stage(
    name: Annotated[str, typer.Argument(metavar="NN-name", help="Such as 03-data-contract.")],
) -> None:
    """Lay down the files of a new stage; `dev check` then says what is still to be written."""
    from grader import fast, home
    from grader.dev import NotPossible
    from grader.dev import new_stage as lay_down
    from grader.report.text import clean

    root = home.kit_home()
    try:
        made = lay_down(name, root)
    except NotPossible as problem:
        raise typer.Exit(fast.refuse(str(problem))) from None
    for path in made:
        typer.echo(clean(str(path.relative_to(root))))
    typer.echo(f"next: `mlekit dev check {name[:2]} --no-grade` says what is still to be written")


if __name__ == "__main__":
    app(prog_name="mlekit dev")
