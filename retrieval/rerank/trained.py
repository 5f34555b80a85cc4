"""A trained reranker as search sees it: settings, and the model of pairs behind them. Imports no torch by itself.

Pairs are judged in ONNX Runtime where the reranker's graphs are in the cache and no GPU or torch is named, and else in
torch; captions are written in torch.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.tokens.config import RerankerConfig
from indexer.encoders.tokens.format import TokenRows, TokenSpec
from indexer.encoders.weights.base_weights import BASE_WEIGHTS, is_pulled
from indexer.errors import ModelError
from indexer.items import Embeddings, Modality
from indexer.logistic import sigmoid
from retrieval.rerank.guesses import Guess

if TYPE_CHECKING:
    from retrieval.rerank.onnx_pairs import OnnxPairModel
    from retrieval.rerank.pair_model import PairModel


class TrainedReranker:
    """Scores pairs and captions pictures: :mod:`retrieval.rerank.base`; one language model does both."""

    def __init__(self, model: Path, config: RerankerConfig, device: str = "auto") -> None:
        self._model = model
        self.config = config
        self._device_name = device

    @property
    def token_spec(self) -> TokenSpec:
        """The tokens that it reads."""
        return self.config.token_spec

    @property
    def identity(self) -> str:
        """``reranker.json`` on one line: settings, and digests of the weights and names."""
        return json.dumps(self.config.to_json(), sort_keys=True, default=str)

    def missing(self) -> str | None:
        """The language model that it reads with, where that is not on this machine."""
        source = self.config.language_model["source"]
        if source not in BASE_WEIGHTS or is_pulled(source):
            return None
        size = BASE_WEIGHTS[source].download_mb
        return (
            f"results are not reranked: the reranker reads with {source}, which is not on this machine; "
            f"`trimodal models pull {source}` gets it ({size:,} MB), --no-rerank says so"
        )

    def cosine_weight(self, modality: Modality) -> float:
        """What the cosine is multiplied by before it is added to the match logit."""
        return self.config.calibration[modality]["cosine_weight"]

    def supports(self, query: Modality, candidate: Modality) -> bool:
        """Texts against what it was trained on, and the other way round."""
        pair = [query, candidate]
        if Modality.TEXT not in pair:
            return False
        pair.remove(Modality.TEXT)
        return pair[0] in self.config.sources

    def read(self, texts: Sequence[str]) -> None:
        """Keep the states of texts, up to 4,096 of them."""
        self._judging.read(texts)

    def score_media(self, text: str, tokens: TokenRows, modality: Modality = Modality.IMAGE) -> NDArray[np.float32]:
        """One text against ``(n, row_bytes)`` -> float32 ``(n,)``."""
        return self._judging.score_media(text, tokens, modality)

    def score_texts(
        self, tokens: TokenRows, texts: Sequence[str], modality: Modality = Modality.IMAGE
    ) -> NDArray[np.float32]:
        """One picture ``(1, row_bytes)`` against texts -> float32 ``(n,)``."""
        return self._judging.score_texts(tokens, texts, modality)

    def score_pairs(self, text: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """A text against texts -> float32 ``(n,)``."""
        return self._judging.score_pairs(text, texts)

    def probability(self, scores: NDArray[np.float32], modality: Modality) -> NDArray[np.float32]:
        """Scores -> calibrated match probabilities."""
        fit = self.config.calibration[modality]
        slope, intercept = fit["slope"], fit["intercept"]
        return np.asarray(sigmoid(slope * scores + intercept), dtype=np.float32)

    def require_captions(self) -> None:
        """Raise :class:`ModelError` where it was trained to judge alone."""
        if not self.config.captions:
            raise ModelError(
                f"{self._model.name}: its reranker judges pairs but was not trained enough to caption; use a model "
                "whose reranker.json says captions: true, or train one: trimodal train rerank RECIPE"
            )

    def joint_texts(
        self, texts: Sequence[str], on_progress: Callable[[int], None] = lambda done: None
    ) -> NDArray[np.float32]:
        """Texts read without media, in the joint space: unit rows float32 ``(n, joint)``."""
        return self._judging.joint_texts(texts, on_progress)

    def caption(
        self, tokens: TokenRows, vectors: Embeddings | None = None, *, beams: int = 3, max_words: int = 12
    ) -> list[str]:
        """The words of :meth:`guess`; "" where it is unsure."""
        return [one.words for one in self.guess(tokens, vectors, beams=beams, max_words=max_words)]

    def guess(
        self, tokens: TokenRows, vectors: Embeddings | None = None, *, beams: int = 3, max_words: int = 12
    ) -> list[Guess]:
        """Words for each row of tokens ``(n, row_bytes)``; see :meth:`PairModel.guess`.

        Raises :class:`ModelError` where the reranker was trained to judge alone.
        """
        self.require_captions()
        return self.pair_model.guess(tokens, vectors, beams=beams, max_words=max_words)

    @cached_property
    def _judging(self) -> PairModel | OnnxPairModel:
        """What judges pairs."""
        from retrieval.rerank.graph_cache import open_graphs

        named = self._device_name not in ("auto", "cpu") or os.environ.get("TRIMODAL_RUNTIME", "auto") == "torch"
        graphs = None if named or (self._device_name == "auto" and _has_gpu()) else open_graphs(self.config)
        return self.pair_model if graphs is None else graphs

    @cached_property
    def pair_model(self) -> PairModel:
        """What judges and captions in torch, which is imported with it."""
        from retrieval.rerank.pair_model import PairModel

        return PairModel(self._model, self.config, self._device_name)


def _has_gpu() -> bool:
    """Whether torch is in use and sees a GPU; it is not imported to find that out."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available())
