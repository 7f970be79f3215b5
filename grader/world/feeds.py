"""Feeds for `validate`: months as a source delivers them, spoiled in known ways or merely unusual.

Sizes, rows and columns are drawn from the world's seed, and so are the names of the folders, which say nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from grader.contract import tables
from grader.world import feed_usecase
from grader.world.build import ZONE, World, stream
from grader.world.delivery import Feed
from grader.world.feed_kinds import KINDS, TABLES, Source, draft_of
from grader.world.feed_usecase import LETTERS

if TYPE_CHECKING:
    import pandas as pd

MONTHS_OF_FEEDS = (3, 11)  # those in which the clocks change
MONTHS_OF_HISTORY = 2
CLOCKS = (-8, -5, 2, 5.75, 9)  # hours from UTC, by which `now` is written
KEYS = {table.name: table.key for table in tables.DATA}
COLUMNS = {table.name: [column.name for column in table.columns] for table in tables.DATA}


@dataclass(frozen=True)
class Case:
    """What one call of `validate` is given: feeds under names that say nothing, a history, and the time."""

    feeds: dict[str, Feed]
    month: str
    history: list[str]
    now: str
    usecase: str

    def of_kind(self, *kinds: str) -> str:
        """The name of the first feed of one of these kinds."""
        return next(name for kind in kinds for name, feed in self.feeds.items() if feed.kind == kind)


def make_feeds(world: World, history: Path) -> Case:
    """One feed of each kind for the month after `history`, a data folder laid down for a world `with_an_airline_to_come`."""
    import pandas as pd

    usecase = usecase_of(world)
    source = _source(world, {t: pd.read_parquet(history / t) for t in TABLES})
    names = stream(world.seed or 0, "feed names")
    feeds: dict[str, Feed] = {}
    for kind, (says, change) in KINDS.items():
        draft = draft_of(source, stream(world.seed or 0, f"feed {kind}"))
        change(draft)
        feeds[f"{names.integers(2**40):010x}"] = draft.finished(kind, says)
    clock = CLOCKS[int(stream(world.seed or 0, "clock of the feeds").integers(len(CLOCKS)))]
    now = source.now.tz_convert(timezone(timedelta(hours=clock))).isoformat()
    return Case(dict(sorted(feeds.items())), source.month, source.months, now, usecase)


def with_an_airline_to_come(world: World) -> World:
    """The world with one more airline, which has no flights: that it is in `airlines` is all that is known of it."""
    import pandas as pd

    draw, known = stream(world.seed or 0, "airline to come"), set(world.airlines["carrier"])
    codes = ("".join(draw.choice(list(LETTERS), 2)) for _ in range(999))
    code = next(code for code in codes if code not in known)
    more = pd.DataFrame({"carrier": [code], "name": [f"Airline {code}"]}).astype(world.airlines.dtypes)
    airlines = pd.concat([world.airlines, more]).sort_values("carrier", ignore_index=True)
    return replace(world, airlines=airlines)


def usecase_of(world: World) -> str:
    """The use case that is handed over with the feeds of a world."""
    return feed_usecase.drawn(stream(world.seed or 0, "use case of the feeds"))


def months_of(world: World) -> tuple[str, list[str]]:
    """The month that feeds bring, one in which the clocks change, and the months of the history before it."""
    number = int(stream(world.seed or 0, "month of the feeds").choice(MONTHS_OF_FEEDS))
    return world.months[number - 1], world.months[number - 1 - MONTHS_OF_HISTORY : number - 1]


def _source(world: World, history: dict[str, pd.DataFrame]) -> Source:
    month, months = months_of(world)
    flights = world.flights[world.month_of(world.flights) == month]
    observed = world.weather["observed_at"].dt.tz_convert(ZONE).dt.strftime("%Y-%m")
    weather = world.weather[observed == month]
    last = {
        "flights": history["flights"][world.month_of(history["flights"]) == months[-1]],
        "weather": history["weather"][
            history["weather"]["observed_at"].dt.tz_convert(ZONE).dt.strftime("%Y-%m") == months[-1]
        ],
    }
    airports, carriers = frozenset(world.airports["airport"]), frozenset(world.airlines["carrier"])
    rules, published = (tomllib.loads(text) for text in (usecase_of(world), feed_usecase.published()))
    return Source(month, months, flights, weather, last, history, airports, carriers, rules, published)


def renamed(case: Case, names: Sequence[str], seed: int, label: str) -> tuple[Case, dict[str, str]]:
    """Some feeds of a case under new names that say nothing, and which new name belongs to which old one."""
    draw = stream(seed, f"feed names {label}")
    new = {f"{draw.integers(2**40):010x}": name for name in names}
    feeds = {fresh: case.feeds[name] for fresh, name in sorted(new.items())}
    return replace(case, feeds=feeds), new
