"""Counts rows in numbers so long that Python can read them, and can no longer write down the sum of two."""

import pathlib
import sys

options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
most = "9" * 4300
for feed in sorted(pathlib.Path(options["--feeds"]).iterdir()):
    out = pathlib.Path(options["--out"], feed.name)
    out.mkdir()
    (out / "report.json").write_text(
        f'{{"status": "quarantined", "rows_in": 1, "rows_accepted": {most}, "rows_quarantined": {most}, "findings": []}}'
    )
