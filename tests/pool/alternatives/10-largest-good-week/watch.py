"""Stage 10: is the model still right?

    python watch.py --usecase F --reference D --windows D --out D

One idea carries `data`, `prediction` and `performance`: a few distances say how far a week lies from all good weeks taken
together, and a distance is an alarm if it is clearly larger than any good week's own. There is no p-value in here. The rows
of a week share its storm, and a test that takes them for a thousand independent dice calls every week a drift.
"""

import argparse
import html
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata

FLAGS = ("data", "prediction", "performance", "model_age", "skew")
ANSWER = "probability"

# A limit is the largest distance of a good week times MARGIN. Without one, every third good week would pass the largest of
# sixty others in one of its forty distances; one in ten reaches 1.15 times that, and about one in sixty 1.5 times (seen in
# three worlds; `backtest` measures it on the reference given).
MARGIN = 1.4
# All distances are differences of shares of rows, so one number can say what is too little to wake anybody for, also in a
# column that never moves in good weeks.
FLOOR = 0.04
# Fewer rows than usual scatter more. By chance alone a KS distance of n rows passes 2 / sqrt(n) once in 1,500 times;
# shares scatter less and AUC about as much.
CHANCE = 2.0


# What is read ----------------------------------------------------------------------------------------------------------


@dataclass
class Window:
    name: str
    about: dict
    rows: pd.DataFrame
    labels: pd.Series  # by row_id: the rows of the window whose label was known at `now`, with the last that was
    batch: pd.DataFrame | None


def utc(when):
    return pd.to_datetime(when, utc=True)


def read_windows(folder):
    """One after the other: a year of windows need not fit into memory."""
    for home in sorted(f for f in folder.iterdir() if (f / "window.json").exists()):
        about, rows = json.loads((home / "window.json").read_text()), pd.read_parquet(home / "rows.parquet")
        labels, batch = pd.Series(dtype=bool), None
        if (home / "labels.parquet").exists():
            known = pd.read_parquet(home / "labels.parquet")
            known = known[(utc(known.label_known_at) <= utc(about["now"])) & known.row_id.isin(rows.row_id)]
            known = known.dropna().sort_values("label_known_at", kind="stable")
            labels = known.groupby("row_id").label.last().astype(bool)
        if (home / "batch.parquet").exists():
            batch = pd.read_parquet(home / "batch.parquet")
        yield Window(home.name, about, rows, labels, batch)


def values(rows, column, number):
    """A column as floats or as texts, with NaN or None for null; one that is not there is all nulls."""
    found = rows[column] if column in rows else pd.Series(None, index=rows.index, dtype=object)
    if number:
        return pd.to_numeric(found, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    return np.array([None if null else str(v) for v, null in zip(found, found.isna())], dtype=object)


# How far a week is from the good ones ----------------------------------------------------------------------------------
# Each profile holds one column of all good weeks together and gives distances as {name: (distance, rows it rests on)}.


def below(ordered, points, side="right"):
    """The share of `ordered` at or below each of `points`; with side "left", below it."""
    return np.searchsorted(ordered, points, side) / len(ordered)


class Numbers:
    """Difference in the share of nulls, and the Kolmogorov-Smirnov distance of the others.

    KS sees the order of values only. It needs no bins, an infinite value is just a large one, and it is a share of rows
    whatever the unit.
    """

    def __init__(self, column, weeks):
        pooled = np.concatenate([values(w.rows, column, True) for w in weeks])
        self.column, self.nulls, self.good = column, np.isnan(pooled).mean(), np.sort(pooled[~np.isnan(pooled)])

    def distances(self, rows):
        mine = values(rows, self.column, True)
        there = np.sort(mine[~np.isnan(mine)])
        found = {"nulls": (abs(np.isnan(mine).mean() - self.nulls), len(mine))}
        if len(there) and len(self.good):
            # Two staircases are furthest apart at a step of the one or just before it; the week has fewer steps.
            apart = [abs(below(there, there, side) - below(self.good, there, side)).max() for side in ("left", "right")]
            found["values"] = max(apart), len(there)
        return found


class Texts:
    """The largest difference in the share of one value (null is a value too), and the share of values never seen.

    These are two, as a big airport's share may move by far more in good weeks than a name nobody knows may ever have. And not
    the sum of all differences (total variation): over a hundred destinations the small ones of a good week add up to
    more than a new airport does.
    """

    def __init__(self, column, weeks):
        self.column, self.known = column, None
        self.good = self.shares(np.concatenate([values(w.rows, column, False) for w in weeks]))
        self.known = set(self.good.index)

    def shares(self, mine):
        named = ["(null)" if v is None else v for v in mine]
        if self.known is not None:
            named = [v if v in self.known or v == "(null)" else "(never seen)" for v in named]
        return pd.Series(named, dtype=object).value_counts(normalize=True)

    def distances(self, rows):
        mine = self.shares(values(rows, self.column, False))
        apart = mine.sub(self.good, fill_value=0).abs().max()
        return {"values": (apart, len(rows)), "never seen": (mine.get("(never seen)", 0.0), len(rows))}


class Fit:
    """How much worse than usual the answers rank the labels, and how far off their level is.

    Two distances, because neither sees what the other does: labels turned round keep the level, and forty points more late
    flights keep the ranking. `usual` is the median of the good weeks: a model that answers too high each week is a matter for
    its makers, not an alarm every Monday.
    """

    column = "fit"

    def __init__(self, weeks):
        self.usual = pd.DataFrame([self.measures(w) for w in weeks]).median()

    @staticmethod
    def measures(window):
        found = window.rows.set_index("row_id")[ANSWER].dropna().to_frame().join(window.labels.rename("late"), how="inner")
        late, rank = found.late.to_numpy(dtype=bool), rankdata(found[ANSWER])
        ones, zeros = late.sum(), (~late).sum()
        # The share of pairs of a late and a punctual flight in which the late one has the higher answer (AUC).
        auc = (rank[late].sum() - ones * (ones + 1) / 2) / (ones * zeros) if ones and zeros else np.nan
        return {"auc": auc, "gap": late.mean() - found[ANSWER].mean() if len(late) else np.nan, "rows": len(late)}

    def distances(self, window):
        its = self.measures(window)
        apart = {"ranking": max(self.usual.auc - its["auc"], 0), "level": abs(its["gap"] - self.usual.gap)}
        return {name: (distance, its["rows"]) for name, distance in apart.items() if not np.isnan(distance)}


class Monitor:
    def __init__(self, weeks, rules):
        weeks = [w for w in weeks if len(w.rows)]
        self.rules, self.usual_rows = rules, np.median([len(w.rows) for w in weeks])
        names = dict.fromkeys(c for w in weeks for c in w.rows.columns if c not in ("row_id", ANSWER))
        self.number = {c: any(c in w.rows and pd.api.types.is_numeric_dtype(w.rows[c]) for w in weeks) for c in names}
        self.features = [(Numbers if number else Texts)(c, weeks) for c, number in self.number.items()]
        self.answers, self.fit = Numbers(ANSWER, weeks), Fit(weeks)
        # A good week is a small part of all of them together, so its own share in that may be neglected.
        self.good = pd.DataFrame({w.name: {k: d for k, (d, _) in self.distances(w).items()} for w in weeks}).T
        self.limits = (self.good.max() * MARGIN).clip(lower=FLOOR)

    def distances(self, window):
        found = {(p.column, name): d for p in (*self.features, self.answers) for name, d in p.distances(window.rows).items()}
        return found | {(self.fit.column, name): d for name, d in self.fit.distances(window).items()}

    def scores(self, window):
        """By column, its largest distance as a multiple of the limit: above 1 is an alarm."""
        out = {}
        for (column, name), (distance, rows) in self.distances(window).items() if len(window.rows) else ():
            chance = CHANCE * max(rows**-0.5 - self.usual_rows**-0.5, 0)
            out[column] = max(out.get(column, 0), distance / (self.limits[column, name] + chance))
        return out

    def backtest(self):
        """Each good week as a multiple of the largest among the others; above MARGIN it would have been an alarm."""
        others = {w: self.good.drop(w).max().clip(lower=FLOOR / MARGIN) for w in self.good.index}
        return pd.Series({w: (self.good.loc[w] / largest).max() for w, largest in others.items()})

    def judge(self, window, scores):
        enough = len(window.rows) >= self.rules["min_rows"]
        columns = [p.column for p in self.features if enough and scores[p.column] > 1]
        skew, skewed = self.skew(window)
        return {
            "window_id": window.name,
            "data": "unknown" if not enough else "drift" if columns else "ok",
            "prediction": "unknown" if not enough else "drift" if scores[ANSWER] > 1 else "ok",
            "performance": self.performance(window, scores),
            "model_age": self.model_age(window.about),
            "skew": skew,
            "columns": columns,
            "skewed": skewed,
        }

    def performance(self, window, scores):
        if not len(window.rows) or len(window.labels) / len(window.rows) < self.rules["min_labels"]:
            return "unknown"
        return "degraded" if scores.get(self.fit.column, 0) > 1 else "ok"

    def model_age(self, about):
        age = utc(about["now"]).normalize() - utc(about["model_train_end"])
        return "stale" if age.days > self.rules["max_model_age_days"] else "ok"

    def skew(self, window):
        """Not a matter of statistics: both computed the same rows, so the values have to be the same."""
        if window.batch is None:
            return "unknown", []
        both = window.rows[["row_id"]].merge(window.batch[["row_id"]])
        if len(both) < self.rules["min_rows"]:
            return "unknown", []
        served, nightly = (t.set_index("row_id").loc[both.row_id] for t in (window.rows, window.batch))
        shared = [c for c in self.number if c in served and c in nightly]
        differ = {c: self.differ(served, nightly, c).mean() for c in shared}
        skewed = [c for c, share in differ.items() if share > self.rules["skew_share"]]
        return "skew" if skewed else "ok", skewed

    def differ(self, served, nightly, column):
        a, b = (values(t, column, self.number[column]) for t in (served, nightly))
        if not self.number[column]:
            return a != b
        with np.errstate(invalid="ignore"):  # infinity less infinity
            far = ~(abs(a - b) <= self.rules["skew_relative"] * np.maximum(abs(a), abs(b)))
        # `far` also holds where one is null; two infinities or two nulls are the same, and infinity is no tolerance.
        return (far | (np.isinf(a) | np.isinf(b))) & (a != b) & ~(np.isnan(a) & np.isnan(b))


# The report ------------------------------------------------------------------------------------------------------------
# For the one who is woken: what is wrong, how much, and a picture of each column that is furthest from the good weeks.

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title><style>
body {{ font: 15px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }}
td, th {{ text-align: left; padding: .2em 1em .2em 0 }} svg {{ background: #f6f6f6; margin: .3em 1em .3em 0 }}
.alarm {{ background: #b00020; color: #fff; padding: 0 .4em }} figure {{ display: inline-block; margin: 0 }}
</style><h1>Week {name}</h1><p>Service {service}, {start} to {end}: {rows:,} rows, of which {labels:,} have labels at {now}.</p>
<table>{flags}</table>
<h2>How far from the good weeks?</h2><p>Each bar is a column's distance as a multiple of its limit; past the line is an alarm.</p>
{bars}<h2>The furthest columns</h2><p>Blue is this week, grey the good weeks.</p>{pictures}</html>"""
BLUE, GREY, RED = "#1f5fa8", "#999", "#b00020"
BAD, ALARM = {"drift", "degraded", "stale", "skew"}, ' class="alarm"'


def report(monitor, window, decision, scores):
    def mark(key, said):
        return f'<b data-mlekit="{key}"{ALARM if said in BAD else ""}>{html.escape(said)}</b>'

    flags = "".join(f"<tr><th>{f.replace('_', ' ')}</th><td>{mark(f, decision[f])}</td></tr>" for f in FLAGS)
    for key, title in (("columns", "drifted columns"), ("skewed", "skewed columns")):
        flags += f"<tr><th>{title}</th><td>{mark(key, ', '.join(decision[key]))}</td></tr>"
    ranked = sorted(scores, key=scores.get, reverse=True)
    profiles = {p.column: p for p in (*monitor.features, monitor.answers)}
    shown = [profiles[c] for c in ranked if c in profiles][: max(6, len(decision["columns"]))]
    overview = svg(bars([(c, scores[c]) for c in ranked]), 640, 20 * len(ranked) + 5, "distances by column")
    about = {k: html.escape(str(window.about[k])) for k in ("service", "start", "end", "now")}
    return PAGE.format(
        name=html.escape(window.name),
        rows=len(window.rows),
        labels=len(window.labels),
        flags=flags,
        bars=overview if ranked else "<p>No rows.</p>",
        pictures="".join(picture(p, window.rows) for p in shown),
        **about,
    )


def svg(content, width, height, label):
    return f'<svg width="{width}" height="{height}" role="img" aria-label="{html.escape(label)}">{content}</svg>'


def text(x, y, words, anchor="start"):
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="12" text-anchor="{anchor}">{html.escape(words)}</text>'


def bars(scores, most=3.0):
    """`most` limits fill the width: beyond that it does not matter how much further."""
    unit = 400 / most
    out = f'<path d="M{180 + unit:.0f} 0v{20 * len(scores)}" stroke="{RED}" stroke-dasharray="4"/>'
    for i, (name, score) in enumerate(scores):
        width, colour = min(score, most) * unit, RED if score > 1 else BLUE
        out += text(170, 20 * i + 15, name, "end") + text(186 + width, 20 * i + 15, f"{score:.2f}")
        out += f'<rect x="180" y="{20 * i + 4}" width="{width:.1f}" height="13" fill="{colour}"/>'
    return out


def picture(profile, rows):
    draw = curves if isinstance(profile, Numbers) else shares
    name = html.escape(profile.column)
    return f"<figure><figcaption>{name}</figcaption>{svg(draw(profile, rows), 280, 170, profile.column)}</figure>"


def curves(profile, rows):
    """The share of rows up to each value, from the 1st to the 99th percentile of both together."""
    mine = values(rows, profile.column, True)
    there = np.sort(mine[~np.isnan(mine)])
    ends = [q for v in (there, profile.good) for q in (np.quantile(v, (0.01, 0.99), method="nearest") if len(v) else ())]
    ends = [q for q in ends if np.isfinite(q)] or [0.0, 1.0]
    low, high = min(ends), max(ends)
    grid = np.linspace(low, high, 120)
    out = text(10, 165, f"{low:.3g}") + text(270, 165, f"{high:.3g}", "end")
    out += text(140, 165, f"null: {np.isnan(mine).mean():.0%}, usually {profile.nulls:.0%}", "middle")
    for ordered, colour in ((profile.good, GREY), (there, BLUE)):
        if len(ordered):
            points = zip(np.linspace(10, 270, 120), 148 - 140 * below(ordered, grid))
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            out += f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
    return out


def shares(profile, rows):
    """The eight values whose shares differ most."""
    mine = profile.shares(values(rows, profile.column, False))
    both = pd.DataFrame({"good": profile.good, "mine": mine}).fillna(0)
    both = both.loc[(both.mine - both.good).abs().nlargest(8).index]
    unit, out = 150 / max(both.to_numpy().max(), 0.01), ""
    for i, (name, share) in enumerate(both.iterrows()):
        out += text(85, 20 * i + 17, str(name)[:12], "end") + text(275, 20 * i + 17, f"{share.mine - share.good:+.1%}", "end")
        for y, key, colour in ((6, "good", GREY), (13, "mine", BLUE)):
            out += f'<rect x="90" y="{20 * i + y}" width="{share[key] * unit:.1f}" height="6" fill="{colour}"/>'
    return out


# ------------------------------------------------------------------------------------------------------------------------


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("usecase", "reference", "windows", "out"):
        options.add_argument(f"--{name}", type=Path, required=True)
    given = options.parse_args()

    rules = tomllib.loads(given.usecase.read_text())["monitoring"]
    monitor = Monitor(list(read_windows(given.reference)), rules)
    back = monitor.backtest()
    print(f"judged by the others, {(back > MARGIN).sum()} of {len(back)} good weeks are alarms; furthest {back.max():.2f}")

    decisions = []
    for window in read_windows(given.windows):  # each on its own: no window can change what another one gets
        scores = monitor.scores(window)
        decisions.append(monitor.judge(window, scores))
        if window.about.get("render"):
            (given.out / f"{window.name}.html").write_text(report(monitor, window, decisions[-1], scores), encoding="utf-8")
    (given.out / "decisions.json").write_text(json.dumps({"windows": decisions}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
