"""The rules that `validate` judges feeds by (stage 03), as data: what breaks each and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["feed", "row", "column"]
RuleName = Literal[
    "truncated", "encoding", "missing_column", "renamed_column", "wrong_type", "stale", "null_rate", "unit_change",
    "out_of_range", "unknown_reference", "duplicate_key", "personal_data",
]  # fmt: skip
Status = Literal["accepted", "quarantined", "refused"]


@dataclass(frozen=True)
class Rule:
    """A rule, what it is about, when it is broken, and whether a finding names a column."""

    name: RuleName
    scope: Scope
    broken: str
    names_column: bool = True


RULES = (
    Rule(
        "truncated", "feed",
        "a table of `[feeds] tables` has no file in `manifest.json`, or a file that is listed there is not there, is no Parquet, "
        "holds no rows, or holds another number of rows than `rows` says. Without a `manifest.json` that holds for every table",
        names_column=False,
    ),
    Rule("encoding", "feed", "a text column holds bytes that are not UTF-8"),
    Rule(
        "missing_column", "feed",
        "a column of the history's table is not there, and every column that the history does not have is of another kind",
    ),
    Rule(
        "renamed_column", "feed",
        "a column of the history's table is not there, but there is one of the same kind that the history does not have; the "
        "finding names the column of the history",
    ),
    Rule(
        "wrong_type", "feed",
        "a column is of another kind than in the history. Kinds are text, whole number, number, instant (with a zone) and truth value; "
        "how wide a number is, how fine an instant, and whether a text is stored in a dictionary, is no fault. Each other type of Arrow "
        "is a kind of its own: an instant without a zone, a decimal, a date, plain bytes, and the type of a column without any value",
    ),
    Rule(
        "stale", "feed",
        "a file has no row whose `time` is later than the latest in the history's table: it has been delivered before",
        names_column=False,
    ),
    Rule(
        "null_rate", "feed",
        "the share of nulls in a column is larger than in the history's table by more than `null_share`; for the columns of "
        "`filled`, the share among the rows where `where` holds, here and there",
    ),
    Rule(
        "unit_change", "feed",
        "the mean of a `steady` column, nulls left out, is more than `mean_factor` times that of the history's table, or less than "
        "that divided by `mean_factor`: the whole column is in another unit",
    ),
    Rule(
        "out_of_range", "row",
        "a value is below `min` or above `max`, is not in `one_of`, or is no date and time that exists, in the `form` (of "
        "`strptime`); or the row's `time` is later than `--now`",
    ),
    Rule("unknown_reference", "row", "a value is no key of the history's table that `in` names"),
    Rule(
        "duplicate_key", "row",
        "the row's `key` stands in the feed's table more than once, where a null is equal to a null. All of these rows are "
        "quarantined: which one is right nobody can say, and the first one is another one when the rows come in another order",
        names_column=False,
    ),
    Rule(
        "personal_data", "column",
        "a text column that the history does not have matches one of the patterns in `personal_data`, somewhere in some value",
    ),
)  # fmt: skip

FOLLOWS = {
    "feed": "the feed is refused",
    "row": "the row is quarantined",
    "column": "the column is left out",
}
BY_NAME = {rule.name: rule for rule in RULES}
