"""What a grading says, for people and for other systems; reads nothing but verdicts and the titles it is handed."""

from grader.report.text import Names

__all__ = ["Names"]
