"""One direction of a benchmark: its ranks by cosine, its metrics with intervals and chance levels, its details.

Knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from retrieval.evaluation.details import DirectionDetails, examples_of, similarities_of
from retrieval.evaluation.directions import Comparison
from retrieval.evaluation.metrics import metrics
from retrieval.evaluation.metrics.ranks import Floats, Ints, Relevance, RelevantRanks, ranks_of_embeddings
from retrieval.evaluation.metrics.statistics import bootstrap_ci95
from retrieval.evaluation.results import DirectionResult
from retrieval.evaluation.shown_items import fingerprint
from retrieval.evaluation.zero_shot import classification

#: The k of the hit rates and recalls.
AT = (1, 5, 10)
_CHANCE_AT = (1, 10)


class Measured(Protocol):
    """What the metrics of a direction need to know of it, beside its ranks; see :class:`Comparison`."""

    @property
    def direction(self) -> str: ...
    @property
    def queries(self) -> str: ...
    @property
    def candidates(self) -> str: ...
    @property
    def relevance(self) -> Relevance: ...
    @property
    def captions_per_item(self) -> float | None: ...
    @property
    def labels(self) -> Sequence[int] | None: ...


def measure(comparison: Comparison, *, stage: str = "dual", seed: int = 0) -> DirectionResult:
    """Rank one direction by cosine and take its metrics."""
    return summarise(comparison, dual_ranks(comparison), stage=stage, seed=seed)


def dual_ranks(comparison: Comparison) -> RelevantRanks:
    """Ranks of one direction by cosine."""
    return ranks_of_embeddings(
        comparison.query_vectors,
        comparison.candidate_vectors,
        comparison.relevance,
        candidate_starts=comparison.candidate_starts,
    )


def summarise(comparison: Measured, ranks: RelevantRanks, *, stage: str, seed: int = 0) -> DirectionResult:
    """The metrics of one direction from the ranks that ``stage`` gave."""
    per_query: dict[str, Floats] = {}
    for k in AT:
        per_query[f"hit_rate_at_{k}"] = metrics.hits_at_k(ranks, k)
        per_query[f"recall_at_{k}"] = metrics.recalls_at_k(ranks, k)
    per_query["mrr"] = metrics.reciprocal_ranks(ranks)
    chance: dict[str, float] = {}
    for k in _CHANCE_AT:
        chance[f"hit_rate_at_{k}"] = metrics.chance_hit_rate_at_k(comparison.relevance, k)
        chance[f"recall_at_{k}"] = metrics.chance_recall_at_k(comparison.relevance, k)
    return DirectionResult(
        direction=comparison.direction,
        stage=stage,
        queries=comparison.queries,
        candidates=comparison.candidates,
        n_queries=comparison.relevance.n_queries,
        n_candidates=comparison.relevance.n_candidates,
        captions_per_item=comparison.captions_per_item,
        hit_rate_at={k: metrics.hit_rate_at_k(ranks, k) for k in AT},
        recall_at={k: metrics.recall_at_k(ranks, k) for k in AT},
        mrr=metrics.mrr(ranks),
        chance=chance,
        ci95={name: bootstrap_ci95(values, seed=seed) for name, values in per_query.items()},
        zero_shot=None
        if comparison.labels is None
        else classification(ranks, comparison.labels, comparison.relevance.n_candidates),
    )


def detail(
    comparison: Comparison, ranks: RelevantRanks, *, similarities: bool = False, best: Ints | None = None
) -> DirectionDetails:
    """What a report shows of one direction; ``best`` is the order of a second stage, see ``details.examples_of``."""
    queries, candidates, relevance = comparison.query_vectors, comparison.candidate_vectors, comparison.relevance
    starts = comparison.candidate_starts
    misses, hits = examples_of(
        queries,
        candidates,
        relevance,
        ranks,
        comparison.query_items,
        comparison.candidate_items,
        candidate_starts=starts,
        best=best,
    )
    return DirectionDetails(
        fingerprint(comparison.query_items),
        fingerprint(comparison.candidate_items),
        ranks,
        similarities_of(queries, candidates, relevance, starts) if similarities else None,
        misses,
        hits,
    )
