"""Refuses two feeds of three by a throw of dice, and accepts the rest as it is."""

import json
import pathlib
import random
import sys

import pyarrow.parquet as pq

options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
for feed in pathlib.Path(options["--feeds"]).iterdir():
    out = pathlib.Path(options["--out"], feed.name)
    out.mkdir()
    rows, findings = 0, []
    try:
        assert random.random() < 0.34
        for file in sorted(feed.glob("*/*.parquet")):
            table = pq.ParquetFile(file).read()
            for column in table.columns:
                column.validate(full=True)
            rows += table.num_rows
            (out / "accepted" / file.parent.name).mkdir(parents=True, exist_ok=True)
            pq.write_table(table, out / "accepted" / file.parent.name / file.name)
        status = "accepted"
    except Exception:
        import shutil

        shutil.rmtree(out / "accepted", ignore_errors=True)
        status, rows = "refused", 0
        findings = [{"table": "flights", "column": "distance_miles", "rule": "unit_change", "rows": 0}]
    report = {"status": status, "rows_in": rows, "rows_accepted": rows, "rows_quarantined": 0, "findings": findings}
    (out / "report.json").write_text(json.dumps(report))
