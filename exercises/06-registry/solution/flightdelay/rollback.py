"""python -m flightdelay.rollback --usecase F --out F"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from flightdelay.config import refuse
from flightdelay.registry import Registry
from flightdelay.tracking import tracking_server
from flightdelay.usecase import read_usecase


def run(usecase: Path, out: Path) -> None:
    """Make the champion before this one champion again. At night nobody wants to look up which one that was."""
    with tracking_server():
        registry = Registry(read_usecase(usecase).model_name)
        with registry.locked():
            before, after = registry.champion(), registry.previous()
            if after is None:
                refuse("no_previous_champion", f"no champion of {registry.model} before {before} is known")
            registry.crown(after, "rollback", before, [])
    out.write_text(json.dumps({"from": before, "to": after}))


def main() -> None:
    parser = argparse.ArgumentParser(prog="rollback", description="Make the previous champion the champion again.")
    for name in ("usecase", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
