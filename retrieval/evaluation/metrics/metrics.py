"""Recall@k, hit rate and MRR: pure functions from the ranks of relevant candidates to numbers, and what chance gives.

Ties were settled by the ranks: the lower index first. A query without a relevant candidate has no recall; it is
refused when the ranks are made, never averaged in as 0 or 1. Knows nothing of similarities, models or files.
"""

from __future__ import annotations

import numpy as np

from retrieval.evaluation.metrics.ranks import NOT_FOUND, Floats, Ints, Relevance, RelevantRanks


def hits_at_k(ranks: RelevantRanks, k: int) -> Floats:
    """1.0 for each query with at least one relevant candidate in the top k, else 0.0; ``(n_queries,)``."""
    _check_k(k)
    return (ranks.first <= k).astype(np.float64)


def hit_rate_at_k(ranks: RelevantRanks, k: int) -> float:
    """Share of the queries with at least one relevant candidate in the top k.

    Formula: ``mean_i [min_j rank(i, j) <= k]``. Ties: the lower index first. Source: what CLIP_benchmark,
    open_clip and LAVIS print as "R@k" (CLIP, Radford et al. 2021, section 3.1.3 and its retrieval table).
    With one relevant candidate a query it is the same as recall@k.

    Example: ranks (1, 4) and (2, 3) -> hit_rate@1 = 1/2, hit_rate@2 = 1.
    """
    return _mean(hits_at_k(ranks, k))


def recalls_at_k(ranks: RelevantRanks, k: int) -> Floats:
    """Share of each query's relevant candidates that are in the top k; ``(n_queries,)``."""
    _check_k(k)
    found = (ranks.ranks <= k).astype(np.float64)
    return np.asarray(_sum_by_query(found, ranks.offsets) / np.maximum(ranks.counts, 1), dtype=np.float64)


def recall_at_k(ranks: RelevantRanks, k: int) -> float:
    """Mean over queries of the share of their relevant candidates found in the top k.

    Formula: ``mean_i |{j relevant to i : rank(i, j) <= k}| / |{j relevant to i}|``. Ties: the lower index
    first. A query with more than k relevant candidates cannot reach 1. Source: Manning, Raghavan and
    Schuetze, Introduction to Information Retrieval (2008), section 8.3, cut at k and averaged over queries.

    Example: ranks (1, 4) and (2, 3) -> recall@1 = (1/2 + 0/2) / 2 = 0.25, recall@3 = (1/2 + 2/2) / 2 = 0.75.
    """
    return _mean(recalls_at_k(ranks, k))


def reciprocal_ranks(ranks: RelevantRanks) -> Floats:
    """1 / rank of each query's first relevant candidate, 0 where none was found; ``(n_queries,)``."""
    first = ranks.first
    return np.where(first == NOT_FOUND, 0.0, 1.0 / first)


def mrr(ranks: RelevantRanks) -> float:
    """Mean reciprocal rank of the first relevant candidate.

    Formula: ``mean_i 1 / min_j rank(i, j)``, 0 for a query whose shortened list holds none. Ties: the lower
    index first. Source: Voorhees, The TREC-8 Question Answering Track Report (1999).

    Example: ranks (1, 4) and (2, 3) -> (1/1 + 1/2) / 2 = 0.75.
    """
    return _mean(reciprocal_ranks(ranks))


def chance_hit_rate_at_k(relevance: Relevance, k: int) -> float:
    """hit_rate@k expected of a random order of the pool.

    Formula: ``mean_i (1 - C(n - r_i, k) / C(n, k))`` for r_i relevant of n candidates (hypergeometric).

    Example: one relevant of 200, k = 10 -> 0.05.
    """
    _check_k(k)
    n = relevance.n_candidates
    counts, times = np.unique(relevance.counts, return_counts=True)
    total = 0.0
    for count, often in zip(counts.tolist(), times.tolist(), strict=True):
        draws = np.arange(min(k, n), dtype=np.float64)
        none_found = float(np.prod(np.maximum(n - count - draws, 0.0) / (n - draws)))
        total += often * (1.0 - none_found)
    return total / max(1, relevance.n_queries)


def chance_recall_at_k(relevance: Relevance, k: int) -> float:
    """recall@k expected of a random order of the pool: ``min(k, n) / n``, however many are relevant.

    Example: 200 candidates, k = 10 -> 0.05.
    """
    _check_k(k)
    return min(k, relevance.n_candidates) / max(1, relevance.n_candidates)


def _sum_by_query(values: Floats, offsets: Ints) -> Floats:
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(total[offsets[1:]] - total[offsets[:-1]], dtype=np.float64)


def _mean(values: Floats) -> float:
    if len(values) == 0:
        raise ValueError("no queries: there is nothing to average")
    return float(values.mean())


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}; it is at least 1")
