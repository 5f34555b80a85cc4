"""The caption that a model proposes for a picture, how probably it is right, and whether it is given at all.

A caption is not given, the model is *unsure*, where its probability is below the model's least one or where it has a
word that no caption may have (:mod:`indexer.unwanted_words`). Knows nothing of models or pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from indexer.encoders.tokens.format import TokenRows
from indexer.items import Embeddings
from indexer.unwanted_words import is_unwanted
from retrieval.rerank.base import Captioner


@dataclass(frozen=True, slots=True)
class Guess:
    """Words for a picture."""

    words: str
    """"" where the model is unsure."""
    probability: float | None = None
    """That the best words name what the picture shows, given or not; ``None`` where the model does not know."""

    @property
    def unsure(self) -> bool:
        """Whether there are no words."""
        return not self.words


@runtime_checkable
class Guesser(Protocol):
    """A captioner that knows how probably its words are right."""

    def guess(
        self, tokens: TokenRows, vectors: Embeddings | None = None, *, beams: int = 3, max_words: int = 12
    ) -> list[Guess]:
        """As ``Captioner.caption``, with probabilities."""


def guesses(captioner: Captioner, tokens: TokenRows, vectors: Embeddings | None, *, beams: int) -> list[Guess]:
    """A guess for each row of tokens, of any captioner; none has a word that no caption may have."""
    if isinstance(captioner, Guesser):
        return captioner.guess(tokens, vectors, beams=beams)
    return [weighed(words) for words in captioner.caption(tokens, vectors, beams=beams)]


def weighed(words: str, probability: float | None = None, least: float = 0.0) -> Guess:
    """The guess ``words`` where they hold no unwanted word and are probable enough, else an unsure one."""
    unsure = is_unwanted(words) or (probability is not None and probability < least)
    return Guess("" if unsure else words, probability)


def naming_probability(naming: Mapping[str, float], nearness: float) -> float:
    """That a name is right, by logistic regression on held-out pictures (``reranker.json``, ``naming``).

    ``nearness``: its mean cosine with the picture (:meth:`retrieval.rerank.names.Names.nearest`).
    """
    logit = naming["intercept"] + naming["slope"] * nearness
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))
