"""mlekit: staged exercises in machine-learning engineering, and the grader that runs what was built."""

__version__ = "0.1.0"
CONTRACT = 1
