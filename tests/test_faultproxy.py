"""The faults that are planted between a submission's tests and its commands, with real processes on each rung."""

import json
import textwrap

import pytest

from grader.checks.s02_package import FAULTS
from grader.contract.manifest import Manifest
from grader.faultproxy import FaultProxy
from grader.sandbox import Limits, Mount, SandboxFault, choose, detect
from grader.sandbox.reader import INSIDE
from grader.submission import Submission

isolating = pytest.mark.skipif(detect().rung != "bubblewrap", reason=detect().why)
LIMITS = Limits(seconds=60, memory_mb=2048)

COMMAND = """
    import json, os, sys
    from pathlib import Path
    import pyarrow.parquet as pq
    import pyarrow as pa
    a = dict(word.partition("=")[::2] if "=" in word else (word, "") for word in sys.argv[2:])
    print("ran with", os.environ.get("PYTHONHASHSEED"), os.environ.get("SECRET"))
    if sys.argv[1] == "train":
        count = sum(pq.read_table(p).num_rows for p in Path(a["--data"], "flights").glob("*.parquet"))
        if "bad" in Path(a["--config"]).read_text():
            Path(os.environ["MLEKIT_REFUSAL"]).write_text('{"key": "bad"}')
            sys.exit(2)
        Path(a["--out"]).mkdir(parents=True)
        Path(a["--out"], "model.json").write_text(json.dumps({"rows": count}))
        Path(os.environ["TMPDIR"], "left.txt").write_text("a word from train to the tests")
    else:
        rows = pq.read_table(a["--rows"])
        values = [i / 100 for i in range(rows.num_rows)]
        pq.write_table(pa.table({"row_id": rows["row_id"], "probability": values}), a["--out"])
"""

TESTS = """
    import json, os, subprocess, sys, time
    from pathlib import Path
    import pyarrow as pa
    import pyarrow.parquet as pq
    words, found = json.loads(Path(sys.argv[1]).read_text()), {}
    here = Path(os.environ["TMPDIR"], "a folder")
    (here / "data" / "flights").mkdir(parents=True)
    row = {"carrier": ["AA"] * 100, "origin": ["JFK"] * 100, "dest": ["BOS"] * 100}
    pq.write_table(pa.table({"flight_id": [str(i) for i in range(100)], **row}), here / "data/flights/2013-01.parquet")
    asked = {k: v[:3] for k, v in row.items()}
    asked["dest"] = ["BOS", "ZZZ", "BOS"]
    pq.write_table(pa.table({"row_id": ["a", "b", "c"], **asked}), here / "rows.parquet")
    (here / "good.toml").write_text("")
    (here / "bad.toml").write_text("bad")
    refusal = here / "refusal.json"
    env = {**os.environ, "MLEKIT_REFUSAL": str(refusal), "PYTHONHASHSEED": "3", "SECRET": "x"}
    def call(name, **options):
        line = [*words[name], *(f"--{k}={v}" for k, v in options.items())]
        done = subprocess.run(line, env=env, capture_output=True, text=True)
        found["said"] = done.stderr
        return done.returncode
    found["train"] = call("train", data=here / "data", config=here / "good.toml", out=here / "model")
    if (here / "model" / "model.json").exists():
        found["rows"] = json.loads((here / "model" / "model.json").read_text())["rows"]
    found["left"] = (Path(os.environ["TMPDIR"]) / "left.txt").exists()
    out = here / "answers.parquet"
    found["predict"] = call("predict", model=here / "model", data=here / "data", rows=here / "rows.parquet", out=out)
    found["answers"] = str(pq.read_table(out)["probability"].to_pylist()) if out.exists() else None
    refusal.write_text("an old one")
    found["refused"] = call("train", data=here / "data", config=here / "bad.toml", out=here / "never")
    found["refusal"] = refusal.read_text() if refusal.exists() else None
    found["accepted"] = (here / "never" / "model.json").exists()
    seen = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        seen.append(path.read_bytes().decode(errors="replace"))
    for top in (sys.argv[1], *map(os.path.dirname, words["train"][1:3]), os.environ["TMPDIR"]):
        for path in [Path(top), *Path(top).rglob("*")]:
            seen.append(str(path))
            seen.append(path.read_text(errors="replace") if path.is_file() else "")
    found["seen"] = chr(10).join(seen)
    Path(sys.argv[2]).write_text(json.dumps(found))
"""


@pytest.fixture(params=["plain", pytest.param("bubblewrap", marks=isolating)])
def sandbox(request):
    made = choose(request.param, slots=1)
    yield made
    made.close()


def run(sandbox, folder, fault, tests=TESTS, limits=LIMITS):
    """The tests' run behind a planted fault, and what they wrote."""
    for name in ("submission", "out", "copies", "line", "given"):
        (folder / name).mkdir(parents=True)
    (folder / "submission" / "command.py").write_text(textwrap.dedent(COMMAND))
    (folder / "submission" / "tests.py").write_text(textwrap.dedent(tests))
    submission = Submission(folder / "submission", Manifest(contract=1), sandbox)
    commands = {name: ["python", "command.py", name] for name in ("train", "predict")}
    proxy = FaultProxy(submission, sandbox, commands, fault, folder / "out", folder / "copies", folder / "line", limits)
    (folder / "given" / "commands.json").write_text(json.dumps({name: proxy.words(name) for name in commands}))
    given, scratch = Mount(folder / "given", "given"), Mount(folder / "out" / "work", "work", writable=True)
    written = Mount(folder / "out" / "out", "out", writable=True)
    argv = ["python", "tests.py", given / "commands.json", written / "found.json"]
    tools = [Mount(INSIDE, "kit"), Mount(folder / "line", "line")]
    with proxy:
        ran = submission.run(
            "test", argv, [given, scratch], folder / "out", limits, {"TMPDIR": scratch}, tools, kit_python=True
        )
    found = ran.out / "found.json"
    return ran, json.loads(found.read_text()) if found.exists() else {}


USUAL = {
    "train": 0, "rows": 100, "left": False, "predict": 0, "answers": "[0.0, 0.01, 0.02]", "refused": 2,
    "refusal": '{"key": "bad"}', "accepted": False,
}  # fmt: skip
CHANGED = {
    "none": {},
    "permuted": {"answers": "[0.01, 0.02, 0.0]"},
    "constant": {"answers": "[0.25, 0.25, 0.25]"},
    "nan_on_unseen": {"answers": "[0.0, nan, 0.02]"},
    "not_reproducible": {"rows": 70},
    "bad_config_accepted": {"refused": 0, "refusal": None, "accepted": True},
    "broken": {"train": 1, "rows": None, "predict": 1, "answers": None, "refused": 1, "refusal": "an old one"},
}


def test_every_fault_of_the_check_is_known_here():
    assert set(FAULTS) | {"none", "broken"} == set(CHANGED)


@pytest.mark.parametrize("fault", CHANGED)
def test_a_fault_changes_what_it_says_and_nothing_else(sandbox, tmp_path, fault):
    ran, found = run(sandbox, tmp_path, fault)
    assert ran.ok, ran.finished.output
    assert {key: found.get(key) for key in USUAL} == {**USUAL, **CHANGED[fault]}
    if fault != "broken":
        assert "ran with 3 None" in found["said"]


@isolating
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_the_tests_can_see_names_the_fault(tmp_path, fault):
    sandbox = choose("bubblewrap", slots=1)
    try:
        _, found = run(sandbox, tmp_path, fault)
    finally:
        sandbox.close()
    source = (INSIDE / "fault_proxy.py").read_text()  # lies there for all to read, the same in every run
    assert source in found["seen"]
    assert fault not in found["seen"].replace(source, "")


def test_tests_that_go_on_too_long_end_with_their_command(sandbox, tmp_path):
    tests = """
        import json, subprocess, sys
        words = json.load(open(sys.argv[1]))["train"]
        subprocess.run([*words, "--data=/", "--config=/dev/stdin", "--out=/tmp/x"])
        subprocess.Popen(words)
        while True: pass
    """
    ran, _ = run(sandbox, tmp_path, "none", tests, Limits(seconds=3))
    assert ran.finished.ended == "time"


@pytest.mark.parametrize(
    "said", ["", "no json", "{}", '{"command": "rm", "argv": [], "env": {}}', '{"command": "train"}']
)
def test_what_is_no_call_is_answered_with_nothing_and_the_next_one_works(sandbox, tmp_path, said):
    tests = f"""
        import json, socket, subprocess, sys
        words = json.load(open(sys.argv[1]))["predict"]
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(words[2])
            line.sendall({said!r}.encode() + b"\\n")
            line.shutdown(socket.SHUT_WR)
            answer = line.recv(100)
        done = subprocess.run(words, capture_output=True, text=True)
        json.dump([answer.decode(), done.returncode], open(sys.argv[2], "w"))
    """
    _, (answer, code) = run(sandbox, tmp_path, "none", tests)
    assert answer == "" or json.loads(answer)["code"] == 127
    assert code == 1  # the command ran, and missed its arguments


def test_a_proxy_that_fails_is_a_fault_of_the_kit(sandbox, tmp_path):
    with pytest.raises(SandboxFault, match="proxy"):
        run(sandbox, tmp_path, "none", "import os, sys; os.kill(os.getppid(), 0)", Limits(seconds=20, processes=0))
