"""Reading what commands write: the predictions table (row_id, probability) and JSON files of the contract."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from grader.checks.api import Fault
from grader.contract.outputs import Output, OutputProblem, parse_output
from grader.printable import one_line
from grader.sandbox.reader import Reader, Unreadable
from grader.world import Rows

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


LONGEST_NAME = 60  # characters of a column's name that are shown


@dataclass(frozen=True)
class Subset:
    """Probabilities for some of the rows handed out, and which rows those are; both of shape (n,)."""

    positions: np.ndarray
    probability: np.ndarray


def read(reader: Reader, path: Path, rows: Rows) -> np.ndarray:
    """Probabilities, shape (n,), for the rows as they were handed out. Raises Fault with what is wrong."""
    return read_ids(reader, path, rows.table["row_id"].tolist())


def read_ids(reader: Reader, path: Path, expected: list[str]) -> np.ndarray:
    """Probabilities, shape (n,), for the rows with these ids, in this order. Raises Fault with what is wrong."""
    name = path.name
    ids, found = _table(reader, path)
    if len(ids) != len(expected):
        raise Fault(f"{name} has {len(ids):,} rows for {len(expected):,} rows to score; write exactly one per row")
    if ids != expected:
        if sorted(map(str, ids)) == sorted(expected):
            raise Fault(f"{name}: row_id is in another order than the rows to score; keep their order")
        twice = len(ids) - len(set(map(str, ids)))
        why = f"{twice:,} are doubled" if twice else "some are unknown"
        raise Fault(f"{name}: row_id differs from the rows to score ({why}); copy it from them")
    return found


def read_subset(reader: Reader, path: Path, known: pd.Series) -> Subset:
    """Probabilities for some of the `known` ids, in any order. Raises Fault with what is wrong."""
    import pandas as pd

    ids, found = _table(reader, path)
    positions = pd.Index(known).get_indexer(pd.Index(ids, dtype=object))
    strange = int((positions < 0).sum())
    if strange:
        raise Fault(
            f"{path.name}: {strange:,} row_id are not the flight_id of a landed flight in the data "
            "(cancelled and diverted flights have no label, so they cannot be scored)"
        )
    if len(set(ids)) != len(ids):
        raise Fault(f"{path.name}: {len(ids) - len(set(ids)):,} row_id are doubled")
    return Subset(positions, found)


T = TypeVar("T", bound=Output)


def read_json(reader: Reader, model: type[T], path: Path, said: str = "") -> T:
    """A JSON file of the contract. Raises Fault with what is wrong, after the words in `said`."""
    try:
        return parse_output(model, reader.json(path))
    except Unreadable as problem:
        raise Fault(f"{said}{path.name} {problem}") from None
    except OutputProblem as problem:
        raise Fault(f"{said}{problem}") from None


def moved(table: pd.DataFrame, before: np.ndarray, after: np.ndarray, equal: float) -> pd.DataFrame:
    """The rows of `table` whose two probabilities (n,) differ by more than `equal`, most first, with both."""
    import numpy as np

    apart = np.abs(after - before)
    order = np.argsort(-apart, kind="stable")[: int((apart > equal).sum())]
    shown = table.iloc[order].copy()
    shown.insert(1, "probability", before[order])
    shown.insert(2, "probability_again", after[order])
    return shown


def _table(reader: Reader, path: Path) -> tuple[list[Any], np.ndarray]:
    """The two columns of a predictions table, with finite probabilities. Raises Fault."""
    import numpy as np

    name = path.name
    try:
        table = reader.parquet(path)
    except Unreadable as problem:
        raise Fault(f"{name} {problem}") from None
    missing = [c for c in ("row_id", "probability") if c not in table.columns]
    if missing:
        got = ", ".join(one_line(c, LONGEST_NAME) for c in sorted(table.columns)[:8]) or "none"
        raise Fault(f"{name} has no column {missing[0]}; it needs row_id and probability, it has {got}")
    ids, column = table.columns["row_id"], table.columns["probability"]
    if ids.type != "str" or ids.values is None:
        raise Fault(f"{name}: row_id is of type {ids.type}; it must be text, as in the rows to score")
    if column.type not in ("float", "int") or column.values is None:
        raise Fault(f"{name}: probability is of type {column.type}; it must be a float")
    found = np.array([np.nan if v is None else v for v in column.values], dtype=np.float64)
    bad = int((~np.isfinite(found)).sum())
    if bad:
        raise Fault(f"{name}: {bad:,} of {len(found):,} probabilities are missing or not finite")
    outside = int(((found < 0) | (found > 1)).sum())
    if outside:
        raise Fault(f"{name}: {outside:,} of {len(found):,} probabilities lie outside 0 to 1")
    return ids.values, found
