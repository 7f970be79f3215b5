"""How long a command takes to answer, against a bare Python start in the same minute.

python benchmarks/startup.py --out benchmarks/results/startup.md
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from grader.overlays import checkpoint

MLEKIT = Path(sys.executable).with_name("mlekit")


def once(argv: list[str], cwd: Path) -> float:
    began = time.perf_counter()
    subprocess.run(argv, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        checkpoint("01", folder)
        once([str(MLEKIT), "check", "01"], folder)  # the verdict that the unchanged check repeats
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "mlekit list": [str(MLEKIT), "list"],
            "mlekit check (unchanged)": [str(MLEKIT), "check", "01"],
            "mlekit --help": [str(MLEKIT), "--help"],
            "mlekit version": [str(MLEKIT), "version"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.runs):  # in turn, so that a slow minute slows them all
            for name, argv in commands.items():
                times[name].append(once(argv, folder))
    finally:
        shutil.rmtree(folder)
    bare = times["python -c pass"]
    lines = ["| command | median ms | times a bare Python start |", "|---|---|---|"]
    for name, taken in times.items():
        ratio = statistics.median(a / b for a, b in zip(taken, bare, strict=True))
        lines.append(f"| {name} | {1000 * statistics.median(taken):.0f} | {ratio:.1f} |")
    text = (
        f"# Start of a command\n\n`python benchmarks/startup.py --runs {arguments.runs}`\n\n" + "\n".join(lines) + "\n"
    )
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
