"""Data in which it shows whether features are right in time: changes of the clock, late deliveries, another future.

All of it is made from one world, so that a feature may differ between two folders only where it should.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from grader.contract.features import Feature, parse_features, required
from grader.world.build import World, stream
from grader.world.layout import SCHEDULE, Rows, rows_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

HOME = "America/New_York"
SPRING, AUTUMN = (
    slice(1, 4),
    slice(8, 11),
)  # three months with a change of the clock in the second or at the start of the third
ZONES = ("America/Los_Angeles", "Europe/London", "Pacific/Auckland", "Pacific/Honolulu")
BROKEN_ZONES = ("America/St_Johns", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe")  # not whole hours from UTC
EDGES = ("PT1H", "PT60M", "PT1H15M", "PT75M", "PT1H30M", "PT90M")  # the age of a full hour's reading at usual minutes
TOGETHER = 60  # minutes between landings that are made one
WORDS = ("calm", "busy", "jammed", "low", "mid", "high", "green", "amber", "red")
FACTS = ["dep_time", "dep_delay_min", "dep_known_at", "arr_time", "arr_delay_min", "air_time_min", "label_known_at"]


@dataclass(frozen=True)
class Timely:
    """A world with months around a change of the clock, and what is planted in it.

    Attributes
    ----------
    world : the year, with two telling columns in its weather.
    months : three months; the clock changes at `switch`, an instant in UTC.
    score : landed flights of the last month that no data folder holds.
    overdue : the flights and the weather that are delivered only at `delivered`.
    telling : the telling columns, one of numbers and one of words, each with the airports it says something about.
    """

    world: World
    months: list[str]
    switch: pd.Timestamp
    score: Rows
    overdue: tuple[pd.Index, pd.Index]
    delivered: pd.Timestamp
    telling: dict[str, list[str]]

    def draw(self, name: str) -> np.random.Generator:
        return stream(self.world.seed or 0, f"features {name}")

    @property
    def flights(self) -> pd.DataFrame:
        """The flights of the months that are not scored."""
        flights = self.world.flights[self.world.month_of(self.world.flights).isin(self.months)]
        return flights[~flights["flight_id"].isin(self.score.after["flight_id"])]

    def before_delivery(self) -> World:
        """The world without what is overdue."""
        flights, weather = self.overdue
        return replace(self.world, flights=self.world.flights.drop(flights), weather=self.world.weather.drop(weather))

    def after_delivery(self) -> World:
        """The world in which everything overdue became known at the moment of delivery."""
        overdue_flights, overdue_weather = self.overdue
        flights, weather = self.world.flights.copy(), self.world.weather.copy()
        for name in ("dep_known_at", "label_known_at"):
            there = overdue_flights[flights.loc[overdue_flights, name].notna()]
            flights.loc[there, name] = self.delivered
        weather.loc[overdue_weather, "known_at"] = self.delivered
        return replace(self.world, flights=flights, weather=weather)

    def another_future(self, moment: pd.Timestamp) -> World:
        """What is overdue left out, and everything that became known after `moment` is otherwise.

        Delays, cancellations and readings are others, and stay unknown until after the moment; the schedule stays.
        """
        import pandas as pd

        world, draw = self.before_delivery(), self.draw("another future")
        flights, weather = world.flights.copy(), world.weather.copy()
        minute = pd.Timedelta(minutes=1)
        late = draw.integers(60, 400, len(flights)).astype(float)
        departs = ~(flights["dep_known_at"] <= moment) & flights["outcome"].eq("flown")
        lands = ~(flights["label_known_at"] <= moment) & flights["outcome"].eq("flown")
        flights.loc[departs, "dep_delay_min"] += late[departs]
        flights.loc[lands, "arr_delay_min"] += late[lands]
        flights.loc[lands, "air_time_min"] += draw.integers(1, 30, len(flights))[lands]
        departed, landed = (flights[f"{name}_time"] + late * minute for name in ("dep", "arr"))
        for mask, instants, names in (
            (departs, departed, FACTS[:3:2]),
            (lands, landed, ["arr_time", "label_known_at"]),
        ):
            for name in names:
                flights.loc[mask, name] = instants[mask].dt.as_unit("us")
        gone = departs & (draw.random(len(flights)) < 0.1)
        flights.loc[gone, "outcome"] = "cancelled"
        for name in FACTS:
            flights.loc[gone, name] = None
        ahead = weather["known_at"] > moment
        for name in weather.columns.difference(["origin", "observed_at", "known_at"]):
            weather.loc[ahead, name] = weather.loc[ahead, name].to_numpy()[draw.permutation(int(ahead.sum()))]
            if pd.api.types.is_float_dtype(weather[name].dtype):
                weather.loc[ahead, name] += 1.0
        kept = ~ahead | (draw.random(len(weather)) < 0.8)
        return replace(world, flights=flights, weather=weather[kept])

    def usual_rows(self, count: int) -> Rows:
        """Flights before the clock changes, after enough days for a history."""
        first = self.flights["sched_dep"].min() + timedelta(days=8)
        return self._drawn(self.flights["sched_dep"].between(first, self.switch - timedelta(hours=8)), count, "usual")

    def rows_at_the_clock(self, count: int) -> Rows:
        """Flights of the weeks after the change, and some moved to instants around it and around midnight."""
        import pandas as pd

        days = timedelta(days=20)
        rows = self._drawn(self.flights["sched_dep"].between(self.switch, self.switch + days), count, "clock")
        draw, table = self.draw("clock"), rows.table.copy()
        moved = count // 2
        around = self.switch + pd.to_timedelta(draw.integers(-200, 200, moved // 2), unit="min")
        midnights = pd.DatetimeIndex(table["sched_dep"][moved // 2 : moved]).tz_convert(HOME).normalize()
        night = midnights.tz_convert("UTC") + pd.to_timedelta(draw.integers(-2, 3, moved - moved // 2), unit="min")
        instants = pd.Series(around.append(night)).dt.as_unit("us")
        flying = (table["sched_arr"] - table["sched_dep"])[:moved]
        table.loc[: moved - 1, "sched_dep"] = instants
        table.loc[: moved - 1, "sched_arr"] = (instants + flying).dt.as_unit("us")
        table.loc[: moved - 1, "sched_dep_local"] = instants.dt.tz_convert(HOME).dt.strftime("%Y-%m-%dT%H:%M")
        return Rows(table, rows.late, rows.after)

    def rows_before(self, moment: pd.Timestamp, hours: int, count: int) -> Rows:
        """Flights decided on in the hours up to a moment, the last ones among them surely; shape (<= count,)."""
        decided = self.flights["sched_dep"] - timedelta(hours=2)
        inside = decided.between(moment - timedelta(hours=hours), moment)
        last = decided.between(moment - timedelta(hours=5), moment)
        return self._drawn(inside, count, f"before {moment}", first=last)

    def rows_after(self, moment: pd.Timestamp, days: float, count: int) -> Rows:
        decided = self.flights["sched_dep"] - timedelta(hours=2)
        inside = decided.between(moment + timedelta(seconds=1), moment + timedelta(days=days))
        return self._drawn(inside, count, f"after {moment}")

    def _drawn(self, which: pd.Series, count: int, name: str, first: pd.Series | None = None) -> Rows:
        import numpy as np

        chance = self.draw(f"rows {name}").random(len(which)) + (0 if first is None else 1 - first.to_numpy())
        eligible = np.flatnonzero(which.to_numpy())
        picked = eligible[np.argsort(chance[eligible], kind="stable")[:count]]
        picked = picked[self.draw(f"order {name}").permutation(len(picked))]
        return rows_of(self.world, self.flights.iloc[picked], f"features {name}")

    def moment(self) -> pd.Timestamp:
        """An afternoon in the last month; what becomes known later is another future."""
        import pandas as pd

        draw = self.draw("moment")
        local = datetime.fromisoformat(f"{self.months[2]}-{int(draw.integers(12, 27)):02d}")
        local = local.replace(hour=int(draw.integers(14, 18)), minute=int(draw.integers(60)), tzinfo=ZoneInfo(HOME))
        return pd.Timestamp(local).tz_convert("UTC")


def draw_timely(world: World, density: float, count: int) -> Timely:
    """The case of a world: a share of the flights of three months (`density`) and `count` rows to score."""
    import numpy as np
    import pandas as pd

    draw = stream(world.seed or 0, "features case")
    months = world.months[SPRING if draw.random() < 0.5 else AUTUMN]
    month = world.month_of(world.flights)
    kept = month.isin(months) & (draw.random(len(month)) < density)
    world = replace(world, flights=world.flights[kept].reset_index(drop=True), weather=world.weather.copy())
    _land_together(world.flights)
    telling = _plant(world, draw)
    last = world.flights[world.month_of(world.flights).eq(months[2]) & world.flights["outcome"].eq("flown")]
    chosen = last.iloc[np.sort(draw.permutation(len(last))[:count])]
    score = rows_of(world, chosen.iloc[draw.permutation(len(chosen))], "features to score")
    start = pd.Timestamp(f"{months[1]}-{int(draw.integers(17, 21)):02d}T{int(draw.integers(4, 20)):02d}:00Z")
    delivered = start + timedelta(days=3, minutes=int(draw.integers(60)))
    flights, weather = world.flights, world.weather
    missing = flights["sched_dep"].between(start, start + timedelta(hours=40)) & (draw.random(len(flights)) < 0.4)
    unread = weather["observed_at"].between(start, start + timedelta(hours=30)) & weather["origin"].eq(
        str(draw.choice(sorted(weather["origin"].unique())))
    )
    # the end of the weather that is overdue reaches beyond the delivery, so that late readings are once the newest
    unread |= weather["observed_at"].between(delivered - timedelta(hours=4), delivered) & (
        draw.random(len(weather)) < 0.7
    )
    unread &= weather["known_at"] <= delivered
    return Timely(
        world, months, _switch(months), score, (flights.index[missing], weather.index[unread]), delivered, telling
    )


def _switch(months: list[str]) -> pd.Timestamp:
    """The instant in these months at which the clocks of New York change."""
    import pandas as pd

    zone, day = ZoneInfo(HOME), datetime.fromisoformat(f"{months[0]}-02T12:00")
    while day.replace(tzinfo=zone).utcoffset() == (day + timedelta(days=1)).replace(tzinfo=zone).utcoffset():
        day += timedelta(days=1)
    instant = pd.Timestamp(day.replace(tzinfo=zone)).tz_convert("UTC")
    while instant.tz_convert(HOME).utcoffset() == day.replace(tzinfo=zone).utcoffset():
        instant += pd.Timedelta(minutes=30)
    return instant


def _land_together(flights: pd.DataFrame) -> None:
    """Let flights that leave one airport at one time and land at nearly one time land at the same minute, in place.

    So there are values with one `time` that became known at once. Delays stay what they were: schedule and time in the air are longer.
    """
    import pandas as pd

    groups = [flights["origin"], flights["sched_dep"], flights["arr_time"].dt.floor(f"{TOGETHER}min")]
    longer = flights.groupby(groups)["arr_time"].transform("max") - flights["arr_time"]
    longer = longer.fillna(pd.Timedelta(0))
    for name in ("sched_arr", "arr_time", "label_known_at"):
        flights[name] = (flights[name] + longer).dt.as_unit("us")
    flights["air_time_min"] += longer.dt.total_seconds() / 60


def _plant(world: World, draw: np.random.Generator) -> dict[str, list[str]]:
    """Two columns of the weather that tell of delays to come: of one airport in numbers, of the others in words.

    Elsewhere the number stands near its mean, so that a model that adds up effects, such as a logistic regression, can use it too.
    """
    import numpy as np
    import pandas as pd

    flights, weather = world.flights, world.weather
    landed = flights[flights["outcome"] == "flown"].sort_values("sched_dep")
    share = np.full(len(weather), np.nan)
    for origin in sorted(weather["origin"].unique()):
        some = landed[landed["origin"] == origin]
        sums = np.concatenate([[0], np.cumsum((some["arr_delay_min"] > 15).to_numpy())])
        at = np.flatnonzero(weather["origin"] == origin)
        known = weather["known_at"].iloc[at]
        low, high = (some["sched_dep"].searchsorted(known + pd.Timedelta(minutes=minutes)) for minutes in (90, 240))
        with np.errstate(invalid="ignore"):
            share[at] = (sums[high] - sums[low]) / (high - low)
    origins = [str(name) for name in draw.permutation(sorted(weather["origin"].unique()))]
    noise = draw.random(len(weather))
    told = pd.Series(np.where(np.isnan(share), noise * 0.3, share))
    number, word = (f"c{draw.integers(16**6):06x}" for _ in range(2))
    words = draw.permutation(WORDS)[:3]
    first = weather["origin"].eq(origins[0]).to_numpy()
    weather[number] = (np.where(first, told, np.nanmean(share)) * 50 + noise).round(3)
    level = np.digitize(np.where(first, noise, told), [0.15, 0.35])
    weather[word] = words[level]
    return {number: origins[:1], word: origins[1:]}


def draw_definitions(case: Timely) -> list[Feature]:
    """Definitions that no submission knows: every kind, with names, columns, zones and durations drawn."""
    draw = case.draw("definitions")

    def one(*among: Any) -> Any:
        return among[int(draw.integers(len(among)))]

    def hours(low: int, high: int) -> str:
        return str(one(f"PT{draw.integers(low, high)}H", f"PT{draw.integers(low * 60, high * 60)}M"))

    def days(low: int, high: int) -> str:
        return str(one(f"P{draw.integers(low, high)}D", f"P{draw.integers(low, high)}DT{draw.integers(1, 23)}H"))

    zones, broken = draw.permutation(ZONES), draw.permutation(BROKEN_ZONES)
    entries = [
        {"kind": "column", "column": one("flight_no", "tailnum")},
        {"kind": "calendar", "of": "sched_dep", "part": "hour", "zone": str(broken[0])},
        {"kind": "calendar", "of": "sched_dep", "part": "dow", "zone": str(one(broken[1], zones[0]))},
        {"kind": "calendar", "of": "sched_arr", "part": "hour", "zone": str(zones[1])},
        {"kind": "calendar", "of": "sched_arr", "part": "month", "zone": str(one(broken[2], zones[2]))},
        {"kind": "lookup", "table": "planes", "by": ["tailnum"], "column": one("seats", "built")},
        {"kind": "lookup", "table": "planes", "by": ["tailnum"], "column": one("manufacturer", "engine")},
        {"kind": "asof", "table": "weather", "by": ["origin"], "column": one("wind_gust", "pressure"), "max_age": hours(2, 12)},
        {"kind": "asof", "table": "weather", "by": ["origin"], "column": one("temp", "dewp", "humid"), "max_age": one(*EDGES)},
        {"kind": "asof", "table": "flights", "by": ["origin", "carrier"], "column": one("label", "tailnum"), "max_age": hours(5, 30)},
        {"kind": "asof", "table": "flights", "by": ["origin"], "column": "dep_delay_min", "max_age": hours(2, 9)},
        {"kind": "asof", "table": "flights", "by": ["origin"], "column": one("tailnum", "flight_no"), "max_age": hours(9, 30)},
        {"kind": "asof", "table": "flights", "by": ["carrier", "flight_no"], "column": one("arr_delay_min", "dest"),
         "max_age": f"P{draw.integers(1000, 10_000)}D"},
        {"kind": "age", "table": "weather", "by": ["origin"], "column": "wind_gust", "max_age": days(1, 4)},
        {"kind": "age", "table": "weather", "by": ["origin"], "column": one("visib", "wind_speed"), "max_age": one(*EDGES)},
        {"kind": "age", "table": "flights", "by": ["dest"], "column": one("dep_delay_min", "air_time_min"), "max_age": days(1, 3)},
        {"kind": "mean", "table": "flights", "by": [one("dest", "tailnum")], "column": "arr_delay_min", "window": days(2, 12)},
        {"kind": "mean", "table": "flights", "by": ["dest"], "column": one("label", "air_time_min"), "window": days(35, 60)},
        {"kind": "mean", "table": "weather", "by": ["origin"], "column": one("precip", "visib", "wind_gust"), "window": hours(3, 20)},
        {"kind": "count", "table": "weather", "by": ["origin"], "column": "wind_gust", "window": f"PT{draw.integers(1000, 3000)}M"},
        {"kind": "count", "table": "flights", "by": ["origin"], "column": "dep_delay_min", "window": hours(1, 9)},
        {"kind": "count", "table": "flights", "by": ["carrier", "dest"], "column": "label",
         "window": f"P{draw.integers(1, 9)}DT{draw.integers(1, 24)}H{draw.integers(1, 60)}M"},
        {"kind": "count", "table": "flights", "by": ["origin", "dest"], "column": "tailnum", "window": f"PT{draw.integers(1000, 1500)}H"},
    ]  # fmt: skip
    entries = [entries[place] for place in draw.permutation(len(entries))]
    names = [f"f{number:05x}" for number in draw.choice(16**5, len(entries), replace=False)]
    named = [{"name": name, **entry} for name, entry in zip(names, entries, strict=True)]
    exchanged = {"tailnum": "flight_no", "flight_no": "tailnum"}  # named like columns of the rows, and not these
    named += [{"name": name, "kind": "column", "column": column} for name, column in exchanged.items()]
    return parse_features("".join(spelled(entry) for entry in named))


def definitions(case: Timely) -> list[Feature]:
    """The fifteen of the contract and the drawn ones."""
    return required() + draw_definitions(case)


def spelled(entry: dict[str, Any] | Feature) -> str:
    """A definition as TOML."""
    values = entry if isinstance(entry, dict) else entry.model_dump(mode="json")

    def text(value: Any) -> str:
        return f"[{', '.join(text(v) for v in value)}]" if isinstance(value, list | tuple) else f'"{value}"'

    return "[[feature]]\n" + "".join(f"{key} = {text(value)}\n" for key, value in values.items()) + "\n"


def joined(*parts: Rows) -> Rows:
    """Several lots of rows as one."""
    import numpy as np
    import pandas as pd

    tables, afters = ([getattr(part, name) for part in parts] for name in ("table", "after"))
    return Rows(
        pd.concat(tables, ignore_index=True)[["row_id", *SCHEDULE]],
        np.concatenate([part.late for part in parts]),
        pd.concat(afters, ignore_index=True),
    )
