"""`mlekit break`: what it says before anything runs, and one fault played on the reference's own service."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time

import psutil
import pytest
from clikit import MLEKIT, mlekit, refused

from grader import breakage, home, stages
from grader.checks import breaking
from grader.faults import AFTER, BEFORE, DURING, FAULTS
from grader.report.text import Style
from grader.services import Answer


def test_faults_are_listed_with_their_checks():
    result = mlekit("break")
    assert result.returncode == 0
    known = {check.id for check in stages.all_checks()}
    for fault in FAULTS.values():
        assert fault.name in result.stdout
        assert fault.check in {"", *known}
    listed = json.loads(mlekit("break", "--json").stdout)
    assert [one["fault"] for one in listed] == list(FAULTS)


def test_what_is_no_fault_or_no_workspace_is_refused(tmp_path):
    refused(mlekit("break", "kill", cwd=tmp_path), "workspace")
    assert mlekit("new", "work", cwd=tmp_path).returncode == 0
    refused(mlekit("break", "thunder", cwd=tmp_path / "work"), "thunder", "registry, model, burst")


def test_where_there_is_no_service_yet_it_says_what_is_missing(tmp_path):
    assert mlekit("new", "work", cwd=tmp_path).returncode == 0
    result = mlekit("break", "kill", cwd=tmp_path / "work")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "mlekit: " in result.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken") / "work"
    assert mlekit("new", folder).returncode == 0
    shutil.copytree(home.reference_solution(), folder, dirs_exist_ok=True)
    return folder


def test_a_full_disk_lets_nothing_out_that_is_not_written_down(work):
    result = subprocess.run(
        [MLEKIT, "break", "full-disk", "--json"], cwd=work, capture_output=True, text=True, timeout=400, check=False
    )
    if "cannot be made slow or full" in result.stderr:
        pytest.skip(result.stderr.splitlines()[-1])
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    seconds = said["seconds"]
    assert len(seconds) >= BEFORE + DURING + AFTER - 1
    assert [s["phase"] for s in seconds[:BEFORE]] == ["before"] * BEFORE
    kinds = {
        phase: set().union(*(s["kinds"] for s in seconds if s["phase"] == phase))
        for phase in ("before", "during", "after")
    }
    assert len(kinds["before"]) == 1
    assert "turned away (503)" in kinds["during"]
    in_full = [s["kinds"] for s in seconds[BEFORE + 2 : BEFORE + DURING - 1]]
    assert all(set(found) == {"turned away (503)"} for found in in_full), in_full
    assert kinds["before"] <= set(seconds[-1]["kinds"])
    assert {s["healthz"] for s in seconds} == {"200"}
    predictions = sum(n for s in seconds for kind, n in s["kinds"].items() if kind.startswith("version"))
    assert said["read"] == said["kept"] == predictions > 0


def test_an_interrupt_ends_everything(work):
    process = subprocess.Popen(
        [MLEKIT, "break", "registry"], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 60
    while not (below := psutil.Process(process.pid).children(recursive=True)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert below
    time.sleep(1)
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    psutil.wait_procs(below, timeout=20)
    assert not [p for p in below if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def answered(status=200, error=None, body='{"model_version": "7"}', **headers):
    return Answer(0, 0.0, 0.5, status, headers, body, error)


def test_answers_are_put_in_words():
    retry = Answer(0, 0, 1, 503, {"retry-after": "1"}, "", None)
    cut = answered(body='{"model_ver')
    found = [
        breaking._kind(a) for a in (answered(), cut, retry, answered(500), answered(None, "the connection was refused"))
    ]
    assert found == [
        "version 7",
        "whole large answers",
        "turned away (503)",
        "status 500",
        "the connection was refused",
    ]


def test_a_second_is_a_line_and_hostile_words_are_shown_as_such(capsys):
    shown = breakage.Show(FAULTS["kill"], Style(), as_json=False)
    second = {"event": "second", "at": 0, "phase": "before", "p50": 1.0, "p99": None, "healthz": "200", "readyz": "503"}
    shown({**second, "kinds": {"version \x1b[2J": 3}})
    shown({"event": "over", "ended": "", "read": 3, "kept": 2})
    breakage._sum_up(FAULTS["kill"], shown, Style())
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "1 are lost" in said
