"""Another gate before the same model: Bayes factors instead of resampling, and a table of moves instead of a tag.

    python gate.py promote|rollback ...

A move is one line of `moves.db` in MLEKIT_STATE: begun before the alias moves, done after that, undone by a rollback. Whoever holds an
exclusive transaction of `turn.db` decides; the others wait for it.
"""

import argparse
import json
import math
import os
import sqlite3
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import delay

# How much likelier the data have to be if there is a difference than if there is none. The prior of the difference is a normal
# of one standard error, so 2 is reached at 2.0 errors and 15 at 3.5 (see `errors_for`).
BETTER, WORSE = 2.0, 15.0
TOO_GOOD, OFF, SLOWER = 0.91, 0.08, 4.0
FEW = 300
TABLES = """CREATE TABLE IF NOT EXISTS moves (
    id INTEGER PRIMARY KEY, since TEXT, upto TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN ('begun', 'done', 'undone'))
)"""


def errors_for(factor):
    """At how many standard errors the Bayes factor of a mean, normal(0, 1 error) against 0, reaches `factor`: exp(z²/4) / √2."""
    return 2 * math.sqrt(math.log(factor * math.sqrt(2)))


class Book:
    """The moves of the alias, and who may move it now."""

    def __init__(self, registry):
        self.registry = registry
        state = Path(os.environ["MLEKIT_STATE"])
        self.door = sqlite3.connect(state / "moves.db", isolation_level=None)
        self.lock = sqlite3.connect(state / "turn.db", timeout=280, isolation_level=None)

    @contextmanager
    def turn(self):
        self.lock.execute("BEGIN EXCLUSIVE")
        try:
            self.door.execute(TABLES)
            self.settle()
            yield
        finally:
            self.lock.execute("ROLLBACK")

    def alias(self):
        model = self.registry.there(self.registry.client.get_registered_model, self.registry.name)
        at = model and model.aliases.get("champion")
        return None if at is None else str(at)

    def champion(self):
        at = self.alias()
        return at if at is not None and self.registry.has(at) else None

    def settle(self):
        """What a crash left begun is done if the alias says so, and has not been otherwise."""
        at = self.alias()
        self.door.execute("UPDATE moves SET state = 'done' WHERE state = 'begun' AND upto = ?", (at,))
        self.door.execute("DELETE FROM moves WHERE state = 'begun'")

    def move(self, since, upto):
        self.door.execute("INSERT INTO moves (since, upto, state) VALUES (?, ?, 'begun')", (since, upto))
        self.registry.client.set_registered_model_alias(self.registry.name, "champion", upto)
        self.door.execute("UPDATE moves SET state = 'done' WHERE state = 'begun'")

    def back(self):
        """The version before this one that is still there, and the moves that lead back to it."""
        at, taken, open_end = self.alias(), [], False
        for number, since, upto in self.door.execute("SELECT id, since, upto FROM moves WHERE state = 'done' ORDER BY id DESC").fetchall():
            by_hand = not taken and at not in (None, upto)  # somebody moved the alias since
            if (by_hand or open_end) and self.registry.has(upto):
                return upto, taken
            taken.append(number)
            if since is not None and self.registry.has(since):
                return since, taken
            open_end = since is None  # it was promoted where there was no champion; there may have been one before
        return None, taken


def seconds(old, new, x):
    """The quickest of some calls about one flight and about a hundred, in turns; a busy machine can only make a call slower."""
    found = []
    for rows in (x.head(1), x.head(100)):
        best = [math.inf, math.inf]
        for _ in range(8):
            for i, model in enumerate((old, new)):
                start = time.perf_counter()
                delay.said(model, rows)
                best[i] = min(best[i], time.perf_counter() - start)
        found.append(best)
    return max(found, key=lambda pair: pair[1] / pair[0])


def reasons_against(load, champion, challenger, x, flights, slices):
    from sklearn.metrics import roc_auc_score

    label = flights["label"].to_numpy() == 1
    old = load(champion) if champion else None
    q = delay.said(old, x) if champion else None
    try:
        new = load(challenger)
        p = delay.said(new, x)
    except Exception:
        return [{"gate": "schema", "metric": "answers", "champion": None, "challenger": None, "bar": None, "slice": None}]
    out = []

    def no(gate, metric, mine, theirs, bar, where=None):
        numbers = {"champion": mine, "challenger": theirs, "bar": bar}
        out.append({"gate": gate, "metric": metric, **{k: None if v is None else float(v) for k, v in numbers.items()}, "slice": where})

    auc = roc_auc_score(label, p)
    if auc > TOO_GOOD:
        no("too_good", "auc", roc_auc_score(label, q) if champion else None, auc, TOO_GOOD)
    off = delay.calibration_error(label, p)
    if off > OFF:
        no("calibration", "calibration_error", delay.calibration_error(label, q) if champion else None, off, OFF)
    if not champion:
        return out
    ours, theirs = delay.losses(label, q), delay.losses(label, p)
    worse = theirs - ours

    def weighed(rows):
        error = worse[rows].std(ddof=1) / math.sqrt(len(rows))
        return ours[rows].mean(), theirs[rows].mean(), error

    mine, its, error = weighed(np.arange(len(x)))
    bar = mine - errors_for(BETTER) * error
    if its > bar or its >= mine:
        no("not_better", "log_loss", mine, its, bar)
    for column in slices:
        for value, rows in sorted(flights.groupby(column).indices.items()):
            if len(rows) >= FEW:
                mine, its, error = weighed(rows)
                bar = mine + errors_for(WORSE) * error
                if its > bar:
                    no("slice", "log_loss", mine, its, bar, f"{column}={value}")
    quick, slow = seconds(old, new, x)
    if slow > SLOWER * quick:
        no("latency", "seconds_of_the_quickest_call", quick, slow, SLOWER * quick)
    return out


def promote(given):
    import mlflow

    registry = delay.Registry(given.usecase)
    if not registry.has(given.version):
        raise delay.Refused(f"{registry.name} has no version {given.version}")
    source = delay.Source(given.usecase, given.data)
    flights = source.tables["flights"]
    month = flights["sched_dep_local"].str[:7]
    flights = flights[(month == month.max()) & flights["label"].notna()].reset_index(drop=True)
    x = source.features(flights)
    book = Book(registry)
    with book.turn():
        champion = book.champion()
        against = reasons_against(
            lambda version: mlflow.pyfunc.load_model(f"models:/{registry.name}/{version}"),
            champion, given.version, x, flights, source.case["slices"],
        )  # fmt: skip
        if not against:
            book.move(champion, given.version)
        decision = "refused" if against else "promoted"
        delay.audit("promote", champion, given.version, decision, against)
    after = champion if against else given.version
    answer = {"decision": decision, "champion_before": champion, "champion_after": after, "reasons": against}
    Path(given.out).write_text(json.dumps(answer))


def rollback(given):
    registry = delay.Registry(given.usecase)
    book = Book(registry)
    with book.turn():
        champion = book.champion()
        to, taken = book.back()
        if to is None:
            raise delay.Refused(f"no champion of {registry.name} before {champion} is known")
        registry.client.set_registered_model_alias(registry.name, "champion", to)
        for number in taken:
            book.door.execute("UPDATE moves SET state = 'undone' WHERE id = ?", (number,))
        delay.audit("rollback", champion, to, "promoted", [])
    Path(given.out).write_text(json.dumps({"from": champion, "to": to}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("promote", "rollback"))
    for option in ("usecase", "version", "data", "out"):
        parser.add_argument(f"--{option}", required=option in ("usecase", "out"))
    asked = parser.parse_args()
    try:
        {"promote": promote, "rollback": rollback}[asked.command](asked)
    except delay.Refused as problem:
        Path(os.environ["MLEKIT_REFUSAL"]).write_text(json.dumps({"code": "refused", "message": str(problem)}))
        sys.exit(2)
