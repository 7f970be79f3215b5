"""The clean copy of a submission: what comes along, what never does, and what is refused in words."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from grader.submission import MAX_FILES, UnusableSubmission, clean_copy, files_of, submission_hash


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "work"
    made.mkdir()
    (made / "pyproject.toml").write_text("[tool.mlekit]\ncontract = 1\n")
    return made


def copied(folder: Path) -> set[str]:
    target = folder.parent / "copy"
    target.mkdir()
    clean_copy(folder, target)
    return {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}


def test_only_regular_files_come_along(folder):
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "linked").symlink_to("/usr/share")
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    (folder / "src").mkdir()
    (folder / "src" / "a.py").write_text("")
    assert copied(folder) == {"pyproject.toml", "src/a.py"}


@pytest.mark.parametrize(
    "name", [".git/config", ".venv/lib/x.py", "src/__pycache__/a.pyc", "a.pyc", "mlruns/0/meta.yaml"]
)
def test_histories_caches_and_environments_stay(folder, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("x")
    assert copied(folder) == {"pyproject.toml"}


@pytest.mark.parametrize("name", [b"caf\xe9.py", b"with space.py", b"line\nbreak", b"\xf0\x9f\x99\x82", b"-rf"])
def test_any_name_comes_along_and_counts(folder, name):
    before = submission_hash(folder)
    with open(os.fsencode(folder) + b"/" + name, "wb") as file:
        file.write(b"x")
    assert os.fsdecode(name) in copied(folder)
    assert submission_hash(folder) != before


def test_the_hash_is_of_names_and_bytes_alone(folder):
    (folder / "b").mkdir()
    (folder / "b" / "x").write_text("1")
    (folder / "a").write_text("2")
    before = submission_hash(folder)
    os.utime(folder / "a", (0, 0))
    (folder / "a").chmod(0o700)
    (folder / ".git").mkdir()
    assert submission_hash(folder) == before
    target = folder.parent / "copy"
    target.mkdir()
    clean_copy(folder, target)
    assert submission_hash(target) == before
    (folder / "a").write_text("3")
    assert submission_hash(folder) != before


def test_a_name_cannot_pass_for_another_files_content(folder):
    (folder / "a").write_text("1")
    one = submission_hash(folder)
    (folder / "a").unlink()
    (folder / "a\n").write_text("1")
    assert submission_hash(folder) != one


def test_a_read_only_submission_can_be_copied(folder):
    (folder / "src").mkdir()
    (folder / "src" / "a.py").write_text("")
    (folder / "src" / "a.py").chmod(0o444)
    (folder / "src").chmod(0o555)
    assert copied(folder) == {"pyproject.toml", "src/a.py"}


def test_what_starts_like_a_program_can_be_run(folder):
    (folder / "run").write_text("#!/bin/sh\n")
    (folder / "data").write_text("x")
    (folder / "data").chmod(0o777)
    copied(folder)
    assert (folder.parent / "copy" / "run").stat().st_mode & 0o111
    assert not (folder.parent / "copy" / "data").stat().st_mode & 0o111


def test_a_huge_sparse_file_is_refused_at_once(folder):
    (folder / "model.bin").touch()
    os.truncate(folder / "model.bin", 50 << 30)
    with pytest.raises(UnusableSubmission, match="move data, models and environments out of it"):
        submission_hash(folder)


def test_too_many_files_are_refused(folder):
    for number in range(MAX_FILES + 1):
        (folder / f"f{number}").touch()
    with pytest.raises(UnusableSubmission, match="holds more than 5,000 files"):
        list(files_of(folder))


def test_a_very_deep_tree_is_refused_or_copied_but_never_breaks(folder):
    here = Path.cwd()
    try:
        os.chdir(folder)
        for _ in range(1500):
            Path("deeper").mkdir()
            os.chdir("deeper")
    finally:
        os.chdir(here)
    with pytest.raises(UnusableSubmission, match="cannot be listed"):
        submission_hash(folder)
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_files_that_cannot_be_read_are_named(folder):
    (folder / "secret.txt").write_text("x")
    (folder / "secret.txt").chmod(0)
    if os.getuid() != 0:
        with pytest.raises(UnusableSubmission, match=r"secret\.txt cannot be read"):
            submission_hash(folder)
        return
    for parent in (folder, *list(folder.parents)[:3]):
        parent.chmod(0o755)
    package = Path(sys.modules["grader"].__file__).parent.parent
    code = "import sys; from grader.submission import *\ntry: submission_hash(Path(sys.argv[1]))\nexcept UnusableSubmission as p: print(p)"
    try:
        ran = subprocess.run(
            [sys.executable, "-c", code, str(folder)], user="nobody", capture_output=True, text=True, check=False,
            cwd="/", env={"PYTHONPATH": str(package)},
        )  # fmt: skip
    except PermissionError:
        pytest.skip("another user cannot run this interpreter")
    if "PermissionError" in ran.stderr or "ModuleNotFoundError" in ran.stderr:
        pytest.skip("another user cannot run this interpreter")
    assert ran.stdout.strip().endswith("secret.txt cannot be read (Permission denied)")
