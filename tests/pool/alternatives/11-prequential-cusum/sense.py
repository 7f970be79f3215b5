"""Another sense for the same loop: a shadow bets against the champion day by day, and a sum of its gains says when it has won.

The shadow is a logistic regression that knows what the champion says and may correct it. It is trained on the fresh days before each few days
that it then scores (prequential), so nothing that it gains is hindsight. The gains of days, less what a training costs, go into a CUSUM; a run of
days is an alarm if its mean is many times its own standard error. Labels are doubted by how arrivals follow departures.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

import delay

LATELY = 31  # days that the gate may look back
BLOCK, MEMORY, REACH = 4, 35, 70  # days that a shadow scores; learns from; and that are looked at altogether
FEWEST = 5  # days of a run, and of what a shadow learns from
SURE = 3.5  # standard errors of a run
FEW_DAYS = 40  # a champion that learned from fewer is made anew when there are twice as many
FOLLOWS = 0.6  # of the rank correlation in the history


def follows(flights):
    """The rank correlation of the delays at departure and at arrival."""
    both = flights.dropna(subset=["dep_delay_min", "arr_delay_min"])
    return float(both["dep_delay_min"].rank().corr(both["arr_delay_min"].rank()))


def doubt(flights, history):
    here, usual = follows(flights), follows(history)
    if here >= FOLLOWS * usual:
        return None
    return f"arrivals do not follow departures: rank correlation {here:.2f}, in the history {usual:.2f}"


@dataclass
class View:
    """All flights whose labels are known, in the order of their days."""

    x: pd.DataFrame
    label: np.ndarray
    days: np.ndarray

    @classmethod
    def of(cls, source, now):
        flights = source.tables["flights"]
        flights = flights[flights["label"].notna() & (flights["label_known_at"] <= now)]
        flights = flights.sort_values(["sched_dep_local", "flight_id"]).reset_index(drop=True)
        return cls(source.features(flights), flights["label"].to_numpy() == 1, flights["sched_dep_local"].str[:10].to_numpy())


def window(days):
    """All of these days as a lesson, the last fifth of them to be judged by."""
    first, last = days.min(), days.max()
    span = (pd.Timestamp(last) - pd.Timestamp(first)).days + 1
    return {"train_start": first, "train_end": last, "days_held_out": max(1, min(14, span // 5))}


def shadow(x, said, label):
    """What corrects the champion: its log-odds, the texts one by one, and the numbers."""
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    texts = make_pipeline(SimpleImputer(strategy="constant", fill_value="-"), OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=15))
    numbers = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    parts = [("texts", texts, make_column_selector(dtype_include=object)), ("numbers", numbers, make_column_selector(dtype_exclude=object))]
    return make_pipeline(ColumnTransformer(parts), LogisticRegression(C=0.05, max_iter=300)).fit(beside(x, said), label)


def beside(x, said):
    p = np.clip(said, 1e-4, 1 - 1e-4)
    return x.assign(**{"what the champion says": np.log(p / (1 - p))})


def bets(view, said, fresh):
    """Of each fresh day what the shadow gained over the champion, and its flights."""
    days = sorted(set(view.days[fresh]))[-REACH:]
    gains = pd.Series(0.0, index=days)
    for start in range(FEWEST, len(days), BLOCK):
        known, asked = days[max(0, start - MEMORY) : start], days[start : start + BLOCK]
        learn, score = (np.isin(view.days, part) for part in (known, asked))
        if len(set(view.label[learn])) < 2:
            continue
        model = shadow(view.x[learn], said[learn], view.label[learn])
        p = model.predict_proba(beside(view.x[score], said[score]))[:, 1]
        gain = delay.losses(view.label[score], said[score]) - delay.losses(view.label[score], p)
        gains.loc[asked] = pd.Series(gain).groupby(view.days[score]).sum().reindex(asked).to_numpy()
    return gains, pd.Series(1, index=view.days[fresh]).groupby(level=0).sum().reindex(days)


def run(gains, flights, cost):
    """The days since which the shadow wins, by Page's CUSUM: the first of them, the mean gain, and how many errors that is."""
    net = (gains - cost * flights).to_numpy()
    total, start = 0.0, None
    for at, value in enumerate(net):
        if total <= 0:
            total, start = 0.0, at
        total += value
    if total <= 0 or len(net) - start < FEWEST:
        return None, 0.0, 0.0
    mine = net[start:]
    error = mine.std(ddof=1) * np.sqrt(len(mine))
    return gains.index[start], float(gains.iloc[start:].sum() / flights.iloc[start:].sum()), float(total / error)


def look(view, champion, learned, cost):
    days = view.days
    fresh = days > learned["train_end"]
    if len(set(days[fresh])) < 2 * FEWEST:
        return f"{len(set(days[fresh]))} fresh days say nothing", None
    said = np.full(len(days), 0.5)
    said[fresh] = delay.said(champion, view.x[fresh].reset_index(drop=True))
    gains, flights = bets(view, said, fresh)
    since, gain, errors = run(gains, flights, cost)
    told = f"the shadow gains {gain:.4f} a flight since {since}, {errors:.1f} errors" if since else "the shadow gains nothing"
    if errors >= SURE:
        first = began(view, said, fresh, since)
        return f"{told}; by what it knows now it wins since {first}", window(days[days >= first])
    mine = days[days >= learned["train_start"]]
    if learned["days"] < FEW_DAYS and len(set(mine)) >= 2 * learned["days"]:
        return f"{told}; the champion learned from {learned['days']} days, and there are {len(set(mine))} by now", window(mine)
    return told, None


def began(view, said, fresh, since):
    """The day that splits best, for a shadow that knows the days of the run: it took days until it had learned enough to win."""
    learn = view.days >= since
    model = shadow(view.x[learn], said[learn], view.label[learn])
    p = model.predict_proba(beside(view.x[fresh], said[fresh]))[:, 1]
    gain = delay.losses(view.label[fresh], said[fresh]) - delay.losses(view.label[fresh], p)
    by_day = pd.Series(gain).groupby(view.days[fresh]).sum().sort_index()
    return by_day[::-1].cumsum().idxmax()
