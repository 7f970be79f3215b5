"""Look at the machine and the workspace, and say what is wrong with the command that mends it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TextIO

import psutil
from packaging.requirements import Requirement

from grader import __version__, workspace
from grader.report.text import GREEN, RED, YELLOW, Style

OLDEST_PYTHON, NEWEST_TRIED = (3, 11), (3, 13)
GIBI = 1 << 30
DISK_GB, MEMORY_GB = 2, 4
HEAVY = ("mlflow", "prefect", "sklearn")  # packages whose import takes seconds
COMPILED = 0.9  # the share of a package's modules with bytecode that is enough
ENGINES, ENGINE_SECONDS = ("docker", "podman"), 20
NAME_WIDTH, STATE_WIDTH = 12, 9


class State(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"  # it works, with less
    WRONG = "wrong"


@dataclass(frozen=True)
class Found:
    """One thing looked at; `fix` is what to do, empty where there is nothing."""

    name: str
    state: State
    found: str
    fix: str = ""


def examine(folder: Path) -> list[Found]:
    """Look at everything; nothing is changed, and no look can fail the others."""
    looks: Sequence[tuple[str, Callable[[], Iterator[Found]]]] = (
        ("python", _python), ("packages", _packages), ("bytecode", _bytecode), ("isolation", _isolation), ("containers", _containers),
        ("ports", _ports), ("disk", lambda: _disk(folder)), ("memory", _memory), ("data", _data), ("workspace", lambda: _workspace(folder)),
    )  # fmt: skip
    found: list[Found] = []
    for name, look in looks:
        try:
            found += look()
        except Exception as problem:
            found.append(Found(name, State.WRONG, f"could not be looked at: {type(problem).__name__}: {problem}"))
    return found


def _python() -> Iterator[Found]:
    version = ".".join(map(str, sys.version_info[:3]))
    said = f"{version} at {sys.executable}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        yield Found("python", State.WRONG, said, "install Python 3.11 or later and make a new environment with it")
    elif sys.version_info[:2] > NEWEST_TRIED:
        yield Found(
            "python",
            State.WARNING,
            said,
            f"tried up to {NEWEST_TRIED[0]}.{NEWEST_TRIED[1]}; go back to it if packages fail",
        )
    else:
        yield Found("python", State.OK, said)


def _packages() -> Iterator[Found]:
    wrong = []
    for line in importlib.metadata.requires("mlekit") or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing (needs {wanted.specifier})")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"{wanted.name} is {version} (needs {wanted.specifier})")
    if wrong:
        fix = f'"{sys.executable}" -m pip install --upgrade "mlekit=={__version__}" (in an environment of its own)'
        yield Found("packages", State.WRONG, "; ".join(wrong), fix)
    else:
        yield Found("packages", State.OK, f"mlekit {__version__} and everything it needs")


def _bytecode() -> Iterator[Found]:
    """Whether packages are compiled: some installers leave that to the first import, and nothing is written where submissions run."""
    slow = [name for name in HEAVY if (folder := _folder_of(name)) and _compiled(folder) < COMPILED]
    if slow:
        fix = f'"{sys.executable}" -m compileall -q -j 0 "{sysconfig.get_path("purelib")}"'
        said = f"{', '.join(slow)} without bytecode: each program compiles anew what it imports, and takes about twice as long to start"
        yield Found("bytecode", State.WARNING, said, fix)
    else:
        yield Found("bytecode", State.OK, "packages are compiled")


def _folder_of(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _compiled(folder: Path) -> float:
    """The share of a package's modules that have bytecode for this interpreter, 0 to 1."""
    modules = list(folder.rglob("*.py"))
    return sum(os.path.exists(importlib.util.cache_from_source(str(path))) for path in modules) / max(len(modules), 1)


def _isolation() -> Iterator[Found]:
    from grader.sandbox import detect, detect_engine
    from grader.sandbox.choose import remedy

    found = detect()
    if found.rung != "plain":
        yield Found("isolation", State.OK, found.rung)
    elif detect_engine().rung == "docker":
        yield Found("isolation", State.OK, f"docker, since {found.why}")
    else:
        fix = f"{remedy() or 'nothing here helps'}; until then grade only code you trust"
        yield Found("isolation", State.WARNING, f"none: {found.why}", fix)


def _containers() -> Iterator[Found]:
    """The engines that are here, and what each is good for: grading in a container, and the stack of docs/production.md."""
    from grader.sandbox import detect_engine

    if not any(map(shutil.which, ENGINES)):
        yield Found("containers", State.OK, "no engine; only --isolation docker and the stack of services need one")
    if shutil.which("docker"):
        server = _said("docker", "version", "--format", "{{.Server.Version}}")
        if server.code:
            yield Found("containers", State.WARNING, f"docker: {server.last}", _mending(server.last))
        else:
            rootless = "rootless" in _said("docker", "info", "--format", "{{.SecurityOptions}}").last
            yield Found(
                "containers", State.OK, f"docker {server.last}{' (rootless)' if rootless else ''}; {_compose()}"
            )
            if (found := detect_engine()).rung != "docker":
                yield Found(
                    "containers", State.WARNING, f"--isolation docker: {found.why}", "grade with the default isolation"
                )
    if shutil.which("podman"):
        version = _said("podman", "version", "--format", "{{.Client.Version}}").last
        rootless = "true" in _said("podman", "info", "--format", "{{.Host.Security.Rootless}}").last
        said = (
            f"podman {version}{' (rootless)' if rootless else ''}: not used to grade, and the stack was not tried on it"
        )
        yield Found("containers", State.OK, said)


def _compose() -> str:
    """What can bring up the stack, for a line about an engine."""
    for line in (("docker", "compose", "version", "--short"), ("docker-compose", "version", "--short")):
        if shutil.which(line[0]) and not (said := _said(*line)).code:
            return f"{' '.join(line[:-2])} {said.last} brings up the stack of services"
    return "without compose, which the stack of services needs: install docker-compose-plugin"


def _mending(said: str) -> str:
    if "permission denied" in said.lower():
        return "sudo usermod -aG docker $USER, and log in again; whoever is in that group can become root"
    return "start it (sudo systemctl start docker, or Docker Desktop); nothing else here needs it"


class _Said(NamedTuple):
    code: int
    last: str  # the last line of what it printed


def _said(*line: str) -> _Said:
    """Ask an engine, which may be one that does not answer."""
    try:
        ran = subprocess.run(line, capture_output=True, text=True, timeout=ENGINE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return _Said(1, f"it did not answer ({type(problem).__name__})")
    return _Said(ran.returncode, ((ran.stdout if ran.returncode == 0 else ran.stderr).strip().splitlines() or [""])[-1])


def _ports() -> Iterator[Found]:
    try:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            one.listen(1)
            with socket.create_connection(one.getsockname(), timeout=5):
                pass
    except OSError as problem:
        yield Found(
            "ports", State.WRONG, f"127.0.0.1 cannot be used ({problem.strerror})", "let a firewall pass the loopback"
        )
    else:
        yield Found("ports", State.OK, "127.0.0.1 can be listened on and reached")


def _disk(folder: Path) -> Iterator[Found]:
    places = {"here": folder, "temporary files": Path(tempfile.gettempdir())}
    for name, place in places.items():
        free = shutil.disk_usage(place).free / GIBI
        if free < DISK_GB:
            fix = "free some" if name == "here" else "free some, or point TMPDIR to a larger disk"
            yield Found(
                "disk", State.WARNING, f"{free:.1f} GB free for {name} ({place}); a grading needs {DISK_GB}", fix
            )
        else:
            yield Found("disk", State.OK, f"{free:.0f} GB free for {name}")


def _memory() -> Iterator[Found]:
    free, cores = psutil.virtual_memory().available / GIBI, os.cpu_count() or 1
    said = f"{free:.1f} GB free, {cores} cores"
    if free < MEMORY_GB:
        yield Found("memory", State.WARNING, said, f"close something: a command of a stage may use {MEMORY_GB} GB")
    else:
        yield Found("memory", State.OK, said)


def _data() -> Iterator[Found]:
    from grader.world.verify import verify_datasets

    problems = list(verify_datasets())
    if problems:
        yield Found("data", State.WRONG, problems[0], "install mlekit anew; `mlekit data verify` lists all differences")
    else:
        yield Found("data", State.OK, "the kit's flights are as they were shipped")


def _workspace(folder: Path) -> Iterator[Found]:
    from grader import progress
    from grader.contract import ManifestProblem, read_manifest

    try:
        mine = workspace.find(folder)
    except workspace.NoWorkspace:
        yield Found("workspace", State.WARNING, "you are not in one", "mlekit new DIR, then cd DIR")
        return
    state = mine.folder / workspace.STATE
    if not os.access(state if state.is_dir() else mine.folder, os.W_OK):
        yield Found("workspace", State.WRONG, f"{state} cannot be written", "make it yours: chown or chmod")
        return
    try:
        read_manifest(mine.folder)
    except ManifestProblem as problem:
        yield Found(
            "workspace", State.WRONG, str(problem), "mend it, or lay it down again: move it away, then mlekit reset"
        )
        return
    kit, stage = progress.load(mine).kit, progress.current(mine)
    for notice in mine.notices:
        yield Found("workspace", State.WARNING, notice)
    at = f"at {stage.folder.name}" if stage else "all stages complete"
    if kit != __version__:
        yield Found("workspace", State.WARNING, f"{mine.folder}, {at}, made with mlekit {kit}; this is {__version__}",
                    f"mlekit goto {stage.id if stage else ''} lays down the newer files (yours are kept in a backup)")  # fmt: skip
    else:
        yield Found("workspace", State.OK, f"{mine.folder}, {at}")


def report(found: Sequence[Found], as_json: bool, out: TextIO) -> int:
    """Print what was found; returns 1 if something is wrong."""
    wrong = any(one.state is State.WRONG for one in found)
    if as_json:
        out.write(json.dumps({"ok": not wrong, "found": [asdict(one) for one in found]}, indent=1) + "\n")
        return int(wrong)
    style = Style.of(out)
    colours = {State.OK: GREEN, State.WARNING: YELLOW, State.WRONG: RED}
    for one in found:
        lead = f"{one.name:<{NAME_WIDTH}}"
        lines = style.wrap(one.found, NAME_WIDTH + STATE_WIDTH, lead + f"{one.state:<{STATE_WIDTH}}")
        lines[0] = (
            lead + style.paint(f"{one.state:<{STATE_WIDTH}}", colours[one.state]) + lines[0][NAME_WIDTH + STATE_WIDTH :]
        )
        out.write("\n".join(lines) + "\n")
        if one.fix:
            out.write("\n".join(style.wrap(f"to do: {one.fix}", NAME_WIDTH + STATE_WIDTH)) + "\n")
    warned = any(one.state is State.WARNING for one in found)
    well = "All that the exercises need works." if warned else "Everything works."
    said = "Something is wrong; see what to do above." if wrong else well
    out.write(f"\n{said}\n")
    return int(wrong)
