"""Stage 09's tools: metrics read in a sandbox, commands beside a service, all that was printed; and the reference's own promises."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import json
import lzma
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grader import home
from grader.checks import s09_observability as stage
from grader.checks.api import Fault, Owed
from grader.contract import read_manifest
from grader.contract.observing import ASKED, METRICS, QUESTIONS, ROUTES
from grader.engine import case
from grader.sandbox import Limits, Mount
from grader.sandbox.reader import Metrics, Reader, Unreadable
from grader.services import Answer, Request
from grader.submission import Ran, Submission


@pytest.fixture
def reader(sandbox, tmp_path):
    return Reader(sandbox, tmp_path / "answers")


RIGHT = """# HELP mlekit_requests_total Requests.
# TYPE mlekit_requests_total counter
mlekit_requests_total{route="/readyz",status="200",model_version="",more="a"} 2.0
mlekit_requests_total{route="/readyz",status="200",model_version="",more="b"} 3.0
"""
OPEN = '# HELP mlekit_requests Requests.\n# TYPE mlekit_requests counter\nmlekit_requests_total{route="/readyz"} 5\n# EOF\n'


def metrics_of(reader, tmp_path, *answers):
    path = tmp_path / "scrapes.json"
    path.write_text(json.dumps([{"format": format, "text": text} for format, text in answers]))
    return reader.metrics(path)


def test_metrics_are_read_in_both_formats_and_what_is_wrong_is_said_of_each(reader, tmp_path):
    good, open_, other, cut, twice, much = metrics_of(
        reader, tmp_path, ("text/plain", RIGHT), ("application/openmetrics-text", OPEN), ("text/html", "<html>mlekit</html>"),
        ("application/openmetrics-text", OPEN.replace("# EOF\n", "")), ("text/plain", RIGHT.replace('"b"', '"a"')),
        ("text/plain", RIGHT + "".join(f'mlekit_x{{id="{n}"}} 1\n' for n in range(20_000))),
    )  # fmt: skip
    assert good.families["mlekit_requests"] == ("counter", "Requests.")
    assert stage.summed(good, "mlekit_requests_total", ("route", "status")) == {("/readyz", "200"): 5}
    assert stage.summed(open_, "mlekit_requests_total", ("route",)) == {("/readyz",): 5}
    assert other.problem
    assert "EOF" in cut.problem
    assert "is there twice" in twice.problem
    assert "more than" in much.problem


def test_texts_are_found_in_files_that_were_packed(reader, tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    for number, packing in enumerate((gzip, bz2, lzma)):
        with packing.open(folder / f"log.{number}", "wb") as file:
            file.write(f"asked by Somebody{number}, ".encode() * 100)
    whole = (folder / "log.0").read_bytes()
    (folder / "cut").write_bytes(whole[:-6])
    (folder / "none").write_bytes(b"\x1f\x8b no archive")
    found = set(reader.search(folder, [f"somebody{n}" for n in range(4)]))
    assert found == {("log.0", "somebody0"), ("cut", "somebody0"), ("log.1", "somebody1"), ("log.2", "somebody2")}


def test_objects_are_found_between_whatever_else_was_printed(reader, tmp_path):
    path = tmp_path / "printed.txt"
    path.write_bytes(
        b'INFO: starting\n{"a": 1}\nDownloading artifacts:  50%|##   |\r{"b": {"c": 2}}\n{"d": 3}{"e": 4} and more\n{"half": \n'
        + b"\xff\xfe{" * 1000
        + b"\n"
        + b"[" * 100_000
        + b'\n{"f": "\xc3\xa4"}\n'
    )
    assert reader.printed(path, 1 << 20) == [{"a": 1}, {"b": {"c": 2}}, {"d": 3}, {"e": 4}, {"f": "ä"}]
    with pytest.raises(Unreadable, match="larger than"):
        reader.printed(path, 100)


def test_a_counter_that_falls_or_vanishes_has_not_grown():
    before = Metrics(samples=[("n", {"a": "1"}, 5.0), ("n", {"a": "2"}, 1.0)])
    now = Metrics(samples=[("n", {"a": "1"}, 3.0)])
    assert stage.grown(before, now, "n", ("a",)) == {("1",): -2, ("2",): -1}
    assert stage.grown(None, now, "n", ("a",)) == {("1",): 3}
    assert stage._apart("n", ("a",), {("1",): 0}, stage.grown(before, now, "n", ("a",))) == (
        'n{a="1"} grew by -2, and had to grow by 0',
        "-2",
        "0",
    )


def test_a_command_runs_in_the_state_of_a_service_and_all_that_is_printed_is_kept(sandbox, tmp_path):
    home_, out, other = (tmp_path / name for name in ("submission", "out", "other"))
    for folder in (home_, out, other):
        folder.mkdir()
    (home_ / "pyproject.toml").write_text("[tool.mlekit]\ncontract = 1\n")
    (home_ / "serve.py").write_text(
        "import os, time\nfrom pathlib import Path\nstate = Path(os.environ['MLEKIT_STATE'])\n"
        "print('x' * 100_000, flush=True)\n(state / 'n').write_text('1')\ntime.sleep(60)\n"
    )
    (home_ / "look.py").write_text(
        "import os, sys\nfrom pathlib import Path\nprint(Path(sys.argv[1], 'n').read_text())\n"
        "Path(os.environ['MLEKIT_REFUSAL']).write_text('{}')\n"
    )
    submission = Submission(home_, read_manifest(home_), sandbox)
    printed = tmp_path / "printed.txt"
    for starts in (1, 2):
        (out / "state" / "n").unlink(missing_ok=True)
        running = submission.start("serve", ["python", "serve.py"], [], out, Limits(seconds=60), {}, printed=printed)
        while not (out / "state" / "n").exists():
            time.sleep(0.02)
        state = Mount(out / "state", "state", writable=True)
        ran = submission.run("look", ["python", "look.py", state], [], other, Limits(seconds=60), beside=running)
        running.stop()
        assert ran.finished.output.strip() == "1"
        assert ran.refusal.read_text() == "{}"
        assert not (out / "state" / "refusal.json").exists()
        assert printed.stat().st_size == starts * 100_001


def test_a_service_that_still_runs_is_laid_down_with_all_that_it_printed(sandbox, tmp_path):
    home_, out, beside, found = (tmp_path / name for name in ("submission", "out", "beside", "case"))
    for folder in (home_, out, beside):
        folder.mkdir()
    (home_ / "pyproject.toml").write_text("[tool.mlekit]\ncontract = 1\n")
    (home_ / "serve.py").write_text(
        "import os, time\nfrom pathlib import Path\nprint('the first line')\nprint('x' * 100_000, flush=True)\n"
        "Path(os.environ['MLEKIT_STATE'], 'log').write_text('kept')\ntime.sleep(60)\n"
    )
    (home_ / "look.py").write_text(
        "import sys\nfrom pathlib import Path\nprint(Path(sys.argv[1], 'log').read_text())\n"
    )
    submission = Submission(home_, read_manifest(home_), sandbox)
    submission.labels |= {out: "service", beside: "looked"}
    printed = tmp_path / "printed.txt"
    running = submission.start("serve", ["python", "serve.py"], [], out, Limits(seconds=60), {}, printed=printed)
    while not (out / "state" / "log").exists():
        time.sleep(0.02)
    state = Mount(out / "state", "state", writable=True)
    assert submission.run("look", ["python", "look.py", state], [], beside, Limits(seconds=60), beside=running).ok
    submission.end_all()
    case.lay_down(found, home_, submission, ())
    laid = {path.name.split("-", 1)[1]: path for path in found.iterdir()}
    assert set(laid) == {"service", "looked"}
    assert laid["service"].joinpath("output.txt").read_text().startswith("the first line\n")
    assert "ended by the grader" in laid["service"].joinpath("run.sh").read_text()
    assert laid["service"].joinpath("wrote", "state", "log").read_text() == "kept"
    script = laid["looked"] / "run.sh"
    again = subprocess.run(["sh", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert again.stdout.strip() == "kept", again.stderr


def exchange(id="a", status=200, rows=(("1", 0.25),), sent=100.0, done=101.0, body=None):
    said = {"request_id": id, "model_version": "3", "predictions": [{"row_id": r, "probability": p} for r, p in rows]}
    text = body or json.dumps(said if status == 200 else {"detail": []})
    request = Request("POST", "/v1/predict", b"{}", {"X-Request-ID": id})
    return stage.Exchange.of(request, Answer(0, sent, done, status, {}, text, None))


def histogram(*times):
    bounds = (0.1, 0.5, 1.0, 2.0, float("inf"))
    within = [
        ("mlekit_request_seconds_bucket", {"route": "/v1/predict", "le": str(b)}, float(sum(t <= b for t in times)))
        for b in bounds
    ]
    return Metrics(samples=[*within, ("mlekit_request_seconds_sum", {"route": "/v1/predict"}, sum(times))])


def test_requests_that_took_long_since_the_service_stood_still_are_missed():
    waited = (1.7, 1.6, 0.1)
    scrape = stage.Scrape(
        "we asked", Answer(0, 0, 0, 200, {}, "", None), [exchange(done=100 + s) for s in waited], 0.0, 1.0
    )
    before = histogram(0.2)

    def unseen(*times):
        return stage.held_unseen(scrape, before, histogram(0.2, *times))

    assert unseen(1.65, 1.55, 0.08) is None
    assert unseen(1.65, 0.08, 0.08) is None  # those that had not been read yet
    assert "all 3 requests within 0.1 s" in unseen(0.05, 0.05, 0.05)[0]
    short = replace(scrape, exchanges=[exchange(done=100.2)])
    assert stage.held_unseen(short, before, histogram(0.2, 0.2)) is None


class Clock:
    """A record whose clocks agree."""

    def wall(self, monotonic):
        return monotonic


def log(*rows):
    found = stage.Log({}, {})
    for id, row, at, version, probability, status in rows:
        found.entries.setdefault(id, []).append(stage.Entry(row, version, probability, status))
        found.times.setdefault(id, []).append(at)
    return found


def test_a_log_is_held_against_each_answer():
    right = ("a", "1", 100.5, "3", 0.25, 200)
    refused = ("b", None, 100.5, None, None, 422)
    exchanges = [exchange(), exchange("b", 422)]
    assert stage.wrong_in(log(right, refused), exchanges, Clock()) is None
    for wrong in (
        [right], [refused], [right, right, refused], [right, ("b", None, 100.5, None, None, 500)],
        [("a", "01", 100.5, "3", 0.25, 200), refused], [("a", "1", 100.5, "4", 0.25, 200), refused],
        [("a", "1", 100.5, "3", 0.2500001, 200), refused], [("a", "1", 99.0, "3", 0.25, 200), refused],
        [("a", "1", 102.0, "3", 0.25, 200), refused], [("a", "1", 100.5, "3", None, 200), refused],
        [right, ("b", "1", 100.5, None, None, 422)],
    ):  # fmt: skip
        assert stage.wrong_in(log(*wrong), exchanges, Clock()) is not None, wrong


def test_rows_are_counted_between_answers_that_differ_in_their_rows():
    found = log(
        *((f"one-{n}", "1", 100.0 + n, "3", 0.5, 200) for n in range(40)),
        *((f"two-{n}", row, 100.5 + n, "3", 0.5, 200) for n in range(40) for row in ("1", "2")),
        *((f"refused-{n}", None, 100.25 + n, None, None, 422) for n in range(40)),
    )
    rows = Counter(at for id, times in found.times.items() if not id.startswith("refused") for at in times)
    stretches = stage.stretches(found)
    assert len(stretches) == len(stage.BOUNDS)
    for start, end, right in stretches:
        assert min(rows[start], rows[end]) > 0
        assert rows[start] != rows[end]
        assert right == sum(count for at, count in rows.items() if start <= at < end)


COLUMNS = {
    "request_id": pa.array(["a"]), "row_id": pa.array(["1"]), "answered_at": pa.array([1], pa.timestamp("us", "UTC")),
    "model_version": pa.array(["3"]), "probability": pa.array([0.5]), "status": pa.array([200]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"row_id": None}, "no column row_id"),
        ({"row_id": pa.array([1])}, "row_id is of type int"),
        ({"status": pa.array(["200"])}, "status is of type str"),
        ({"answered_at": pa.array(["now"])}, "answered_at is of type str"),
        ({"request_id": pa.array([None], pa.string())}, "request_id is null in 1 of 1 rows"),
        ({"probability": pa.array([[0.5]])}, "probability is of type list"),
    ],
)
def test_a_log_of_another_shape_is_refused_with_the_column(sandbox, tmp_path, change, words):
    columns = {name: values for name, values in {**COLUMNS, **change}.items() if values is not None}
    (tmp_path / "out").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "out" / "log.parquet")

    class Toolbox:
        reader = Reader(sandbox, tmp_path / "answers")

    class Fine:
        ok = True

    ran = Ran("export-log", Fine(), tmp_path / "out", tmp_path)
    with pytest.raises(Fault, match="we looked; .*" + words):
        stage.read_log(Toolbox(), ran, "we looked")


def test_what_the_contract_lists_is_what_is_asked():
    assert [question for question, *_ in ASKED] == list(QUESTIONS)
    assert ROUTES[-1] == "other"
    assert "/metrics" not in ROUTES
    assert {kind for _, kind, _, _ in METRICS} == {"counter", "histogram", "gauge"}


# The reference


REFERENCE = home.reference_solution()


def entry(id="a", status=200, at=1.0, rows=(("007", 0.1),), seconds=0.01):
    from flightdelay.journal import Entry

    return Entry(id, at, seconds, status, "3" if rows else None, list(rows))


def test_a_journal_survives_half_a_line_and_goes_on_in_another_file(reference, tmp_path):
    from flightdelay.journal import FOLDER, Journal, entries

    Journal(tmp_path).append([entry("a"), entry("b", rows=[])])
    (written,) = (tmp_path / FOLDER).iterdir()
    with written.open("ab") as file:
        file.write(b'{"request_id": "half')
    Journal(tmp_path).append([entry("c")])
    assert [e.request_id for e in entries(tmp_path)] == ["a", "b", "c"]
    assert [tuple(row) for row in next(iter(entries(tmp_path))).rows] == [("007", 0.1)]


def test_a_journal_writes_all_or_nothing_where_there_is_no_room(reference, tmp_path):
    from flightdelay.journal import Journal, entries

    journal = Journal(tmp_path)
    journal.append([entry("a")])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.append([entry("b"), entry("c", rows=[(f"row {n}", 0.5) for n in range(100)])])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    journal.append([entry("d")])
    assert [e.request_id for e in entries(tmp_path)] == ["a", "d"]


def test_questions_are_answered_from_entries(reference, tmp_path):
    from flightdelay.ops import answer

    some = [
        entry("a", at=10.0, rows=[("1", 0.1), ("2", 0.2)]), entry("b", 422, at=20.0, rows=[]), entry("c", 503, at=30.0, rows=[]),
        entry("d", at=40.0, seconds=9.0),
    ]  # fmt: skip
    always = (float("-inf"), float("inf"))
    assert answer(some, "count", None, 10.0, 40.0) == 2
    assert answer(some, "error_rate", None, *always) == 0.25
    assert answer(some, "slowest", None, *always) == "d"
    assert answer(some, "version_of_request", "a", *always) == "3"
    assert answer(some, "rows_of_request", "a", *always) == ["1", "2"]
    assert answer(some, "rows_of_request", "b", *always) == []
    assert [answer(some, q, "no", *always) for q in ("version_of_request", "rows_of_request")] == [None, None]
    assert [answer([], q, None, *always) for q in ("error_rate", "slowest", "count")] == [None, None, 0]


@pytest.mark.parametrize("more", [("--question", "weather"), ("--question", "slowest", "--from", "yesterday"),
                                  ("--question", "count", "--to", "2023-01-01T00:00:00"), ("--question", "rows_of_request"),
                                  ("--question", "count", "--from", "2023-01-01"), ("--question", "count", "--from", "")])  # fmt: skip
def test_questions_that_cannot_be_answered_are_refused(tmp_path, more):
    refusal = tmp_path / "refusal.json"
    ran = subprocess.run(
        [sys.executable, "-m", "flightdelay.ops", *more, "--state", tmp_path, "--out", tmp_path / "out.json"], cwd=REFERENCE,
        env={**os.environ, "MLEKIT_REFUSAL": str(refusal)}, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert json.loads(refusal.read_text())["message"]
    assert not (tmp_path / "out.json").exists()


class Door:
    """An application that answers, and leaves what it scored where its path says so."""

    async def __call__(self, scope, receive, send):
        from flightdelay.observed import Scored

        scope["state"]["request_id"] = "r"
        if scope["path"] == "/v1/predict":
            scope["state"]["scored"] = Scored("3", [("1", 0.5)])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


class Keeps:
    """A journal that notes how much had been sent when it was asked, or cannot write."""

    def __init__(self, sent, problem=None):
        self.sent, self.problem, self.entries = sent, problem, []

    async def ask(self, entries):
        assert not self.sent
        if self.problem:
            raise self.problem
        self.entries += entries


def ask_observed(problem=None, path="/v1/predict"):
    from flightdelay.observed import Observed

    sent = []
    keeps = Keeps(sent, problem)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path}
    asyncio.run(Observed(Door(), keeps)(scope, None, send))
    return sent, keeps.entries


def test_an_answer_is_written_down_before_any_of_it_is_sent(reference):
    sent, entries = ask_observed()
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
    assert [(e.request_id, e.status, e.model_version, e.rows) for e in entries] == [("r", 200, "3", [("1", 0.5)])]
    assert ask_observed(path="/healthz")[1] == []


def test_an_answer_that_cannot_be_written_down_is_not_given(reference):
    sent, _ = ask_observed(OSError(28, "No space left on device"))
    assert [m.get("status") for m in sent] == [503, None]
    assert b"could not be written down" in sent[1]["body"]
    assert dict(sent[0]["headers"])[b"retry-after"] == b"1"
    from flightdelay.metrics import PREDICTIONS, REQUESTS

    assert REQUESTS.labels("/v1/predict", "503", "")._value.get() == 1
    assert list(PREDICTIONS.collect()[0].samples) == []


def test_a_log_that_is_not_there_is_an_empty_one(tmp_path):
    out = tmp_path / "log.parquet"
    subprocess.run(
        [sys.executable, "-m", "flightdelay.export_log", "--state", tmp_path, "--out", out], cwd=REFERENCE, check=True
    )
    assert pq.read_table(out).num_rows == 0
    assert Path(out).stat().st_size > 0


@pytest.mark.parametrize(
    "body", ["no JSON", "{}", '{"request_id": "a", "model_version": 3, "predictions": []}', "[" * 5000]
)
def test_an_answer_about_rows_that_is_none_is_owed(body):
    with pytest.raises(Owed, match="see stage 08"):
        exchange(body=body)


def test_times_and_bounds_that_are_none_are_the_submissions_fault():
    assert stage._time(1e30) == "1e+30 seconds after 1970"
    assert "1970-01-01" in stage._time(0)
    with pytest.raises(Fault, match="no number"):
        stage._bound("")


def test_a_version_that_could_not_be_loaded_is_tried_again_later(reference, monkeypatch, tmp_path):
    monkeypatch.setenv("MLEKIT_STATE", str(tmp_path))
    from flightdelay import champion
    from flightdelay.usecase import read_usecase

    class Registry:
        def get_model_version_by_alias(self, name, alias):
            return SimpleNamespace(version="4", run_id="r")

    tried, now = [], [100.0]
    monkeypatch.setattr(champion, "MlflowClient", Registry)
    monkeypatch.setattr(champion.time, "monotonic", lambda: now[0])
    follows = champion.Champion(read_usecase(home.datasets() / "usecase.toml"), tmp_path)

    def keep(version):
        tried.append(now[0])
        raise OSError("its files cannot be had at the moment")

    monkeypatch.setattr(follows, "_keep", keep)
    for seconds in (0, 1, 2, champion.AGAIN_SECONDS + 1, champion.AGAIN_SECONDS + 2):
        now[0] = 100.0 + seconds
        follows.look()
    assert tried == [100.0, 101.0 + champion.AGAIN_SECONDS]
    assert "version 4 could not be loaded" in follows.problem
