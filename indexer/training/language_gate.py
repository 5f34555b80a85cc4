"""Fits the gate of a text tower: which texts are in a language that its language model reads.

A logistic regression over the features of the tower that judges, of captions against captions in other languages.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexer.logistic import fit_logistic

#: Of a row, for features of unit variance: there are more texts than features, and languages are far apart.
_STRENGTH = 2e-3


def fit_language(rows: NDArray[np.float32], positive: NDArray[np.bool_]) -> tuple[NDArray[np.float32], float]:
    """Rows ``(n, width)`` and which of them are positive -> weight ``(width,)`` and bias, each side counting half.

    ``rows @ weight + bias`` is the logarithm of the odds.
    """
    features = rows.astype(np.float64)
    mean, deviation = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    share = float(np.clip(positive.mean(), 1e-6, 1 - 1e-6))
    each = np.where(positive, 0.5 / share, 0.5 / (1 - share))
    start = np.zeros(rows.shape[1] + 1)
    fit = fit_logistic((features - mean) / deviation, positive.astype(np.float64), start, _STRENGTH * len(rows), each)
    weight = fit[:-1] / deviation
    return weight.astype(np.float32), float(fit[-1] - mean @ weight)
