"""Fit the generator that hidden worlds redraw outcomes from; run once, its tables are shipped.

    python datasets/fit_generator.py

Writes two tables beside the source:

* `generator.parquet`, one row per flight in the order of `flights.parquet`: `logit_milli`, the
  log-odds (times 1000) of arriving more than 15 minutes late from a gradient boosting fitted on the
  whole year with schedule, carrier, route, month and the weather of the departure hour.
* `shocks.parquet`, one row per origin, day and block of five hours: what that model leaves unexplained
  there, as a shrunken log-odds (residual sum over variance sum plus 3), and the share of cancelled flights.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.ensemble import HistGradientBoostingClassifier

SOURCE = Path(__file__).parent / "nycflights13"
LATE_MINUTES = 15
BLOCK_HOURS = 5
SHRINKAGE = 3.0
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]


def main() -> None:
    flights = pd.read_parquet(SOURCE / "flights.parquet")
    weather = pd.read_parquet(SOURCE / "weather.parquet").drop_duplicates(["origin", "observed_local"])
    local = flights.sched_dep_local
    table = flights.assign(
        observed_local=local.dt.floor("h"),
        minute=local.dt.hour * 60 + local.dt.minute,
        dow=local.dt.dayofweek,
        month=local.dt.month,
    ).merge(weather, on=["origin", "observed_local"], how="left")
    for name in ("carrier", "origin", "dest"):
        table[name] = table[name].astype("category")
    columns = ["minute", "sched_minutes", "distance_miles", "dow", "month", "carrier", "origin", "dest", *WEATHER]
    flown = table.outcome.eq("flown").to_numpy()
    late = (table.arr_delay_min.fillna(0) > LATE_MINUTES).to_numpy(bool)
    model = HistGradientBoostingClassifier(
        categorical_features="from_dtype",
        learning_rate=0.06,
        max_iter=100,
        min_samples_leaf=100,
        early_stopping=False,
        random_state=0,
    ).fit(table.loc[flown, columns], late[flown])
    chance = model.predict_proba(table[columns])[:, 1]
    logit = np.log(chance / (1 - chance))

    parts = pd.DataFrame(
        {
            "origin": flights.origin,
            "date": local.dt.normalize(),
            "block": (local.dt.hour // BLOCK_HOURS).astype("int8"),
            "residual": np.where(flown, late - chance, 0.0),
            "variance": np.where(flown, chance * (1 - chance), 0.0),
            "cancelled": flights.outcome.eq("cancelled").astype(float),
        }
    )
    grouped = parts.groupby(["origin", "date", "block"])
    sums = grouped[["residual", "variance"]].sum()
    shocks = pd.DataFrame(
        {
            "shock": (sums.residual / (sums.variance + SHRINKAGE)).astype("float32"),
            "cancelled": grouped.cancelled.mean().astype("float32"),
        }
    ).reset_index()
    record({"generator": pa.table({"logit_milli": pa.array(np.round(logit * 1000).astype("int16"))})})
    record({"shocks": pa.Table.from_pandas(shocks, preserve_index=False).replace_schema_metadata(None)})


def record(tables: dict[str, pa.Table]) -> None:
    """Write the tables and their hashes into the manifest that `make_source.py` began."""
    manifest = json.loads((SOURCE / "manifest.json").read_text())
    for name, table in tables.items():
        path = SOURCE / f"{name}.parquet"
        pq.write_table(table, path, compression="zstd", compression_level=19)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        manifest["files"][name] = {"rows": table.num_rows, "sha256": digest}
    (SOURCE / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
