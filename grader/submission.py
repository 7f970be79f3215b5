"""A submission under test: a clean copy of its files, its commands run in the sandbox, and what it wrote.

Nothing here imports, evaluates or opens for parsing anything that a submission made; `sandbox.reader` does the reading.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from grader import stores
from grader.contract import Manifest
from grader.runcache import NotKept, RunCache
from grader.sandbox import Finished, Job, Limits, Mount, Sandbox
from grader.sandbox.base import MEBI, Argument, Service

SKIPPED_FOLDERS = frozenset({
    ".git", ".hg", ".svn", ".venv", "venv", ".mlekit", "__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".mypy_cache",
    ".ruff_cache", ".tox", ".nox", ".hypothesis", "node_modules", "mlruns", "mlartifacts",
})  # fmt: skip
SKIPPED_ENDINGS = (".pyc", ".pyo", ".egg-info", "mlflow.db", "mlflow.db-journal")
PROGRAMS = (b"#!", b"\x7fELF", b"\xcf\xfa\xed\xfe")  # how what can be executed begins; the mode is not copied
MAX_FILES = MAX_FOLDERS = 5_000
MAX_TOTAL_MB = 256
CONTRACT_EXIT_REFUSED = 2
KILL_POLL_SECONDS = 0.005
TELLING = ("FAILED ", "ERROR ", "FAIL: ", "ERROR: ")
TELLING_ERROR = re.compile(r"(E\s+)?[A-Za-z_.]*(Error|Exception|Exit)\b")


class UnusableSubmission(Exception):
    """The folder cannot be graded at all; the message says what to change."""


def files_of(folder: Path) -> Iterator[Path]:
    """The files of a submission that count, in a fixed order: regular ones, outside caches and histories.

    Links, FIFOs and devices are left out, so a link can never bring in what it points to. Raises UnusableSubmission
    where they are too many or cannot be listed.
    """
    waiting, folders, files, size = [folder], 0, 0, 0
    while waiting:
        where = waiting.pop()
        folders += 1
        try:
            with os.scandir(where) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
            below, found = _sorted_out(entries)
            size += sum(entry.stat(follow_symlinks=False).st_size for entry in found)
        except OSError as problem:
            raise UnusableSubmission(f"the folder {shown(where)} cannot be listed ({problem.strerror})") from None
        files += len(found)
        if folders + len(waiting) > MAX_FOLDERS or files > MAX_FILES or size > MAX_TOTAL_MB * MEBI:
            raise UnusableSubmission(
                f"{shown(folder)} holds more than {MAX_FILES:,} files, {MAX_FOLDERS:,} folders or {MAX_TOTAL_MB} MB; "
                "move data, models and environments out of it"
            )
        yield from (Path(entry) for entry in found)
        waiting += reversed([Path(entry) for entry in below])


def _sorted_out(entries: Sequence[os.DirEntry[str]]) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
    """The folders to go into and the files that count."""
    kept = [entry for entry in entries if not entry.name.endswith(SKIPPED_ENDINGS)]
    folders = [e for e in kept if e.is_dir(follow_symlinks=False) and e.name not in SKIPPED_FOLDERS]
    return folders, [e for e in kept if e.is_file(follow_symlinks=False)]


def shown(path: Path) -> str:
    """A path as it can be printed anywhere, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file of a submission, open for reading; never a link or FIFO that took its place meanwhile."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        raise UnusableSubmission(f"{shown(path)} cannot be read ({problem.strerror})") from None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UnusableSubmission(f"{shown(path)} is not a file any more")
        yield file


def submission_hash(folder: Path) -> str:
    """SHA-256 over the relative paths and bytes of the files that count; times, owners and modes change nothing.

    Raises UnusableSubmission.
    """
    digest = hashlib.sha256()
    for path in files_of(folder):
        inner = hashlib.sha256()
        with _opened(path) as file:
            while block := file.read(1 << 20):
                inner.update(block)
        digest.update(os.fsencode(path.relative_to(folder).as_posix()) + f"\0{inner.hexdigest()}\n".encode())
    return digest.hexdigest()


def clean_copy(folder: Path, target: Path) -> None:
    """Copy the files that count, without links, owners, times or modes. Raises UnusableSubmission."""
    for path in files_of(folder):
        copy = target / path.relative_to(folder)
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            with _opened(path) as source, copy.open("wb") as written:
                begins = source.read(4)
                written.write(begins)
                shutil.copyfileobj(source, written, 1 << 20)
        except OSError as problem:
            raise UnusableSubmission(f"{shown(path)} cannot be copied ({problem.strerror})") from None
        copy.chmod(0o755 if begins.startswith(PROGRAMS) else 0o644)


@dataclass(frozen=True)
class Ran:
    """One finished command: how it ended and the folder it was given to write in."""

    command: str
    finished: Finished
    out: Path
    refusal: Path
    module: str | None = None
    tracking: Path | None = None  # the MLflow store, where something was logged
    state: Path | None = None  # what MLEKIT_STATE held at its end

    @property
    def ok(self) -> bool:
        return self.finished.ok

    @property
    def last_line(self) -> str:
        """The last line it printed that is not empty, shortened."""
        lines = [line for line in self.finished.output.splitlines() if line.strip()]
        return lines[-1].strip()[:300] if lines else ""

    @property
    def telling_line(self) -> str:
        """The last line that names what failed, as test runners and tracebacks have it; else the last line."""
        lines = [line.strip() for line in self.finished.output.splitlines()]
        telling = [line for line in lines if line.startswith(TELLING) or TELLING_ERROR.match(line)]
        return telling[-1][:300] if telling else self.last_line

    @property
    def absent(self) -> bool:
        """Whether there is no such program yet, which is owed rather than wrong."""
        package = (self.module or "").partition(".")[0]
        unknown_module = self.module is not None and self.last_line.endswith(
            (f"No module named {self.module}", f"No module named '{package}')")
        )
        return self.finished.ended == "missing" or (self.finished.code == 1 and unknown_module)

    def sentence(self) -> str:
        """How it ended, with the last line it printed."""
        return self.finished.sentence() + (f": {self.last_line}" if self.last_line else "")


@dataclass
class Running:
    """A command that goes on, such as a server."""

    submission: Submission
    command: str
    job: Job
    out: Path
    earlier: Mapping[str, Path]
    service: Service
    ran: Ran | None = None

    def ended(self) -> Ran | None:
        """How it ended, if it has."""
        if self.ran is None and (finished := self.service.poll()) is not None:
            self._settle(finished)
        return self.ran

    @contextmanager
    def paused(self) -> Iterator[None]:
        """All its processes stand still meanwhile."""
        self.service.pause()
        try:
            yield
        finally:
            self.service.resume()

    def stop(self, grace_seconds: float = 0.0) -> Ran:
        """Tell it to stop, and kill it after so long; how it ended."""
        if self.ran is None:
            self._settle(self.service.stop(grace_seconds))
        assert self.ran is not None
        return self.ran

    def _settle(self, finished: Finished) -> None:
        self.submission.seconds += finished.seconds
        self.ran = self.submission._ran(self.command, self.job, self.out, finished, self.earlier)


@dataclass(frozen=True)
class Record:
    """One run as it was, to be shown to whoever wants to run it again."""

    label: str
    job: Job
    out: Path
    finished: Finished
    earlier: Mapping[str, Path]  # the folders of earlier runs that it went on with, by mount


@dataclass(frozen=True)
class Server:
    """A source of ours that commands talked to: the files that it hands out, and its plan of failures.

    `year` has what it handed out step by step, with the messages of the mailbox, where a loop was played a year.
    """

    folder: Path
    plan: Path
    year: Path | None = None


@dataclass
class Submission:
    """The clean copy and the sandbox its commands run in.

    `seconds` sums what its own processes took.
    """

    folder: Path
    manifest: Manifest
    sandbox: Sandbox
    python: Path | None = None
    hidden: Sequence[Path] = ()
    seconds: float = field(default=0.0)
    cache: RunCache | None = None
    stores: stores.Stores | None = None  # None: commands are not given a tracking store
    records: list[Record] = field(default_factory=list)
    servers: dict[str, Server] = field(default_factory=dict)  # by URL
    going_on: list[Running] = field(default_factory=list)  # commands that were started, ended or not
    labels: dict[Path, str] = field(default_factory=dict)  # what each folder it writes to is for; never told to it
    tell: Callable[[str], None] = lambda label: None  # hears what is begun, for whoever waits

    def run(
        self,
        command: str,
        argv: Sequence[Argument],
        reads: Sequence[Mount],
        out: Path,
        limits: Limits,
        env: dict[str, Argument] | None = None,
        tools: Sequence[Mount] = (),
        kit_python: bool = False,
        network: bool = False,
        in_turn: bool = False,
        tracking: Path | None = None,
        state: Path | None = None,
        kill_when: Callable[[], bool] | None = None,
        cached: bool = True,
        beside: Running | None = None,
    ) -> Ran:
        """Run one command line with `reads` visible and `out` writable; never raises for what the submission does.

        `kit_python` makes the kit's interpreter visible too, for tools of the kit that the job is to call. `network` lets
        it into the loopback of the grading; without, it has a private one, so that two jobs cannot meet there. `tracking`
        and `state` are the store and the state of an earlier run, of which the command gets copies; without, it has empty ones.
        All its processes are killed as soon as `kill_when` says so. What depends on more than its files is not `cached`. `beside`
        is a command that goes on, or has ended, in whose state it runs.
        """
        self.tell(self.labels.get(out, command))
        given = self._state(out, state) if beside is None else Mount(beside.out / "state", "state", writable=True)
        written = Mount(out / "out", "out", writable=True)
        written.source.mkdir(parents=True, exist_ok=True)
        job = self.job(argv, [*reads, *tools], written, given, limits, env, self._store(out, tracking))
        job = replace(job, also_python=Path(sys.executable) if kit_python else None, network=network)
        if beside is not None:
            job, cached = replace(job, env={**job.env, "MLEKIT_REFUSAL": written / "refusal.json"}), False
        earlier = {name: folder for name, folder in ((stores.NAME, tracking), ("state", state)) if folder}
        finished = (
            self._until(job, kill_when) if kill_when is not None else self._finish(job, out, in_turn, earlier, cached)
        )
        ran = self._ran(command, job, out, finished, earlier)
        return ran if beside is None else replace(ran, refusal=written.source / "refusal.json", state=given.source)

    def run_together(
        self,
        command: str,
        argvs: Sequence[Sequence[Argument]],
        reads: Sequence[Mount],
        outs: Sequence[Path],
        limits: Limits,
        tracking: Path | None,
        env: Mapping[str, Argument] | None = None,
        network: bool = False,
    ) -> list[Ran]:
        """Run command lines at the same time on one state and one store, a copy of `tracking`; each has its own of `outs`."""
        self.tell(self.labels.get(outs[0], command))
        first, limits = outs[0], replace(limits, seconds=limits.seconds * len(outs))  # they may wait for each other
        given, store = self._state(first, None), self._store(first, tracking)
        earlier = {stores.NAME: tracking} if tracking else {}
        jobs = []
        for number, (argv, out) in enumerate(zip(argvs, outs, strict=True)):
            written = Mount(out / "out", "out", writable=True)
            written.source.mkdir(parents=True, exist_ok=True)
            own = {**(env or {}), "MLEKIT_REFUSAL": written / f"refusal-{number}.json"}
            job = self.job(argv, [*reads], written, given, limits, own, store)
            jobs.append(replace(job, network=network))
        with self.sandbox.turn:
            running = [self.sandbox.start(job) for job in jobs]
            ended = [service.wait() for service in running]
        self.seconds += sum(finished.seconds for finished in ended)
        found = []
        for number, (job, out, finished) in enumerate(zip(jobs, outs, ended, strict=True)):
            ran = self._ran(command, job, out, finished, earlier)
            found.append(
                replace(
                    ran,
                    refusal=out / "out" / f"refusal-{number}.json",
                    tracking=first / stores.NAME,
                    state=given.source,
                )
            )
        return found

    def start(
        self,
        command: str,
        argv: Sequence[Argument],
        reads: Sequence[Mount],
        out: Path,
        limits: Limits,
        env: Mapping[str, Argument],
        tracking: Path | None = None,
        state: Path | None = None,
        printed: Path | None = None,
        beside: Running | None = None,
    ) -> Running:
        """Start a command that goes on, with the loopback of the grading and copies of a store and a state.

        Without, it goes on with those that an earlier start left in `out`, or with empty ones. What it prints is appended to
        `printed`. `beside` is a command that goes on, whose store it shares.
        """
        store: Mount | None
        if beside is not None:
            given, store = self._state(out, state), Mount(beside.out / stores.NAME, stores.NAME, writable=True)
        elif (out / "out").exists():
            given = Mount(out / "state", "state", writable=True)
            there = (out / stores.NAME).is_dir()
            store = Mount(out / stores.NAME, stores.NAME, writable=True) if there else None
        else:
            given, store = self._state(out, state), self._store(out, tracking)
        written = Mount(out / "out", "out", writable=True)
        written.source.mkdir(parents=True, exist_ok=True)
        job = replace(self.job(argv, reads, written, given, limits, env, store), network=True, printed=printed)
        earlier = {name: folder for name, folder in ((stores.NAME, tracking), ("state", state)) if folder}
        started = Running(self, command, job, out, earlier, self.sandbox.start(job))
        self.going_on.append(started)
        return started

    def end_all(self) -> None:
        """End the commands that go on, so that what they did is on record."""
        for started in self.going_on:
            started.stop()

    def _ran(self, command: str, job: Job, out: Path, finished: Finished, earlier: Mapping[str, Path]) -> Ran:
        self.records.append(Record(self.labels.get(out, command), job, out, finished, earlier))
        words = [word for word in job.argv if isinstance(word, str)]
        module = words[2] if len(words) > 2 and words[1] == "-m" else None
        logged, state = out / stores.NAME, out / "state"
        tracking = logged if logged.is_dir() else None
        return Ran(command, finished, out / "out", state / "refusal.json", module, tracking, state)

    def _state(self, out: Path, earlier: Path | None) -> Mount:
        """The folder MLEKIT_STATE: empty, or with what an earlier run left there."""
        (out / "state").mkdir(parents=True, exist_ok=True)
        if earlier is not None:
            stores.copy_files(earlier, out / "state", without={"refusal.json"})
        return Mount(out / "state", "state", writable=True)

    def _store(self, out: Path, earlier: Path | None) -> Mount | None:
        """The store that a command sees: always at the same place, since MLflow keeps absolute paths."""
        if self.stores is None:
            return None
        return (
            self.stores.lay_down(out / stores.NAME)
            if earlier is None
            else self.stores.go_on(earlier, out / stores.NAME)
        )

    def job(
        self,
        argv: Sequence[Argument],
        mounts: Sequence[Mount],
        written: Mount,
        state: Mount,
        limits: Limits,
        env: Mapping[str, Argument] | None = None,
        tracking: Mount | None = None,
    ) -> Job:
        """One command line of the submission in its own folder and environment, without a network."""
        home = Mount(self.folder, "submission")
        return Job(
            argv,
            [home, *mounts, written, state, *([tracking] if tracking else [])],
            cwd=home,
            env={**self.environment(state, tracking), **(env or {})},
            limits=limits,
            python=self.python,
            hidden=self.hidden,
            network=False,
        )

    def _until(self, job: Job, kill_when: Callable[[], bool]) -> Finished:
        """Run a job until it ends or has to be killed."""
        with self.sandbox.turn:
            service = self.sandbox.start(job)
            try:
                while service.poll() is None and not kill_when():
                    time.sleep(KILL_POLL_SECONDS)
            finally:
                finished = service.stop(0)
        self.seconds += finished.seconds
        return finished

    def _finish(self, job: Job, out: Path, in_turn: bool, earlier: Mapping[str, Path], cached: bool) -> Finished:
        """Run a job, or lay down what it wrote when it was last run on exactly the same.

        A store to which nothing was logged is not left behind.
        """
        if in_turn:
            finished = self.sandbox.start(job).wait()
            self._drop_empty_store(out)
        elif self.cache is None or not cached:
            finished = self.sandbox.run(job)
            self._drop_empty_store(out)
        else:
            try:
                key = self.cache.key(
                    self.labels.get(out, ""), job.argv, dict(job.env), job.mounts, self.sandbox.name, earlier
                )
            except NotKept:
                key = None
            kept = self.cache.load(key, out) if key else None
            if kept is not None:
                return kept
            finished = self.sandbox.run(job)
            self._drop_empty_store(out)
            if key and not (
                self.sandbox.name == "plain" and (out / stores.NAME).exists()
            ):  # paths in it are this run's
                self.cache.keep(key, out, finished)
        self.seconds += finished.seconds
        return finished

    def _drop_empty_store(self, out: Path) -> None:
        """Remove the store of a run that logged nothing."""
        if self.stores is not None and self.stores.untouched(out / stores.NAME):
            shutil.rmtree(out / stores.NAME)

    def kit_interpreter(self) -> str:
        """The kit's own interpreter, for its tools; visible to jobs run with `kit_python`."""
        return sys.executable

    def environment(self, state: Mount, tracking: Mount | None = None) -> dict[str, Argument]:
        """The whole environment of a command; nothing of the judge's own is passed on."""
        return {
            **(stores.environment(tracking) if tracking else {}),
            "MLEKIT_CONTRACT": "1",
            "MLEKIT_REFUSAL": state / "refusal.json",
            "MLEKIT_STATE": state,
            "HOME": state,
            "TMPDIR": "/tmp",
            "TZ": "UTC",
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "PYTHONNOUSERSITE": "1",
            "PATH": f"{self.python.parent}:/usr/bin:/bin" if self.python else _kit_path(),
        }


def _kit_path() -> str:
    return f"{Path(sys.executable).parent}:/usr/bin:/bin"
