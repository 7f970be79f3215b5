"""Extremely randomized trees: numbers as they are, texts by a code, what is missing far below all."""

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier

NOTHING = -1e6


class Trees:
    def fit(self, x, y, seed):
        self.levels = {name: sorted(c.dropna().astype(str).unique()) for name, c in x.items() if not pd.api.types.is_numeric_dtype(c)}
        self.names = list(x)
        self.trees = ExtraTreesClassifier(120, min_samples_leaf=25, max_features=0.5, random_state=seed % 2**32, n_jobs=1)
        self.trees.fit(self.table(x), y)
        return self

    def table(self, x):
        columns = []
        for name in self.names:
            if name in self.levels:
                texts = pd.Index(x[name].to_numpy(dtype=object, na_value=None), dtype=object)
                columns.append(pd.Index(self.levels[name], dtype=object).get_indexer(texts))
            else:
                columns.append(pd.to_numeric(x[name], errors="coerce").fillna(NOTHING).to_numpy(float).clip(-1e9, 1e9))
        return np.column_stack(columns)

    def probability(self, x):
        return self.trees.predict_proba(self.table(x))[:, 1]
