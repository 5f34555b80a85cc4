"""How broadly an approximate index is searched: measured against exact search until the recall wanted is found.

Every setting is searched with the same queries, and the fastest one that finds enough is kept, with the whole curve.
Knows nothing of FAISS, files or models.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.ann.brute_force import RowSource, exact_top
from indexer.ann.file import Tuning
from indexer.ann.index import VectorIndex
from indexer.items import Embeddings

#: Recall is measured among that many nearest.
K = 10
#: Vectors of the collection that are used as queries where none are given.
_OWN_QUERIES = 300
#: Candidates of the codes for each one that is looked at again.
_REFINES = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
#: Of the settings that are fastest with all queries at once so many are timed with so many queries one by one.
_FASTEST, _ALONE = 4, 100
_GRAPH_BREADTHS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
#: A neighbour as near as the k-th true one, to within rounding, is one of them.
_SAME = 1e-6
#: More than the recall wanted, so that chance in the queries does not decide.
_ROOM = 0.002
#: Candidates beyond k that are compared exactly: few find enough of the nearest where not nearly all are wanted.
_MARGINS = (4, 10)
_FEW_UP_TO = 0.96


@dataclass(frozen=True, slots=True)
class TuningQueries:
    """Queries ``(q, dim)`` to measure with, and which rows they search."""

    vectors: Embeddings
    what: str
    """``captions``, or ``vectors``: of the collection itself."""
    allowed: NDArray[np.int64] | None = None
    own: NDArray[np.int64] | None = None
    """Of each query, the vector_id that it is itself, and that does not count."""
    learn: Embeddings | None = None
    """Others ``(m, dim)``: an index may learn from them, so that it is not measured with what it has learned."""


def own_vectors(source: RowSource, allowed: NDArray[np.int64] | None = None, n: int = _OWN_QUERIES) -> TuningQueries:
    """``n`` of the vectors themselves, each a query for its neighbours, where no other queries are given."""
    rows = np.arange(source.count) if allowed is None else allowed
    own = rows[np.sort(np.random.default_rng(0).choice(len(rows), min(n, len(rows)), replace=False))]
    return TuningQueries(source.get(own), "vectors", allowed, own)


def tuned(index: VectorIndex, source: RowSource, queries: TuningQueries, target: float) -> Tuning:
    """The settings of ``index`` that find ``target`` of the true 10 nearest fastest; else those that find most.

    Leaves the index at them.
    """
    least, near = _least(source, queries, index.ntotal)
    margin = _MARGINS[target > _FEW_UP_TO]
    target = min(target + _ROOM, 1.0 - _SAME)
    curve: list[dict[str, float]] = []
    common: dict[str, Any] = {
        "margin": margin,
        "count": index.ntotal,
        "queries": queries.what,
        "n_queries": len(queries.vectors),
    }

    def measure(breadth: int, refine: float) -> float:
        index.tuning = Tuning(breadth, refine, **common)
        started = time.perf_counter()
        scores, ids = index.search(queries.vectors, K + (queries.own is not None), queries.allowed)
        seconds = time.perf_counter() - started
        recall = _recall(scores, ids, least, near, queries.own)
        milliseconds = 1e3 * seconds / len(queries.vectors)
        point = {"breadth": breadth, "refine": refine, "recall_at_10": round(recall, 4), "ms": round(milliseconds, 4)}
        curve.append(point)
        return recall

    if index.kind == "HNSW":
        _broaden(measure, _GRAPH_BREADTHS, 1.0, target)
    else:
        breadths = [2**n for n in range(32) if 2**n < index.plan.lists] + [index.plan.lists]
        best = 0.0
        for refine in _REFINES:
            recall = _broaden(measure, breadths, refine, target)
            if recall < best + 1e-3 and best >= target:
                break  # looking again at more finds no more
            best = max(best, recall)

    def alone(point: dict[str, float]) -> float:
        """Seconds of searches one by one, as people search, in the best of three rounds."""
        index.tuning = Tuning(int(point["breadth"]), point["refine"], **common)
        rounds = []
        for _ in range(3):
            started = time.perf_counter()
            for query in queries.vectors[:_ALONE]:
                index.search(query[None], K, queries.allowed)
            rounds.append(time.perf_counter() - started)
        return min(rounds)

    enough = sorted((one for one in curve if one["recall_at_10"] >= target), key=lambda one: one["ms"])
    chosen = min(enough[:_FASTEST], key=alone) if enough else max(curve, key=lambda one: one["recall_at_10"])
    index.tuning = Tuning(
        int(chosen["breadth"]), chosen["refine"], recall=chosen["recall_at_10"], curve=tuple(curve), **common
    )
    return index.tuning


def broadened(index: VectorIndex, source: RowSource, queries: TuningQueries, target: float) -> Tuning:
    """The tuning of ``index``, which other queries found, looking as broadly as ``target`` needs for these, too.

    An index that was made and measured for captions is searched with pictures as well. Leaves the index at it.
    """
    assert index.tuning is not None
    least, near = _least(source, queries, index.ntotal)
    limit = index.plan.lists or max(_GRAPH_BREADTHS)
    while True:
        found = index.search(queries.vectors, K + (queries.own is not None), queries.allowed)
        breadth = index.tuning.breadth
        if breadth >= limit or _recall(*found, least, near, queries.own) >= target:
            return index.tuning
        index.tuning = replace(index.tuning, breadth=min(limit, breadth + max(1, breadth // 2)))


def _broaden(measure: Any, breadths: Any, refine: float, target: float) -> float:
    """Look ever more broadly until it is enough, or helps no more; then narrow down. Returns the best recall."""
    before, last, best, stalled = 0, 0, 0.0, 0
    for breadth in breadths:
        recall = measure(breadth, refine)
        before, last = last, breadth
        stalled = stalled + 1 if recall < best + 1e-3 else 0
        best = max(best, recall)
        if recall >= target or stalled == 2:
            break
    if best >= target and before:
        for _ in range(3):
            middle = (before + last) // 2
            if middle in (before, last):
                break
            recall = measure(middle, refine)
            before, last = (before, middle) if recall >= target else (middle, last)
    return best


def _least(source: RowSource, queries: TuningQueries, ntotal: int) -> tuple[NDArray[np.float32], int]:
    """Of each query, the score of its 10th true neighbour ``(q,)``, of the last where there are fewer; and how many."""
    scores, ids = exact_top(queries.vectors, source, K + 1, queries.allowed, ntotal=ntotal)
    scores = _without_own(scores, ids, queries.own)[:, :K]
    least = np.asarray(np.where(np.isfinite(scores), scores, np.inf).min(axis=1), dtype=np.float32)
    return least, max(1, int(np.isfinite(scores).sum(axis=1).max()))


def _recall(scores: Any, ids: Any, least: NDArray[np.float32], near: int, own: NDArray[np.int64] | None) -> float:
    """Mean share of the ``near`` nearest; equal ones count, so at most that many of each query."""
    scores = _without_own(scores, ids, own)[:, :near]
    return float(((scores >= least[:, None] - _SAME).sum(axis=1) / near).mean())


def _without_own(scores: Any, ids: Any, own: NDArray[np.int64] | None) -> NDArray[np.float32]:
    if own is None:
        return np.asarray(scores)
    scores = np.where(ids == own[:, None], -np.inf, scores)
    return np.asarray(-np.sort(-scores, axis=1))
