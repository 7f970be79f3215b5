"""Tells Prefect's server what is to be run, how often and by whom; `prefect worker start` does it then.

python -m operations.schedule

One run at a time is the worker's own `--limit 1`, and the lock of the flow. The server's limits would count a run that was killed with its
machine as running for ever, and never let another begin.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import httpx
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectAlreadyExists, PrefectHTTPStatusError
from prefect.states import Crashed

from operations.places import EVERY_SECONDS

POOL = "months"
GONE = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
MOST_PAGES = 100  # of late runs that are taken away


def tidy(client: SyncPrefectClient) -> None:
    """Say that runs are over which the worker before this one took with it, and make up for none that was missed: one look sees all."""
    theirs = FlowRunFilter.model_validate({"state": {"type": {"any_": [*GONE]}}})
    for run in client.read_flow_runs(flow_run_filter=theirs, sort=FlowRunSort.ID_DESC, limit=100):
        try:
            client.set_flow_run_state(run.id, Crashed(message="its worker was ended"), force=True)
        except PrefectHTTPStatusError as problem:  # it is told wrongly as running, and nothing waits for it
            print(f"flow run {run.name} is over, and the server cannot be told: {problem}"[:300], flush=True)
    late = {"flow_runs": {"state": {"name": {"any_": ["Late"]}}}}
    for _ in range(MOST_PAGES):
        url = f"{os.environ['PREFECT_API_URL']}/flow_runs/bulk_delete"
        if not httpx.post(url, json=late, timeout=60).raise_for_status().json()["deleted"]:
            break


def main() -> None:
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        except ObjectAlreadyExists:
            pass
        tidy(client)
    found = flow.from_source(source=str(Path(__file__).parents[1]), entrypoint="operations/flows.py:month_end")
    found.to_deployment(name="scheduled", work_pool_name=POOL, interval=timedelta(seconds=EVERY_SECONDS)).apply()


if __name__ == "__main__":
    main()
