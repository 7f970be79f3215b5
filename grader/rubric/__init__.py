"""The rubric as data and the rule that turns verdicts into levels."""

from grader.rubric.levels import Rule, assess, reach, stage_complete
from grader.rubric.rubric import Cell, Row, Rubric, RubricProblem, load

__all__ = ["Cell", "Row", "Rubric", "RubricProblem", "Rule", "assess", "load", "reach", "stage_complete"]
