"""python -m flightdelay.staleness --usecase F --data D --config F --out F

How fast does a model age? Train as if at the end of each month, and score every month that came after.
"""

from __future__ import annotations

import argparse
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

from flightdelay.config import Config, read_config, refuse
from flightdelay.definitions import own_definitions, read_definitions


def run(usecase: Path, data: Path, config: Path, out: Path) -> None:
    """Write one row for each month end that a model was trained up to and each later month that it was scored on."""
    settings = read_config(config)
    definitions = read_definitions(own_definitions())

    import polars as pl

    from flightdelay.data import DataFolder, label_of, local_day
    from flightdelay.features import compute_features
    from flightdelay.learning import learn, measure
    from flightdelay.usecase import LABEL, read_usecase

    case, folder = read_usecase(usecase), DataFolder(data)
    flights = folder.table(case.entity_table).with_columns(label_of(case.label).alias(LABEL)).drop_nulls(LABEL)
    month = local_day(case.event_time, flights.columns).str.slice(0, 7)
    flights = flights.with_columns(month.alias("month")).sort(case.entity)
    months = {name: part for (name,), part in sorted(flights.partition_by("month", as_dict=True).items())}
    features = {name: compute_features(definitions, case, folder, part) for name, part in months.items()}

    points = []
    for settings_then, later in histories(settings, list(months)):
        model = learn(case, folder, definitions, settings_then).model
        for name in later:
            age = months_between(settings_then.train_end, name)
            scores = measure(months[name][LABEL].to_numpy(), model.probability(features[name]))
            train_end = str(settings_then.train_end)
            points.append(
                {"train_end": train_end, "scored_month": name, "age_months": age, "n": len(months[name]), **scores}
            )
    if not points:
        refuse(
            "empty_window",
            f"no month of the data ends on {settings.train_end} or later and has one after it",
            "train_end",
        )
    pl.DataFrame(points).write_parquet(out)


def histories(settings: Config, months: list[str]) -> Iterator[tuple[Config, list[str]]]:
    """For each month end from `train_end` on that has months after it: the settings of a training then, and those months."""
    for place, month in enumerate(months[:-1]):
        year, number = (int(part) for part in month.split("-"))
        end = date(year, number, monthrange(year, number)[1])
        if end >= settings.train_end:
            yield replace(settings, train_end=end), months[place + 1 :]


def months_between(end: date, month: str) -> int:
    """How many months after the one that ends with `end` a month `YYYY-MM` is, also where there is none between them."""
    year, number = (int(part) for part in month.split("-"))
    return (year - end.year) * 12 + number - end.month


def main() -> None:
    parser = argparse.ArgumentParser(prog="staleness", description="Measure how a model ages.")
    for name in ("usecase", "data", "config", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
