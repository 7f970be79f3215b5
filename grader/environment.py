"""The interpreter of a submission: the kit's own, or one built once from the submission's lock file.

A locked environment is built with uv from wheels alone, so nothing of a package runs while it is built, and kept in the
user's cache under the hash of what decides its content. This is the only place of a grading that uses the network.
"""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from grader.contract import Manifest
from grader.submission import UnusableSubmission

LOCK = "requirements.lock"
HOW = f"`uv pip compile pyproject.toml -o {LOCK}` writes it"
MAX_LOCK_BYTES = 1_048_576
BUILD_SECONDS = 900
READY = "mlekit-ready"
# What a line may be: a pinned name, perhaps for some systems only, and hashes. No addresses, paths or options.
PINNED = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:\[[A-Za-z0-9._, -]+\])?\s*==\s*[A-Za-z0-9.!+_-]+"
    r"(?:\s*;(?:[\w\s.<>=!~()]|'[^'\\]*'|\"[^\"\\]*\")+)?"
)
HASHES = re.compile(r"(?:\s*--hash=[a-z0-9]+:[0-9a-fA-F]+)*")
KEPT_VARIABLES = (
    "HOME", "PATH", "TMPDIR", "LANG", "USER", "LOGNAME", "NETRC", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip
KEPT_PREFIXES = ("UV_", "XDG_")
NOT_KEPT = frozenset({"UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_REQUIRE_HASHES", "UV_TARGET", "UV_PREFIX",
                      "UV_CONSTRAINT", "UV_OVERRIDE", "UV_NO_BINARY", "UV_LINK_MODE", "UV_WORKING_DIR", "UV_VENV_SEED"})  # fmt: skip
UV_INDEXES = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
# pip's own setting: where uv looks for the same thing
PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}
NO_NETWORK = re.compile(
    r"dns error|failed to lookup|connection refused|network is unreachable|error sending request|tcp connect|timed? ?out"
    r"|network was disabled|offline",
    re.IGNORECASE,
)


class NotReachable(Exception):
    """The packages of a locked environment could not be fetched; becomes `not_run` with this sentence."""


def default_cache() -> Path:
    """Where built environments are kept."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("mlekit")) / "environments"


def resolve(manifest: Manifest, folder: Path, cache_dir: Path | None = None) -> Path | None:
    """The interpreter that a submission asks for; None stands for the kit's own.

    Builds a locked environment where the cache lacks it, which may take minutes and needs the network. Safe to call in
    several processes at once. Must be called outside the grading's namespaces.

    Parameters
    ----------
    manifest : Manifest
        Its `environment` decides.
    folder : Path
        The submission, with `requirements.lock` at its top for `environment = "locked"`.
    cache_dir : Path, optional
        Where environments are kept; the user's cache by default.

    Raises
    ------
    UnusableSubmission
        The lock file is missing, not of pinned versions, or names what does not exist as wheels.
    NotReachable
        The network is needed and is not there.
    """
    if manifest.environment == "kit":
        return None
    lines = read_lock(folder)
    cache = cache_dir or default_cache()
    place = cache / _key(lines)
    python = place / "bin" / "python"
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{place.name}.lock"):
        if not (place / READY).is_file() or not python.exists():
            shutil.rmtree(place, ignore_errors=True)
            try:
                _build(lines, place, python)
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise
            (place / READY).touch()
    return python


def read_lock(folder: Path) -> tuple[str, ...]:
    """The pinned requirements of a submission's lock file, one a line. Raises UnusableSubmission."""
    path = folder / LOCK
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            data = file.read(MAX_LOCK_BYTES + 1)
        text = data.decode("utf-8")
    except FileNotFoundError:
        raise UnusableSubmission(
            f'environment = "locked" needs {LOCK} beside pyproject.toml, with every package pinned; {HOW}'
        ) from None
    except (OSError, UnicodeDecodeError):
        raise UnusableSubmission(f"{LOCK} is not a readable text file; {HOW}") from None
    if len(data) > MAX_LOCK_BYTES:
        raise UnusableSubmission(f"{LOCK} has more than {MAX_LOCK_BYTES:,} bytes; {HOW}")
    return tuple(_requirements(text))


def _requirements(text: str) -> Iterator[str]:
    number = 0
    for joined in re.sub(r"\\[ \t]*\r?\n", " \x00", text).splitlines():
        number += 1
        line = re.sub(r"(^|\s)#.*", "", joined.replace("\x00", "")).strip()
        if line:
            found = PINNED.match(line)
            if found is None or not HASHES.fullmatch(line, found.end()):
                raise UnusableSubmission(
                    f"{LOCK}, line {number}: {line[:80]!r} is not a pinned package like `polars==1.30.0` "
                    f"(addresses, paths and options are not taken); {HOW}"
                )
            yield " ".join(line.split())
        number += joined.count("\x00")


def _key(lines: tuple[str, ...]) -> str:
    what = "\n".join([*lines, platform.python_version(), sysconfig.get_platform(), os.path.realpath(sys.base_prefix)])
    return hashlib.sha256(what.encode()).hexdigest()[:24]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file lock: a second build of the same environment waits and then finds it there."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(lines: tuple[str, ...], place: Path, python: Path) -> None:
    """Make the environment at its final place (its programs name their path); it counts once it is marked ready."""
    import uv

    program, requirements = uv.find_uv_bin(), place / "mlekit-requirements.txt"
    _uv([program, "venv", "--python", sys.executable, "--no-project", str(place)], place.parent)
    requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
    _uv(
        [program, "pip", "install", "--python", str(python), "--only-binary", ":all:", "--no-deps", "--compile-bytecode",
         "--link-mode", "hardlink", "-r", str(requirements)],
        place,
    )  # fmt: skip
    _uv([program, "pip", "check", "--python", str(python)], place)


def _uv(line: list[str], cwd: Path) -> None:
    try:
        ran = subprocess.run(
            line, cwd=cwd, env=build_environment(os.environ), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=BUILD_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotReachable(f"the locked environment was not built within {BUILD_SECONDS} s") from None
    if ran.returncode == 0:
        return
    why = _reason(ran.stderr)
    if NO_NETWORK.search(ran.stderr) or os.environ.get("UV_OFFLINE"):
        raise NotReachable(f"the locked environment needs its packages fetched once, and they could not be: {why}")
    raise UnusableSubmission(f"the environment of {LOCK} could not be built from wheels: {why}")


def _reason(errors: str) -> str:
    """The line of uv's errors that says most."""
    said = [line.strip() for line in errors.splitlines() if line.strip() and not line.startswith("hint:")]
    causes = [line for line in said if line.startswith("cause:")] or said or ["no message"]
    return _without_addresses(
        causes[-1].removeprefix("cause:").partition(" and you require ")[0].strip().removeprefix("Because ")
    )[:300]


def _without_addresses(text: str) -> str:
    """A message without the addresses of an index, which may hold credentials."""
    return re.sub(r"[a-z]+://\S+", "<index>", text)


def build_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a build: where the machine's packages are, by uv's settings or else by pip's."""
    kept = {
        k: v for k, v in environ.items() if (k in KEPT_VARIABLES or k.startswith(KEPT_PREFIXES)) and k not in NOT_KEPT
    }
    settings = _pip_settings(environ)
    if any(name in kept for name in UV_INDEXES):
        settings = {k: v for k, v in settings.items() if k == "cert"}
    for name, value in settings.items():
        kept.setdefault(PIP_TO_UV[name], ",".join(value.split()) if name == "find-links" else value)
    if "UV_INDEX" in kept and "extra-index-url" in settings:
        kept.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # as pip does
    return kept


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What pip's configuration files and variables say about indexes; the later one wins."""
    home = Path(environ.get("HOME", "/nonexistent"))
    files = [
        Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip" / "pip.conf",
        Path(environ.get("XDG_CONFIG_HOME", home / ".config")) / "pip" / "pip.conf",
        Path(environ.get("PIP_CONFIG_FILE", "/dev/null")),
    ]  # fmt: skip
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read([file for file in files if file.is_file()], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return {}
    found: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            found |= {
                name: " ".join(parser.get(section, name).split())
                for name in PIP_TO_UV
                if parser.has_option(section, name)
            }
    for name in PIP_TO_UV:
        if value := environ.get("PIP_" + name.upper().replace("-", "_")):
            found[name] = value
    return found
