"""Lay the case of one check down for a learner: what was given, what came out, the rows at fault, and how to run it again.

Runs in the worker, where the files of the grading still are. What a submission wrote is copied without following a link, and never
opened.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from grader import stores
from grader.contract.retraining import STEP_SECONDS
from grader.printable import printable
from grader.reading import walk
from grader.sandbox import Mount
from grader.sandbox.base import Argument
from grader.sandbox.reader import INSIDE
from grader.submission import Record, Server, Submission

if TYPE_CHECKING:
    from grader.checks.api import CaseRows

MAX_TOTAL_MB, MAX_FILES = 256, 2_000  # of everything that is laid down
WELL = "#!/bin/sh -e"  # how the script of a run begins that ended well
NOT_EXPORTED = ("PATH", "HOME", "TMPDIR", "PREFECT_API_URL")  # those of the learner, or of a server that is gone
GIVEN_BY_US = ("kit", "line")  # mounts that are tools of the grader


def lay_down(folder: Path, home: Path, submission: Submission, rows: tuple[CaseRows, ...]) -> None:
    """Write the case of all runs of this grading into `folder`; `home` is the learner's own folder, for the commands."""
    names: dict[Path, str] = {}
    budget = Budget()
    for table in rows:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{table.name}.csv").write_text(table.table.to_csv(index=False), encoding="utf-8")
    begun = list(submission.labels)
    first = {
        record.out: record for record in reversed(submission.records)
    }  # a server may have been started again in its folder
    records = sorted(first.values(), key=lambda record: begun.index(record.out))
    for record in records:
        _given(record, submission, folder, names, budget)
    given = {source: folder / name for source, name in names.items()}
    places_of = {record.out: folder / f"{number}-{_plain(record.label)}" for number, record in enumerate(records, 1)}
    wrote = {out: here / "wrote" for out, here in places_of.items()}
    for record in records:
        here = places_of[record.out]
        here.mkdir(parents=True)
        (here / "output.txt").write_text(_output(record), encoding="utf-8")
        budget.copy(record.out, here / "wrote", without=stores.NAME if stores.NAME in record.earlier else None)
        places = {submission.folder: Path(), **given, **wrote}
        _commands(record, submission, folder)
        (here / "run.sh").write_text(_script(record, submission, home, places), encoding="utf-8")


def _output(record: Record) -> str:
    """All that a command printed where that was kept, else the end of it."""
    printed = record.job.printed
    return printable(printed.read_bytes()) if printed is not None and printed.exists() else record.finished.output


def _given(record: Record, submission: Submission, folder: Path, names: dict[Path, str], budget: Budget) -> None:
    """Copy what a run was given, once for all runs; `names` tells where each source has gone."""
    for mount in record.job.mounts:
        if mount.writable or mount.name in (*GIVEN_BY_US, "submission") or mount.source in names:
            continue
        names[mount.source] = _plain(submission.labels.get(mount.source, mount.name))
        budget.copy(mount.source, folder / names[mount.source])
    for server in _servers(record, submission).values():
        if server.folder not in names:
            names[server.folder] = _plain(submission.labels.get(server.folder, "source"))
            budget.copy(server.folder, folder / names[server.folder])
        if server.year is not None and server.year not in names:
            names[server.year] = _plain(submission.labels.get(server.year, "year"))
            budget.copy(server.year, folder / names[server.year])
        names[server.plan] = f"{_plain(submission.labels.get(server.plan.parent, 'source'))}-plan.json"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / names[server.plan]).write_bytes(server.plan.read_bytes())
    for name, source in record.earlier.items():
        if source not in names:
            label = submission.labels.get(source) or f"{name}-after-{submission.labels.get(source.parent, 'us')}"
            names[source] = _plain(label)
            budget.copy(source, folder / names[source])


def _commands(record: Record, submission: Submission, folder: Path) -> None:
    """Let the tests be run again on the real commands, without the faults that stood between."""
    for path in folder.glob("*-given/commands.json"):
        words = {name: submission.manifest.argv(name) or [] for name in ("train", "predict")}
        path.write_text(json.dumps({name: [_word(submission, w) for w in line] for name, line in words.items()}))


def _script(record: Record, submission: Submission, home: Path, places: dict[Path, Path]) -> str:
    """A shell script that runs the same command line on the same input, from the learner's folder."""

    def spelled(value: Argument) -> str:
        if not isinstance(value, Mount):
            return _word(submission, value)
        outside = value.outside()
        # a store: its paths are those of the sandbox, so a run of one's own begins another
        if value.before and not record.earlier:
            outside = outside.with_name("again.db")
        for source, place in places.items():
            if outside.is_relative_to(source):
                found = place / outside.relative_to(source)
                return value.before + (str(found) if place.is_absolute() else str(found or "."))
        return f"{value.before}{outside}"

    servers = _servers(record, submission)
    lines = [
        WELL if record.finished.ok else "#!/bin/sh", f"# {record.finished.sentence()}", f"cd {shlex.quote(str(home))} || exit",
        *_emptied(record, spelled),
        *_gone_on(record, submission, places, spelled),
        *(f"export {k}={shlex.quote(spelled(v))}" for k, v in record.job.env.items() if k not in NOT_EXPORTED),
        *_served(record, submission, places),
        ("" if servers else "exec ") + _played(record, servers.values(), places, spelled) + " ".join(
            f'"$source{list(servers).index(part)}"' if part in servers else shlex.quote(spelled(part)) for part in record.job.argv
        ),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _servers(record: Record, submission: Submission) -> dict[str, Server]:
    """The sources that a run was told of."""
    return {part: submission.servers[part] for part in record.job.argv if part in submission.servers}


def _served(record: Record, submission: Submission, places: Mapping[Path, Path]) -> Iterator[str]:
    """Commands that start the sources again, with the same failures; they end with the script."""
    for number, server in enumerate(_servers(record, submission).values()):
        line = [
            sys.executable,
            "-I",
            str(INSIDE / "source_server.py"),
            str(places[server.folder]),
            str(places[server.plan]),
        ]
        yield "calls=$(mktemp) || exit"
        yield f'{shlex.join(line)} "$calls" &'
        yield 'trap "kill $!" EXIT'
        yield 'until [ -s "$calls" ]; do sleep 0.1; done'
        yield f"source{number}=http://127.0.0.1:$(sed -n '1s/[^0-9]//gp' \"$calls\")"
    if "PREFECT_API_URL" in record.job.env:
        yield "# With no PREFECT_API_URL Prefect starts a server of its own, which takes it some seconds."


def _played(
    record: Record, servers: Iterable[Server], places: Mapping[Path, Path], spelled: Callable[[Argument], str]
) -> str:
    """How the command line of a loop begins: with a player that starts it and lays down its messages, which the script's options go to."""
    mailbox = next((mount for mount in record.job.mounts if mount.name == "mailbox"), None)
    server = next((server for server in servers if server.year is not None), None)
    if server is None or server.year is None or mailbox is None:
        return ""
    line = [
        sys.executable,
        "-I",
        str(INSIDE / "year_player.py"),
        str(places[server.year]),
        spelled(mailbox),
        str(places[server.folder]),
    ]
    return f'{shlex.join(line)} --patience {STEP_SECONDS} "$@" -- '


def _emptied(record: Record, spelled: Callable[[Argument], str]) -> Iterator[str]:
    """Commands that empty the folders that the run was given empty, as it may rely on that."""
    for mount in record.job.mounts:
        if mount.writable and mount.source.is_relative_to(record.out):
            place = shlex.quote(spelled(mount))
            yield f"rm -rf {place} && mkdir -p {place} || exit"


def _gone_on(
    record: Record, submission: Submission, places: Mapping[Path, Path], spelled: Callable[[Argument], str]
) -> Iterator[str]:
    """Commands that lay down again what an earlier run had left; an MLflow store is told that it lies elsewhere now."""
    for mount in record.job.mounts:
        if (source := record.earlier.get(mount.name)) is None:
            continue
        yield f"cp -R {shlex.quote(str(places[source]))}/. {shlex.quote(spelled(mount))}/ || exit"
        if mount.name == stores.NAME:
            was = submission.sandbox.path(Mount(source, stores.NAME))
            line = [
                sys.executable,
                "-I",
                str(INSIDE / "move_store.py"),
                spelled(mount / stores.DATABASE),
                was,
                spelled(mount),
            ]
            yield f"{shlex.join(line)} || exit"


def _word(submission: Submission, word: str) -> str:
    return str(submission.python or sys.executable) if word == "python" else word


def _plain(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", label) or "run"


class Budget:
    """How much of all that a submission wrote is laid down; the first files come first."""

    def __init__(self) -> None:
        self.bytes, self.files = MAX_TOTAL_MB << 20, MAX_FILES

    def copy(self, source: Path, target: Path, without: str | None = None) -> None:
        """Copy the regular files of a folder as far as the budget goes; what cannot be read or named is left out."""
        for relative, path in _regular(source):
            if relative.parts[0] == without:
                continue
            try:
                handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue
            with os.fdopen(handle, "rb") as read:
                size = os.fstat(handle).st_size
                if size > self.bytes or self.files < 1:
                    continue
                self.bytes, self.files = self.bytes - size, self.files - 1
                try:
                    stores.make_folder((target / relative).parent)
                    with (target / relative).open("wb") as write:
                        shutil.copyfileobj(read, write)
                except OSError as problem:
                    if problem.errno == errno.ENOSPC:
                        raise
        target.mkdir(parents=True, exist_ok=True)


def _regular(folder: Path) -> Iterator[tuple[Path, Path]]:
    for where, folders, names in walk(folder):
        folders[:] = [name for name in folders if name != "work" or Path(where) != folder]
        for name in names:
            path = Path(where, name)
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(folder), path
