"""The candidates of a search -> what its model's calibration says of them. Knows nothing of indexes or the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.items import Modality
from retrieval.matching.features import DEPTH, CandidateList
from retrieval.matching.model import ListMatch, MatchModel
from retrieval.query import Query
from retrieval.rerank import stage
from retrieval.rerank.stage import Judged


def kind_of(query: Query) -> Modality | None:
    """The modality of a query that a calibration may know: of one part that draws towards it; ``None`` else."""
    part = query.parts[0]
    return part.kind if len(query.parts) == 1 and part.weight > 0 else None


def knows(model: MatchModel | None, query: Query, modalities: AbstractSet[Modality]) -> bool:
    """Whether a calibration knows the query against every one of the modalities."""
    kind = kind_of(query)
    return model is not None and kind is not None and all(model.knows(kind, one) for one in modalities)


def match_lists(
    model: MatchModel,
    query: Query,
    ranked: Mapping[Modality, Sequence[Judged]],
    cohorts: Mapping[Modality, NDArray[Any]],
    counts: Mapping[Modality, int],
    same: AbstractSet[int],
) -> tuple[dict[Modality, list[Judged]], dict[Modality, ListMatch]]:
    """The hits with their probabilities, in their order, and the match of each list that is not empty.

    ``ranked``: each modality's hits, the best :data:`DEPTH` of them at least; ``counts``: its candidates; ``same``:
    item_ids of the files that are the query. The model knows every pair (:func:`knows`). Hits that a reranker judged
    whose scores the calibration does not know keep the reranker's own probability.
    """
    kind = kind_of(query)
    assert kind is not None
    hits: dict[Modality, list[Judged]] = {}
    lists: dict[Modality, ListMatch] = {}
    for modality, items in ranked.items():
        hits[modality] = list(items)
        if not items:
            continue
        cohort = np.asarray(cohorts[modality], dtype=np.float64)
        own = [one for one in items if one.row.item_id not in same] or list(items)
        cosines = np.sort(np.array([one.cosine for one in own], dtype=np.float64))[::-1]
        given = CandidateList(cosines, cohort, max(1, counts[modality] - len(items) + len(own)))
        scored = [one.score for one in own if one.score is not None]
        values = np.sort(np.array([one.cosine for one in items], dtype=np.float64))[::-1]
        own_scores = not scored
        if scored and model.knows(kind, modality, judged=True):
            given = replace(given, scores=np.sort(np.array(scored, dtype=np.float64))[::-1])
            values = np.array(stage.falling_scores(items), dtype=np.float64)
            own_scores = True
        lists[modality] = match = model.judge(kind, modality, given, values)
        if own_scores:
            chances = match.probabilities.tolist()
            hits[modality] = [replace(one, probability=chance) for one, chance in zip(items, chances, strict=True)]
    return hits, lists


#: Hits of a modality that a search finds at least, so that what it says does not depend on ``k``.
LEAST_HITS = DEPTH
