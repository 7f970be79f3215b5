"""Write down how else a logged model is called: python other_uri.py DATABASE URI OUT.

models:/ID is also runs:/RUN_ID/NAME, and the other way round; null where MLflow keeps no record of it, as for a model logged as files only.
"""

import json
import sqlite3
import sys
from contextlib import closing


def main(database, uri, out):
    kind, _, rest = uri.partition(":/")
    with closing(sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)) as connection:
        if kind == "models":
            found = "SELECT 'runs:/' || source_run_id || '/' || name FROM logged_models WHERE model_id = ?"
            other = connection.execute(found, (rest.strip("/"),)).fetchone()
        else:
            run, _, name = rest.strip("/").partition("/")
            found = "SELECT 'models:/' || model_id FROM logged_models WHERE source_run_id = ? AND name = ?"
            other = connection.execute(f"{found} ORDER BY creation_timestamp_ms DESC", (run, name)).fetchone()
    with open(out, "w", encoding="utf-8") as file:
        json.dump({"uri": other[0] if other else None}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
