"""The submission's public interface: what it declares, is called with, writes and answers. Versioned: contract = 1."""

from grader.contract.manifest import Manifest, ManifestProblem, read_manifest

__all__ = ["Manifest", "ManifestProblem", "read_manifest"]
