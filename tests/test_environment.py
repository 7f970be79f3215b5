"""Locked environments: what a lock file may say, how it is built once, and what a failure says."""

import subprocess
import threading

import pytest

from grader import environment, home, stages
from grader.contract.manifest import Manifest
from grader.engine import Plan, grade
from grader.environment import LOCK, NotReachable, build_environment, read_lock, resolve
from grader.sandbox import Job, Mount, choose, detect
from grader.submission import UnusableSubmission
from grader.verdict import Outcome

LOCKED = Manifest(contract=1, environment="locked")
SMALL = "six==1.17.0\n"  # pure Python, no dependencies


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A locked environment and the cache it is in."""
    cache, work = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("work")
    (work / LOCK).write_text(SMALL)
    try:
        return resolve(LOCKED, work, cache), cache, work
    except NotReachable as problem:
        pytest.skip(str(problem))


def test_the_kit_environment_needs_nothing(folder):
    assert resolve(Manifest(contract=1), folder) is None


def test_a_missing_lock_says_how_to_write_one(folder):
    with pytest.raises(UnusableSubmission, match=r"uv pip compile pyproject.toml -o requirements.lock"):
        resolve(LOCKED, folder)


def test_what_uv_and_pip_tools_write_is_taken(folder):
    (folder / LOCK).write_text(
        "# compiled\n"
        "a==1.0 \\\n    --hash=sha256:00ff \\\n    --hash=sha256:11ee\n    # via b\n"
        'b[c,d]==2.0.post1+local ; sys_platform == "linux" and python_version < "3.13"  # why\n'
        "\n  e-f.g == 1!3\r\n"
    )
    assert read_lock(folder) == (
        "a==1.0 --hash=sha256:00ff --hash=sha256:11ee",
        'b[c,d]==2.0.post1+local ; sys_platform == "linux" and python_version < "3.13"',
        "e-f.g == 1!3",
    )


@pytest.mark.parametrize(
    "line",
    ["six", "six>=1", "six==1.*", "-e .", "-r other.txt", "--index-url x", "six @ file:///x", "./six.whl", "six==1 --pre",
     "git+ssh://x", "six==1 ; python_version > '3' --index-url x", "six==1; x @ y", "--find-links=/"],
)  # fmt: skip
def test_what_is_not_pinned_is_refused_with_its_line(folder, line):
    (folder / LOCK).write_text(f"# a\n\n{line}\n")
    with pytest.raises(UnusableSubmission, match=r"requirements\.lock, line [34]: .* is not a pinned package"):
        read_lock(folder)


@pytest.mark.parametrize(
    "make", [lambda p: p.symlink_to("/etc/passwd"), lambda p: p.mkdir(), lambda p: p.write_bytes(b"\xff")]
)
def test_a_lock_that_is_no_text_file_is_refused(folder, make):
    make(folder / LOCK)
    with pytest.raises(UnusableSubmission, match="is not a readable text file"):
        read_lock(folder)


def test_a_locked_environment_has_its_packages_compiled_and_the_kits_are_not_there(built):
    python, _, _ = built
    code = (
        "import six, importlib.util as u; print(six.__cached__, [u.find_spec(n) for n in ('grader', 'numpy', 'pip')])"
    )
    ran = subprocess.run([python, "-I", "-B", "-c", code], capture_output=True, text=True, check=True)
    cached, rest = ran.stdout.split(" ", 1)
    assert rest.strip() == "[None, None, None]"
    assert subprocess.run(["test", "-f", cached], check=False).returncode == 0


def test_it_is_built_once(built, monkeypatch):
    python, cache, work = built
    monkeypatch.setattr(environment, "_build", lambda *_: pytest.fail("built again"))
    assert resolve(LOCKED, work, cache) == python
    (work / LOCK).write_text("# a comment changes nothing\n" + SMALL)
    assert resolve(LOCKED, work, cache) == python


def test_an_interrupted_build_is_made_anew(built):
    python, cache, work = built
    (python.parent.parent / environment.READY).unlink()
    (python.parent / "junk").touch()
    assert resolve(LOCKED, work, cache) == python
    assert not (python.parent / "junk").exists()


def test_two_builds_at_once_make_one(built, tmp_path, monkeypatch):
    _, _, work = built
    real, builds, found = environment._build, [], []

    def counted(*arguments):
        builds.append(1)
        real(*arguments)

    monkeypatch.setattr(environment, "_build", counted)
    threads = [threading.Thread(target=lambda: found.append(resolve(LOCKED, work, tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert (len(found), len(set(found)), len(builds)) == (3, 1, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [("six==0.0.99", "no version of six==0.0.99"), ("six==1.17.0 --hash=sha256:" + "0" * 64, "[Hh]ash mismatch")],
)
def test_a_build_that_fails_is_the_submissions_and_leaves_nothing(built, folder, tmp_path, text, words):
    (folder / LOCK).write_text(text)
    with pytest.raises(UnusableSubmission, match=f"could not be built from wheels: .*{words}"):
        resolve(LOCKED, folder, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_without_network_it_is_nobodys_fault(folder, tmp_path, monkeypatch):
    (folder / LOCK).write_text(SMALL)
    for name in ("UV_OFFLINE", "UV_NO_CACHE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("UV_INDEX_URL", "https://packages.invalid/simple")
    with pytest.raises(NotReachable, match="they could not be"):
        resolve(LOCKED, folder, tmp_path / "cache")


def test_a_build_gets_the_machines_indexes_and_nothing_else(tmp_path):
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip" / "pip.conf").write_text(
        "[global]\nindex-url = https://a.invalid/simple\nfind-links = /x\n  /y\n"
    )
    given = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "none"),
        "SECRET": "x",
        "PYTHONPATH": "/",
        "UV_LINK_MODE": "symlink",
    }
    found = build_environment({**given, "PIP_INDEX_URL": "https://b.invalid/simple"})
    assert found["UV_DEFAULT_INDEX"] == "https://b.invalid/simple"
    assert found["UV_FIND_LINKS"].startswith("/x,/y")
    assert not {"SECRET", "PYTHONPATH", "UV_LINK_MODE"} & set(found)
    own = build_environment({**given, "UV_DEFAULT_INDEX": "https://c.invalid/simple"})
    assert own["UV_DEFAULT_INDEX"] == "https://c.invalid/simple"
    assert "UV_FIND_LINKS" not in own


def test_messages_name_no_index(folder):
    assert (
        environment._reason("cause: failed to fetch https://user:token@host.invalid/simple/six")
        == "failed to fetch <index>"
    )


@pytest.mark.skipif(detect().rung != "bubblewrap", reason=detect().why)
def test_a_locked_environment_runs_in_the_sandbox(built, tmp_path):
    python, _, _ = built
    here = Mount(tmp_path, "submission")
    code = "import six, sys; print(six.__version__, sys.prefix)"
    job = Job(
        ["python", "-c", code],
        [here],
        here,
        {"PATH": f"{python.parent}:/usr/bin:/bin"},
        python=python,
        hidden=[home.PACKAGE],
    )
    finished = choose("bubblewrap").run(job)
    assert finished.output.split() == ["1.17.0", str(python.parent.parent)]


def test_a_grading_whose_environment_cannot_be_built_blocks_every_check(folder, tmp_path):
    (folder / "pyproject.toml").write_text('[tool.mlekit]\ncontract = 1\nenvironment = "locked"\n')
    checks = stages.find("01").checks
    result = grade(Plan(folder, checks, 11, "test", detect().rung, 2, cache=tmp_path / "cache"))
    assert {check.outcome for check in result.checks} == {Outcome.BLOCKED}
    assert "uv pip compile" in result.checks[0].reason
