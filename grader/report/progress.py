"""What happens during a grading, on stderr: one live line in a terminal; elsewhere one line a check, and one where there was none long."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TextIO

from grader.report.text import WORDS, Style, clean
from grader.verdict import Outcome

QUIET_SECONDS = 30.0  # after which a line says what goes on
LONGEST = 60  # characters of what is run


class Progress:
    """Hears the events of a grading; keeps the details of our own faults for a report."""

    def __init__(self, titles: Mapping[str, str], stream: TextIO, style: Style) -> None:
        self._titles, self._stream, self._style = titles, stream, style
        self._live = stream.isatty() and style.width > 0
        self._done, self._now, self._what, self._began = 0, "preparing", "", time.monotonic()
        self._told = self._began
        self.faults: list[str] = []

    def __call__(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "started":
                self._now = self._titles.get(event["id"], event["id"])
            case "runs":
                self._what = f" ({clean(str(event.get('what', '')))[:LONGEST]})"
            case "check":
                self._finish(event)
            case "ended":
                self.faults.append(f"{event['why']}\n{event['details']}")
        if self._live:
            self._show()
        elif time.monotonic() - self._told >= QUIET_SECONDS:
            self._say(f"{self._line()}\n")

    def _finish(self, event: dict[str, Any]) -> None:
        self._done += 1
        result = event["result"]
        if event.get("details"):
            self.faults.append(f"{result['id']}\n{event['details']}")
        if not self._live:
            word = WORDS[Outcome(result["outcome"])]
            self._say(f"[{self._done}/{len(self._titles)}] {word}: {result['id']} ({result['seconds']:.1f} s)\n")

    def _show(self) -> None:
        self._say("\r\x1b[K" + self._line()[: self._style.width - 1])

    def _line(self) -> str:
        at = min(self._done + 1, len(self._titles))
        return f"[{at}/{len(self._titles)}] {time.monotonic() - self._began:.0f} s{self._what}  {clean(self._now)}"

    def close(self) -> None:
        """Leave no half line behind."""
        if self._live:
            self._say("\r\x1b[K")

    def _say(self, text: str) -> None:
        self._told = time.monotonic()
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._live = False  # nobody looks any more; the grading goes on
