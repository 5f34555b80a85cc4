"""Which reranker and captioner a model has: the one door to open them. Knows nothing of what they compute."""

from __future__ import annotations

from collections.abc import Callable

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


def prepare_rerankers(spec: str, on_stage: Callable[[str], None] = lambda stage: None) -> None:
    """Make what judges pairs without torch, of the model ``spec`` or, for base weights, of the starter.

    Nothing is done for a model without a reranker or with one that can't be used, which a search names, or whose
    language model is not on this machine.
    """
    from indexer.encoders.registry import LIBRARIES, model_directory
    from indexer.encoders.specs import read_config
    from indexer.encoders.tokens.config import read_reranker
    from indexer.encoders.weights.base_weights import BASE_WEIGHTS
    from retrieval.rerank.graph_cache import make_graphs

    if spec.startswith(LIBRARIES):
        return
    directory = model_directory("starter" if spec in BASE_WEIGHTS else spec)
    try:
        config = read_reranker(directory, read_config(directory).fingerprint)
    except ModelError:
        return
    if config is not None and (spec not in BASE_WEIGHTS or config.language_model["source"] == spec):
        make_graphs(directory, config, on_stage)


def captioner_of(reranker: Reranker, encoder: DualEncoder) -> Captioner:
    """The captioner that shares the weights of ``encoder``'s reranker. Raises ``ModelError`` where it can't caption."""
    if not isinstance(reranker, Captioner):
        raise ModelError(f"model {encoder.spec}: its reranker scores pairs but gives no captions; use another --model")
    reranker.require_captions()
    return reranker
