"""A year as it comes to a system that has to keep its own model right: month by month, labels late, and six things planted in it.

Months differ from each other by chance alone, since days of the whole year are dealt out to them anew and nothing wanders. What is
planted is a change of who is late, which stays; a month whose arrivals were noted for other flights, until they are corrected; a month
that cannot be had at first; one that comes again so that it cannot be used; and an operator's order to train on days that no longer
hold. When each happens is drawn.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from grader.contract.retraining import ORDER_KEYS
from grader.world import feed_usecase
from grader.world.build import LATE_MINUTES, ZONE, Replay, World, build, stream
from grader.world.delivery import Feed, File
from grader.world.layout import Rows, rows_of, write_data

if TYPE_CHECKING:
    import pandas as pd

HISTORY, STEPS = 2, 9  # months that are there before, and those that arrive; the one after them is scored too
DELIVERED, SCORED = 4_500, 3_000  # flights of a month
SETTLING = 2  # steps after that of the change in which training again is no flapping
OPEN_DAYS = (3, 6)  # at the end of a month, whose flights come with the next step
LACKING = ("flights", "weather", "manifest", "bytes")  # what a month that cannot be had lacks
NOT_ORDERED = (3, 9)  # days at each end of the history that an order leaves out
GONE = "carrier"  # the column without which a month comes again
HICCUPS = 2  # files whose first delivery fails


@dataclass(frozen=True)
class Story:
    """At which steps something happens.

    Attributes
    ----------
    change : from the month of this step on, other flights are late.
    wrong : the labels of this step's month belong to other flights; they are put right two steps later.
    lacking : this step's month cannot be had; it comes with the next step.
    order : somebody asks for a model of days before the change, which no longer hold.
    down : the loop is killed while it waits, and the message of this step is there when it starts.
    """

    change: int
    wrong: int
    lacking: int
    order: int
    down: int

    @property
    def corrected(self) -> int:
        return self.wrong + 2

    @property
    def again(self) -> int:
        """The step at which the month before comes again so that it cannot be used; what came of it at first stays."""
        busy = {self.wrong, self.wrong + 1, self.corrected, self.lacking, self.lacking + 1, self.down}
        return next(step for step in range(2, self.change + 1) if step not in busy)

    @property
    def settling(self) -> range:
        """The steps at which a change gives reason to train."""
        return range(self.change, self.change + SETTLING + 1)

    @property
    def quiet(self) -> list[int]:
        """The steps at which nothing gives reason to train."""
        busy = {*self.settling, self.wrong, self.wrong + 1, self.order}
        return [step for step in range(1, STEPS + 1) if step not in busy]


def _clear(story: Story) -> bool:
    """Whether no two things hide each other, and there are quiet months, and months in which a repair shows."""
    of_labels = {story.wrong, story.wrong + 1, story.corrected}
    settled, quiet = story.settling[-1] + 1, story.quiet
    return (
        not of_labels & set(story.settling)
        and story.lacking
        not in {*of_labels, story.change - 1, story.change, story.change + 1, story.down, story.order, STEPS}
        and story.order > settled
        and story.order not in of_labels - {story.corrected}
        and len(quiet) >= 3
        and story.down in quiet
    )


# All that are clear, so that what has happened says little of what will.
STORIES = tuple(
    story
    for change in range(3, STEPS - SETTLING - 1)
    for wrong in range(1, STEPS - 1)
    for lacking in range(1, STEPS)
    for order in (STEPS - 1, STEPS)
    for down in range(1, STEPS + 1)
    if _clear(story := Story(change, wrong, lacking, order, down))
)


@dataclass(frozen=True)
class Season:
    """A replay: the year, when what happens, and what is handed out.

    Attributes
    ----------
    flights : the delivered ones of the year, as they really were.
    scored : rows of each month that are delivered to nobody.
    unchanged : the delivered flights as they had been if nothing changed; the same up to the month of the change.
    """

    world: World
    story: Story
    usecase: str
    flights: pd.DataFrame
    scored: dict[str, Rows]
    hiccups: dict[str, list[str]]
    unchanged: pd.DataFrame

    @property
    def as_before(self) -> Season:
        """The same year in which nothing changes."""
        return replace(self, flights=self.unchanged)

    @property
    def history(self) -> list[str]:
        return self.world.months[:HISTORY]

    def month(self, step: int) -> str:
        """The month that first arrives at a step, from 1; of one more than there are steps, the month after all."""
        return self.world.months[HISTORY + step - 1]

    def months(self, step: int) -> list[str]:
        """The months that a step names: the newest, the one before, which is whole by now, and one whose labels were put right."""
        found = [self.month(n) for n in (step - 1, step) if n >= 1]
        return [self.month(self.story.wrong), *found] if step == self.story.corrected else found

    def now(self, step: int) -> str:
        """The morning after a month, RFC 3339."""
        import pandas as pd

        after = pd.Timestamp(f"{self.world.months[HISTORY - 1 + step]}-01", tz=ZONE) + pd.offsets.MonthBegin(1)
        return (after.tz_convert("UTC") + pd.Timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def message(self, step: int) -> dict[str, object]:
        """What the mailbox holds at a step."""
        found: dict[str, object] = {"step": step, "now": self.now(step), "months": self.months(step)}
        if step == self.story.order:
            found["order"] = dict(zip(ORDER_KEYS, self.ordered, strict=True))
        return found

    @cached_property
    def ordered(self) -> tuple[str, str]:
        """The first and the last day of those that somebody asks for a model of: nobody else's choice.

        They begin in the history, and end with days of a month of which there is only what came first.
        """
        step = self.story.again - 1
        came = self.delivered(self.month(step), step)["sched_dep_local"].str.slice(0, 10)
        first, last = (sorted(days.unique()) for days in (self.flights["sched_dep_local"].str.slice(0, 10), came))
        cut = stream(self.world.seed or 0, "days of an order").integers(*NOT_ORDERED, 2)
        return first[int(cut[0])], last[-1 - int(cut[1])]

    def delivered(self, month: str, step: int) -> pd.DataFrame:
        """The flights of a month that a step delivers, as they really were: the newest month lacks its last days."""
        flights = self.flights[self.world.month_of(self.flights) == month]
        if self.month(step) != month:
            return flights
        days = flights["sched_dep_local"].str.slice(0, 10)
        draw = stream(self.world.seed or 0, f"days of {month} that are open")
        last = int(days.max()[8:]) - int(draw.integers(OPEN_DAYS[0], OPEN_DAYS[1] + 1))
        return flights[days <= f"{month}-{last:02d}"]

    def deliver(self, step: int, folder: Path) -> None:
        """Put what the source has at a step into its folder: nothing of months to come."""
        folder.mkdir(parents=True, exist_ok=True)
        for month in self.months(step):
            aside, place = folder / f".{month}", folder / month
            self.feed(month, step).write(aside)
            self._take_away(aside, month, step)
            shutil.rmtree(place, ignore_errors=True)
            aside.rename(place)

    def _take_away(self, folder: Path, month: str, step: int) -> None:
        if month != self.month(step) or step != self.story.lacking:
            return
        draw = stream(self.world.seed or 0, "what a month lacks")
        lacking = LACKING[int(draw.integers(len(LACKING)))]
        table = lacking if lacking in ("flights", "weather") else "flights"
        path = folder / ("manifest.json" if lacking == "manifest" else f"{table}/{month}.parquet")
        if lacking == "bytes":
            path.write_bytes(path.read_bytes()[::-1])
        else:
            path.unlink()

    def feed(self, month: str, step: int) -> Feed:
        """A month as the source has it at a step."""
        import pyarrow as pa

        whole = self.month(step) != month
        flights = self.delivered(month, step)
        observed = self.world.weather["observed_at"].dt.tz_convert(ZONE)
        weather = self.world.weather[observed.dt.strftime("%Y-%m") == month]
        if not whole:
            day = flights["sched_dep_local"].str.slice(0, 10).max()
            weather = weather[observed[weather.index].dt.strftime("%Y-%m-%d") <= day]
        if month == self.month(self.story.wrong) and step < self.story.corrected:
            flights = with_wrong_labels(flights, self.world)
        if step == self.story.again and month == self.month(step - 1):
            flights = flights.drop(columns=GONE)
        files = tuple(
            File(
                f"{name}/{month}.parquet",
                pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None),
            )
            for name, table in (("flights", flights), ("weather", weather))
        )
        return Feed("month", "a month", files)


def with_wrong_labels(flights: pd.DataFrame, world: World) -> pd.DataFrame:
    """Every late flight with the arrival of a punctual one and the reverse, as many late ones as before; departures stay as they are."""
    import numpy as np
    import pandas as pd

    draw = stream(world.seed or 0, "arrivals of other flights")
    landed = np.flatnonzero(flights["outcome"].eq("flown").to_numpy())
    delay = flights["arr_delay_min"].to_numpy(float).copy()
    late, punctual = landed[delay[landed] > LATE_MINUTES], landed[delay[landed] <= LATE_MINUTES]
    chosen = draw.permutation(punctual)[: len(late)]
    others = draw.permutation(late)[: len(chosen)]
    delay[others], delay[chosen] = delay[chosen], delay[others]
    arrived = (flights["sched_arr"] + pd.to_timedelta(pd.Series(delay, flights.index), unit="m")).dt.as_unit("us")
    return flights.assign(arr_delay_min=delay, arr_time=arrived, label_known_at=arrived)


def story_of(seed: int) -> Story:
    return STORIES[int(stream(seed, "story").integers(len(STORIES)))]


def make_season(seed: int) -> Season:
    """The replay of a seed."""
    import numpy as np

    story = story_of(seed)
    world, unchanged = (build(seed, Replay(at)) for at in (HISTORY + story.change - 1, None))
    month, delivered, scored = world.month_of(world.flights), [], {}
    for number, name in enumerate(world.months):
        at = stream(seed, f"flights of {name}").permutation(np.flatnonzero(month == name))
        delivered.append(np.sort(at[:DELIVERED]))
        if number >= HISTORY:
            others = world.flights.iloc[at[DELIVERED:]]
            scored[name] = rows_of(world, others[others["outcome"].eq("flown")].head(SCORED), f"scored {name}")
    draw = stream(seed, "hiccups of the source")
    wanted = [
        name for name in world.months[HISTORY : HISTORY + STEPS] if name != world.months[HISTORY - 1 + story.lacking]
    ]
    fails = [str(name) for name in draw.choice(wanted, HICCUPS, replace=False)]
    hiccups = {f"{name}/flights/{name}.parquet": ["503"] for name in fails}
    usecase = feed_usecase.drawn(stream(seed, "use case of the replay"))
    all_ = np.concatenate(delivered)
    flights, others = (found.flights.iloc[all_].reset_index(drop=True) for found in (world, unchanged))
    others = others.where(world.month_of(others) >= world.months[HISTORY + story.change - 1], flights)
    return Season(world, story, usecase, flights, scored, hiccups, others)


def lay_down(season: Season, months: Sequence[str], folder: Path) -> None:
    """A data folder with the delivered flights of some months, as they really were."""
    write_data(replace(season.world, flights=season.flights), folder, list(months))
