"""Say in a copied MLflow store that it lies elsewhere: python move_store.py DATABASE OLD NEW. MLflow keeps absolute paths."""

import sqlite3
import sys


def main(database, old, new):
    with sqlite3.connect(database) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for column in [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]:
                connection.execute(
                    f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE instr("{column}", ?)',
                    (old, new, old),
                )
    connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
