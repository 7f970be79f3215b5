"""Is the model still right?   python -m weekly --usecase F --reference D --windows D --out D

Textbook tests, put right for weeks: the flights of a day share its storm, so chi-square is divided by what good weeks give it (Rao and Scott 1981,
with the degrees of freedom of Satterthwaite), and a p-value means what it says of weeks, not of rows. Of the many p-values of a week the smallest
is compared with the smallest ones of good weeks, whose tail is Gumbel's (maxT of Westfall and Young).
"""

import argparse
import json
import tomllib
from pathlib import Path

from .read import Week, weeks
from .report import page
from .skew import skewed
from .tests import Reference

ALARMS = 1, 0.9  # scores: alone, and as a second week in a row (see below)


def judged(week, reference, before, rules):
    scores = reference.scores(week)
    enough = week.n >= rules["min_rows"]

    def alarm(of, name):
        score = scores[of].get(name, 0.0)
        # Two weeks running near the bar are as rare among good ones as one beyond it.
        return score > ALARMS[0] or (score > ALARMS[1] and before is not None and before[of].get(name, 0.0) > ALARMS[1])

    columns = [name for name in scores["data"] if alarm("data", name)] if enough else []
    share = week.labelled / week.n if week.n else 0.0
    fits = "unknown" if not week.n or share < rules["min_labels"] else "degraded" if alarm("performance", "fit") else "ok"
    skew, names = skewed(week, reference.columns, rules)
    decision = {
        "window_id": week.name,
        "data": ("drift" if columns else "ok") if enough else "unknown",
        "prediction": ("drift" if alarm("prediction", "answer") else "ok") if enough else "unknown",
        "performance": fits,
        "model_age": "stale" if week.age_days > rules["max_model_age_days"] else "ok",
        "skew": skew,
        "columns": columns,
        "skewed": names,
    }
    return decision, scores


def main():
    parser = argparse.ArgumentParser()
    for name in ("usecase", "reference", "windows", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    rules = tomllib.loads(given.usecase.read_text())["monitoring"]
    reference = Reference([Week(folder) for folder in weeks(given.reference)])
    decisions, last = [], {}
    folders = sorted(weeks(given.windows), key=lambda f: Week.place(f))
    for folder in folders:  # the weeks of a service in their order
        service, position = Week.place(folder)
        week = Week(folder)
        before = last.get(service)
        decision, scores = judged(week, reference, before[1] if before and before[0] == position - 1 else None, rules)
        last[service] = position, scores
        decisions.append(decision)
        if week.about["render"]:
            (given.out / f"{week.name}.html").write_text(page(week, reference, decision, scores), encoding="utf-8")
    (given.out / "decisions.json").write_text(json.dumps({"windows": decisions}))


main()
