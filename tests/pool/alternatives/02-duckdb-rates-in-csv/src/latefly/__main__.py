"""train and predict: rates by kind of flight, counted by DuckDB, kept as CSV."""

import contextlib
import datetime
import importlib.resources
import json
import math
import os
import pathlib
import sys
import tomllib

import duckdb

OURS = {"model": {"prior": 40.0}}


def sql(name):
    return (importlib.resources.files("latefly") / "sql" / f"{name}.sql").read_text()


def refuse(code, message, key):
    pathlib.Path(os.environ["MLEKIT_REFUSAL"]).write_text(json.dumps({"key": key, "code": code, "message": message, "hint": "see the manual"}))
    print(message)
    raise SystemExit(2)


def configuration(path):
    given = tomllib.loads(pathlib.Path(path).read_text())
    for key in given.keys() - {"seed", "train_start", "train_end", *OURS}:
        refuse("unknown_key", f"{key} is not known", key)
    for key in ("seed", "train_start", "train_end"):
        if key not in given:
            refuse("missing_key", f"{key} is needed", key)
    if not isinstance(given["seed"], int) or isinstance(given["seed"], bool):
        refuse("wrong_type", f"seed is a whole number, not {given['seed']!r}", "seed")
    for key in ("train_start", "train_end"):
        try:
            if datetime.date.fromisoformat(given[key]).isoformat() != given[key]:
                raise ValueError
        except (TypeError, ValueError):
            refuse("no_day", f"{key} is a day such as 2013-01-31, not {given[key]!r}", key)
    if given["train_start"] > given["train_end"]:
        refuse("backwards", "train_start lies after train_end", "train_start")
    model = given.get("model", {})
    if not isinstance(model, dict) or model.keys() - OURS["model"].keys():
        refuse("unknown_key", "model takes prior only", "model")
    return given, {**OURS["model"], **model}


def calibrate(scores):
    """Slope and intercept of a logistic regression on the score, by Newton's method."""
    slope, level = 1.0, 0.0
    for _ in range(25):
        g0 = g1 = h00 = h01 = h11 = 0.0
        for score, late, count in scores:
            p = 1 / (1 + math.exp(-(slope * score + level)))
            r, w = count * (late - p), count * p * (1 - p)
            g0, g1, h00, h01, h11 = g0 + r, g1 + r * score, h00 + w, h01 + w * score, h11 + w * score * score
        h00, h11 = h00 + 1e-9, h11 + 1e-3
        det = h00 * h11 - h01 * h01
        level, slope = level + (h11 * g0 - h01 * g1) / det, slope + (h00 * g1 - h01 * g0) / det
    return slope, level


def train(usecase, data, config, out):
    label = tomllib.loads(pathlib.Path(usecase).read_text())["label"]
    given, settings = configuration(config)
    db = duckdb.connect()
    files = {"files": f"{data}/flights/*.parquet", "late_minutes": label["value"], "first": given["train_start"], "last": given["train_end"]}
    db.execute("create table flights as " + sql("flights"), files)
    rows = db.execute("select count(*) from flights").fetchone()[0]
    if not rows:
        refuse("empty_window", f"no flight landed from {given['train_start']} to {given['train_end']}", "train_end")
    db.execute("create table rates as " + sql("rates"), {"prior": settings["prior"]})
    db.execute(f"copy (select * from rates order by kind, name) to '{out}/rates.csv' (header, delimiter ';')")
    kept = {(k, n): s for k, n, s in db.execute("select * from rates").fetchall()}
    groups = db.execute("select carrier, origin, dest, hour, dow, late, count(*) from flights group by all order by all").fetchall()
    scores = []
    for carrier, origin, dest, hour, dow, late, count in groups:
        named = (("carrier", carrier), ("origin", origin), ("dest", dest), ("dow", str(dow)), ("hour", str(hour)))
        parts = [kept.get(pair, 0.0) for pair in (*named, ("carrier at origin", f"{carrier}@{origin}"))]
        scores.append((math.fsum(parts), late, count))
    slope, level = calibrate(scores)
    folder = pathlib.Path(out)
    (folder / "calibration.json").write_text(json.dumps({"slope": slope, "level": level}))
    record = {k: given[k] for k in ("train_start", "train_end", "seed")} | {"rows": rows, "library": "duckdb", "settings": settings}
    (folder / "model.json").write_text(json.dumps(record))


def predict(usecase, model, data, rows, out):
    db = duckdb.connect()
    kept = json.loads((pathlib.Path(model) / "calibration.json").read_text())
    db.execute("create table rates as select * from read_csv(?, header = true, delim = ';', types = {'name': 'varchar'})", [f"{model}/rates.csv"])
    db.execute("create table scores as " + sql("score"), {"rows": rows})
    db.execute("create table asked as select file_row_number as place, row_id from read_parquet(?, file_row_number = true)", [rows])
    db.execute(
        f"""copy (select 1 / (1 + exp(-($slope * score + $level))) as probability, score, row_id
                  from asked join scores using (place) order by place) to '{out}' (format parquet, compression zstd)""",
        kept,
    )


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    given = {words[i].removeprefix("--"): words[i + 1] for i in range(0, len(words), 2)}
    with contextlib.redirect_stdout(sys.stderr):
        {"train": train, "predict": predict}[command](**given)
