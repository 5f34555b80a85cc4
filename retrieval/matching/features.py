"""What the list of a query's candidates says of whether one of them matches: a few numbers, the same for any ``k``.

Pure functions of scores. Knows nothing of collections, models or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: How many of the best candidates the margins look at; a search finds at least as many, whatever its ``k``.
DEPTH = 10

Floats = NDArray[np.float64]

#: Of every list; see :func:`list_features`.
FEATURES = ("best", "stands_out", "margin_2", "margin_5", "margin_10", "centre", "spread", "log_count")
#: Of a list that a reranker judged, beside those.
JUDGED_FEATURES = ("score_best", "score_margin_2", "score_margin_5", "score_margin_10", "score_mean", "score_spread")

_MARGINS = (2, 5, 10)
_LEAST_SPREAD = 0.01


@dataclass(frozen=True, eq=False)
class CandidateList:
    """A query's candidates of one modality, without the file that is the query itself."""

    cosines: Floats
    """Of the best items, falling, ``(n,)``, n >= 1; the best :data:`DEPTH` of them, or all there are, at least."""
    cohort: Floats
    """The query's cosines with the cohort of the modality, ``(c,)``, c >= 1 (:mod:`retrieval.fusion`)."""
    count: int
    """How many candidates there are, at least 1."""
    scores: Floats | None = None
    """Of the judged ones, falling, ``(j,)``, j >= 1: match logit plus cosine; ``None`` where none was judged."""

    @property
    def judged(self) -> bool:
        """Whether a reranker judged it."""
        return self.scores is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Of its features."""
        return FEATURES + JUDGED_FEATURES if self.judged else FEATURES


def list_features(given: CandidateList) -> Floats:
    """The features of a list, ``(f,)``, in the order of its ``names``.

    ``best`` is the first cosine, ``stands_out`` how many standard deviations of the cohort it lies above its median,
    ``margin_n`` how far above the nth best (the last, where there are fewer). ``centre`` and ``spread`` are the
    cohort's median and standard deviation, ``log_count`` the natural logarithm of the number of candidates.

    >>> found = list_features(CandidateList(np.array([0.5, 0.2]), np.array([0.1, 0.2, 0.5]), 3))
    >>> [round(float(value), 3) for value in found]
    [0.5, 1.765, 0.3, 0.3, 0.3, 0.2, 0.17, 1.099]
    """
    centre = float(np.median(given.cohort))
    spread = max(float(given.cohort.std()), _LEAST_SPREAD)
    best = float(given.cosines[0])
    found = [best, (best - centre) / spread, *_margins(given.cosines), centre, spread, float(np.log(given.count))]
    if given.scores is not None:
        scores = given.scores
        found += [float(scores[0]), *_margins(scores), float(scores.mean()), float(scores.std())]
    return np.array(found, dtype=np.float64)


def gaps(given: CandidateList, values: Floats) -> Floats:
    """How far hits are below the best: cosines in standard deviations of the cohort, a reranker's scores as they are.

    ``values``: the hits' cosines, or scores where the list was judged, ``(n,)`` -> ``(n,)``, 0 for the best.
    """
    if given.scores is not None:
        return np.asarray(given.scores[0] - values, dtype=np.float64)
    return np.asarray((given.cosines[0] - values) / max(float(given.cohort.std()), _LEAST_SPREAD), dtype=np.float64)


def _margins(falling: Floats) -> list[float]:
    return [float(falling[0] - falling[min(place, len(falling)) - 1]) for place in _MARGINS]
