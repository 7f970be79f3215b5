"""The console script: answers what needs no heavy import at once, and hands everything else to the command line."""

from __future__ import annotations


def main() -> None:
    from grader.cli import app

    app()
