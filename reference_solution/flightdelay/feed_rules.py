"""The rules, each a function that yields what it finds; those about a whole feed first, those about rows after them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.compute as pc

from flightdelay.feed_contract import TableContract, kinds_of


@dataclass(frozen=True)
class Finding:
    """A broken rule in one table; `rows` are the numbers of the rows that have to be quarantined for it."""

    table: str
    rule: str
    column: str | None = None
    rows: list[int] = field(default_factory=list)


def bad_bytes(table: pa.Table, contract: TableContract) -> Iterator[Finding]:
    """Texts that are not UTF-8: Arrow does not look at them until it is asked to."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            yield Finding(contract.name, "encoding", name)


def columns_and_types(table: pa.Table, contract: TableContract) -> Iterator[Finding]:
    """Every column of the history is there, under its name, and holds the same kind of thing."""
    found = kinds_of(table)
    new = {kind for name, kind in found.items() if name not in contract.kinds}
    for name, kind in contract.kinds.items():
        if name not in found:
            yield Finding(contract.name, "renamed_column" if kind in new else "missing_column", name)
        elif found[name] != kind:
            yield Finding(contract.name, "wrong_type", name)


def delivered_before(files: list[pa.Table], contract: TableContract) -> Iterator[Finding]:
    """No file is all old news."""
    latest = [pc.max(file[contract.rules["time"]]).as_py() for file in files]
    if any(time is None or time <= contract.latest for time in latest):
        yield Finding(contract.name, "stale")


def too_many_nulls(frame: pd.DataFrame, contract: TableContract) -> Iterator[Finding]:
    """No column is much emptier than it used to be."""
    more = contract.nulls(frame) - contract.null_shares
    for name in more.index[more > contract.feeds["null_share"]]:
        yield Finding(contract.name, "null_rate", name)


def other_unit(frame: pd.DataFrame, contract: TableContract) -> Iterator[Finding]:
    """The mean of a steady column lies about where it used to lie."""
    factor, steady = contract.feeds["mean_factor"], contract.rules["steady"]
    ratio = frame[steady].mean() / contract.usual[steady].mean()
    for name in ratio.index[(ratio > factor) | (ratio < 1 / factor)]:
        yield Finding(contract.name, "unit_change", name)


def personal_data(files: list[pa.Table], contract: TableContract) -> Iterator[Finding]:
    """No text column that nobody asked for looks like addresses or telephone numbers."""
    pattern = re.compile("|".join(f"(?:{p})" for p in contract.feeds["personal_data"]))
    rows: Counter[str] = Counter()
    for file in files:
        for name, kind in kinds_of(file).items():
            if name not in contract.kinds and kind == "text":
                rows[name] += sum(bool(value and pattern.search(value)) for value in file[name].to_pylist())
    for name, count in rows.items():
        if count:
            yield Finding(contract.name, "personal_data", name, list(range(count)))


def wrong_rows(frame: pd.DataFrame, contract: TableContract) -> Iterator[Finding]:
    """What pandera finds when it checks every row against the schema."""
    try:
        row_schema(contract).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as problem:
        cases = problem.failure_cases
        whole = cases["check"].eq("duplicate_key")  # named once for each column of the table
        cases = cases.assign(column=cases["column"].mask(whole, None)).drop_duplicates(["column", "check", "index"])
        for (column, rule), group in cases.groupby(["column", "check"], dropna=False):
            rows = sorted(int(row) for row in group["index"])
            yield Finding(contract.name, rule, None if pd.isna(column) else column, rows)


def row_schema(contract: TableContract) -> pandera.DataFrameSchema:
    """The rules about rows as a pandera schema, in which each check has the name of its rule."""
    key, time, now = contract.rules["key"], contract.rules["time"], contract.now
    checks = {name: [_check(name, rule, contract)] for name, rule in contract.rules["values"].items()}
    checks.setdefault(time, []).append(pandera.Check(lambda value: value <= now, name="out_of_range"))
    return pandera.DataFrameSchema(
        {name: pandera.Column(None, some, nullable=True) for name, some in checks.items()},
        checks=pandera.Check(lambda frame: ~frame.duplicated(key, keep=False), name="duplicate_key", ignore_na=False),
    )


def _check(name: str, rule: dict, contract: TableContract) -> pandera.Check:
    """The check of one entry of `values`. Nulls do not break it: pandera leaves them out."""
    match rule:
        case {"in": table}:
            known = contract.references[table]
            return pandera.Check(lambda values: values.isin(known), name="unknown_reference")
        case {"one_of": known}:
            return pandera.Check(lambda values: values.isin(known), name="out_of_range")
        case {"min": low, "max": high}:
            return pandera.Check(lambda values: values.between(low, high), name="out_of_range")
        case {"form": form}:
            return pandera.Check(
                lambda values: pd.to_datetime(values, format=form, errors="coerce").notna(), name="out_of_range"
            )
        case _:
            raise ValueError(f"the use case says of {contract.name}.{name} {rule}, which is not known here")
