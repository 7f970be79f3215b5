"""Are these the labels of these flights? A feed can be right in every value and still tell of other flights than it says.

What became known of a flight before its label nearly tells it: who leaves an hour late seldom lands on time. That holds in good years and
bad ones, for old models and new ones, and whatever makes flights late. It no longer holds where labels were joined to the wrong rows. So a
month is doubted by its own columns, never by how well a model does in it: that is how a month looks in which the world has changed.
"""

from __future__ import annotations

import polars as pl
from sklearn.metrics import roc_auc_score

from flightdelay.data import DataFolder, label_of
from flightdelay.usecase import LABEL, UseCase
from flightdelay.validate import Judgement

TELLING = 0.1  # by how much a column's AUC has to differ from a coin's, in the history, to be asked at all
LEFT = 0.6  # of that has to be left in a month


def doubt(usecase: UseCase, judgement: Judgement, history: DataFolder) -> str | None:
    """Why the labels of a month cannot be its own; None if they can, or if nothing of it is accepted anyway."""
    parts = [table for path, table in judgement.accepted() if path.startswith(f"{usecase.entity_table}/")]
    if not parts:
        return None
    delivered = pl.concat([pl.from_arrow(part) for part in parts], how="diagonal_relaxed")
    usual, found = telling(usecase, history.table(usecase.entity_table)), telling(usecase, delivered)
    for column, strength in usual.items():
        if abs(strength) > TELLING and found.get(column, 0.0) / strength < LEFT:
            return (
                f"the labels do not fit {column}: it told them apart with an AUC of {0.5 + strength:.2f} in the history and does with "
                f"{0.5 + found.get(column, 0.0):.2f} here, so they belong to other rows"
            )
    return None


def telling(usecase: UseCase, flights: pl.DataFrame) -> dict[str, float]:
    """How well each number that is known before the label tells it: its AUC, less the .5 of a coin."""
    labelled = flights.with_columns(label_of(usecase.label).alias(LABEL)).filter(pl.col(LABEL).is_not_null())
    early = usecase.tables[usecase.entity_table].known
    numbers = [name for name in early if name in labelled.columns and labelled[name].dtype.is_numeric()]
    found = {}
    for name in numbers:
        known = labelled.filter(pl.col(name).is_not_null())
        if known[LABEL].n_unique() == 2:
            found[name] = roc_auc_score(known[LABEL], known[name]) - 0.5
    return found
