"""The rubric as data and the rule that turns verdicts into levels."""

from grader.rubric.levels import assess

__all__ = ["assess"]
