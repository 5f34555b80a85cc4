"""How long reranking will take, measured on a few texts and pairs with a clock that the reranker moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from indexer.encoders.tokens.format import TokenRows
from indexer.items import Modality
from retrieval.evaluation.directions import Comparison, RerankInput
from retrieval.evaluation.forecast import forecast
from retrieval.evaluation.metrics.ranks import Relevance
from retrieval.rerank.fake import FakeReranker

IMAGE, TEXT = Modality.IMAGE, Modality.TEXT


class Slow(FakeReranker):
    """Takes 0.5 s a text that it has not read and 0.01 s a pair, and 100 s to be opened."""

    def __init__(self, both_ways: bool = True) -> None:
        super().__init__()
        self.now = 0.0
        self.seen: set[str] = set()
        self.pairs = 0
        self._both_ways = both_ways

    def supports(self, query: Modality, candidate: Modality) -> bool:
        return self._both_ways or query is IMAGE

    def read(self, texts: Sequence[str]) -> None:
        self.now += 0.5 * len(set(texts) - self.seen) + (0.0 if self.seen else 100.0)
        self.seen.update(texts)

    def score_media(self, text: str, tokens: TokenRows, modality: Modality) -> NDArray[np.float32]:
        self.read([text])
        self.now += 0.01 * len(tokens)
        self.pairs += len(tokens)
        return np.zeros(len(tokens), np.float32)

    def score_texts(self, tokens: TokenRows, texts: Sequence[str], modality: Modality) -> NDArray[np.float32]:
        assert len(tokens) == 1
        return self.score_media(texts[0], tokens, modality)


def direction(query: Modality, texts: list[str], pictures: int) -> Comparison:
    sizes = (len(texts), pictures) if query is TEXT else (pictures, len(texts))
    vectors = [np.ones((size, 2), np.float32) for size in sizes]
    relevance = Relevance.from_lists([[0]] * sizes[0], sizes[1])
    tokens = np.zeros((pictures, FakeReranker.token_spec.row_bytes), np.uint8)
    candidate = IMAGE if query is TEXT else TEXT
    return Comparison("a->b", "a", "b", *vectors, relevance, rerank_input=RerankInput(query, candidate, texts, tokens))


def test_texts_are_counted_once_and_pairs_in_every_direction() -> None:
    slow = Slow()
    texts = [f"text {number}" for number in range(300)]
    found = forecast(slow, [direction(TEXT, texts, 200), direction(IMAGE, texts, 200)], 50, lambda: slow.now)
    # 284 texts are left at 0.5 s, and 500 * 50 pairs at 0.01 s
    assert found == "reranking 500 × 50 pairs: about 7 min"
    assert len(slow.seen) == 16 and slow.pairs == 1 + 3 * 50


def test_a_picture_as_query_is_judged_text_by_text() -> None:
    slow = Slow(both_ways=False)
    texts = [f"text {number}" for number in range(40)]
    line = forecast(slow, [direction(IMAGE, texts, 90)], 64, lambda: slow.now)
    assert line == "reranking 90 × 40 pairs: about 48 s"


@pytest.mark.parametrize(("pictures", "words"), [(4_000, "about 34 min"), (40_000, "about 5 h 34 min")])
def test_long_runs_are_said_in_minutes_and_hours(pictures: int, words: str) -> None:
    slow = Slow()
    line = forecast(slow, [direction(IMAGE, [str(n) for n in range(50)], pictures)], 99, lambda: slow.now)
    assert line is not None and line.endswith(words)


def test_of_a_few_pairs_nothing_is_said_or_judged() -> None:
    slow = Slow()
    assert forecast(slow, [direction(TEXT, ["a", "b"], 900)], 64) is None
    assert forecast(slow, [], 64) is None
    assert slow.now == 0
