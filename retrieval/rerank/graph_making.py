"""Makes a reranker's graphs and checks them against its torch model, whose lower layers are read one by one for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from indexer.encoders.onnx.graph import NoOnnxForm
from indexer.encoders.tokens.config import RerankerConfig
from indexer.encoders.weights.base_weights import GGUF_NAME, base_directory
from retrieval.rerank.graphs import write_graphs
from retrieval.rerank.onnx_pairs import OnnxPairModel, save_prefix
from retrieval.rerank.pair_model import PairModel

#: The most that a logit may differ from torch's, of the logits' own spread (standard deviation).
MOST_APART = 0.05
_MEDIA = 24
_TEXTS = (
    "a red bicycle in the snow",
    "dog",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "思い出の写真, 2019!",
    "",
    "the sound of rain on a tin roof while somebody plays the piano next door, and a child laughs " * 4,
)


def make_judge(model: Path, config: RerankerConfig, folder: Path, pairs: OnnxPairModel) -> None:
    """Fill ``folder`` with the graphs over the lower layers; ``pairs`` are to be judged from it.

    Raises :class:`NoOnnxForm` for what has no graph here, or whose graphs give something else.
    """
    directory = base_directory(config.language_model["source"])
    write_graphs(model, config, directory / GGUF_NAME, folder)
    save_prefix(folder, config, pairs.lower, pairs.prompt.before)
    torchs = PairModel(model, config, "cpu", exact=True)
    reader, _ = torchs.language
    if [pairs.token_ids(text) for text in _TEXTS] != [reader.token_ids(text) for text in _TEXTS]:
        raise NoOnnxForm(f"{directory}: its tokenizer reads texts otherwise than tokenizer.json says")
    chance = np.random.default_rng(0)
    spec = config.token_spec
    tokens = spec.pack(chance.normal(size=(_MEDIA, spec.count, spec.width)).astype(np.float32))
    torchs.read(_TEXTS)
    found = [np.stack([one.score_media(text, tokens) for text in _TEXTS]).astype(np.float64) for one in (pairs, torchs)]
    apart = float(np.abs(found[0] - found[1]).max() / found[1].std())
    if not apart <= MOST_APART:  # NaN, too
        raise NoOnnxForm(f"{directory}: its graphs give other logits (by {apart:.2f} of their spread)")
