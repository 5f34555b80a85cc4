"""The second stage on a benchmark: the best of each query judged by a reranker, and what that changed.

LAVIS' protocol: the top k_test of a query by cosine get match logit plus cosine as their score; everything else
stays below every judged one, in the order of the cosines. Ties: the lower index first. Knows nothing of files,
captions' owners or the terminal.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.items import Embeddings, Modality
from retrieval.evaluation.directions import Pairs
from retrieval.evaluation.ranks import Ints, Relevance, RelevantRanks, best_first, similarity_blocks
from retrieval.rerank.reranker import Reranker
from retrieval.rerank.stage import match_scores

#: Called with (queries judged, of how many).
OnQueries = Callable[[int, int], None]

#: Of each query's new order, how many are kept.
BEST = 5

_TELL_EVERY = 16


@dataclass(frozen=True, eq=False)
class Judgement:
    """Ranks after the second stage, and every pair that it scored, one a query and candidate."""

    ranks: RelevantRanks
    logits: NDArray[np.float32]  # (pairs,)
    scores: NDArray[np.float32]  # (pairs,)
    labels: NDArray[np.bool_]  # (pairs,)
    n_scored: int
    """Pairs that went through the model: the same text and picture only once."""
    seconds: float
    best: Ints  # (q, up to BEST)
    """The first candidates of each query in the new order, best first."""


def judge_direction(
    queries: Embeddings,
    candidates: Embeddings,
    relevance: Relevance,
    pairs: Pairs,
    reranker: Reranker,
    *,
    depth: int,
    on_queries: OnQueries | None = None,
) -> Judgement:
    """Rank one direction anew: ``queries`` ``(q, dim)``, ``candidates`` ``(n, dim)``."""
    if depth < 1:
        raise ValueError(f"the depth is {depth}; it is at least 1")
    judging = _Judging(pairs, reranker)
    ranks: list[Ints] = []
    best: list[Ints] = []
    logits: list[NDArray[np.float32]] = []
    scores: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.bool_]] = []
    started = time.perf_counter()
    if pairs.query is not Modality.TEXT and reranker.supports(Modality.TEXT, pairs.query):
        asking: dict[str, list[int]] = {}
        for first, block in similarity_blocks(queries, candidates):
            for query, cosines in enumerate(block, start=first):
                for text in dict.fromkeys(pairs.texts[place] for place in best_first(cosines, depth).tolist()):
                    asking.setdefault(text, []).append(query)
        judging.read_ahead(asking, lambda share: on_queries(int(share * (len(queries) - 1)), len(queries))
                           if on_queries is not None else None)  # fmt: skip
    for first, block in similarity_blocks(queries, candidates):
        for query, cosines in enumerate(block, start=first):
            if pairs.query is Modality.TEXT and query % _READ_AT_ONCE == 0:
                reranker.read(pairs.texts[query : query + _READ_AT_ONCE])
            top = best_first(cosines, depth)
            judged = judging.logits(query, top)
            scored = match_scores(reranker, judged, cosines[top], pairs.told_of)
            relevant = relevance.candidates[relevance.offsets[query] : relevance.offsets[query + 1]]
            ranks.append(np.sort(_ranks(cosines, top, scored, relevant)))
            best.append(top[_order(top, scored)][:BEST])
            logits.append(judged)
            scores.append(scored)
            labels.append(np.isin(top, relevant))
            if on_queries is not None and (query + 1) % _TELL_EVERY == 0:
                on_queries(query + 1, len(queries))
    seconds = time.perf_counter() - started
    if on_queries is not None:
        on_queries(len(queries), len(queries))
    return Judgement(
        RelevantRanks(np.concatenate(ranks), relevance.offsets),
        np.concatenate(logits),
        np.concatenate(scores),
        np.concatenate(labels),
        judging.n_scored,
        seconds,
        np.stack(best),
    )


#: Texts that ask are read together.
_READ_AT_ONCE = 256


class _Judging:
    """Match logits of a query and its best candidates; equal texts are scored once a picture."""

    def __init__(self, pairs: Pairs, reranker: Reranker) -> None:
        self._pairs = pairs
        self._reranker = reranker
        self._known: dict[str, dict[int, np.float32]] = {}
        self._repeated = {text for text, n in Counter(pairs.texts).items() if n > 1}
        self._ahead: dict[str, dict[int, np.float32]] = {}
        self.n_scored = 0

    def read_ahead(self, asking: Mapping[str, Sequence[int]], on_share: Callable[[float], None]) -> None:
        """Judge media that ask for texts, text by text: each is read once for all of them, not once for each."""
        texts = list(asking)
        for done, (text, queries) in enumerate(asking.items(), start=1):
            if done % _READ_AT_ONCE == 1:
                self._reranker.read(texts[done - 1 : done - 1 + _READ_AT_ONCE])
            found = self._reranker.score_media(text, self._pairs.tokens[list(queries)], self._pairs.query)
            self._ahead[text] = dict(zip(queries, found, strict=True))
            self.n_scored += len(queries)
            on_share(done / len(asking))

    def logits(self, query: int, top: Ints) -> NDArray[np.float32]:
        pairs = self._pairs
        if pairs.query is not Modality.TEXT:
            texts = [pairs.texts[place] for place in top.tolist()]
            if self._ahead:
                return np.array([self._ahead[text][query] for text in texts], dtype=np.float32)
            distinct = list(dict.fromkeys(texts))
            found = self._reranker.score_texts(pairs.tokens[query : query + 1], distinct, pairs.query)
            self.n_scored += len(distinct)
            by_text = dict(zip(distinct, found, strict=True))
            return np.array([by_text[text] for text in texts], dtype=np.float32)
        text = pairs.texts[query]
        known = self._known.get(text, {})
        missing = [place for place in top.tolist() if place not in known]
        if missing:
            found = self._reranker.score_media(text, pairs.tokens[missing], pairs.candidate)
            self.n_scored += len(missing)
            known = {**known, **dict(zip(missing, found, strict=True))}
        if text in self._repeated:
            self._known[text] = known
        return np.array([known[place] for place in top.tolist()], dtype=np.float32)


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
