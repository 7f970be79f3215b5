"""What the reference's loop gains over worlds, and what deliberately bad loops fail by: gradings of stage 11, as they are.

python benchmarks/retraining.py --worlds 10 --bad 1 --out benchmarks/results/retraining.md
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from grader import home
from grader.checks.statistics import binomial_interval
from grader.verdict import Grade, Outcome

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from poolkit import failing, graded, mutants

FIRST_SEED = 11_000
BAD = ("never", "always", "promotes_anything", "learns_the_poison", "forgets_after_a_restart")
VALUES = ("replaces_a_stale_model", "has_little_regret", "answers_every_step")


def value(result: Grade, check: str) -> str:
    return next(one.value for one in result.checks if one.id == f"retraining.{check}")


def reference(worlds: int) -> list[str]:
    """A line a world, and how many verdicts were no pass."""
    lines = [
        "| world | log loss of the champions after the change | regret | steps | seconds |",
        "|---|---|---|---|---|",
    ]
    other = count = 0
    for seed in range(FIRST_SEED, FIRST_SEED + worlds):
        began = time.monotonic()
        result = graded(home.reference_solution(), "11", seed)
        other += sum(one.outcome is not Outcome.PASS for one in result.checks)
        count += len(result.checks)
        cells = " | ".join(value(result, check) for check in VALUES)
        lines.append(f"| {seed} | {cells} | {time.monotonic() - began:.0f} |")
        print(lines[-1], flush=True)
    high = binomial_interval(other, count)[1]
    return [
        *lines,
        "",
        f"{other} of {count} verdicts were not a pass; the share of such verdicts is below {high:.1%} (95 %).",
    ]


def separation(worlds: int) -> list[str]:
    """What each bad loop fails, and what is blocked by that."""
    lines = ["| loop | world | fails | blocked |", "|---|---|---|---|"]
    of_name = {mutant.name: mutant for mutant in mutants() if mutant.stage == "11"}
    for name in BAD:
        for seed in range(FIRST_SEED, FIRST_SEED + worlds):
            with tempfile.TemporaryDirectory() as folder:
                of_name[name].lay_down(Path(folder) / "submission")
                result = graded(Path(folder) / "submission", "11", seed)
            fails = ", ".join(sorted(one.removeprefix("retraining.") for one in failing(result)))
            blocked = [one.id.removeprefix("retraining.") for one in result.checks if one.outcome is Outcome.BLOCKED]
            lines.append(f"| {name} | {seed} | {fails} | {', '.join(blocked)} |")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=10)
    parser.add_argument("--bad", type=int, default=1, help="worlds for each bad loop")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    text = [
        "# Stage 11: the reference's loop over worlds, and five bad ones",
        "",
        "`python benchmarks/retraining.py`",
        "",
    ]
    text += ["## The reference", "", *reference(given.worlds), "", "## Bad loops", "", *separation(given.bad), ""]
    if given.out:
        given.out.write_text("\n".join(text))


if __name__ == "__main__":
    main()
