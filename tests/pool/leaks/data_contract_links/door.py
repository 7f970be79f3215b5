"""Leaves links, a pipe and a report that never ends where a judge will look."""

import os
import pathlib
import sys

options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
for number, feed in enumerate(sorted(pathlib.Path(options["--feeds"]).iterdir())):
    out = pathlib.Path(options["--out"], feed.name)
    out.mkdir()
    os.symlink(feed, out / "accepted")
    if number % 3 == 0:
        os.mkfifo(out / "report.json")
    elif number % 3 == 1:
        os.symlink("/etc/passwd", out / "report.json")
    else:
        (out / "report.json").write_text("[" * 1_000_000)
