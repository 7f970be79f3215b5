"""Windows of traffic as stage 10 hands them over: what was computed and answered in a week, and what became known of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from pathlib import Path

import polars as pl

PROBABILITY = "probability"


@dataclass(frozen=True)
class Window:
    """A week of one service; tables are read when they are asked for."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def about(self) -> dict:
        return json.loads((self.folder / "window.json").read_text(encoding="utf-8"))

    @property
    def now(self) -> datetime:
        return datetime.fromisoformat(self.about["now"])

    @property
    def model_train_end(self) -> date:
        return date.fromisoformat(self.about["model_train_end"])

    @property
    def render(self) -> bool:
        return self.about["render"]

    @cached_property
    def rows(self) -> pl.DataFrame:
        """`row_id`, the features, `probability`."""
        return pl.read_parquet(self.folder / "rows.parquet")

    @cached_property
    def batch(self) -> pl.DataFrame | None:
        """`row_id` and the features as they were computed anew, if they were."""
        path = self.folder / "batch.parquet"
        return pl.read_parquet(path) if path.exists() else None

    @cached_property
    def labelled(self) -> pl.DataFrame:
        """`probability` and `label` of the rows whose label is known now; a correction replaces what it corrects."""
        path = self.folder / "labels.parquet"
        if not path.exists():
            return self.rows.select("row_id", PROBABILITY, label=pl.lit(None, pl.Boolean)).head(0)
        known = (
            pl.read_parquet(path)
            .filter(pl.col("label_known_at") <= self.now)
            .sort("label_known_at", maintain_order=True)
            .unique("row_id", keep="last")
        )
        return self.rows.select("row_id", PROBABILITY).join(known, on="row_id")


def windows(folder: Path) -> Iterator[Window]:
    """The windows in a folder, by name."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield Window(path)
