"""The text side of a dual encoder in ONNX Runtime: texts -> embeddings, interchangeable with those of the torch towers.

It exists for text towers of base weights that were trained in nothing; their graphs are made once a machine and lie in
the cache, with a record of their sha256. Imports no torch but to make and check a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.graph_cache import check_graphs, graph_folder, install_graphs
from indexer.encoders.onnx.hubness import correct_hubness, unit
from indexer.encoders.onnx.text_tower import OnnxTextTower, open_session
from indexer.encoders.specs import HEADS, EncoderConfig, TextSpec
from indexer.encoders.weights.base_weights import BASE_WEIGHTS, base_directory
from indexer.errors import WeightsMissing
from indexer.items import Embeddings
from indexer.media.text.measure import LeastMeasure, TextMeasure

#: Raised with every change of what the graphs compute.
_VERSION = 1


class OnnxTextSide:
    """Text towers and head of a model, each in a folder of the cache. Opened on first use."""

    def __init__(self, config: EncoderConfig, towers: Sequence[OnnxTextTower], head: Path) -> None:
        self._config = config
        self._towers = tuple(towers)
        self._head = head

    def encode(self, texts: Sequence[str]) -> Embeddings:
        """float32 ``(n, dim)``, unit rows, in input order."""
        if not len(texts):
            return np.zeros((0, self._config.dim), dtype=np.float32)
        (rows,) = self._session.run(["out"], {"features": self.features(texts)})
        hubness = self._config.hubness
        if hubness is None:
            return unit(rows)
        return correct_hubness(unit(rows), self._bank, hubness)

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The towers' features side by side, float32 ``(n, width)``."""
        return np.concatenate([tower.features(texts) for tower in self._towers], axis=1)

    def measure(self) -> TextMeasure:
        """What every tower reads of a text."""
        return LeastMeasure([tower.measure() for tower in self._towers])

    @cached_property
    def _session(self) -> Any:
        return open_session(self._head / "head.onnx")

    @cached_property
    def _bank(self) -> NDArray[np.float32]:
        return np.asarray(np.load(self._head / "pictures.npy", allow_pickle=False), dtype=np.float32)


def open_text_side(config: EncoderConfig) -> OnnxTextSide | None:
    """The text side of a model, where its graphs are in the cache; ``None`` where they are not.

    Raises :class:`WeightsCorrupt` naming a damaged file of the cache, with the command that mends it.
    """
    if not has_onnx_form(config):
        return None
    folders = [_tower_folder(spec) for spec in config.text]
    head = _head_folder(config)
    if not all(check_graphs(folder, REMEDY) for folder in (*folders, head)):
        return None
    try:
        towers = [
            OnnxTextTower(spec, folder, base_directory(spec.source) / "tokenizer.json")
            for spec, folder in zip(config.text, folders, strict=True)
        ]
    except WeightsMissing:
        return None
    return OnnxTextSide(config, towers, head)


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
    directory: Path, config: EncoderConfig, on_stage: Callable[[str], None] = lambda stage: None
) -> OnnxTextSide | None:
    """Make the graphs that the cache lacks, check each against its torch tower, and open them.

    ``None`` where a tower has no graph. Raises :class:`StorageError`, and :class:`WeightsMissing` without base weights.
    """
    from indexer.encoders.onnx.making import NoOnnxForm, make_head, make_tower

    if not has_onnx_form(config):
        return None
    try:
        for spec in config.text:
            install_graphs(_tower_folder(spec), partial(make_tower, spec), _VERSION, _STAGE, on_stage)
        install_graphs(_head_folder(config), partial(make_head, directory, config), _VERSION, _STAGE, on_stage)
    except NoOnnxForm:
        return None
    return open_text_side(config)


REMEDY = "make it again: trimodal models pull starter"
_STAGE = "preparing text queries (once)"


def _tower_folder(spec: TextSpec) -> Path:
    """By everything that the graph depends on; prompts and read-outs are no part of it."""
    return graph_folder("tower", _VERSION, [BASE_WEIGHTS[spec.source].sha256, spec.layers])


def _head_folder(config: EncoderConfig) -> Path:
    return graph_folder(
        "head", _VERSION, [config.sha256[HEADS], asdict(config.heads["text"]), config.hubness is not None]
    )
