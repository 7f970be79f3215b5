"""Lay down what a new stage starts from, with a sentence wherever its author has something to write."""

from __future__ import annotations

import re
from pathlib import Path

STAGE = re.compile(r"(\d\d)-([a-z][a-z0-9]*(?:-[a-z0-9]+)*)")

BRIEF = """\
# {number} {name}: TODO: the title, as in stage.toml

*About 3 hours. Row 1.3 end-to-end workflow.*

TODO: the story in two or three sentences: who needs what, and why now.

## Your task

TODO: what to build, as numbered points, with the commands and files that the contract names.

## The grader will run your program like this

TODO: what is run, on which data, what is changed between runs and what must not change then.

Files, columns and exit codes: [CONTRACT.md](../CONTRACT.md).

## What you may ignore for now

TODO: what a later stage asks.

## Read on

- TODO: a paper or a page of documentation, with authors and year, and what it is good for here.
"""

DEFINITION = """\
name = "{name}"
title = "TODO: what the learner has at the end"
todo = "TODO: what the learner does, in one sentence."
act = "I: a model you can trust"
hours = 3
module = "{module}"

[bars]

[[check]]
id = "{check}"
title = "TODO: what holds when this check passes"
row = "1.3"
level = "junior"
critical = true
required = true
weight = 2
effort = 60
"""

HINTS = """\
# Hints

## 1 Where does it happen?

TODO: a question that makes the learner look at the right place.

## 2 What do you see there?

TODO: where to look, and what to measure.

## 3 How is it done?

TODO: how, with a few lines of code if they help, but not the whole solution.

## {check}

TODO: when this check fails: what it usually is, and what to look at.
"""

EXPLAINED = """\
# {number} {name}, explained

## The decisions

TODO: what the solution decides, and why.

## What else is right

TODO: designs that pass as well.

## What the mutants get wrong

TODO: each fault, and how it shows.

## Common mistakes

TODO: what most people do first.
"""

STUB = '''\
"""python -m flightdelay.{package} --data PATH --out PATH"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="{package}")
    for name in ("data", "out"):
        parser.add_argument(f"--{{name}}", type=Path, required=True)
    parser.parse_args()
    # TODO: replace this line by the work.
    sys.exit("{package} is not written yet")


if __name__ == "__main__":
    main()
'''

CHECKS = '''\
"""Stage {number}, {name}: TODO: what is run, in one sentence."""

from __future__ import annotations

from grader.checks.api import Finding, Grading, check, failed


@check("{check}")
def does_its_work(grading: Grading) -> Finding:
    """TODO: what holds when this check passes.

    Catches: TODO: three wrong designs.
    Accepts: TODO: an odd right one.
    """
    return failed("TODO: what we did, what we expected, what we got")
'''

MUTANTS = """\
# One-fault versions of the reference. `kills` names the checks that must fail, no other may.

[[mutant]]
name = "TODO: the fault in two or three words, joined by _"
kills = ["{check}"]
edits = [{{ file = "flightdelay/{package}.py", find = "the work", replace = "other work" }}]
"""


class NotPossible(ValueError):
    """The stage cannot be laid down; the message says why and what would do."""


def new_stage(name: str, root: Path) -> list[Path]:
    """Lay down the files of a new stage `NN-name` in the checkout `root` and return them.

    Nothing is overwritten. Raises NotPossible for a name that is none, a number or name that is taken, and where `root`
    is no checkout.
    """
    match = STAGE.fullmatch(name)
    if match is None:
        raise NotPossible(
            f"{name!r} is no name for a stage; give two digits and words in small letters, such as 03-data-contract"
        )
    number, short = match.groups()
    if not ((root / "grader" / "checks").is_dir() and (root / "tests" / "pool" / "mutants").is_dir()):
        raise NotPossible("a stage is added to a checkout of the kit, not to an installed one; clone it and try there")
    for taken in sorted((root / "exercises").glob("[0-9][0-9]-*")):
        if taken.name[:2] == number or taken.name[3:] == short:
            raise NotPossible(f"exercises/{taken.name} is there already; choose another number and name")
    contents = _contents(number, short)
    for path in contents:
        if (root / path).exists():
            raise NotPossible(f"{path} is there already; move it away first")
    for path, text in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return [root / path for path in contents]


def _contents(number: str, name: str) -> dict[str, str]:
    """The files of a new stage, by path inside the checkout."""
    package = name.replace("-", "_")
    module = f"s{number}_{package}"
    words = {
        "number": number, "name": name, "package": package, "module": module, "check": f"{package}.does_its_work",
    }  # fmt: skip
    folder = f"exercises/{number}-{name}"
    templates = {
        f"{folder}/README.md": BRIEF,
        f"{folder}/stage.toml": DEFINITION,
        f"{folder}/hints.md": HINTS,
        f"{folder}/explained.md": EXPLAINED,
        f"{folder}/starter/flightdelay/{package}.py": STUB,
        f"{folder}/solution/flightdelay/{package}.py": STUB,
        f"grader/checks/{module}.py": CHECKS,
        f"tests/pool/mutants/{number}.toml": MUTANTS,
    }
    return {path: template.format(**words) for path, template in templates.items()}
