"""Logistic regression with a Gaussian prior, fitted by Newton's method: pure functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_STEPS = 60
_ENOUGH = 1e-9


def sigmoid(values: ArrayLike) -> Floats:
    """1 / (1 + exp(-values)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(values, dtype=np.float64))))


def fit_logistic(rows: Floats, labels: Floats, prior: Floats, strength: float, weights: Floats | None = None) -> Floats:
    """Coefficients ``(f + 1,)``, the intercept last, of ``probability = sigmoid(rows @ c[:-1] + c[-1])``.

    ``rows`` ``(n, f)``, standardised; ``labels`` ``(n,)`` 0 or 1; ``weights`` ``(n,)`` of the rows, 1 where not given.
    The maximum of the likelihood less ``strength / 2 * |c - prior|^2``, in which the intercept counts a hundredth: a
    group of few rows stays near ``prior`` ``(f + 1,)``. Newton's method with halved steps; with ``strength`` above 0
    it is finite, also where the rows part the labels without fault.
    """
    columns = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    weights = np.ones(len(rows)) if weights is None else weights
    penalty = np.full(len(prior), strength)
    penalty[-1] = 0.01 * strength

    def loss(fit: Floats) -> float:
        logits = columns @ fit
        misfit = float(weights @ (np.logaddexp(0.0, logits) - labels * logits))
        return misfit + 0.5 * float(penalty @ (fit - prior) ** 2)

    fit = prior.astype(np.float64).copy()
    for _ in range(_STEPS):
        chances = sigmoid(columns @ fit)
        gradient = columns.T @ (weights * (chances - labels)) + penalty * (fit - prior)
        curvature = (columns.T * (weights * chances * (1.0 - chances))) @ columns + np.diag(penalty + 1e-9)
        step, size = np.linalg.solve(curvature, gradient), 1.0
        while size > 1e-6 and loss(fit - size * step) > loss(fit):
            size /= 2.0
        fit = fit - size * step
        if float(np.abs(size * step).max()) < _ENOUGH:
            break
    return fit
