"""Feature definitions (stage 04) as data: the kinds, the definitions that every submission brings, and their parser."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from grader.contract.sentences import shown
from grader.printable import one_line
from grader.reading import toml_of

MAX_BYTES = 262_144
MAX_FEATURES = 200
NAME = r"^[a-z0-9_]{1,60}$"
DURATION = re.compile(r"P(?:(?P<days>[0-9]{1,4})D)?(?:T(?:(?P<hours>[0-9]{1,4})H)?(?:(?P<minutes>[0-9]{1,4})M)?)?")
LABEL = "label"  # the name by which definitions speak of the use case's label


class FeatureProblem(Exception):
    """Feature definitions that cannot be used; the message names entry, key, value and what is allowed."""


def duration(text: str) -> timedelta:
    """The length of an ISO 8601 duration of days, hours and minutes, such as P7D or PT90M. Raises ValueError."""
    match = DURATION.fullmatch(text)
    parts = {name: int(value) for name, value in match.groupdict().items() if value} if match else {}
    length = timedelta(**parts)
    if not length or text.endswith("T"):
        raise ValueError("must be a duration of days, hours and minutes like P7D, PT3H or PT90M, and longer than none")
    return length


def _duration(text: str) -> str:
    duration(text)
    return text


def _zone(text: str) -> str:
    if text not in available_timezones():
        raise ValueError("must be a time zone of the IANA database, like America/New_York")
    return text


Name = Annotated[str, Field(pattern=NAME)]
Duration = Annotated[str, AfterValidator(_duration)]
Columns = Annotated[tuple[str, ...], Field(min_length=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name


class ColumnFeature(_Entry):
    """A column of the row itself."""

    kind: Literal["column"]
    column: str


class CalendarFeature(_Entry):
    """What a clock on the wall or a calendar shows at an instant of the row."""

    kind: Literal["calendar"]
    of: str
    part: Literal["hour", "dow", "month"]
    zone: Annotated[str, AfterValidator(_zone)]


class LookupFeature(_Entry):
    """A column of a table without time."""

    kind: Literal["lookup"]
    table: str
    by: Columns
    column: str


class AsofFeature(_Entry):
    """The latest value that was known (`asof`), or its age in hours (`age`)."""

    kind: Literal["asof", "age"]
    table: str
    by: Columns
    column: str
    max_age: Duration


class WindowFeature(_Entry):
    """The mean or the number of the values that became known in a stretch of time up to the decision."""

    kind: Literal["mean", "count"]
    table: str
    by: Columns
    column: str
    window: Duration


Feature = Annotated[
    ColumnFeature | CalendarFeature | LookupFeature | AsofFeature | WindowFeature, Field(discriminator="kind")
]
_FEATURE: TypeAdapter[Feature] = TypeAdapter(Feature)


@dataclass(frozen=True)
class Kind:
    """A kind of feature: its keys beside `name` and `kind`, and what its value is."""

    name: str
    keys: tuple[str, ...]
    value: str


KINDS = (
    Kind("column", ("column",), "the value of `column`, one of the columns of `request`, in the row itself"),
    Kind(
        "calendar", ("of", "part", "zone"),
        "what calendar and clock show in the time zone `zone` at the instant in the row's column `of`: `part` is `hour` (0 to 23), "
        "`dow` (Monday is 0) or `month` (1 to 12)",
    ),
    Kind(
        "lookup", ("table", "by", "column"),
        "`column` in the row of `table` that agrees with the row in `by`; a table that is always known, and `by` its key "
        "(so airports cannot be looked up by `dest`)",
    ),
    Kind(
        "asof", ("table", "by", "column", "max_age"),
        "of the known values of `column` the one whose `time` is the latest; null if that is more than `max_age` before the decision",
    ),
    Kind(
        "age", ("table", "by", "column", "max_age"),
        "how old the value is that `asof` gives: hours from its `time` to the decision, with a fraction; null where `asof` is null",
    ),
    Kind(
        "mean", ("table", "by", "column", "window"),
        "the mean of the values of `column` that became known in the `window`; null if there are none",
    ),
    Kind(
        "count", ("table", "by", "column", "window"),
        "the number of values of `column` that became known in the `window`; 0 if there are none",
    ),
)  # fmt: skip

RULES = (
    "`decision_at` is the row's `event_time` less `decision_lead`.",
    "`table` is a table of the use case and `column` one of its columns, or `label` (in the table of the `entity`), which is 1 where "
    "the use case's label holds and 0 where it does not. `time` is that of the table.",
    "When a value became known: of `label`, in the `known_at` of the label; of a column that the table's `known` names, in the column "
    "named there; of every other column, in the table's `known_at`. So as a part of history a schedule counts once its row does, though "
    "the schedule of the row to compute is always known.",
    "A value is known if its `known_at` is there and at most `decision_at`. Values that are null are no values: `asof` and `age` look "
    "behind them, `mean` and `count` leave them out. Of values with the same `time` the one that became known last counts, and "
    "of those the one with the greatest `key`, its columns compared one after the other.",
    "`by` is a list of columns that the rows and the table both have; only rows of the table that agree in all of them count. A row "
    "with a null in one of them gets null, also from `count`.",
    "An age can be negative: an aircraft may leave early for a flight that is due after the decision.",
    "A window is `(decision_at - window, decision_at]`: it includes the decision and leaves out its other end. What counts is when a "
    "value became known, not what it is about.",
    "Durations are ISO 8601 of whole days, hours and minutes, nothing else; a day is 24 hours: `P7D`, `PT3H`, `P1DT12H`. One of no length "
    "may be taken or refused.",
    "Columns come out as they are: texts as texts, numbers as numbers of any width, instants as instants. A null may be written as null or "
    "as NaN. Numbers agree to 6 significant digits.",
)

REQUIRED = """\
[[feature]]
name = "carrier"
kind = "column"
column = "carrier"

[[feature]]
name = "origin"
kind = "column"
column = "origin"

[[feature]]
name = "dest"
kind = "column"
column = "dest"

[[feature]]
name = "distance_miles"
kind = "column"
column = "distance_miles"

[[feature]]
name = "dep_hour"
kind = "calendar"
of = "sched_dep"
part = "hour"
zone = "America/New_York"

[[feature]]
name = "dep_dow"
kind = "calendar"
of = "sched_dep"
part = "dow"
zone = "America/New_York"

[[feature]]
name = "wx_temp"
kind = "asof"
table = "weather"
by = ["origin"]
column = "temp"
max_age = "PT6H"

[[feature]]
name = "wx_wind_speed"
kind = "asof"
table = "weather"
by = ["origin"]
column = "wind_speed"
max_age = "PT6H"

[[feature]]
name = "wx_precip"
kind = "asof"
table = "weather"
by = ["origin"]
column = "precip"
max_age = "PT6H"

[[feature]]
name = "wx_visib"
kind = "asof"
table = "weather"
by = ["origin"]
column = "visib"
max_age = "PT6H"

[[feature]]
name = "tail_last_delay"
kind = "asof"
table = "flights"
by = ["tailnum"]
column = "dep_delay_min"
max_age = "P2D"

[[feature]]
name = "tail_last_age"
kind = "age"
table = "flights"
by = ["tailnum"]
column = "dep_delay_min"
max_age = "P2D"

[[feature]]
name = "carrier_late_7d"
kind = "mean"
table = "flights"
by = ["carrier"]
column = "label"
window = "P7D"

[[feature]]
name = "route_late_28d"
kind = "mean"
table = "flights"
by = ["origin", "dest"]
column = "label"
window = "P28D"

[[feature]]
name = "origin_delay_3h"
kind = "mean"
table = "flights"
by = ["origin"]
column = "dep_delay_min"
window = "PT3H"
"""


def parse_features(text: str) -> list[Feature]:
    """The definitions in the text of a `features.toml`, in their order. Raises FeatureProblem.

    Whether tables and columns exist depends on the use case and is not looked at here.
    """
    try:
        given = toml_of(text)
    except RecursionError:
        raise FeatureProblem("features.toml is not valid TOML: it is nested too deeply") from None
    except ValueError as problem:
        raise FeatureProblem(f"features.toml is not valid TOML: {one_line(str(problem), 200)}") from None
    entries = given.get("feature")
    if set(given) != {"feature"} or not isinstance(entries, list) or not 0 < len(entries) <= MAX_FEATURES:
        raise FeatureProblem(f"features.toml must hold 1 to {MAX_FEATURES} entries [[feature]] and nothing else")
    found = [_parsed(number, entry) for number, entry in enumerate(entries, 1)]
    names = [feature.name for feature in found]
    if "row_id" in names:
        raise FeatureProblem("features.toml defines row_id, which is the name of the rows; give the feature another")
    for name in names:
        if names.count(name) > 1:
            raise FeatureProblem(
                f"features.toml defines {name} {names.count(name)} times; a name stands for one feature"
            )
    return found


def lookback(features: Sequence[Feature]) -> timedelta:
    """How long before a decision features look back at most."""
    spans = [f.max_age for f in features if isinstance(f, AsofFeature)]
    spans += [f.window for f in features if isinstance(f, WindowFeature)]
    return max(map(duration, spans), default=timedelta())


def _parsed(number: int, entry: Any) -> Feature:
    """One entry. Raises FeatureProblem."""
    what = (
        f"feature {shown(entry['name'])}"
        if isinstance(entry, Mapping) and "name" in entry
        else f"feature number {number}"
    )
    try:
        return _FEATURE.validate_python(entry)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        key = next((str(part) for part in first["loc"][1:]), "kind")
        said = one_line(first["msg"].removeprefix("Value error, "), 300)
        raise FeatureProblem(f"features.toml: {what}: {one_line(key, 60)}: {said}") from None


def required() -> list[Feature]:
    """The definitions that every submission's own `features.toml` holds."""
    return parse_features(REQUIRED)
