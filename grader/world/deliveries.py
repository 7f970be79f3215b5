"""Months as a source delivers them to a pipeline: one after the other, some rows of them wrong, and one that is spoiled whole."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grader.world import feed_usecase
from grader.world.build import ZONE, World, stream
from grader.world.delivery import Feed
from grader.world.feed_kinds import KINDS, TABLES, Draft, Source, day_after, sample

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

    `spoiled` is what it has of the second to arrive before somebody mended it.
    """

    history: list[str]
    feeds: dict[str, Feed]
    order: list[str]
    spoiled: Feed
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

    def delivered(month: str, kind: str) -> Feed:
        draft, (says, change) = _draft(world, known, month, before, flights_per_month), KINDS[kind]
        change(draft)
        return draft.finished(kind, says)

    feeds = {month: delivered(month, kind) for month, kind in zip(arriving, kinds, strict=True)}
    spoiled = delivered(order[1], SPOILED[int(stream(seed, "what spoils a month").integers(len(SPOILED)))])
    return Deliveries(known, feeds, order, spoiled, day_after(arriving[-1]), usecase_of(world))


def _draft(world: World, known: list[str], month: str, before: dict[str, pd.DataFrame], flights: int) -> Draft:
    """A month as it is, to be changed."""
    draw = stream(world.seed or 0, f"delivery of {month}")
    of_month = world.flights[world.month_of(world.flights) == month]
    observed = world.weather["observed_at"].dt.tz_convert(ZONE).dt.strftime("%Y-%m")
    weather = world.weather[observed == month].reset_index(drop=True)
    rules, published = (tomllib.loads(text) for text in (usecase_of(world), feed_usecase.published()))
    source = Source(
        month, known, of_month, weather, before, before, frozenset(world.airports["airport"]),
        frozenset(world.airlines["carrier"]), rules, published,
    )  # fmt: skip
    return Draft(draw, source, {"flights": sample(of_month, min(flights, len(of_month)), draw), "weather": weather})
