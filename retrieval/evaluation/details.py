"""What a report shows beside a direction's numbers: ranks, curves, similarities and examples.

Pure functions over vectors and ranks, and the values that travel into ``report.json``. Knows nothing of files,
pictures or pages: an example names a row of the benchmark, a page finds its picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from indexer.items import Embeddings
from retrieval.evaluation.metrics import metrics
from retrieval.evaluation.metrics.ranks import Floats, Ints, Relevance, RelevantRanks, similarity_blocks
from retrieval.evaluation.shown_items import ShownItem

#: The curves are drawn for k = 1 .. this.
CURVE_TO = 100
#: Where the numbers of relevant ones found are kept for every query.
FOUND_AT = (1, 5, 10)
#: Candidates of an example that are shown.
SHOWN = 5

_MISSES, _HITS = 6, 4
#: Bins over [-1, 1] while counting; the filled part of them is then merged to at most ``_SHOWN_BINS``.
_FINE_BINS, _SHOWN_BINS = 4_000, 50


@dataclass(frozen=True, slots=True)
class Example:
    """One query, where what belongs to it came, and what came first."""

    query: int
    rank: int
    """Of its first relevant candidate."""
    query_item: ShownItem
    wanted: ShownItem
    """A relevant candidate: the one that came first."""
    found: tuple[tuple[ShownItem, bool], ...]
    """The first candidates, each with whether it is relevant."""

    def to_json(self) -> dict[str, Any]:
        """One of ``"misses"`` or ``"hits"``."""
        return {
            "query": self.query,
            "rank": self.rank,
            "asked": self.query_item.to_json(),
            "wanted": self.wanted.to_json(),
            "found": [{**entry.to_json(), "relevant": relevant} for entry, relevant in self.found],
        }


@dataclass(frozen=True, slots=True)
class Similarities:
    """How alike matching and other pairs are, counted in bins of equal width over [``low``, ``high``]."""

    low: float
    high: float
    matching: tuple[int, ...]
    others: tuple[int, ...]
    mean_matching: float
    mean_others: float | None
    """``None`` where every pair matches."""
    centroid_distance: float
    """Euclidean distance between the means of the two sides' embeddings, 0 to 2: the modality gap of Liang et al.,
    Mind the Gap (NeurIPS 2022), section 2.1."""

    def to_json(self) -> dict[str, Any]:
        """``"similarities"`` of a direction's details."""
        return {
            "low": self.low,
            "high": self.high,
            "matching": list(self.matching),
            "others": list(self.others),
            "mean_matching": self.mean_matching,
            "mean_others": self.mean_others,
            "centroid_distance": self.centroid_distance,
        }


@dataclass(frozen=True, eq=False)
class DirectionDetails:
    """Of one direction and stage."""

    queries_sha256: str
    """Of all queries in their order: only runs with the same one are compared query by query."""
    candidates_sha256: str
    ranks: RelevantRanks
    similarities: Similarities | None
    misses: tuple[Example, ...]
    """The worst first."""
    hits: tuple[Example, ...]

    def to_json(self) -> dict[str, Any]:
        """``"details"`` of a result in ``report.json``: lists of whole numbers, one a query."""
        per_query: dict[str, Any] = {"first_rank": self.ranks.first.tolist()}
        if (self.ranks.counts > 1).any():
            per_query["relevant"] = self.ranks.counts.tolist()
            for k in FOUND_AT:
                found = metrics.recalls_at_k(self.ranks, k) * self.ranks.counts
                per_query[f"found_at_{k}"] = np.rint(found).astype(int).tolist()
        hit_rates, recalls = curves(self.ranks)
        return {
            "queries_sha256": self.queries_sha256,
            "candidates_sha256": self.candidates_sha256,
            "per_query": per_query,
            "curve": {"hit_rate": hit_rates.round(6).tolist(), "recall": recalls.round(6).tolist()},
            "similarities": None if self.similarities is None else self.similarities.to_json(),
            "misses": [example.to_json() for example in self.misses],
            "hits": [example.to_json() for example in self.hits],
        }


def curves(ranks: RelevantRanks, to: int = CURVE_TO) -> tuple[Floats, Floats]:
    """``(hit rates, recalls)`` at k = 1 .. ``to``, each ``(to,)``.

    >>> hits, recalls = curves(RelevantRanks(np.array([1, 3, 2]), np.array([0, 2, 3])), 3)
    >>> hits.tolist(), recalls.tolist()
    ([0.5, 1.0, 1.0], [0.25, 0.75, 1.0])
    """
    n = ranks.n_queries
    first = np.bincount(np.minimum(ranks.first, to + 1), minlength=to + 2)[1 : to + 1]
    weights = np.repeat(1.0 / ranks.counts, ranks.counts)
    each = np.bincount(np.minimum(ranks.ranks, to + 1), weights=weights, minlength=to + 2)[1 : to + 1]
    return np.cumsum(first) / n, np.cumsum(each) / n


def similarities_of(
    queries: Embeddings, candidates: Embeddings, relevance: Relevance, candidate_starts: Ints | None = None
) -> Similarities:
    """Cosines of all pairs, ``queries`` ``(q, dim)`` and ``candidates`` ``(n, dim)`` of unit rows, in blocks."""
    counts = np.zeros((2, _FINE_BINS), dtype=np.int64)
    sums = np.zeros(2)
    for start, block in _blocks(queries, candidates, candidate_starts):
        offsets = relevance.offsets[start : start + len(block) + 1]
        rows = np.repeat(np.arange(len(block)), np.diff(offsets))
        matching = block[rows, relevance.candidates[offsets[0] : offsets[-1]]]
        for side, values in enumerate((matching, block)):
            places = ((values + 1.0) * (_FINE_BINS / 2)).astype(np.int32).clip(0, _FINE_BINS - 1)
            counts[side] += np.bincount(places.ravel(), minlength=_FINE_BINS)
            sums[side] += float(values.sum(dtype=np.float64))
    pairs = counts.sum(axis=1)
    counts[1] -= counts[0]
    filled = np.flatnonzero(counts.sum(axis=0))
    first, last = int(filled[0]), int(filled[-1]) + 1
    width = -(-(last - first) // _SHOWN_BINS)
    last = min(_FINE_BINS, first + width * -(-(last - first) // width))
    merged = [np.add.reduceat(side[first:last], np.arange(0, last - first, width)) for side in counts]
    others = int(pairs[1] - pairs[0])
    return Similarities(
        low=2 * first / _FINE_BINS - 1,
        high=2 * (first + width * len(merged[0])) / _FINE_BINS - 1,
        matching=tuple(merged[0].tolist()),
        others=tuple(merged[1].tolist()),
        mean_matching=float(sums[0] / pairs[0]),
        mean_others=float((sums[1] - sums[0]) / others) if others else None,
        centroid_distance=float(np.linalg.norm(queries.mean(axis=0) - candidates.mean(axis=0))),
    )


def examples_of(
    queries: Embeddings,
    candidates: Embeddings,
    relevance: Relevance,
    ranks: RelevantRanks,
    query_items: Sequence[ShownItem],
    candidate_items: Sequence[ShownItem],
    *,
    candidate_starts: Ints | None = None,
    best: Ints | None = None,
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """``(misses, hits)``: the queries whose own came last, worst first, and some whose own came first, spread evenly.

    Of each row one query at most. ``best``: the first candidates of every query ``(q, m)``, best first, where a
    second stage ordered them; ``None``: the order of the cosines.
    """
    misses = _one_a_row(np.argsort(-ranks.first, kind="stable"), query_items, ranks, missed=True)
    found = list(_one_a_row(np.arange(ranks.n_queries), query_items, ranks, missed=False))
    spread = sorted({len(found) * n // _HITS for n in range(_HITS)}) if found else []

    def example(query: int) -> Example:
        relevant = relevance.candidates[relevance.offsets[query] : relevance.offsets[query + 1]]
        ((_, block),) = _blocks(queries[query : query + 1], candidates, candidate_starts)
        order = np.argsort(-block[0], kind="stable")
        top = (order if best is None else best[query])[:SHOWN].tolist()
        there = [place for place in top if place in relevant]
        wanted = there[0] if there else int(order[np.isin(order, relevant)][0])
        return Example(
            query=query,
            rank=int(ranks.first[query]),
            query_item=query_items[query],
            wanted=candidate_items[wanted],
            found=tuple((candidate_items[place], place in relevant) for place in top),
        )

    worst = list(islice(misses, _MISSES))
    return tuple(map(example, worst)), tuple(example(found[place]) for place in spread)


def _one_a_row(order: Ints, query_items: Sequence[ShownItem], ranks: RelevantRanks, *, missed: bool) -> Iterator[int]:
    seen: set[str] = set()
    first = ranks.first
    for query in order.tolist():
        if (first[query] > 1) == missed and query_items[query].row_id not in seen:
            seen.add(query_items[query].row_id)
            yield query


def _blocks(queries: Embeddings, candidates: Embeddings, candidate_starts: Ints | None) -> Iterator[tuple[int, Any]]:
    for start, block in similarity_blocks(queries, candidates):
        if candidate_starts is not None:
            block = np.maximum.reduceat(block, candidate_starts, axis=1)
        yield start, block
