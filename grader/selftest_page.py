"""What a self-test found, as a page of docs/ and as lines for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from grader import stages
from grader.pool import Entry, Kind
from grader.selftest import Rate, Seen, Summary

SLOWEST = 10


def lines(summary: Summary, pool: Sequence[Entry]) -> list[str]:
    """The rates and what is wrong, a line each."""
    counts = Counter(seen.kind for seen in summary.seen)
    strayed = summary.strayed(pool)
    all_strayed = Rate(sum(rate.times for rate in strayed.values()), sum(rate.of for rate in strayed.values()))
    found = [
        "graded: "
        + ", ".join(f"{counts[kind]} of {sum(e.kind is kind for e in pool)} {kind}s" for kind in Kind if counts[kind]),
        f"wrong ones accepted: {summary.accepted}",
        f"right ones rejected: {summary.rejected}",
        f"checks that failed where they had no reason to: {all_strayed}",
    ]
    return [*found, *(f"{seen.kind} {seen.name} (world {seen.seed}): {seen.problem}" for seen in summary.problems())]


def page(summary: Summary, pool: Sequence[Entry]) -> str:
    """A page in Markdown: rates, the matrix by checks, checks that nothing needs, and the slowest."""
    parts = [
        "# How often the grader is wrong",
        "Made by `mlekit selftest --page docs/selftest.md`: the grader grades submissions whose verdict is known. "
        "Intervals are exact (Clopper and Pearson), 95 %; they speak of submissions like those of the pool, which its authors thought of.",
        *_rates(summary, pool), *_matrix(summary, pool), *_rest(summary),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows))


def _rates(summary: Summary, pool: Sequence[Entry]) -> list[str]:
    kits = sorted({seen.kit for seen in summary.seen})
    rungs = sorted({seen.rung for seen in summary.seen})
    kinds = [
        (kind, sum(e.kind is kind for e in pool), len(found), sum(bool(s.problem) for s in found))
        for kind in Kind
        if (found := [seen for seen in summary.seen if seen.kind is kind])
    ]
    strayed = summary.strayed(pool)
    return [
        f"Kit {', '.join(kits)}; isolation: {', '.join(rungs)}; {sum(seen.seconds for seen in summary.seen) / 60:.0f} minutes of grading.",
        _table(("submissions", "in the pool", "graded", "not as they should be"), kinds),
        _table(("", "share and interval"), [
            ("wrong ones accepted: a stage that is complete, or a fault that is not noticed", summary.accepted),
            ("right ones rejected: a check that is not passed", summary.rejected),
            ("checks that failed where they had no reason to",
             Rate(sum(rate.times for rate in strayed.values()), sum(rate.of for rate in strayed.values()))),
        ]),
        *(["Not as they should be:\n\n" + "\n".join(_problem(seen) for seen in summary.problems())] if any(summary.problems()) else []),
    ]  # fmt: skip


def _problem(seen: Seen) -> str:
    return f"- {seen.kind} `{seen.name}`, world {seen.seed}: {seen.problem}"


def _matrix(summary: Summary, pool: Sequence[Entry]) -> list[str]:
    noticed, strayed = summary.noticed_by(), summary.strayed(pool)
    alone = {check for check in noticed if check not in summary.redundant()}
    parts = [
        "## Which check notices what",
        "Mutants that a check fails; in how many gradings it had no reason to fail, and did.",
    ]
    for stage in stages.all_stages():
        rows = [
            (f"`{check.id}`", "critical" if check.critical else "", len(noticed[check.id]), "yes" if check.id in alone else "**no**",
             strayed.get(check.id, Rate(0, 0)), ", ".join(name.split("-", 1)[1].replace("_", " ") for name in noticed[check.id]))
            for check in stage.checks
        ]  # fmt: skip
        parts += [f"### {stage.id}", _table(("check", "", "mutants", "needed", "failed without reason", "which"), rows)]
    return parts


def _rest(summary: Summary) -> list[str]:
    slow = list(summary.slow().items())[:SLOWEST]
    redundant = ", ".join(f"`{check}`" for check in summary.redundant())
    return [
        "## Checks that nothing needs", redundant or "None: of each there is a mutant that it alone notices.",
        "## The slowest checks", "Median seconds in submissions that pass them, with all that they wait for.",
        _table(("check", "s"), [(f"`{check}`", f"{seconds:.0f}") for check, seconds in slow]),
    ]  # fmt: skip
