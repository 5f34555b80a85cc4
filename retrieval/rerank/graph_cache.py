"""A reranker's graphs in the user's cache: opened where they are, made and checked by ``trimodal models pull``.

The language model's lower layers are a folder of their own, which rerankers that are cut alike share. Imports no torch
but to make graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from indexer.encoders.onnx.lower_reader import LowerReader
from indexer.encoders.onnx.own_tokens import OwnTokens
from indexer.encoders.onnx.store import graph_folder, has_graph, make_graph, remedy_of
from indexer.encoders.onnx.subwords import TABLES, write_subwords
from indexer.encoders.tokens.config import RerankerConfig
from indexer.encoders.weights.base_weights import BASE_WEIGHTS, GGUF_NAME, base_directory, is_pulled
from retrieval.rerank.onnx_pairs import OnnxPairModel
from retrieval.rerank.text_prompt import TextPrompt

_PREPARING, _CHECKING = "preparing the reranker (once, some minutes)", "checking the reranker (once, some minutes)"


def open_graphs(config: RerankerConfig) -> OnnxPairModel | None:
    """What judges without torch, where its graphs and the GGUF are in the cache; ``None`` where they are not.

    Raises :class:`WeightsCorrupt` naming a damaged file of the cache, with the command that mends it.
    """
    if not _has_gguf(config):
        return None
    remedy = _remedy(config)
    if not all(has_graph(folder, remedy) for folder in (_lower_folder(config), _judge_folder(config))):
        return None
    return _opened(config, _lower_folder(config), _judge_folder(config))


def make_graphs(
    model: Path, config: RerankerConfig, on_stage: Callable[[str], None] = lambda stage: None
) -> OnnxPairModel | None:
    """Make the graphs that the cache lacks, check them against torch, and open them.

    ``None`` where the language model has no graph here or is not on this machine. Raises :class:`StorageError`.
    """
    if not _has_gguf(config):
        return None
    from indexer.encoders.onnx.lower_reader import write_lower
    from retrieval.rerank.graph_making import make_judge

    gguf_file = _gguf(config)
    lower, layers = _lower_folder(config), int(config.language_model["lower"])

    def judge(folder: Path) -> None:
        make_judge(model, config, folder, _opened(config, lower, folder))

    def language_model(folder: Path) -> None:
        write_lower(gguf_file, folder, layers)
        write_subwords(gguf_file.with_name("tokenizer.json"), folder)

    remedy = _remedy(config)
    if make_graph(lower, language_model, remedy, on_stage, again=True, stage=_PREPARING):
        make_graph(_judge_folder(config), judge, remedy, on_stage, again=True, stage=_CHECKING)
    return open_graphs(config)


def _opened(config: RerankerConfig, lower: Path, judge: Path) -> OnnxPairModel:
    settings = config.language_model
    tokenizer = base_directory(settings["source"]) / "tokenizer.json"
    prompt = TextPrompt(OwnTokens(tokenizer, lower), settings["prompt"], int(settings["max_tokens"]))
    remedy = _remedy(config)
    return OnnxPairModel(config, judge, LowerReader(lower, _gguf(config), remedy), prompt, remedy)


def _remedy(config: RerankerConfig) -> str:
    return remedy_of(config.language_model["source"])


def _has_gguf(config: RerankerConfig) -> bool:
    source = config.language_model["source"]
    return source in BASE_WEIGHTS and is_pulled(source) and _gguf(config).is_file()


def _gguf(config: RerankerConfig) -> Path:
    return base_directory(config.language_model["source"]) / GGUF_NAME


def _lower_folder(config: RerankerConfig) -> Path:
    """By all that the graph depends on, and the form of the tables beside it."""
    settings = config.language_model
    return graph_folder("lower", BASE_WEIGHTS[settings["source"]].sha256, settings["lower"], TABLES)


def _judge_folder(config: RerankerConfig) -> Path:
    """By all that the graphs depend on: settings, and the digest of the weights."""
    settings = config.language_model
    content = [BASE_WEIGHTS[settings["source"]].sha256, settings, config.scorer, config.lora, config.sha256]
    return graph_folder("judge", *content)
