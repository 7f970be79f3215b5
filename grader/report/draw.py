"""Draws Vega-Lite specifications: JSON a line on stdin, SVG as a JSON text a line on stdout, null where it cannot.

A program of its own: the engine is native code, and what ends it must not end a grading.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Draw what comes in, one after the other, so that what is done is there if a later one ends this process."""
    import vl_convert

    for line in sys.stdin:
        try:
            drawn = vl_convert.vegalite_to_svg(line, allowed_base_urls=[])
        except ValueError:
            drawn = None
        print(json.dumps(drawn), flush=True)


if __name__ == "__main__":
    main()
