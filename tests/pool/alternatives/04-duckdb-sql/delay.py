"""Everything in one file: features as SQL in DuckDB, and a model that is one table of log-odds for each feature.

An independent right submission: values are grouped by the instant they became known before they are joined, the model is fitted by
NumPy alone (additive, boosted one feature at a time), and the definitions have another name and another order.
"""

import datetime
import json
import os
import re
import shutil
import sys
import tomllib
import zoneinfo
from pathlib import Path

import duckdb
import numpy as np

HERE = Path(__file__).parent
OWN = tomllib.loads((HERE / "pyproject.toml").read_text())["tool"]["mlekit"]["features"]
KEYS = {
    "column": {"column"}, "calendar": {"of", "part", "zone"}, "lookup": {"table", "by", "column"},
    "asof": {"table", "by", "column", "max_age"}, "age": {"table", "by", "column", "max_age"},
    "mean": {"table", "by", "column", "window"}, "count": {"table", "by", "column", "window"},
}
PARTS = {"hour": lambda t: t.hour, "dow": lambda t: t.weekday(), "month": lambda t: t.month}
ROUNDS, RATE, RIDGE, BINS = 60, 0.3, 20.0, 24


def refuse(key, message):
    if "MLEKIT_REFUSAL" in os.environ:
        Path(os.environ["MLEKIT_REFUSAL"]).write_text(json.dumps({"code": "wrong", "message": message, "key": key}))
    sys.exit(2)


def microseconds(text):
    found = re.fullmatch(r"P(?:([0-9]{1,4})D)?(T(?:([0-9]{1,4})H)?(?:([0-9]{1,4})M)?)?", text)
    if not found or found[2] == "T":
        raise ValueError(text)
    return sum(int(found[i] or 0) * unit for i, unit in ((1, 86_400_000_000), (3, 3_600_000_000), (4, 60_000_000)))


def name_of(column):
    return '"' + column.replace('"', '""') + '"'


class Base:
    """A database in memory with a view of each table, and the rows that are asked about."""

    def __init__(self, usecase, data):
        self.case = tomllib.loads(Path(usecase).read_text())
        self.sql = duckdb.connect(config={"threads": 2, "memory_limit": "2GB"})
        self.columns = {}
        for table in self.case["tables"]:
            files = sorted(map(str, (Path(data) / table).glob("*.parquet"))) or [f"{data}/{table}.parquet"]
            if all(map(os.path.exists, files)):
                self.columns[table] = self.load(f"t_{table}", files)
        self.entity = next(t for t, rule in self.case["tables"].items() if rule["key"] == [self.case["entity"]])
        label = self.case["label"]
        self.label = f"CAST({name_of(label['column'])} {label['op']} {label['value']!r} AS INTEGER)"

    def load(self, name, files):
        """A table of Parquet files, NaN as null; its columns and types."""
        source = self.sql.read_parquet(files, union_by_name=True)
        columns = dict(zip(source.columns, map(str, source.types)))
        plain = (f"nullif({name_of(c)}, 'nan'::{t}) AS {name_of(c)}" if t in ("DOUBLE", "FLOAT") else name_of(c) for c, t in columns.items())
        source.create_view("source", replace=True)
        self.sql.execute(f"CREATE TABLE {name} AS SELECT {', '.join(plain)} FROM source")
        return columns

    def ask(self, rows):
        """Make the rows known; `rows` selects them."""
        lead = microseconds(self.case["decision_lead"])
        self.sql.execute(
            "CREATE TABLE asked AS SELECT row_number() OVER () AS n, "
            f"epoch_us({name_of(self.case['event_time'])}) - {lead} AS at_, * FROM ({rows})"
        )

    def check(self, feature):
        """Raises ValueError with what is wrong."""

        def must(holds, what):
            if not holds:
                raise ValueError(what)

        kind, request = feature["kind"], self.case["request"]
        if kind == "column":
            must(feature["column"] in request, "no such column in a row")
        elif kind == "calendar":
            must(request.get(feature["of"], "").startswith("timestamp"), "of is no instant of a row")
            must(feature["part"] in PARTS, "part is hour, dow or month")
            must(feature["zone"] in zoneinfo.available_timezones(), "no such zone")
        else:
            table, rule = feature["table"], self.case["tables"].get(feature["table"])
            must(rule and table in self.columns, "no such table")
            mine = self.columns[table]
            must(feature["column"] in mine or (feature["column"] == "label" and table == self.entity), "no such column in the table")
            by = feature["by"]
            must(isinstance(by, list) and by and all(isinstance(c, str) and c in mine and c in request for c in by), "by is wrong")
            if kind == "lookup":
                must("known_at" not in rule and set(by) == set(rule["key"]), "lookup is by the key of a table without time")
            else:
                must("known_at" in rule and "time" in rule, "that table has no time")
                must(microseconds(feature.get("max_age") or feature["window"]) > 0, "a length of nothing")

    def value(self, feature):
        """The SQL of one feature: columns `n` and `value`."""
        kind = feature["kind"]
        if kind == "column":
            return f"SELECT n, {name_of(feature['column'])} AS value FROM asked"
        if kind == "calendar":
            return self.calendar(feature)
        table, rule, by = feature["table"], self.case["tables"][feature["table"]], feature["by"]
        groups = [f"b{i}" for i in range(len(by))]
        mine = ", ".join(f"{name_of(c)} AS {g}" for c, g in zip(by, groups))
        asked = ", ".join(f"TRY_CAST({name_of(c)} AS {self.columns[table][c]}) AS {g}" for c, g in zip(by, groups))
        same = " AND ".join(f"q.{g} = e.{g}" for g in groups)
        together, empty = ", ".join(groups), " OR ".join(f"q.{g} IS NULL" for g in groups)
        if kind == "lookup":
            return (
                f"SELECT q.n, e.value FROM (SELECT n, {asked} FROM asked) q LEFT JOIN "
                f"(SELECT {name_of(feature['column'])} AS value, {mine} FROM t_{table}) e ON {same}"
            )
        is_label = feature["column"] == "label" and table == self.entity
        known = rule.get("known", {}).get(feature["column"], rule["known_at"])
        if is_label:
            known = self.case["label"]["known_at"]
        order = ", ".join(["time_", "known", *(name_of(k) for k in rule["key"])])
        events = (
            f"SELECT {self.label if is_label else name_of(feature['column'])} AS value, {mine}, {', '.join(map(name_of, rule['key']))}, "
            f"epoch_us({name_of(known)}) AS known, epoch_us({name_of(rule['time'])}) AS time_ FROM t_{table}"
        )
        events = f"SELECT * FROM ({events}) WHERE value IS NOT NULL AND known IS NOT NULL AND " + " AND ".join(f"{g} IS NOT NULL" for g in groups)
        if kind in ("asof", "age"):
            shown = "v.value" if kind == "asof" else "(q.at_ - v.time_) / 3.6e9"
            return f"""
                WITH v AS MATERIALIZED (SELECT value, {together}, known, time_, row_number() OVER (ORDER BY {order}) AS place FROM ({events})),
                e AS MATERIALIZED (
                    SELECT {together}, known, max(max(place)) OVER (PARTITION BY {together} ORDER BY known) AS place
                    FROM v GROUP BY {together}, known)
                SELECT q.n, CASE WHEN q.at_ - v.time_ <= {microseconds(feature["max_age"])} THEN {shown} END AS value
                FROM (SELECT q.n, q.at_, e.place FROM (SELECT n, at_, {asked} FROM asked) q ASOF LEFT JOIN e ON {same} AND q.at_ >= e.known) q
                LEFT JOIN v ON v.place = q.place"""
        number = "sum(value::DOUBLE)" if kind == "mean" else "0"
        inside = "coalesce(u.c, 0) - coalesce(w.c, 0)"
        shown = inside if kind == "count" else f"CASE WHEN {inside} > 0 THEN (u.s - coalesce(w.s, 0)) / ({inside}) END"
        return f"""
            WITH e AS MATERIALIZED (
                SELECT {together}, known, sum(count(*)) OVER (PARTITION BY {together} ORDER BY known) AS c,
                    sum({number}) OVER (PARTITION BY {together} ORDER BY known) AS s
                FROM ({events}) GROUP BY {together}, known),
            q AS MATERIALIZED (SELECT n, at_, at_ - {microseconds(feature["window"])} AS from_, {asked} FROM asked),
            u AS (SELECT q.n, e.c, e.s FROM q ASOF JOIN e ON {same} AND q.at_ >= e.known),
            w AS (SELECT q.n, e.c, e.s FROM q ASOF JOIN e ON {same} AND q.from_ >= e.known)
            SELECT q.n, CASE WHEN {empty} THEN NULL ELSE {shown} END AS value
            FROM q LEFT JOIN u ON u.n = q.n LEFT JOIN w ON w.n = q.n"""

    def calendar(self, feature):
        """DuckDB knows time zones only by an extension that is fetched from the network: Python's do, once for each instant."""
        of, zone, part = name_of(feature["of"]), zoneinfo.ZoneInfo(feature["zone"]), PARTS[feature["part"]]
        instants = self.sql.execute(f"SELECT DISTINCT epoch_us({of}) AS t FROM asked WHERE {of} IS NOT NULL").fetchnumpy()["t"]
        epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
        shown = [part((epoch + datetime.timedelta(microseconds=int(t))).astimezone(zone)) for t in instants]
        self.sql.register("clock", {"t": np.asarray(instants, dtype=np.int64), "value": np.array(shown, dtype=np.int64)})
        self.sql.execute("CREATE OR REPLACE TEMP TABLE clocks AS SELECT * FROM clock")
        return f"SELECT n, value FROM asked LEFT JOIN clocks ON epoch_us({of}) = clocks.t"

    def features(self, wanted):
        """A table `found`: `n` and a column for each feature, in the order of the rows when sorted by `n`."""
        for feature in wanted:
            try:
                self.check(feature)
            except (TypeError, ValueError, AttributeError) as problem:
                refuse(feature["name"], f"{feature['name']}: {problem}")
        for number, feature in enumerate(wanted):
            self.sql.execute(f"CREATE TABLE f{number} AS {self.value(feature)}")
        shown = ", ".join(f"f{i}.value AS {name_of(f['name'])}" for i, f in enumerate(wanted))
        joins = " ".join(f"JOIN f{i} ON f{i}.n = asked.n" for i in range(len(wanted)))
        self.sql.execute(f"CREATE TABLE found AS SELECT asked.n, {shown} FROM asked {joins}")


def definitions(path):
    try:
        given = tomllib.loads(Path(path).read_text())
    except ValueError as problem:
        refuse(None, str(problem))
    entries = given.get("feature")
    if set(given) != {"feature"} or not isinstance(entries, list) or not entries:
        refuse(None, "entries [[feature]] are wanted, and nothing else")
    names = [entry.get("name") for entry in entries]
    for entry in entries:
        name, kind = entry.get("name"), entry.get("kind")
        if not isinstance(name, str) or not re.fullmatch("[a-z0-9_]{1,60}", name) or name == "row_id" or names.count(name) > 1:
            refuse(str(name), f"{name!r} is no name, or occurs twice")
        if not isinstance(kind, str) or kind not in KEYS:
            refuse(name, f"{name}: {kind!r} is no kind")
        wrong = KEYS[kind] ^ (set(entry) - {"name", "kind"})
        if wrong:
            refuse(name, f"{name}: {sorted(wrong)} is missing or unknown")
    return entries


def features(usecase, spec, data, rows, out):
    base = Base(usecase, data)
    wanted = definitions(spec)
    base.load("given", [rows])
    base.ask("SELECT * FROM given")
    base.features(wanted)
    names = ", ".join(f"found.{name_of(f['name'])}" for f in wanted)
    target = str(out).replace("'", "''")
    base.sql.execute(f"COPY (SELECT row_id, {names} FROM asked JOIN found USING (n) ORDER BY n) TO '{target}' (FORMAT parquet)")


def settings(path):
    given = tomllib.loads(Path(path).read_text())
    kinds = {"seed": int, "train_start": str, "train_end": str}
    for key in {**given, **kinds}:
        if key not in kinds or type(given.get(key)) is not kinds[key]:
            refuse(key, f"{key} = {given.get(key)!r} is not allowed")
        if key != "seed":
            try:
                datetime.date.fromisoformat(given[key])
            except ValueError:
                refuse(key, f"{key} = {given[key]!r} is not a date")
    return given


def table_of(values):
    """How to put the values of a column into bins: texts each in one of their own, numbers between quantiles."""
    present = values[[v is not None for v in values]] if values.dtype == object else values[~np.isnan(values)]
    if values.dtype == object:
        return {"texts": sorted({str(v) for v in present})}
    return {"edges": sorted(set(np.quantile(present, np.arange(1, BINS) / BINS).tolist())) if len(present) else []}


def binned(values, table):
    """The bin of each value; 0 is for what is missing or was never seen."""
    if "texts" in table:
        known = {text: i for i, text in enumerate(table["texts"], 1)}
        return np.array([known.get(str(v), 0) if v is not None else 0 for v in values], dtype=int)
    numbers = values.astype(float)
    return np.where(np.isnan(numbers), 0, np.searchsorted(table["edges"], numbers) + 1)


def columns_of(base, wanted):
    found = {}
    types = dict(base.sql.execute("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'found'").fetchall())
    for feature in wanted:
        name = name_of(feature["name"])
        if types[feature["name"]] == "VARCHAR":
            values = base.sql.execute(f"SELECT {name} FROM found ORDER BY n").fetchall()
            found[feature["name"]] = np.array([v for (v,) in values], dtype=object)
        else:
            as_number = f"epoch({name})" if "TIMESTAMP" in types[feature["name"]] else name
            values = base.sql.execute(f"SELECT {as_number}::DOUBLE AS v FROM found ORDER BY n").fetchnumpy()["v"]
            values = np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)
            with np.errstate(divide="ignore", invalid="ignore"):  # ten digits: the last ones depend on the order of a sum
                digits = 10.0 ** (9 - np.floor(np.log10(np.abs(values))))
            found[feature["name"]] = np.where(np.isfinite(digits), np.round(values * digits) / digits, values)
    return found


def train(usecase, data, config, out):
    given, wanted, base = settings(config), definitions(HERE / OWN), Base(usecase, data)
    local = f"{base.case['event_time']}_local"
    base.ask(
        f"SELECT * FROM (SELECT *, {base.label} AS late_ FROM t_{base.entity}) WHERE late_ IS NOT NULL "
        f"AND substr({local}, 1, 10) BETWEEN '{given['train_start']}' AND '{given['train_end']}' ORDER BY {name_of(base.case['entity'])}"
    )
    late = base.sql.execute("SELECT late_ FROM asked ORDER BY n").fetchnumpy()["late_"].astype(float)
    if len(set(late)) < 2:
        refuse("train_end", "no flights to learn from in the window")
    base.features(wanted)
    columns = columns_of(base, wanted)
    bins = {name: table_of(values) for name, values in columns.items()}
    places = {name: binned(columns[name], bins[name]) for name in bins}
    odds = {name: np.zeros(at.max() + 1) for name, at in places.items()}
    base_rate = late.mean()
    score = np.full(len(late), np.log(base_rate / (1 - base_rate)))
    for _ in range(ROUNDS):
        for name, at in places.items():
            p = 1 / (1 + np.exp(-score))
            gain = np.bincount(at, late - p) / (np.bincount(at, p * (1 - p)) + RIDGE)
            step = RATE * gain
            odds[name] += step
            score += step[at]
    Path(out).mkdir(parents=True, exist_ok=True)
    model = {"base": float(np.log(base_rate / (1 - base_rate))), "bins": bins, "odds": {n: o.tolist() for n, o in odds.items()}}
    Path(out, "odds.json").write_text(json.dumps(model))
    shutil.copyfile(HERE / OWN, Path(out, OWN))
    Path(out, "model.json").write_text(json.dumps({**given, "rows": len(late), "family": "additive log-odds"}))


def predict(usecase, model, data, rows, out):
    known, wanted, base = json.loads(Path(model, "odds.json").read_text()), definitions(Path(model, OWN)), Base(usecase, data)
    base.load("given", [rows])
    base.ask("SELECT * FROM given")
    base.features(wanted)
    score = 0.0
    for name, values in columns_of(base, wanted).items():
        odds = np.array(known["odds"][name])
        at = binned(values if "texts" not in known["bins"][name] or values.dtype == object else values.astype(object), known["bins"][name])
        score = score + np.where(at < len(odds), odds[np.minimum(at, len(odds) - 1)], 0.0)
    probability = 1 / (1 + np.exp(-(score + known["base"])))
    numbers = {"n": np.arange(1, len(probability) + 1), "probability": probability}
    base.sql.register("answers", numbers)
    target = str(out).replace("'", "''")
    base.sql.execute(f"COPY (SELECT row_id, probability FROM asked JOIN answers USING (n) ORDER BY n) TO '{target}' (FORMAT parquet)")


if __name__ == "__main__":
    words = dict(zip((w.removeprefix("--") for w in sys.argv[2::2]), sys.argv[3::2], strict=True))
    globals()[sys.argv[1]](**words)
