"""The command line: arguments to calls, nothing heavy imported before it is needed."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def main() -> None:
    """mlekit."""


@app.command()
def grade(
    path: Path,
    stage: Annotated[list[str] | None, typer.Option()] = None,
    world: Annotated[int | None, typer.Option()] = None,
) -> None:
    """Grade a submission."""
    import os

    from grader import stages
    from grader.engine import Plan
    from grader.engine import grade as run
    from grader.sandbox import detect

    chosen = [stages.find(s) for s in stage] if stage else list(stages.all_stages())
    seed = secrets.randbits(48) if world is None else world
    found = detect()
    plan = Plan(
        path.resolve(), tuple(c for s in chosen for c in s.checks), seed, f"{seed}", found.rung, os.cpu_count() or 1
    )
    result = run(plan, watch=lambda e: None)
    for check in result.checks:
        typer.echo(f"{check.outcome:<12} {check.id}  {check.value}  [{check.bar}]  {check.reason}")
    for row in result.rows:
        typer.echo(f"row {row.row}: {row.certain or 'not yet'}")
    typer.echo(
        f"{result.seconds:.1f} s, {result.submission_seconds:.1f} s of them the submission's; isolation: {result.isolation}"
    )
