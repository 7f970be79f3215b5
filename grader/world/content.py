"""Hashes of what tables hold, not of how a writer happened to lay out their bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def table_hash(table: pa.Table) -> str:
    """SHA-256 over the columns in the order of their names, as Arrow IPC without metadata.

    Parquet bytes change with the version of the writer; this does not. Row order counts.
    """
    import pyarrow as pa

    digest = hashlib.sha256()
    for name in sorted(table.column_names):
        column = table.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # an empty column stays chunked
            column = pa.array([], column.type)
        single = pa.table({name: column}).replace_schema_metadata(None)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, single.schema) as writer:
            writer.write_table(single)
        digest.update(sink.getvalue())
    return digest.hexdigest()


def folder_hash(folder: Path) -> str:
    """SHA-256 over the content hashes of all Parquet files below `folder` and their relative paths."""
    import pyarrow.parquet as pq

    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.parquet")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{table_hash(pq.read_table(path))}\n".encode())
    return digest.hexdigest()
