"""Fits the gate of a text tower: which texts are in a language that its language model reads.

A logistic regression over the features of the tower that judges, of captions against captions in other languages.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

_STEPS = 100
#: Of the squared weights, for features of unit variance: there are more texts than features, and languages are far
#: apart.
_SHRINKAGE = 1e-3


def fit_logistic(rows: NDArray[np.float32], positive: NDArray[np.bool_]) -> tuple[NDArray[np.float32], float]:
    """Rows ``(n, width)`` and which of them are positive -> weight ``(width,)`` and bias, each side counting half.

    ``rows @ weight + bias`` is the logarithm of the odds.
    """
    features = torch.from_numpy(rows).double()
    mean, deviation = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
    scaled = (features - mean) / deviation
    target = torch.from_numpy(positive).double()
    share = target.mean().clamp(1e-6, 1 - 1e-6)
    each = torch.where(target > 0, 0.5 / share, 0.5 / (1 - share))
    weight = torch.zeros(rows.shape[1], dtype=torch.double, requires_grad=True)
    bias = torch.zeros((), dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        logits = scaled @ weight + bias
        loss = functional.binary_cross_entropy_with_logits(logits, target, weight=each)
        loss = loss + _SHRINKAGE * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        own = weight / deviation
        return own.float().numpy(), float(bias - mean @ own)
