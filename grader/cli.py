"""The command line: arguments to calls, nothing heavy imported before it is needed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from grader import __version__, dev_cli, learner, selftest_cli

if TYPE_CHECKING:
    from grader.report.progress import Progress
    from grader.report.text import Names
    from grader.stages import Stage
    from grader.verdict import CheckSpec, Grade
    from grader.workspace import Stored, Workspace

DEMO_STAGES = ("01", "02", "08", "11")
DEMO_OUT = Path("mlekit-demo")
FIRST_ROW = "1.3"
MIN_SECRET, MAX_SECRET = 16, 65_536
MIN_DISTINCT = 8  # different bytes in a secret: fewer are a typing error or /dev/zero
SMALL_WORLD = 10_000_000  # a submission could try seeds up to here on what it is given
SEED_BITS = 48
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

Want = Literal["junior", "senior", "lead", "complete"]
Isolation = Literal["auto", "bubblewrap", "docker", "plain"]
FORMATS = ("text", "json", "junit", "html", "github")
FILES = {"json": "grade.json", "junit": "report.xml", "html": "report.html"}

WorldOption = Annotated[
    int | None, typer.Option(min=0, max=2**63 - 1, metavar="SEED", help="Use this world instead of drawing one.")
]
IsolationOption = Annotated[
    Isolation, typer.Option(help="How the submission is kept apart; auto takes the best there is.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the grade as JSON.")]

HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=HELP)
data = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Write a world's data, or verify the kit's.")
app.add_typer(data, name="data")
app.add_typer(dev_cli.app, name="dev")


class Refused(Exception):
    """The command cannot be carried out as given; the message says what was given and what is allowed."""


def run(argv: Sequence[str]) -> int:
    """Run one command line; returns its exit code."""
    try:
        app(args=list(argv), prog_name="mlekit")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except Exception as problem:
        from grader import fast

        if isinstance(problem, _refusals()):
            return fast.refuse(str(problem))
        if isinstance(problem, OSError) and problem.errno in NO_ROOM:
            return fast.refuse(unwritable(problem.filename or "a file", problem))
        raise
    return 0


def unwritable(path: object, problem: OSError) -> str:
    """What to say where something cannot be written, with what to do about it."""
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        todo = "free some space there; nothing of yours is lost"
    else:
        todo = "make it a folder you can write"
    return f"{path} cannot be written ({problem.strerror}); {todo}"


def _refusals() -> tuple[type[Exception], ...]:
    """What is wrong with the command or the submission, rather than with the kit."""
    from grader.contract import ManifestProblem
    from grader.rubric import RubricProblem
    from grader.stages import UnknownStage
    from grader.submission import UnusableSubmission
    from grader.workspace import NoWorkspace

    return (Refused, ManifestProblem, RubricProblem, UnknownStage, UnusableSubmission, NoWorkspace)


@app.callback()
def main() -> None:
    """Build a machine-learning system stage by stage, and learn what the work shows.

    Exit codes: 0 done or reached, 1 not reached, 2 the command or the submission cannot be used, 3 provisional or a
    fault of the grader.
    """


@app.command()
def check(
    stage: Annotated[str | None, typer.Argument(help="01 or baseline; without it the stage you are at.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Draw a new world, which is kept from then on.")] = False,
    as_json: JsonOption = False,
    isolation: IsolationOption = "auto",
) -> None:
    """Check a stage of your workspace; at once when nothing changed."""
    from grader import fast, progress, stages, workspace
    from grader.contract import read_manifest

    mine = workspace.here()
    chosen = stages.find(stage) if stage else progress.current(mine)
    if chosen is None:
        raise typer.Exit(fast.all_complete())
    read_manifest(mine.folder)
    stored = None if fresh else mine.load(chosen)
    fast.notices(mine)
    if stored and stored.grade and isolation in ("auto", stored.grade.isolation) and _same_files(mine, chosen, stored):
        raise typer.Exit(fast.repeat(stored, as_json))
    result, watched = check_stage(mine, chosen, stored.seed if stored else draw(), isolation)
    if as_json:
        typer.echo(result.to_json(), nl=False)
    elif result.finished:
        fast.show_check(result)
        if fresh:
            fast.show(f"World {result.world} is yours from now on; --fresh draws another.")
    _tell_faults(result, watched, None)
    raise typer.Exit(exit_code(result, "complete", FIRST_ROW))


@app.command()
def grade(
    path: Annotated[Path, typer.Argument(help="The submission: a folder with a pyproject.toml.")],
    stage: Annotated[list[str] | None, typer.Option(help="Only this stage (01, baseline); may be repeated.")] = None,
    world: WorldOption = None,
    secret: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Derive the world from this secret and the submission.")
    ] = None,
    label: Annotated[str, typer.Option(help="With --secret: derive from this text instead of the submission.")] = "",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write grade.json (after every check), report.html and report.xml here."),
    ] = None,
    as_json: JsonOption = False,
    format: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help=f"What to give: {', '.join(FORMATS)}; several with commas. --out always holds the files of all.",
        ),
    ] = "text",
    want: Annotated[
        Want | None, typer.Option(help="Exit 1 unless this level, or completion of the stages, is reached.")
    ] = None,
    row: Annotated[str, typer.Option(help="With --want LEVEL: the row of the rubric.")] = FIRST_ROW,
    isolation: IsolationOption = "auto",
) -> None:
    """Say what level a submission shows, on data it has never seen."""
    from grader.contract import read_manifest
    from grader.verdict import write_atomically

    folder = path.absolute()
    wanted = _formats("json" if as_json else format, out)
    read_manifest(folder)
    stages = _chosen(stage)
    checks = tuple(check for one in stages for check in one.checks)
    _want_is_possible(want, row, checks)
    drawn = _world(folder, world, secret, label)
    _prepare(out, folder)
    result, progress = _run(folder, checks, drawn, isolation, out)
    if out is not None:
        for name in ("junit", "html"):
            write_atomically(out / FILES[name], document(result, name))
    _print(result, wanted, out)
    if out is not None and not set(wanted) & {"json", "junit"}:
        typer.echo(f"Report: {out / FILES['html']}")
    _tell_faults(result, progress, out)
    raise typer.Exit(exit_code(result, want, row))


@app.command()
def demo(
    world: WorldOption = None,
    isolation: IsolationOption = "auto",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the report goes.")] = DEMO_OUT,
) -> None:
    """Grade the kit's own solution, to see what a grading is."""
    from grader import home, stages
    from grader.report.text import Style
    from grader.verdict import write_atomically

    folder = home.reference_solution()
    if not (folder / "pyproject.toml").is_file():
        raise Refused(
            "this copy of the kit has no reference solution (what is sent to candidates leaves it out); "
            "grade your own work with `mlekit grade PATH`"
        )
    chosen = [one for one in stages.all_stages() if one.id in DEMO_STAGES]
    checks = tuple(check for one in chosen for check in one.checks)
    drawn = _world(folder, world, None, "")
    _prepare(out, folder)
    result, progress = _run(folder, checks, drawn, isolation, out, count_provided=True)
    write_atomically(out / FILES["html"], document(result, "html"))
    _print(result, ("text",), None)
    shown = ", ".join(one.folder.name for one in chosen)
    said = (
        f"This was the kit's own solution of {shown}. Open {out / FILES['html']} in a browser: under {chosen[-1].folder.name} you see a "
        "system that was served while the world changed, noticed it and mended itself. See all stages with `mlekit list`, and grade your "
        "own work with `mlekit grade PATH`."
    )
    typer.echo("\n" + "\n".join(Style.of(sys.stdout).wrap(said)))
    _tell_faults(result, progress, None)
    raise typer.Exit(exit_code(result, None, FIRST_ROW))


@app.command()
def verify(
    grade: Annotated[Path, typer.Argument(help="A grade.json.", metavar="GRADE.json")],
    submission: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also compare the submission's hash with this folder's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Recompute a grade from its checks and say what differs."""
    from grader.report.text import clean, count
    from grader.rubric.verify import recompute
    from grader.submission import submission_hash
    from grader.verdict import UnreadableGrade, read_grade

    try:
        read = read_grade(grade / FILES["json"] if grade.is_dir() else grade)
    except UnreadableGrade as problem:
        raise Refused(str(problem)) from None
    problems = list(recompute(read))
    if submission is not None:
        if not submission.is_dir():
            raise Refused(f"{submission} is not a folder; give the folder that was graded")
        found = submission_hash(submission)
        if found != read.submission.hash:
            problems.append(f"the grade is of a submission {read.submission.hash[:12]}, {submission} is {found[:12]}")
    if as_json:
        import json

        typer.echo(
            json.dumps({"consistent": not problems, "provisional": read.provisional, "differences": problems}, indent=1)
        )
        raise typer.Exit(1 if problems else 0)
    for sentence in problems:
        typer.echo(clean(sentence))
    where = clean(str(grade))
    if not problems:
        typer.echo(f"{where} is consistent: its levels and stages follow from its {count(len(read.checks), 'check')}.")
        if read.provisional:
            typer.echo("It is provisional: some checks came to no verdict.")
        typer.echo("Whether the checks went as it says, only a new grading shows.")
    else:
        typer.echo(f"{where} is not consistent: {count(len(problems), 'difference')}.")
    raise typer.Exit(1 if problems else 0)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="BEFORE", help="A grade.json, or the folder it is in.")],
    second: Annotated[Path, typer.Argument(metavar="AFTER")],
    as_json: JsonOption = False,
) -> None:
    """Say what moved between two gradings."""
    import json
    from dataclasses import asdict

    from grader.report import compare as reports
    from grader.report.text import Style
    from grader.verdict import UnreadableGrade, read_grade

    try:
        before, after = (read_grade(p / FILES["json"] if p.is_dir() else p) for p in (first, second))
    except UnreadableGrade as problem:
        raise Refused(str(problem)) from None
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in reports.differences(before, after)], indent=1))
    else:
        typer.echo(reports.report(before, after, names(), Style.of(sys.stdout)), nl=False)


@app.command("list")
def list_stages(as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False) -> None:
    """List the stages; in a workspace also where each stands."""
    from grader import fast

    raise typer.Exit(fast.list_stages(as_json))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"mlekit {__version__}")


@data.command("build")
def data_build(
    world: WorldOption = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A folder that is not there yet.")] = Path("data"),
) -> None:
    """Write a world's data in the shape of the contract; without --world the real year 2013."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Refused(f"{out} is there already; give --out a folder that is not there yet, or is empty")
    from grader import laying
    from grader.world import build, write_data

    try:
        with laying.whole_folder(out) as partial:
            digest = write_data(build(world), partial)
    except OSError as problem:
        raise Refused(f"{out} cannot be written ({problem.strerror}); give --out a folder you can write") from None
    which = "the real year 2013" if world is None else f"the redrawn world {world}"
    typer.echo(f"{out} holds {which}; content hash {digest}")


@data.command("verify")
def data_verify(
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Without it: the kit's own datasets.")] = None,
) -> None:
    """Verify files against their manifest: the kit's datasets, or a folder that `data build` wrote."""
    from grader.report.text import clean, count

    if folder is not None and not folder.is_dir():
        raise Refused(f"{folder} is not a folder; give one that `mlekit data build` wrote")
    from grader.world.verify import verify_datasets, verify_folder

    problems = list(verify_datasets() if folder is None else verify_folder(folder))
    for sentence in problems:
        typer.echo(clean(sentence))
    where = "the kit's datasets" if folder is None else clean(str(folder))
    typer.echo(f"{where}: {count(len(problems), 'difference')}" if problems else f"{where}: as the manifest says")
    raise typer.Exit(1 if problems else 0)


def exit_code(result: Grade, want: Want | None, row: str) -> int:
    """3 when provisional or a fault of the grader; with something wanted 0 reached, 1 not; else 0.

    A check that this machine could not run makes the answer provisional only where what is wanted hangs on it.
    """
    from grader.verdict import LEVELS, Level, Outcome

    if not result.finished or any(check.outcome is Outcome.GRADER_ERROR for check in result.checks):
        return 3
    if want is None:
        return 0
    if want == "complete":
        if result.stages and all(stage.complete for stage in result.stages):
            return 0
        required = [check.outcome for check in result.checks if check.required or check.critical]
        decided = any(outcome in (Outcome.FAIL, Outcome.BLOCKED) for outcome in required)
        return 1 if decided or not required else 3
    found = next(r for r in result.rows if r.row == row)
    enough = LEVELS[LEVELS.index(Level(want)) :]
    if found.certain in enough:
        return 0
    return 3 if found.ceiling in enough else 1


@dataclass(frozen=True)
class Drawn:
    """A world's seed, the name it goes by, and the options that give it again."""

    seed: int
    name: str
    options: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the grade should know of where its world comes from."""
        if self.name != str(self.seed) or self.seed >= SMALL_WORLD:
            return ()
        return (
            f"World {self.seed} is a small number, which a submission could find by trying; to judge the work of others leave "
            "--world out, or use --secret.",
        )


def draw() -> int:
    import secrets

    return secrets.randbits(SEED_BITS)


def _world(folder: Path, world: int | None, secret: Path | None, label: str) -> Drawn:
    if secret is None:
        if label:
            raise Refused("--label needs --secret FILE; without a secret use --world SEED")
        seed = draw() if world is None else world
        return Drawn(seed, str(seed), ("--world", str(seed)))
    if world is not None:
        raise Refused("give --world SEED or --secret FILE, not both")
    import hashlib

    from grader.submission import submission_hash
    from grader.world import seed_from_secret

    key = _read_secret(secret)
    label_used = label or submission_hash(folder)
    shown = hashlib.sha256(b"mlekit world name\0" + key + b"\0" + label_used.encode("utf-8", "replace")).hexdigest()[:8]
    options = ("--secret", str(secret.absolute()), *(("--label", label) if label else ()))
    return Drawn(seed_from_secret(key, label_used), f"secret:{shown}", options)


def _read_secret(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            key = file.read(MAX_SECRET)
    except OSError as problem:
        raise Refused(f"the secret {path} cannot be read ({problem.strerror}); give --secret a readable file") from None
    if len(key) < MIN_SECRET:
        raise Refused(
            f"the secret {path} holds {len(key)} bytes; give at least {MIN_SECRET} "
            "random ones (`head -c 32 /dev/urandom > FILE`)"
        )
    if len(set(key)) < MIN_DISTINCT:
        raise Refused(
            f"the secret {path} holds only {len(set(key))} different bytes and could be guessed; give random ones "
            "(`head -c 32 /dev/urandom > FILE`)"
        )
    return key


def _chosen(names: Sequence[str] | None) -> list[Stage]:
    from grader import stages

    if not names:
        return list(stages.all_stages())
    wanted = {stages.find(name).id for name in names}
    return [stage for stage in stages.all_stages() if stage.id in wanted]


def _want_is_possible(want: Want | None, row: str, checks: Sequence[CheckSpec]) -> None:
    from grader.report.text import level_word
    from grader.rubric import load, reach
    from grader.verdict import LEVELS, Level

    known = [one.id for one in load().rows]
    if row not in known:
        raise Refused(f"there is no row {row!r}; the rows are {', '.join(known)}")
    if want in (None, "complete"):
        if row != FIRST_ROW:
            raise Refused("--row needs --want junior, senior or lead")
        return
    most = reach(checks)[row]
    if most is None or LEVELS.index(most) < LEVELS.index(Level(want)):
        raise Refused(
            f"row {row} cannot show {want} with these stages (at most: {level_word(most)}); grade more stages or want less"
        )


def _prepare(out: Path | None, submission: Path) -> None:
    """Make the folder for results, and find out now whether it can be written."""
    import tempfile

    from grader.submission import SKIPPED_FOLDERS

    if out is None:
        return
    below = Path(os.path.realpath(out))
    inside = Path(os.path.realpath(submission))
    if below.is_relative_to(inside) and not SKIPPED_FOLDERS.intersection(below.relative_to(inside).parts):
        raise Refused(
            f"--out {out} lies in the submission and would become part of it; use a folder outside, or .mlekit/"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as problem:
        raise Refused(f"--out {out} cannot be written ({problem.strerror}); give a folder you can write") from None
    for name in FILES.values():
        if (out / name).is_dir():
            raise Refused(f"{out / name} is a folder; give --out another one")


def rung_of(isolation: Isolation) -> tuple[str, tuple[str, ...]]:
    """The rung of the sandbox and, where it is plain, why."""
    if isolation == "plain":
        return "plain", ("It is not isolated because you asked for --isolation plain.",)
    from grader.sandbox import detect, detect_engine

    if isolation == "docker":
        if (engine := detect_engine()).rung != "docker":
            raise Refused(f"this machine cannot grade in a container: {engine.why}; `mlekit doctor` tells more")
        return engine.rung, ()
    found = detect()
    if found.rung == "bubblewrap":
        return found.rung, ()
    if isolation == "bubblewrap":
        raise Refused(f"this machine cannot isolate: {found.why}; --isolation plain runs without, for code you trust")
    if detect_engine().rung == "docker":
        return "docker", (f"It ran in a container because {found.why}.",)
    return found.rung, (f"It is not isolated because {found.why}.",)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(
    folder: Path,
    checks: Sequence[CheckSpec],
    drawn: Drawn,
    isolation: Isolation,
    out: Path | None = None,
    cache: Path | None = None,
    count_provided: bool = False,
    case: Path | None = None,
) -> tuple[Grade, Progress]:
    """Grade with progress on stderr. `count_provided` lets work count that the kit laid down."""
    import shlex

    from grader.engine import Plan
    from grader.engine import grade as engine_grade
    from grader.overlays import provided_stages
    from grader.report.progress import Progress
    from grader.report.text import Style

    rung, notes = rung_of(isolation)
    plan = Plan(
        folder, tuple(checks), drawn.seed, drawn.name, rung, cores(), cache=cache, case=case, own=cache is not None,
        notes=notes + drawn.notes,
        reproduce=shlex.join(["mlekit", "grade", str(folder), *drawn.options]),
        provided=() if count_provided else tuple(sorted(provided_stages(folder))),
    )  # fmt: skip
    progress = Progress({spec.id: spec.title for spec in plan.checks}, sys.stderr, Style.of(sys.stderr))
    try:
        return engine_grade(plan, progress, out / "grade.json" if out else None), progress
    finally:
        progress.close()


def ask(mine: Workspace, spec: CheckSpec, seed: int | None, case: Path) -> Grade:
    """Run one check on a learner's own world and lay its case down in `case`."""
    from grader.contract import read_manifest

    read_manifest(mine.folder)
    drawn = Drawn(draw() if seed is None else seed, "yours", ())
    result, watched = _run(mine.folder, (spec,), drawn, "auto", cache=mine.runs, case=case)
    _tell_faults(result, watched, None)
    return result


def check_stage(mine: Workspace, stage: Stage, seed: int, isolation: Isolation) -> tuple[Grade, Progress]:
    """Run the checks of a stage and store the verdict, unless the files changed meanwhile."""
    import time

    from grader import workspace
    from grader.submission import SKIPPED_ENDINGS, SKIPPED_FOLDERS

    skipped = workspace.Skipped(tuple(sorted(SKIPPED_FOLDERS)), tuple(SKIPPED_ENDINGS))
    before = mine.signature(skipped)
    key = workspace.key(stage)
    if mine.load(stage) is None:
        _store(
            mine, stage, workspace.Stored(seed, key)
        )  # so that a check that is interrupted goes on in the same world
    drawn = Drawn(seed, str(seed), ("--world", str(seed)))
    result, progress = _run(mine.folder, stage.checks, drawn, isolation, cache=mine.runs)
    if not result.finished:
        return result, progress
    if mine.signature(skipped) == before:
        at = time.strftime("%Y-%m-%d %H:%M:%S")
        _store(mine, stage, workspace.Stored(seed, key, at, before, skipped, result))
    else:
        typer.echo("mlekit: files changed while the check ran; check again to be sure", err=True)
    return result, progress


def _store(mine: Workspace, stage: Stage, stored: Stored) -> None:
    try:
        mine.store(stage, stored)
    except OSError as problem:
        where = mine.state_file(stage).parent
        raise Refused(unwritable(where, problem)) from None


def _same_files(mine: Workspace, stage: Stage, stored: Stored) -> bool:
    """Whether the stored verdict stands, by content; times that moved without it are noted."""
    from dataclasses import replace

    from grader import workspace
    from grader.submission import submission_hash

    if not workspace.reusable(stage, stored) or stored.grade is None:
        return False
    signature = mine.signature(stored.skipped)
    if submission_hash(mine.folder) != stored.grade.submission.hash:
        return False
    if signature != stored.signature:
        _store(mine, stage, replace(stored, signature=signature))
    return True


def names() -> Names:
    """The titles that reports print."""
    from dataclasses import replace

    from grader import fast
    from grader.rubric import load

    rows = load().rows
    headline = tuple(row.id for row in rows if row.headline)
    return replace(fast.stage_names(), rows={row.id: row.title for row in rows}, headline=headline)


def _formats(given: str, out: Path | None) -> tuple[str, ...]:
    """The formats asked for. Raises Refused."""
    wanted = tuple(dict.fromkeys(part.strip() for part in given.split(",")))
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown:
        raise Refused(f"there is no format {unknown[0]!r}; the formats are {', '.join(FORMATS)}")
    if len(wanted) > 1 and out is None:
        raise Refused(f"several formats ({given}) need --out DIR, where they are written")
    return wanted


def document(result: Grade, format: str) -> str:
    """A grade in one of the formats that are files."""
    from grader.report.github import inert

    if format == "json":
        return inert(result.to_json(), format)
    if format == "junit":
        from grader.report.junit import junit

        return inert(junit(result, names()), format)
    from grader.report.html import html

    return inert(html(result, names()), format)


def _print(result: Grade, wanted: Sequence[str], out: Path | None) -> None:
    """Print the one document that was asked for, else the report for people, and what GitHub reads."""
    if len(wanted) == 1 and wanted[0] in FILES and (out is None or wanted[0] != "html"):
        typer.echo(document(result, wanted[0]), nl=False)
        return
    from grader.report import github
    from grader.report.terminal import grade_report
    from grader.report.text import Style

    titles = names()
    said = grade_report(result, titles, Style.of(sys.stdout))
    typer.echo(github.fenced(said) if "github" in wanted else said, nl=False)
    if "github" in wanted:
        typer.echo(github.annotations(result, titles), nl=False)
        path = os.environ.get("GITHUB_STEP_SUMMARY")
        if path:
            with open(path, "a", encoding="utf-8") as file:
                file.write(github.summary(result, titles))


def _tell_faults(result: Grade, progress: Progress, out: Path | None) -> None:
    """Say on stderr that the grading was interrupted, or that the kit failed and where the details are."""
    import tempfile

    if not result.finished and "MLEKIT_WATCH" not in os.environ:
        where = f"; the grade so far is in {out / 'grade.json'}" if out else ""
        typer.echo(f"mlekit: the grading was interrupted{where}", err=True)
    if progress.faults:
        handle, path = tempfile.mkstemp(prefix="mlekit-fault-", suffix=".txt", dir=out)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n\n".join(progress.faults) + "\n")
        typer.echo(f"mlekit: the grader itself failed; the details are in {path}, please report them", err=True)


learner.register(app)
selftest_cli.register(app)
