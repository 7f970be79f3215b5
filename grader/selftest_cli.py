"""`mlekit selftest`: the grader grades submissions whose verdict is known."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

if TYPE_CHECKING:
    from grader.cli import Isolation

JOBS = 2


def register(app: typer.Typer) -> None:
    app.command()(selftest)


def selftest(
    stage: Annotated[list[str] | None, typer.Argument(help="01 or baseline; without it all stages.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Ask mutants only the checks that should notice them.")
    ] = False,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Only each N-th submission, from the I-th on.")] = "1/1",
    name: Annotated[list[str] | None, typer.Option(help="Only submissions whose name contains this.")] = None,
    in_worlds: Annotated[
        int, typer.Option("--worlds", min=1, help="Grade right submissions in so many worlds each.")
    ] = 1,
    order: Annotated[
        str, typer.Option(metavar="TEXT", help="Begin with others for another text, such as a commit.")
    ] = "",
    minutes: Annotated[float | None, typer.Option(min=0, help="Begin none after so many minutes.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Gradings at once.")] = JOBS,
    isolation: Annotated[
        str, typer.Option(help="The rung of the sandbox: auto, bubblewrap, docker or plain.")
    ] = "auto",
    results: Annotated[Path | None, typer.Option(metavar="FILE", help="Where results are kept.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Grade also what was graded before.")] = False,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page of all results that still stand.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON lines.")] = False,
) -> None:
    """Grade the pool of right and wrong submissions, and say how often the grader is wrong; goes on where it was ended."""
    import hashlib
    import json
    from dataclasses import asdict

    import platformdirs

    from grader import stages
    from grader.cli import Isolation, Refused, rung_of
    from grader.pool import entries
    from grader.report.text import clean
    from grader.selftest import Results, Seen, Summary, run_all, worlds
    from grader.selftest import shard as part_of
    from grader.selftest_page import lines
    from grader.selftest_page import page as written

    if isolation not in get_args(Isolation):
        raise Refused(f"there is no isolation {isolation!r}; it is one of {', '.join(get_args(Isolation))}")
    rung, _ = rung_of(cast("Isolation", isolation))
    whole = entries()
    wanted = {stages.find(given).id for given in stage or ()}
    pool = [entry for entry in part_of(whole, *_shard(shard)) if not wanted or entry.stage in wanted]
    pool = [entry for entry in pool if not name or any(part in str(entry) for part in name)]
    if order:
        pool.sort(key=lambda entry: hashlib.sha256(f"{order}{entry}{entry.kind}".encode()).digest())
    if not pool:
        raise Refused("no submission of the pool is left; give another --name, --shard or stage")
    kept = Results(results or Path(platformdirs.user_cache_dir("mlekit")) / "selftest.jsonl")
    done = {(seen.name, seen.kind, seen.seed) for seen in kept.of(whole) if seen.rung == rung and seen.quick <= quick}
    asked = [(entry, seed) for entry in pool for seed in worlds(entry, in_worlds)]
    left = [(entry, seed) for entry, seed in asked if fresh or (str(entry), entry.kind, seed) not in done]
    if len(left) < len(asked):
        typer.echo(
            f"{len(asked) - len(left)} of {len(asked)} were graded before (in {kept.path}); --fresh does it again",
            err=True,
        )
    began, told = time.monotonic(), list[Seen]()

    def tell(seen: Seen) -> None:
        kept.add(seen)
        told.append(seen)
        each = (time.monotonic() - began) / len(told)
        ahead = f"about {each * (len(left) - len(told)) / 60:.0f} min to go"
        typer.echo(
            clean(
                f"{len(told)}/{len(left)} {seen.kind} {seen.name} {seen.seconds:.0f} s, {ahead}: {seen.problem or 'as it should be'}"
            ),
            err=True,
        )

    deadline = began + (60 * minutes if minutes is not None else float("inf"))
    ended = run_all(left, rung, quick, jobs, deadline, tell)
    summary = Summary(tuple(seen for seen in kept.of(whole) if seen.rung == rung))
    if as_json:
        for seen in summary.seen:
            typer.echo(json.dumps(asdict(seen)))
    else:
        for line in lines(summary, whole):
            typer.echo(clean(line))
    if page is not None:
        page.write_text(written(summary, whole), encoding="utf-8")
    if not ended:
        typer.echo("mlekit: not all were graded; the same command goes on", err=True)
    raise typer.Exit(
        1
        if any(seen.problem for seen in summary.seen if (seen.name, seen.kind) in {(str(e), e.kind) for e in pool})
        else 0
    )


def _shard(given: str) -> tuple[int, int]:
    from grader.cli import Refused

    number, _, of = given.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise Refused(f"{given!r} is no shard; give one like 1/4 to 4/4")
    return int(number), int(of)
