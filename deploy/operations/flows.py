"""What Prefect runs on a schedule: see whether a month has come, and if so, bring the system up to it.

The step itself is that of stage 11, and the report that of stage 10. A run that was killed anywhere is finished by the next one, since a
month counts as done once its answer is written.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
from filelock import FileLock
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flightdelay.loop import Loop
from flightdelay.mailbox import Mailbox
from flightdelay.registry import Registry
from flightdelay.tracking import tracking_server
from flightdelay.usecase import read_usecase
from operations.places import HISTORY, MAILBOX, SEED, SOURCE, STATE, USECASE
from operations.watch import watch_champion


@task(name="ask the source", retries=3, retry_delay_seconds=2, cache_policy=NO_CACHE)
def calendar() -> dict[str, Any]:
    """What the source says of the newest month: a message as stage 11 describes it."""
    return httpx.get(f"{SOURCE}/calendar", timeout=20).raise_for_status().json()


@flow(name="month end", validate_parameters=False)
def month_end() -> dict[str, Any] | None:
    """Answer the newest month, if it has no answer yet."""
    log = get_run_logger()
    STATE.mkdir(parents=True, exist_ok=True)
    with FileLock(STATE / "pipeline.lock"):
        message, mailbox = calendar(), Mailbox(MAILBOX)
        if (mailbox.answers / f"{message['step']:04d}.json").exists():
            log.info("nothing new: step %s is answered", message["step"])
            return None
        case = read_usecase(USECASE)
        with tracking_server():
            before = Registry(case.model_name).champion()
        answer = Loop(USECASE, SOURCE, HISTORY, SEED).step(message)
        mailbox.answer(message["step"], answer)
        log.info("%s", json.dumps(answer))
        if before:  # after the answer: a monitor that fails keeps no month waiting, and judges its weeks the next time
            watch_champion(case, before, message["now"], message["step"])
    return answer
