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

    def waiting(self) -> list[dict[str, Any]]:
        """The messages that are not answered yet, in the order of the steps."""
        done = {path.name for path in self.answers.glob("*.json")} if self.answers.is_dir() else set()
        return [json.loads(path.read_bytes()) for path in sorted(self.messages.glob("*.json")) if path.name not in done]

    def next(self) -> dict[str, Any]:
        """The first of them; waits until there is one."""
        while not (waiting := self.waiting()):
            time.sleep(LOOK_SECONDS)
        return waiting[0]

    def answer(self, step: int, answer: dict[str, Any]) -> None:
        write_whole(self.answers / f"{step:04d}.json", json.dumps(answer, indent=2).encode())
