"""Take a champion away in a copied MLflow store: python alter_registry.py DATABASE WHAT MODEL VERSION.

WHAT is no-champion, where no alias is left, or deleted-champion, where the alias is left and its version deleted.
"""

import sqlite3
import sys


def main(database, what, model, version):
    with sqlite3.connect(database) as connection:
        if what == "no-champion":
            connection.execute("DELETE FROM registered_model_aliases WHERE name = ?", (model,))
        else:
            connection.execute(
                "UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE name = ? AND version = ?",
                (model, int(version)),
            )
    connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
