"""`[tool.mlekit]` in the submission's pyproject.toml: the only thing of a submission that is read before it runs."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from grader.contract.sentences import sentence, shown
from grader.printable import one_line
from grader.reading import toml_of

MAX_BYTES = 262_144

CommandName = Literal[
    "train", "predict", "test", "validate", "features", "staleness", "register", "promote", "rollback", "pipeline", "serve",
    "export-log", "ops", "monitor", "loop", "analyze", "decide", "ci", "batch", "replay",
]  # fmt: skip


class ManifestProblem(Exception):
    """The submission has no usable manifest; the message names key, value and what is allowed."""


def _inside(value: str) -> str:
    path = Path(value)
    if not path.parts or path.is_absolute() or ".." in path.parts or not value.isprintable():
        raise ValueError("must be a path inside the submission, like notebooks/baseline.ipynb")
    return value


def _words(value: str) -> str:
    if not value.replace("\n", " ").replace("\t", " ").isprintable():
        raise ValueError("must be printable text")
    try:
        words = shlex.split(value)
    except ValueError as problem:
        raise ValueError(f"cannot be split into words: {problem}") from None
    if not words:
        raise ValueError("must name a program")
    return value


def _whole(value: object) -> object:
    if type(value) is not int:  # true and 1.0 equal 1 in Python
        raise ValueError("must be the whole number 1, without quotes")
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

    contract: Annotated[Literal[1], BeforeValidator(_whole)] = Field(
        description="Version of the contract this submission is written for."
    )
    environment: Literal["kit", "locked"] = Field(
        "kit",
        description="`kit`: the kit's interpreter and packages. `locked`: requirements.lock, built once, wheels only.",
    )
    notebook: RelativePath = Field("notebooks/baseline.ipynb", description="The notebook of stage 01.")
    features: RelativePath = Field("features.toml", description="The feature definitions of stage 04.")
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
    if not folder.is_dir():
        raise ManifestProblem(f"{folder} is not a folder; give the folder that holds the submission's pyproject.toml")
    path = folder / "pyproject.toml"
    data = _toml(path, _bytes(path))
    tool = data.get("tool")
    if tool is not None and not isinstance(tool, dict):
        raise ManifestProblem(f"{path}: tool is {shown(tool)}; it must be a table, with the table [tool.mlekit] in it")
    table = (tool or {}).get("mlekit")
    if table is None:
        raise ManifestProblem(f"{path} has no table [tool.mlekit]; it needs at least `contract = 1`")
    if not isinstance(table, dict):
        raise ManifestProblem(f"{path}: tool.mlekit is {shown(table)}; it must be a table, [tool.mlekit]")
    return parse_manifest(table)


def _bytes(path: Path) -> bytes:
    """The bytes of a regular file, never through a link and never waiting on a FIFO."""
    try:
        found = path.lstat()
        if stat.S_ISREG(found.st_mode):
            if found.st_size > MAX_BYTES:
                raise ManifestProblem(f"{path} has {found.st_size:,} bytes; at most {MAX_BYTES:,} are read")
            return path.read_bytes()
    except FileNotFoundError:
        raise ManifestProblem(
            f"{path.parent} has no pyproject.toml; a submission declares itself there in [tool.mlekit] "
            "(`mlekit new DIR` lays one down)"
        ) from None
    except OSError as problem:
        raise ManifestProblem(f"{path} cannot be read: {problem.strerror}") from None
    kind = "link" if stat.S_ISLNK(found.st_mode) else "folder" if stat.S_ISDIR(found.st_mode) else "special file"
    raise ManifestProblem(f"{path} is a {kind}; it must be a regular file, which is what is graded")


def _toml(path: Path, content: bytes) -> dict[str, Any]:
    try:
        return toml_of(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise ManifestProblem(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except RecursionError:
        raise ManifestProblem(f"{path} is not valid TOML: it is nested too deeply") from None
    except ValueError as problem:  # also an integer of thousands of digits, which is no TOMLDecodeError
        raise ManifestProblem(f"{path} is not valid TOML: {one_line(str(problem), 200)}") from None


def parse_manifest(table: dict[str, Any]) -> Manifest:
    """Check the values of `[tool.mlekit]`. Raises ManifestProblem for the first that is wrong."""
    try:
        return Manifest.model_validate(table)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        keys = (Documents if first["loc"][:1] == ("documents",) else Manifest).model_fields
        if first["type"] == "missing":
            raise ManifestProblem("tool.mlekit.contract is missing; set `contract = 1`") from None
        raise ManifestProblem(sentence(first, "tool.mlekit", ".", keys, "a table")) from None
