"""The text side of a dual encoder in ONNX Runtime: texts -> embeddings, interchangeable with those of the torch towers.

It exists for text towers of base weights that were trained in nothing; their graphs are made once a machine and lie in
the cache, with a record of their sha256. Imports no torch but to make and check a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.head import OnnxHead, head_folder
from indexer.encoders.onnx.store import graph_folder, has_graph, make_graph, remedy_of
from indexer.encoders.onnx.subwords import TABLES
from indexer.encoders.onnx.text_tower import OnnxTextTower
from indexer.encoders.specs import EncoderConfig, TextSpec
from indexer.encoders.text_gate import joined_features
from indexer.encoders.weights.base_weights import BASE_WEIGHTS, base_directory
from indexer.errors import WeightsMissing
from indexer.items import Embeddings
from indexer.media.text.measure import LeastMeasure, TextMeasure

#: Opens the torch tower that a graph is compared with; it has ``token_ids`` and ``features``.
OpenTorchTower = Callable[[TextSpec, Path], Any]


class OnnxTextSide:
    """Text towers and head of a model, each in a folder of the cache. Opened on first use."""

    def __init__(self, config: EncoderConfig, towers: Sequence[OnnxTextTower], head: OnnxHead) -> None:
        self._config = config
        self._towers = tuple(towers)
        self._head = head

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """float32 ``(n, dim)``, unit rows, in input order."""
        if not len(texts):
            return np.zeros((0, self._config.dim), dtype=np.float32)
        return self._head.embeddings(self.features(texts))

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The towers' features side by side, float32 ``(n, width)``."""
        return joined_features(self._towers, texts, self._head.gate)

    def measure(self) -> TextMeasure:
        """What every tower reads of a text."""
        return LeastMeasure([tower.measure() for tower in self._towers])


def open_text_side(config: EncoderConfig, model: str) -> OnnxTextSide | None:
    """The text side of a model, where its graphs are in the cache; ``None`` where they are not. ``model``: its spec.

    Raises :class:`WeightsCorrupt` naming a damaged file of the cache, with the command that mends it.
    """
    if not has_onnx_form(config):
        return None
    remedy = remedy_of(model)
    folders = [_tower_folder(spec) for spec in config.text]
    head = head_folder(config, "text")
    if not all(has_graph(folder, remedy) for folder in (*folders, head)):
        return None
    try:
        towers = [
            OnnxTextTower(spec, folder, base_directory(spec.source) / "tokenizer.json", remedy)
            for spec, folder in zip(config.text, folders, strict=True)
        ]
    except WeightsMissing:
        return None
    return OnnxTextSide(config, towers, OnnxHead(config, "text", head, remedy))


def has_onnx_form(config: EncoderConfig) -> bool:
    """Whether every text tower is one of the base weights, read as it is: nothing in it was trained."""
    return bool(config.text) and all(
        spec.source in BASE_WEIGHTS
        and not (spec.adapter or spec.lora)
        and spec.attention == "native"
        and spec.readout in ("last", "mean")
        for spec in config.text
    )


def make_text_side(
    directory: Path,
    config: EncoderConfig,
    model: str,
    open_torch: OpenTorchTower,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> OnnxTextSide | None:
    """Make the graphs that the cache lacks, check each against its torch tower, and open them.

    ``open_torch``: a specification and its language model's directory -> the torch tower. ``None`` where a tower has no
    graph. Raises :class:`StorageError`, and :class:`WeightsMissing` without base weights.
    """
    from indexer.encoders.onnx.making import make_head, make_tower

    if not has_onnx_form(config):
        return None
    remedy = remedy_of(model)
    for spec in config.text:
        make_graph(_tower_folder(spec), partial(make_tower, spec, open_torch), remedy, on_stage, again=True)
    make_graph(head_folder(config, "text"), partial(make_head, directory, config), remedy, on_stage, again=True)
    return open_text_side(config, model)


def _tower_folder(spec: TextSpec) -> Path:
    """By everything that the graph and its tables depend on; prompts and read-outs are no part of it."""
    return graph_folder("tower", BASE_WEIGHTS[spec.source].sha256, spec.layers, TABLES)
