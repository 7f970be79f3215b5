"""The source of months, with a clock that goes on when it is told to, or by itself.

    uvicorn world.source:app
    python -m world.next      the next month

A year of the kit's stage 11: what is delivered, when labels are put right, and what is planted is drawn from WORLD_SEED.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse

from grader.world.layout import as_objects
from grader.world.replay import STEPS, Season, lay_down, make_season

WORLD = Path(os.environ.get("WORLD", "/world"))
SECONDS_PER_MONTH = float(os.environ.get("WORLD_SECONDS_PER_MONTH", "0"))  # 0: only when told to
FILES, CLOCK = WORLD / "source", WORLD / "step"


class Year:
    """The season, and the step that it has come to; both outlive a restart."""

    def __init__(self) -> None:
        self.season: Season = make_season(int(os.environ.get("WORLD_SEED", "5")))
        self.lock = threading.Lock()
        if not CLOCK.exists():
            shutil.rmtree(WORLD / "history", ignore_errors=True)
            lay_down(self.season, self.season.history, WORLD / "history")
            (WORLD / "usecase.toml").write_text(self.season.usecase, encoding="utf-8")
            FILES.mkdir(exist_ok=True)
            self._set(0)

    @property
    def step(self) -> int:
        return int(CLOCK.read_text())

    def _set(self, step: int) -> None:
        aside = CLOCK.with_suffix(".part")
        aside.write_text(str(step))
        aside.replace(CLOCK)

    def next(self) -> int:
        """Let a month pass. Raises ValueError when the year is over."""
        with self.lock:
            if (step := self.step) == STEPS:
                raise ValueError(f"the year is over after {STEPS} months")
            self.season.deliver(step + 1, FILES)
            self._set(step + 1)
            return step + 1

    def requests(self) -> list[dict[str, Any]]:
        """Flights of the month that is running, as they are asked about."""
        return as_objects(self.season.scored[self.season.month(self.step + 1)].table)


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    app.state.year = year = Year()
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(SECONDS_PER_MONTH) and year.step < STEPS:
            year.next()

    if SECONDS_PER_MONTH:
        threading.Thread(target=go_on, daemon=True).start()
    yield
    over.set()


app = FastAPI(title="world", lifespan=life)


@app.get("/calendar")
def calendar(after: int = -1) -> list[dict[str, Any]]:
    """The messages of the months that came after a step, as stage 11 puts them into the mailbox."""
    year: Year = app.state.year
    return [year.season.message(step) for step in range(max(after, -1) + 1, year.step + 1)]


@app.post("/next")
def go_on() -> dict[str, Any]:
    """Let a month pass; its message."""
    year: Year = app.state.year
    try:
        return year.season.message(year.next())
    except ValueError as problem:
        raise HTTPException(409, str(problem)) from None


@app.get("/requests")
def requests() -> list[dict[str, Any]]:
    return app.state.year.requests()


@app.get("/{path:path}")
def file(path: str) -> FileResponse:
    found = (FILES / path).resolve()
    if not found.is_relative_to(FILES) or not found.is_file():
        raise HTTPException(404, "there is no such file")
    return FileResponse(found, media_type="application/octet-stream")
