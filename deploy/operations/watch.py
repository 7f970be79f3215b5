"""The weeks that the champion answered in, as windows of stage 10, judged by its command. What it says is kept for people and alerts."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from flightdelay.data import DataFolder, label_of, local_day
from flightdelay.definitions import read_definitions
from flightdelay.features import compute_features
from flightdelay.files import write_whole
from flightdelay.registry import Registry
from flightdelay.stale import champion_of
from flightdelay.tracking import load, tracking_server
from flightdelay.usecase import LABEL, UseCase
from operations.places import REPORTS, STATE, USECASE

ENOUGH_WEEKS = 8  # good ones, before others are compared with them: of four, one good week in three gets an alarm, of eight, one in sixteen
WEEK = timedelta(days=7)


@task(name="watch", cache_policy=NO_CACHE)
def watch_champion(case: UseCase, version: str, now: str) -> None:
    """Judge each whole week since the last one that was judged, by those before it in which this version did well."""
    with tracking_server():
        registry = Registry(case.model_name)
        champion = champion_of(registry, version)
    answer, definitions = load(registry.uri(version))
    data = DataFolder(STATE / "data")
    folder = STATE / "watched" / f"version-{version}"
    flights = data.table(case.entity_table).with_columns(
        label_of(case.label).alias(LABEL),
        local_day(case.event_time, data.table(case.entity_table).columns).alias("day"),
    )
    known = judged(folder)
    seen = flights.filter(pl.col("day") > champion.end, pl.col("day") < now[:10], pl.col(LABEL).is_not_null())
    names = {f"{start}-version-{version}": start for start in weeks(champion.end, set(seen["day"]))}
    good = [folder / "weeks" / name for name in names if name in known and not bad(known[name])]
    new = [folder / "weeks" / name for name in names if name not in known]
    if not new:
        return
    rows = seen.filter(pl.col("day") >= str(names[new[0].name]))
    features = compute_features(read_definitions(definitions), case, data, rows)
    answered = features.with_columns(row_id=rows[case.entity], probability=pl.Series(answer(features)))
    for week in new:
        start = names[week.name]
        at = rows["day"].is_between(pl.lit(str(start)), pl.lit(str(start + WEEK - timedelta(days=1))))
        write_week(week, answered.filter(at), rows.filter(at), case, now, champion.end)
    if len(good) < ENOUGH_WEEKS:  # too little to compare with: what the gate saw is taken for good
        known |= {week.name: {"window_id": week.name, "data": "unknown", "performance": "unknown"} for week in new}
    else:
        known |= ask_monitor(folder, good, new)
    write_whole(folder / "decisions.json", json.dumps(known, indent=1).encode())
    of_all = {name: week for path in sorted(folder.parent.iterdir()) for name, week in judged(path).items()}
    write_whole(REPORTS / "weeks.json", json.dumps([of_all[name] for name in sorted(of_all)]).encode())


def judged(folder: Path) -> dict[str, dict]:
    path = folder / "decisions.json"
    return json.loads(path.read_bytes()) if path.exists() else {}


def bad(decision: dict) -> bool:
    return "drift" in (decision["data"], decision.get("prediction")) or decision["performance"] == "degraded"


def weeks(after: str, days: set[str]) -> list[date]:
    """The first days of the weeks after a day that are over, without those of which most days are not there (yet)."""
    start, found, last = date.fromisoformat(after) + timedelta(days=1), [], max(days, default=after)
    while start + WEEK - timedelta(days=1) <= date.fromisoformat(last):
        if 2 * len(days & {str(start + timedelta(days=n)) for n in range(WEEK.days)}) > WEEK.days:
            found.append(start)
        start += WEEK
    return found


def write_week(folder: Path, rows: pl.DataFrame, flights: pl.DataFrame, case: UseCase, now: str, end: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(folder / "rows.parquet")
    labels = flights.select(row_id=pl.col(case.entity), label=pl.col(LABEL), label_known_at=pl.col(case.label.known_at))
    labels.write_parquet(folder / "labels.parquet")
    at = datetime.fromisoformat(now).isoformat()
    about = {"now": at, "model_train_end": end, "render": True}
    (folder / "window.json").write_text(json.dumps(about), encoding="utf-8")


def ask_monitor(folder: Path, good: list[Path], new: list[Path]) -> dict[str, dict]:
    """What the command of stage 10 says of windows; its pages go where people find them."""
    asked = folder / "asked"
    for name, found in (("reference", good), ("windows", new)):
        place = asked / name
        place.mkdir(parents=True, exist_ok=True)
        for link in place.iterdir():
            link.unlink()
        for week in found:
            (place / week.name).symlink_to(week)
    (REPORTS / "new").mkdir(exist_ok=True)
    subprocess.run(
        [sys.executable, "-m", "flightdelay.monitor", "--usecase", USECASE, "--reference", asked / "reference",
         "--windows", asked / "windows", "--out", REPORTS / "new"],
        check=True,
    )  # fmt: skip
    decisions = json.loads((REPORTS / "new" / "decisions.json").read_bytes())["windows"]
    for page in (REPORTS / "new").glob("*.html"):
        page.replace(REPORTS / page.name)
    return {decision["window_id"]: decision for decision in decisions}
