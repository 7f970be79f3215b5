"""What the reference's monitor and deliberately bad ones notice, on the windows of many worlds: false alarms, detections, delay.

python benchmarks/monitoring.py --worlds 10 --out benchmarks/results/monitoring.md
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from grader import home, stages
from grader.checks.s10_monitoring import Judged, Verdicts, _delay
from grader.checks.statistics import binomial_interval
from grader.contract.outputs import Monitored, parse_output
from grader.world import build
from grader.world.windows import KINDS, Traffic, Window, make_traffic

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from poolkit import mutants

FIRST_SEED = 9_000
BAD = (
    "noisy", "deaf", "always", "never", "coin", "tests_each_column_at_five_percent", "takes_rows_for_independent",
    "compares_with_the_week_before",
)  # fmt: skip
SIMULATED = 10_000


def judged(submission: Path, given: Path, windows: list[Window]) -> tuple[Verdicts, float]:
    """What a submission's monitor says of the windows, and how many seconds it took."""
    with tempfile.TemporaryDirectory() as out:
        began = time.monotonic()
        command = [sys.executable, "-m", "flightdelay.monitor", "--usecase", given / "usecase.toml", "--reference",
                   given / "reference", "--windows", given / "windows", "--out", out]  # fmt: skip
        subprocess.run([str(word) for word in command], cwd=submission, check=True)
        said = parse_output(Monitored, json.loads((Path(out) / "decisions.json").read_text())).windows
        seconds = time.monotonic() - began
    of = {judgement.window_id: judgement for judgement in said}
    return Verdicts([Judged(window, of[window.name]) for window in windows]), seconds


def counts(verdicts: Verdicts, traffic: Traffic) -> dict[str, float]:
    """Alarms in good weeks, weeks noticed of each kind, services with a slow change noticed in time, and the median delay in weeks."""
    of = {j.window.name: j for j in verdicts.every}
    delays = [_delay([of[week.name] for week in weeks]) for weeks in traffic.slow.values()]
    seen = [delay for delay in delays if delay is not None]
    bars = stages.find("10").bars
    return {
        "good": sum(j.alarm for j in verdicts.good),
        **{kind: sum(j.noticed for j in verdicts.of(kind)) for kind in KINDS},
        "slow": sum(delay <= bars["slow_weeks"] for delay in seen),
        "delay": float(np.median(seen)) if seen else float("nan"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=10)
    parser.add_argument("--bad", type=int, default=2, help="worlds on which the bad monitors are asked too")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    pool = {mutant.name: mutant for mutant in mutants() if mutant.stage == "10"}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ("reference", *BAD)}
    seconds = []
    for number in range(arguments.worlds):
        with tempfile.TemporaryDirectory() as folder:
            given = Path(folder)
            traffic = make_traffic(build(FIRST_SEED + number), given / "season")
            windows = [replace(w, about={**w.about, "render": False}) for w in traffic.windows]
            for window in traffic.reference:
                window.write(given / "reference")
            for window in windows:
                window.write(given / "windows")
            (given / "usecase.toml").write_text(traffic.rules.usecase())
            for name in rows:
                if name != "reference" and number >= arguments.bad:
                    continue
                submission = given / "submission"
                shutil.rmtree(submission, ignore_errors=True)
                if name == "reference":
                    shutil.copytree(home.reference_solution(), submission)
                else:
                    pool[name].lay_down(submission)
                verdicts, took = judged(submission, given, windows)
                rows[name].append(counts(verdicts, traffic))
                seconds += [took] if name == "reference" else []
                print(number, name, rows[name][-1], flush=True)
    lines = _report(rows)
    good = [row["good"] for row in rows["reference"]]
    low, high = binomial_interval(int(sum(good)), 200 * len(good))
    worst = {kind: int(min(row[kind] for row in rows["reference"])) for kind in KINDS}
    lines += [
        "",
        f"Reference, {len(good)} worlds: {sum(good):.0f} alarms in {200 * len(good)} good weeks ({low:.2%} to {high:.2%}), in one world "
        f"at most {max(good):.0f}; fewest noticed of 20 in a world: {', '.join(f'{kind} {count}' for kind, count in worst.items())}.",
        _simulated(rows["reference"]),
        f"The command takes {np.median(seconds):.1f} s (median) without reports.",
    ]
    print("\n".join(lines))
    if arguments.out:
        head = f"# Monitors\n\n`python benchmarks/monitoring.py --worlds {arguments.worlds}`; bad ones on {arguments.bad} worlds\n\n"
        arguments.out.write_text(head + "\n".join(lines) + "\n")


def _report(rows: dict[str, list[dict[str, float]]]) -> list[str]:
    """The separation table: of each monitor the mean over worlds."""
    columns = ["good", *KINDS, "slow", "delay"]
    heads = ["alarms in 200 good weeks", *(f"{kind}, of 20" for kind in KINDS), "slow, of 10", "delay, weeks"]
    lines = [f"| monitor | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, found in rows.items():
        means = [np.nanmean([row[column] for row in found]) if found else float("nan") for column in columns]
        lines.append(f"| {name} | {' | '.join(f'{mean:.1f}' for mean in means)} |")
    return lines


def _simulated(rows: list[dict[str, float]]) -> str:
    """How often the reference would be rejected: each time a world's rates, with half a success and half a failure added, drawn anew."""
    draw, bars = np.random.default_rng(0), stages.find("10").bars
    fails = dict.fromkeys(("stays_quiet", "finds_drift"), 0)
    for _ in range(SIMULATED):
        row = rows[draw.integers(len(rows))]
        fails["stays_quiet"] += draw.binomial(200, (row["good"] + 0.5) / 201) > bars["alarms"]
        fails["finds_drift"] += any(
            draw.binomial(20, (row[kind] + 0.5) / 21) < bars["found"] for kind in KINDS if kind != "labels turned round"
        )
    said = ", ".join(f"{name} {count / SIMULATED:.2%}" for name, count in fails.items())
    return f"{SIMULATED:,} simulated gradings with these rates (half a week added on each side): rejected by {said}."


if __name__ == "__main__":
    main()
