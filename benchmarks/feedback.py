"""Do messages lead to the fault? Lay down mutants with what a learner is told of them, and score where a reader says that the fault is.

python benchmarks/feedback.py lay DECKS --results selftest.jsonl --decks 4
python benchmarks/feedback.py score DECKS --out benchmarks/results/feedback.md

A deck holds a card for each stage: `message.txt`, as `mlekit check` prints it, and the whole submission. A reader who knows neither the
reference nor the name of the mutant writes `answers.json` beside the cards, {"CARD": {"file", "line", "fault"}}, the most likely place
first tried. It counts as found within five lines of an edit; the key lies apart from the decks.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from grader import pool, stages
from grader.pool import Entry, Kind
from grader.selftest import Rate, Results, Seen
from grader.verdict import Outcome

NEAR = 5  # lines
KEY = "key.json"
SHOWN = (Outcome.FAIL, Outcome.BLOCKED)


def message(seen: Seen) -> str:
    """What is told of each check of the stage, in the order of the terminal."""
    titles = {check.id: check.title for check in stages.all_checks()}
    lines = [f"stage {seen.stage}"]
    for check, outcome in seen.outcomes.items():
        lines.append(f"{outcome:8} {check}: {titles[check]}")
        if outcome in SHOWN:
            lines.append(f"         {seen.reasons[check]}")
    return "\n".join(lines) + "\n"


def places(entry: Entry, folder: Path) -> list[tuple[str, int, int]]:
    """Where the fault is: file, first and last line of what was put there; a file that was added or lost is one as a whole."""
    found = [(file, 0, 10**9) for file, _ in entry.files] + [(file, 0, 10**9) for file in entry.delete]
    for file, _, replace in entry.edits:
        text = (folder / file).read_text(encoding="utf-8")
        wanted = json.dumps(replace)[1:-1] if file.endswith(".ipynb") else replace
        at = text.find(wanted) if wanted else -1
        if at < 0:  # cut out, or spread over the lines of a notebook
            found.append((file, 0, 10**9))
        else:
            first = text.count("\n", 0, at) + 1
            found.append((file, first, first + wanted.count("\n")))
    return found


def lay(target: Path, results: Path, decks: int, seed: int) -> None:
    entries = {str(entry): entry for entry in pool.mutants()}
    known = [seen for seen in Results(results).of(pool.entries()) if seen.kind is Kind.MUTANT and not seen.problem]
    key: dict[str, Any] = {}
    draw = random.Random(seed)
    for stage in stages.all_stages():
        mine = sorted((seen for seen in known if seen.stage == stage.id), key=lambda seen: seen.name)
        for number, seen in enumerate(draw.sample(mine, min(decks, len(mine))), 1):
            card = target / f"deck-{number}" / f"card-{stage.id}"
            entries[seen.name].lay_down(card / "submission")
            (card / "message.txt").write_text(message(seen), encoding="utf-8")
            key[f"deck-{number}/card-{stage.id}"] = [seen.name, places(entries[seen.name], card / "submission")]
    target.with_name(f"{target.name}-{KEY}").write_text(json.dumps(key, indent=1), encoding="utf-8")
    print(f"{len(key)} cards; the key is beside the folder, not in it")


def score(target: Path, out: Path | None) -> None:
    key = json.loads(target.with_name(f"{target.name}-{KEY}").read_text(encoding="utf-8"))
    rows, hits = [], 0
    for card, (name, where) in key.items():
        deck, _, short = card.partition("/")
        path = target / deck / "answers.json"
        answer = json.loads(path.read_text(encoding="utf-8")).get(short) if path.exists() else None
        if answer is None:
            continue
        file, line = str(answer["file"]).removeprefix("submission/"), int(answer.get("line") or 0)
        right = any(file == place and first - NEAR <= line <= last + NEAR for place, first, last in where)
        hits += right
        rows.append(f"| {name} | {'yes' if right else '**no**'} | {' '.join(str(answer['fault']).split())[:140]} |")
    text = "\n".join([
        "# Do messages lead to the fault?", "",
        "`python benchmarks/feedback.py`: a reader who sees the message and the code, and no more, says at first try where the fault is. "
        f"It was found in {Rate(hits, len(rows))}.", "", "| mutant | found | what the reader said |", "|---|---|---|", *rows, "",
    ])  # fmt: skip
    print(text)
    if out:
        out.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("lay", "score"))
    parser.add_argument("decks_folder", type=Path, metavar="DECKS")
    parser.add_argument("--results", type=Path, default=Path("selftest.jsonl"))
    parser.add_argument("--decks", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.what == "lay":
        lay(given.decks_folder, given.results, given.decks, given.seed)
    else:
        score(given.decks_folder, given.out)


if __name__ == "__main__":
    main()
