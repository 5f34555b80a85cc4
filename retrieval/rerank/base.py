"""The seams of the second stage: a reranker gives match logits of pairs, a captioner gives words for pictures.

Both read a picture or sound from its packed media tokens (:mod:`indexer.encoders.tokens.format`), never from its file.
Knows nothing of collections, indexes or hits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.tokens.format import TokenRows, TokenSpec
from indexer.items import Embeddings, Modality

Logits = NDArray[np.float32]


class Reranker(Protocol):
    """Scores pairs; the score of a pair is its match logit plus the pair's cosine (LAVIS), weighted."""

    @property
    def token_spec(self) -> TokenSpec:
        """The tokens that it reads."""

    @property
    def identity(self) -> str:
        """What its logits depend on beside the tokens, such as its settings as text; "" for nothing else."""

    def missing(self) -> str | None:
        """What it lacks on this machine before it can score, with the command that gets it; ``None``: nothing."""

    def supports(self, query: Modality, candidate: Modality) -> bool:
        """Whether it can score that direction: one side must be text, the other what it was trained on."""

    def read(self, texts: Sequence[str]) -> None:
        """Read texts that :meth:`score_media` will get: many at once are read much faster than one by one."""

    def score_media(self, text: str, tokens: TokenRows, modality: Modality) -> Logits:
        """One text against media ``(n, row_bytes)`` -> match logits float32 ``(n,)``; the text is encoded once."""

    def score_texts(self, tokens: TokenRows, texts: Sequence[str], modality: Modality) -> Logits:
        """One picture's or sound's tokens ``(1, row_bytes)`` against ``n`` texts -> match logits float32 ``(n,)``."""

    def score_pairs(self, text: str, texts: Sequence[str]) -> Logits:
        """One text against ``n`` texts -> match logits float32 ``(n,)``; where it supports text against text."""

    def cosine_weight(self, modality: Modality) -> float:
        """What the cosine counts beside the match logit (1: LAVIS); of texts against ``modality``, either way."""

    def probability(self, scores: NDArray[np.float32], modality: Modality) -> NDArray[np.float32]:
        """Scores (logit + weight * cosine) ``(n,)`` -> calibrated match probabilities ``(n,)``, rising."""


@runtime_checkable
class Captioner(Protocol):
    """Writes captions of pictures."""

    @property
    def token_spec(self) -> TokenSpec:
        """The tokens that it reads."""

    def require_captions(self) -> None:
        """Raise ``ModelError`` where it was not trained to caption."""

    def caption(
        self, tokens: TokenRows, vectors: Embeddings | None = None, *, beams: int = 3, max_words: int = 12
    ) -> list[str]:
        """Words for each row of tokens ``(n, row_bytes)``; ``vectors`` ``(n, dim)``: the dual encoder's of the same."""
