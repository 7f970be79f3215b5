"""What the grader confronts a submission with: data whose truth it owns.

`build(seed)` makes a hidden year, `build(None)` is the real one; `write_data` and `draw_rows` lay parts of it
down in the shape of the contract.
"""

from grader.world.build import World, build, seed_from_secret
from grader.world.content import folder_hash, table_hash
from grader.world.layout import Rows, draw_rows, write_data, write_manifest

__all__ = [
    "Rows",
    "World",
    "build",
    "draw_rows",
    "folder_hash",
    "seed_from_secret",
    "table_hash",
    "write_data",
    "write_manifest",
]
