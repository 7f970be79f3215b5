"""The judge's own model: gradient boosting on features, for what answers in its weeks of traffic and to compare others with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class Boosting:
    """A fitted model; categories are numbers to it, unknown ones are missing."""

    known: dict[str, dict[str, int]]
    names: list[str]
    fitted: Any

    @classmethod
    def fit(cls, table: pd.DataFrame, late: np.ndarray) -> Boosting:
        """Learn from features, shape (n, k), and whether each flight was late, shape (n,) bool."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        texts = [name for name in table.columns if table[name].dtype == object]
        known = {name: {value: i for i, value in enumerate(sorted(set(table[name])))} for name in texts}
        names = [str(name) for name in table.columns]
        model = HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=15, random_state=0)
        return cls(known, names, model.fit(_matrix(table, known, names), late))

    def answers(self, table: pd.DataFrame) -> np.ndarray:
        """The probability that each flight is late, shape (n,)."""
        found: np.ndarray = self.fitted.predict_proba(_matrix(table, self.known, self.names))[:, 1]
        return found


def _matrix(table: pd.DataFrame, known: dict[str, dict[str, int]], names: list[str]) -> np.ndarray:
    import numpy as np

    columns = [
        table[n].map(known[n]).to_numpy("float64") if n in known else table[n].to_numpy("float64") for n in names
    ]
    return np.column_stack(columns)
