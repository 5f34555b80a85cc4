"""Which reranker and captioner a model has: the one door to open them. Knows nothing of what they compute."""

from __future__ import annotations

from indexer.encoders.base import DualEncoder
from indexer.encoders.fake import FAKE_TOKENS
from indexer.encoders.tokens.config import HasReranker
from indexer.encoders.tokens.format import token_encoder
from indexer.errors import ModelError
from retrieval.rerank.base import Captioner, Reranker


def open_reranker(encoder: DualEncoder, device: str = "auto") -> Reranker | None:
    """The reranker that reads the media tokens of ``encoder``, or ``None`` where there is none.

    Weights are read on first use. Raises ``ModelError`` for a ``reranker.json`` that can't be used.
    """
    if isinstance(encoder, HasReranker):
        if encoder.reranker_config is None:
            return None
        from retrieval.rerank.trained import TrainedReranker

        return TrainedReranker(encoder.directory, encoder.reranker_config, device)
    maker = token_encoder(encoder)
    if maker is not None and maker.token_spec == FAKE_TOKENS:
        from retrieval.rerank.fake import FakeReranker

        return FakeReranker()
    return None


def captioner_of(reranker: Reranker, encoder: DualEncoder) -> Captioner:
    """The captioner that shares the weights of ``encoder``'s reranker. Raises ``ModelError`` where it can't caption."""
    if not isinstance(reranker, Captioner):
        raise ModelError(f"model {encoder.spec}: its reranker scores pairs but gives no captions; use another --model")
    reranker.require_captions()
    return reranker
