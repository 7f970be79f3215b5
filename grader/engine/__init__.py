"""Runs checks: a supervisor that keeps the verdict and a worker process that does the work.

`grade(plan)` is the whole interface; `attend(plan, watch)` shows a learner a fault.
"""

from grader.engine.plan import Plan
from grader.engine.supervisor import attend, grade

__all__ = ["Plan", "attend", "grade"]
