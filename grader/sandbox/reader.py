"""Read what a submission wrote without opening it here: a throw-away sandboxed process hands over plain JSON."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grader.home import PACKAGE
from grader.printable import one_line
from grader.sandbox.base import MEBI, Job, Limits, Mount, Sandbox

INSIDE = Path(__file__).parent / "inside"
TOOL_ENVIRONMENT = {  # of the kit's own programs in a sandbox
    "LANG": "C.UTF-8", "TZ": "UTC", "PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1", "OMP_NUM_THREADS": "1",
    "PATH": "/usr/bin:/bin", "MLEKIT_CONTRACT": "1",
}  # fmt: skip
MAX_FILE_MB = 256
MAX_ANSWER_MB = 256
MAX_ROWS = 2_000_000
MAX_VALUES = 16_000_000
MAX_JSON_BYTES = 8 * MEBI
MAX_FILES = 10_000  # of a folder that is read as a whole
LONGEST_PROBLEM, LONGEST_TYPE = 400, 80  # characters
KINDS: dict[str, frozenset[type]] = {  # of a column, with what its values are
    "bool": frozenset({bool}), "int": frozenset({int}), "float": frozenset({float}), "str": frozenset({str}), "timestamp": frozenset({int}),
}  # fmt: skip
READER_LIMITS = Limits(seconds=120, memory_mb=3072, processes=64, disk_mb=64, output_kb=256)


class Unreadable(Exception):
    """The submission's file is missing or not what the contract says; the message finishes the sentence "FILE ..."."""


@dataclass(frozen=True)
class Column:
    """One column as plain values; type is bool, int, float, str, timestamp (microseconds UTC), or Arrow's own name."""

    type: str
    values: list[Any] | None


@dataclass(frozen=True)
class Table:
    rows: int
    columns: dict[str, Column]


@dataclass(frozen=True)
class Read:
    """A file of a folder: a table, the value of a JSON file, or what is wrong with it; all None for other files."""

    table: Table | None = None
    value: Any = None
    problem: str | None = None


@dataclass(frozen=True)
class Metrics:
    """What one answer to a request for metrics holds: types and help texts by name, samples (name, labels, value), or what is wrong."""

    families: dict[str, tuple[str, str]] = field(default_factory=dict)
    samples: list[tuple[str, dict[str, str], float]] = field(default_factory=list)
    problem: str | None = None


@dataclass(frozen=True)
class Page:
    """What is shown of an HTML page in the elements asked for, as (value of the attribute, text), and what it loads from elsewhere."""

    flags: list[tuple[str, str]]
    loads: list[str]


class Text(str):
    """An argument of the reader that is text, whatever it looks like."""


def regular_file(path: Path, max_mb: int = MAX_FILE_MB) -> int:
    """Open a file for reading without following a link or waiting on a FIFO; the caller closes it.

    Raises Unreadable with what it is instead.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Unreadable("was not written") from None
    except OSError as problem:
        what = "is a link, which is not followed" if path.is_symlink() else f"cannot be opened ({problem.strerror})"
        raise Unreadable(what) from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "FIFO" if stat.S_ISFIFO(found.st_mode) else "special file"
        raise Unreadable(f"is a {kind}, not a file")
    if found.st_size > max_mb * MEBI:
        os.close(handle)
        raise Unreadable(f"has {found.st_size // MEBI} MB; at most {max_mb} are read")
    return handle


def _folder(path: Path) -> None:
    """Raises Unreadable unless there is a folder, reached without a link."""
    if path.is_symlink() or not path.is_dir():
        raise Unreadable("is no folder" if os.path.lexists(path) else "was not written")


class Reader:
    """Reads files and folders through one sandboxed process each; `scratch` is a private folder of the judge."""

    def __init__(self, sandbox: Sandbox, scratch: Path) -> None:
        self._sandbox, self._scratch = sandbox, scratch

    def parquet(self, path: Path) -> Table:
        """A flat Parquet table as plain lists. Raises Unreadable."""
        return _table(self._ask("parquet", path, MAX_ROWS, MAX_VALUES))

    def json(self, path: Path) -> Any:
        """The value of a JSON file. Raises Unreadable."""
        return self._ask("json", path, MAX_JSON_BYTES).get("value")

    def folder(self, path: Path) -> dict[str, Read]:
        """All Parquet and JSON files below a folder, by relative path, in one process. Raises Unreadable.

        What is wrong with one file is said of that file.
        """
        limits = (MAX_FILES, MAX_FILE_MB * MEBI, MAX_ROWS, MAX_VALUES, MAX_JSON_BYTES)
        files = self._ask("folder", path, *limits).get("files")
        if not isinstance(files, dict):
            raise Unreadable("could not be read as a folder")
        return {str(name): _read(answer) for name, answer in files.items()}

    def search(self, path: Path, texts: Sequence[str]) -> list[tuple[str, str]]:
        """Which of `texts` stand in which files below a folder, in cells and metadata of tables too. Raises Unreadable."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="wanted-", dir=self._scratch))
        (folder / "wanted.json").write_text(json.dumps(list(texts)), encoding="utf-8")
        limits = (MAX_FILES, MAX_FILE_MB * MEBI, MAX_ROWS, MAX_VALUES)
        hits = self._ask("search", path, *limits, Mount(folder, "wanted") / "wanted.json").get("hits")
        try:
            return [(str(name), texts[int(i)]) for name, i in hits or []]
        except (TypeError, ValueError, IndexError):
            raise Unreadable("could not be searched") from None

    def store(self, path: Path, name: str, run_id: str, model_uri: str) -> dict[str, Any]:
        """The runs of an MLflow store, and what one of them logged. Raises Unreadable.

        `name` is that of the mount by which the submission saw the store, since paths in it are absolute.
        """
        answer = self._ask("store", path, MAX_ROWS, MAX_VALUES, Text(run_id), Text(model_uri), seen_as=name)
        if not isinstance(answer.get("runs"), dict):
            raise Unreadable("could not be read as a store")
        run = answer.get("run")
        if isinstance(run, dict):
            run["validation"] = _read(run.get("validation"))
        if not _is_store(answer):
            raise Unreadable("could not be read as a store")
        return answer

    def registry(self, path: Path, name: str, model: str) -> dict[str, Any]:
        """The `versions` and `aliases` of a registered model in an MLflow store, mounted as `name`. Raises Unreadable."""
        answer = self._ask("registry", path, Text(model), seen_as=name)
        aliases = answer.get("aliases")
        if (
            not _are_dicts(answer.get("versions"))
            or not isinstance(aliases, dict)
            or not all(isinstance(v, str) for v in aliases.values())
        ):
            raise Unreadable("could not be read as a store")
        return answer

    def printed(self, path: Path, max_bytes: int) -> list[Any]:
        """The JSON objects in what a program printed, between whatever else it printed. Raises Unreadable."""
        return self._lines("printed", path, max_bytes)

    def lines(self, path: Path) -> list[Any]:
        """The lines of a file of JSON lines, None for each that is no JSON. Raises Unreadable."""
        return self._lines("lines", path, MAX_JSON_BYTES)

    def _lines(self, kind: str, path: Path, max_bytes: int) -> list[Any]:
        answer = self._ask(kind, path, max_bytes)
        if not isinstance(found := answer.get("lines"), list):
            raise Unreadable("could not be read")
        return [line.get("value") if isinstance(line, dict) else None for line in found]

    def metrics(self, path: Path) -> list[Metrics]:
        """The metrics of the kit in a file of answers `[{"format": content type, "text"}, ...]`, one after the other. Raises Unreadable."""
        answers = self._ask("metrics", path, MAX_JSON_BYTES).get("answers")
        if not isinstance(answers, list):
            raise Unreadable("could not be read")
        return [_metrics(answer) for answer in answers]

    def page(self, path: Path, attribute: str, max_mb: int) -> Page:
        """What the elements of an HTML page say that carry an attribute, and what it would load. Raises Unreadable."""
        answer = self._ask("page", path, max_mb * MEBI, Text(attribute))
        try:
            return Page(
                [(str(name), str(text)) for name, text in answer["flags"]], [str(one) for one in answer["loads"]]
            )
        except (TypeError, ValueError, KeyError):
            raise Unreadable("could not be read as a page") from None

    def _ask(self, kind: str, path: Path, *more: int | Mount | Text, seen_as: str = "read") -> dict[str, Any]:
        whole = kind in ("folder", "search", "store", "registry")
        if whole:
            _folder(path)
        else:
            os.close(regular_file(path))
        self._scratch.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="answer-", dir=self._scratch))
        source, answer = Mount(path if whole else path.parent, seen_as), Mount(folder, "answer", writable=True)
        words = [
            part if isinstance(part, Mount) else f":{part}" if isinstance(part, Text) else str(part) for part in more
        ]
        job = Job(
            ["python", Mount(INSIDE, "kit") / "read.py", kind, source if whole else source / path.name,
             answer / "answer.json", *words],
            [source, answer, Mount(INSIDE, "kit"), *(part for part in more if isinstance(part, Mount))],
            cwd=source,
            env={**TOOL_ENVIRONMENT, "HOME": "/tmp"},
            limits=READER_LIMITS,
            hidden=[PACKAGE],
            network=False,
        )  # fmt: skip
        finished = self._sandbox.run(job)
        try:
            handle = regular_file(folder / "answer.json", MAX_ANSWER_MB)
        except Unreadable:
            raise Unreadable(f"could not be read: the reader gave no answer ({finished.sentence()})") from None
        with os.fdopen(handle, "rb") as file:
            try:
                answered = json.loads(file.read())
                (folder / "answer.json").unlink()
            except (ValueError, RecursionError):
                raise Unreadable("could not be read: the reader's answer was damaged") from None
        if not isinstance(answered, dict):
            raise Unreadable("could not be read: the reader's answer was damaged")
        if "problem" in answered:
            raise Unreadable(f"could not be read: {_said(answered)}")
        return answered


def _said(answer: dict[str, Any]) -> str:
    """The problem that the reader handed over."""
    problem = answer["problem"]
    return one_line(problem, LONGEST_PROBLEM) if isinstance(problem, str) else "the reader's answer was damaged"


def _are_dicts(value: Any) -> bool:
    """Whether this is an object of objects."""
    return isinstance(value, dict) and all(isinstance(part, dict) for part in value.values())


def _is_store(answer: dict[str, Any]) -> bool:
    """Whether what the reader handed over has the shape of what it says of a store."""
    run = answer.get("run", {})
    if not _are_dicts(answer.get("runs")) or not isinstance(run, dict):
        return False
    if not all({"status", "deleted", "experiment"} <= of.keys() for of in answer["runs"].values()):
        return False
    if not run:
        return "run" not in answer
    model = run.get("model")
    if not isinstance(model, dict) or not all(
        isinstance(run.get(name), dict) for name in ("params", "tags", "metrics")
    ):
        return False
    if "problem" in model:
        model["problem"] = _said(model)
        return True
    names = [model.get("inputs"), model.get("outputs")]
    path = model.get("path")
    return (
        {"pyfunc", "example", "run"} <= model.keys()
        and all(
            side is None or (isinstance(side, list) and all(isinstance(one, str) for one in side)) for side in names
        )
        and isinstance(path, str)
        and not Path(path).is_absolute()
        and ".." not in Path(path).parts  # the judge copies that folder
    )


def _read(answer: Any) -> Read:
    """One file of a folder as the reader handed it over."""
    if not isinstance(answer, dict) or "problem" in answer:
        return Read(problem=_said(answer) if isinstance(answer, dict) else "could not be read")
    try:
        return Read(_table(answer)) if "columns" in answer else Read(value=answer.get("value"))
    except Unreadable as problem:
        return Read(problem=str(problem))


def _metrics(answer: Any) -> Metrics:
    """The metrics of one answer as the reader handed them over."""
    try:
        if "problem" in answer:
            return Metrics(problem=_said(answer))
        families = {str(name): (str(of["type"]), str(of["help"])) for name, of in answer["families"].items()}
        samples = [
            (str(name), {str(k): str(v) for k, v in labels.items()}, float(value))
            for name, labels, value in answer["samples"]
        ]
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        return Metrics(problem="it could not be read")
    return Metrics(families, samples)


def _table(answer: dict[str, Any]) -> Table:
    """A table as the reader handed it over. Raises Unreadable."""
    columns, rows = answer.get("columns"), answer.get("rows")
    if not isinstance(columns, dict) or not _are_dicts(columns) or type(rows) is not int or not 0 <= rows <= MAX_ROWS:
        raise Unreadable("could not be read as a table")
    table = {}
    for name, column in columns.items():
        kind, values = column.get("type"), column.get("values")
        if not isinstance(kind, str) or not (values is None or (isinstance(values, list) and len(values) == rows)):
            raise Unreadable("could not be read as a table")
        if values is not None and not _is_of(kind, values):
            raise Unreadable("could not be read as a table")
        table[name] = Column(one_line(kind, LONGEST_TYPE), values)
    return Table(rows, table)


def _is_of(kind: str, values: list[Any]) -> bool:
    """Whether values, or None among them, are of the type of their column, and whole numbers of 64 bits."""
    if not set(map(type, values)) <= KINDS.get(kind, frozenset()) | {type(None)}:
        return False
    whole = kind in ("int", "timestamp")
    return not whole or (
        max(filter(None, values), default=0) < 1 << 64 and min(filter(None, values), default=0) >= -1 << 63
    )
