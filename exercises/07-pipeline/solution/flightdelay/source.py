"""Fetching from the source, which fails now and then: what arrived is believed only if it is what was promised."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import httpx

from flightdelay.files import write_whole

PATIENCE = 10.0  # seconds in which an answer has to be there, whole


class NotDelivered(Exception):
    """The source did not hand over what it should; asked again, it may."""


class NotThere(Exception):
    """The source says that it has no such thing, and will say so again."""


def fetch_manifest(source: str, month: str, folder: Path) -> dict[str, Any]:
    """What the source says it has of a month, fetched anew each time: a month may have been corrected."""
    content = _get(f"{source}/{month}/manifest.json")
    try:
        manifest = json.loads(content)
        files = {str(file["path"]): str(file["sha256"]) for file in manifest["files"]}
    except (ValueError, KeyError, TypeError) as problem:
        raise NotDelivered(f"manifest.json of {month} is not what it should be: {problem!r}") from None
    if any(Path(path).is_absolute() or ".." in Path(path).parts for path in files):
        raise NotThere(f"manifest.json of {month} names files outside of it")
    write_whole(folder / "manifest.json", content)
    return manifest


def fetch_file(source: str, month: str, file: dict[str, Any], folder: Path) -> None:
    """One file of a month. What an earlier try has brought is not fetched again."""
    target = folder / file["path"]
    if target.exists() and _sha256(target.read_bytes()) == file["sha256"]:
        return
    content = _get(f"{source}/{month}/{file['path']}")
    if _sha256(content) != file["sha256"]:
        raise NotDelivered(f"{file['path']} of {month} arrived with {len(content)} bytes that are not those promised")
    write_whole(target, content)


def _get(url: str) -> bytes:
    """The body of an answer that came whole and in time."""
    try:
        return asyncio.run(_download(url))
    except TimeoutError:
        raise NotDelivered(f"{url} was not here after {PATIENCE:.0f} s") from None
    except httpx.HTTPError as problem:
        raise NotDelivered(f"{url}: {str(problem) or type(problem).__name__}") from None


async def _download(url: str) -> bytes:
    """The limit is one for all bytes, headers too; httpx's own begins anew with each that arrives."""
    async with (
        asyncio.timeout(PATIENCE),
        httpx.AsyncClient(timeout=PATIENCE) as client,
        client.stream("GET", url) as answer,
    ):
        if answer.status_code == 404:
            raise NotThere(f"the source has no {url}")
        answer.raise_for_status()
        return await answer.aread()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
