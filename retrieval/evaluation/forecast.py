"""How long a reranker will take over a benchmark, measured on some of its texts and pairs before it begins.

Knows nothing of metrics or of the terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from indexer.items import Modality
from retrieval.evaluation.directions import Comparison, RerankInput
from retrieval.rerank.base import Reranker

#: Fewer pairs are judged before anybody has read how long it takes.
_FEW_PAIRS = 2_000
#: What is measured: texts that are read together, and of how many of them pairs are judged.
_TEXTS, _JUDGED = 16, 3


def forecast(
    reranker: Reranker, found: Sequence[Comparison], depth: int, clock: Callable[[], float] = time.perf_counter
) -> str | None:
    """A line such as ``reranking 662 × 64 pairs: about 3 min``; ``None`` where there are few pairs.

    ``found``: the directions that will be reranked, ``depth`` candidates of each query. Texts are read once, pairs
    judged once a direction; what a cache holds already is quick where the measured ones are in it, too.
    """
    inputs = [(one, one.rerank_input) for one in found if one.rerank_input is not None]
    queries = sum(one.relevance.n_queries for one, _ in inputs)
    pairs = sum(one.relevance.n_queries * min(depth, len(one.candidate_vectors)) for one, _ in inputs)
    if pairs < _FEW_PAIRS:
        return None
    texts = list(dict.fromkeys(text for _, each in inputs for text in each.texts))
    sample = [texts[place] for place in np.linspace(0, len(texts) - 1, min(_TEXTS, len(texts))).astype(int)]
    first = inputs[0][1]
    _judge(reranker, first, sample[0], 1)  # the weights are opened
    started = clock()
    reranker.read(sample[1:])
    read = clock()
    judged = sum(_judge(reranker, first, text, depth) for text in sample[1 : 1 + _JUDGED])
    ended = clock()
    seconds = (len(texts) - len(sample)) * (read - started) / max(1, len(sample) - 1)
    seconds += pairs * (ended - read) / max(1, judged)
    most = min(depth, max(len(one.candidate_vectors) for one, _ in inputs))
    return f"reranking {queries:,} × {most:,} pairs: about {_words(seconds)}"


def _judge(reranker: Reranker, pairs: RerankInput, text: str, count: int) -> int:
    """Judge a text against some media; how many."""
    tokens = pairs.tokens[:count]
    if pairs.query is Modality.TEXT or reranker.supports(Modality.TEXT, pairs.query):
        reranker.score_media(text, tokens, pairs.media)
        return len(tokens)
    reranker.score_texts(tokens[:1], [text], pairs.media)
    return 1


def _words(seconds: float) -> str:
    """A duration to the precision that it is known to: seconds, minutes, or hours and minutes."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
