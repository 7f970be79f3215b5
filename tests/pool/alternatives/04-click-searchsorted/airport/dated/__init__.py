"""What was known, and when: NumPy's binary search over events in the order in which they became known."""

import datetime
import json
import os
import re
import sys
import tomllib
import zoneinfo
from pathlib import Path

import numpy as np
import pandas as pd

HOME = Path(__file__).parents[2]
NEEDS = {
    "column": "column", "calendar": "of part zone", "lookup": "table by column", "asof": "table by column max_age",
    "age": "table by column max_age", "mean": "table by column window", "count": "table by column window",
}  # fmt: skip


def stop(code, message, key=None):
    Path(os.environ["MLEKIT_REFUSAL"]).write_text(json.dumps({"code": code, "message": message, "key": key}))
    sys.exit(2)


def own():
    named = tomllib.loads((HOME / "pyproject.toml").read_text())["tool"]["mlekit"]["features"]
    return tomllib.loads((HOME / named).read_text())["feature"]


def length(text):
    found = re.fullmatch(r"P(?=[0-9T])(?:([0-9]+)D)?(?:T(?=[0-9])(?:([0-9]+)H)?(?:([0-9]+)M)?)?", text)
    if not found:
        raise ValueError(f"{text!r} is no duration")
    days, hours, minutes = (int(part or 0) for part in found.groups())
    return datetime.timedelta(days=days, hours=hours, minutes=minutes) // datetime.timedelta(microseconds=1)


def micros(column):
    """Instants as whole microseconds, and where they are missing."""
    return column.dt.as_unit("us").astype("int64").to_numpy(), column.isna().to_numpy()


class World:
    def __init__(self, usecase, data):
        self.case, self.data, self.kept = tomllib.loads(Path(usecase).read_text()), Path(data), {}
        self.entity = next(n for n, t in self.case["tables"].items() if t["key"] == [self.case["entity"]])

    def table(self, name):
        if name not in self.kept:
            files = sorted((self.data / name).glob("*.parquet")) or [self.data / f"{name}.parquet"]
            table = pd.concat([pd.read_parquet(f) for f in files], ignore_index=True)
            if name == self.entity:
                rule = self.case["label"]
                value, bar = table[rule["column"]], rule["value"]
                holds = {">": value > bar, ">=": value >= bar, "<": value < bar, "<=": value <= bar, "==": value == bar}[rule["op"]]
                table["label"] = holds.astype(float).where(value.notna())
            self.kept[name] = table
        return self.kept[name]

    def check(self, f):
        """Raises ValueError, KeyError or TypeError where a definition is none."""
        wanted = NEEDS[f["kind"]].split()
        if set(f) != {"name", "kind", *wanted}:
            raise ValueError(f"{f['kind']} needs {', '.join(wanted)}")
        if not re.fullmatch("[a-z0-9_]{1,60}", f["name"]) or f["name"] == "row_id":
            raise ValueError("that is no name for a feature")
        request = self.case["request"]
        if "of" in f and (f["of"] not in request or f["part"] not in ("hour", "dow", "month") or f["zone"] not in zoneinfo.available_timezones()):
            raise ValueError("of, part or zone is none")
        if f["kind"] == "column" and f["column"] not in request:
            raise ValueError(f"{f['column']} is no column of a row")
        for key in {"max_age", "window"} & set(f):
            length(f[key])
        if "table" in f:
            table, rule = self.table(f["table"]), self.case["tables"][f["table"]]
            if f["column"] not in table or not f["by"] or any(c not in table or c not in request for c in f["by"]):
                raise ValueError("there is no such column")
            if ("known_at" in rule) == (f["kind"] == "lookup"):
                raise ValueError("that table has no such history")

    def groups(self, table, rows, by):
        """A number for each combination of `by`, in the table and in the rows; -1 where one is null."""
        total, width = np.zeros(len(table) + len(rows), "int64"), 1
        lost = np.zeros(len(total), bool)
        for c in by:
            both = pd.concat([pd.Series(side[c].to_numpy(dtype=object, na_value=None), dtype=object) for side in (table, rows)])
            codes, names = pd.factorize(both)
            lost |= codes < 0
            total = pd.factorize(total * (len(names) + 1) + codes)[0].astype("int64")
        total[lost] = -1
        return total[: len(table)], total[len(table) :]

    def value(self, f, rows):
        if f["kind"] == "column":
            return rows[f["column"]].reset_index(drop=True)
        if f["kind"] == "calendar":
            if not isinstance(rows[f["of"]].dtype, pd.DatetimeTZDtype):
                return pd.Series(np.full(len(rows), np.nan))
            local = rows[f["of"]].dt.tz_convert(f["zone"]).dt
            return {"hour": local.hour, "dow": local.dayofweek, "month": local.month}[f["part"]].reset_index(drop=True)
        table, rule = self.table(f["table"]), self.case["tables"][f["table"]]
        mine, asked = self.groups(table, rows, f["by"])
        if f["kind"] == "lookup":
            place = pd.Series(np.arange(len(table)), index=mine).loc[lambda s: (s.index >= 0) & ~s.index.duplicated()]
            return self.taken(table[f["column"]], place.reindex(asked).to_numpy())
        known_by = rule.get("known", {}).get(f["column"], rule["known_at"])
        if f["column"] == "label" and f["table"] == self.entity:
            known_by = self.case["label"]["known_at"]
        known, never = micros(table[known_by])
        about, no_time = micros(table[rule["time"]])
        keep = np.flatnonzero(~never & table[f["column"]].notna().to_numpy() & (mine >= 0) & ~(no_time & (f["kind"] in ("asof", "age"))))
        event, absent = micros(rows[self.case["event_time"]])
        decided = event - length(self.case["decision_lead"])
        # Who is the latest: by time, then by when it became known, then by key.
        keys = [pd.factorize(table[k].iloc[keep], sort=True)[0] for k in reversed(rule["key"])]
        rank = np.empty(len(keep), "int64")
        rank[np.lexsort([*keys, known[keep], about[keep]])] = np.arange(len(keep))
        order = np.lexsort([known[keep], mine[keep]])
        keep, rank = keep[order], rank[order]
        span = length(f["window"]) if "window" in f else 0
        instants = np.unique(np.concatenate([known[keep], decided, decided - span]))

        def place(group, moment):
            return group * len(instants) + np.searchsorted(instants, moment)

        line = place(mine[keep], known[keep])
        until = np.searchsorted(line, place(asked, decided), side="right")
        nobody = (asked < 0) | absent
        if "window" in f:
            since = np.searchsorted(line, place(asked, decided - span), side="right")
            number = (until - since).astype(float)
            number[nobody] = np.nan
            if f["kind"] == "count":
                return pd.Series(number)
            values = pd.to_numeric(table[f["column"]], errors="coerce").to_numpy("float64", na_value=np.nan)[keep]
            sums = np.add.reduceat(np.append(values, 0.0), np.column_stack([since, until]).ravel())[::2]
            return pd.Series(np.where(number > 0, sums / np.maximum(number, 1), np.nan))
        size = len(keep)
        best = np.maximum.accumulate(mine[keep] * size + rank) if size else rank
        first = np.searchsorted(line, place(asked, np.full(len(rows), instants[0] if len(instants) else 0)))
        found = np.flatnonzero((until > first) & ~nobody)
        row_of_rank = np.empty(size, "int64")
        row_of_rank[rank] = keep
        at = np.full(len(rows), -1)
        at[found] = row_of_rank[best[until[found] - 1] % size] if size else -1
        age = decided - about[at]
        at[age > length(f["max_age"])] = -1
        if f["kind"] == "age":
            return pd.Series(np.where(at >= 0, age / 3.6e9, np.nan))
        return self.taken(table[f["column"]], np.where(at >= 0, at, np.nan))

    @staticmethod
    def taken(column, place):
        return column.reindex(pd.Index(place).fillna(-1).astype(int)).reset_index(drop=True)

    def features(self, definitions, rows):
        seen = set()
        for f in definitions:
            name = f.get("name") if isinstance(f.get("name"), str) else None
            try:
                if name in seen:
                    raise ValueError(f"{name} is there twice")
                self.check(f)
            except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError) as problem:
                stop("bad_feature", f"{name}: {problem!r}", name)
            seen.add(name)
        return pd.DataFrame({f["name"]: self.value(f, rows) for f in definitions})
