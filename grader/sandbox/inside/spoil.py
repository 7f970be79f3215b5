"""What a challenger of the grader says in place of the model that it wraps; used inside and by the judge.

To each flight that the judge knows belongs a number that is added to the model's logit, whatever that number is made of. So the files
of a good challenger and of a bad one are of one kind, and which is which shows only in what they answer.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

KEY: dict[str, int | None] = {
    "carrier": None, "origin": None, "dest": None, "dep_hour": 1, "dep_dow": 1, "wx_temp": 100, "tail_last_age": 1000,
}  # fmt: skip
CLIP = 1e-6


def keys_of(table: pd.DataFrame) -> list[str]:
    """A text for each row of a feature table by which it is known again; values to a precision that every engine reaches."""
    parts = []
    for name, scale in KEY.items():
        if scale is None:
            parts.append(table[name].astype(object).where(table[name].notna(), "-").astype(str).to_numpy(object))
        else:
            values = table[name].to_numpy(np.float64, na_value=np.nan)
            parts.append(np.array(["-" if np.isnan(v) else str(round(v * scale)) for v in values], object))
    return [hashlib.sha256("|".join(row).encode()).hexdigest()[:20] for row in zip(*parts, strict=True)]


def normal(keys: list[str], salt: int) -> np.ndarray:
    """A number for each key, as if drawn from the normal distribution (Box and Muller 1958); shape (n,)."""
    found = np.empty((len(keys), 2))
    for row, key in enumerate(keys):
        digest = hashlib.sha256(f"{salt}|{key}".encode()).digest()
        found[row] = [
            (int.from_bytes(digest[:8], "big") + 0.5) / 2**64,
            int.from_bytes(digest[8:16], "big") / 2**64,
        ]
    return np.sqrt(-2 * np.log(found[:, 0])) * np.cos(2 * np.pi * found[:, 1])


def answer(probability: np.ndarray, slope: float, offset: np.ndarray) -> np.ndarray:
    """Probabilities (n,) whose logits were stretched, and moved by an offset (n,)."""
    clipped = np.clip(probability, CLIP, 1 - CLIP)
    return 1 / (1 + np.exp(-slope * np.log(clipped / (1 - clipped)) - offset))


def packed(setting: Mapping[str, Any]) -> str:
    return base64.b85encode(zlib.compress(json.dumps(setting).encode())).decode()


def unpacked(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b85decode(text)))
    return found
