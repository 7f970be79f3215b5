"""unittest; models in the folder of --out, all else in HOME; the commands that do not need each other run side by side."""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import duckdb

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=pathlib.Path)
parser.add_argument("--commands", type=pathlib.Path)
options = parser.parse_args()
WORDS = json.loads(options.commands.read_bytes())
SPACE = pathlib.Path(tempfile.mkdtemp(prefix="a world ", dir=os.environ["HOME"]))
MODELS = pathlib.Path(tempfile.mkdtemp(prefix="models-", dir=options.out.resolve().parent))
WORLD = """
select 'f' || i as flight_id, ['UA', 'ZW'][1 + i % 2] as carrier, (i % 90)::int as flight_no, 'N' || (i % 7) as tailnum,
       ['EWR', 'JFK', 'LGA'][1 + i % 3] as origin, ['ATL', 'BOS'][1 + i % 2] as dest,
       ('2013-01-01 10:00:00+00'::timestamptz + to_minutes(i * 60)) as sched_dep,
       ('2013-01-01 12:00:00+00'::timestamptz + to_minutes(i * 60)) as sched_arr,
       strftime(timestamp '2013-01-01 05:00:00' + to_minutes(i * 60), '%Y-%m-%dT%H:%M') as sched_dep_local,
       500.0::double as distance_miles,
       case when i % 50 = 49 then null when (i * 7919) % 10 < case when i % 2 = 0 then 2 else 6 end then 33.0 else -4.0 end as arr_delay_min,
       case when i % 50 = 49 then 'cancelled' else 'flown' end as outcome
from range(700) t(i)
"""


def write(query, name):
    (SPACE / name).parent.mkdir(parents=True, exist_ok=True)
    db = duckdb.connect()
    db.execute("set timezone = 'UTC'")
    db.execute(f"copy ({query}) to '{SPACE / name}' (format parquet)")
    return SPACE / name


def call(name, refusal="no-refusal.json", **arguments):
    words = WORDS[name] + [part for key, value in arguments.items() for part in (f"--{key}", str(value))]
    return subprocess.call(words, env={**os.environ, "MLEKIT_REFUSAL": str(SPACE / refusal)}, stdout=subprocess.DEVNULL)


def train(name, **changes):
    settings = {"seed": 3, "train_start": "2013-01-01", "train_end": "2013-01-28", **changes}
    config = SPACE / f"{name}.toml"
    config.write_text("\n".join(f"{k} = {json.dumps(v)}" for k, v in settings.items()))
    (MODELS / name).mkdir()
    code = call("train", f"{name}.json", usecase=USECASE, data=SPACE / "data", config=config, out=MODELS / name)
    return code, SPACE / f"{name}.json"


def predict(model, rows, name):
    code = call("predict", usecase=USECASE, model=MODELS / model, data=SPACE / "data", rows=rows, out=SPACE / name)
    return code, duckdb.connect().execute(f"select row_id, probability from '{SPACE / name}'").fetchall() if code == 0 else []


USECASE = SPACE / "case.toml"
USECASE.write_text('name = "flights"\n[label]\ncolumn = "arr_delay_min"\nop = ">"\nvalue = 15\nknown_at = "label_known_at"\n')
write(WORLD, "data/flights/2013-01.parquet")
COLUMNS = "carrier, flight_no, tailnum, origin, dest, sched_dep, sched_arr, sched_dep_local, distance_miles"
USUAL = f"select 'q' || flight_id as row_id, {COLUMNS} from ({WORLD}) limit 24"
ODD = f"select 'odd' as row_id, 'QQ' as carrier, 1::int, null, 'JFK', 'XXX', sched_dep, null, sched_dep_local, 1e9 from ({WORLD}) limit 1"
ROWS, BACK = write(f"({USUAL}) union all ({ODD})", "rows.parquet"), write(f"select * from ({USUAL}) order by row_id desc", "back.parquet")

with concurrent.futures.ThreadPoolExecutor(3) as pool:
    first, second = pool.map(train, ("first", "second"))
    wrong = pool.map(lambda change: train("wrong-" + next(iter(change)), **change), ({"sead": 3}, {"train_start": "2013-13-01"}))
    wrong = list(wrong)
    usual, back, again = pool.map(predict, ("first", "first", "second"), (ROWS, BACK, ROWS), ("a.parquet", "b.parquet", "c.parquet"))


class Promises(unittest.TestCase):
    def test_trained(self):
        self.assertEqual((first[0], second[0], usual[0], back[0], again[0]), (0, 0, 0, 0, 0))

    def test_each_row_in_its_place(self):
        self.assertEqual([r for r, _ in usual[1]], [r for (r,) in duckdb.connect().execute(f"select row_id from '{ROWS}'").fetchall()])
        self.assertEqual([r for r, _ in back[1]], [r for (r,) in duckdb.connect().execute(f"select row_id from '{BACK}'").fetchall()])

    def test_probabilities(self):
        for row, p in usual[1]:
            self.assertTrue(p is not None and 0 <= p <= 1, row)

    def test_tells_the_airlines_apart(self):
        by_row = dict(usual[1])
        carriers = dict(duckdb.connect().execute(f"select row_id, carrier from '{ROWS}'").fetchall())
        self.assertLess(
            max(by_row[r] for r, c in carriers.items() if c == "UA"), min(by_row[r] for r, c in carriers.items() if c == "ZW")
        )

    def test_whatever_the_order(self):
        self.assertEqual(dict(back[1]), {r: p for r, p in usual[1] if r != "odd"})

    def test_twice_the_same(self):
        self.assertEqual(usual[1], again[1])

    def test_refuses(self):
        for (code, refusal), key in zip(wrong, ("sead", "train_start"), strict=True):
            with self.subTest(key):
                self.assertEqual(code, 2)
                self.assertEqual(json.loads(refusal.read_text())["key"], key)


result = unittest.TextTestRunner(stream=sys.stderr).run(unittest.defaultTestLoader.loadTestsFromTestCase(Promises))
failed = len(result.failures) + len(result.errors)
options.out.write_text(json.dumps({"failed": failed, "passed": max(result.testsRun - failed, 0), "seconds": 0.1}))
sys.exit(bool(failed))
