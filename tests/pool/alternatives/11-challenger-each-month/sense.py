"""What the loop knows about flights and models: which labels cannot be true, whether the champion still holds, and which days to learn from."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

import delay

LATELY = 31  # days: how far back the champion is asked how it does
FEWEST_DAYS, FEWEST_FLIGHTS = 10, 500  # below that nothing is said
SURE = 3.0  # standard errors, by days
YOUNG = 35  # days learned from: a champion with fewer is trained again once there are twice as many


# Labels that cannot be true


def impossible(flights):
    """The share of landed flights that would have had to land before they could: off the stand, and then in the air for as long as they say."""
    flown = flights.dropna(subset=["dep_time", "arr_time", "air_time_min", "arr_delay_min"])
    if flown.empty:
        return 0.0
    minute = pd.Timedelta(minutes=1)
    elapsed = (flown["arr_time"] - flown["dep_time"]) / minute
    due = (flown["sched_arr"] - flown["dep_time"]) / minute + flown["arr_delay_min"]  # the same, by the delay; null where sched_arr is
    return float(((elapsed < flown["air_time_min"]) | (due < flown["air_time_min"])).mean())


def doubt(flights, history):
    """Why the labels of a month cannot be true, or None."""
    here, usual = impossible(flights), impossible(history)
    if here <= 3 * usual + 0.02:
        return None
    return f"its labels do not fit its departures: {here:.0%} of its flights would have landed sooner than they can fly, {usual:.1%} in the history"


# Models


def plain():
    """The challenger: a logistic regression, trained in a second and never kept."""
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    names = make_pipeline(SimpleImputer(strategy="constant", fill_value="?"), OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=20))
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler())
    columns = ColumnTransformer([("names", names, make_column_selector(dtype_include=object)), ("numbers", numbers, make_column_selector(dtype_exclude=object))])
    return make_pipeline(columns, LogisticRegression(C=0.1, max_iter=500))


def crossed(x, label, days, asked, among=None, folds=5):
    """What a plain model says of the flights asked about, each time without having learned from any flight of that day."""
    among = np.ones(len(x), bool) if among is None else among
    turn = pd.factorize(days, sort=True)[0] % folds
    out = np.full(len(x), np.nan)
    for fold in range(folds):
        learn, say = among & (turn != fold), asked & (turn == fold)
        if say.any():
            out[say] = plain().fit(x[learn], label[learn]).predict_proba(x[say])[:, 1]
    return out


def by_days(gain, days):
    """The mean gain of a flight, and its standard error where the flights of a day share their luck."""
    of_days = pd.DataFrame({"gain": gain, "n": 1}).groupby(days).sum()
    mean = of_days["gain"].sum() / of_days["n"].sum()
    off = of_days["gain"] - mean * of_days["n"]
    k = len(of_days)
    return float(mean), float(np.sqrt((off**2).sum() * k / (k - 1)) / of_days["n"].sum())


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
    """All of these days as a lesson; a fifth of them are held out, to be judged by."""
    first, last = days.min(), days.max()
    span = (pd.Timestamp(last) - pd.Timestamp(first)).days + 1
    return {"train_start": first, "train_end": last, "days_held_out": int(np.clip(round(span / 5), 1, 14))}


def look(view, champion, learned, cost):
    """What to do about a champion, which learned from the days `learned` (first, last, number): a reason, and a window or None."""
    days, label = view.days, view.label
    fresh = days > learned["train_end"]
    edge = str((pd.Timestamp(days.max()) - pd.Timedelta(days=LATELY - 1)).date())
    lately = fresh & (days >= edge)
    if len(set(days[lately])) < FEWEST_DAYS or lately.sum() < FEWEST_FLIGHTS or len(set(label[lately])) < 2:
        return f"only {len(set(days[lately]))} days have come that the champion does not know", None
    ours = np.full(len(days), np.nan)
    ours[fresh] = delay.losses(label[fresh], delay.said(champion, view.x[fresh].reset_index(drop=True)))
    challenger = np.full(len(days), np.nan)
    challenger[lately] = crossed(view.x, label, days, lately, among=lately)[lately]
    gain, error = by_days((ours - delay.losses(label, challenger))[lately], days[lately])
    said = f"a plain model of the last {len(set(days[lately]))} days is better than the champion by {gain:.4f} (se {error:.4f}) a flight"
    if gain > max(cost, SURE * error):
        return outdated(view, fresh, lately, ours, challenger, learned, said)
    return grown(view, fresh, lately, ours, learned, cost, said)


def outdated(view, fresh, lately, ours, challenger, learned, said):
    """Since when the champion does not hold, and whether older days still help."""
    days, label = view.days, view.label
    before = fresh & ~lately
    if before.any():
        challenger[before] = plain().fit(view.x[lately], label[lately]).predict_proba(view.x[before])[:, 1]
    gain = pd.Series((ours - delay.losses(label, challenger))[fresh]).groupby(days[fresh]).sum().sort_index()
    since = gain[::-1].cumsum().idxmax()
    new = days >= since
    choices = {first: days >= first for first in (days.min(), learned["train_start"], since)}  # all, the champion's and more, the newest only
    worth = {}
    for name, among in choices.items():
        p = crossed(view.x, label, days, new, among=among)[new]
        worth[name] = delay.losses(label[new], p).mean()
    best = min(worth, key=worth.get)
    told = ", ".join(f"{first} give {loss:.4f}" for first, loss in worth.items())
    return f"{said}; it seems to hold no more since {since}; on the days since then, those learned from since {told}", window(days[choices[best]])


def grown(view, fresh, lately, ours, learned, cost, said):
    """A champion that had little to learn from is trained again when there is more."""
    days, label = view.days, view.label
    among = days >= learned["train_start"]
    if learned["days"] >= YOUNG or len(set(days[among])) < 2 * learned["days"]:
        return f"the champion is worth what it was: {said}", None
    p = crossed(view.x, label, days, lately, among=among)
    gain, error = by_days((ours - delay.losses(label, p))[lately], days[lately])
    if gain <= cost:
        return f"the champion is young, but more days would give only {gain:.4f} (se {error:.4f})", None
    return f"the champion is young, and a plain model of all days since {learned['train_start']} is better by {gain:.4f} (se {error:.4f})", window(days[among])
