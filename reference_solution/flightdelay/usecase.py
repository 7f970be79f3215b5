"""The use case: what a row is about, when it is decided, and from when each value may be used. All names come from here."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

LABEL = "label"  # the name by which definitions speak of the label
DURATION = re.compile(r"P(?=.)(?:(\d{1,4})D)?(?:T(?=.)(?:(\d{1,4})H)?(?:(\d{1,4})M)?)?", re.ASCII)


def duration(text: str) -> timedelta:
    """The length of an ISO 8601 duration of days, hours and minutes, such as P7D or PT90M. Raises ValueError."""
    if not (match := DURATION.fullmatch(text)):
        raise ValueError("must be a duration of days, hours and minutes like P7D, PT3H or PT90M")
    days, hours, minutes = (int(number or 0) for number in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes)


@dataclass(frozen=True)
class Label:
    """The outcome to predict: whether `column op value` holds; known from the time in the column `known_at`."""

    column: str
    op: str
    value: float
    known_at: str


@dataclass(frozen=True)
class Table:
    """One table: its key, the column with the time that a row is about, and the columns that say from when it is known."""

    key: list[str]
    time: str | None = None
    known_at: str | None = None  # of a row; None: the table is always known
    known: dict[str, str] = field(default_factory=dict)  # columns that became known at another time than their row


@dataclass(frozen=True)
class UseCase:
    """What the commands work on; `request` has the columns of a row to score, and what they hold."""

    entity: str
    event_time: str
    decision_lead: timedelta
    label: Label
    tables: dict[str, Table]
    request: dict[str, str]
    model_name: str  # of the registered model
    slices: list[str]  # columns of a row by whose values a model is also judged

    @property
    def entity_table(self) -> str:
        """The table whose rows are what is predicted."""
        return next(name for name, table in self.tables.items() if table.key == [self.entity])

    def known_at(self, table: str, column: str) -> str | None:
        """The column that says from when `column` of `table` may be used; None if it always may."""
        if column == LABEL and table == self.entity_table:
            return self.label.known_at
        return self.tables[table].known.get(column, self.tables[table].known_at)


def read_usecase(path: Path) -> UseCase:
    """Read a use case. Keys that are not needed here are ignored."""
    given = tomllib.loads(path.read_text(encoding="utf-8"))
    return UseCase(
        entity=given["entity"],
        event_time=given["event_time"],
        decision_lead=duration(given["decision_lead"]),
        label=Label(**{name: given["label"][name] for name in ("column", "op", "value", "known_at")}),
        tables={name: _table(table) for name, table in given["tables"].items()},
        request=given["request"],
        model_name=given["model_name"],
        slices=given["slices"],
    )


def _table(given: dict) -> Table:
    return Table(**{name: value for name, value in given.items() if name in ("key", "time", "known_at", "known")})
