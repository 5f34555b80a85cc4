"""What the approximate index costs: a collection's own index against exact search, on the benchmark's own vectors.

The index is the one that a collection of so many vectors gets: exact up to 20,000, IVF above, searched as broadly as
finds 95 % of the nearest (measured with vectors of the candidates, not with the queries). Exact search is the matrix
product that the benchmark's own ranks come from, not FAISS. Knows nothing of files or models.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.ann.brute_force import ArrayRows
from indexer.ann.index import VectorIndex, index_of
from indexer.ann.plan import DEFAULT_TARGET_RECALL
from indexer.ann.tuning import own_vectors, tuned
from indexer.items import Embeddings
from retrieval.evaluation.metrics import metrics
from retrieval.evaluation.metrics.ranks import (
    Ints,
    Relevance,
    RelevantRanks,
    best_first,
    ranks_of_ids,
    similarity_blocks,
)

AT = (1, 5, 10)

#: Similarities nearer than this are one: FAISS and NumPy round a product of float32 differently.
_SAME = 1e-6


@dataclass(frozen=True, slots=True)
class AnnResult:
    """The index beside exact search, of one direction."""

    direction: str
    index: str
    """``Flat`` (exact), ``HNSW`` or ``IVF``."""
    n_candidates: int
    recall_at: Mapping[int, float]
    """Mean share of the true k nearest that are among the index's k."""
    hit_rate_at: Mapping[int, float]
    """R@k of a search through the index."""
    lost: Mapping[int, float]
    """R@k of exact search minus that; below 0 where a near miss happened to help."""
    build_s: float
    search_ms: float
    """Of one query, on the average."""

    def to_json(self) -> dict[str, Any]:
        """One of ``"ann"`` of ``bench --json``."""
        return {
            "direction": self.direction,
            "index": self.index,
            "n_candidates": self.n_candidates,
            **{f"recall_at_{k}": value for k, value in self.recall_at.items()},
            **{f"hit_rate_at_{k}": value for k, value in self.hit_rate_at.items()},
            "lost": {f"hit_rate_at_{k}": value for k, value in self.lost.items()},
            "build_s": round(self.build_s, 3),
            "search_ms": round(self.search_ms, 3),
        }

    def note(self) -> str:
        """The same on one line, for people."""
        found = ", ".join(f"recall@{k} {100 * self.recall_at[k]:.2f}" for k in AT)
        lost = ", ".join(f"R@{k} {100 * self.lost[k]:.2f}" for k in AT)
        kind = "exact" if self.index == "Flat" else "approximate"
        return (
            f"{self.direction}, {self.index} index ({kind}) of {self.n_candidates:,} against exact search: {found} %; "
            f"lost by it: {lost} points; {self.search_ms:.2f} ms a query"
        )


def measure_ann(
    direction: str,
    queries: Embeddings,
    candidates: Embeddings,
    relevance: Relevance,
    exact: RelevantRanks,
    *,
    index: VectorIndex | None = None,
) -> AnnResult:
    """Search every query ``(q, dim)`` in an index of ``candidates`` ``(n, dim)``, and compare with exact search.

    ``exact``: the ranks that exact search gave. ``index``: another one than a collection's own choice, filled.
    """
    started = time.perf_counter()
    index = index or _own_index(candidates)
    built = time.perf_counter()
    _, ids = index.search(queries, max(AT))
    searched = time.perf_counter()
    kinds = [relevance.candidates[a:b].tolist() for a, b in _bounds(relevance)]
    through = ranks_of_ids([[one for one in row if one >= 0] for row in ids.tolist()], kinds)
    hit_rate = {k: metrics.hit_rate_at_k(through, k) for k in AT}
    return AnnResult(
        direction=direction,
        index=index.kind,
        n_candidates=len(candidates),
        recall_at=recall_of_neighbours(queries, candidates, ids),
        hit_rate_at=hit_rate,
        lost={k: metrics.hit_rate_at_k(exact, k) - hit_rate[k] for k in AT},
        build_s=built - started,
        search_ms=1000 * (searched - built) / max(1, len(queries)),
    )


def _own_index(candidates: Embeddings) -> VectorIndex:
    index = index_of(candidates)
    if index.kind != "Flat":
        source = ArrayRows(candidates)
        tuned(index, source, own_vectors(source), DEFAULT_TARGET_RECALL)
    return index


def recall_of_neighbours(queries: Embeddings, candidates: Embeddings, ids: NDArray[np.int64]) -> dict[int, float]:
    """Of each k the mean share of the k found ``ids`` ``(q, >= 10)``, -1 for none, that belong to the true k nearest.

    One as near as the k-th true neighbour belongs to them: of equals, any will do.
    """
    shares: dict[int, list[float]] = {k: [] for k in AT}
    for first, block in similarity_blocks(queries, candidates):
        for cosines, found in zip(block, ids[first : first + len(block)], strict=True):
            nearest = cosines[best_first(cosines, max(AT))]
            for k in AT:
                size = min(k, len(nearest))
                there: Ints = found[:size][found[:size] >= 0]
                shares[k].append(float(np.count_nonzero(cosines[there] >= nearest[size - 1] - _SAME)) / size)
    return {k: float(np.mean(values)) for k, values in shares.items()}


def _bounds(relevance: Relevance) -> list[tuple[int, int]]:
    return list(zip(relevance.offsets[:-1].tolist(), relevance.offsets[1:].tolist(), strict=True))
