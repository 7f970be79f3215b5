"""What a learner waits for: a new workspace, a cold check, one after an edit, an unchanged one, and the verdict of `watch`.

python benchmarks/learner.py [--stage 01] [--rounds 3] [--out benchmarks/results/learner.md]

The work is the kit's solution; an edit changes a comment, so everything has to be run again. Where the time of a check goes is
taken from its grade: what the submission's own processes took, and the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MLEKIT = Path(sys.executable).with_name("mlekit")


def timed(*arguments: str, cwd: Path) -> tuple[float, str]:
    """Seconds and output of one command."""
    began = time.perf_counter()
    done = subprocess.run([MLEKIT, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    return time.perf_counter() - began, done.stdout


def edit(folder: Path, number: int) -> None:
    """Change a comment of the work."""
    path = folder / "notebooks" / "baseline.ipynb"
    if (folder / "flightdelay" / "features.py").exists():
        path = folder / "flightdelay" / "features.py"
        path.write_text(f"{path.read_text()}\n# {number}\n")
    else:
        notebook = json.loads(path.read_text())
        code = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
        code["source"] = ["".join(code["source"]), f"\n# {number}"]
        path.write_text(json.dumps(notebook))


def watched(folder: Path, rounds: int) -> list[float]:
    """Seconds from an edit to the verdict of `mlekit watch` in a terminal."""
    master, slave = pty.openpty()
    running = subprocess.Popen(
        [MLEKIT, "watch"], cwd=folder, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)

    def until(pattern: str) -> None:
        text = ""
        while not re.search(pattern, text):
            text += os.read(master, 65536).decode(errors="replace")

    found = []
    try:
        until("Waiting for changes")
        for number in range(rounds):
            time.sleep(1)
            began = time.perf_counter()
            edit(folder, 1000 + number)
            until("required checks? pass")
            found.append(time.perf_counter() - began)
            until("Waiting for changes")
    finally:
        running.send_signal(signal.SIGINT)
        running.wait()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", default="01")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "work")
        new, _ = timed("new", "work", cwd=Path(place))
        timed("solution", arguments.stage, "--early", cwd=folder)
        from grader.overlays import checkpoint

        checkpoint(arguments.stage, folder)
        timed("goto", arguments.stage, cwd=folder)
        checkpoint(arguments.stage, folder)
        cold, _ = timed("check", "--json", cwd=folder)
        rows, own, again = [], [], []
        for number in range(arguments.rounds):
            edit(folder, number)
            seconds, text = timed("check", "--json", cwd=folder)
            rows.append(seconds)
            own.append(json.loads(text)["submission_seconds"])
            again.append(timed("check", cwd=folder)[0])
        seen = watched(folder, arguments.rounds)
    median = statistics.median
    lines = [
        f"Stage {arguments.stage}, {arguments.rounds} rounds, medians in seconds ({os.cpu_count()} cores)",
        "",
        "| what | seconds |",
        "|---|---|",
        f"| `mlekit new` | {new:.1f} |",
        f"| `check`, first of a workspace | {cold:.1f} |",
        f"| `check` after an edit | {median(rows):.1f} |",
        f"| of that, summed over the submission's own processes | {median(own):.1f} |",
        f"| `check` of which nothing changed | {median(again):.2f} |",
        f"| from an edit to the verdict of `watch` | {median(seen):.1f} |",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
