"""The versions that are installed are the versions that are written down as tested."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]


def test_constraints_name_no_address_and_pin_each_package_exactly():
    for pin in PINS:
        assert pin.url is None
        assert [s.operator for s in pin.specifier] == ["=="]


@pytest.mark.parametrize("pin", [p for p in PINS if p.marker is None or p.marker.evaluate()], ids=lambda p: p.name)
def test_the_installed_version_is_the_tested_one(pin):
    assert metadata.version(pin.name) in pin.specifier
