"""The calibration of a model's searches: probabilities that something matches, and that each hit does.

For each pair of modalities (query, candidates), with and without a reranker, two small logistic regressions over the
features of the candidate list (:mod:`retrieval.matching.features`): one for "something here matches", one for "this hit
matches", which falls with the hit's distance from the best. Knows nothing of files or of how it was fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from indexer.items import Modality
from indexer.logistic import sigmoid
from retrieval.matching.features import CandidateList, Floats, gaps, list_features


@dataclass(frozen=True)
class PairFit:
    """The fit of one pair of modalities. Coefficients are by feature name, of the features as they are."""

    query: str
    target: str
    judged: bool
    """Whether it is of lists that a reranker judged."""
    low: dict[str, float]
    """Least value of each feature that was seen in fitting: what is below counts as this."""
    high: dict[str, float]
    some: dict[str, float]
    """Coefficients of "something matches"."""
    some_intercept: float
    hit: dict[str, float]
    """Coefficients of "this hit matches"."""
    hit_intercept: float
    hit_gap: float
    """What a hit's log-odds lose for each unit of :func:`retrieval.matching.features.gaps`; at least 0."""
    threshold: float
    """Below this probability that something matches, a search says that nothing does."""
    figures: dict[str, Any] = field(default_factory=dict)
    """How well it did on concepts that it was not fitted on."""

    @property
    def key(self) -> tuple[str, str, bool]:
        """Query, candidates, whether judged."""
        return self.query, self.target, self.judged


@dataclass(frozen=True, eq=False)
class ListMatch:
    """What the calibration says of one candidate list."""

    probability: float
    """That something in the list matches."""
    threshold: float
    log_odds: Floats
    """That each hit matches, in the order of the values that were given, falling with them, ``(n,)``."""

    @property
    def matches(self) -> bool:
        """Whether something is taken to match."""
        return self.probability >= self.threshold

    @property
    def excess(self) -> float:
        """How far the log-odds that something matches are above those of the threshold."""
        return _logit(self.probability) - _logit(self.threshold)

    @property
    def probabilities(self) -> Floats:
        """That each hit matches, ``(n,)``."""
        return sigmoid(self.log_odds)


@dataclass(frozen=True)
class MatchModel:
    """The fits of a model's pairs."""

    encoder: str
    """Fingerprint of the dual encoder."""
    reranker: str | None
    """sha256 of the reranker whose scores it knows; ``None`` without one."""
    fits: Mapping[tuple[str, str, bool], PairFit]
    mixed: Mapping[str, float] = field(default_factory=dict)
    """By the query's modality: the least ``excess``, of the best of several modalities, at which something is taken to
    match where they are searched together: of several lists one is more easily above its own threshold."""

    def knows(self, query: Modality, target: Modality, *, judged: bool = False) -> bool:
        """Whether there is a fit of this pair."""
        return (query.value, target.value, judged) in self.fits

    def judge(self, query: Modality, target: Modality, given: CandidateList, values: Floats) -> ListMatch:
        """The match of a list whose pair it knows; ``values``: cosines, or scores where it was judged, of hits."""
        fit = self.fits[query.value, target.value, given.judged]
        named = dict(zip(given.names, list_features(given).tolist(), strict=True))
        named = {name: min(max(value, fit.low[name]), fit.high[name]) for name, value in named.items()}
        some = fit.some_intercept + sum(fit.some[name] * value for name, value in named.items())
        hit = fit.hit_intercept + sum(fit.hit[name] * value for name, value in named.items())
        log_odds = hit - fit.hit_gap * gaps(given, values)
        return ListMatch(float(sigmoid(np.array(some))), fit.threshold, log_odds)

    def anything(self, query: Modality, lists: Mapping[Modality, ListMatch]) -> bool | None:
        """Whether anything matches in any of the lists; ``None`` where there is none."""
        if not lists:
            return None
        least = self.mixed.get(query.value, 0.0) if len(lists) > 1 else 0.0
        return max(one.excess for one in lists.values()) >= least


def _logit(probability: float) -> float:
    inside = min(max(probability, 1e-12), 1.0 - 1e-12)
    return float(np.log(inside / (1.0 - inside)))
