"""Held-out figures of a reranker while it is trained: hit rates both ways, and the weight of the cosine beside it.

Pure functions over matrices; knows nothing of models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WEIGHTS = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0, 120.0, 160.0)
_BELOW = 1e3
#: In place of the logit of a pair that is not judged.
NO_LOGIT = -1e4


def has_logit(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which pairs are judged."""
    return logits > NO_LOGIT / 2


def hit_rates(scores: NDArray[np.float32], relevant: NDArray[np.bool_]) -> dict[str, float]:
    """Hit rates @1, 5 and 10 of texts ``(rows)`` against pictures ``(columns)`` both ways, and the mean of the six.

    Ties: the lower index first.
    """
    found: dict[str, float] = {}
    for name, matrix, own in (("text->image", scores, relevant), ("image->text", scores.T, relevant.T)):
        order = np.argsort(-matrix, axis=1, kind="stable")[:, :10]
        hits = np.take_along_axis(own, order, axis=1)
        for k in (1, 5, 10):
            found[f"{name} @{k}"] = float(hits[:, :k].any(axis=1).mean())
    return {**found, "mean": sum(found.values()) / len(found)}


def best_cosine_weight(
    logits: NDArray[np.float32], cosines: NDArray[np.float32], relevant: NDArray[np.bool_]
) -> tuple[float, dict[str, float]]:
    """What the cosine is best multiplied by beside the logits, and the hit rates with it.

    Pairs without a logit (:func:`has_logit`) stay below all that have one, in the order of their cosines.
    """
    judged = has_logit(logits)
    best: tuple[float, dict[str, float]] | None = None
    for weight in _WEIGHTS:
        figures = hit_rates(np.where(judged, logits + weight * cosines, cosines - _BELOW), relevant)
        if best is None or figures["mean"] > best[1]["mean"]:
            best = weight, figures
    assert best is not None
    return best
