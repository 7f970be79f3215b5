"""One file, Arrow and plain Python: rows are dictionaries, rules are questions to a row, and files keep further columns."""

import datetime
import json
import pathlib
import re
import statistics
import sys
import tomllib
from collections import Counter, defaultdict

import pyarrow as pa
import pyarrow.parquet as pq

options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
CASE = tomllib.loads(pathlib.Path(options["--usecase"]).read_text())
HISTORY, FEEDS, OUT = (pathlib.Path(options[f"--{name}"]) for name in ("history", "feeds", "out"))
NOW = datetime.datetime.fromisoformat(options["--now"])
PERSONAL = [re.compile(p) for p in CASE["feeds"]["personal_data"]]


class Refused(Exception):
    def __init__(self, *findings):
        self.findings = [{"table": t, "column": c, "rule": r, "rows": 0} for t, r, c in findings]


def sort_of(kind):
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    for name, test in {
        "text": lambda k: k in (pa.string(), pa.large_string(), pa.string_view()),
        "int": pa.types.is_integer, "float": pa.types.is_floating, "time": lambda k: pa.types.is_timestamp(k) and k.tz is not None, "bool": pa.types.is_boolean,
    }.items():
        if test(kind):
            return name
    return str(kind)


def rows_of(table):
    times = [i for i, f in enumerate(table.schema) if pa.types.is_timestamp(f.type)]
    for i in times:
        table = table.set_column(i, table.schema[i].name, table.column(i).cast(pa.timestamp("us", "UTC"), safe=False))
    return [{k: None if v != v else v for k, v in row.items()} for row in table.to_pylist()]


def share_empty(rows, column, table):
    filled = CASE["tables"][table].get("filled")
    if filled and column in filled["columns"]:
        rows = [row for row in rows if all(row[c] == v for c, v in filled["where"].items())]
    return sum(row[column] is None for row in rows) / len(rows) if rows else 0.0


def mean_of(rows, column):
    values = [row[column] for row in rows if row[column] is not None]
    return statistics.fmean(values) if values else None


class Usual:
    def __init__(self, name):
        files = sorted((HISTORY / name).glob("*.parquet"))
        table = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
        self.name, self.rule = name, CASE["tables"][name]
        self.sorts = {f.name: sort_of(f.type) for f in table.schema}
        rows = rows_of(table)
        self.latest = max(row[self.rule["time"]] for row in rows)
        self.empty = {c: share_empty(rows, c, name) for c in self.sorts}
        self.mean = {c: mean_of(rows, c) for c in self.rule.get("steady", [])}
        self.known = {}
        for rule in self.rule.get("values", {}).values():
            if "in" in rule:
                (key,) = CASE["tables"][rule["in"]]["key"]
                self.known[rule["in"]] = set(pq.read_table(HISTORY / f"{rule['in']}.parquet").column(key).to_pylist())

    def breaks(self, row):
        """Yield (rule, column) for each rule that a row breaks on its own."""
        for column, rule in self.rule.get("values", {}).items():
            value = row[column]
            if value is None:
                continue
            if "in" in rule and value not in self.known[rule["in"]]:
                yield "unknown_reference", column
            elif "one_of" in rule and value not in rule["one_of"]:
                yield "out_of_range", column
            elif "min" in rule and not rule["min"] <= value <= rule["max"]:
                yield "out_of_range", column
            elif "form" in rule:
                try:
                    datetime.datetime.strptime(value, rule["form"])
                except ValueError:
                    yield "out_of_range", column
        when = row[self.rule["time"]]
        if when is not None and when > NOW:
            yield "out_of_range", self.rule["time"]


def open_files(feed, usual):
    try:
        listed = json.loads((feed / "manifest.json").read_text())["files"]
    except (OSError, ValueError, KeyError):
        listed = []
    tables = []
    for entry in sorted(listed, key=lambda e: e["path"]):
        if entry["path"].split("/")[0] == usual.name:
            try:
                table = pq.ParquetFile(feed / entry["path"]).read()
            except Exception:
                raise Refused((usual.name, "truncated", None)) from None
            if table.num_rows != entry["rows"] or not table.num_rows:
                raise Refused((usual.name, "truncated", None))
            tables.append((entry["path"], table))
    if not tables:
        raise Refused((usual.name, "truncated", None))
    return tables


def look_at_shape(tables, usual):
    wrong = []
    for _, table in tables:
        for name, column in zip(table.column_names, table.columns):
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                wrong.append((usual.name, "encoding", name))
        sorts = {f.name: sort_of(f.type) for f in table.schema}
        new = [sort for name, sort in sorts.items() if name not in usual.sorts]
        for name, sort in usual.sorts.items():
            if name not in sorts:
                wrong.append((usual.name, "renamed_column" if sort in new else "missing_column", name))
            elif sort != sorts[name]:
                wrong.append((usual.name, "wrong_type", name))
    if wrong:
        raise Refused(*wrong)


def look_at_whole(files, usual):
    rows = [row for some in files for row in some]
    wrong = []
    for some in files:
        if not any(row[usual.rule["time"]] and row[usual.rule["time"]] > usual.latest for row in some):
            wrong.append((usual.name, "stale", None))
    for column, share in usual.empty.items():
        if share_empty(rows, column, usual.name) > share + CASE["feeds"]["null_share"]:
            wrong.append((usual.name, "null_rate", column))
    factor = CASE["feeds"]["mean_factor"]
    for column, was in usual.mean.items():
        now = mean_of(rows, column)
        if now is not None and not was / factor <= now <= was * factor:
            wrong.append((usual.name, "unit_change", column))
    if wrong:
        raise Refused(*dict.fromkeys(wrong))


def judge(feed, usuals):
    refusals, ready = [], {}
    for usual in usuals:
        try:
            tables = open_files(feed, usual)
            look_at_shape(tables, usual)
            files = [rows_of(table) for _, table in tables]
            look_at_whole(files, usual)
            ready[usual.name] = (usual, tables, [row for some in files for row in some])
        except Refused as refused:
            refusals += refused.findings
    out = OUT / feed.name
    out.mkdir()
    if refusals:
        return report(out, "refused", 0, 0, 0, refusals)
    counts, quarantine, came, wrong_rows = Counter(), [], 0, 0
    personal = []
    for name, (usual, tables, rows) in ready.items():
        seen = Counter(tuple(row[k] for k in usual.rule["key"]) for row in rows)
        wrong = defaultdict(list)
        for number, row in enumerate(rows):
            for rule, column in usual.breaks(row):
                wrong[number].append((rule, column))
            if seen[tuple(row[k] for k in usual.rule["key"])] > 1:
                wrong[number].append(("duplicate_key", None))
        for number, broken in wrong.items():
            for rule, column in broken:
                counts[name, column, rule] += 1
                quarantine.append({"table": name, "source_row": number, "rule": rule, "column": column})
        private = set()
        for column in set(rows[0]) - set(usual.sorts):
            hits = sum(isinstance(r[column], str) and any(p.search(r[column]) for p in PERSONAL) for r in rows)
            if hits:
                private.add(column)
                personal.append({"table": name, "column": column, "rule": "personal_data", "rows": hits})
        came, wrong_rows, first = came + len(rows), wrong_rows + len(wrong), 0
        for path, table in tables:
            kept = [i for i in range(table.num_rows) if first + i not in wrong]
            first += table.num_rows
            half = len(kept) // 2
            for part, some in enumerate((kept[half:], kept[:half])):
                target = out / "accepted" / path.replace(".parquet", f"-{part}.parquet")
                target.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(table.drop_columns(list(private)).take(pa.array(some, pa.int64())), target)
    if quarantine:
        kinds = pa.schema({"table": pa.string(), "source_row": pa.int64(), "rule": pa.string(), "column": pa.string()})
        pq.write_table(pa.Table.from_pylist(quarantine, kinds), out / "quarantine.parquet")
    findings = [{"table": t, "column": c, "rule": r, "rows": n} for (t, c, r), n in counts.items()]
    return report(out, "quarantined" if wrong_rows else "accepted", came, came - wrong_rows, wrong_rows, findings + personal)


def report(out, status, came, accepted, quarantined, findings):
    said = {"status": status, "rows_in": came, "rows_accepted": accepted, "rows_quarantined": quarantined, "findings": findings}
    (out / "report.json").write_text(json.dumps(said))


def main():
    usuals = [Usual(name) for name in CASE["feeds"]["tables"]]
    for feed in FEEDS.iterdir():
        judge(feed, usuals)


main()
