"""The docker rung with a real engine: what a grading may do in its container, that nothing is left, and that verdicts are the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from poolkit import POOL, graded, said, seed_of

from grader import doctor, home, pool, stages
from grader.cli import Refused, rung_of
from grader.engine import Plan, contained, grade
from grader.sandbox import container, detect_engine
from grader.sandbox.choose import Detection
from grader.verdict import Outcome

ROOT = Path(__file__).parents[1]


@pytest.fixture
def an_engine():
    if detect_engine().rung != "docker":
        pytest.skip(f"not run: {detect_engine().why}")


def engine(test):
    """A test that wants a container engine."""
    return pytest.mark.engine(pytest.mark.usefixtures("an_engine")(test))


# Tests of the sandbox that ask what only a machine can say: a network of one's own inside the container, and how a rung is found.
NOT_INSIDE = (
    "only_the_gradings_loopback", "share_one_budget", "without_bubblewrap", "without_namespaces", "detection", "ordinary_user",
)  # fmt: skip
INSIDE = """
import sys, pytest, grader.sandbox
grader.sandbox.detect = lambda: grader.sandbox.Detection("bubblewrap", "in a container")
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-n", "0", "-rfE", "tests/test_sandbox.py", "-k", sys.argv[1]]))
"""


def run_inside(code: str, *arguments: str, change=lambda line: line) -> subprocess.CompletedProcess[str]:
    """Run Python where the judge of a grading in a container is."""
    name, python = f"mlekit-test-{os.getpid()}-{time.monotonic_ns()}", Path(sys.executable)
    environment = {"HOME": "/tmp", "TMPDIR": "/tmp", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    line = container.line(
        container.engine(), name, [sys.executable, "-c", code, *arguments], [python], [ROOT], (), environment, 2, 1024
    )
    return subprocess.run(change(line), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)


def containers() -> list[str]:
    line = [container.engine(), "ps", "--all", "--quiet", "--filter", "label=mlekit=grading"]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()


def soon(what, seconds=15.0) -> bool:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


@engine
def test_the_container_has_its_own_network_and_caps_and_nothing_of_the_engine():
    ran = run_inside(
        """
import json, os, socket
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
def first(*paths):
    return next((open(path).read().strip() for path in paths if os.path.exists(path)), None)
def writable(path):
    try:
        open(os.path.join(path, "probe"), "w").close()
    except OSError as problem:
        return False
    return True
sockets = [os.path.join(at, name) for at, _, names in os.walk("/run") for name in names]
print(json.dumps({
    "net": os.listdir("/sys/class/net"), "nnp": status["NoNewPrivs"].strip(), "caps": int(status["CapEff"], 16),
    "memory": first("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max"),
    "pids": first("/sys/fs/cgroup/pids/pids.max", "/sys/fs/cgroup/pids.max"),
    "writable": [at for at in ("/", "/usr", "/etc", "/home", "/opt", os.getcwd()) if writable(at)],
    "docker": [path for path in ("/var/run/docker.sock", "/run/docker.sock") if os.path.exists(path)], "run": sockets,
    "seen": [at for at in ("/boot", "/home", "/etc/shadow", "/var/lib") if os.path.exists(at)],
}))
"""
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["net"] == ["lo"]
    assert found["nnp"] == "1"
    wanted = {"CHOWN": 0, "DAC_OVERRIDE": 1, "SYS_ADMIN": 21, "SETFCAP": 31}
    assert set(wanted) == set(container.CAPABILITIES)
    assert found["caps"] == sum(1 << bit for bit in wanted.values())
    assert int(found["memory"]) == container.memory_mb(2, 1024) * 1024 * 1024
    assert 0 < int(found["pids"]) < 20_000
    assert found["writable"] == ["/tmp"]
    assert found["docker"] == found["run"] == found["seen"] == []


@engine
def test_what_the_sandbox_promises_it_keeps_in_a_container_too():
    def with_room(line: list[str]) -> list[str]:
        """Its tests write programs into /tmp, where a grading has a disk of its own."""
        at = line.index("--tmpfs") + 1
        here = line.index("--workdir") + 1
        return [*line[:here], str(ROOT), *line[here + 1 : at], "/tmp:exec,size=1024m", *line[at + 1 :]]

    ran = run_inside(INSIDE, " and ".join(f"not {word}" for word in NOT_INSIDE), change=with_room)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr
    assert int(ran.stdout.split(" passed")[0].split()[-1]) > 100, ran.stdout[-500:]


WORDS = ("leaks_into_every_second_row", "needs_state_of_an_old_kernel", "sorts_its_answers")
CASES = [
    *(("01", mutant) for mutant in pool.mutants() if mutant.stage == "01" and mutant.name in WORDS),
    *(("01", POOL / "attacks" / name) for name in ("fork_bomb", "fills_the_disk", "reads_the_judge")),
]  # fmt: skip


@engine
@pytest.mark.parametrize(("stage", "given"), CASES, ids=lambda value: getattr(value, "name", str(value)))
def test_verdicts_are_those_of_bubblewrap(stage, given, tmp_path):
    if isinstance(given, Path):
        folder = given
    else:
        given.lay_down(folder := tmp_path / "submission")
    here, there = (graded(folder, stage, seed_of(given), rung, command_seconds=60) for rung in ("bubblewrap", "docker"))
    assert there.isolation == "docker"
    assert [(c.id, c.outcome) for c in there.checks] == [(c.id, c.outcome) for c in here.checks], said(here) + said(
        there
    )


@engine
def test_the_reference_passes_in_a_container():
    result = graded(home.reference_solution(), "02", seed_of("reference in a container"), "docker")
    assert {c.outcome for c in result.checks} == {Outcome.PASS}, said(result)
    assert soon(lambda: not containers())


@engine
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_somebody_ends_it(number, tmp_path):
    line = [
        sys.executable,
        "-m",
        "grader",
        "grade",
        str(home.reference_solution()),
        "--stage",
        "01",
        "--isolation",
        "docker",
    ]
    running = subprocess.Popen(
        [*line, "--out", str(tmp_path)], cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL
    )
    # before the grade is begun, there was the container that was only tried
    assert soon(lambda: (tmp_path / "grade.json").exists() and containers(), 60)
    time.sleep(3)
    assert running.poll() is None
    running.send_signal(number)
    running.wait(30)
    assert soon(lambda: not containers())
    assert not json.loads((tmp_path / "grade.json").read_text())["finished"]


@engine
def test_a_container_that_is_too_small_is_our_fault_and_says_so(monkeypatch):
    plan = Plan(home.reference_solution(), stages.find("01").checks[:1], 1, "1", "docker", 1)
    script = (
        "import sys; from grader.sandbox import container; container.memory_mb = lambda *_: 48\n"
        "from grader.engine import worker; sys.exit(worker.main(int(sys.argv[1])))"
    )
    monkeypatch.setattr("grader.engine.supervisor.worker_command", lambda fd: [sys.executable, "-c", script, str(fd)])
    result = grade(plan)
    assert result.checks[0].outcome is Outcome.GRADER_ERROR
    assert "more than 48 MB of memory" in result.checks[0].reason


@engine
def test_a_path_may_have_commas_and_blanks(tmp_path):
    mutant = next(m for m in pool.mutants() if m.stage == "01")
    mutant.lay_down(folder := tmp_path / 'it, is "here"')
    result = graded(folder, "01", 5, "docker", only=mutant.kills)
    assert {c.outcome for c in result.checks} == {Outcome.FAIL}, said(result)


def test_what_was_written_belongs_to_who_asked(tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root gives files away")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").touch()
    (tmp_path / "link").symlink_to("/etc/hostname")
    owner = Path("/etc/hostname").stat().st_uid
    contained._hand_over(tmp_path, 1234, 1235)
    for path in (tmp_path, tmp_path / "deep", tmp_path / "deep" / "file", tmp_path / "link"):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (1234, 1235)
    assert Path("/etc/hostname").stat().st_uid == owner


# Without an engine


@pytest.fixture
def docker(monkeypatch, tmp_path):
    """A docker program that says one thing and ends."""

    def make(text: str, code: int) -> None:
        program = tmp_path / "docker"
        program.write_text(f"#!/bin/sh\necho '{text}' >&{1 if code == 0 else 2}\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    detect_engine.cache_clear()
    yield make
    detect_engine.cache_clear()


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", 1, "Cannot connect"),
        ("20.10 windows", 0, "another system than Linux"),
    ],
)  # fmt: skip
def test_an_engine_that_cannot_be_used_is_told(docker, text, code, words):
    docker(text, code)
    with pytest.raises(Refused, match=f"cannot grade in a container: .*{words}"):
        rung_of("docker")


def test_who_has_no_docker_is_told(monkeypatch, tmp_path, docker):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="there is no docker program"):
        rung_of("docker")


@pytest.mark.parametrize(("engine", "rung"), [("docker", "docker"), ("plain", "plain")])
def test_a_machine_that_forbids_namespaces_grades_in_a_container_if_it_can(monkeypatch, engine, rung):
    monkeypatch.setattr("grader.sandbox.detect", lambda: Detection("plain", "the system forbids namespaces (no)"))
    monkeypatch.setattr("grader.sandbox.detect_engine", lambda: Detection(engine, "so it is"))
    found, notes = rung_of("auto")
    assert found == rung
    assert "because the system forbids namespaces" in notes[0]
    with pytest.raises(Refused, match="cannot isolate"):
        rung_of("bubblewrap")


def programs(monkeypatch, folder: Path, **scripts: str) -> None:
    for name, script in scripts.items():
        program = folder / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


DENIED = "echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1"
ANSWERS = 'case "$*" in version*) echo 27.1 ;; info*) echo "[name=rootless]" ;; compose*) {} ;; esac'
PODMAN = 'case "$1" in version) echo 4.3.1 ;; info) echo true ;; esac'


@pytest.mark.parametrize(
    ("scripts", "said", "fix"),
    [
        ({}, "no engine; only --isolation docker", ""),
        ({"docker": DENIED}, "permission denied", "usermod -aG docker"),
        ({"docker": "echo 'Cannot connect to the Docker daemon' >&2; exit 1"}, "Cannot connect", "start it"),
        ({"docker": ANSWERS.format("echo 2.29.1")}, "docker 27.1 (rootless); docker compose 2.29.1 brings up", ""),
        ({"docker": ANSWERS.format("exit 1"), "docker_compose": "echo 1.29.2"}, "docker-compose 1.29.2 brings up", ""),
        ({"docker": ANSWERS.format("exit 1")}, "without compose", ""),
        ({"podman": PODMAN}, "podman 4.3.1 (rootless): not used to grade", ""),
    ],
)
def test_the_doctor_knows_engines_and_what_each_allows(monkeypatch, tmp_path, scripts, said, fix):
    programs(monkeypatch, tmp_path, **scripts)
    monkeypatch.setattr("grader.sandbox.detect_engine", lambda: Detection("docker", "tried"))
    (found,) = doctor._containers()
    assert said in found.found
    assert fix in found.fix
    assert (found.state == "warning") == bool(fix)


def test_the_doctor_tells_why_an_engine_that_answers_cannot_grade(monkeypatch, tmp_path):
    programs(monkeypatch, tmp_path, docker=ANSWERS.format("echo 2.29.1"))
    monkeypatch.setattr("grader.sandbox.detect_engine", lambda: Detection("plain", "mounts are not shown"))
    assert [found.state for found in doctor._containers()] == ["ok", "warning"]
