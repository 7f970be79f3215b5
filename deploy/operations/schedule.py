"""Tells Prefect's server what is to be run, how often and by whom; `prefect worker start` does it then.

python -m operations.schedule
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

from operations.places import EVERY_SECONDS

POOL = "months"


def main() -> None:
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process", concurrency_limit=1))
        except ObjectAlreadyExists:
            pass
    found = flow.from_source(source=str(Path(__file__).parents[1]), entrypoint="operations/flows.py:month_end")
    found.to_deployment(
        name="scheduled", work_pool_name=POOL, interval=timedelta(seconds=EVERY_SECONDS), concurrency_limit=1
    ).apply()


if __name__ == "__main__":
    main()
