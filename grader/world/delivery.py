"""What one delivery of a feed is: its files, what is wrong with it, and how it is written down."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from grader.contract.rules import BY_NAME, RuleName, Status
from grader.world.content import folder_hash

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Fault:
    """A rule that a feed breaks; `rows` are positions in the table, for rules about rows."""

    table: str
    rule: RuleName
    column: str | None = None
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class File:
    """One file of a feed: what the manifest says is in it, and what became of it on the way."""

    path: str
    table: pa.Table
    damage: str = (
        ""  # cut, short, more, absent, or unlisted as well; stray: there, but unlisted and no part of the feed
    )
    kept: float = 1.0


@dataclass(frozen=True)
class Feed:
    """One delivery. `says` is its kind in words, `secrets` the personal data that stands in it."""

    kind: str
    says: str
    files: tuple[File, ...]
    faults: tuple[Fault, ...] = ()
    secrets: tuple[str, ...] = ()
    manifest: bool = True

    @property
    def clean(self) -> bool:
        return not self.faults

    @property
    def status(self) -> Status:
        """What has to become of it, by the contract."""
        scopes = {BY_NAME[fault.rule].scope for fault in self.faults}
        return "refused" if "feed" in scopes else "quarantined" if "row" in scopes else "accepted"

    @cached_property
    def tables(self) -> dict[str, pa.Table]:
        """Its rows by table, files in the order of their names."""
        import pyarrow as pa

        found: dict[str, list[pa.Table]] = {}
        for file in sorted((f for f in self.files if f.damage != "stray"), key=lambda file: file.path):
            found.setdefault(file.path.split("/")[0], []).append(file.table)
        return {name: pa.concat_tables(parts) for name, parts in found.items()}

    @property
    def rows(self) -> int:
        return sum(table.num_rows for table in self.tables.values())

    def wrong_rows(self, table: str) -> set[int]:
        """Positions of the rows of a table that have to be quarantined."""
        return {row for fault in self.faults if fault.table == table for row in fault.rows}

    def write(self, folder: Path) -> None:
        """Write it down as it arrives; the manifest lists the last of its files first."""
        records = []
        for file in self.files:
            path = folder / file.path
            _write(file.table, path)
            rows = int(file.table.num_rows * (file.kept if file.damage == "more" else 1))
            record = {"path": file.path, "rows": rows, "sha256": _sha256(path)}
            records += [] if file.damage in ("unlisted", "stray") else [record]
        months = sorted({Path(file.path).stem[:7] for file in self.files if file.damage != "stray"})
        manifest = {"usecase": "flights", "dataset_hash": folder_hash(folder), "months": months, "files": records[::-1]}
        if self.manifest:
            (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        for file in self.files:
            _damage(file, folder / file.path)


def _write(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")


def _damage(file: File, path: Path) -> None:
    if file.damage in ("absent", "unlisted"):
        path.unlink()
    elif file.damage == "cut":
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * file.kept)])
    elif file.damage == "short":
        _write(file.table.slice(0, int(file.table.num_rows * file.kept)), path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
