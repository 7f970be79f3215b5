"""Months as a source delivers them to a pipeline: one after the other, some rows of them wrong, and one that is spoiled whole."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grader.world import feed_usecase
from grader.world.build import ZONE, World, stream
from grader.world.delivery import Feed
from grader.world.feed_kinds import CLOSE_MINUTES, KINDS, TABLES, Draft, Source, day_after, sample

if TYPE_CHECKING:
    import pandas as pd

HISTORY, ARRIVING = 2, 3  # months
LATE_MINUTES, CLOSE = 15, 0.03  # of rates of late flights
WRONG = ("several_faults", "doubled_keys", "unknown_carrier")  # of some rows, one kind a month
ORDERS = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))  # all but that of the calendar
SPOILED = ("missing_in_flights", "renamed_in_flights", "text_for_numbers", "kilometres")  # the whole month is refused


@dataclass(frozen=True)
class Deliveries:
    """What the source has: `feeds` by month, which arrive in the order of `order`, at least one of them late.

    `spoiled` is what it has of the second to arrive before somebody mended it, `corrected` what it has of the first once somebody has
    put it right.
    """

    history: list[str]
    feeds: dict[str, Feed]
    order: list[str]
    spoiled: Feed
    corrected: Feed
    now: str
    usecase: str


def usecase_of(world: World) -> str:
    """The use case of the stage, whose thresholds no ordinary month comes near, whatever its season."""
    return feed_usecase.drawn(stream(world.seed or 0, "use case of the source"))


def months_of(world: World) -> tuple[list[str], list[str], list[str]]:
    """The months of the history, those that come after it, and the order in which these arrive.

    The first to arrive is about as late as the history, so that a model of the one is calibrated on the other and its version becomes
    champion: what happens to a promotion can only be seen where there is one.
    """
    flown = world.flights[world.flights["arr_delay_min"].notna()]
    rates = (flown["arr_delay_min"] > LATE_MINUTES).groupby(world.month_of(flown)).mean()
    found = []
    for first in range(len(world.months) - HISTORY - ARRIVING + 1):
        months = world.months[first : first + HISTORY + ARRIVING]
        known, arriving = months[:HISTORY], months[HISTORY:]
        for places in ORDERS:
            order = [arriving[place] for place in places]
            found.append((abs(float(rates[order[0]] - rates[known].mean())), known, arriving, order))
    close = [story for distance, *story in found if distance <= CLOSE] or [list(min(found)[1:])]
    known, arriving, order = close[int(stream(world.seed or 0, "months of the source").integers(len(close)))]
    return known, arriving, order


def make_deliveries(world: World, history: Path, flights_per_month: int) -> Deliveries:
    """Feeds for the months after `history`, a data folder that `write_data` has laid down."""
    import pandas as pd

    known, arriving, order = months_of(world)
    seed = world.seed or 0
    before = {table: pd.read_parquet(history / table) for table in TABLES}
    kinds = list(WRONG)
    stream(seed, "what is wrong with months").shuffle(kinds)

    def drafted(month: str) -> Draft:
        return _draft(world, known, month, before, flights_per_month, day_after(arriving[-1]))

    def delivered(month: str, kind: str) -> Feed:
        draft, (says, change) = drafted(month), KINDS[kind]
        change(draft)
        if kind in WRONG:
            to_come(draft)
            says += ", and flights of days to come"
            if month == order[1]:
                in_two_files(draft)
                says += ", each table in two files"
        return draft.finished(kind, says)

    feeds = {month: delivered(month, kind) for month, kind in zip(arriving, kinds, strict=True)}
    spoiled = delivered(order[1], SPOILED[int(stream(seed, "what spoils a month").integers(len(SPOILED)))])
    put_right(draft := drafted(order[0]))
    corrected = draft.finished("corrected", "the same month, put right")
    return Deliveries(known, feeds, order, spoiled, corrected, day_after(arriving[-1]), usecase_of(world))


def to_come(draft: Draft) -> None:
    """Some flights that are scheduled after `now`, though long before whoever reads this: half of them by minutes, half by days."""
    import pandas as pd

    rows = draft.some("flights", 12, 40)
    minutes = [int(draft.draw.integers(1, CLOSE_MINUTES)) * (1 if place % 2 else 24 * 60) for place in range(len(rows))]
    times = pd.Series([draft.source.now + pd.Timedelta(minutes=after) for after in minutes]).dt.as_unit("us")
    draft.set("flights", "sched_dep", rows, times.to_numpy())
    draft.wrong("flights", "out_of_range", "sched_dep", rows)


def in_two_files(draft: Draft) -> None:
    """Each table is cut somewhere in its middle."""
    for table, frame in draft.frames.items():
        draft.cut_at[table] = int(draft.draw.integers(len(frame) // 4, 3 * len(frame) // 4))


def put_right(draft: Draft) -> None:
    """Nothing is wrong any more; some flights are gone, and some have another distance."""
    rows = draft.some("flights", 80, 120)
    draft.set(
        "flights", "distance_miles", rows[::2], draft.frames["flights"]["distance_miles"].iloc[rows[::2]].to_numpy() + 1
    )
    flights = draft.frames["flights"]
    draft.frames["flights"] = flights.drop(index=flights.index[rows[1::2]]).reset_index(drop=True)


def _draft(
    world: World, known: list[str], month: str, before: dict[str, pd.DataFrame], flights: int, now: str | None = None
) -> Draft:
    """A month as it is, to be changed."""
    draw = stream(world.seed or 0, f"delivery of {month}")
    of_month = world.flights[world.month_of(world.flights) == month]
    observed = world.weather["observed_at"].dt.tz_convert(ZONE).dt.strftime("%Y-%m")
    weather = world.weather[observed == month].reset_index(drop=True)
    rules, published = (tomllib.loads(text) for text in (usecase_of(world), feed_usecase.published()))
    source = Source(
        month, known, of_month, weather, before, before, frozenset(world.airports["airport"]),
        frozenset(world.airlines["carrier"]), rules, published, now,
    )  # fmt: skip
    return Draft(draw, source, {"flights": sample(of_month, min(flights, len(of_month)), draw), "weather": weather})
