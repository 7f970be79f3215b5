"""python -m flightdelay.promote --usecase F --version N --data D --out F"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

from flightdelay import gate
from flightdelay.config import refuse
from flightdelay.data import DataFolder, label_of, local_day
from flightdelay.definitions import own_definitions, read_definitions
from flightdelay.features import compute_features
from flightdelay.registry import Registry
from flightdelay.tracking import as_table, tracking_server
from flightdelay.usecase import LABEL, UseCase, read_usecase


def run(usecase: Path, version: str, data: Path, out: Path, after: str = "") -> None:
    """Ask the gate about a version, and make it champion if no gate says no. It is judged on days after `after` only."""
    case = read_usecase(usecase)
    flights = gate_flights(case, DataFolder(data), after)
    features = as_table(compute_features(read_definitions(own_definitions()), case, DataFolder(data), flights))
    with tracking_server():
        registry = Registry(case.model_name)
        with registry.locked():
            try:
                decision = decide(registry, version, case, flights, features)
            except gate.NoAnswer as problem:  # not of the challenger, which would be refused for it
                refuse("no_answer", f"the champion gives nothing to compare with: {problem}; roll back first")
    out.write_text(json.dumps(decision, indent=2))


def gate_flights(usecase: UseCase, data: DataFolder, after: str = "") -> pl.DataFrame:
    """The landed flights of the last month of the data, with their labels: days that come after those learned from.

    `after` is the last day, YYYY-MM-DD, that was learned from, where that lies in this month.
    """
    flights = data.table(usecase.entity_table).with_columns(label_of(usecase.label).alias(LABEL))
    day = local_day(usecase.event_time, flights.columns)
    month = day.str.slice(0, 7)
    return flights.filter(month == month.max(), day > after, pl.col(LABEL).is_not_null()).sort(usecase.entity)


def decide(registry: Registry, version: str, usecase: UseCase, flights: pl.DataFrame, features: pd.DataFrame) -> dict:
    """Judge a version beside the champion of this moment, act on it, and say what was done."""
    if not registry.has(version):
        refuse("unknown_version", f"model {registry.model} has no version {version}", version)
    before = registry.champion()
    try:
        challenger = gate.ask(registry.uri(version), features)
    except gate.NoAnswer as problem:
        reasons = [gate.Reason("schema", str(problem), None, None, None)]
    else:
        champion = gate.ask(registry.uri(before), features) if before else None
        slices = {f"{column}={value}": mask for column in usecase.slices for value, mask in masks(flights[column])}
        reasons = list(gate.judge(flights[LABEL].to_numpy(), slices, challenger, champion))
    records = [reason.as_record() for reason in reasons]
    if reasons:
        registry.audit.add("promote", before, version, "refused", records)
    else:
        registry.crown(version, "promote", before, records)
    return {
        "decision": "refused" if reasons else "promoted",
        "champion_before": before,
        "champion_after": before if reasons else version,
        "reasons": records,
    }


def masks(column: pl.Series) -> list[tuple[str, np.ndarray]]:
    """Each value of a column, and where it stands, shape (n,)."""
    return [(value, (column == value).fill_null(False).to_numpy()) for value in column.drop_nulls().unique().sort()]


def main() -> None:
    parser = argparse.ArgumentParser(prog="promote", description="Let a challenger pass the gate, or refuse it.")
    parser.add_argument("--usecase", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
