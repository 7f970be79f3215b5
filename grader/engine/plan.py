"""What one grading is to do, fixed before anything of the submission runs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from grader.sandbox.base import Limits
from grader.verdict import CheckSpec, Level


@dataclass(frozen=True)
class Plan:
    """The checks to run on a submission in a world; what the supervisor hands the worker.

    `command_seconds` is the time limit of one command. `cache` is a folder of finished runs to go on from (None: every
    command is run). `reproduce` is the command line that repeats this grading; `provided` are stages whose work the kit
    laid down, so that their passes do not count; `notes` are sentences for the report. `case` is a folder
    to lay down what the checks gave and got (None: nothing is kept). `own` is set where
    learners check their own work, which lets compared runs go side by side. `fault` is the name of a fault that is shown to a
    learner instead of running checks.
    """

    submission: Path
    checks: tuple[CheckSpec, ...]
    seed: int
    world_name: str
    rung: str
    cores: int
    cache: Path | None = None
    reproduce: str = ""
    provided: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    command_seconds: float = Limits().seconds
    case: Path | None = None
    own: bool = False
    fault: str | None = None

    def command_for(self, spec: CheckSpec) -> str:
        """The command line that repeats the stage of one check."""
        return f"{self.reproduce} --stage {spec.stage}" if self.reproduce else ""

    def to_json(self) -> str:
        data = asdict(self)
        data["submission"] = str(self.submission)
        data["cache"], data["case"] = (str(path) if path else None for path in (self.cache, self.case))
        return json.dumps(data)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        data: dict[str, Any] = json.loads(text)
        data["submission"] = Path(data["submission"])
        data["cache"], data["case"] = (Path(data[name]) if data[name] else None for name in ("cache", "case"))
        data["checks"] = tuple(CheckSpec(**{**c, "level": Level(c["level"])}) for c in data["checks"])
        data["notes"], data["provided"] = tuple(data["notes"]), tuple(data["provided"])
        return cls(**data)
