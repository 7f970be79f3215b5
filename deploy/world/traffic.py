"""People who ask about the flights of the month: python -m world.traffic

Each question is about one flight or a few. A line tells how the last ten seconds went.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from itertools import count

import httpx

API = os.environ.get("API_URL", "http://proxy:8080")
SOURCE = os.environ.get("SOURCE_URL", "http://world:8000")
RATE = float(os.environ.get("REQUESTS_PER_SECOND", "20"))
LINE_SECONDS, PATIENCE = 10.0, 10.0
MOST_ROWS = 5


async def ask(client: httpx.AsyncClient, rows: list[dict], heard: list[tuple[str, float]]) -> None:
    began = time.monotonic()
    try:
        answer = await client.post(f"{API}/v1/predict", json={"rows": rows})
        said = f"version {answer.json()['model_version']}" if answer.status_code == 200 else str(answer.status_code)
    except httpx.HTTPError as problem:
        said = type(problem).__name__
    heard.append((said, time.monotonic() - began))


async def people() -> None:
    heard: list[tuple[str, float]] = []
    waiting: set[asyncio.Task] = set()
    began = told = time.monotonic()
    async with httpx.AsyncClient(timeout=PATIENCE, limits=httpx.Limits(max_connections=64)) as client:
        flights = (await client.get(f"{SOURCE}/requests")).json()
        for number in count():
            waiting.add(
                one := asyncio.create_task(ask(client, random.sample(flights, random.randint(1, MOST_ROWS)), heard))
            )
            one.add_done_callback(waiting.discard)
            if (now := time.monotonic()) - told >= LINE_SECONDS:
                print(line(heard, now - told), flush=True)
                heard, told = [], now
                flights = (await client.get(f"{SOURCE}/requests")).json()
            await asyncio.sleep(max(0.0, began + (number + 1) / RATE - time.monotonic()))


def line(heard: list[tuple[str, float]], seconds: float) -> str:
    if not heard:
        return "no answers"
    waited = sorted(took for _, took in heard)
    kinds = ", ".join(f"{times} {kind}" for kind, times in Counter(kind for kind, _ in heard).most_common())
    p50, p99 = (waited[int(share * (len(waited) - 1))] * 1000 for share in (0.5, 0.99))
    return f"{len(heard) / seconds:.1f} answers/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms: {kinds}"


if __name__ == "__main__":
    asyncio.run(people())
