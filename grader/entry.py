"""The console script: answers what needs no heavy import at once, and hands everything else to the command line."""

from __future__ import annotations

import os
import sys

from grader import __version__

INTERRUPTED = 130
BROKEN_PIPE = 141
OUR_FAULT = 3


def main() -> int:
    """Run one command; returns its exit code, and never shows a traceback of ours unless MLEKIT_DEBUG is set."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a path may hold anything
    try:
        code = _dispatch(sys.argv[1:])
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer has nowhere to go
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print("mlekit: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as problem:
        if os.environ.get("MLEKIT_DEBUG"):
            raise
        return _our_fault(problem)


def _dispatch(argv: list[str]) -> int:
    if argv in (["version"], ["--version"]):
        print(f"mlekit {__version__}")
        return 0
    if "_MLEKIT_COMPLETE" not in os.environ and argv[:1] in (["hint"], ["next"]):
        code = _fast(argv)
        if code is not None:
            return code
    if argv[:1] in (["list"], ["check"]) and "_MLEKIT_COMPLETE" not in os.environ:
        from grader import recall

        code = recall.answer(argv, lambda: _fast(argv))
        if code is not None:
            return code
    from grader import cli

    return cli.run(argv)


def _fast(argv: list[str]) -> int | None:
    """The answer of the fast path, which reads TOML and JSON but nothing heavy."""
    from grader import fast

    return fast.answer(argv)


def _our_fault(problem: Exception) -> int:
    """Say in one sentence that the kit failed, and where the details are."""
    import tempfile
    import traceback

    handle, path = tempfile.mkstemp(prefix="mlekit-fault-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(f"{' '.join(sys.argv)}\n\n{''.join(traceback.format_exception(problem))}")
    said = " ".join(str(problem).split())[:200]
    print(
        f"mlekit: this is a fault of the kit ({type(problem).__name__}: {said}); the details are in {path}, "
        "please report them with the command you gave",
        file=sys.stderr,
    )
    return OUR_FAULT
