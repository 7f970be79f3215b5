"""A shim in front of one command of a submission: runs the real one, then spoils what it did; runs in the sandbox.

    python shim.py FAULT COMMAND REAL_ARGV... -- as called

Faults: none, broken (both), permuted, constant, nan_on_unseen (predict), not_reproducible, bad_config_accepted (train). It is the kit's own
code and finds the arguments of the contract by name, so any submission's real command works behind it.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path


def argument(argv, name):
    for index, word in enumerate(argv):
        if word == name and index + 1 < len(argv):
            return Path(argv[index + 1])
        if word.startswith(name + "="):
            return Path(word.partition("=")[2])
    return None


def with_argument(argv, name, value):
    changed = list(argv)
    for index, word in enumerate(changed):
        if word == name and index + 1 < len(changed):
            changed[index + 1] = str(value)
        elif word.startswith(name + "="):
            changed[index] = f"{name}={value}"
    return changed


def scratch(name):
    folder = Path(os.environ.get("TMPDIR", "/tmp"), f"shim-{os.getpid()}")
    folder.mkdir(exist_ok=True)
    return folder / name


def read(path):
    import pyarrow.parquet as pq

    return pq.read_table(path)


def write_probabilities(path, table, values):
    import pyarrow as pa
    import pyarrow.parquet as pq

    index = table.column_names.index("probability")
    pq.write_table(table.set_column(index, "probability", pa.array(values, pa.float64())), path)


def spoil_predictions(fault, argv):
    out = argument(argv, "--out")
    table = read(out)
    values = table.column("probability").to_pylist()
    if fault == "constant":
        values = [0.25] * len(values)
    elif fault == "permuted":
        values = values[1:] + values[:1]
    elif fault == "nan_on_unseen":
        rows, strange = read(argument(argv, "--rows")), [False] * len(values)
        parts = [read(part) for part in sorted((argument(argv, "--data") / "flights").glob("*.parquet"))]
        for name in ("carrier", "origin", "dest"):
            known = {value for part in parts for value in part.column(name).to_pylist()}
            strange = [
                odd or value not in known for odd, value in zip(strange, rows.column(name).to_pylist(), strict=True)
            ]
        values = [float("nan") if odd else value for odd, value in zip(strange, values, strict=True)]
    write_probabilities(out, table, values)


def another_sample(path):
    """The same data folder with another random 70 % of the flights at each call: what training without a seed feels like."""
    import pyarrow.parquet as pq

    target = scratch("data")
    for source in sorted(path.rglob("*")):
        copy = target / source.relative_to(path)
        if source.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
        elif source.parent.name == "flights":
            copy.parent.mkdir(parents=True, exist_ok=True)
            table = read(source)
            order = list(range(table.num_rows))
            random.SystemRandom().shuffle(order)
            pq.write_table(table.take(order[: max(1, int(len(order) * 0.7))]), copy)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    return target


def main(fault, command, argv):
    if fault == "broken":
        return 1
    if fault == "not_reproducible" and command == "train":
        argv = with_argument(argv, "--data", another_sample(argument(argv, "--data")))
    code = subprocess.run(argv, check=False).returncode
    if fault == "bad_config_accepted" and command == "train":
        refusal = os.environ.get("MLEKIT_REFUSAL")
        if code and refusal:
            Path(refusal).unlink(missing_ok=True)
        out = argument(argv, "--out")
        if code and out is not None:
            out.mkdir(parents=True, exist_ok=True)
            start = {"train_start": "2000-01-01", "train_end": "2000-01-31", "rows": 1, "seed": 1}
            (out / "model.json").write_text(json.dumps(start), encoding="utf-8")
        return 0
    if code == 0 and fault in ("constant", "permuted", "nan_on_unseen") and command == "predict":
        spoil_predictions(fault, argv)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
