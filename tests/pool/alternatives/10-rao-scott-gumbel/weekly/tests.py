"""The tests. A score is a test's log p-value as a share of what is needed for an alarm: above 1 is one."""

import numpy as np
from scipy import stats

from .read import is_number

RATE = {"data": 0.02, "prediction": 0.01, "performance": 0.01}  # of good weeks that may raise an alarm
BINS = 8  # of numbers
COMMON = 0.02  # share of rows from which a text has a bin of its own
LEAST = 0.005  # expected share of a bin, so that a few rows in an empty one are no news
NEWS = 0.01  # share of rows with a text that nobody has seen, below which it is none


class Histogram:
    """Counts of one column, nulls in the last bin but one, never-seen texts in the last."""

    def __init__(self, pooled, number):
        self.number = number
        if number:
            there = pooled[~np.isnan(pooled)]
            self.edges = np.unique(np.quantile(there, np.arange(1, BINS) / BINS, method="nearest")) if len(there) else np.array([])
            self.size = len(self.edges) + 1
        else:
            there = np.array([v for v in pooled if v is not None], dtype=object)
            names, counts = np.unique(there.astype(str), return_counts=True) if len(there) else ([], [])
            common = [n for n, c in zip(names, counts, strict=True) if c >= COMMON * len(pooled)]
            self.bin = {name: i for i, name in enumerate(common)} | {n: len(common) for n in names if n not in set(common)}
            self.size = len(common) + 1

    def counts(self, values):
        if self.number:
            null = np.isnan(values)
            found = np.bincount(np.searchsorted(self.edges, values[~null], side="left"), minlength=self.size)
            return np.append(found, [null.sum(), 0]).astype(float)
        at = [self.size if v is None else self.bin.get(str(v), self.size + 1) for v in values]
        return np.bincount(at, minlength=self.size + 2).astype(float)


def chi_square(counts, base):
    """Of each row of counts, against shares that `base` counts; never-seen ones are asked about apart."""
    counts, base = counts[..., :-1], base[..., :-1]
    n = counts.sum(axis=-1, keepdims=True)
    share = np.maximum(base / base.sum(axis=-1, keepdims=True), LEAST)
    share = share / share.sum(axis=-1, keepdims=True)
    return ((counts - n * share) ** 2 / np.maximum(n * share, 1e-9)).sum(axis=-1)


class Homogeneity:
    """Do these counts come from the same population of weeks?"""

    def __init__(self, name, number, values):
        self.name, self.histogram = name, Histogram(np.concatenate(values), number)
        self.counts = np.array([self.histogram.counts(v) for v in values])
        self.total, self.rows = self.counts.sum(axis=0), self.counts.sum(axis=1)
        self.statistic = chi_square(self.counts, self.total - self.counts)
        self.free = self.histogram.size  # bins less one, the one of nulls among them

    def log_p(self, counts, keep=None):
        """-log10 of the p-value. `keep` leaves a good week out."""
        n = counts.sum()
        if not n:
            return 0.0
        keep = slice(None) if keep is None else keep
        known, usual = self.statistic[keep], self.rows[keep].mean()
        extra = max(known.mean() / self.free - 1, 0) * n / usual  # what weeks add to the scatter of rows grows with the rows
        mean = self.free * (1 + extra)
        ratio = max(known.var(ddof=1) / known.mean() ** 2, 2 / self.free)  # of Satterthwaite: 2 / degrees of freedom
        free = 2 / ratio
        base = self.counts[keep].sum(axis=0)
        value = chi_square(counts, base)
        found = -stats.chi2.logsf(value * free / mean, free) / np.log(10)
        unseen = counts[-1]
        if unseen:
            found = max(found, -stats.binom.logsf(unseen - 1, int(n), NEWS) / np.log(10))
        return float(min(found, 300.0))


def recalibration(answer, label):
    """Intercept and slope of label on the answer's log-odds, by Newton, held near 0 and 1 by a weak prior."""
    p = np.clip(answer, 1e-6, 1 - 1e-6)
    x = np.stack([np.ones_like(p), np.log(p / (1 - p)) + 1.3], axis=1)  # about the middle of the answers
    target, weight = np.array([-1.3, 1.0]), np.array([0.5, 0.5])
    beta = target.copy()
    for _ in range(25):
        q = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        gradient = x.T @ (label - q) - weight * (beta - target)
        step = np.linalg.solve((x * (q * (1 - q))[:, None]).T @ x + np.diag(weight), gradient)
        beta = beta + np.clip(step, -1, 1)
    return beta


class Fit:
    """Hotelling's T-square of a week's recalibration among those of good weeks."""

    def __init__(self, weeks):
        self.found = np.array([self.of(week) for week in weeks])
        self.rows = np.array([week.labelled for week in weeks], dtype=float)

    @staticmethod
    def of(week):
        there = ~np.isnan(week.label)
        return recalibration(week.answer[there], week.label[there])

    def log_p(self, week, keep=None):
        if not week.labelled:
            return 0.0
        keep = slice(None) if keep is None else keep
        known = self.found[keep]
        m, k = known.shape
        wide = max(1.0, self.rows[keep].mean() / week.labelled)
        apart = self.of(week) - known.mean(axis=0)
        t = apart @ np.linalg.solve(np.cov(known.T) * wide, apart) / (1 + 1 / m)
        return float(min(-stats.f.logsf(t * (m - k) / (k * (m - 1)), k, m - k) / np.log(10), 300.0))


class Reference:
    def __init__(self, weeks):
        weeks = [week for week in weeks if week.n]
        names = dict.fromkeys(n for week in weeks for n in week.rows.column_names if n not in ("row_id", "probability"))
        self.columns = {n: any(n in w.rows.column_names and is_number(w.rows[n].type) for w in weeks) for n in names}
        self.data = [Homogeneity(n, number, [w.column(n, number) for w in weeks]) for n, number in self.columns.items()]
        self.answer = Homogeneity("probability", True, [w.answer for w in weeks])
        self.fit = Fit([w for w in weeks if w.labelled])
        self.bars = {}
        good = {"data": [], "prediction": [], "performance": []}
        for i in range(len(weeks)):
            keep = np.arange(len(weeks)) != i
            good["data"].append(max((t.log_p(t.counts[i], keep) for t in self.data), default=0.0))
            good["prediction"].append(self.answer.log_p(self.answer.counts[i], keep))
        labelled = [w for w in weeks if w.labelled]
        for i, week in enumerate(labelled):
            good["performance"].append(self.fit.log_p(week, np.arange(len(labelled)) != i))
        self.bars = {name: self.bar(values, RATE[name]) for name, values in good.items()}
        print({name: (round(bar, 2), round(max(good[name]), 2)) for name, bar in self.bars.items()})

    @staticmethod
    def bar(values, rate):
        """The Gumbel quantile of the largest of a good week; no lower than where p-values would be right as they are."""
        values = np.array(values)
        scale = max(values.std(ddof=1) * np.sqrt(6) / np.pi, 1 / np.log(10))
        return max(values.mean() - scale * np.euler_gamma - scale * np.log(-np.log(1 - rate)), -np.log10(rate))

    def scores(self, week):
        return {
            "data": {t.name: t.log_p(t.histogram.counts(week.column(t.name, self.columns[t.name]))) / self.bars["data"] for t in self.data},
            "prediction": {"answer": self.answer.log_p(self.answer.histogram.counts(week.answer)) / self.bars["prediction"]},
            "performance": {"fit": self.fit.log_p(week) / self.bars["performance"]},
        }
