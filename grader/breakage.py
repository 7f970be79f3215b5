"""`mlekit break`: the learner's own service, a fault around it, and what it does meanwhile, a line a second."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from grader import fast, stages
from grader.faults import AFTER, BEFORE, DURING, FAULTS, Fault
from grader.report.text import CYAN, GREEN, RED, YELLOW, Style, clean
from grader.workspace import Workspace

SERVING = "08"
ANSWERED = ("version", "whole", "turned away", "status")  # how it begins where there was an answer


class Show:
    """Hears what the worker tells and prints it; keeps it for the summary."""

    def __init__(self, fault: Fault, style: Style, as_json: bool) -> None:
        self._fault, self._style, self._json = fault, style, as_json
        self._live = sys.stderr.isatty()
        self._step, self._began = "preparing", time.monotonic()
        self.seconds: list[dict[str, Any]] = []
        self.cannot, self.ended, self.over = "", "", dict[str, Any]()

    def __call__(self, event: dict[str, Any]) -> None:
        match event.get("event"):
            case "step":
                self._step = str(event["says"])
                if not self._live:
                    print(f"{clean(self._step)}", file=sys.stderr, flush=True)
            case "second":
                self._second(event)
            case "cannot":
                self.cannot = str(event["why"])
            case "over":
                self.ended, self.over = str(event["ended"]), event
        if self._live and not self.seconds:
            waited = f"{time.monotonic() - self._began:.0f} s  {clean(self._step)}"
            print(f"\r\x1b[K{waited[: self._style.width - 1]}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._live and not self.seconds:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _second(self, event: dict[str, Any]) -> None:
        if not self.seconds and not self._json:
            if self._live:
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            print(f"{'s':>3}  {'':<7} {'answers':>7}  {'p50 ms':>7} {'p99 ms':>7}  {'healthz':<9} {'readyz':<9}")
        self.seconds.append(event)
        if self._json:
            return
        word, colour = _word(self._fault, str(event["phase"]))
        kinds = {clean(str(kind)): int(count) for kind, count in event["kinds"].items()}
        bad = [kind for kind in kinds if not kind.startswith(("version", "whole", "turned away"))]
        said = (
            ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda pair: -pair[1]))
            or "nothing"
        )
        numbers = "  ".join(f"{_number(event[name]):>7}" for name in ("p50", "p99"))
        line = f"{event['at']:>3}  {self._style.paint(f'{word:<7}', colour)} {_answered(kinds):>7}  {numbers}  "
        line += f"{_probe(event['healthz'], self._style)} {_probe(event['readyz'], self._style)} "
        print(line + self._style.paint(said, RED if bad or not kinds else ""), flush=True)


def _number(value: Any) -> str:
    return f"{value:,.0f}" if isinstance(value, int | float) else "-"


def _probe(said: Any, style: Style) -> str:
    text = f"{clean(str(said)):<9}"
    return style.paint(text, GREEN if said == "200" else YELLOW if said == "503" else RED)


def say_which(as_json: bool) -> int:
    """The faults that there are."""
    if as_json:
        print(
            json.dumps(
                [{"fault": f.name, "says": f.says, "look_for": f.look_for, "check": f.check} for f in FAULTS.values()]
            )
        )
        return 0
    for fault in FAULTS.values():
        print(f"  mlekit break {fault.name:<10} {fault.says}" + (f" ({fault.check})" if fault.check else ""))
    return 0


def show(mine: Workspace, name: str, as_json: bool) -> int:
    """Play a fault on the work in a workspace. Raises Refused."""
    from grader import cli
    from grader.contract import read_manifest
    from grader.engine import Plan, attend

    if (fault := FAULTS.get(name)) is None:
        raise cli.Refused(f"{name} is no fault that is known; known are {', '.join(FAULTS)}")
    read_manifest(mine.folder)
    style = Style.of(sys.stdout)
    stage = stages.find(SERVING)
    stored = mine.load(stage)
    rung, notes = cli.rung_of("auto")
    seed = stored.seed if stored else cli.draw()
    plan = Plan(mine.folder, (), seed, "yours", rung, cli.cores(), cache=mine.runs, own=True, notes=notes, fault=name)
    heard = Show(fault, style, as_json)
    if not as_json:
        fast.show(
            f"{style.paint(fault.name, CYAN)}: after {BEFORE} s {fault.says}; after {BEFORE + DURING} s it is over, and {AFTER} s "
            "more are shown.",
            f"What to look for: {fault.look_for}", *notes, "",
        )  # fmt: skip
    try:
        why = attend(plan, heard)
    finally:
        heard.close()
    if why == "interrupted":
        raise KeyboardInterrupt  # said, and turned into an exit code, in one place
    if heard.cannot or why:
        raise cli.Refused(heard.cannot or why)
    if as_json:
        log = {name: heard.over[name] for name in ("read", "kept", "log") if name in heard.over}
        said: dict[str, Any] = {
            "fault": fault.name,
            "check": fault.check,
            "seconds": heard.seconds,
            "ended": heard.ended,
        }
        print(json.dumps(said | log))
    else:
        _sum_up(fault, heard, style)
    return 0


def _sum_up(fault: Fault, heard: Show, style: Style) -> None:
    print()
    for phase in ("before", "during", "after"):
        kinds: Counter[str] = Counter()
        for second in heard.seconds:
            if second["phase"] == phase:
                kinds.update(second["kinds"])
        said = ", ".join(f"{count:,} {clean(kind)}" for kind, count in kinds.most_common()) or "nothing was answered"
        print(f"{_word(fault, phase)[0] or 'before':<7} {said}")
    silent = [s["at"] for s in heard.seconds if not any(kind.startswith(("version", "whole")) for kind in s["kinds"])]
    if silent:
        print(f"        seconds in which nobody got a prediction: {len(silent)}")
    _say_log(heard.over, style)
    if heard.ended:
        print(f"        {clean(heard.ended)}")
    asks = f"The check that asks for this is {style.paint(fault.check, CYAN)}; `mlekit hint {fault.check}` helps."
    fast.show("", asks if fault.check else "No check asks for this; it is yours to judge.")


def _say_log(over: Mapping[str, Any], style: Style) -> None:
    """Say how many of the answers are in the log, as far as there is one."""
    if "log" in over:
        print(f"        the log could not be looked at: {clean(str(over['log']))}")
    if "read" not in over:
        return
    read, kept = int(over["read"]), int(over["kept"])
    line = f"        {read:,} of these answers were predictions, of which {kept:,} are in the log"
    print(
        line if kept == read else style.paint(f"{line}: {read - kept:,} are lost, which stage 09 does not allow", RED)
    )


def _word(fault: Fault, phase: str) -> tuple[str, str]:
    """What stands before a second, and its colour."""
    return {"during": (fault.words[0], RED), "after": (fault.words[1], GREEN)}.get(phase, ("", ""))


def _answered(kinds: Mapping[str, int]) -> int:
    return sum(count for kind, count in kinds.items() if kind.startswith(ANSWERED))
