"""python -m flightdelay.validate --usecase F --feeds DIR --history D --now T --out DIR"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from flightdelay import feed_rules as rules
from flightdelay.feed_contract import TableContract, read_contract
from flightdelay.feed_files import Truncated, read_files
from flightdelay.feed_rules import Finding


@dataclass(frozen=True)
class Judgement:
    """What was found in one feed; `files` are its tables as they came, by path, and empty if it is refused."""

    contract: list[TableContract]
    files: dict[str, pa.Table]
    findings: list[Finding]

    @property
    def status(self) -> str:
        return "refused" if not self.files else "quarantined" if len(self.quarantine()) else "accepted"

    @property
    def rows_in(self) -> int:
        """How many rows came, right and wrong, in all tables; 0 of a feed that is refused."""
        return sum(file.num_rows for file in self.files.values())

    def quarantine(self) -> pd.DataFrame:
        """One row for each row of the feed and each rule that it breaks in a column."""
        broken = [f for f in self.findings if self.files and f.rule != "personal_data"]
        records = [(f.table, row, f.rule, f.column) for f in broken for row in f.rows]
        kinds = {"table": "str", "source_row": "int64", "rule": "str", "column": "str"}
        return pd.DataFrame(records, columns=list(kinds)).astype(kinds)

    def accepted(self) -> Iterator[tuple[str, pa.Table]]:
        """The rows that may be used, file by file, in the columns that the contract knows and in no other."""
        wrong = self.quarantine()
        for table in self.contract:
            rows = set(wrong.loc[wrong["table"] == table.name, "source_row"])
            first = 0
            for path, file in self.files.items():
                if path.startswith(f"{table.name}/"):
                    kept = pa.array([row for row in range(file.num_rows) if first + row not in rows], pa.int64())
                    first += file.num_rows
                    yield path, file.select(list(table.kinds)).take(kept)

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        wrong = self.quarantine()
        quarantined = len(wrong.drop_duplicates(["table", "source_row"]))
        wrong.to_parquet(folder / "quarantine.parquet", index=False)
        for path, table in self.accepted():
            (folder / "accepted" / path).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, folder / "accepted" / path)
        report = {
            "status": self.status,
            "rows_in": self.rows_in,
            "rows_accepted": self.rows_in - quarantined,
            "rows_quarantined": quarantined,
            "findings": [
                {"table": f.table, "column": f.column, "rule": f.rule, "rows": len(f.rows)} for f in self.findings
            ],
        }
        (folder / "report.json").write_text(json.dumps(report, indent=2), encoding="utf-8")


def judge(folder: Path, contract: list[TableContract]) -> Judgement:
    """Judge one feed: first as a whole, and if nothing is wrong with that, row by row."""
    files: dict[str, pa.Table] = {}
    refused: list[Finding] = []
    for table in contract:
        try:
            found = read_files(folder, table.name)
        except Truncated:
            refused.append(Finding(table.name, "truncated"))
        else:
            files |= found
            refused += judge_whole(list(found.values()), table)
    if refused:
        return Judgement(contract, {}, refused)
    findings: list[Finding] = []
    for table in contract:
        mine = [file for path, file in files.items() if path.startswith(f"{table.name}/")]
        findings += [*rules.personal_data(mine, table), *rules.wrong_rows(as_frame(mine), table)]
    return Judgement(contract, files, findings)


def judge_whole(files: list[pa.Table], contract: TableContract) -> list[Finding]:
    """What is wrong with a table as a whole. Its values are only looked at if columns, types and bytes are right."""
    shape: list[Finding] = []
    for file in files:
        found = (*rules.bad_bytes(file, contract), *rules.columns_and_types(file, contract))
        shape += [finding for finding in found if finding not in shape]  # what two files lack is one finding
    if shape:
        return shape
    frame = as_frame(files)
    return [
        *rules.delivered_before(files, contract),
        *rules.too_many_nulls(frame, contract),
        *rules.other_unit(frame, contract),
    ]


def as_frame(files: list[pa.Table]) -> pd.DataFrame:
    """The rows of a table, numbered over its files; these may have been written by different programs."""
    return pd.concat([file.to_pandas() for file in files], ignore_index=True)


def run(usecase: Path, feeds: Path, history: Path, now: str, out: Path) -> None:
    """Judge every feed on its own, and write down what becomes of it."""
    contract = read_contract(usecase, history, now)
    for folder in sorted(path for path in feeds.iterdir() if path.is_dir()):
        judge(folder, contract).write(out / folder.name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="validate", description="Judge feeds before anything is learned from them.")
    for name in ("usecase", "feeds", "history", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--now", required=True)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
