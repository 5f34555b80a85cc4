"""The reranker of the fake encoder (``--model fake``): it compares the vectors that it finds in media tokens.

It needs no weights, and captions name colours. Knows nothing of torch or of files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.fake import COLOURS, FAKE_TOKENS, FakeEncoder
from indexer.encoders.tokens.format import TokenRows
from indexer.items import Embeddings, Modality


class FakeReranker:
    """Ten times the cosine of the text and the vector in the tokens, minus five: positive above a cosine of a half."""

    token_spec = FAKE_TOKENS
    identity = ""

    def __init__(self) -> None:
        self._encoder = FakeEncoder()

    def missing(self) -> str | None:
        """Nothing."""
        return None

    def supports(self, query: Modality, candidate: Modality) -> bool:
        """Exactly one side is a text."""
        return (query is Modality.TEXT) != (candidate is Modality.TEXT)

    def score_media(self, text: str, tokens: TokenRows, modality: Modality) -> NDArray[np.float32]:
        """One text against media ``(n, row_bytes)`` -> float32 ``(n,)``."""
        del modality  # pictures and sounds are compared alike
        return self._logits(self._encoder.encode_queries([text]), _vectors(tokens)).reshape(-1)

    def score_texts(self, tokens: TokenRows, texts: Sequence[str], modality: Modality) -> NDArray[np.float32]:
        """One picture or sound ``(1, row_bytes)`` against ``n`` texts -> float32 ``(n,)``."""
        del modality
        return self._logits(self._encoder.encode_queries(texts), _vectors(tokens)[:1]).reshape(-1)

    def score_pairs(self, text: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Never: it supports no texts against texts."""
        raise NotImplementedError

    def cosine_weight(self, modality: Modality) -> float:
        """As LAVIS."""
        del modality
        return 1.0

    def probability(self, scores: NDArray[np.float32], modality: Modality) -> NDArray[np.float32]:
        """The logistic function of the scores."""
        del modality
        return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(scores, dtype=np.float32))), dtype=np.float32)

    def read(self, texts: Sequence[str]) -> None:
        """Nothing is gained by it."""

    def require_captions(self) -> None:
        """It can."""

    def caption(
        self, tokens: TokenRows, vectors: Embeddings | None = None, *, beams: int = 3, max_words: int = 12
    ) -> list[str]:
        """``a red picture``: the nearest colour; it has no other words."""
        del vectors, beams, max_words
        names = list(COLOURS)
        nearest = (_vectors(tokens) @ self._encoder.encode_queries(names).T).argmax(axis=1)  # (n, 64) @ (64, 8)
        return [f"a {names[number]} picture" for number in nearest]

    def _logits(self, texts: Embeddings, media: Embeddings) -> NDArray[np.float32]:
        return np.asarray(10.0 * (texts @ media.T) - 5.0, dtype=np.float32)  # (q, 64) @ (64, n)


def _vectors(tokens: TokenRows) -> Embeddings:
    """Packed tokens ``(n, row_bytes)`` -> the unit vectors in them, ``(n, 64)``."""
    rows = FAKE_TOKENS.unpack(tokens).reshape(-1, FakeEncoder.dim)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)
