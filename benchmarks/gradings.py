"""Grade the reference on many worlds, half of the time with every core busy: false fails, and where the time goes.

python benchmarks/gradings.py --worlds 20 --out benchmarks/results/gradings.md
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from pathlib import Path

from grader import home, stages
from grader.engine import Plan, grade
from grader.sandbox import detect
from grader.verdict import Outcome

FIRST_SEED = 9_000


def burn(until: float) -> None:
    """Keep one core busy; ends by itself."""
    while time.time() < until:
        sum(range(10_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=20)
    parser.add_argument("--stage", action="append")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    chosen = [s for s in stages.all_stages() if not arguments.stage or s.id in arguments.stage]
    checks = tuple(check for stage in chosen for check in stage.checks)
    cores, rung = os.cpu_count() or 1, detect().rung
    lines = [
        "| world | cores busy | seconds | submission's own process seconds | not passed |",
        "|---|---|---|---|---|",
    ]
    wrong, seconds = 0, {False: [], True: []}
    for number in range(arguments.worlds):
        busy = number % 2 == 1
        seed = FIRST_SEED + number
        burners = [multiprocessing.Process(target=burn, args=(time.time() + 600,), daemon=True) for _ in range(cores)]
        for burner in burners if busy else []:
            burner.start()
        try:
            result = grade(Plan(home.reference_solution(), checks, seed, str(seed), rung, cores))
        finally:
            for burner in burners if busy else []:
                burner.terminate()
        missing = [f"{c.id} ({c.value}; {c.bar})" for c in result.checks if c.outcome is not Outcome.PASS]
        wrong += len(missing)
        seconds[busy].append(result.seconds)
        load = "yes" if busy else "no"
        times = f"{result.seconds:.1f} | {result.submission_seconds:.1f}"
        row = f"| {seed} | {load} | {times} | {', '.join(missing) or '-'} |"
        lines.append(row)
        print(row, flush=True)
    total = arguments.worlds * len(checks)
    lines += [
        "",
        f"{wrong} of {total} verdicts on the reference were not a pass ({arguments.worlds} worlds, {len(checks)} checks). "
        f"Zero of {arguments.worlds} gradings shows a false-fail rate below {3 / arguments.worlds:.0%} at 95 %, not zero.",
        f"Median seconds: {statistics.median(seconds[False]):.1f} quiet, "
        f"{statistics.median(seconds[True] or [0]):.1f} with all cores busy.",
    ]
    print("\n".join(lines[-2:]))
    if arguments.out:
        chosen_stages = "".join(f" --stage {s}" for s in arguments.stage or ())
        head = f"# Gradings of the reference\n\n`python benchmarks/gradings.py --worlds {arguments.worlds}{chosen_stages}`\n\n"
        arguments.out.write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
