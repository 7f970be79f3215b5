"""What a sandbox costs: `python benchmarks/sandbox.py [N]` prints a Markdown table (medians of N runs, interleaved)."""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from grader.sandbox import Job, Limits, Mount, choose, detect
from grader.sandbox.reader import Reader

ROWS = 8_000
ENV = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - began)


def bare(argv: list[str]) -> None:
    subprocess.run(argv, env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


def table(rows: list[tuple[str, float, float]]) -> str:
    head = "| what | milliseconds | times the bare run |\n| --- | ---: | ---: |\n"
    return head + "\n".join(
        f"| {name} | {ms:.1f} | {ratio:.2f} |" if ratio else f"| {name} | {ms:.1f} | |" for name, ms, ratio in rows
    )


def watching(rung: str, folder: Mount, seconds: float = 4.0) -> float:
    """Share of one core that the judge spends on watching a job of ten idle processes."""
    code = f"import os, time\nfor _ in range(9):\n    if os.fork() == 0: break\ntime.sleep({seconds})"
    before = time.process_time()
    choose(rung).run(Job(["python", "-c", code], [folder], folder, ENV, Limits(seconds=60)))
    return (time.process_time() - before) / seconds


def main(times: int) -> None:
    found = detect()
    rungs = ["plain", "bubblewrap"] if found.rung == "bubblewrap" else ["plain"]
    sandboxes = {rung: choose(rung) for rung in rungs}
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(made)
        folder = Mount(scratch, "submission")
        commands = {
            "true": ["true"],
            "python -c pass": ["python", "-c", "pass"],
            "python -c 'import pandas'": ["python", "-c", "import pandas"],
        }
        rows = []
        for name, argv in commands.items():
            ways: dict[str, Callable[[], object]] = {
                "bare": lambda a=argv: bare([sys.executable if w == "python" else w for w in a])
            }
            for rung in rungs:
                ways[rung] = lambda s=sandboxes[rung], a=argv: s.run(Job(a, [folder], folder, ENV))
            spent: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(times):
                for way, action in ways.items():
                    spent[way].append(timed(action))
            middle = {way: statistics.median(values) for way, values in spent.items()}
            rows += [(f"`{name}`, {way}", ms, ms / middle["bare"]) for way, ms in middle.items()]
        path = scratch / "predictions.parquet"
        pq.write_table(pa.table({"row_id": [f"r{n}" for n in range(ROWS)], "probability": [0.2] * ROWS}), path)
        for rung in rungs:
            reader = Reader(sandboxes[rung], scratch / "answers")
            ms = statistics.median(timed(lambda r=reader: r.parquet(path)) for _ in range(max(3, times // 3)))
            rows.append((f"reading {ROWS:,} predictions, {rung}", ms, 0.0))
        rows.append(
            (
                "detecting the rung (once a process)",
                statistics.median(timed(detect.__wrapped__) for _ in range(times)),
                0.0,
            )
        )
        shares = {rung: watching(rung, folder) for rung in rungs}
    print(f"# What the sandbox costs\n\n`python benchmarks/sandbox.py {times}` on {os.cpu_count()} cores, {platform.system()} "
          f"{platform.release().split('-')[0]}, Python {platform.python_version()}; medians of {times}, ways taken in turn.\n")  # fmt: skip
    print(table(rows))
    print(
        "\nWatching a job of ten idle processes takes "
        + ", ".join(f"{share:.1%} of one core ({rung})" for rung, share in shares.items())
        + "."
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
