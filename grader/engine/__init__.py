"""Runs checks: a supervisor that keeps the verdict and a worker process that does the work.

`grade(plan)` is the whole interface.
"""

from grader.engine.plan import Plan
from grader.engine.supervisor import grade

__all__ = ["Plan", "grade"]
