"""Turn a validation error into one sentence for the author of the file: the key, the value given, what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from reprlib import Repr
from typing import Any

from grader.printable import one_line

LONGEST = 80

_ALLOWED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
}
_BOUND = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
    "string_too_short": ("min_length", "text with a length of at least"),
}
_MAPPINGS = frozenset({"dict_type", "model_type", "model_attributes_type"})

_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = LONGEST
_short.maxlevel = 2


def shown(value: object) -> str:
    """A value as a message shows it: at most about 80 characters, whatever a file holds."""
    try:
        text = _short.repr(value)
    except ValueError:  # Python refuses to print an integer of thousands of digits
        return "a number too long to show"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def sentence(error: Any, root: str, joint: str, known: Iterable[str], mapping: str) -> str:
    """One item of `ValidationError.errors()` as a sentence that names key, value and what is allowed.

    `root` and `joint` say what the key is part of: `tool.mlekit` and `.`, or `report.json` and `: `. `known` are the keys
    allowed there; `mapping` is what the format calls keys with values: `a table`, `an object`.
    """
    where = [one_line(str(part), LONGEST) for part in error["loc"] if part != "[key]"]
    key = joint.join([root, ".".join(where)]) if where else root
    given, kind = shown(error["input"]), error["type"]
    if kind == "missing":
        return f"{key} is missing; needed are {', '.join(known)}"
    if kind == "extra_forbidden":
        return f"{key} = {given} is not a key of the contract; allowed are {', '.join(known)}"
    if kind == "literal_error" and error["loc"][-1] == "[key]":
        return f"{joint.join([root, *where[:-1]])} has the key {given}; allowed are {error['ctx']['expected']}"
    if kind == "literal_error":
        return f"{key} is {given}; allowed: {error['ctx']['expected']}"
    if kind == "value_error":
        return f"{key} is {given}; it {error['ctx']['error']}" if where else f"{key}: {error['ctx']['error']}"
    if kind in _MAPPINGS:
        return f"{key} is {given}; it must be {mapping}"
    if kind in _BOUND:
        name, words = _BOUND[kind]
        return f"{key} is {given}; it must be {words} {error['ctx'][name]}"
    if kind in _ALLOWED:
        return f"{key} is {given}; it must be {_ALLOWED[kind]}"
    return f"{key} is {given}; {error['msg'][0].lower()}{error['msg'][1:]}"
