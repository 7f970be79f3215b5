"""Stands between a submission's tests and its commands and plants one fault in what the commands do.

    python fault_proxy.py SETTINGS.json

Runs in a sandbox of its own, so neither the tests nor the commands see which fault it plants. For each call of call.py it copies the
files of the tests, has the judge run the real command on the copy, spoils the result there and lays it down where the tests look
for it: no half-way state can be seen. Every step is taken whatever the fault is, so that time tells nothing either.

Faults: none, broken (both commands), permuted, constant, nan_on_unseen (predict), not_reproducible, bad_config_accepted (train).
The arguments of the contract are found by name, so any submission's command works behind it. Settings: `fault`, `address` (where
calls come in), `judge` (where commands are run), `areas` (of each folder the tests can write: how they call it, where it is shared,
and where the copy is).
"""

import json
import os
import random
import shutil
import socket
import stat
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SHARE = 0.7  # of the flights that a training sees which is not reproducible
PASSED_ON = ("MLEKIT_REFUSAL", "PYTHONHASHSEED", "OMP_NUM_THREADS")
NOT_RUN = {"code": 1, "output": ""}


class Call:
    """One call of a command; paths in `argv` and `env` are those of the copy."""

    def __init__(self, request, areas):
        self.areas = areas
        self.command = str(request["command"])
        self.argv = [self.translated(str(word)) for word in request["argv"]]
        self.env = {k: self.translated(str(v)) for k, v in request["env"].items() if k in PASSED_ON}

    def translated(self, word):
        """The word with each folder of the tests replaced by its copy, alone or after `--name=`."""
        head, equals, path = word.rpartition("=") if word.startswith("--") else ("", "", word)
        for area in self.areas:
            if path == area["seen"] or path.startswith(area["seen"] + "/"):
                return head + equals + area["copy"] + path[len(area["seen"]) :]
        return word

    def argument(self, name):
        for index, word in enumerate(self.argv):
            if word == name and index + 1 < len(self.argv):
                return Path(self.argv[index + 1])
            if word.startswith(name + "="):
                return Path(word.partition("=")[2])
        return None

    def replace_argument(self, name, value):
        for index, word in enumerate(self.argv):
            if word == name and index + 1 < len(self.argv):
                self.argv[index + 1] = str(value)
            elif word.startswith(name + "="):
                self.argv[index] = f"{name}={value}"


def special(folder, names):
    """The names in a folder that are neither files, folders nor links."""
    modes = {name: os.lstat(os.path.join(folder, name)).st_mode for name in names}
    return [n for n, mode in modes.items() if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))]


def empty(folder):
    for entry in os.scandir(folder):
        shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else Path(entry.path).unlink()


def copy_areas(areas):
    for area in areas:
        empty(area["copy"])
        shutil.copytree(area["shared"], area["copy"], symlinks=True, ignore=special, dirs_exist_ok=True)


def lay_down(path, areas):
    """Give the tests a file or folder of the copy, in place of what was there."""
    for area in areas:
        if path is not None and path.is_relative_to(area["copy"]) and path != Path(area["copy"]) and path.exists():
            target = Path(area["shared"], path.relative_to(area["copy"]))
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            if path.is_dir():
                shutil.copytree(path, target, symlinks=True, ignore=special)
            else:
                partial = target.with_name(target.name + ".partial")
                shutil.copyfile(path, partial)
                os.replace(partial, target)


def sample(call, share, scratch):
    """Let `train` see a copy of its data with a random share of the flights (what training without a seed feels like)."""
    source = call.argument("--data")
    if source is None or not source.is_dir():
        return
    target = Path(scratch, "data")
    shutil.copytree(source, target, ignore=special)
    for path in sorted((target / "flights").glob("*.parquet")):
        table = pq.read_table(path)
        order = list(range(table.num_rows))
        if share < 1:
            random.SystemRandom().shuffle(order)
        pq.write_table(table.take(order[: max(1, int(len(order) * share))]), path)
    call.replace_argument("--data", target)


def spoil_predictions(fault, call):
    out, rows, data = (call.argument(name) for name in ("--out", "--rows", "--data"))
    table = pq.read_table(out)
    values = table.column("probability").to_pylist()
    asked = pq.read_table(rows)
    parts = [pq.read_table(part) for part in sorted((data / "flights").glob("*.parquet"))]
    strange = [False] * len(values)
    for name in ("carrier", "origin", "dest"):
        known = {value for part in parts for value in part.column(name).to_pylist()}
        strange = [
            odd or value not in known for odd, value in zip(strange, asked.column(name).to_pylist(), strict=True)
        ]
    spoiled = {
        "constant": [0.25] * len(values),
        "permuted": values[1:] + values[:1],
        "nan_on_unseen": [float("nan") if odd else value for odd, value in zip(strange, values, strict=True)],
    }
    index = table.column_names.index("probability")
    changed = pa.array(spoiled.get(fault, values), pa.float64())
    pq.write_table(table.set_column(index, "probability", changed), out)


def accept_bad_config(call):
    """Make a refusal look like a training that went well."""
    Path(call.env.get("MLEKIT_REFUSAL", "refusal.json")).unlink(missing_ok=True)
    out = call.argument("--out")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        record = {"train_start": "2000-01-01", "train_end": "2000-01-31", "rows": 1, "seed": 1}
        (out / "model.json").write_text(json.dumps(record), encoding="utf-8")


class Proxy:
    """Answers one call after the other until it is ended."""

    def __init__(self, settings):
        self.fault, self.areas = settings["fault"], settings["areas"]
        self.scratch = settings["scratch"]
        judge = socket.socket(socket.AF_UNIX)
        judge.connect(settings["judge"])
        self.judge = judge.makefile("rw", encoding="utf-8", errors="surrogateescape")
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
            with connection, connection.makefile("rw", encoding="utf-8", errors="surrogateescape") as talk:
                try:
                    answer = self.answer(json.loads(talk.readline()))
                    talk.write(json.dumps(answer) + "\n")
                    talk.flush()
                except (OSError, ValueError, KeyError, AttributeError, TypeError):
                    pass  # no call of ours, or its caller has gone

    def answer(self, request):
        call = Call(request, self.areas)
        empty(self.scratch)
        copy_areas(self.areas)
        if call.command == "train":
            attempt(sample, call, SHARE if self.fault == "not_reproducible" else 1, self.scratch)
        result = NOT_RUN if self.fault == "broken" else self.run(call)
        if call.command == "predict" and result["code"] == 0:
            attempt(spoil_predictions, self.fault, call)
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
        if not path.exists():
            for area in self.areas:
                if path.is_relative_to(area["copy"]):
                    Path(area["shared"], path.relative_to(area["copy"])).unlink(missing_ok=True)

    def run(self, call):
        self.tell({"command": call.command, "argv": call.argv, "env": call.env})
        return json.loads(self.judge.readline())


def attempt(step, *arguments):
    """Take a step on what the submission made; what is not as the contract says stays as it is."""
    try:
        step(*arguments)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, shutil.Error, pa.ArrowException) as problem:
        print(f"{step.__name__}: {problem}", file=sys.stderr)


if __name__ == "__main__":
    Proxy(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))).serve()
