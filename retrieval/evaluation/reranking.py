"""One direction reranked: the best candidates of each query are scored by a reranker, and its ranks are made anew.

LAVIS' protocol: the top k_test of a query by cosine get match logit plus cosine as their score; everything else
stays below every scored one, in the order of the cosines. Ties: the lower index first. Knows nothing of files,
of which item a caption belongs to, or of the terminal.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.items import Embeddings, Modality
from indexer.progress import Progress, silent
from retrieval.evaluation.directions import RerankInput
from retrieval.evaluation.metrics.ranks import Ints, Relevance, RelevantRanks, best_first, similarity_blocks
from retrieval.rerank.base import Reranker
from retrieval.rerank.stage import match_scores

#: Of each query's new order, how many are kept.
BEST = 5

_REPORT_EVERY = 16
#: Texts that the reranker reads together.
_READ_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Judgement:
    """Ranks after the second stage, and every pair that it scored, one a query and candidate."""

    ranks: RelevantRanks
    logits: NDArray[np.float32]  # (pairs,)
    scores: NDArray[np.float32]  # (pairs,)
    labels: NDArray[np.bool_]  # (pairs,)
    n_scored: int
    """RerankInput that went through the model: the same text and picture only once."""
    seconds: float
    best: Ints  # (q, up to BEST)
    """The first candidates of each query in the new order, best first."""


def judge_direction(
    queries: Embeddings,
    candidates: Embeddings,
    relevance: Relevance,
    pairs: RerankInput,
    reranker: Reranker,
    *,
    depth: int,
    progress: Progress = silent,
) -> Judgement:
    """Rank one direction anew: ``queries`` ``(q, dim)``, ``candidates`` ``(n, dim)``.

    The ``depth`` best candidates of each query by cosine are scored. ``ValueError`` for a depth below 1.
    """
    if depth < 1:
        raise ValueError(f"the depth is {depth}; it is at least 1")
    n = len(queries)
    scorer = _PairScorer(pairs, reranker)
    started = time.perf_counter()
    if pairs.query is not Modality.TEXT and reranker.supports(Modality.TEXT, pairs.query):
        by_text = _queries_by_text(queries, candidates, pairs.texts, depth)
        scorer.score_by_text(by_text, lambda share: progress("rerank", int(share * (n - 1)), n))
    judged: list[_JudgedQuery] = []
    for query, cosines in _each_query(queries, candidates):
        if pairs.query is Modality.TEXT and query % _READ_AT_ONCE == 0:
            reranker.read(pairs.texts[query : query + _READ_AT_ONCE])
        top = best_first(cosines, depth)
        logits = scorer.logits(query, top)
        scores = match_scores(reranker, logits, cosines[top], pairs.media)
        relevant = relevance.candidates[relevance.offsets[query] : relevance.offsets[query + 1]]
        judged.append(_JudgedQuery.of(cosines, top, logits, scores, relevant))
        if (query + 1) % _REPORT_EVERY == 0:
            progress("rerank", query + 1, n)
    seconds = time.perf_counter() - started
    progress("rerank", n, n)
    return Judgement(
        RelevantRanks(np.concatenate([one.ranks for one in judged]), relevance.offsets),
        np.concatenate([one.logits for one in judged]),
        np.concatenate([one.scores for one in judged]),
        np.concatenate([one.labels for one in judged]),
        scorer.n_scored,
        seconds,
        np.stack([one.best for one in judged]),
    )


@dataclass(frozen=True, eq=False)
class _JudgedQuery:
    """One query after the second stage, as in :class:`Judgement`."""

    ranks: Ints  # (relevant,), rising
    best: Ints  # (up to BEST,)
    logits: NDArray[np.float32]  # (depth,)
    scores: NDArray[np.float32]  # (depth,)
    labels: NDArray[np.bool_]  # (depth,)

    @classmethod
    def of(
        cls,
        cosines: NDArray[Any],
        top: Ints,
        logits: NDArray[np.float32],
        scores: NDArray[np.float32],
        relevant: Ints,
    ) -> _JudgedQuery:
        ranks = np.sort(_ranks(cosines, top, scores, relevant))
        return cls(ranks, top[_order(top, scores)][:BEST], logits, scores, np.isin(top, relevant))


class _PairScorer:
    """Match logits of a query and its best candidates; equal texts are scored once a picture."""

    def __init__(self, pairs: RerankInput, reranker: Reranker) -> None:
        self._pairs = pairs
        self._reranker = reranker
        self._known: dict[str, dict[int, np.float32]] = {}
        self._repeated = {text for text, n in Counter(pairs.texts).items() if n > 1}
        self._by_text: dict[str, dict[int, np.float32]] = {}
        self.n_scored = 0

    def score_by_text(self, by_text: Mapping[str, Sequence[int]], on_share: Callable[[float], None]) -> None:
        """Score media queries text by text: each text is read once for all of its queries, not once for each."""
        texts = list(by_text)
        for done, (text, queries) in enumerate(by_text.items(), start=1):
            if done % _READ_AT_ONCE == 1:
                self._reranker.read(texts[done - 1 : done - 1 + _READ_AT_ONCE])
            found = self._reranker.score_media(text, self._pairs.tokens[list(queries)], self._pairs.query)
            self._by_text[text] = dict(zip(queries, found, strict=True))
            self.n_scored += len(queries)
            on_share(done / len(by_text))

    def logits(self, query: int, top: Ints) -> NDArray[np.float32]:
        """Match logits ``(depth,)`` of a query and the candidates ``top`` ``(depth,)``."""
        if self._pairs.query is Modality.TEXT:
            return self._logits_of_text(query, top.tolist())
        return self._logits_of_media(query, top.tolist())

    def _logits_of_text(self, query: int, top: list[int]) -> NDArray[np.float32]:
        pairs = self._pairs
        text = pairs.texts[query]
        known = self._known.get(text, {})
        missing = [place for place in top if place not in known]
        if missing:
            found = self._reranker.score_media(text, pairs.tokens[missing], pairs.candidate)
            self.n_scored += len(missing)
            known = {**known, **dict(zip(missing, found, strict=True))}
        if text in self._repeated:
            self._known[text] = known
        return np.array([known[place] for place in top], dtype=np.float32)

    def _logits_of_media(self, query: int, top: list[int]) -> NDArray[np.float32]:
        pairs = self._pairs
        texts = [pairs.texts[place] for place in top]
        if self._by_text:
            return np.array([self._by_text[text][query] for text in texts], dtype=np.float32)
        distinct = list(dict.fromkeys(texts))
        found = self._reranker.score_texts(pairs.tokens[query : query + 1], distinct, pairs.query)
        self.n_scored += len(distinct)
        by_text = dict(zip(distinct, found, strict=True))
        return np.array([by_text[text] for text in texts], dtype=np.float32)


def _each_query(queries: Embeddings, candidates: Embeddings) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Each query's number and its cosines ``(n,)`` with the candidates."""
    for first, block in similarity_blocks(queries, candidates):
        yield from enumerate(block, start=first)


def _queries_by_text(
    queries: Embeddings, candidates: Embeddings, texts: Sequence[str], depth: int
) -> dict[str, list[int]]:
    """Of each candidate text the queries that have it among their ``depth`` best."""
    by_text: dict[str, list[int]] = {}
    for query, cosines in _each_query(queries, candidates):
        for text in dict.fromkeys(texts[place] for place in best_first(cosines, depth).tolist()):
            by_text.setdefault(text, []).append(query)
    return by_text


def _ranks(cosines: NDArray[Any], top: Ints, scores: NDArray[np.float32], relevant: Ints) -> Ints:
    """Rank of each of ``relevant`` in one query's new order."""
    order = _order(top, scores)
    place = {candidate: rank for rank, candidate in enumerate(top[order].tolist(), start=1)}
    found = np.empty(len(relevant), dtype=np.int64)
    for i, candidate in enumerate(relevant.tolist()):
        rank = place.get(candidate)
        if rank is None:  # below the depth the order is that of the cosines, and all above it are counted in
            own = cosines[candidate]
            rank = 1 + int(np.count_nonzero(cosines > own)) + int(np.count_nonzero(cosines[:candidate] == own))
        found[i] = rank
    return found


def _order(top: Ints, scores: NDArray[np.float32]) -> Ints:
    """Places in ``top`` by falling score; ties: the lower candidate first."""
    return np.lexsort((top, -scores.astype(np.float64)))
