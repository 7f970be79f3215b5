"""Wait until a table of a store has rows: python watch_store.py DATABASE TABLE [TABLE ...]

`TABLE:N` waits until it has more than N; `champion:V` until the alias champion points to another version than V.

Looks without taking a lock, so that the command that writes is not disturbed; what is torn while it writes is looked at again.
"""

import sqlite3
import sys
import time
from contextlib import closing

POLL_SECONDS = 0.003


def has_rows(database, table):
    table, _, more_than = table.partition(":")
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)) as connection:
            if table == "champion":
                found = connection.execute("SELECT version FROM registered_model_aliases WHERE alias = ?", (table,))
                return any(str(version) != more_than for (version,) in found.fetchall())
            return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > int(more_than or 0)
    except sqlite3.Error:
        return False


if __name__ == "__main__":
    while not any(has_rows(sys.argv[1], table) for table in sys.argv[2:]):
        time.sleep(POLL_SECONDS)
