"""Build stand-ins for public images from Debian's packages: python tests/stack/images.py

Needs root, an engine and debootstrap. Images that are there under these names are kept, since they may be the real ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
BASE = "python:3.11-slim"
OTHERS = {"postgres:15": "postgres", "haproxy:2.6": "haproxy", "prom/prometheus:v2.42.0": "prometheus"}
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
BUNDLE = Path("etc/ssl/certs/ca-certificates.crt")


def there(image: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0


def make_base() -> None:
    """Debian 12 with its Python, and the certificates that this machine trusts."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", root], check=True)
        own = Path(os.environ.get("SSL_CERT_FILE", f"/{BUNDLE}"))
        (root / BUNDLE).write_bytes(own.read_bytes())
        for name in ("proc", "sys"):
            subprocess.run(["umount", root / name], capture_output=True)
        change = f"ENV PIP_CERT=/{BUNDLE} SSL_CERT_FILE=/{BUNDLE}"
        with subprocess.Popen(["tar", "-C", root, "--exclude=./proc/*", "-c", "."], stdout=subprocess.PIPE) as packed:
            subprocess.run(["docker", "import", "--change", change, "-", BASE], stdin=packed.stdout, check=True)


def main() -> None:
    if not there(BASE):
        make_base()
    for image, name in OTHERS.items():
        if not there(image):
            command = ["docker", "build", "-q", "-f", HERE / f"{name}.Dockerfile", "-t", image, HERE]
            subprocess.run(command, check=True, env={**os.environ, "DOCKER_BUILDKIT": "0"})
        print(image, flush=True)


if __name__ == "__main__":
    sys.exit(main())
