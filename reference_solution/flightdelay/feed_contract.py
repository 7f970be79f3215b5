"""What feeds are held to: rules from the use case, and what the history shows to be usual."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class TableContract:
    """One table: its part of the use case, its rows in the history, and the rules that hold for all tables."""

    name: str
    rules: dict[str, Any]
    history: pa.Table
    feeds: dict[str, Any]
    references: dict[str, set[str]]
    now: pd.Timestamp

    @cached_property
    def kinds(self) -> dict[str, str]:
        return kinds_of(self.history)

    @cached_property
    def usual(self) -> pd.DataFrame:
        return self.history.to_pandas()

    @cached_property
    def latest(self) -> pd.Timestamp:
        return self.usual[self.rules["time"]].max()

    @cached_property
    def null_shares(self) -> pd.Series:
        return self.nulls(self.usual)

    def nulls(self, frame: pd.DataFrame) -> pd.Series:
        """The share of nulls by column; where a column is only filled for some rows, the share among those."""
        shares = frame[list(self.kinds)].isna().mean()
        if filled := self.rules.get("filled"):
            rows = pd.Series(True, index=frame.index)
            for column, value in filled["where"].items():
                rows &= frame[column].eq(value)
            shares[filled["columns"]] = frame.loc[rows, filled["columns"]].isna().mean()
        return shares.fillna(0.0)


def read_contract(usecase: Path, history: Path, now: str) -> list[TableContract]:
    """The contract of each table that feeds bring."""
    case = tomllib.loads(usecase.read_text(encoding="utf-8"))
    wanted = {
        rule["in"] for table in case["tables"].values() for rule in table.get("values", {}).values() if "in" in rule
    }
    references = {}
    for name in wanted:
        (key,) = case["tables"][name]["key"]
        references[name] = set(pq.read_table(history / f"{name}.parquet", columns=[key])[key].to_pylist())
    return [
        TableContract(
            name, {"steady": [], "values": {}, **case["tables"][name]}, pq.read_table(history / name), case["feeds"],
            references, pd.Timestamp(now),
        )
        for name in case["feeds"]["tables"]
    ]  # fmt: skip


def kinds_of(table: pa.Table) -> dict[str, str]:
    """The kind of each column: what it holds, whatever the width, the unit or the encoding."""
    return {field.name: _kind(field.type) for field in table.schema}


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    known = {
        "text": pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind),
        "whole number": pa.types.is_integer(kind),
        "number": pa.types.is_floating(kind),
        "instant": pa.types.is_timestamp(kind) and kind.tz is not None,
        "truth value": pa.types.is_boolean(kind),
    }
    return next((name for name, fits in known.items() if fits), str(kind))
