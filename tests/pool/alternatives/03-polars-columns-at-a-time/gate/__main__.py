"""validate, with Polars: each rule is an expression over a table, and what it is true of is quarantined.

Accepted rows come out sorted by key, columns by name, in files of at most 9,000 rows, with wide numbers, instants in nanoseconds and
NaN as null.
"""

import datetime as dt
import json
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

KINDS = {
    "whole": pa.types.is_integer, "number": pa.types.is_floating, "truth": pa.types.is_boolean,
    "instant": lambda t: pa.types.is_timestamp(t) and t.tz is not None,
    "text": lambda t: pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t),
}  # fmt: skip


def kind(t):
    if pa.types.is_dictionary(t):
        return kind(t.value_type)
    return next((name for name, holds in KINDS.items() if holds(t)), f"arrow {t}")


def plain(column):
    if pa.types.is_dictionary(column.type):
        column = pa.chunked_array([c.dictionary_decode() for c in column.chunks], column.type.value_type)
    match kind(column.type):
        case "text":
            return column.cast(pa.large_string())
        case "whole":
            return column.cast(pa.int64())
        case "number":
            return column.cast(pa.float64())
        case "instant":
            return column.cast(pa.timestamp("ns", "UTC"), safe=False)
    return column


def frame(table, columns):
    data = pl.from_arrow(pa.table({c: plain(table.column(c)) for c in columns}))
    return data.with_columns(pl.col(pl.Float64).fill_nan(None))


def no_text(column):
    try:
        column.validate(full=True)
        if pa.types.is_dictionary(column.type):
            for chunk in column.chunks:
                chunk.dictionary.validate(full=True)
    except pa.ArrowInvalid:
        return True
    return False


def exists(value, form):
    try:
        dt.datetime.strptime(value, form)
    except ValueError:
        return False
    return True


class Table:
    """What is known of one table: its rules, and how it was."""

    def __init__(self, name, case, history):
        self.name, self.rules, self.feeds, self.history = name, case["tables"][name], case["feeds"], history
        parts = [pq.ParquetFile(p).read() for p in sorted((history / name).glob("*.parquet"))]
        self.kinds = {field.name: kind(field.type) for field in parts[0].schema}
        before = pl.concat([frame(part, self.kinds) for part in parts])
        self.latest = before[self.rules["time"]].max()
        self.nulls = {c: self.share_of_nulls(before, c) for c in self.kinds}
        self.means = {c: before[c].mean() for c in self.rules.get("steady", ())}
        self.keys = {}
        for rule in self.rules.get("values", {}).values():
            if "in" in rule:
                (key,) = case["tables"][rule["in"]]["key"]
                self.keys[rule["in"]] = pl.read_parquet(history / f"{rule['in']}.parquet", columns=[key])[key]

    def share_of_nulls(self, data, column):
        filled = self.rules.get("filled", {"columns": ()})
        if column in filled["columns"]:
            data = data.filter(pl.all_horizontal(pl.col(k) == v for k, v in filled["where"].items()))
        return data[column].null_count() / max(len(data), 1)

    def read(self, folder):
        """The files of a feed's table, in the order of their names; None where some are not what the manifest says."""
        try:
            listed = json.loads((folder / "manifest.json").read_bytes())["files"]
            parts = []
            for entry in sorted((e for e in listed if e["path"].split("/")[0] == self.name), key=lambda e: e["path"]):
                part = pq.ParquetFile(folder / entry["path"]).read()
                if not 0 < len(part) == entry["rows"]:
                    return None
                parts.append(part)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException):
            return None
        return parts or None

    def of_feed(self, parts):
        """What is wrong with the whole table: (rule, column)."""
        for part in parts:
            new = [f for f in part.schema if f.name not in self.kinds]
            for field in part.schema:
                if kind(field.type) == "text" and no_text(part.column(field.name)):
                    yield "encoding", field.name
                elif field.name in self.kinds and kind(field.type) != self.kinds[field.name]:
                    yield "wrong_type", field.name
            for column in self.kinds.keys() - set(part.schema.names):
                alike = any(kind(f.type) == self.kinds[column] for f in new)
                yield "renamed_column" if alike else "missing_column", column

    def of_values(self, tables):
        """The same, of tables that have all columns as they should be."""
        for data in tables:
            newest = data[self.rules["time"]].max()
            if newest is None or newest <= self.latest:
                yield "stale", None
        data = pl.concat(tables)
        for column, usual in self.nulls.items():
            if self.share_of_nulls(data, column) > usual + self.feeds["null_share"]:
                yield "null_rate", column
        for column, usual in self.means.items():
            mean, factor = data[column].mean(), self.feeds["mean_factor"]
            if mean is not None and usual is not None and not usual / factor <= mean <= usual * factor:
                yield "unit_change", column

    def of_rows(self, data, now):
        """Expressions that are true of wrong rows: (rule, column, expression)."""
        for column, rule in self.rules.get("values", {}).items():
            value, wrong = pl.col(column), []
            if "min" in rule:
                wrong.append(value < rule["min"])
            if "max" in rule:
                wrong.append(value > rule["max"])
            if "one_of" in rule:
                wrong.append(~value.is_in(rule["one_of"]))
            if "form" in rule:
                bad = [v for v in data[column].unique().drop_nulls() if not exists(v, rule["form"])]
                wrong.append(value.is_in(bad))
            if wrong:
                yield "out_of_range", column, pl.any_horizontal(wrong)
            if "in" in rule:
                yield "unknown_reference", column, ~value.is_in(self.keys[rule["in"]].to_list())
        yield "out_of_range", self.rules["time"], pl.col(self.rules["time"]) > now
        yield "duplicate_key", None, pl.struct(self.rules["key"]).is_duplicated()

    def personal(self, parts):
        """Columns that nobody asked for and that say who somebody is."""
        patterns = [re.compile(p) for p in self.feeds["personal_data"]]

        @cache
        def says(text):
            return any(p.search(text) for p in patterns)

        for column in sorted({f.name for part in parts for f in part.schema if f.name not in self.kinds and kind(f.type) == "text"}):
            texts = (t for part in parts if column in part.schema.names for t in plain(part.column(column)).to_pylist())
            if rows := sum(t is not None and says(t) for t in texts):
                yield column, rows


def finding(table, rule, column, rows):
    named = {} if column is None else {"column": column}
    return {"table": table.name, "rule": rule, **named, "rows": rows, "severity": "high"}


def judge(feed, out, tables, now):
    delivered = {table: table.read(feed) for table in tables}
    findings, found, rows_in = [], set(), 0
    frames = {}
    for table, parts in delivered.items():
        if parts is None:
            found.add((table, "truncated", None))
            continue
        rows_in += sum(len(part) for part in parts)
        wrong = set(table.of_feed(parts))
        if not wrong:
            frames[table] = [frame(part, table.kinds) for part in parts]
            wrong |= set(table.of_values(frames[table]))
        found |= {(table, *pair) for pair in wrong}
    if found:
        ordered = sorted(found, key=lambda f: (f[1], f[0].name, f[2] or ""))
        return {"status": "refused", "rows_in": rows_in, "findings": [finding(t, rule, c, rows_in) for t, rule, c in ordered]}
    quarantine, accepted = [], 0
    for table, parts in frames.items():
        data = pl.concat(parts).with_row_index("source row")
        rules = [(rule, column, expression.fill_null(False)) for rule, column, expression in table.of_rows(data, now)]
        for rule, column, expression in rules:
            rows = data.filter(expression)["source row"]
            if len(rows):
                findings.append(finding(table, rule, column, len(rows)))
                quarantine += [(table.name, row, rule, column) for row in rows]
        findings += [finding(table, "personal_data", column, rows) for column, rows in table.personal(delivered[table])]
        good = data.filter(~pl.any_horizontal(e for *_, e in rules)).drop("source row").sort(table.rules["key"])
        accepted += len(good)
        (out / "accepted" / table.name).mkdir(parents=True)
        for place, some in enumerate(good.select(sorted(good.columns)).iter_slices(9_000)):
            some.write_parquet(out / "accepted" / table.name / f"{chr(97 + place)}.parquet", compression="lz4")
    if quarantine:
        wrong = pl.DataFrame(quarantine, {"table": pl.Categorical, "source_row": pl.Int64, "rule": pl.String, "column": pl.String}, orient="row")
        wrong.reverse().write_parquet(out / "quarantine.parquet")
    status = "quarantined" if quarantine else "accepted"
    return {"status": status, "rows_in": rows_in, "rows_accepted": accepted, "findings": findings}


def main():
    words = iter(sys.argv[1:])
    options = {word.removeprefix("--"): next(words) for word in words}
    case = tomllib.loads(Path(options["usecase"]).read_text("utf-8"))
    tables = [Table(name, case, Path(options["history"])) for name in case["feeds"]["tables"]]
    now = dt.datetime.fromisoformat(options["now"]).astimezone(dt.UTC)
    for feed in Path(options["feeds"]).iterdir():
        out = Path(options["out"], feed.name)
        out.mkdir()
        report = {"rows_accepted": 0, "rows_quarantined": 0, **judge(feed, out, tables, now)}
        if report["status"] != "refused":
            report["rows_quarantined"] = report["rows_in"] - report["rows_accepted"]
        (out / "report.json").write_text(json.dumps({"feed": feed.name, **report}, indent="\t"), "utf-8")


main()
