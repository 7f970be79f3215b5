"""Do the answers fit what became known? Several measures, since each is blind to something.

The order (AUC) does not notice when everything is late more often; the level (how many were late, how many the answers expected) does not
notice when the answers are about the wrong flights. The log loss sees both, but it also follows how many are late: in a stormy week it is
worse with the same model, so good weeks differ in it, and it notices late.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from sklearn.metrics import log_loss, roc_auc_score

from flightdelay.windows import PROBABILITY


def misfit(labelled: pl.DataFrame) -> dict[str, float]:
    """By measure, how badly the answers fit; larger is worse."""
    late, probability = labelled["label"].to_numpy(), labelled[PROBABILITY].to_numpy()
    both = 0 < late.sum() < len(late)
    return {
        "order": 1 - roc_auc_score(late, probability) if both else 0.5,
        "more late than expected": late.mean() - probability.mean(),
        "fewer late than expected": probability.mean() - late.mean(),
        "log loss": log_loss(late, np.clip(probability, 1e-6, 1 - 1e-6), labels=[False, True]),
    }
