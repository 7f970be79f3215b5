"""How an untrusted process runs: one small interface, a ladder of implementations, and a reader for what it wrote.

`choose()` gives the best rung this machine allows; every result names the rung it had.
"""

from grader.sandbox.base import Finished, Job, Limits, Mount, Sandbox, SandboxFault, Service
from grader.sandbox.choose import Detection, choose, detect, detect_engine

__all__ = [
    "Detection",
    "Finished",
    "Job",
    "Limits",
    "Mount",
    "Sandbox",
    "SandboxFault",
    "Service",
    "choose",
    "detect",
    "detect_engine",
]
