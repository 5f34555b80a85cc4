"""What was found of each modality -> one ranking, and the best of each modality by itself.

Every hit has its own score. Among several modalities that is its standard score (:mod:`retrieval.fusion`), and where a
reranker judged one of them, its hits fill the places of that modality in the reranker's order: then the ranking is in
the order of the places, not of the scores. Where the model is calibrated (:mod:`retrieval.matching`), hits of several
modalities are in the order of the probability that they match. Knows nothing of indexes, encoders, catalogs or the
terminal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.items import Modality
from retrieval.fusion import Background, backgrounds, merge
from retrieval.hits import Hit, HitGroup, Order, ScoreKind
from retrieval.matching.model import ListMatch
from retrieval.query import Query
from retrieval.rerank import stage
from retrieval.rerank.stage import Judged

_Scored = tuple[float, Judged]


@dataclass(frozen=True, slots=True)
class Ranked:
    """The hits of a query, both ways, and what the user should know of them."""

    hits: tuple[Hit, ...]
    groups: tuple[HitGroup, ...]
    order: Order
    warnings: tuple[str, ...] = ()


def rank(
    judged: Mapping[Modality, Sequence[Judged]],
    cohorts: Mapping[Modality, NDArray[Any]],
    query: Query,
    score_kind: ScoreKind,
    same: AbstractSet[int] = frozenset(),
    lists: Mapping[Modality, ListMatch] | None = None,
) -> Ranked:
    """Rank what was found, cut at ``min_score``, ``min_probability`` and ``k``.

    ``judged``: of each modality that is searched, in its own order. ``cohorts``: the query's cosines with each one's
    cohort. ``same``: item_ids of the files that are the query: they take no place among the ``k``. ``lists``: the match
    of each modality that has hits, where the model is calibrated.
    """
    ordinary = backgrounds(cohorts)
    order: Order = "score"
    if score_kind == "standard":
        own = {
            modality: [(ordinary[modality].score(one.cosine), one) for one in items]
            for modality, items in judged.items()
        }
        together, order = _merged(own, cohorts, lists)
    else:
        items = [one for some in judged.values() for one in some]
        scores = stage.falling_scores(items) if score_kind == "match" else [one.cosine for one in items]
        together = list(zip(scores, items, strict=True))
        own = {modality: [entry for entry in together if entry[1].row.modality is modality] for modality in judged}
    informative = {modality: background for modality, background in ordinary.items() if len(cohorts[modality]) > 1}
    kept, warnings = _kept(together, query)
    hits = _hits(kept, query.k, informative, same)
    groups: list[HitGroup] = []
    taken: set[int] = set()
    # Pictures first: one that is also found by its generated caption is a picture.
    for modality in Modality:
        some, _ = _kept(own.get(modality, []), query)
        best = _hits([entry for entry in some if entry[1].row.item_id not in taken], query.k, informative, same)
        shown = {hit.vector_id for hit in best}
        taken |= {one.row.item_id for _, one in some if one.row.vector_id in shown}
        if best:
            groups.append(HitGroup(modality, best))
    best_of = _distinction if lists is None else _probability
    groups.sort(key=lambda group: -max(best_of(hit) for hit in group.hits))  # stable
    return Ranked(hits, tuple(groups), order, tuple(warnings))


def _merged(
    own: Mapping[Modality, Sequence[_Scored]],
    cohorts: Mapping[Modality, NDArray[Any]],
    lists: Mapping[Modality, ListMatch] | None,
) -> tuple[list[_Scored], Order]:
    """Hits of several modalities in one ranking. Equal ones: the earlier modality, then the earlier position."""
    if lists is not None:
        places = [
            (-chance, entry)
            for modality in Modality
            if own.get(modality)
            for chance, entry in zip(lists[modality].log_odds.tolist(), own[modality], strict=True)
        ]
        return [entry for _, entry in sorted(places, key=lambda place: place[0])], "probability"  # stable
    falling = {
        modality: np.sort(np.array([one.cosine for _, one in entries]))[::-1] for modality, entries in own.items()
    }
    together = [own[place.modality][place.position] for place in merge(falling, cohorts)]
    judged = any(one.score is not None for entries in own.values() for _, one in entries)
    return together, "places" if judged else "score"


def _kept(scored: Iterable[_Scored], query: Query) -> tuple[list[_Scored], list[str]]:
    """What is at least ``min_score`` and ``min_probability``; and a line where the latter leaves nothing."""
    least = -math.inf if query.min_score is None else query.min_score
    kept = [(score, one) for score, one in scored if score >= least]
    if query.min_probability is None:
        return kept, []
    least_probability = query.min_probability
    chances = [one.probability for _, one in kept if one.probability is not None]
    kept = [(score, one) for score, one in kept if one.probability is not None and one.probability >= least_probability]
    if kept or not chances:
        return kept, []
    return [], [
        f"nothing matches: no candidate reaches a match probability of {least_probability:.2f} "
        f"(the best has {max(chances):.2f})"
    ]


def _hits(
    scored: Iterable[_Scored], k: int, ordinary: Mapping[Modality, Background], same: AbstractSet[int]
) -> tuple[Hit, ...]:
    """The first ``k``, one an item, and those of ``same`` that stand before or between them."""
    hits: list[Hit] = []
    seen: set[int] = set()
    place = 0
    for score, one in scored:
        if one.row.item_id in seen:  # a picture may be found as such and by its generated caption
            continue
        seen.add(one.row.item_id)
        is_query = one.row.item_id in same
        place += not is_query
        if place > k:
            break
        hits.append(_hit(0 if is_query else place, score, one, ordinary.get(one.row.modality), is_query))
    return tuple(hits)


def _distinction(hit: Hit) -> float:
    """Standard score; 0 where there is nothing to stand out from. That of the query's own file counts for nothing."""
    return -math.inf if hit.is_query else hit.standard_score or 0.0


def _probability(hit: Hit) -> float:
    """That it matches; the query's own file counts for nothing."""
    return -math.inf if hit.is_query else hit.match_probability or 0.0


def _hit(place: int, score: float, judged: Judged, background: Background | None, is_query: bool) -> Hit:
    row = judged.row
    return Hit(
        rank=place,
        score=float(score),
        cosine=judged.cosine,
        match_probability=judged.probability,
        modality=row.modality,
        path=row.path,
        start_s=row.start_s,
        end_s=row.end_s,
        text=row.text if row.modality is Modality.TEXT else None,
        caption=row.caption,
        metadata=row.metadata,
        vector_id=row.vector_id,
        key=row.key,
        match_logit=judged.logit,
        standard_score=None if background is None else background.score(judged.cosine),
        is_query=is_query,
    )
