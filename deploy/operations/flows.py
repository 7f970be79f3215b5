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

from flightdelay.files import write_whole
from flightdelay.loop import Loop
from flightdelay.mailbox import Mailbox
from flightdelay.registry import Registry
from flightdelay.tracking import tracking_server
from flightdelay.usecase import read_usecase
from operations.places import HISTORY, MAILBOX, SEED, SOURCE, STATE, USECASE
from operations.watch import watch_champion


@task(name="ask the source", retries=3, retry_delay_seconds=2, cache_policy=NO_CACHE)
def take_in(mailbox: Mailbox) -> None:
    """Put what the source says of months that have come since the last look into the mailbox, the oldest first."""
    known = max((int(path.stem) for path in mailbox.messages.glob("*.json")), default=-1)
    messages = httpx.get(f"{SOURCE}/calendar", params={"after": known}, timeout=20).raise_for_status().json()
    for message in messages:
        write_whole(mailbox.messages / f"{message['step']:04d}.json", json.dumps(message).encode())


@flow(name="month end", validate_parameters=False)
def month_end() -> list[dict[str, Any]]:
    """Answer the months that have no answer yet, in their order."""
    log, answers = get_run_logger(), []
    STATE.mkdir(parents=True, exist_ok=True)
    with FileLock(STATE / "pipeline.lock"):
        mailbox, case = Mailbox(MAILBOX), read_usecase(USECASE)
        take_in(mailbox)
        for message in mailbox.waiting():
            with tracking_server():
                before = Registry(case.model_name).champion()
            answer = Loop(USECASE, SOURCE, HISTORY, SEED).step(message)
            mailbox.answer(message["step"], answer)
            log.info("%s", json.dumps(answer))
            answers.append(answer)
            if (
                before
            ):  # after the answer: a monitor that fails keeps no month waiting, and judges its weeks the next time
                watch_champion(case, before, message["now"])
    if not answers:
        log.info("nothing new")
    return answers
