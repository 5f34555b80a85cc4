"""Whether probabilities are calibrated, and how well scores part the true from the false: pure functions.

Labels are 0 or 1 (or bools), one a pair. Knows nothing of rerankers, pictures or texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Bins of equal width over [0, 1].
BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """The pairs whose probability lies in [``low``, ``high``); the last bin holds 1, too."""

    low: float
    high: float
    n: int
    mean_probability: float | None
    """``None`` in an empty bin, as is ``share_true``."""
    share_true: float | None

    def to_json(self) -> dict[str, Any]:
        """The bin under its own names."""
        return {
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "mean_probability": self.mean_probability,
            "share_true": self.share_true,
        }


def reliability_bins(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> list[Bin]:
    """Probabilities ``(n,)`` and labels ``(n,)`` -> ``bins`` bins of equal width, rising.

    >>> [(one.n, one.mean_probability, one.share_true) for one in reliability_bins([0.25, 1.0, 0.75], [0, 1, 0], 2)]
    [(1, 0.25, 0.0), (2, 0.875, 0.5)]
    """
    given, true = _checked(probabilities, labels)
    if len(given) and (given.min() < 0 or given.max() > 1):
        raise ValueError("a probability is outside [0, 1]")
    place = np.minimum((given * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = np.bincount(place, weights=given, minlength=bins)
    hits = np.bincount(place, weights=true, minlength=bins)
    return [
        Bin(
            low=i / bins,
            high=(i + 1) / bins,
            n=int(n),
            mean_probability=float(sums[i] / n) if n else None,
            share_true=float(hits[i] / n) if n else None,
        )
        for i, n in enumerate(counts.tolist())
    ]


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: 0 is the best, 1 the worst.

    Formula: ``sum_b n_b / n * |share of true in b - mean probability in b|`` over bins of equal width. Source:
    Guo et al., On Calibration of Modern Neural Networks (2017), equation 3, for two classes. ``ValueError`` for no
    pairs.

    >>> expected_calibration_error([0.25, 1.0, 0.75], [0, 1, 0], 2)  # 1/3 * 0.25 + 2/3 * 0.375
    0.3333333333333333
    """
    return error_of_bins(reliability_bins(probabilities, labels, bins))


def error_of_bins(found: Sequence[Bin]) -> float:
    """As :func:`expected_calibration_error`, of bins that are there."""
    total = sum(one.n for one in found)
    if not total:
        raise ValueError("no pairs: there is no calibration error")
    gaps = [
        one.n * abs(one.share_true - one.mean_probability)
        for one in found
        if one.share_true is not None and one.mean_probability is not None
    ]
    return float(sum(gaps) / total)


def auroc(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Chance that a true pair scores above a false one, ties counted half; ``None`` where all labels are equal.

    Formula: the Mann-Whitney U of the true pairs over ``true * false``, from mean ranks.

    >>> auroc([0.9, 0.1, 0.5, 0.5], [1, 0, 1, 0])
    0.875
    """
    given, true = _checked(scores, labels)
    positives = int(true.sum())
    negatives = len(true) - positives
    if not positives or not negatives:
        return None
    _, where, counts = np.unique(given, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2.0  # of each distinct score, counted from 1
    above = float(mean_ranks[where] @ true) - positives * (positives + 1) / 2.0
    return above / (positives * negatives)


def false_shows_at_recall(scores: ArrayLike, labels: ArrayLike, recall: float) -> float:
    """Share of false ones shown by the highest cut-off that shows at least ``recall`` of the true ones.

    What scores the cut-off itself is shown. ``ValueError`` where all labels are equal, or a recall outside (0, 1].

    >>> false_shows_at_recall([0.9, 0.5, 0.1, 0.6, 0.2], [1, 1, 1, 0, 0], 0.6)
    0.5
    """
    given, true = _checked(scores, labels)
    held = np.sort(given[true > 0])[::-1]
    if not 0 < recall <= 1 or not len(held) or len(held) == len(given):
        raise ValueError("it takes true and false ones, and a recall in (0, 1]")
    cut = held[int(np.ceil(recall * len(held) - 1e-9)) - 1]
    return float((given[true == 0] >= cut).mean())


def platt(scores: ArrayLike, labels: ArrayLike, *, n_steps: int = 100) -> tuple[float, float]:
    """``(slope, intercept)`` of ``probability = sigmoid(slope * score + intercept)`` that fits the pairs best.

    Formula: the maximum of the likelihood with Platt's softened targets ``(true + 1) / (true + 2)`` and
    ``1 / (false + 2)``, which keep it finite where scores part the labels without fault; by Newton's method with
    halved steps. Source: Platt (1999), Probabilistic Outputs for Support Vector Machines; Lin, Lin and Weng (2007).
    ``ValueError`` for no pairs.
    """
    given, true = _checked(scores, labels)
    if not len(given):
        raise ValueError("no pairs: there is nothing to fit")
    positives = float(true.sum())
    negatives = len(true) - positives
    targets = np.where(true > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre, spread = float(given.mean()), float(given.std()) or 1.0
    columns = np.stack([(given - centre) / spread, np.ones(len(given))], axis=1)  # (n, 2)

    def loss(fit: NDArray[np.float64]) -> float:
        logits = columns @ fit
        return float(np.mean(np.logaddexp(0.0, logits) - targets * logits))

    fit = np.array([0.0, np.log((positives + 1) / (negatives + 1))])
    for _ in range(n_steps):
        chances = 0.5 * (1.0 + np.tanh(0.5 * (columns @ fit)))
        gradient = columns.T @ (chances - targets) / len(given)
        curvature = (columns.T * (chances * (1.0 - chances))) @ columns / len(given) + 1e-12 * np.eye(2)
        step, size = np.linalg.solve(curvature, gradient), 1.0
        while size > 1e-6 and loss(fit - size * step) > loss(fit):
            size /= 2.0
        fit = fit - size * step
        if float(np.abs(gradient).max()) < 1e-10:
            break
    slope = float(fit[0]) / spread
    return slope, float(fit[1]) - slope * centre


def _checked(values: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    given, true = np.asarray(values, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if given.ndim != 1 or given.shape != true.shape:
        raise ValueError(f"values are {given.shape} and labels {true.shape}; give as many of both")
    if np.isnan(given).any():
        raise ValueError("a value is NaN")
    if not np.isin(true, (0.0, 1.0)).all():
        raise ValueError("a label is neither 0 nor 1")
    return given, true
