"""Build a world: one year of flights out of New York whose outcomes nobody can look up.

A hidden world keeps the schedule and the weather of the real year and draws everything after departure anew:

1. whole days swap what the generator could not explain about them (storms, staffing, knock-on delays), within
   their month, all origins and hours together, so that delay still comes in spells and history still informs;
2. the public generator counts about half, and hours, carriers and destinations get effects of this world only, some
   of which wander over the year, so that the public labels, and any model of them, say less than the world's past;
3. each month's rate is brought back to that of the real month, so the drift of the rates stays real;
4. labels are drawn, a surprise staying a while with its aircraft; minutes come from a real flight of the donor day
   with the same label;
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
SCRYPT_COST = 2**14  # 16 MB and about 50 ms for each seed that is tried
WEATHER_KNOWN_AFTER_HOURS = 1  # the source gives the hour of an observation, not its minute

# Sizes of what makes up a hidden world, in log-odds; chosen in benchmarks/worlds.py, where the results stand.
BASE_SCALE = 0.5  # of the public generator
OWN_SD = 0.9  # over flights, of all effects of this world only
SHOCK_SCALE = 2.0  # of what the real day left unexplained; above 1 since the table holds shrunken shocks
TAIL_ECHO = 0.6  # how much a surprise of an aircraft's last flight stays with it
ECHO_HOURS = 36
# How the parts of the own effects compare before they are brought to OWN_SD.
HOUR_SHARE, CARRIER_SHARE, DEST_SHARE, ORIGIN_HOUR_SHARE = 0.6, 1.0, 0.7, 0.3
CARRIER_DRIFT_SHARE = 0.3  # a step a month of a random walk
CALM_SHOCK_SCALE = 1.0  # of a replay, where one month has to be enough to see a change, and two to learn it
CHANGED = 1.3  # by what log-odds are multiplied where other flights are late
STAYS = -0.5  # correlation of own effects before and after; most is new, or a model could be mended by turning it round
HOUR_WAVES = 3  # cosines that make up the day curve

DIVERTED_SHARE = 0.0035  # as in the real year
SHORTEST = 0.55  # share of the scheduled minutes; 1 in 1,000 real flights is below .63
DELAYS = ("dep_delay", "arr_delay", "air_time")


@dataclass(frozen=True)
class Replay:
    """A year in which no month differs from others by more than chance, but for one change that is made on purpose.

    What days bring, weather and what it does, is dealt out anew over the whole year, and nothing wanders.

    Attributes
    ----------
    changed_from : the first month, 0 to 11, from which on other flights are late, but for storms: what the public generator says is
        the other way round, and the own effects are half turned round and otherwise new. None: nothing changes.
    """

    changed_from: int | None = None


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

    return np.random.default_rng([_root(seed), int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")])


@lru_cache
def _root(seed: int) -> int:
    """What all streams of a seed start from; slow on purpose, so that a submission cannot try many seeds on what it sees."""
    return int.from_bytes(
        hashlib.scrypt(str(seed).encode(), salt=b"mlekit world", n=SCRYPT_COST, r=8, p=1, dklen=16), "big"
    )


@lru_cache(maxsize=1)
def public_tables() -> dict[str, pd.DataFrame]:
    """The shipped tables of the real year by name; anybody has them, so a world must not be told by them."""
    import pandas as pd

    folder = home.datasets() / "nycflights13"
    names = ("flights", "weather", "planes", "airports", "airlines", "generator", "shocks")
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}


def build(seed: int | None = None, replay: Replay | None = None) -> World:
    """The world of `seed`; the real year of 2013 for None. With `replay` a hidden one whose months are alike.

    The same seed gives the same content on every machine (a test holds the hashes).
    """
    source = dict(public_tables())
    if seed is None:
        return _assemble(None, REAL_YEAR, source)
    source["flights"] = source["flights"].assign(**_redraw(seed, replay))
    if replay:
        source["weather"] = _weather_of_donors(source["weather"], _donor_days(seed, replay))
    _rename(seed, source)
    return _assemble(seed, _year(seed), source)


def true_chances(seed: int) -> pd.Series:
    """The probability that each flight's label was drawn with, by `flight_id`: what no model can beat."""
    import pandas as pd

    inside = ((public_tables()["flights"]["sched_dep_local"] + _shift(_year(seed))).dt.year == _year(seed)).to_numpy()
    chance = _draw_late(seed, _chances(seed, _donor_days(seed)))[1][inside]
    return pd.Series(chance, index=_flight_ids(_id_numbers(seed, len(chance))))


@dataclass(frozen=True)
class _Codes:
    """The real flights as arrays of numbers, one entry a flight in source order; what every build starts from."""

    origin: np.ndarray
    carrier: np.ndarray
    dest: np.ndarray
    tail: np.ndarray  # -1: no tail number
    names: dict[str, list[str]]  # of each code, sorted
    day: np.ndarray
    month: np.ndarray
    hour: np.ndarray
    minute: np.ndarray
    landed: np.ndarray
    late: np.ndarray
    scheduled: np.ndarray
    departure_delay: np.ndarray
    arrival_delay: np.ndarray
    ground: np.ndarray  # minutes between gates not spent in the air
    shock: np.ndarray  # (origin, day, block)
    cancelled: np.ndarray  # (origin, day, block)

    @cached_property
    def usual_cell(self) -> np.ndarray:
        """One number for each carrier, origin and hour: what a model of the schedule can tell apart in few months."""
        found: np.ndarray = (self.carrier * 4 + self.origin) * 24 + self.hour
        return found

    @cached_property
    def echoes(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Pairs (flight before, flight) of one aircraft within `ECHO_HOURS`, in rounds: a round needs the ones before."""
        import numpy as np

        hours = self.day * 24 + self.minute / 60
        order = np.lexsort((hours, self.tail))
        before, flight = order[:-1], order[1:]
        linked = (self.tail[before] == self.tail[flight]) & (self.tail[flight] >= 0)
        linked &= hours[flight] - hours[before] <= ECHO_HOURS
        place = np.arange(len(flight))
        depth = place - np.maximum.accumulate(np.where(linked, -1, place))
        rounds = np.argsort(depth[linked], kind="stable")
        cuts = np.cumsum(np.bincount(depth[linked])[1:])[:-1]
        return list(zip(np.split(before[linked][rounds], cuts), np.split(flight[linked][rounds], cuts), strict=True))

    @cached_property
    def block(self) -> np.ndarray:
        found: np.ndarray = self.hour // BLOCK_HOURS
        return found


@lru_cache(maxsize=1)
def _codes() -> _Codes:
    import numpy as np
    import pandas as pd

    tables = public_tables()
    flights, shocks = tables["flights"], tables["shocks"]
    coded = {name: pd.factorize(flights[name], sort=True) for name in ("origin", "carrier", "dest", "tailnum")}
    local = flights["sched_dep_local"]
    dep, arr, air = (flights[f"{name}_min"].to_numpy("float64", na_value=np.nan) for name in DELAYS)
    scheduled = flights["sched_minutes"].to_numpy(float)
    shape = (len(coded["origin"][1]), 365, 24 // BLOCK_HOURS + 1)
    at = (
        coded["origin"][1].get_indexer(pd.Index(shocks["origin"])),
        shocks["date"].dt.dayofyear.to_numpy() - 1,
        shocks["block"].to_numpy(),
    )
    shock, cancelled = np.zeros(shape), np.zeros(shape)
    shock[at], cancelled[at] = shocks["shock"], shocks["cancelled"]
    return _Codes(
        origin=coded["origin"][0],
        carrier=coded["carrier"][0],
        dest=coded["dest"][0],
        tail=coded["tailnum"][0],
        names={name: list(labels) for name, (_, labels) in coded.items()},
        day=local.dt.dayofyear.to_numpy() - 1,
        month=local.dt.month.to_numpy() - 1,
        hour=local.dt.hour.to_numpy(),
        minute=(local.dt.hour * 60 + local.dt.minute).to_numpy(),
        landed=flights["outcome"].eq("flown").to_numpy(),
        late=np.nan_to_num(arr) > LATE_MINUTES,
        scheduled=scheduled,
        departure_delay=dep,
        arrival_delay=arr,
        ground=scheduled - dep + arr - air,
        shock=shock,
        cancelled=cancelled,
    )


def _months(seed: int) -> np.ndarray:
    """For each of the 365 real days the month, 0 to 11, in which it lies in this world's year."""
    import numpy as np
    import pandas as pd

    days = pd.date_range(f"{REAL_YEAR}-01-01", periods=365) + _shift(_year(seed))
    month = np.asarray(days.month) - 1
    return np.where(days.year < _year(seed), 0, np.where(days.year > _year(seed), 11, month))


def _donor_days(seed: int, replay: Replay | None = None) -> np.ndarray:
    """For each of the 365 days the day of the same month whose unexplained part it gets; of any month in a replay."""
    import numpy as np

    month, chooser = _months(seed), stream(seed, "donor days")
    donor = np.arange(365)
    if replay:
        return chooser.permutation(donor)
    for number in range(12):
        members = np.flatnonzero(month == number)
        donor[members] = chooser.permutation(members)
    return donor


def _weather_of_donors(weather: pd.DataFrame, donor: np.ndarray) -> pd.DataFrame:
    """The weather of each day replaced by that of its donor day, hour by hour, so that storms stay with what they did."""
    import numpy as np
    import pandas as pd

    local = weather["observed_local"]
    day = local.dt.dayofyear.to_numpy() - 1
    target = np.argsort(donor)  # of a permutation: the day to which each day gave what it left unexplained
    moved = local + pd.to_timedelta(target[np.minimum(day, len(donor) - 1)] - day, unit="D")
    return weather.assign(observed_local=moved.where(local.dt.year == REAL_YEAR, local))


def _apart(effect: np.ndarray, other: np.ndarray) -> np.ndarray:
    """An effect without what it has in common with another one, both (n,), and of the size of own effects."""
    found: np.ndarray = effect - other * (effect @ other) / (other @ other)
    found *= OWN_SD / found.std()
    return found


def _chances(seed: int, donor: np.ndarray, replay: Replay | None = None) -> np.ndarray:
    """The probability of a late arrival of every flight, each month brought to the rate of the real month, or of the year in a replay."""
    import numpy as np

    codes = _codes()
    month = _months(seed)[codes.day]
    known = BASE_SCALE * public_tables()["generator"]["logit_milli"].to_numpy() / 1000.0
    own = _own_effects(seed, codes, month, 0.0 if replay else CARRIER_DRIFT_SHARE)
    usual = known - known.mean()
    usual = (np.bincount(codes.usual_cell, usual) / np.maximum(np.bincount(codes.usual_cell), 1))[codes.usual_cell]
    # Without this the effects would cancel the public part in one world and double it in another.
    own = _apart(own, usual)
    if replay and replay.changed_from is not None:
        other = _apart(_apart(_own_effects(seed, codes, month, 0.0, "effects after a change"), usual), own)
        after = month >= replay.changed_from
        own = np.where(after, CHANGED * (STAYS * own + np.sqrt(1 - STAYS**2) * other), own)
        known = np.where(after, -CHANGED, 1.0) * (known - known.mean())
    logit = (
        known
        + own
        + (CALM_SHOCK_SCALE if replay else SHOCK_SCALE) * codes.shock[codes.origin, donor[codes.day], codes.block]
    )
    chance = np.empty(len(logit))
    for number in range(12):
        rows = month == number
        like = codes.landed if replay else codes.landed & (codes.month == number)
        chance[rows] = _with_mean(logit[rows], codes.late[like].mean())
    return chance


def _redraw(seed: int, replay: Replay | None = None) -> dict[str, np.ndarray]:
    """New `outcome`, `dep_delay_min`, `arr_delay_min`, `air_time_min` for every flight."""
    import numpy as np

    codes, donor_day = _codes(), _donor_days(seed, replay)
    uniform = stream(seed, "uniforms").random((2, len(codes.day)))
    is_cancelled = uniform[0] < codes.cancelled[codes.origin, donor_day[codes.day], codes.block]
    is_diverted = ~is_cancelled & (uniform[1] < DIVERTED_SHARE)
    late, _ = _draw_late(seed, _chances(seed, donor_day, replay))
    dep, arr, air = _minutes(codes, _donors(stream(seed, "donors"), codes, donor_day[codes.day], late))
    outcome = np.where(is_cancelled, "cancelled", np.where(is_diverted, "diverted", "flown"))
    flown = ~is_cancelled & ~is_diverted
    return {
        "outcome": outcome,
        "dep_delay_min": np.where(is_cancelled, np.nan, dep),
        "arr_delay_min": np.where(flown, arr, np.nan),
        "air_time_min": np.where(flown, air, np.nan),
    }


def _minutes(codes: _Codes, donor: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Departure delay, arrival delay and air time: the donor's, as far as this flight's own way allows.

    No way is flown in less than `SHORTEST` of its schedule, and the air time is what the donor's ground time leaves.
    """
    import numpy as np

    shortest = np.ceil(SHORTEST * codes.scheduled)
    arr = np.maximum(codes.arrival_delay[donor], shortest - codes.scheduled)  # at most 0, so the label stays
    dep = np.minimum(codes.departure_delay[donor], codes.scheduled + arr - shortest)
    way = codes.scheduled - dep + arr
    air = np.clip(way - codes.ground[donor], np.ceil(0.4 * way), way - 5)
    return dep, arr, air


def _own_effects(
    seed: int, codes: _Codes, month: np.ndarray, drift_share: float = CARRIER_DRIFT_SHARE, name: str = "effects"
) -> np.ndarray:
    """What only this world has: another day curve, other carriers and destinations, and carriers that change."""
    import numpy as np

    draw = stream(seed, name)
    carriers, dests, origins = (len(codes.names[name]) for name in ("carrier", "dest", "origin"))
    waves = np.cos(np.pi * np.arange(1, HOUR_WAVES + 1)[:, None] * np.arange(24) / 24)
    curve = draw.normal(0, 1, HOUR_WAVES) @ waves
    walk = draw.normal(0, drift_share, (12, carriers)).cumsum(axis=0)

    def sized(effect: np.ndarray, share: float) -> np.ndarray:
        """Centred, and of standard deviation `share` over flights."""
        found: np.ndarray = share * (effect - effect.mean()) / effect.std()
        return found

    effect: np.ndarray = (
        sized(curve[codes.hour], HOUR_SHARE)
        + sized(draw.normal(0, 1, carriers)[codes.carrier], CARRIER_SHARE)
        + sized(draw.normal(0, 1, dests)[codes.dest], DEST_SHARE)
        + sized(draw.normal(0, 1, (origins, 24))[codes.origin, codes.hour], ORIGIN_HOUR_SHARE)
        + walk[month, codes.carrier]
    )
    return effect


def _draw_late(seed: int, chance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each flight is late, and the chance it was drawn with.

    An aircraft that was late against its chance is a little more often late on its next flight within `ECHO_HOURS`.
    """
    import numpy as np

    codes = _codes()
    uniform = stream(seed, "late").random(len(chance))
    late, chance = uniform < chance, chance.copy()
    for before, flight in codes.echoes:
        logit = np.log(chance[flight] / (1 - chance[flight])) + TAIL_ECHO * (late[before] - chance[before])
        chance[flight] = 1 / (1 + np.exp(-logit))
        late[flight] = uniform[flight] < chance[flight]
    return late, chance


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


def _donors(draw: np.random.Generator, codes: _Codes, donor_day: np.ndarray, late: np.ndarray) -> np.ndarray:
    """For each flight the number of a landed real flight to take minutes from.

    Same origin, donor day, block and lateness where there is one, else the same month, block and lateness.
    """
    import numpy as np

    pool = np.flatnonzero(codes.landed)
    pick = draw.random(len(late))

    def choose(wanted: np.ndarray, offered: np.ndarray) -> np.ndarray:
        order = pool[np.argsort(offered[pool], kind="stable")]
        bounds = np.searchsorted(offered[order], np.arange(max(wanted.max(), offered.max()) + 2))
        start, stop = bounds[wanted], bounds[wanted + 1]
        at = np.minimum(start + (pick * (stop - start)).astype(int), len(order) - 1)
        return np.where(stop > start, order[at], -1)

    def near(days: np.ndarray, lateness: np.ndarray) -> np.ndarray:
        key: np.ndarray = ((days * 4 + codes.origin) * 8 + codes.block) * 2 + lateness
        return key

    month_block = codes.month * 8 + codes.block
    found = choose(near(donor_day, late), near(codes.day, codes.late))
    wide = choose(month_block * 2 + late, month_block * 2 + codes.late)
    month = choose(codes.month * 2 + late, codes.month * 2 + codes.late)
    return np.where(found >= 0, found, np.where(wide >= 0, wide, month))


def _rename(seed: int, source: dict[str, Any]) -> None:
    """New codes for carriers, aircraft and flight numbers, in place."""
    import numpy as np
    import pandas as pd

    draw, codes = stream(seed, "names"), _codes()
    letters = np.array(list("ABCDEFGHJKLMNPQRSTUVWXYZ"))
    flights, planes, airlines = source["flights"], source["planes"], source["airlines"]

    def new_names(old: list[str], length: int, prefix: str) -> dict[str, str]:
        found: list[str] = []
        seen = set(old)
        while len(found) < len(old):
            code = prefix + "".join(draw.choice(letters, length))
            if code not in seen:
                seen.add(code)
                found.append(code)
        return dict(zip(old, found, strict=True))

    carriers = new_names(sorted(airlines["carrier"]), 2, "")
    tails = new_names(sorted({*codes.names["tailnum"], *planes["tailnum"]}), 5, "N")

    def renamed(names: list[str], new: dict[str, str], number: np.ndarray) -> pd.Series:
        spelled = pd.Series([*(new[name] for name in names), None], dtype="str")
        return spelled.take(number % len(spelled)).set_axis(flights.index)

    source["flights"] = flights.assign(
        carrier=renamed(codes.names["carrier"], carriers, codes.carrier),
        tailnum=renamed(codes.names["tailnum"], tails, codes.tail),
        flight_no=draw.permutation(10_000)[flights["flight_no"].to_numpy()],
    )
    source["planes"] = planes.assign(tailnum=planes["tailnum"].map(tails)).sort_values("tailnum", ignore_index=True)
    named = airlines["carrier"].map(carriers)
    source["airlines"] = airlines.assign(carrier=named, name="Airline " + named).sort_values(
        "carrier", ignore_index=True
    )


def _year(seed: int) -> int:
    return int(stream(seed, "year").choice(YEARS))


def _shift(year: int) -> pd.Timedelta:
    """The whole weeks nearest to the way from the real year to this one, so that weekdays stay."""
    import pandas as pd

    return pd.Timedelta(weeks=round((pd.Timestamp(year, 1, 1) - pd.Timestamp(REAL_YEAR, 1, 1)).days / 7))


def _assemble(seed: int | None, year: int, source: dict[str, Any]) -> World:
    """Move the calendar, go to UTC, and add the columns that say when a value became known."""
    flights = _flights_table(seed, year, source["flights"])
    weather = _weather_table(seed, year, source["weather"])
    return World(seed, year, flights, weather, source["planes"], source["airports"], source["airlines"])


def _flights_table(seed: int | None, year: int, flights: pd.DataFrame) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    local = flights["sched_dep_local"] + _shift(year)
    inside = (local.dt.year == year).to_numpy()  # whole weeks leave up to three days of the year at one end
    flights, local = flights[inside], local[inside]
    numbers = _id_numbers(seed or 0, len(flights))
    sched_dep = _utc(local)
    order = np.lexsort((numbers, sched_dep.astype("int64")))
    flights, sched_dep = flights.iloc[order].reset_index(drop=True), sched_dep.iloc[order].reset_index(drop=True)
    dep_delay, arr_delay, air_time = (flights[f"{name}_min"].astype("float64") for name in DELAYS)
    minute = pd.Timedelta(minutes=1)
    sched_arr = sched_dep + flights["sched_minutes"].astype("int64") * minute
    dep_time = sched_dep + pd.to_timedelta(dep_delay, unit="m")
    arr_time = sched_arr + pd.to_timedelta(arr_delay, unit="m")
    table = pd.DataFrame(
        {
            "flight_id": _flight_ids(numbers[order]),
            "carrier": flights["carrier"],
            "flight_no": flights["flight_no"].astype("int32"),
            "tailnum": flights["tailnum"],
            "origin": flights["origin"],
            "dest": flights["dest"],
            "sched_dep": sched_dep,
            "sched_arr": sched_arr,
            "sched_dep_local": _clock_text(_codes().minute[inside][order], local.iloc[order]),
            "distance_miles": flights["distance_miles"].astype("float64"),
            "dep_time": dep_time,
            "dep_delay_min": dep_delay,
            "dep_known_at": dep_time,
            "arr_time": arr_time,
            "arr_delay_min": arr_delay,
            "air_time_min": air_time,
            "outcome": flights["outcome"].astype("str"),
            "label_known_at": arr_time,
        }
    )
    return _microseconds(table)


def _weather_table(seed: int | None, year: int, weather: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    observed_local = weather["observed_local"] + _shift(year)
    observed = _utc(observed_local) if seed is not None else weather["observed_at"]
    table = weather.drop(columns=["observed_local", "observed_at"]).assign(observed_at=observed)
    table = table[observed_local.dt.year == year].drop_duplicates(["origin", "observed_at"])
    table.insert(1, "observed_at", table.pop("observed_at"))
    table.insert(2, "known_at", table["observed_at"] + pd.Timedelta(hours=WEATHER_KNOWN_AFTER_HOURS))
    numbers = table.select_dtypes("float32").columns
    table = table.astype(dict.fromkeys(numbers, "float64"))
    return _microseconds(table.sort_values(["observed_at", "origin"], ignore_index=True))


def _id_numbers(seed: int, count: int) -> np.ndarray:
    return stream(seed, "flight ids").choice(10**9, count, replace=False)


def _flight_ids(numbers: np.ndarray) -> pd.Series:
    """`F` and nine digits."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.binary_replace_slice(pa.array(numbers + 10**9).cast(pa.string()), 0, 1, "F")
    return pd.Series(text.to_pandas(), dtype="str")


def _clock_text(minute: np.ndarray, local: pd.Series) -> pd.Series:
    """`YYYY-MM-DDTHH:MM` from few distinct days and minutes, since formatting every flight takes a second."""
    import pandas as pd

    day, days = pd.factorize(local.dt.normalize())
    clock = pd.Series([f"T{m // 60:02d}:{m % 60:02d}" for m in range(1440)], dtype="str")
    date = pd.Series(days.strftime("%Y-%m-%d"), dtype="str")
    return date.take(day).reset_index(drop=True) + clock.take(minute).reset_index(drop=True)


def _utc(local: pd.Series) -> pd.Series:
    """Wall clock of New York to UTC; the first of two equal hours, the next existing one of a missing hour."""
    aware: pd.Series = local.dt.tz_localize(ZONE, ambiguous=True, nonexistent="shift_forward").dt.tz_convert("UTC")
    return aware


def _microseconds(table: pd.DataFrame) -> pd.DataFrame:
    instants = table.select_dtypes("datetimetz").columns
    return table.assign(**{name: table[name].dt.as_unit("us") for name in instants})
