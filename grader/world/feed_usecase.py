"""The use case that a grading hands over with its feeds: the published one with other numbers, patterns and names.

All of them are drawn from the world's seed, within margins that right feeds and wrong ones keep (ADR 0009). Some are wider than
those that are published and some narrower, in every world, so that whoever carries a copy of the file stops and accepts otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grader import home

if TYPE_CHECKING:
    import numpy as np

OUTCOMES = ("returned", "suspended", "rerouted", "grounded")
LETTERS = "BDFGHKLMNPRTVX"


def published() -> str:
    """The use case as CONTRACT.md prints it."""
    return (home.datasets() / "usecase.toml").read_text(encoding="utf-8")


def drawn(draw: np.random.Generator) -> str:
    """The use case of one grading, as TOML."""

    def number(low: int, high: int, step: int = 1) -> int:
        return step * int(draw.integers(low // step, high // step + 1))

    letters = "".join(draw.choice(list(LETTERS), 2))
    changes = {
        "null_share = 0.20 ": f"null_share = {number(28, 32) / 100:.2f} ",
        "mean_factor = 1.3 ": f"mean_factor = {number(142, 148) / 100:.2f} ",
        "[0-9]']": f"[0-9]', '{letters}-[0-9]{{4}}-[0-9]{{4}}']",
        "max = 12500 ": f"max = {number(9_000, 10_500, 100)} ",
        "dep_delay_min = { min = -240, max = 2880 }": f"dep_delay_min = {{ min = -300, max = {number(3_300, 4_000, 10)} }}",
        "arr_delay_min = { min = -240, max = 2880 }": f"arr_delay_min = {{ min = -300, max = {number(3_300, 4_000, 10)} }}",
        '"diverted"]': f'"diverted", "{OUTCOMES[int(draw.integers(len(OUTCOMES)))]}"]',
        "precip = { min = 0, max = 20 }": f"precip = {{ min = 0, max = {number(8, 12)} }}",
        "pressure = { min = 850,": f"pressure = {{ min = {number(800, 840)},",
    }
    text = published()
    for old, new in changes.items():
        if text.count(old) != 1:
            raise ValueError(f"the published use case has {old!r} {text.count(old)} times, not once")
        text = text.replace(old, new)
    return text
