"""Weeks of traffic whose truth the judge knows: good ones, ones in which something changed, and a reference of good ones.

A good week is made of a Monday, a Tuesday and so on that are drawn from one season of a world, so it has the spread that weeks have: its
days differ from other days, and the flights of a day are alike. Where a week comes from the weather and the histories are moved a little,
by day and by row, so that no row stands in the reference as it stands in a window. The reference and the windows are drawn alike:
what is told apart is what was changed, by a stated size.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grader import home
from grader.contract.features import Feature, parse_features, required
from grader.world.boosting import Boosting
from grader.world.build import World, stream
from grader.world.features import compute
from grader.world.layout import rows_of, write_data

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SEASON = slice(3, 6)  # months that weeks are drawn from
LEARNED = slice(1, 3)  # months that the model in service learned from
LEARNING_ROWS = 20_000
ROWS, SPREAD = 1_000, 60  # of a week, and how far from it
DAYS = 7
EVENNESS = 150.0  # of traffic over days: one in 150 is the variance of a day's share, as of its mean
DAY_MOVES, ROW_MOVES = 0.15, 0.10  # by how many standard deviations a day and a row are moved
REFERENCE_WEEKS = 60
QUIET, IN_SERIES = 200, 100  # good windows, and how many of them are weeks of one service after the other
EACH = 20  # windows of a kind
SERIES, LENGTH, ONSET = (
    10,
    10,
    3,
)  # services in which traffic changes slowly, their weeks, the first that is not as before
EARLY, CORRECTED = 8, 10
IN_PART = 12  # weeks of more late flights whose labels are known in part: who takes the others for punctual sees few late ones
ENDLESS = ("wx_temp", "wx_wind_speed", "origin_delay_3h")  # in which every tenth number of one week is infinite
UNSEEN = ("ZQ1", "QX7", "JJ0", "X9X")

# The sizes of what is planted; the brief states them.
NULLS = 0.25  # of a column's values are gone
NEW = 0.08  # of the rows have a category that was never seen
MIX = 0.20  # points by which the share of a category grows
TILT = 2.0  # log-odds of being drawn, from the lowest to the highest of a number
LATE_POINTS = 0.35  # points by which the share of late flights grows
ODDS = 1.2  # by which the log-odds of the answers are moved
STEP = 0.20  # of MIX or TILT, a week, where traffic changes slowly

# What a column is in another unit: factor, then what is added.
UNITS = {
    "distance_miles": ("kilometres for miles", 1.609344, 0.0),
    "wx_temp": ("degrees Celsius for Fahrenheit", 5 / 9, -160 / 9),
    "wx_wind_speed": ("metres a second for miles an hour", 0.44704, 0.0),
    "wx_visib": ("kilometres for miles", 1.609344, 0.0),
    "tail_last_delay": ("seconds for minutes", 60.0, 0.0),
    "tail_last_age": ("minutes for hours", 60.0, 0.0),
    "carrier_late_7d": ("percent for shares", 100.0, 0.0),
    "route_late_28d": ("percent for shares", 100.0, 0.0),
    "origin_delay_3h": ("seconds for minutes", 60.0, 0.0),
}
WITH_GAPS = ("tail_last_delay", "tail_last_age")  # often null anyway, so that more of it is not so easily seen
CATEGORIES = ("carrier", "dest", "origin")
TILTED = ("distance_miles", "dep_hour")
MOVED = {  # columns that are moved by day and row, and between which values
    "wx_temp": (-60.0, 130.0), "wx_wind_speed": (0.0, 100.0), "tail_last_delay": (-60.0, 3000.0), "tail_last_age": (0.0, 48.0),
    "carrier_late_7d": (0.0, 1.0), "route_late_28d": (0.0, 1.0), "origin_delay_3h": (-60.0, 3000.0),
}  # fmt: skip
MORE = (  # of which a grading has some, under names of its own: definition, and between which values it is moved
    ('kind = "asof"\ntable = "weather"\nby = ["origin"]\ncolumn = "humid"\nmax_age = "PT6H"', "humidity", (0.0, 100.0)),
    ('kind = "asof"\ntable = "weather"\nby = ["origin"]\ncolumn = "dewp"\nmax_age = "PT6H"', "dew_point", (-80.0, 110.0)),
    ('kind = "mean"\ntable = "flights"\nby = ["carrier"]\ncolumn = "dep_delay_min"\nwindow = "P1D"', "carrier_delay", (-60.0, 3000.0)),
    ('kind = "mean"\ntable = "flights"\nby = ["dest"]\ncolumn = "label"\nwindow = "P14D"', "dest_late", (0.0, 1.0)),
    ('kind = "lookup"\ntable = "planes"\nby = ["tailnum"]\ncolumn = "seats"', "seats", None),
    ('kind = "count"\ntable = "flights"\nby = ["origin"]\ncolumn = "dep_delay_min"\nwindow = "P1D"', "origin_flights", None),
)  # fmt: skip
EXTRA = 3

DATA_KINDS = ("missing values", "new category", "another unit", "other mix")
KINDS = (*DATA_KINDS, "more late flights", "labels turned round", "other answers")


@dataclass(frozen=True)
class Window:
    """A week of one service, and what only the judge knows of it.

    Attributes
    ----------
    name : the name of its folder.
    kind : "good", one of KINDS, "slowly" (an other mix that grows), or the name of an oddity.
    says : in words, what is the matter with it.
    column : the column that was changed, where one was.
    rows, late : (n, features + 2) as they are handed out, and (n,) whether each flight was late.
    labels, batch : as they are handed out, or None.
    about : window.json.
    known : whether enough labels are known for a verdict; None where the contract leaves it open.
    stale : whether the model is too old.
    skew : what `skew` has to be, and the columns that differ.
    nan : the files, "rows" or "batch", in which a number that is not there is NaN; in others it is null.
    """

    name: str
    kind: str
    says: str
    column: str | None
    rows: pd.DataFrame
    late: np.ndarray
    labels: pd.DataFrame | None
    batch: pd.DataFrame | None
    about: dict[str, Any]
    known: bool | None = True
    stale: bool = False
    skew: str = "unknown"
    skewed: tuple[str, ...] = ()
    nan: tuple[str, ...] = ()

    @property
    def service(self) -> str:
        return str(self.about["service"])

    @property
    def position(self) -> int:
        return int(self.about["position"])

    def write(self, folder: Path) -> None:
        """Lay the window down in a folder of its name."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        here = folder / self.name
        here.mkdir(parents=True)
        for name, frame in (("rows", self.rows), ("labels", self.labels), ("batch", self.batch)):
            if frame is not None:
                table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
                for at, field in enumerate(table.schema):
                    if name in self.nan and pa.types.is_floating(field.type):
                        table = table.set_column(at, field, pa.array(frame[field.name].to_numpy(), field.type))
                pq.write_table(table, here / f"{name}.parquet")
        (here / "window.json").write_text(json.dumps(self.about, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Rules:
    """The numbers of `[monitoring]` in the use case of one grading."""

    min_rows: int
    min_labels: float
    max_model_age_days: int
    skew_share: float
    skew_relative: float = 1e-6

    def usecase(self) -> str:
        """The published use case with these numbers instead of its own."""
        text = (home.datasets() / "usecase.toml").read_text(encoding="utf-8")
        for old, new in {
            "min_rows = 100 ": f"min_rows = {self.min_rows} ",
            "min_labels = 0.5 ": f"min_labels = {self.min_labels} ",
            "max_model_age_days = 90": f"max_model_age_days = {self.max_model_age_days}",
            "skew_share = 0.02 ": f"skew_share = {self.skew_share} ",
        }.items():
            if text.count(old) != 1:
                raise ValueError(f"the published use case has {old!r} {text.count(old)} times, not once")
            text = text.replace(old, new)
        return text


def drawn_rules(draw: np.random.Generator) -> Rules:
    """Numbers of one grading, so far from those that are published that whoever carries a copy of them judges otherwise."""

    def number(*ranges: tuple[int, int]) -> int:
        low, high = ranges[draw.integers(len(ranges))]
        return int(draw.integers(low, high + 1))

    return Rules(
        min_rows=10 * number((5, 8), (12, 19)),
        min_labels=number((38, 44), (56, 62)) / 100,
        max_model_age_days=number((40, 80), (100, 140)),
        skew_share=number((10, 14), (26, 35)) / 1000,
    )


@dataclass(frozen=True)
class Traffic:
    """All windows of a grading, with the reference and the use case."""

    rules: Rules
    features: list[str]
    reference: list[Window]
    windows: list[Window]

    def of(self, *kinds: str) -> list[Window]:
        return [window for window in self.windows if window.kind in kinds]

    @cached_property
    def slow(self) -> dict[str, list[Window]]:
        """The weeks of each service in which traffic changes slowly, in order."""
        found: dict[str, list[Window]] = {}
        for window in sorted(self.of("slowly"), key=lambda w: w.position):
            found.setdefault(window.service, []).append(window)
        return found


def definitions(draw: np.random.Generator) -> tuple[list[Feature], dict[str, tuple[float, float]]]:
    """The features of one grading, and between which values those lie that are moved."""
    moved, text = dict(MOVED), ""
    for at in sorted(draw.choice(len(MORE), EXTRA, replace=False)):
        how, base, between = MORE[at]
        name = f"{base}_{draw.integers(10, 100)}"
        text += f'[[feature]]\nname = "{name}"\n{how}\n\n'
        if between:
            moved[name] = between
    return [*required(), *parse_features(text)], moved


@dataclass
class Season:
    """The flights that weeks are drawn from, with their features, and the model that is in service.

    Attributes
    ----------
    table : (n, features) one row a flight.
    late : (n,) bool.
    days : positions in `table` of the flights of each day, by weekday.
    """

    table: pd.DataFrame
    late: np.ndarray
    days: list[list[np.ndarray]]
    moved: dict[str, tuple[float, float]]
    model: Boosting
    draw: np.random.Generator

    @cached_property
    def spread(self) -> dict[str, float]:
        return {name: float(self.table[name].std()) for name in self.moved}

    def week(
        self, more: tuple[np.ndarray, float] | None = None, weights: np.ndarray | None = None
    ) -> tuple[pd.DataFrame, np.ndarray]:
        """Flights of a week in a random order, and whether each was late.

        `more` are flights (n,) bool and the share that they shall have; `weights` (n,) say how likely each flight is drawn.
        """
        import numpy as np

        draw = self.draw
        chosen = [self.days[weekday][draw.integers(len(self.days[weekday]))] for weekday in range(DAYS)]
        count = int(draw.integers(ROWS - SPREAD, ROWS + SPREAD + 1))
        counts = draw.multinomial(count, draw.dirichlet(np.full(DAYS, EVENNESS)))
        parts = []
        for day, of_day in zip(chosen, counts, strict=True):
            if more is not None:
                which, share = more
                wanted = day[which[day]]
                number = min(len(wanted), int(draw.binomial(of_day, share)))
                others = day[~which[day]]
                parts.append(
                    np.concatenate(
                        [
                            draw.choice(wanted, number, replace=False),
                            draw.choice(others, min(of_day - number, len(others)), replace=False),
                        ]
                    )
                )
            else:
                likely = None if weights is None else weights[day] / weights[day].sum()
                parts.append(draw.choice(day, min(of_day, len(day)), replace=False, p=likely))
        at, day = np.concatenate(parts), np.repeat(np.arange(DAYS), [len(part) for part in parts])
        order = draw.permutation(len(at))
        at, day = at[order], day[order]
        found = self.table.iloc[at].reset_index(drop=True)
        for name, (low, high) in self.moved.items():
            moves = DAY_MOVES * draw.normal(size=DAYS)[day] + ROW_MOVES * draw.normal(size=len(at))
            found[name] = np.clip(found[name].to_numpy() + self.spread[name] * moves, low, high)
        return found, self.late[at]


def season_of(world: World, folder: Path) -> Season:
    """The season of a world; `folder` is an empty one that its data are laid into."""
    import numpy as np
    import pandas as pd

    draw = stream(world.seed or 0, "traffic")
    features, moved = definitions(draw)
    write_data(world, folder, world.months[: SEASON.stop])
    flights = world.flights[world.flights["outcome"].eq("flown")]
    month = world.month_of(flights)

    def values(months: list[str], count: int | None) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
        chosen = flights[month.isin(months)]
        if count is not None:
            chosen = chosen.iloc[np.sort(draw.permutation(len(chosen))[:count])]
        rows = rows_of(world, chosen, "traffic")
        table = compute(features, home.datasets() / "usecase.toml", folder, rows.table).drop(columns="row_id")
        return table, rows.late, rows.table["sched_dep_local"].str.slice(0, 10).to_numpy()

    learned, was_late, _ = values(world.months[LEARNED], LEARNING_ROWS)
    model = Boosting.fit(learned, was_late)
    table, late, day = values(world.months[SEASON], None)
    days: list[list[np.ndarray]] = [[] for _ in range(DAYS)]
    for one, positions in pd.Series(range(len(day))).groupby(day):
        days[pd.Timestamp(str(one)).dayofweek].append(positions.to_numpy())
    return Season(table, late, days, moved, model, draw)


@dataclass(eq=False)
class _Draft:
    """A window in the making: its rows, and what is still to be done to it."""

    kind: str
    says: str
    table: pd.DataFrame
    late: np.ndarray
    column: str | None = None
    service: str = ""
    position: int = 0
    odds: float = 0.0
    turned: bool = False  # the order of the answers turned round: who was late is punctual
    labels: str = "all"
    in_part: bool = False  # of labels that were corrected: they are of a part of the rows only
    just_now: bool = False  # and the correction became known in the moment in which the window is judged
    batch: str = ""
    extra: bool = False
    probability: Any = None


def make_traffic(world: World, folder: Path) -> Traffic:
    """The reference and all windows of a grading; `folder` is an empty one that the world's data are laid into."""
    import numpy as np
    import pandas as pd

    season = season_of(world, folder)
    draw, rules = season.draw, drawn_rules(season.draw)
    reference = [_good(season, "good", "a good week") for _ in range(REFERENCE_WEEKS)]
    drafts = [*_quiet(season), *_changed(season), *_slowly(season), *_with_odd_labels(season), *_odd(season, rules)]
    _name_series(drafts, stream(world.seed or 0, "names of services").permutation(2_000))
    services = draw.permutation(10_000)
    every = [*reference, *drafts]
    for number, draft in enumerate(every):
        if not draft.service:
            draft.service, draft.position = f"s{services[number]:04d}", int(draw.integers(LENGTH))
    scored = np.split(
        season.model.answers(pd.concat([d.table for d in every])[list(season.table.columns)]),
        np.cumsum([len(d.table) for d in every])[:-1],
    )
    for draft, found in zip(every, scored, strict=True):
        logit = np.log(found / (1 - found)) + draft.odds
        draft.probability = 1 / (1 + np.exp(-logit))
    names = [f"w{n:05x}" for n in draw.choice(16**5, len(every), replace=False)]
    rendered, before = _rendered(drafts, draw), set(reference)
    made = [
        _finished(
            season,
            rules,
            draft,
            number,
            name,
            draft in rendered,
            world.year + 1 - (draft in before) * int(draw.integers(1, 5)),
        )
        for number, (draft, name) in enumerate(zip(every, names, strict=True))
    ]
    windows = made[len(reference) :]
    return Traffic(
        rules,
        list(season.table.columns),
        made[: len(reference)],
        [windows[at] for at in draw.permutation(len(windows))],
    )


def _name_series(drafts: list[_Draft], numbers: np.ndarray) -> None:
    """Give services of many weeks other numbers, since those they were made with tell which of them change."""
    for draft in drafts:
        if draft.service:
            draft.service = f"v{numbers[int(draft.service[1:])]:04d}"


def _good(season: Season, kind: str, says: str, **more: Any) -> _Draft:
    table, late = season.week()
    return _Draft(kind, says, table, late, **more)


def _quiet(season: Season) -> list[_Draft]:
    """The good windows: some weeks of one service after the other, some with few labels, a nightly job, or more columns."""
    draw = season.draw
    drafts = [_good(season, "good", "a good week") for _ in range(QUIET)]
    services = draw.permutation(1000)
    for number in range(IN_SERIES):
        drafts[number].service = f"v{2 * services[number // LENGTH]:04d}"
        drafts[number].position = number % LENGTH
    alone = iter(drafts[IN_SERIES:])
    for how, count in (("none", 4), ("later", 4), ("few", 4), ("twice", 4), ("strangers", 3), ("enough", 4)):
        for _ in range(count):
            next(alone).labels = how
    for how in BATCHES:
        next(alone).batch = how
    for _ in range(4):
        next(alone).extra = True
    return drafts


def _changed(season: Season) -> list[_Draft]:
    """EACH windows of each kind, the columns in turn."""
    draw = season.draw
    columns = [str(name) for name in season.table.columns]
    turns = {
        "missing values": draw.permutation([name for name in columns if name not in WITH_GAPS]),
        "new category": draw.permutation(CATEGORIES),
        "another unit": draw.permutation(list(UNITS)),
        "other mix": draw.permutation([*CATEGORIES, *TILTED]),
    }
    change: dict[str, Callable[[Season, str], _Draft]] = {
        "missing values": _missing,
        "new category": _new_category,
        "another unit": _another_unit,
        "other mix": lambda season, column: _other_mix(season, column, _toward(season, column), 1.0),
    }
    drafts = [change[kind](season, str(of[n % len(of)])) for kind, of in turns.items() for n in range(EACH)]
    late_share = season.late.mean() + LATE_POINTS
    for number in range(EACH):
        table, late = season.week((season.late, late_share))
        part = number < IN_PART
        says = f"{LATE_POINTS:.0%} points more flights are late{', and labels are known of a part of them' if part else ''}"
        drafts.append(_Draft("more late flights", says, table, late, labels="part" if part else "all"))
        says = "the flights with the highest answers are punctual, and those with the lowest late"
        drafts.append(_good(season, "labels turned round", says, turned=True))
        odds = ODDS * draw.choice([-1, 1])
        says = f"the log-odds of all answers are moved by {odds:+.1f}"
        drafts.append(_good(season, "other answers", says, odds=odds))
    return drafts


def _missing(season: Season, column: str) -> _Draft:
    table, late = season.week()
    table[column] = table[column].where(season.draw.random(len(table)) >= NULLS, None)
    return _Draft("missing values", f"{NULLS:.0%} of the values of {column} are gone", table, late, column)


def _new_category(season: Season, column: str) -> _Draft:
    table, late = season.week()
    code = str(season.draw.choice(UNSEEN))
    table.loc[season.draw.random(len(table)) < NEW, column] = code
    return _Draft("new category", f"{NEW:.0%} of {column} are {code}, which was never seen", table, late, column)


def _another_unit(season: Season, column: str) -> _Draft:
    table, late = season.week()
    says, factor, added = UNITS[column]
    table[column] = table[column] * factor + added
    return _Draft("another unit", f"{column} is in {says}", table, late, column)


def _toward(season: Season, column: str) -> str | float:
    """What there is to be more of: a category that is neither rare nor half of all, or high (1.0) or low (-1.0) numbers."""
    if column not in CATEGORIES:
        return float(season.draw.choice([-1, 1]))
    shares = season.table[column].value_counts(normalize=True)
    return str(season.draw.choice(shares[(shares > 0.04) & (shares < 0.5)].index))


def _other_mix(season: Season, column: str, toward: str | float, strength: float) -> _Draft:
    """A week of which other flights are drawn; `strength` 1 is the stated size."""
    import numpy as np

    values = season.table[column]
    if isinstance(toward, str):
        which = (values == toward).to_numpy()
        week = season.week((which, which.mean() + MIX * strength))
        says = f"the share of {column} {toward} is {100 * MIX * strength:.0f} points larger"
    else:
        weights = np.exp(toward * TILT * strength * (values.rank(pct=True).to_numpy() - 0.5))
        week = season.week(weights=weights)
        says = f"{'high' if toward > 0 else 'low'} values of {column} are drawn {np.exp(TILT * strength):.1f} times as often"
    return _Draft("other mix", says if strength else "nothing is changed yet", *week, column=column)


def _slowly(season: Season) -> list[_Draft]:
    """Services whose traffic is as usual before week ONSET, and from then on a little more different each week."""
    drafts, among = [], season.draw.permutation([*CATEGORIES, *TILTED])
    services = season.draw.permutation(1000)
    for number in range(SERIES):
        column = str(among[number % len(among)])
        toward = _toward(season, column)
        for position in range(LENGTH):
            draft = _other_mix(season, column, toward, STEP * max(0, position - ONSET + 1))
            draft.kind, draft.service, draft.position = "slowly", f"v{2 * services[number] + 1:04d}", position
            drafts.append(draft)
    return drafts


def _with_odd_labels(season: Season) -> list[_Draft]:
    """Weeks whose answers are wrong but whose labels are not there yet, and weeks whose labels were corrected."""
    early = "the answers no longer fit, but only few labels are known"
    good, bad = "labels that were wrong at first were corrected, and fit", "labels that fitted at first were corrected"
    ways = [{"in_part": n < CORRECTED // 2, "just_now": n % 2 == 0} for n in range(CORRECTED)]
    return [
        *(_good(season, "too early", early, turned=True, labels="few") for _ in range(EARLY)),
        *(_good(season, "corrected to good", good, labels="corrected", **way) for way in ways),
        *(_good(season, "corrected to bad", bad, labels="corrected", turned=True, **way) for way in ways),
    ]


def _odd(season: Season, rules: Rules) -> list[_Draft]:
    """Windows that nobody hopes for."""
    import numpy as np
    import pandas as pd

    def cut(kind: str, says: str, rows: int) -> _Draft:
        draft = _good(season, kind, says, labels="none" if rows < 2 else "all")
        draft.table, draft.late = draft.table.iloc[:rows], draft.late[:rows]
        return draft

    nothing = _good(season, "all null", "all features are null")
    nothing.table = pd.DataFrame(None, nothing.table.index, nothing.table.columns, dtype=object)
    gone = _good(season, "a column gone", "a column is not there")
    gone.column = str(season.draw.choice([n for n in season.table.columns if n not in CATEGORIES]))
    gone.table[gone.column] = np.nan
    endless = _good(season, "infinite", "some numbers are infinite", batch="infinite")
    for name in season.moved:
        endless.table.loc[season.draw.integers(len(endless.table), size=3), name] = np.inf
    for name in ENDLESS:
        endless.table.loc[::10, name] = np.inf
    return [
        cut("no rows", "it has no rows", 0),
        cut("one row", "it has one row", 1),
        cut("too few rows", "it has a row less than min_rows", rules.min_rows - 1),
        cut("enough rows", "it has as many rows as min_rows", rules.min_rows),
        nothing,
        gone,
        endless,
    ]


def _rendered(drafts: list[_Draft], draw: np.random.Generator) -> set[_Draft]:
    """A good week, one whose columns drifted, and one without labels."""
    wanted = (
        [d for d in drafts if d.kind == "good" and d.batch == "same"],
        [d for d in drafts if d.kind == "another unit"],
        [d for d in drafts if d.kind == "too early"],
    )
    return {some[draw.integers(len(some))] for some in wanted}


def _row_ids(draw: np.random.Generator, count: int) -> list[str]:
    return [f"r{n:010x}" for n in draw.integers(16**10, size=count)]


def _turned(late: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """As many late flights, in the reverse of the order of the answers; shape (n,)."""
    import numpy as np

    order = np.argsort(probability, kind="stable")
    found: np.ndarray = np.empty_like(late)
    found[order] = late[order[::-1]]
    return found


def _finished(season: Season, rules: Rules, draft: _Draft, number: int, name: str, render: bool, year: int) -> Window:
    """The window as it is handed out; `number` counts them."""
    import pandas as pd

    draw, late = season.draw, draft.late
    rows = draft.table.copy()
    rows.insert(0, "row_id", _row_ids(draw, len(rows)))
    rows["probability"] = draft.probability
    if draft.turned:
        late = _turned(late, draft.probability)
    begun = int(draft.service[1:]) % 3  # weeks after the first of the season
    start = pd.Timestamp(year, 4, 1, tz="UTC") + pd.Timedelta(days=DAYS * (draft.position + begun))
    start -= pd.Timedelta(days=start.dayofweek)
    end = start + pd.Timedelta(days=DAYS)
    labels, now, known = _labels(draft, rows["row_id"].to_numpy(), late, end, draw, rules)
    limit = rules.max_model_age_days
    age = int(draw.choice([limit - 1, limit, limit + 1, limit // 2, limit + 30]))
    if rows.empty:  # the age of a model is asked of weeks without rows as well
        age = limit + 30
    registered = now - pd.Timedelta(hours=int(draw.integers(20, 400)))
    batch, skew, skewed = _batch(draft, rows, draw, rules)
    if draft.kind == "a column gone":
        rows = rows.drop(columns=draft.column)
    if draft.extra:
        rows["experiment"], rows["surge"] = "b", draw.random(len(rows))
    elsewhere = number // 2 % 2 == 0 or draft.labels in ("few", "enough")
    # A gap is NaN for one of service and job, and null for the other.
    nan = ("rows",) if number % 2 and draft.batch != "gaps" else ("batch",)
    return Window(
        name, draft.kind, draft.says, draft.column, rows, late, labels, batch,
        {
            "service": draft.service, "position": draft.position, "start": start.isoformat(), "end": end.isoformat(),
            "now": (_elsewhere(now) if elsewhere else now).isoformat(),
            "model_train_end": f"{now.normalize() - pd.Timedelta(days=age):%Y-%m-%d}",
            "model_registered_at": registered.isoformat(), "render": render,
        },
        known, age > limit, skew, skewed, nan,
    )  # fmt: skip


def _elsewhere(moment: pd.Timestamp) -> pd.Timestamp:
    """The same moment as it is written where it is another day."""
    import datetime as dt

    hours = -moment.hour - 1 if moment.hour < 12 else 24 - moment.hour
    return moment.tz_convert(dt.timezone(dt.timedelta(hours=hours)))


WITHOUT_LABEL = 0.02  # share of flights that never get one
NEARLY = 0.03  # by what share of the rows labels are too few, or enough
COPIED = 0.5  # the share that is published: where labels are known in part only, a copy of it would have enough too
LAG = 7.0  # days after the week by which all labels are known


def _labels(
    draft: _Draft, ids: np.ndarray, late: np.ndarray, end: pd.Timestamp, draw: np.random.Generator, rules: Rules
) -> tuple[pd.DataFrame | None, pd.Timestamp, bool]:
    """The labels as they are handed out, when the window is judged, and whether enough are known then."""
    import numpy as np
    import pandas as pd

    def after(days: float) -> pd.Timestamp:
        return (end + pd.Timedelta(days=days)).floor("s")

    def lines(at: np.ndarray, label: np.ndarray, days: np.ndarray) -> pd.DataFrame:
        known = pd.Series(end + pd.to_timedelta(days, unit="D")).dt.as_unit("us")
        return pd.DataFrame({"row_id": ids[at], "label": label[at].astype(bool), "label_known_at": known})

    if draft.labels == "none":
        return None, after(LAG + 1 + 4 * draw.random()), False
    there = np.flatnonzero(draw.random(len(ids)) >= WITHOUT_LABEL)
    now = after(LAG + 1 + 4 * draw.random())
    lag = LAG * draw.random(len(there))
    parts, known = [lines(there, late, lag)], len(ids) > 1
    in_part = int(max(COPIED + NEARLY, rules.min_labels + NEARLY) * len(ids))
    match draft.labels:
        case "later":
            now = after(-0.01 * draw.random())
            known = False
        case "few" | "enough":
            # The last of them become known in the moment in which the window is judged, or a second later.
            known = draft.labels == "enough"
            share = rules.min_labels - NEARLY
            if draft.kind != "good":
                share *= draw.uniform(0.2, 0.8)
            order, before = np.argsort(lag), int(share * len(ids))
            now = after(float(lag[order[before]]))
            last = order[before : before + int(2 * NEARLY * len(ids))]
            parts[0].loc[last, "label_known_at"] = now if known else now + pd.Timedelta(seconds=1)
        case "part":
            now = after(float(np.sort(lag)[in_part]))
        case "twice" | "strangers":
            some = np.arange(int(0.7 * rules.min_labels * len(there)))
            parts, known = [lines(there[some], late, lag[some])], False
            if draft.labels == "twice":
                parts.append(lines(there[some], late, lag[some]))
            else:
                parts.append(lines(there, late, lag).assign(row_id=_row_ids(draw, len(there))))
        case "corrected":
            if draft.in_part:
                there, lag = there[:in_part], lag[:in_part]
            wrong = _turned(late, draft.probability)
            parts = [lines(there, wrong, lag / 2), lines(there, late, LAG / 2 + lag / 2), lines(there, wrong, lag)]
            if draft.just_now:
                parts[1]["label_known_at"] = now
            parts[2]["label_known_at"] += now + pd.Timedelta(seconds=1) - end
    table = pd.concat(parts, ignore_index=True)
    table["label_known_at"] = table["label_known_at"].dt.as_unit("us")
    return table.iloc[draw.permutation(len(table))].reset_index(drop=True), now, known


BATCHES = (
    "same", "same", "other order", "rounded", "few differ", "columns lack", "more differ", "other clock", "gaps", "other words",
    "half of the rows", "two columns", "few rows", "strangers",
)  # fmt: skip


def _batch(
    draft: _Draft, rows: pd.DataFrame, draw: np.random.Generator, rules: Rules
) -> tuple[pd.DataFrame | None, str, tuple[str, ...]]:
    """The features as a job computed them anew, what `skew` has to be, and the columns that differ."""
    import numpy as np

    if not draft.batch:
        return None, "unknown", ()
    batch = rows.drop(columns="probability").iloc[draw.permutation(len(rows))].reset_index(drop=True)
    numbers = [name for name in MOVED if name not in WITH_GAPS]
    one, other = (str(name) for name in draw.permutation(numbers)[:2])

    def spoil(name: str, count: int, change: Any) -> None:
        at = draw.permutation(np.flatnonzero(batch[name].notna()))[:count]
        batch.loc[at, name] = change(batch[name].iloc[at])

    def allowed() -> int:
        return int(rules.skew_share * len(batch))

    def nearby(values: pd.Series) -> pd.Series:
        return values + 0.001 * (1 + values.abs())

    match draft.batch:
        case "same":
            return rows.drop(columns="probability"), "ok", ()
        case "other order":
            return batch, "ok", ()
        case "rounded":
            for name in numbers:
                batch[name] = batch[name] * (1 + rules.skew_relative / 3)
            return batch, "ok", ()
        case "few differ":
            for name in (one, other, "carrier"):
                spoil(name, allowed(), nearby if name != "carrier" else lambda v: v + "x")
            return batch, "ok", ()
        case "columns lack":
            return batch.drop(columns=[one, "carrier", "dep_hour"]), "ok", ()
        case "more differ":
            spoil(one, allowed() + 2, nearby)
            return batch, "skew", (one,)
        case "other clock":
            batch["dep_hour"] = (batch["dep_hour"] + 4) % 24
            return batch, "skew", ("dep_hour",)
        case "gaps":
            spoil(one, len(batch) // 10, lambda v: v * np.nan)
            return batch, "skew", (one,)
        case "other words":
            spoil("dest", len(batch) // 10, lambda v: v + "x")
            return batch, "skew", ("dest",)
        case "half of the rows":
            batch = batch.iloc[: len(batch) // 2].copy()
            spoil(other, allowed() + 2, nearby)
            return batch, "skew", (other,)
        case "two columns":
            spoil(one, len(batch) // 5, nearby)
            spoil("origin", len(batch) // 5, lambda v: v + "x")
            return batch, "skew", tuple(sorted((one, "origin")))
        case "infinite":  # the second is so in both
            batch.loc[np.isinf(batch[ENDLESS[0]]), ENDLESS[0]] = 5.0
            batch.loc[np.isinf(batch[ENDLESS[2]]), ENDLESS[2]] = -np.inf
            return batch, "skew", tuple(sorted((ENDLESS[0], ENDLESS[2])))
        case "few rows":
            return batch.iloc[: rules.min_rows - 1], "unknown", ()
        case _:
            batch["row_id"] = _row_ids(draw, len(batch))
            return batch, "unknown", ()
