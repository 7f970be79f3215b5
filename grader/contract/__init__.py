"""The submission's public interface: what it declares, is called with, writes and answers. Versioned: contract = 1.

`commands`, `endpoints` and `tables` hold the interface as data; `outputs` checks what was written;
`document` makes exercises/CONTRACT.md and the JSON Schemas of all of it.
"""

from grader.contract.manifest import Manifest, ManifestProblem, read_manifest
from grader.contract.outputs import (
    BaselineReport,
    FeedReport,
    ModelRecord,
    OutputProblem,
    Refusal,
    SuiteResult,
    parse_output,
)

__all__ = [
    "BaselineReport",
    "FeedReport",
    "Manifest",
    "ManifestProblem",
    "ModelRecord",
    "OutputProblem",
    "Refusal",
    "SuiteResult",
    "parse_output",
    "read_manifest",
]
