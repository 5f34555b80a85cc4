"""The correction against hubs in NumPy: the steps of :mod:`indexer.encoders.towers.hubness`, which explains them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.specs import HubnessSpec

_ORDER = ("text", "image", "audio")


def correct_hubness(
    rows: NDArray[np.float32], bank: NDArray[np.float32], spec: HubnessSpec, modality: str = "text"
) -> NDArray[np.float32]:
    """Unit rows ``(n, dim)`` of a modality -> unit rows ``(n, dim + 6)``.

    ``bank``: unit rows of the other side, of pictures for texts and of texts for everything else.
    """
    own = _ORDER.index(modality)
    near = min(spec.neighbours, len(bank))
    cosines = rows @ bank.T
    hubness = np.partition(cosines, -near, axis=1)[:, -near:].mean(axis=1).clip(-1.0, 1.0)
    scale, constant, slope = spec.coefficients
    extra = np.zeros((len(rows), 6), dtype=np.float32)
    extra[:, :3] = constant
    extra[:, own] = -slope * hubness
    extra[:, 3 + own] = np.sqrt(np.clip(1.0 - scale - 2.0 * constant**2 - (slope * hubness) ** 2, 0.0, None))
    return unit(np.concatenate([math.sqrt(scale) * rows, extra], axis=1))


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of unit length; a row of zeros stays."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)
