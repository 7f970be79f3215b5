"""The months that have arrived, as a data folder like any other, and a receipt for each of what became of it."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flightdelay.data import DataFolder, local_day, read_table
from flightdelay.definitions import own_definitions, read_definitions
from flightdelay.features import compute_features
from flightdelay.files import write_whole
from flightdelay.usecase import UseCase
from flightdelay.validate import Judgement


@dataclass(frozen=True)
class Receipt:
    """What became of a month."""

    month: str
    status: str  # accepted, quarantined, refused or failed
    rows_in: int = 0
    rows_accepted: int = 0
    rows_quarantined: int = 0
    reason: str | None = None


class Months:
    """The folder that stays from run to run.

    A receipt names the tables of its month, which lie in files that are never changed. It is written after them and in one piece, so a
    month has arrived, or it has not, or it has arrived as it was before. The data folder is laid out from the receipts each time.
    """

    def __init__(self, state: Path) -> None:
        self.data, self.features, self.incoming, self.kept, self.receipts = (
            state / name for name in ("data", "features", "incoming", "kept", "receipts")
        )

    def receipt(self, month: str, manifest: dict[str, Any]) -> Receipt | None:
        """The receipt of a month that has arrived before, with the same files."""
        found = self._found(month)
        return Receipt(**found["receipt"]) if found and found["files"] == manifest["files"] else None

    def accept(self, month: str, manifest: dict[str, Any], judgement: Judgement) -> Receipt:
        """Keep the rows that may be used; of a feed that is refused there are none, and what was there before stays."""
        if judgement.status == "refused":
            rules = ", ".join(sorted({finding.rule for finding in judgement.findings}))
            return Receipt(month, "refused", reason=f"the feed breaks {rules}")
        parts: dict[str, list[pa.Table]] = {}
        for path, table in judgement.accepted():
            parts.setdefault(path.split("/")[0], []).append(table)
        tables = {}
        for name, rows in parts.items():
            content = _parquet(pa.concat_tables(rows, promote_options="permissive"))
            tables[name] = f"{hashlib.sha256(content).hexdigest()}.parquet"
            write_whole(self.kept / tables[name], content)
        wrong = len(judgement.quarantine().drop_duplicates(["table", "source_row"]))
        receipt = Receipt(month, judgement.status, judgement.rows_in, judgement.rows_in - wrong, wrong)
        found = {"receipt": asdict(receipt), "files": manifest["files"], "tables": tables}
        write_whole(self.receipts / f"{month}.json", json.dumps(found, indent=2).encode())
        return receipt

    def lay_out(self, history: Path) -> None:
        """Make the data folder what it should be: the history, and what has a receipt; nothing else."""
        wanted = {path.relative_to(history): path for path in history.rglob("*.parquet")}
        for month in self.arrived():
            for table, name in self._found(month)["tables"].items():
                wanted[Path(table, f"{month}.parquet")] = self.kept / name
        for path, source in wanted.items():
            content = source.read_bytes()
            if not (self.data / path).exists() or (self.data / path).read_bytes() != content:
                write_whole(self.data / path, content)
        for path in self.data.rglob("*.parquet"):
            if path.relative_to(self.data) not in wanted:
                path.unlink()

    def _found(self, month: str) -> dict[str, Any]:
        path = self.receipts / f"{month}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def arrived(self) -> list[str]:
        """The months that have a receipt."""
        return sorted(path.stem for path in self.receipts.glob("*.json"))

    def seal(self, usecase: Path, entity_table: str) -> str:
        """Write the manifest of the data as they are now; returns the hash by which trainings know them, and what they are asked."""
        files = [
            {"path": path.relative_to(self.data).as_posix(), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for path in sorted(self.data.rglob("*.parquet"))
        ]
        found = hashlib.sha256(json.dumps(files).encode() + usecase.read_bytes()).hexdigest()
        months = sorted(path.stem for path in (self.data / entity_table).glob("*.parquet"))
        manifest = {"usecase": "flights", "dataset_hash": found, "months": months, "files": files}
        write_whole(self.data / "manifest.json", json.dumps(manifest, indent=2).encode())
        return found

    def write_features(self, usecase: UseCase) -> None:
        """The features of every month that has arrived: one that comes late changes those of the months after it."""
        definitions, data = read_definitions(own_definitions()), DataFolder(self.data)
        for month in self.arrived():
            rows = read_table(self.data / usecase.entity_table / f"{month}.parquet")
            found = compute_features(definitions, usecase, data, rows)
            found.insert_column(0, rows[usecase.entity].alias("row_id"))
            write_whole(self.features / f"{month}.parquet", _parquet(found.to_arrow()))

    def training_window(self, usecase: UseCase) -> tuple[str, str]:
        """The first day of the data, and the last before its last month, which is the gate's."""
        flights = DataFolder(self.data).table(usecase.entity_table)
        days = flights.select(local_day(usecase.event_time, flights.columns)).to_series()
        return days.min(), days.filter(days < days.max()[:7]).max()


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()
