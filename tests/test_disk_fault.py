"""A disk that is slow or full for one command, with real processes and the real kernel."""

import json
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from grader.sandbox import Job, Limits, Mount, choose, detect
from grader.sandbox.reader import INSIDE

TOOL = INSIDE / "disk_fault.py"
SLOW = 0.8
QUICK = 0.6  # less than SLOW, and much more than a call needs
TRY = """
    import json, os, shutil, sqlite3, subprocess, sys, threading, time
    folder, elsewhere = sys.argv[1:]
    def timed(act, *args):
        began = time.monotonic()
        try:
            act(*args)
            said = "done"
        except (OSError, sqlite3.Error) as problem:
            said = problem.strerror if isinstance(problem, OSError) else str(problem)
        return said, time.monotonic() - began
    def opened(where, name="file"):
        return os.open(os.path.join(where, name), os.O_RDWR | os.O_CREAT)
    def say(*what):
        print(json.dumps(what), flush=True)
"""
# does what it is asked to, line by line: write below the folder, or elsewhere
ASKED = """
    files = {"below": opened(folder), "elsewhere": opened(elsewhere)}
    for line in sys.stdin:
        say(*timed(os.write, files[line.strip()], b"x"))
"""


class Disk:
    def __init__(self, top):
        self.folder, self.elsewhere, self.control = top / "folder", top / "folder-2", top / "control"
        self.folder.mkdir()
        self.elsewhere.mkdir()

    def line(self, *command):
        return [sys.executable, str(TOOL), str(self.folder), str(self.control), "--", *map(str, command)]

    def program(self, code):
        both = textwrap.dedent(TRY) + textwrap.dedent(code)
        return self.line(sys.executable, "-S", "-c", both, self.folder, self.elsewhere)

    def run(self, code):
        """What the program said, line by line."""
        done = subprocess.run(self.program(code), capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def start(self, code):
        return subprocess.Popen(self.program(code), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module", autouse=True)
def _offered():
    done = subprocess.run([sys.executable, str(TOOL), "/", "/none", "--", "true"], capture_output=True, text=True)
    if done.returncode == 70:
        pytest.skip(done.stderr.strip())


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path)


def test_writes_below_the_folder_wait_and_others_do_not(disk):
    disk.control.write_text(f"slow {SLOW}\n")
    code = """
        for where in (folder, elsewhere):
            file = opened(where)
            say(*timed(os.write, file, b"x"))
            say(*timed(os.fsync, file))
        os.remove(os.path.join(elsewhere, "file"))
        os.symlink(folder, os.path.join(elsewhere, "link"))
        file = opened(elsewhere, "link/gone")
        os.remove(os.path.join(folder, "gone"))
        say(*timed(os.write, file, b"x"))
        say(*timed(subprocess.check_call, ["/bin/sh", "-c", "echo x > $0/by-a-child", folder]))
    """
    said = disk.run(code)
    assert {how for how, _ in said} == {"done"}
    assert [seconds >= SLOW for _, seconds in said] == [True, True, False, False, True, True]
    assert all(seconds < QUICK for _, seconds in said[2:4])
    assert (disk.folder / "by-a-child").read_text() == "x\n"


def test_what_is_asked_for_may_change_while_it_runs(disk):
    with disk.start(ASKED) as program:

        def ask(where, control=None):
            if control is not None:
                disk.control.write_text(control)
            print(where, file=program.stdin, flush=True)
            said, seconds = json.loads(program.stdout.readline())
            return said if seconds < QUICK else f"{said} slowly"

        assert ask("below") == "done"
        assert ask("below", f"slow {SLOW}") == "done slowly"
        assert ask("elsewhere") == "done"
        assert ask("below", "none") == "done"
        assert ask("below", "full") == "No space left on device"
        assert ask("elsewhere") == "done"
        assert ask("below", "no such word") == "No space left on device"
        disk.control.unlink()
        assert ask("below") == "done"
        program.stdin.close()
        assert program.wait(10) == 0
    assert (disk.folder / "file").read_text() == "x" * 4


def test_a_full_disk_takes_nothing_by_any_call_and_still_reads(disk):
    (disk.folder / "file").write_text("before")
    (disk.elsewhere / "file").write_text("much" * 99)
    disk.control.write_text("full")
    code = """
        below, source = opened(folder), opened(elsewhere)
        say(os.read(below, 100).decode())
        for act, *args in (
            (os.write, below, b"x"), (os.writev, below, [b"x"]), (os.pwrite, below, b"x", 0), (os.pwritev, below, [b"x"], 0),
            (os.pwritev, below, [b"x"], 0, os.RWF_SYNC), (os.posix_fallocate, below, 0, 9999),
            (os.sendfile, below, source, 0, 9), (os.copy_file_range, source, below, 9),
            (os.copy_file_range, below, source, 1, 0), (os.fsync, below), (os.fdatasync, below), (os.ftruncate, below, 3),
        ):
            say(timed(act, *args)[0])
    """
    said = [line[0] for line in disk.run(code)]
    assert said == ["before", *["No space left on device"] * 8, *["done"] * 4]
    assert (disk.folder / "file").read_text() == "bef"


def test_a_slow_thread_stops_no_other(disk):
    disk.control.write_text("slow 1.5")
    code = """
        found = []
        def write(name):
            found.append(timed(os.write, opened(folder, name), b"x"))
        slow = [threading.Thread(target=write, args=name) for name in "abc"]
        began = time.monotonic()
        for thread in slow:
            thread.start()
        file, (_, pipe) = opened(elsewhere), os.pipe()
        for _ in range(100):
            os.write(file, b"x")
            os.write(pipe, b"x")
        say(time.monotonic() - began, len(found))
        for thread in slow:
            thread.join()
        say(time.monotonic() - began, found)
    """
    (quick, none), (whole, found) = disk.run(code)
    assert (quick < 1, none) == (True, 0)
    assert [(how, seconds >= 1.5) for how, seconds in found] == [("done", True)] * 3
    assert whole < 3  # they waited side by side


def test_sqlite_finds_its_disk_full_and_goes_on_afterwards(disk):
    code = """
        store = sqlite3.connect(os.path.join(folder, "store.db"), isolation_level=None)
        store.execute("create table t (x)")
        for line in sys.stdin:
            say(timed(store.execute, "insert into t values (1)")[0])
        say(*store.execute("select count(*) from t").fetchone(), *store.execute("pragma integrity_check").fetchone())
    """
    said = []
    with disk.start(code) as program:
        for control in ("none", "full", "none"):
            disk.control.write_text(control)
            print(file=program.stdin, flush=True)
            said += json.loads(program.stdout.readline())
        program.stdin.close()
        said += json.loads(program.stdout.readline())
    assert said == ["done", "database or disk is full", "done", 2, "ok"]


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "kill -9 $$"], 137, ""),
        (["no-such-program"], 127, "No such file"),
        (["/etc/passwd"], 126, "Permission denied"),
        ([sys.executable, TOOL, "/", "/none", "--", "echo", "ran"], 70, "cannot be held up here"),  # one in another
    ],
)
def test_an_end_has_its_exit_code(disk, command, code, said):
    done = subprocess.run(disk.line(*command), capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == bool(said)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(disk, number):
    code = f"import signal; signal.signal({int(number)}, lambda *_: sys.exit(9)); say('up'); time.sleep(30)"
    with disk.start(code) as program:
        program.stdout.readline()
        program.send_signal(number)
        assert program.wait(10) == 9
    with disk.start("say('up'); time.sleep(30)") as program:
        program.stdout.readline()
        program.send_signal(signal.SIGTERM)
        assert program.wait(10) == 128 + signal.SIGTERM


def test_the_command_ends_with_the_tool(disk):
    disk.control.write_text("slow 30")
    code = """
        threading.Thread(target=os.write, args=(opened(folder), b"x")).start()
        say(os.getpid())
        time.sleep(30)
    """
    with disk.start(code) as program:
        command = psutil.Process(json.loads(program.stdout.readline())[0])
        time.sleep(0.2)
        program.kill()
        _, alive = psutil.wait_procs([command], timeout=5)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.skipif(detect().rung != "bubblewrap", reason=detect().why)
def test_it_works_in_the_sandbox(disk, tmp_path):
    (tmp_path / "code.py").write_text(textwrap.dedent(TRY) + "say(*timed(os.write, opened(folder), b'x'))")
    disk.control.write_text("full")
    kit, own, state = Mount(INSIDE, "kit"), Mount(tmp_path, "own"), Mount(disk.folder, "state", writable=True)
    tool = ["python", kit / "disk_fault.py", state, own / "control", "--", sys.executable, "-S", own / "code.py"]
    job = Job([*tool, state, "/tmp"], [kit, own, state], own, {"PATH": "/usr/bin:/bin"}, Limits(seconds=20))
    sandbox = choose("bubblewrap")
    try:
        finished = sandbox.run(job)
        assert finished.ok, finished.output
        assert json.loads(finished.output)[0] == "No space left on device"
        disk.control.write_text(f"slow {SLOW}")
        said, seconds = json.loads(sandbox.run(job).output)
    finally:
        sandbox.close()
    assert (said, seconds >= SLOW) == ("done", True)
    assert (disk.folder / "file").read_text() == "x"
