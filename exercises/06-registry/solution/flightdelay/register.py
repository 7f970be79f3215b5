"""python -m flightdelay.register --usecase F --run-id ID --out F"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from flightdelay.registry import Registry
from flightdelay.tracking import tracking_server
from flightdelay.usecase import read_usecase


def run(usecase: Path, run_id: str, out: Path) -> None:
    """Put the model of a finished run into the registry. It is then a version like others, and champion of nothing."""
    with tracking_server():
        registry = Registry(read_usecase(usecase).model_name)
        with registry.locked():
            version = registry.register(run_id)
    out.write_text(json.dumps({"version": version}))


def main() -> None:
    parser = argparse.ArgumentParser(prog="register", description="Put a tracked run's model into the registry.")
    parser.add_argument("--usecase", type=Path, required=True)
    parser.add_argument("--run-id", required=True)
    parser.add_argument("--out", type=Path, required=True)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
