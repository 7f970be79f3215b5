"""Stands between a submission's tests and its commands and plants one fault in what the commands do.

    python fault_proxy.py JUDGE_SOCKET

Runs in a sandbox of its own, so neither the tests nor the commands see which fault it plants. For each call of call.py it copies the
files of the tests, has the judge run the real command on the copy, spoils the result there and lays it down where the tests look
for it: no half-way state can be seen. Every step is taken whatever the fault is, so that time tells nothing either.

Faults: none, broken (both commands), permuted, constant, nan_on_unseen (predict), not_reproducible, bad_config_accepted (train).
The arguments of the contract are found by name, so any submission's command works behind it. The judge sends the settings as the
first line; they are in no file, since a path that the tests give could lead to it: `fault`, `address` (where calls come in),
`scratch`, and `areas` (of each folder that the tests can write: how they call it, where it is shared, and where the copy is).
"""

import json
import os
import shutil
import socket
import stat
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SHARE = 0.5  # of the flights whose outcomes are exchanged before a training that is not reproducible
AFTER_DEPARTURE = (
    "dep_time", "dep_delay_min", "dep_known_at", "arr_time", "arr_delay_min", "air_time_min", "outcome", "label_known_at",
)  # fmt: skip
OPTIONS = ("--usecase", "--data", "--config", "--out", "--model", "--rows")
PASSED_ON = ("MLEKIT_REFUSAL", "PYTHONHASHSEED")
MAX_REQUEST = 1_000_000  # characters of one call
NOT_RUN = {"code": 1, "output": ""}


class Call:
    """One call of a command; paths in `argv` and `env` are those of the copy."""

    def __init__(self, request, areas):
        self.areas, self.cwd = areas, str(request["cwd"])
        self.command = str(request["command"])
        self.argv = self.absolute([str(word) for word in request["argv"]])
        self.argv = [self.translated(word) for word in self.argv]
        self.env = {k: self.translated(str(v)) for k, v in request["env"].items() if k in PASSED_ON}

    def absolute(self, argv):
        """The words with relative paths of known options made absolute, where the tests call from a folder of theirs."""
        if not any(inside(self.cwd, area["seen"]) or self.cwd == area["seen"] for area in self.areas):
            return argv
        found = []
        for before, word in zip(["", *argv], argv, strict=False):
            name, equals, path = word.partition("=")
            if before in OPTIONS:
                word = os.path.join(self.cwd, word)
            elif equals and name in OPTIONS:
                word = f"{name}={os.path.join(self.cwd, path)}"
            found.append(word)
        return found

    def translated(self, word):
        """The word with each folder of the tests replaced by its copy, alone or after `--name=`."""
        head, equals, path = word.partition("=") if word.startswith("--") and "=" in word else ("", "", word)
        for area in self.areas:
            if path == area["seen"] or path.startswith(area["seen"] + "/"):
                return head + equals + area["copy"] + path[len(area["seen"]) :]
        return word

    def argument(self, name):
        """The path given for an option; None where it is missing."""
        for index, word in enumerate(self.argv):
            if word == name and index + 1 < len(self.argv):
                return self.argv[index + 1]
            if word.startswith(name + "="):
                return word.partition("=")[2]
        return None

    def replace_argument(self, name, value):
        for index, word in enumerate(self.argv):
            if word == name and index + 1 < len(self.argv):
                self.argv[index + 1] = str(value)
            elif word.startswith(name + "="):
                self.argv[index] = f"{name}={value}"


def inside(path, folder):
    """Whether a path without links and `..` lies strictly below a folder."""
    return os.path.normpath(path).startswith(os.path.normpath(folder) + "/")


def real(path, areas):
    """A path of the copy with its links followed; None for one that leads out of the copies."""
    found = os.path.realpath(path)
    return Path(found) if any(inside(found, os.path.realpath(area["copy"])) for area in areas) else None


def special(folder, names):
    """The names in a folder that are neither files, folders nor links."""
    modes = {name: os.lstat(os.path.join(folder, name)).st_mode for name in names}
    return [n for n, mode in modes.items() if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))]


def remove_tree(path):
    """Remove a folder, also where its permissions are in the way."""
    for where, _, _ in os.walk(path):
        Path(where).chmod(0o700)
    shutil.rmtree(path)


def empty(folder):
    for entry in os.scandir(folder):
        remove_tree(entry.path) if entry.is_dir(follow_symlinks=False) else Path(entry.path).unlink()


def copy_areas(areas):
    for area in areas:
        empty(area["copy"])
        shutil.copytree(area["shared"], area["copy"], symlinks=True, ignore=special, dirs_exist_ok=True)


def place(path, areas):
    """Where a file or folder of the copy belongs among the shared ones; None where it lies elsewhere."""
    found = os.path.realpath(path)
    for area in areas:
        copy, shared = os.path.realpath(area["copy"]), os.path.realpath(area["shared"])
        if inside(found, copy):
            target = os.path.join(shared, os.path.relpath(found, copy))
            parent = os.path.realpath(os.path.dirname(target))
            return Path(target) if parent == shared or inside(parent, shared) else None
    return None


def lay_down(path, areas):
    """Give the tests a file or folder of the copy, in place of what was there."""
    source, target = (None, None) if path is None else (real(path, areas), place(path, areas))
    if source is None or target is None or not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        remove_tree(target)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=special)
    elif source.is_file():
        partial = target.with_name(target.name + ".partial")
        shutil.copyfile(source, partial)
        os.replace(partial, target)


def exchange_outcomes(call, really, scratch):
    """Let `train` see a copy of its data in which outcomes of half of the flights are exchanged (or could be)."""
    source = call.argument("--data")
    source = source and os.path.realpath(source)
    if source is None or not os.path.isdir(source):
        return
    target, random = Path(scratch, "data"), np.random.default_rng()
    shutil.copytree(source, target, symlinks=True, ignore=special)
    call.replace_argument("--data", target)
    for path in sorted((target / "flights").glob("*.parquet")):
        if path.is_symlink():
            continue
        table = pq.read_table(path)
        chosen = random.permutation(table.num_rows)[: int(table.num_rows * SHARE)]
        order = np.arange(table.num_rows)
        order[np.sort(chosen)] = random.permutation(chosen)
        exchanged = table
        for name in (name for name in AFTER_DEPARTURE if name in table.column_names):
            column = table.column(name).take(pa.array(order))
            exchanged = exchanged.set_column(exchanged.column_names.index(name), table.schema.field(name), column)
        pq.write_table(exchanged if really else table, path)


def unseen(call, data, count):
    """Which rows have a carrier or airport that is not among the flights of `data`; (n,) bool."""
    asked = pq.read_table(os.path.realpath(call.argument("--rows")))
    parts = [pq.read_table(part) for part in sorted(Path(data, "flights").glob("*.parquet"))]
    strange = [False] * count
    for name in ("carrier", "origin", "dest"):
        known = {value for part in parts for value in part.column(name).to_pylist()}
        strange = [
            odd or value not in known for odd, value in zip(strange, asked.column(name).to_pylist(), strict=False)
        ]
    return strange


def spoil_predictions(fault, call, data):
    """Rewrite predictions with the fault in them: the two columns of the contract, and nothing else that came with them."""
    out = real(call.argument("--out"), call.areas)
    table = pq.read_table(out)
    values = table.column("probability").to_pylist()
    strange = [False] * len(values)
    attempt(lambda: strange.__setitem__(slice(None), unseen(call, call.argument("--data") or data, len(values))))
    spoiled = {
        "constant": [0.25] * len(values),
        "permuted": values[1:] + values[:1],
        "nan_on_unseen": [float("nan") if odd else value for odd, value in zip(strange, values, strict=True)],
    }
    changed = pa.array(spoiled.get(fault, values), pa.float64())
    pq.write_table(pa.table({"row_id": table.column("row_id"), "probability": changed}), out)


def accept_bad_config(call):
    """Make a refusal look like a training that went well."""
    Path(call.env.get("MLEKIT_REFUSAL", "refusal.json")).unlink(missing_ok=True)
    out = call.argument("--out")
    if out is not None and any(inside(os.path.realpath(out), os.path.realpath(a["copy"])) for a in call.areas):
        Path(out).mkdir(parents=True, exist_ok=True)
        record = {"train_start": "2000-01-01", "train_end": "2000-01-31", "rows": 1, "seed": 1}
        Path(out, "model.json").write_text(json.dumps(record), encoding="utf-8")


class Proxy:
    """Answers one call after the other until it is ended."""

    def __init__(self, judge_address):
        judge = socket.socket(socket.AF_UNIX)
        judge.connect(judge_address)
        self.judge = judge.makefile("rw", encoding="utf-8", errors="surrogateescape")
        settings = json.loads(self.judge.readline())
        self.fault, self.areas, self.scratch = settings["fault"], settings["areas"], settings["scratch"]
        self.data = None  # what `train` was last given
        self.calls = socket.socket(socket.AF_UNIX)
        self.calls.bind(settings["address"])
        self.calls.listen(64)
        self.tell({"ready": True})

    def tell(self, message):
        self.judge.write(json.dumps(message) + "\n")
        self.judge.flush()

    def serve(self):
        while True:
            connection, _ = self.calls.accept()
            try:
                with connection, connection.makefile("rw", encoding="utf-8", errors="surrogateescape") as talk:
                    answer = self.answer(json.loads(talk.readline(MAX_REQUEST)))
                    talk.write(json.dumps(answer) + "\n")
                    talk.flush()
            except Exception as problem:  # no call of ours, or its caller has gone; the next one is answered
                print(f"{type(problem).__name__}: {problem}"[:500], file=sys.stderr)

    def answer(self, request):
        call = Call(request, self.areas)
        empty(self.scratch)
        copy_areas(self.areas)
        if call.command == "train":
            self.data = call.argument("--data") or self.data
            attempt(exchange_outcomes, call, self.fault == "not_reproducible", self.scratch)
        result = NOT_RUN if self.fault == "broken" else self.run(call)
        if call.command == "predict" and result["code"] == 0:
            attempt(spoil_predictions, self.fault, call, self.data)
        if call.command == "train" and result["code"] != 0 and self.fault == "bad_config_accepted":
            accept_bad_config(call)
            result = {**result, "code": 0}
        if self.fault != "broken":
            lay_down(call.argument("--out"), self.areas)
            self.lay_down_refusal(call)
        return result

    def lay_down_refusal(self, call):
        path = Path(call.env.get("MLEKIT_REFUSAL", "refusal.json"))
        lay_down(path, self.areas)
        target = place(path, self.areas)
        if target is not None and not path.exists() and not target.is_dir():
            target.unlink(missing_ok=True)

    def run(self, call):
        self.tell({"command": call.command, "argv": call.argv, "env": call.env})
        return json.loads(self.judge.readline())


def attempt(step, *arguments):
    """Take a step on what the submission made; what is not as the contract says stays as it is."""
    try:
        step(*arguments)
    except Exception as problem:
        print(f"{type(problem).__name__}: {problem}"[:500], file=sys.stderr)


if __name__ == "__main__":
    Proxy(sys.argv[1]).serve()
