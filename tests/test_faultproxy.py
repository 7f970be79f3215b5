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
    words = [part for word in sys.argv[2:] for part in word.split("=", 1)]
    a = dict(zip(words[::2], words[1::2]))
    print("ran with", os.environ.get("PYTHONHASHSEED"), os.environ.get("SECRET"))
    if sys.argv[1] == "train":
        tables = [pq.read_table(p) for p in Path(a["--data"], "flights").glob("*.parquet")]
        count = sum(t.num_rows for t in tables)
        order = sum(i * v for t in tables for i, v in enumerate(t["arr_delay_min"].to_pylist()))
        if "bad" in Path(a["--config"]).read_text():
            Path(os.environ["MLEKIT_REFUSAL"]).write_text('{"key": "bad"}')
            sys.exit(2)
        Path(a["--out"]).mkdir(parents=True, exist_ok=True)
        Path(a["--out"], "model.json").write_text(json.dumps({"rows": count, "order": order}))
        Path(os.environ["TMPDIR"], "left.txt").write_text("a word from train to the tests")
    else:
        rows = pq.read_table(a["--rows"])
        values = [i / 100 for i in range(rows.num_rows)]
        table = pa.table({"row_id": rows["row_id"], "probability": values, "same": values})
        pq.write_table(table.replace_schema_metadata({"said": "by predict"}), a["--out"])
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
    own = {"flight_id": [str(i) for i in range(100)], "arr_delay_min": list(range(100))}
    pq.write_table(pa.table({**own, **row}), here / "data/flights/2013-01.parquet")
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
        found |= json.loads((here / "model" / "model.json").read_text())
    found["left"] = (Path(os.environ["TMPDIR"]) / "left.txt").exists()
    out = here / "answers.parquet"
    found["predict"] = call("predict", model=here / "model", data=here / "data", rows=here / "rows.parquet", out=out)
    found["columns"] = str(pq.read_schema(out)) if out.exists() else None
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


ORDER = sum(i * i for i in range(100))
USUAL = {
    "train": 0, "rows": 100, "order": ORDER, "left": False, "predict": 0, "answers": "[0.0, 0.01, 0.02]", "refused": 2,
    "refusal": '{"key": "bad"}', "accepted": False,
}  # fmt: skip
CHANGED = {
    "none": {},
    "permuted": {"answers": "[0.01, 0.02, 0.0]"},
    "constant": {"answers": "[0.25, 0.25, 0.25]"},
    "nan_on_unseen": {"answers": "[0.0, nan, 0.02]"},
    "not_reproducible": {"order": None},  # another one each time
    "bad_config_accepted": {"refused": 0, "refusal": None, "accepted": True},
    "broken": {
        "train": 1,
        "rows": None,
        "order": None,
        "predict": 1,
        "answers": None,
        "refused": 1,
        "refusal": "an old one",
    },
}


def test_every_fault_of_the_check_is_known_here():
    assert set(FAULTS) | {"none", "broken"} == set(CHANGED)


@pytest.mark.parametrize("fault", CHANGED)
def test_a_fault_changes_what_it_says_and_nothing_else(sandbox, tmp_path, fault):
    ran, found = run(sandbox, tmp_path, fault)
    assert ran.ok, ran.finished.output
    if fault == "not_reproducible":
        assert found.pop("order") != ORDER
    assert {key: found.get(key) for key in USUAL} == {**USUAL, **CHANGED[fault]}
    if found["columns"]:
        assert "same" not in found["columns"]
        assert "said" not in found["columns"]
    if fault != "broken":
        assert "ran with 3 None" in found["said"]


@isolating
@pytest.mark.parametrize("fault", ["permuted", "bad_config_accepted"])
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


def test_what_is_no_call_is_answered_with_nothing_and_the_next_one_works(sandbox, tmp_path):
    tests = """
        import json, socket, subprocess, sys
        words, answers = json.load(open(sys.argv[1]))["predict"], []
        call = {"command": "rm", "argv": [], "env": {}, "cwd": "/"}
        for said in ("", "no json", "{}", "[" * 200_000, json.dumps(call), '{"command": "train"}'):
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(words[2])
                line.sendall(said.encode() + b"\\n")
                line.shutdown(socket.SHUT_WR)
                answers.append(line.recv(100).decode())
        done = subprocess.run(words, capture_output=True, text=True)
        json.dump([answers, done.returncode], open(sys.argv[2], "w"))
    """
    _, (answers, code) = run(sandbox, tmp_path, "none", tests)
    assert answers[:4] == [""] * 4
    assert json.loads(answers[4])["code"] == 127
    assert code == 1  # the command ran, and missed its arguments


SHORT = """
    import json, os, subprocess, sys
    from pathlib import Path
    import pyarrow as pa
    import pyarrow.parquet as pq
    words, tmp, found = json.loads(Path(sys.argv[1]).read_text()), Path(os.environ["TMPDIR"]), []
    def call(name, *line, **more):
        done = subprocess.run([*words[name], *map(str, line)], capture_output=True, text=True, **more)
        found.append(done.returncode)
        return done
    (tmp / "data" / "flights").mkdir(parents=True)
    names = {"carrier": ["AA"] * 4, "origin": ["JFK"] * 4, "dest": ["BOS"] * 4}
    pq.write_table(pa.table({"arr_delay_min": [1, 2, 3, 4], **names}), tmp / "data/flights/2013-01.parquet")
    odd = {**names, "dest": ["BOS", "ZZZ", "BOS", "BOS"]}
    pq.write_table(pa.table({"row_id": list("abcd"), **odd}), tmp / "rows.parquet")
    (tmp / "good.toml").write_text("")
    TRAIN = (f"--data={tmp}/data", f"--config={tmp}/good.toml", f"--out={tmp}/m")
    PREDICT = (f"--rows={tmp}/rows.parquet",)
    def answers(path):
        return str(pq.read_table(path)["probability"].to_pylist()) if Path(path).exists() else None
"""
WRITE = """
    Path(sys.argv[2]).write_text(json.dumps(found))
"""


def test_a_link_leads_the_proxy_to_nothing(sandbox, tmp_path):
    # without a sandbox the command of this test writes wherever a link leads, so there it must not lead to a file of the machine
    file = "/etc/hosts" if sandbox.name == "bubblewrap" else str(tmp_path / "nobodys.txt")
    body = f"""
    nobodys = {file!r}"""
    body += """
    for number, target in enumerate(("/mlekit/own/settings.json", "/proc/self/environ", "/proc/self/cmdline", nobodys, "/mlekit/own")):
        (tmp / f"leak{number}").symlink_to(target)
        call("predict", *PREDICT, f"--out={tmp}/leak{number}")
        found.append((tmp / f"leak{number}").is_symlink() and os.readlink(tmp / f"leak{number}") == target)
    (tmp / "data" / "flights" / "more.parquet").symlink_to("/proc/self/environ")
    found.append("fault" in call("train", *TRAIN).stderr)
    """
    _, found = run(sandbox, tmp_path, "permuted", SHORT + body + WRITE)
    assert found[1::2][:5] == [True] * 5
    assert found[-1] is False


def test_a_path_that_leaves_its_folder_harms_nothing(sandbox, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    body = """
    (Path(os.environ["HOME"]) / "kept.txt").write_text("kept")
    for path in ("..", ".", "../../mine", "../state", "../work"):
        call("predict", *PREDICT, f"--out={tmp}/{path}")
        call("train", *TRAIN[:2], f"--out={tmp}/{path}")
    found.append((tmp / "rows.parquet").exists() and (Path(os.environ["HOME"]) / "kept.txt").exists())
    """
    _, found = run(sandbox, tmp_path, "none", SHORT + body + WRITE)
    assert found[-1] is True
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("fault", ["none", "nan_on_unseen"])
def test_tests_of_any_habit_get_what_they_asked_for(sandbox, tmp_path, fault):
    body = """
    try:
        call("train", *TRAIN, timeout=0.05)
    except subprocess.TimeoutExpired:
        pass
    found.clear()
    (tmp / "kept").mkdir()
    (tmp / "kept" / "x").write_text("x")
    (tmp / "kept").chmod(0o555)
    call("train", *TRAIN)
    (tmp / "real").mkdir()
    (tmp / "link").symlink_to(tmp / "real")
    call("predict", *PREDICT, "--out", tmp / "link" / "p.parquet")
    call("predict", "--rows", "rows.parquet", "--out", "relative.parquet", cwd=tmp)
    found += [answers(tmp / "real" / "p.parquet"), answers(tmp / "relative.parquet")]
    """
    ran, found = run(sandbox, tmp_path, fault, SHORT + body + WRITE)
    assert ran.ok, ran.finished.output
    expected = {
        "none": "[0.0, 0.01, 0.02, 0.03]", "permuted": "[0.01, 0.02, 0.03, 0.0]", "constant": "[0.25, 0.25, 0.25, 0.25]",
        "nan_on_unseen": "[0.0, nan, 0.02, 0.03]",
    }[fault]  # fmt: skip
    if sandbox.name == "bubblewrap":
        assert found == [0, 0, 0, expected, expected]
    else:  # a link is followed to where the tests are, so the fault cannot be planted there
        assert found[:3] == [0, 0, 0]
        assert found[4] == expected


def test_a_proxy_that_fails_is_a_fault_of_the_kit(sandbox, tmp_path):
    with pytest.raises(SandboxFault, match="proxy"):
        run(sandbox, tmp_path, "none", "import os, sys; os.kill(os.getppid(), 0)", Limits(seconds=20, processes=0))
