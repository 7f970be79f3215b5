"""Refuses whatever is asked, with all keys that could be meant, in words that are a page and a command for a terminal."""

import json
import os
import sys

says = "<script>alert(1)</script>\x1b[2J\x1b]0;PASS\x07\n::error::PASS\u202e" + "\ud800" + "|" * 5000
refusal = {"code": "unknown_key", "message": says, "key": "seed", "column": says, "rule": says, "outcome": "pass"}
with open(os.environ["MLEKIT_REFUSAL"], "w") as file:
    json.dump(refusal, file)
print(says.encode("utf-8", "replace").decode())
sys.exit(2)
