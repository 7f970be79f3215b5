"""What a self-test found, as a page of docs/ and as lines for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from grader import __version__, stages
from grader.pool import Entry, Kind
from grader.selftest import Rate, Seen, Summary

SLOWEST = 10


def lines(summary: Summary, pool: Sequence[Entry]) -> list[str]:
    """The rates and what is wrong, a line each."""
    names, gradings = (
        Counter(kind for _, kind in {(seen.name, seen.kind) for seen in summary.seen}),
        Counter(seen.kind for seen in summary.seen),
    )
    strayed = summary.strayed(pool)
    all_strayed = Rate(sum(rate.times for rate in strayed.values()), sum(rate.of for rate in strayed.values()))
    found = [
        "graded: "
        + ", ".join(
            f"{names[kind]} of {sum(e.kind is kind for e in pool)} {kind}s"
            + (f" in {gradings[kind]} worlds" if gradings[kind] > names[kind] else "")
            for kind in Kind
            if names[kind]
        ),
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
        *_rates(summary, pool), *_attacks(summary, pool), *_matrix(summary, pool), *_rest(summary),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows))


def _rates(summary: Summary, pool: Sequence[Entry]) -> list[str]:
    kits = sorted({(seen.stage, seen.kit) for seen in summary.seen})
    rungs = sorted({seen.rung for seen in summary.seen})
    kinds = [
        (
            kind,
            sum(e.kind is kind for e in pool),
            len({seen.name for seen in found}),
            len(found),
            sum(bool(seen.problem) for seen in found),
        )
        for kind in Kind
        if (found := [seen for seen in summary.seen if seen.kind is kind])
    ]
    strayed = summary.strayed(pool)
    loads = [seen.load for seen in summary.seen] or [0.0]
    quick = sum(seen.quick for seen in summary.seen if seen.kind is Kind.MUTANT)
    return [
        f"mlekit {__version__}, isolation {', '.join(rungs)}; {sum(seen.seconds for seen in summary.seen) / 60:.0f} minutes of grading, at "
        f"{min(loads):g} to {max(loads):g} processes that wanted a core, for each core. Of {quick} mutants only the checks that should "
        f"notice them were asked. What judged has these digests: {', '.join(f'{stage} {kit[:8]}' for stage, kit in kits)}.",
        _table(("submissions", "in the pool", "graded", "gradings, each in a world of its own", "not as they should be"), kinds),
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


def _attacks(summary: Summary, pool: Sequence[Entry]) -> list[str]:
    seen = {seen.name: seen for seen in summary.seen if seen.kind is Kind.ATTACK}
    attacks = [entry for entry in pool if entry.kind is Kind.ATTACK]
    rows = [
        (
            family,
            sum(entry.family == family for entry in attacks),
            len(graded),
            sum(bool(one.problem) for one in graded),
        )
        for family in sorted({entry.family for entry in attacks})
        for graded in [[seen[str(entry)] for entry in attacks if entry.family == family and str(entry) in seen]]
    ]
    return ["## Attacks", _table(("against", "in the pool", "graded", "not as they should be"), rows)]


NEEDED = {True: "yes", False: "**no**", None: ""}


def _matrix(summary: Summary, pool: Sequence[Entry]) -> list[str]:
    noticed, strayed, needed = summary.noticed_by(), summary.strayed(pool), summary.needed(pool)
    parts = [
        "## Which check notices what",
        "Mutants that a check fails; whether there is one that it alone notices (nothing is said where some were not graded); in how many "
        "gradings it had no reason to fail, and did.",
    ]
    for stage in stages.all_stages():
        rows = [
            (f"`{check.id}`", "critical" if check.critical else "", len(noticed[check.id]), NEEDED[needed[check.id]],
             strayed.get(check.id, Rate(0, 0)), ", ".join(name.split("-", 1)[1].replace("_", " ") for name in noticed[check.id]))
            for check in stage.checks
        ]  # fmt: skip
        parts += [f"### {stage.id}", _table(("check", "", "mutants", "needed", "failed without reason", "which"), rows)]
    redundant = ", ".join(f"`{check}`" for check in needed if needed[check] is False)
    return [*parts, "## Checks that nothing needs", redundant or "None was found."]


def _rest(summary: Summary) -> list[str]:
    slow = list(summary.slow().items())[:SLOWEST]
    return [
        "## The slowest checks", "Median seconds in submissions that pass them, with all that they wait for.",
        _table(("check", "s"), [(f"`{check}`", f"{seconds:.0f}") for check, seconds in slow]),
    ]  # fmt: skip
