"""Hits of several modalities into one ranking.

Raw cosines of different modalities cannot be compared. Contrastive towers leave each modality in a cone of
its own (the modality gap: Liang et al., Mind the Gap, 2022), so a text query may stand at 0.55 from every
text and at 0.15 from every picture; ranked by cosine, the least fitting text would precede the best picture.

What can be compared is how far a hit stands out from its own kind. So each cosine becomes a standard
score against this query's own cosines with a fixed cohort of its modality, as speaker verification
normalises scores against a cohort of other speakers (Auckenthaler, Carey and Lloyd-Thomas, Score
Normalization for Text-Independent Speaker Verification Systems, 2000):

    score = (cosine - centre) / spread

- **Cohort**: up to 1,024 vectors of the modality, spread evenly over its vector ids: the same for every
  query, untouched by filters, and no draw of chance.
- **Centre**: the median (the lower one of two). The cohort holds the relevant items too, and in a small
  collection they would drag a mean towards themselves and hide.
- **Spread**: the standard deviation, drawn towards that of all the modalities together (as if eight more
  items had been seen there), and that one towards 0.05, a guess at the size usual for contrastive towers.
  Two items hardly measure a spread; without this, one of two texts could stand out without bounds.

Within a modality the order is that of the cosines, always. A modality of one item has nothing to stand out
from: it scores 0, beside the ordinary items of the others; searched alone, it is found. Knows nothing of
encoders, indexes or catalogs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.items import Modality

#: Most vectors of a modality that a query is compared with to learn what is ordinary there.
COHORT_SIZE = 1_024

_PRIOR_ITEMS = 8.0
_PRIOR_SPREAD = 0.05
_LEAST_SPREAD = 0.01


@dataclass(frozen=True, slots=True)
class Background:
    """What is ordinary for one query among the items of one modality."""

    centre: float
    spread: float
    """Above 0."""

    def score(self, cosine: float) -> float:
        """The standard score of a cosine: 0 is ordinary, 3 stands out."""
        return (float(cosine) - self.centre) / self.spread


@dataclass(frozen=True, slots=True)
class Merged:
    """A place in the merged ranking: the hit ``position`` of ``modality``, with its standard score."""

    modality: Modality
    position: int
    score: float


def cohort_ids(vector_ids: NDArray[np.int64], size: int = COHORT_SIZE) -> NDArray[np.int64]:
    """At most ``size`` of the sorted ``vector_ids``, spread evenly from the first to the last.

    >>> cohort_ids(np.array([2, 3, 5, 7, 11]), 3).tolist()
    [2, 5, 11]
    """
    if len(vector_ids) <= size:
        return vector_ids
    # Integer arithmetic: the same places on every machine.
    places = np.arange(size, dtype=np.int64) * (len(vector_ids) - 1) // max(1, size - 1)
    return vector_ids[places]


def backgrounds(cohorts: Mapping[Modality, NDArray[Any]]) -> dict[Modality, Background]:
    """The query's cosines with each modality's cohort, ``(n,)``, n >= 1 -> what is ordinary there."""
    values = {modality: np.asarray(cosines, dtype=np.float64) for modality, cosines in cohorts.items()}
    seen = sum(len(cosines) for cosines in values.values())
    squares = sum(len(cosines) * float(cosines.var()) for cosines in values.values())
    pooled = (squares + _PRIOR_ITEMS * _PRIOR_SPREAD**2) / (seen + _PRIOR_ITEMS)
    result = {}
    for modality, cosines in values.items():
        n = len(cosines)
        variance = (n * float(cosines.var()) + _PRIOR_ITEMS * pooled) / (n + _PRIOR_ITEMS)
        centre = float(np.sort(cosines)[(n - 1) // 2])
        result[modality] = Background(centre, max(float(np.sqrt(variance)), _LEAST_SPREAD))
    return result


def merge(found: Mapping[Modality, NDArray[Any]], cohorts: Mapping[Modality, NDArray[Any]]) -> list[Merged]:
    """One ranking of hits of several modalities, best first.

    ``found``: cosines of each modality's hits in its own order, falling. ``cohorts``: the query's cosines with
    the cohorts of the modalities that are searched, with or without hits. Equal scores: the earlier modality of
    :class:`Modality`, then the earlier position.
    """
    ordinary = backgrounds(cohorts)
    places = [
        Merged(modality, position, ordinary[modality].score(cosine))
        for modality in Modality
        if modality in found
        for position, cosine in enumerate(found[modality])
    ]
    # Stable: what a modality has in order stays in order, whatever rounding makes equal.
    return sorted(places, key=lambda place: -place.score)
