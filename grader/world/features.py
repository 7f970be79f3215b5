"""The judge's own computation of features, by binary search in sorted arrays; shares no code with any submission."""

from __future__ import annotations

import operator
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grader.contract.features import (
    LABEL,
    AsofFeature,
    CalendarFeature,
    ColumnFeature,
    Feature,
    FeatureProblem,
    LookupFeature,
    WindowFeature,
    duration,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq}


def compute(features: Sequence[Feature], usecase: Path, data: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """The features of rows, as of their decisions: `row_id` and a column for each feature; shape (n, 1 + features).

    Numbers are float64 with NaN for null, texts are objects with None. Raises FeatureProblem for a table or column that
    is not there.
    """
    import pandas as pd

    case = _Case(usecase, data, rows)
    columns = {feature.name: case.value(feature) for feature in features}
    return pd.DataFrame({"row_id": rows["row_id"].to_numpy(), **columns}, index=range(len(rows)))


@dataclass(frozen=True)
class _Events:
    """The values of a history, and the order in which they became known.

    Attributes
    ----------
    values : the values that are there, by time, then by when they were known, then by key.
    order : (events,) positions in `values` by group and, in a group, by when they were known.
    place : (events,) group and rank of that moment as one number, ascending.
    span : how many numbers a group has.
    """

    values: pd.DataFrame
    order: np.ndarray
    place: np.ndarray
    span: int

    def until(self, group: np.ndarray, moment: np.ndarray) -> np.ndarray:
        """How many events come before or at a moment of a group, those of the groups before it included; shape (n,)."""
        import numpy as np

        found: np.ndarray = np.searchsorted(self.place, group * self.span + moment, side="right")
        return found

    def newest(self, group: np.ndarray, moment: np.ndarray) -> np.ndarray:
        """The position in `values` of the last one that was known by a moment, -1 where there is none; shape (n,)."""
        import numpy as np

        if not len(self.order):
            return np.full(len(group), -1)
        owner, most = self.place // self.span, len(self.order) + 1
        running = np.maximum.accumulate(owner * most + self.order) - owner * most
        at = self.until(group, moment) - 1
        return np.where((group >= 0) & (at >= 0) & (owner[at] == group), running[at], -1)


@dataclass
class _Case:
    """A use case on a data folder, with rows to compute features for."""

    usecase: Path
    data: Path
    rows: pd.DataFrame

    def __post_init__(self) -> None:
        self._tables: dict[str, pd.DataFrame] = {}

    @cached_property
    def rules(self) -> dict[str, Any]:
        return tomllib.loads(self.usecase.read_text(encoding="utf-8"))

    @cached_property
    def decisions(self) -> pd.Series:
        found: pd.Series = self.rows[self.rules["event_time"]] - duration(self.rules["decision_lead"])
        return found

    def value(self, feature: Feature) -> Any:
        """One feature of all rows; shape (n,)."""
        match feature:
            case ColumnFeature():
                return _plain(self._column(self.rows, "the rows", feature.column, feature))
            case CalendarFeature():
                return self._calendar(feature)
            case LookupFeature():
                return self._lookup(feature)
            case AsofFeature():
                return self._asof(feature)
            case WindowFeature():
                return self._window(feature)

    def table(self, name: str, feature: Feature) -> pd.DataFrame:
        import pandas as pd

        if name not in self.rules["tables"]:
            raise FeatureProblem(f"feature {feature.name}: there is no table {name!r} in the use case")
        if name not in self._tables:
            path = self.data / name
            self._tables[name] = pd.read_parquet(path if path.is_dir() else path.with_suffix(".parquet"))
        return self._tables[name]

    def _column(self, table: pd.DataFrame, what: str, name: str, feature: Feature) -> pd.Series:
        if name not in table:
            raise FeatureProblem(f"feature {feature.name}: there is no column {name!r} in {what}")
        return table[name]

    def _calendar(self, feature: CalendarFeature) -> pd.Series:
        import pandas as pd

        of = self._column(self.rows, "the rows", feature.of, feature)
        if not isinstance(of.dtype, pd.DatetimeTZDtype):
            raise FeatureProblem(f"feature {feature.name}: column {feature.of!r} is no instant")
        local = of.dt.tz_convert(feature.zone).dt
        return _plain({"hour": local.hour, "dow": local.dayofweek, "month": local.month}[feature.part])

    def _lookup(self, feature: LookupFeature) -> pd.Series:
        import pandas as pd

        table, by = self.table(feature.table, feature), list(feature.by)
        if by != self.rules["tables"][feature.table]["key"]:
            raise FeatureProblem(f"feature {feature.name}: by is {by}, not the key of {feature.table}")
        found = self._column(table, feature.table, feature.column, feature)
        wanted = self._keys(feature.by, feature)
        at = pd.MultiIndex.from_frame(table[by]).get_indexer(pd.MultiIndex.from_frame(wanted))
        complete = wanted.notna().all(axis=1).to_numpy() & (at >= 0)
        return _plain(found.iloc[at].reset_index(drop=True).where(complete))

    def _keys(self, by: Sequence[str], feature: Feature) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame({name: self._column(self.rows, "the rows", name, feature) for name in by})

    def _values(self, feature: AsofFeature | WindowFeature) -> pd.DataFrame:
        """The values of a history that are there, one row each: value, known, time, key columns, `by` columns."""
        table, rules = self.table(feature.table, feature), self.rules["tables"][feature.table]
        label = self.rules["label"]
        if feature.column == LABEL and rules["key"] == [self.rules["entity"]]:
            source = table[label["column"]]
            value = OPERATORS[label["op"]](source, label["value"]).astype(float).where(source.notna())
            known = label["known_at"]
        else:
            value = self._column(table, feature.table, feature.column, feature)
            known = rules.get("known", {}).get(feature.column, rules.get("known_at"))
        if known is None or "time" not in rules:
            raise FeatureProblem(f"feature {feature.name}: {feature.table} has no history; look it up")
        found = table.assign(**{" value": value, " known": table[known], " time": table[rules["time"]]})
        for name in feature.by:
            self._column(table, feature.table, name, feature)
        there = found[[" value", " known", *feature.by]].notna().all(axis=1)
        return found[there].sort_values([" time", " known", *rules["key"]], ignore_index=True)

    def _events(
        self, feature: AsofFeature | WindowFeature, *moments: pd.Series
    ) -> tuple[_Events, np.ndarray, list[np.ndarray]]:
        """The history of a feature, the group of each row (-1: none), and the moments as ranks among all instants."""
        import numpy as np
        import pandas as pd

        values, keys = self._values(feature), self._keys(feature.by, feature)
        together = pd.concat([values[list(feature.by)], keys], ignore_index=True)
        groups = (
            together.groupby(list(feature.by), sort=False).ngroup().fillna(-1).to_numpy(np.int64)
        )  # -1: a null in it
        instants = [_micros(values[" known"]), *(_micros(moment) for moment in moments)]
        ranks = np.unique(np.concatenate(instants), return_inverse=True)[1]
        known, *others = np.split(ranks, np.cumsum([len(i) for i in instants])[:-1])
        group, span = groups[: len(values)], len(ranks) + 1
        order = np.lexsort((known, group))
        return _Events(values, order, group[order] * span + known[order], span), groups[len(values) :], others

    def _asof(self, feature: AsofFeature) -> pd.Series:
        import numpy as np

        events, group, (decided,) = self._events(feature, self.decisions)
        at = events.newest(group, decided)
        picked = events.values.reindex(np.where(at >= 0, at, len(events.values))).reset_index(drop=True)
        age = self.decisions.reset_index(drop=True) - picked[" time"]
        fresh = age <= duration(feature.max_age)
        if feature.kind == "age":
            return (age.dt.total_seconds() / 3600).where(fresh)
        return _plain(picked[" value"].where(fresh))

    def _window(self, feature: WindowFeature) -> pd.Series:
        import numpy as np
        import pandas as pd

        events, group, (until, since) = self._events(feature, self.decisions, self.decisions - duration(feature.window))
        low, high = events.until(group, since), events.until(group, until)
        number = np.where(group >= 0, high - low, np.nan)
        if feature.kind == "count":
            return pd.Series(number)
        values = self._numbers(events.values[" value"], feature)
        sums = np.concatenate([[0.0], np.cumsum(values[events.order])])
        with np.errstate(invalid="ignore", divide="ignore"):
            return pd.Series(np.where(number > 0, (sums[high] - sums[low]) / number, np.nan))

    def _numbers(self, values: pd.Series, feature: Feature) -> np.ndarray:
        import pandas as pd

        if not pd.api.types.is_numeric_dtype(values.dtype):
            raise FeatureProblem(f"feature {feature.name}: there is no mean of texts or instants")
        found: np.ndarray = values.to_numpy("float64")
        return found


def _micros(instants: pd.Series) -> np.ndarray:
    """Instants as microseconds since 1970, int64; shape (n,)."""
    found: np.ndarray = instants.dt.as_unit("us").astype("int64").to_numpy()
    return found


def _plain(values: pd.Series) -> pd.Series:
    """A column as float64 with NaN, or as objects with None where it holds texts."""
    import pandas as pd

    values = values.reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_bool_dtype(values.dtype):
        return values.astype("float64")
    return values.astype(object).where(values.notna(), None)
