"""What a learner asks of the kit: why a check fails, laid down to be run again, and how the kit solved a stage."""

from __future__ import annotations

import difflib
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

from grader import fast, progress, stages, workspace
from grader.engine import case
from grader.overlays import overlay
from grader.reading import small_file
from grader.report.text import CYAN, GREEN, RED, Style, clean
from grader.stages import Stage
from grader.verdict import CheckResult, CheckSpec, Grade, Outcome
from grader.workspace import STATE, Workspace

CASES = "why"
SOLUTIONS = "solutions"
ROWS_SHOWN = 5
LINES_SHOWN = 12
LONGEST_CELL = 24


def why(check_id: str, as_json: bool) -> int:
    """Run one check again on the learner's own world and lay down its case; returns the exit code of a check."""
    from grader import cli

    mine = workspace.here()
    spec = fast.find_check(check_id)
    if spec is None:
        raise cli.Refused(fast.unknown_check(check_id))
    stage = stages.find(spec.stage)
    stored = mine.load(stage)
    folder = mine.own(Path(STATE, CASES, spec.id))
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as problem:
        raise cli.Refused(cli.unwritable(folder, problem)) from None
    print(f"mlekit: running {spec.id} again in your own world, to lay down what it gives and gets", file=sys.stderr)
    result = cli.ask(mine, spec, stored.seed if stored else None, folder)
    found = result.checks[0]
    _report(result, folder)
    if as_json:
        files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        print(json.dumps({"check": spec.id, "outcome": found.outcome, "reason": found.reason, "value": found.value,
                          "bar": found.bar, "folder": str(folder), "files": files}))  # fmt: skip
    else:
        _say(mine, spec, found, folder)
    return cli.exit_code(result, None, cli.FIRST_ROW) or int(found.outcome in (Outcome.FAIL, Outcome.BLOCKED))


def _report(result: Grade, folder: Path) -> None:
    from grader import cli
    from grader.report.html import html

    checks = tuple(replace(check, reproduce=f"mlekit why {check.id}") for check in result.checks)
    result = replace(result, checks=checks)
    (folder / "report.html").write_text(html(result, cli.names(), one_check=True), encoding="utf-8")


def _say(mine: Workspace, spec: CheckSpec, found: CheckResult, folder: Path) -> None:
    below = folder.relative_to(mine.folder)
    measured = f"measured {found.value}; bar {found.bar}" if found.value else ""
    fast.show(f"{spec.id}: {spec.title}", "", *([measured] if measured else []), found.reason)
    for table in sorted(folder.glob("*.csv")):
        lines = table.read_text(encoding="utf-8").splitlines()
        if len(lines) > 1:
            fast.show("", f"The first rows of {below / table.name} ({len(lines) - 1} in all):")
            _show_table(lines[: ROWS_SHOWN + 1])
    runs = sorted(folder.glob("*/run.sh"), key=lambda path: int(path.parent.name.partition("-")[0]))
    failing = next((path.parent for path in runs if not path.read_text(encoding="utf-8").startswith(case.WELL)), None)
    if failing is not None and found.outcome not in (Outcome.PASS, Outcome.PROVIDED):
        fast.show("", f"The end of what it printed ({below / failing.name}/output.txt):")
        for line in (failing / "output.txt").read_text(encoding="utf-8").strip().splitlines()[-LINES_SHOWN:]:
            print(f"  {clean(line)}")
    if runs:
        fast.show("", "What we ran, in your own world; each script runs it again, from any folder:")
        for script in runs:
            print(f"  sh {_shell(script)}")
    fast.show("", f"What was given, what you wrote and a report with plots: {below}/")
    passes = found.outcome in (Outcome.PASS, Outcome.PROVIDED)
    fast.show("It passes." if passes else f"A hint: mlekit hint {spec.id}")


def _show_table(lines: list[str]) -> None:
    """The first columns of a CSV, as many as fit the page; further ones are in the file."""
    import csv

    rows = [[clean(cell)[:LONGEST_CELL] for cell in row] for row in csv.reader(lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    room, shown = Style.of(sys.stdout).width - 2, 0
    while shown < len(widths) and sum(widths[: shown + 1]) + 2 * shown <= room:
        shown += 1
    for row in rows:
        print("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row[:shown], widths, strict=False)).rstrip())
    if shown < len(widths):
        print(f"  ... and {len(widths) - shown} columns more")


def _shell(path: Path) -> str:
    import shlex

    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def solution(mine: Workspace, stage: Stage, diff: bool, early: bool, as_json: bool) -> int:
    """Lay the kit's solution of a stage beside the learner's work, and say what it decides and why."""
    from grader.cli import Refused, unwritable

    stored = mine.load(stage)
    complete = stored is not None and stored.complete
    if not complete and not early:
        raise Refused(
            f"{stage.folder.name} is not complete yet; take a hint (`mlekit hint {stage.id}`), or look anyway with --early, "
            "which is recorded in your progress"
        )
    files = dict(overlay(stage, "solution"))
    if not files:
        raise Refused("this copy of the kit has no solutions (what is sent to candidates leaves them out)")
    state = progress.load(mine)
    where = Path(STATE, SOLUTIONS, stage.folder.name)
    try:
        if not complete and stage.id not in state.solutions:
            progress.save(
                mine, replace(state, solutions={**state.solutions, stage.id: time.strftime("%Y-%m-%d %H:%M")})
            )
        shutil.rmtree(mine.own(where), ignore_errors=True)
        for relative, source in files.items():
            target = mine.folder / where / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    except OSError as problem:
        raise Refused(unwritable(mine.folder / STATE, problem)) from None
    if as_json:
        print(json.dumps({"stage": stage.id, "folder": str(where), "files": [str(p) for p in files]}))
    elif diff:
        _diff(mine.folder, files)
    else:
        _explain(stage, where, files)
    return 0


def _explain(stage: Stage, where: Path, files: dict[Path, Path]) -> None:
    explained = stage.folder / "explained.md"
    style = Style.of(sys.stdout)
    if explained.is_file():
        for line in fast.prose(explained.read_text(encoding="utf-8"), style):
            print(line)
    fast.show(f"The kit's files of this stage are in {where}/:")
    for relative in files:
        print(f"  {relative}")
    fast.show(f"Beside yours: mlekit solution {stage.id} --diff (or compare the two folders in your editor)")


def _diff(folder: Path, files: dict[Path, Path]) -> None:
    """A unified diff from the learner's files to the kit's; notebooks by the source of their cells."""
    style = Style.of(sys.stdout)
    colours = {"+": GREEN, "-": RED, "@": CYAN}
    for relative, source in files.items():
        mine, kits = _lines(folder / relative), _lines(source)
        changes = difflib.unified_diff(mine, kits, f"yours/{relative}", f"the kit's/{relative}", lineterm="")
        for line in changes:
            shown = "".join(c for c in line if c.isprintable() or c == "\t")
            print(style.paint(shown, colours[line[0]]) if line[:1] in colours else shown)


def _lines(path: Path) -> list[str]:
    try:
        text = small_file(path).decode("utf-8", "replace")
    except OSError:
        return []
    if path.suffix == ".ipynb":
        try:
            cells = [(c["cell_type"], "".join(c["source"])) for c in json.loads(text)["cells"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            return text.splitlines()
        text = "\n\n".join(f"# %% [{kind}]\n{source}" for kind, source in cells)
    return text.splitlines()
