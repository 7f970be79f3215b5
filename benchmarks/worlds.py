"""Measure what a hidden world keeps of the real year and what it destroys.

    python benchmarks/worlds.py --out benchmarks/results/worlds.md
    python benchmarks/worlds.py --seeds 2 --set CARRIER_SD=0.3     # try another size of an effect

Every figure is computed for the real year and for each seed with the same code. All features are known two hours
before the scheduled departure; labels enter a feature only once they are known.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from grader.world import build as make_world
from grader.world.build import World, public_tables, true_chances

WORLD = sys.modules["grader.world.build"]  # its constants are what `--set` changes
FIRST_SEED = 101
LEAD = pd.Timedelta(hours=2)
TRAINED = 3  # months the frozen model has seen
WEATHER = ["humid", "wind_speed", "precip", "visib"]  # raw temperature and pressure hurt across seasons
STATIC = ["minute", "sched_minutes", "distance_miles", "dow", "carrier", "origin", "dest", *WEATHER]
HISTORY = ["carrier_late_7d", "route_late_28d", "origin_delay_3h", "tail_last_delay", "tail_last_age"]
MONTHS = range(TRAINED + 1, 13)


TRIED = """
## What was tried before, on seeds 101 to 105 and 201 to 203

- Public part at .85, effects of the world of .15 to .2 each, shocks at 1.3: the public model beat the honest one in 9 of 9
  months (.69 to .64), history gained only .012 to .017 AUC and the honest model lost up to .065 in a month.
- Stronger effects without taking out what they share with the public part: in one world they cancelled it, in the next they
  added to it (honest AUC .644 and .611 with effects of .5, .688 and .659 with .75).
- Public part at .55 to .6: lookups reached the honest model in a month of some worlds.
- A walk of the carriers of half this size, effects of .8: retraining gained 10 to 18 (1e-4 Brier)
  instead of 21 to 38; the real year has 45.
- Rates brought back by real month instead of the world's: up to .035 off in June, since whole weeks move month ends.
- Left as it is: May. The real one is unusually easy (.715); no setting reached it without lifting the other months.
"""


def seconds(instants: pd.Series) -> np.ndarray:
    """Seconds since 1970; missing instants become the far future."""
    whole = instants.astype("int64").to_numpy() // 1_000_000
    return np.where(instants.isna(), 2**31, whole)


class Past:
    """Values that became known at some time, by group; answers what was known at another time."""

    def __init__(self, group: np.ndarray, known_at: np.ndarray, value: np.ndarray) -> None:
        keep = (known_at < 2**31) & ~np.isnan(value) & (group >= 0)
        key = (group[keep].astype("int64") << 32) | known_at[keep]
        order = np.argsort(key, kind="stable")
        self.key, self.value, self.at = key[order], value[keep][order], known_at[keep][order]
        self.sums = np.append(0.0, self.value.cumsum())

    def _position(self, group: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.key, (group.astype("int64") << 32) | at, "right")

    def mean(self, group: np.ndarray, at: np.ndarray, window: str) -> np.ndarray:
        """Mean over `(at - window, at]`; NaN where nothing was known."""
        stop = self._position(group, at)
        start = self._position(group, at - int(pd.Timedelta(window).total_seconds()))
        with np.errstate(invalid="ignore"):
            return (self.sums[stop] - self.sums[start]) / (stop - start)

    def last(self, group: np.ndarray, at: np.ndarray, cap: str) -> tuple[np.ndarray, np.ndarray]:
        """Last value and its age in seconds; NaN where it is older than `cap` or there is none."""
        place = self._position(group, at) - 1
        found = (place >= 0) & (self.key[np.maximum(place, 0)] >> 32 == group)
        age = at - self.at[np.maximum(place, 0)]
        found &= age <= pd.Timedelta(cap).total_seconds()
        return np.where(found, self.value[np.maximum(place, 0)], np.nan), np.where(found, age, np.nan)


def features(world: World) -> pd.DataFrame:
    """One row per landed flight in the order of the world: static and history features, month and label."""
    flights = world.flights
    decided = seconds(flights.sched_dep - LEAD)
    known = seconds(flights.label_known_at)
    late = np.where(flights.arr_delay_min.isna(), np.nan, flights.arr_delay_min > WORLD.LATE_MINUTES)
    text = flights.sched_dep_local
    day = pd.to_datetime(text.str.slice(0, 10))
    table = pd.DataFrame(
        {
            "minute": text.str.slice(11, 13).astype(int) * 60 + text.str.slice(14, 16).astype(int),
            "sched_minutes": (flights.sched_arr - flights.sched_dep).dt.total_seconds() / 60,
            "distance_miles": flights.distance_miles,
            "dow": day.dt.dayofweek,
            "day": (day - pd.Timestamp(world.year, 1, 1)).dt.days,
            "month": day.dt.month,
            **{name: flights[name].astype("category") for name in ("carrier", "origin", "dest")},
        }
    )
    origin = pd.factorize(flights.origin, sort=True)[0]
    station = pd.factorize(world.weather.origin, sort=True)[0]
    for name in WEATHER:
        past = Past(station, seconds(world.weather.known_at), world.weather[name].to_numpy())
        table[name] = past.last(origin, decided, "6h")[0]
    carrier = pd.factorize(flights.carrier)[0]
    route = pd.factorize(flights.origin + flights.dest)[0]
    tail = pd.factorize(flights.tailnum)[0]
    table["carrier_late_7d"] = Past(carrier, known, late).mean(carrier, decided, "7D")
    table["route_late_28d"] = Past(route, known, late).mean(route, decided, "28D")
    departed = Past(origin, seconds(flights.dep_known_at), flights.dep_delay_min.to_numpy())
    table["origin_delay_3h"] = departed.mean(origin, decided, "3h")
    arrived = Past(tail, known, flights.arr_delay_min.to_numpy())
    table["tail_last_delay"], table["tail_last_age"] = arrived.last(tail, decided, "2D")
    table["late"] = late
    return table.assign(flight_id=flights.flight_id)[~np.isnan(late)].reset_index(drop=True)


def fit(table: pd.DataFrame, columns: list[str]) -> HistGradientBoostingClassifier:
    model = HistGradientBoostingClassifier(
        categorical_features="from_dtype", learning_rate=0.06, max_iter=100, min_samples_leaf=100, random_state=0
    )
    return model.fit(table[columns], table.late)


def chance(model: HistGradientBoostingClassifier, table: pd.DataFrame, columns: list[str]) -> np.ndarray:
    return model.predict_proba(table[columns])[:, 1]


def public_scores(table: pd.DataFrame) -> pd.DataFrame:
    """What the public year says about each flight of a world, by aligning calendars and joining schedules.

    `label` is the public arrival delay of the nearest schedule, `model` the log-odds of the shipped generator, which
    was fitted on the whole public year and knows its months and the weather of the departure hour.
    """
    public = public_tables()
    flights = public["flights"]
    local = flights.sched_dep_local
    source = pd.DataFrame(
        {
            "day": local.dt.dayofyear - 1,
            "minute": local.dt.hour * 60 + local.dt.minute,
            "origin": flights.origin,
            "dest": flights.dest,
            "label": flights.arr_delay_min.astype(float).fillna(0),
            "model": public["generator"].logit_milli / 1000.0,
        }
    )
    counts = source.groupby("day").size().reindex(range(365), fill_value=0).to_numpy(float)
    seen = table.groupby("day").size().reindex(range(365), fill_value=0).to_numpy(float)
    shift = max(range(-10, 11), key=lambda by: np.corrcoef(np.roll(counts, by)[10:355], seen[10:355])[0, 1])
    keys = ["origin", "dest", "day"]
    left = table[[*keys, "minute"]].astype({"origin": "str", "dest": "str"})
    left["row"] = np.arange(len(left))
    right = source.assign(day=source.day + shift).sort_values("minute", kind="stable")
    for name in [*keys, "minute"]:
        left[name], right[name] = left[name].astype(right[name].dtype), right[name]
    joined = pd.merge_asof(left.sort_values("minute", kind="stable"), right, on="minute", by=keys, direction="nearest")
    return joined.sort_values("row")[["label", "model"]].fillna(0).reset_index(drop=True)


def by_month(table: pd.DataFrame, score: np.ndarray) -> dict[int, float]:
    month = table.month.to_numpy()
    return {m: roc_auc_score(table.late[month == m], score[month == m]) for m in MONTHS}


def brier(table: pd.DataFrame, score: np.ndarray) -> float:
    return float(((table.late - score) ** 2).mean())


def study(seed: int | None) -> dict[str, object]:
    """All figures of one world."""
    started = time.perf_counter()
    world = make_world(seed)
    built = time.perf_counter() - started
    table = features(world)
    past, later = table[table.month <= TRAINED], table[table.month > TRAINED]
    found: dict[str, object] = {"seconds": built, "year": world.year}
    found["rate"] = table.groupby("month").late.mean().to_dict()
    frozen = fit(past, STATIC)
    static = chance(frozen, table, STATIC)
    found["static"] = by_month(table, static)
    history = chance(fit(past, STATIC + HISTORY), table, STATIC + HISTORY)
    found["history"] = by_month(table, history)
    found["single"] = {
        name: np.mean(list(by_month(later, later[name].fillna(later[name].mean()).to_numpy()).values()))
        for name in HISTORY[:4]
    }
    shuffled = table.sample(frac=1, random_state=0)
    cut = len(shuffled) * 3 // 4
    found["random"] = by_month(shuffled[cut:], chance(fit(shuffled[:cut], STATIC), shuffled[cut:], STATIC))
    found["frozen_brier"], found["retrained_brier"], found["retrained_auc"] = {}, {}, {}
    for month in MONTHS:
        rows = table[table.month == month]
        score = (
            static[rows.index]
            if month == TRAINED + 1
            else chance(fit(table[table.month < month], STATIC), rows, STATIC)
        )
        found["frozen_brier"][month] = brier(rows, static[rows.index])
        found["retrained_brier"][month] = brier(rows, score)
        found["retrained_auc"][month] = roc_auc_score(rows.late, score)
    if seed is not None:
        public = public_scores(table)
        found["public_label"] = by_month(table, public.label.to_numpy())
        found["public_model"] = by_month(table, public.model.to_numpy())
        both = [*STATIC, "public"]
        known = table.assign(public=public.model)
        found["public_both"] = by_month(known, chance(fit(known[known.month <= TRAINED], both), known, both))
        truth = true_chances(seed)
        found["oracle"] = by_month(table, table.flight_id.map(truth).to_numpy())
    return found


def mean(values: dict[int, float]) -> float:
    return float(np.mean(list(values.values())))


def row(name: str, values: dict[int, float], months: range) -> str:
    cells = " | ".join(f"{values[m]:.3f}".replace("0.", ".", 1) if m in values else "" for m in months)
    return f"| {name} | {cells} |"


def report(results: dict[int | None, dict]) -> list[str]:
    """The tables, as lines of Markdown."""
    real, seeds = results[None], [seed for seed in results if seed is not None]
    title = {None: "real year", **{seed: f"seed {seed}" for seed in seeds}}
    lines: list[str] = []

    def by_month_table(heading: str, key: str, months: range) -> None:
        lines.extend(["", f"## {heading}", "", "| world | " + " | ".join(str(m) for m in months) + " |"])
        lines.append("|---" * (len(months) + 1) + "|")
        lines.extend(row(title[s], results[s][key], months) for s in results)

    lines += ["", "## In one look", ""]
    lines.append(
        "| world | year | build s | honest AUC | largest monthly gap to real | with history | random minus temporal "
        "| retraining gains Brier (1e-4) | June alone | public label | public model | honest + public model | oracle |"
    )
    lines.append("|---" * 13 + "|")
    for s, r in results.items():
        gap = max(abs(r["static"][m] - real["static"][m]) for m in MONTHS)
        gains = {m: 1e4 * (r["frozen_brier"][m] - r["retrained_brier"][m]) for m in MONTHS if m > TRAINED + 1}
        extra = [
            f"{mean(r[k]):.3f}" if k in r else "" for k in ("public_label", "public_model", "public_both", "oracle")
        ]
        lines.append(
            f"| {title[s]} | {r['year']} | {r['seconds']:.2f} | {mean(r['static']):.3f} | {gap:.3f} "
            f"| {mean(r['history']):.3f} ({mean(r['history']) - mean(r['static']):+.3f}) "
            f"| {mean(r['random']) - mean(r['retrained_auc']):+.3f} | {mean(gains):.0f} | {gains[6]:.0f} | "
            + " | ".join(extra)
            + " |"
        )
    lines.append("")
    lines.append("AUC columns are means over April to December.")
    by_month_table("Late rate", "rate", range(1, 13))
    by_month_table("AUC of the honest model (January to March, schedule and weather)", "static", MONTHS)
    by_month_table("AUC with history features", "history", MONTHS)
    by_month_table("AUC of the model retrained each month on everything before", "retrained_auc", MONTHS)
    by_month_table("Brier score, frozen", "frozen_brier", MONTHS)
    by_month_table("Brier score, retrained", "retrained_brier", MONTHS)
    lines += ["", "## AUC of one history feature alone, mean over April to December", ""]
    lines += ["| world | " + " | ".join(HISTORY[:4]) + " |", "|---" * 5 + "|"]
    for s, r in results.items():
        lines.append(f"| {title[s]} | " + " | ".join(f"{r['single'][n]:.3f}" for n in HISTORY[:4]) + " |")
    lines += ["", "## Months in which a lookup reaches the honest model", ""]
    lines += ["| world | public label | public model | smallest lead of the honest model over both |", "|---" * 4 + "|"]
    for s in seeds:
        r = results[s]
        wins = [sum(r[k][m] >= r["static"][m] for m in MONTHS) for k in ("public_label", "public_model")]
        lead = min(r["static"][m] - max(r["public_label"][m], r["public_model"][m]) for m in MONTHS)
        lines.append(f"| {title[s]} | {wins[0]} of 9 | {wins[1]} of 9 | {lead:+.3f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="number of hidden worlds")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a constant of build.py")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    for setting in options.set:
        name, value = setting.split("=")
        getattr(WORLD, name)  # a wrong name stops here
        setattr(WORLD, name, float(value))
    public_tables()  # reading the source is not building
    seeds: list[int | None] = [None, *range(FIRST_SEED, FIRST_SEED + options.seeds)]
    lines = report({seed: study(seed) for seed in seeds})
    command = "python benchmarks/worlds.py " + " ".join(sys.argv[1:])
    head = [
        "# Hidden worlds, measured",
        "",
        f"`{command.strip()}` on {platform.machine()}, Python {platform.python_version()}.",
    ]
    text = "\n".join([*head, *lines]) + "\n" + TRIED
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
