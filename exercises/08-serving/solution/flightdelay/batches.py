"""Requests that come while the model is at work are answered together by the next call: one call costs little more for many rows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")
Answer = TypeVar("Answer")

MOST_ROWS = 1_000  # of one call


@dataclass
class Waiting(Generic[Row, Answer]):
    rows: list[Row]
    answer: asyncio.Future[list[Answer]]


class Batches(Generic[Row, Answer]):
    """Answers lists of rows with `work`, which gives one answer for each row and runs in a thread, one call at a time."""

    def __init__(self, work: Callable[[list[Row]], list[Answer]]) -> None:
        self._work = work
        self._waiting: deque[Waiting[Row, Answer]] = deque()
        self._arrived = asyncio.Event()

    async def ask(self, rows: list[Row]) -> list[Answer]:
        """The answers to rows, in their order. Raises what `work` raises about them."""
        one = Waiting(rows, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        self._arrived.set()
        return await one.answer

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._arrived.wait()
            batch = self._next()
            if not await self._answer(batch) and len(batch) > 1:
                for one in batch:  # one of them is at fault, and only that one has to hear of it
                    await self._answer([one])

    def _next(self) -> list[Waiting[Row, Answer]]:
        batch = [self._waiting.popleft()]
        size = len(batch[0].rows)
        while self._waiting and size + len(self._waiting[0].rows) <= MOST_ROWS:
            batch.append(self._waiting.popleft())
            size += len(batch[-1].rows)
        if not self._waiting:
            self._arrived.clear()
        return batch

    async def _answer(self, batch: list[Waiting[Row, Answer]]) -> bool:
        rows = [row for one in batch for row in one.rows]
        try:
            answers = iter(await asyncio.to_thread(self._work, rows))
        except Exception as problem:
            if len(batch) == 1 and not batch[0].answer.done():
                batch[0].answer.set_exception(problem)
            return False
        for one in batch:
            found = [next(answers) for _ in one.rows]
            if not one.answer.done():  # whoever asked may be gone
                one.answer.set_result(found)
        return True
