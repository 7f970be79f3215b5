"""The supervisor: whatever happens to the run, there is a valid grade, and nothing of the run is left."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from grader import home, stages
from grader.checks.api import Check, failed
from grader.engine import Plan, grade, supervisor
from grader.engine.plugin import EnginePlugin
from grader.sandbox import detect
from grader.verdict import Chart, ChartKind, CheckSpec, Level, Outcome, Series, read_grade

MLEKIT = Path(sys.executable).with_name("mlekit")
SOLUTION = home.exercises() / "01-baseline" / "solution"
SPECS = tuple(CheckSpec(f"baseline.{name}", "01", f"does {name}", "1.3", Level.JUNIOR, required=True) for name in "abc")
ISOLATED = pytest.param(
    "bubblewrap", marks=pytest.mark.skipif(detect().rung != "bubblewrap", reason="this machine forbids namespaces")
)

# What a fake worker starts with: it speaks the worker's side of the protocol without running any check.
PREAMBLE = """
import json, os, subprocess, sys, tempfile, time
fd = int(sys.argv[1])
plan = json.load(sys.stdin)
def tell(**event):
    os.write(fd, json.dumps(event).encode() + b"\\n")
def result(number, outcome="pass", **over):
    said = {"value": "", "bar": "", "reason": "", "reproduce": "", "seconds": 0.1, "charts": []}
    return {**plan["checks"][number], **said, "outcome": outcome, **over}
def say(number, outcome="pass", **over):
    tell(event="check", result=result(number, outcome, **over), details="")
"""


@pytest.fixture
def submission(tmp_path):
    folder = tmp_path / "submission"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[tool.mlekit]\ncontract = 1\n")
    return folder


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder that temporary files of the run go to."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def run(submission, scratch, tmp_path, monkeypatch):
    """Grade with a fake worker; returns the grade, the file it left, and the events that were news."""

    def run(worker, specs=SPECS, patience=30.0, watch=None):
        monkeypatch.setattr(supervisor, "worker_command", lambda fd: [sys.executable, "-c", PREAMBLE + worker, str(fd)])
        heard = []
        plan = Plan(submission, specs, 1, "1", "plain", 1, reproduce="mlekit grade X --world 1")
        given = grade(plan, watch or heard.append, tmp_path / "grade.json", patience)
        assert read_grade(tmp_path / "grade.json") == given
        assert list(scratch.iterdir()) == []
        return given, [event for event in heard if event["event"] != "tick"]

    return run


def outcomes(given):
    return [str(check.outcome) for check in given.checks]


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_verdicts_of_the_worker_are_kept_in_the_order_of_the_plan(run):
    given, heard = run("say(2, 'fail', reason='no'); say(0); say(1)\ntell(event='done', submission_seconds=1.5)")
    assert outcomes(given) == ["pass", "pass", "fail"]
    assert given.finished
    assert given.submission_seconds == 1.5
    assert given.checks[2].reproduce == "mlekit grade X --world 1 --stage 01"
    assert [event["event"] for event in heard] == ["check", "check", "check", "done"]


def test_a_second_verdict_on_the_same_check_is_ignored(run):
    given, _ = run("say(0, 'fail'); say(0, 'pass'); say(1); say(2)")
    assert outcomes(given) == ["fail", "pass", "pass"]


@pytest.mark.parametrize(
    "forged",
    [
        "say(0, id='baseline.unknown')",
        "say(0, level='lead')",
        "say(0, weight=1000)",
        "say(0, critical=True)",
        "say(0, outcome='splendid')",
        "say(0, seconds='long')",
        "tell(event='check', result=None)",
        "tell(event='check')",
        "tell(event='started', id=['x'])",
        "tell(nothing=1)",
        "os.write(fd, b'[1, 2]\\nnull\\n7\\n{\\n\\xff\\n' + b'[' * 100000 + b'\\n')",
        "os.write(fd, b'x' * 5_000_000 + b'\\n')",
    ],
)
def test_what_is_not_a_verdict_on_the_plan_says_nothing(run, forged):
    given, _ = run(f"{forged}\nsay(1); say(2)")
    assert outcomes(given) == ["grader_error", "pass", "pass"]


def test_a_pass_on_provided_work_does_not_count(submission, tmp_path, run, monkeypatch):
    monkeypatch.setattr(
        supervisor, "worker_command",
        lambda fd: [sys.executable, "-c", PREAMBLE + "say(0); say(1, 'fail'); say(2)", str(fd)],
    )  # fmt: skip
    given = grade(Plan(submission, SPECS, 1, "1", "plain", 1, provided=("01",)))
    assert outcomes(given) == ["provided", "fail", "provided"]


def test_a_worker_that_ends_early_is_our_fault(run):
    given, heard = run("say(0)\nprint('the disk is full', file=sys.stderr)\nsys.exit(7)")
    assert outcomes(given) == ["pass", "grader_error", "grader_error"]
    assert "code 7" in given.checks[1].reason
    assert "the disk is full" in given.checks[1].reason
    assert heard[-1]["event"] == "ended"


def test_a_worker_that_ends_in_the_middle_of_a_line_loses_only_that(run):
    given, _ = run("say(0)\nos.write(fd, json.dumps({'event': 'check', 'result': result(1)}).encode()[:40])")
    assert outcomes(given) == ["pass", "grader_error", "grader_error"]


def test_a_worker_that_kills_itself_leaves_no_process_behind(run, tmp_path):
    given, _ = run(
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "os.kill(os.getpid(), 9)"
    )
    assert outcomes(given) == ["grader_error"] * 3
    assert not alive(int((tmp_path / "pid").read_text()))


def test_what_escapes_into_a_session_of_its_own_ends_with_the_run(run, tmp_path):
    escape = (
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "        os.execve('/bin/sleep', ['sleep', '600'], {})\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        f"while not os.path.exists({str(tmp_path / 'pid')!r}): time.sleep(.01)\n"
        "open(os.path.join(tempfile.gettempdir(), 'left.txt'), 'w').write('x')\n"
        "[say(n) for n in range(3)]"
    )
    given, _ = run(escape)
    assert outcomes(given) == ["pass"] * 3
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_worker_that_hangs_is_ended_when_patience_is(run):
    began = time.monotonic()
    given, _ = run("say(0)\ntime.sleep(600)", patience=1.0)
    assert time.monotonic() - began < 10
    assert outcomes(given) == ["pass", "grader_error", "grader_error"]
    assert "no verdict for 1 s" in given.checks[1].reason


def test_a_worker_that_ignores_the_end_is_ended_all_the_same(run):
    given, _ = run(
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsay(0)\ntime.sleep(600)", patience=1.0
    )
    assert outcomes(given) == ["pass", "grader_error", "grader_error"]


def test_a_worker_that_closes_its_events_and_lingers_is_ended(run, monkeypatch):
    monkeypatch.setattr(supervisor, "END_SECONDS", 3.0)
    given, _ = run("[say(n) for n in range(3)]\nos.close(fd)\ntime.sleep(600)")
    assert outcomes(given) == ["pass"] * 3


def test_a_flood_of_events_is_no_sign_of_life(run):
    given, heard = run("say(0)\nwhile True: tell(event='started', id='baseline.b', noise='x' * 10000)", patience=1.0)
    assert outcomes(given) == ["pass", "grader_error", "grader_error"]
    assert len(heard) == 3  # the verdict, the first start, the end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_with_what_is_known(run, number):
    def interrupt(event):
        if event["event"] == "check":
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    given, _ = run("say(0)\ntime.sleep(600)", watch=interrupt)
    assert outcomes(given) == ["pass", "not_run", "not_run"]
    assert not given.finished
    assert given.provisional
    assert "interrupted" in given.checks[1].reason
    assert signal.getsignal(number) is before


def test_the_partial_grade_is_valid_after_every_check(run, tmp_path):
    seen = []

    def look(event):
        if event["event"] == "check":
            seen.append(read_grade(tmp_path / "grade.json"))

    run("[say(n) for n in range(3)]", watch=look)
    assert [outcomes(g).count("pass") for g in seen] == [1, 2, 3]
    assert not any(g.finished for g in seen)


def test_a_watcher_that_fails_leaves_nothing_behind(run, scratch):
    def fail(event):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run("say(0)\ntime.sleep(600)", watch=fail)
    assert list(scratch.iterdir()) == []


class Running:
    """The real program in the middle of a grading, with everything it has started."""

    def __init__(self, scratch, out, rung):
        self.process = subprocess.Popen(
            [MLEKIT, "grade", SOLUTION, "--stage", "01", "--world", "11", "--out", out, "--isolation", rung],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(scratch)},
        )  # fmt: skip
        self.grade_file = out / "grade.json"
        self.started = self._wait_for("run_notebook.py")

    def _wait_for(self, word):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            below = psutil.Process(self.process.pid).children(recursive=True)
            if any(word in " ".join(_command(process)) for process in below):
                time.sleep(0.3)
                return psutil.Process(self.process.pid).children(recursive=True)
            time.sleep(0.05)
        raise AssertionError(f"{word} was not started")

    def worker(self):
        return next(p for p in self.started if _command(p)[1:3] == ["-m", "grader.engine.worker"])

    def left(self, seconds=15):
        """What of it is still there once it has had time to end."""
        deadline = time.monotonic() + seconds
        while left := [p for p in self.started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
            if time.monotonic() > deadline:
                return [_command(p) for p in left]
            time.sleep(0.05)
        return []


def _command(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture(params=[ISOLATED, "plain"])
def running(request, scratch, tmp_path):
    return Running(scratch, tmp_path / "out", request.param)


def test_interrupting_the_program_leaves_a_provisional_grade_and_nothing_else(running, scratch):
    running.process.send_signal(signal.SIGINT)
    out, errors = running.process.communicate(timeout=20)
    assert running.process.returncode == 3
    assert "Traceback" not in errors
    assert errors.strip().splitlines()[-1].startswith("mlekit: the grading was interrupted; the grade so far is in")
    assert out.strip().splitlines()[-1] != ""
    given = read_grade(running.grade_file)
    assert not given.finished
    assert all(check.outcome is Outcome.NOT_RUN for check in given.checks)
    assert running.left() == []
    assert list(scratch.iterdir()) == []


def test_killing_the_worker_makes_the_grade_our_fault(running, scratch):
    running.worker().kill()
    _, errors = running.process.communicate(timeout=20)
    assert running.process.returncode == 3
    assert "Traceback" not in errors
    given = read_grade(running.grade_file)
    assert given.finished
    assert all(check.outcome is Outcome.GRADER_ERROR for check in given.checks)
    assert running.left() == []
    assert list(scratch.iterdir()) == []


def test_killing_the_program_leaves_a_provisional_grade_and_nothing_else(running, scratch):
    running.process.kill()
    running.process.communicate(timeout=20)
    assert not read_grade(running.grade_file).finished
    assert json.loads(running.grade_file.read_text())["format"] == 1
    assert running.left() == []
    deadline = time.monotonic() + 5
    while list(scratch.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(scratch.iterdir()) == []


# What a check says


def test_what_a_submission_names_at_length_makes_no_event_too_long():
    """An event that is longer than a line of the supervisor would be lost, and the check would be our fault."""
    told = []
    spec, long = stages.find("01").checks[0], "\u20ac" * 2_000_000
    series = Series(long, (1.0,), (2.0,))

    def check(grading):
        return failed(long, long, long, Chart(ChartKind.LINE, "x", "x", "y", (series,), "x"))

    check.__mlekit_check__ = Check(spec.id, check, ())
    plugin = EnginePlugin([spec], SimpleNamespace(rows=[]), told.append)
    plugin.pytest_pyfunc_call(SimpleNamespace(function=check))
    assert len(json.dumps({**told[-1], "result": asdict(told[-1]["result"])})) < supervisor.MAX_LINE
    assert told[-1]["result"].outcome is Outcome.FAIL
    assert "\u20ac ... \u20ac" in told[-1]["result"].reason
