"""Reading what was delivered: the files that the manifest lists, as far as they are there and whole."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


class Truncated(Exception):
    """The table did not arrive whole."""


def listed_files(folder: Path) -> dict[str, int]:
    """The files of the manifest and the number of rows that each should have."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return {file["path"]: file["rows"] for file in manifest["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def read_files(folder: Path, table: str) -> dict[str, pa.Table]:
    """The files of a table by name, in the order of their names. Raises Truncated."""
    listed = {path: rows for path, rows in sorted(listed_files(folder).items()) if path.startswith(f"{table}/")}
    if not listed:
        raise Truncated(f"the manifest lists no file of {table}")
    return {path: _read(folder / path, rows) for path, rows in listed.items()}


def _read(path: Path, rows: int) -> pa.Table:
    try:
        found = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as problem:
        raise Truncated(f"{path.name} cannot be read: {problem}") from None
    if not 0 < found.num_rows == rows:
        raise Truncated(f"{path.name} holds {found.num_rows} rows; the manifest says {rows}")
    return found.replace_schema_metadata(None)
