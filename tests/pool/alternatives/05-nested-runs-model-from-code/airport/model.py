"""A logistic regression on bins: every number is cut into at most twelve, every text is its 150 most frequent levels."""

import numpy as np
import pandas as pd
from scipy import optimize, sparse


def is_number(column):
    return pd.api.types.is_numeric_dtype(column)


class Binned:
    def fit(self, x, y, ridge=3.0):
        self.cuts = {}
        for name, column in x.items():
            if is_number(column):
                known = column.dropna().to_numpy(float)
                cuts = np.unique(np.quantile(known, np.linspace(0, 1, 13)[1:-1])) if len(known) else np.empty(0)
                self.cuts[name] = ("number", cuts.tolist())
            else:
                counts = column.dropna().astype(str).value_counts()
                counts = counts[counts >= 25]
                self.cuts[name] = ("text", sorted(sorted(counts.index, key=lambda v: (-counts[v], v))[:150]))
        design = self.design(x)
        rate = float(np.clip(y.mean(), 0.01, 0.99))

        def loss(w):
            score = design @ w[1:] + w[0]
            p = 1 / (1 + np.exp(-score))
            value = (np.logaddexp(0, score) - y * score).sum() + ridge / 2 * (w[1:] ** 2).sum()
            return value, np.append((p - y).sum(), design.T @ (p - y) + ridge * w[1:])

        start = np.append(np.log(rate / (1 - rate)), np.zeros(design.shape[1]))
        self.weights = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 150}).x.tolist()
        return self

    def design(self, x):
        places, width = [], 0
        for name, (kind, marks) in self.cuts.items():
            column = x[name]
            if kind == "number":
                values = pd.to_numeric(column, errors="coerce").to_numpy(float)
                code = np.where(np.isnan(values), len(marks) + 1, np.searchsorted(marks, values, side="right"))
                size = len(marks) + 2
            else:
                code = pd.Index(marks, dtype=object).get_indexer(pd.Index(column.to_numpy(dtype=object, na_value=None), dtype=object))
                size = len(marks) + 1
                code = np.where(code < 0, size - 1, code)
            places.append(code + width)
            width += size
        columns = np.column_stack(places)
        return sparse.csr_matrix((np.ones(columns.size), columns.ravel(), np.arange(len(columns) + 1) * columns.shape[1]), (len(columns), width))

    def probability(self, x):
        return 1 / (1 + np.exp(-(self.design(x) @ np.array(self.weights[1:]) + self.weights[0])))
