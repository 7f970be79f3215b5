"""What Prefect costs: its server's start, cold and warm, and the reference's pipeline with it beside the same steps without.

python benchmarks/pipeline.py [--world 5] [--rounds 5] [--out benchmarks/results/pipeline.md]

"Without" is the same program with a module `prefect` whose decorators do nothing. Rounds of the two take turns, each in a process and an
empty state of its own; CPU seconds are those of that process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from grader import home, services
from grader.sandbox import choose, detect
from grader.stores import DATABASE, EXPERIMENT, QUIET, Stores
from grader.world import build, deliveries, write_data

FLIGHTS = 3_000
WITHOUT = """
import sys, types
from types import SimpleNamespace

def decorator(*given, **settings):
    return given[0] if given and callable(given[0]) else lambda function: function

policies = types.ModuleType("prefect.cache_policies")
policies.NO_CACHE = None
prefect = types.ModuleType("prefect")
prefect.flow = prefect.task = decorator
prefect.runtime = SimpleNamespace(flow_run=SimpleNamespace(id="none"))
sys.modules |= {"prefect": prefect, "prefect.cache_policies": policies}
"""
RUN = "from flightdelay.pipeline import main\nmain()\n"


def servers(scratch: Path) -> dict[str, float]:
    """Seconds until Prefect's server answers: on an empty database, and on a copy of one that was migrated before."""
    found = {}
    sandbox = choose(detect().rung)
    try:
        (scratch / "migrated").mkdir()
        began = time.monotonic()
        services._migrate(scratch / "migrated")
        migration = time.monotonic() - began
        services._migrated(scratch)  # so that the copy is there
        (scratch / "warm").mkdir()
        began = time.monotonic()
        services.Prefect(sandbox, scratch / "warm").stop()
        found["warm, as in a grading"] = time.monotonic() - began
        found["cold: migrations first"] = found["warm, as in a grading"] + migration
    finally:
        sandbox.close()
    return found


def run(folder: Path, url: str, month: str, now: str, api: str | None) -> tuple[float, float]:
    """Wall and CPU seconds of one month."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        state = Path(place, "state", "prefect")
        state.mkdir(parents=True)
        store = Stores(choose("plain"), Path(place, "scratch")).lay_down(Path(place, "store"))
        env = {
            **os.environ, **QUIET, "MLFLOW_TRACKING_URI": f"sqlite:///{store.source}/{DATABASE}", "MLFLOW_EXPERIMENT_NAME": EXPERIMENT,
            **services.PREFECT_QUIET, "PREFECT_HOME": str(state), "PREFECT_LOGGING_LEVEL": "WARNING",
            **({"PREFECT_API_URL": api} if api else {}),
            "MLEKIT_STATE": str(state.parent), "PYTHONPATH": str(home.reference_solution()), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        argv = [
            sys.executable, "-c", (RUN if api else WITHOUT + RUN), "--usecase", str(home.datasets() / "usecase.toml"),
            "--source", url, "--history", str(folder / "history"), "--months", month, "--now", now, "--seed", "20",
            "--out", str(Path(place, "out.json")),
        ]  # fmt: skip
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(argv, env=env, cwd=home.reference_solution(), capture_output=True, text=True, check=False)
        after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
        assert done.returncode == 0, done.stderr[-2000:]
        assert json.loads(Path(place, "out.json").read_text())["version"] == "1"
        return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        lines = ["| Prefect's server | seconds until it answers |", "|---|---|"]
        lines += [f"| {name} | {seconds:.1f} |" for name, seconds in servers(folder).items()]
        world = build(arguments.world)
        write_data(world, folder / "history", deliveries.months_of(world)[0], FLIGHTS)
        made = deliveries.make_deliveries(world, folder / "history", FLIGHTS)
        month = made.order[0]
        made.feeds[month].write(folder / "source" / month)
        sandbox = choose("plain", slots=4)
        for name in ("own", "prefect"):
            (folder / name).mkdir()
        source = services.Source(sandbox, folder / "source", folder / "own", {})
        server = services.Prefect(sandbox, folder / "prefect")
        found: dict[str, list[tuple[float, float]]] = {"with Prefect": [], "without": []}
        try:
            for _ in range(arguments.rounds):
                for name, api in (("with Prefect", server.url), ("without", None)):
                    found[name].append(run(folder, source.url, month, made.now, api))
                    print(name, *(f"{seconds:.1f}" for seconds in found[name][-1]), flush=True)
        finally:
            sandbox.close()
    lines += [
        "",
        f"| one month of {FLIGHTS:,} flights, median of {arguments.rounds} | seconds | CPU seconds |",
        "|---|---|---|",
    ]
    for name, times in found.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        lines.append(f"| {name} | {wall:.1f} | {cpu:.1f} |")
    ratio = statistics.median(a[0] / b[0] for a, b in zip(found["with Prefect"], found["without"], strict=True))
    lines += ["", f"With Prefect a month takes {ratio:.2f} times as long (median of the ratios of neighbouring runs)."]
    print("\n".join(lines))
    if arguments.out:
        head = f"# What Prefect costs\n\n`python benchmarks/pipeline.py --rounds {arguments.rounds}`\n\n"
        arguments.out.write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
