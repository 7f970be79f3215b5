"""`[tool.mlekit]` in the submission's pyproject.toml: the only thing of a submission that is read before it runs."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

MAX_BYTES = 262_144

CommandName = Literal[
    "train", "predict", "test", "validate", "features", "staleness", "register", "promote", "rollback", "pipeline", "serve",
    "ops", "export-log", "monitor", "loop", "analyze", "decide", "ci", "batch", "replay",
]  # fmt: skip
Claim = Literal["row_order", "missing_values", "unseen_category", "reproducible", "config_refused", "probability_range"]


class ManifestProblem(Exception):
    """The submission has no usable manifest; the message names key, value and what is allowed."""


def _inside(value: str) -> str:
    path = Path(value)
    if not value or path.is_absolute() or ".." in path.parts:
        raise ValueError("must be a path inside the submission, like notebooks/baseline.ipynb")
    return value


def _words(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError as problem:
        raise ValueError(f"cannot be split into words: {problem}") from None
    if not words:
        raise ValueError("must name a program")
    return value


RelativePath = Annotated[str, AfterValidator(_inside)]
Command = Annotated[str, AfterValidator(_words)]


class Documents(BaseModel):
    """Files that a submission declares instead of having them guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    failures: RelativePath = "failures.toml"
    claims: RelativePath = "claims.toml"
    onboarding: RelativePath = "docs/onboarding.md"
    assessment: RelativePath = "assessment.toml"
    compose: RelativePath = "compose.yaml"
    dockerfile: RelativePath = "Dockerfile"


class Manifest(BaseModel):
    """The table `[tool.mlekit]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    contract: Literal[1] = Field(description="Version of the contract this submission is written for.")
    environment: Literal["kit", "locked"] = Field(
        "kit",
        description="`kit`: the kit's interpreter and packages. `locked`: requirements.lock, built once, wheels only.",
    )
    notebook: RelativePath = Field("notebooks/baseline.ipynb", description="The notebook of stage 01.")
    features: RelativePath = Field("features.toml", description="The feature definitions of stage 04.")
    test_claims: tuple[Claim, ...] = Field((), description="What the submission's own tests claim to catch (stage 02).")
    documents: Documents = Field(default_factory=Documents, description="Declared files of later stages.")
    commands: dict[CommandName, Command] = Field(
        default_factory=dict, description="Command lines by name, split into words as a shell would, run without one."
    )

    def argv(self, command: str) -> list[str] | None:
        """The words of a command, or None where it is not declared."""
        line = self.commands.get(command)  # type: ignore[call-overload]
        return None if line is None else shlex.split(line)


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a submission. Raises ManifestProblem."""
    path = folder / "pyproject.toml"
    if not folder.is_dir():
        raise ManifestProblem(f"{folder} is not a folder; give the folder that holds the submission's pyproject.toml")
    if path.is_symlink() or not path.is_file():
        raise ManifestProblem(
            f"{folder} has no pyproject.toml; a submission declares itself there in [tool.mlekit] (`mlekit new DIR` lays one down)"
        )
    if path.stat().st_size > MAX_BYTES:
        raise ManifestProblem(f"{path} has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ManifestProblem(f"{path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as problem:
        raise ManifestProblem(f"{path} is not valid TOML: {problem}") from None
    tool = data.get("tool")
    table = tool.get("mlekit") if isinstance(tool, dict) else None
    if not isinstance(table, dict):
        raise ManifestProblem(f"{path} has no table [tool.mlekit]; it needs at least `contract = 1`")
    return parse_manifest(table)


def parse_manifest(table: dict[str, Any]) -> Manifest:
    """Check the values of `[tool.mlekit]`. Raises ManifestProblem for the first that is wrong."""
    try:
        return Manifest.model_validate(table)
    except ValidationError as problem:
        raise ManifestProblem(_sentence(problem.errors()[0])) from None


def _sentence(error: Any) -> str:
    where = [str(part) for part in error["loc"] if part != "[key]"]
    key = ".".join(["tool.mlekit", *where])
    given = error["input"]
    kind = error["type"]
    if kind == "missing":
        return f"{key} is missing; set `{where[-1]} = 1`" if where == ["contract"] else f"{key} is missing"
    if kind == "extra_forbidden":
        known = ", ".join(Documents.model_fields if where[:1] == ["documents"] else Manifest.model_fields)
        return f"{key} is not a key of the contract; allowed are {known}"
    if kind == "literal_error":
        if where[:1] == ["commands"]:
            return f"tool.mlekit.commands has {given!r}; allowed are {error['ctx']['expected']}"
        return f"{key} is {given!r}; allowed: {error['ctx']['expected']}"
    if kind == "value_error":
        return f"{key} is {given!r}; it {error['ctx']['error']}"
    return f"{key} is {given!r}; {error['msg'][0].lower()}{error['msg'][1:]}"
