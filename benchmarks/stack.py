"""What the stack of docker-compose.yml takes and gives: time to come up, memory, requests a second, and what a replica that dies costs.

python benchmarks/stack.py --out benchmarks/results/stack.md

Needs an engine and images (tests/stack/engine.sh). The client runs on the same machine and takes its share of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from grader.checks.asking import PREDICT, rows_of
from grader.world.replay import make_season

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from stackkit import Stack, lacking, said

BATCH, KILLED_AFTER = 100, 4.0


@dataclass
class Heard:
    """What clients heard in so many seconds."""

    seconds: float
    milliseconds: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def row(self, name: str, rows: int) -> str:
        waited = sorted(self.milliseconds)
        p50, p99 = (waited[int(share * (len(waited) - 1))] for share in (0.5, 0.99))
        rate = len(waited) / self.seconds
        return f"| {name} | {rate:.0f} | {rate * rows:.0f} | {p50:.0f} | {p99:.0f} | {len(self.lost)} |"


async def ask(url: str, bodies: list[bytes], clients: int, seconds: float) -> Heard:
    """So many clients, each with one request at a time, one right after the other."""
    heard = Heard(seconds)
    began = time.monotonic()

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        while time.monotonic() - began < seconds:
            sent = time.monotonic()
            number += clients
            try:
                async with session.post(
                    url, data=bodies[number % len(bodies)], headers={"Content-Type": "application/json"}
                ) as answer:
                    await answer.read()
                    if answer.status != 200:
                        heard.lost.append(str(answer.status))
                        continue
            except (aiohttp.ClientError, TimeoutError) as problem:
                heard.lost.append(type(problem).__name__)
                continue
            heard.milliseconds.append((time.monotonic() - sent) * 1000)

    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
        await asyncio.gather(*(one(session, number) for number in range(clients)))
    return heard


def memory(stack: Stack) -> dict[str, float]:
    """MiB in use, by service."""
    names = {id_: name for name, id_ in stack.ids().items()}
    lines = said("docker", "stats", "--no-stream", "--no-trunc", "--format", "{{json .}}", *names).stdout.splitlines()
    unit = {"B": 2**-20, "KiB": 2**-10, "MiB": 1.0, "GiB": 1024.0}
    found = {}
    for line in map(json.loads, lines):
        used = line["MemUsage"].split(" / ")[0]
        number = used.rstrip("BKMGi")
        found[names[line["ID"]]] = float(number) * unit[used[len(number) :]]
    return found


def measured(stack: Stack, bodies: list[bytes], clients: int, seconds: float) -> tuple[Heard, dict[str, float]]:
    """Load, and the memory in its midst."""
    seen: dict[str, float] = {}

    def look() -> None:
        time.sleep(seconds / 2)
        seen.update(memory(stack))

    looking = threading.Thread(target=look)
    looking.start()
    heard = asyncio.run(ask(stack.url("API_PORT") + PREDICT, bodies, clients, seconds))
    looking.join()
    return heard, seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--ups", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if why := lacking():
        sys.exit(f"not measured: {why}")
    rows = rows_of(make_season(5).scored["2012-09"].table)
    singles = [json.dumps({"rows": [row]}).encode() for row in rows]
    batches = [json.dumps({"rows": rows[at : at + BATCH]}).encode() for at in range(0, len(rows), BATCH)]
    lines, ups = [], []
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack("bench", Path(folder), {"EVERY_SECONDS": "60"})
        try:
            stack.down("--volumes")
            ups.append(stack.up())
            began = time.monotonic()
            stack.answered(0, 300)
            first = ups[0] + time.monotonic() - began
            for _ in range(given.ups - 1):
                stack.down()
                ups.append(stack.up())
            stack.wait("ready", lambda: stack.predict(rows[:1]).status_code == 200, 60, "proxy")
            time.sleep(30)
            rest = memory(stack)
            of_two, busy = measured(stack, singles, given.clients, given.seconds)
            of_two_batches, busier = measured(stack, batches, given.clients, given.seconds)
            alone = asyncio.run(ask(stack.url("API_PORT") + PREDICT, singles, 1, given.seconds))
            killing = threading.Timer(KILLED_AFTER, stack.crash, ("api-1",))
            killing.start()
            killed, _ = measured(stack, singles, given.clients, given.seconds)
            killing.join()
            stack.wait("healthy", lambda: not stack.ill(), 60, "api-1")
            stack.docker("stop", "api-2")
            time.sleep(5)
            of_one, _ = measured(stack, singles, given.clients, given.seconds)
            of_one_batches, _ = measured(stack, batches, given.clients, given.seconds)
        finally:
            stack.down("--volumes")
    lines += [
        "# What the stack takes and gives", "",
        f"`python benchmarks/stack.py --seconds {given.seconds:g} --clients {given.clients} --ups {given.ups}`", "",
        f"{os.cpu_count()} cores, {platform.machine()}, client, world and all services on one machine; load of others on it at the end: "
        f"{os.getloadavg()[2]:.1f}.", "",
        "| coming up | seconds |", "|---|---|",
        f"| `up` to healthy, new volumes | {ups[0]:.0f} |",
        f"| `up` until the first champion is there | {first:.0f} |",
        f"| `up` to healthy, volumes of before, median of {len(ups) - 1} | {statistics.median(ups[1:] or ups):.0f} |", "",
        "| requests to the proxy | requests/s | rows/s | p50 ms | p99 ms | lost |", "|---|---|---|---|---|---|",
        alone.row("two replicas, one row, 1 client", 1),
        of_two.row(f"two replicas, one row, {given.clients} clients", 1),
        of_one.row(f"one replica, one row, {given.clients} clients", 1),
        of_two_batches.row(f"two replicas, {BATCH} rows, {given.clients} clients", BATCH),
        of_one_batches.row(f"one replica, {BATCH} rows, {given.clients} clients", BATCH),
        killed.row(f"two replicas, one row, {given.clients} clients, one replica killed", 1), "",
        "| MiB of | at rest | one row | batches |", "|---|---|---|---|",
        *(f"| {name} | {rest[name]:.0f} | {busy[name]:.0f} | {busier[name]:.0f} |" for name in sorted(rest)),
        f"| all | {sum(rest.values()):.0f} | {sum(busy.values()):.0f} | {sum(busier.values()):.0f} |",
    ]  # fmt: skip
    text = "\n".join(lines) + "\n"
    print(text)
    if killed.lost:
        print(f"lost on the kill: {sorted(set(killed.lost))}")
    if given.out:
        given.out.write_text(text)


if __name__ == "__main__":
    main()
