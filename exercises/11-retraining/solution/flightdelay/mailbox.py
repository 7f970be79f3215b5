"""The mailbox: messages come in, each is answered once. What is answered is told by the answers alone, so a restart forgets nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from flightdelay.files import write_whole

LOOK_SECONDS = 0.1


class Mailbox:
    """Two folders: `in/`, which only the other side writes to, and `out/`, which only we do."""

    def __init__(self, folder: Path) -> None:
        self.messages, self.answers = folder / "in", folder / "out"

    def next(self) -> dict[str, Any]:
        """The first message that is not answered yet, in the order of the steps; waits until there is one."""
        while True:
            done = {path.name for path in self.answers.glob("*.json")} if self.answers.is_dir() else set()
            waiting = sorted(path for path in self.messages.glob("*.json") if path.name not in done)
            if waiting:
                return json.loads(waiting[0].read_bytes())
            time.sleep(LOOK_SECONDS)

    def answer(self, step: int, answer: dict[str, Any]) -> None:
        write_whole(self.answers / f"{step:04d}.json", json.dumps(answer, indent=2).encode())
