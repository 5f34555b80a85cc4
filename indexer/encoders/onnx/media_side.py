"""Pictures and sounds in ONNX Runtime: what was prepared -> embeddings, interchangeable with those of the torch towers.

A modality's towers are one graph, its head another; where the model has a reranker, a third makes media tokens. They
are made once a machine from the torch modules and lie in the cache. Imports no torch. Knows nothing of files of media.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.head import OnnxHead, head_folder
from indexer.encoders.onnx.session import open_session
from indexer.encoders.onnx.store import graph_folder, has_graph
from indexer.encoders.specs import HEADS, ClapSpec, EncoderConfig, TrunkSpec, WhisperSpec
from indexer.items import Embeddings

TOWER, TOKENS = "tower.onnx", "tokens.onnx"
#: Inputs of the graph of media tokens: the joined rows, then the grids.
SOURCES = tuple(f"source-{number}" for number in range(16))


class OnnxMediaSide:
    """Towers and head of one modality. Opened on first use; thread-safe after that."""

    def __init__(self, tower: Path, head: OnnxHead, tokens: Path | None, remedy: str, dim: int) -> None:
        self._tower_folder, self._tokens_folder = tower, tokens
        self._head, self._remedy, self._dim = head, remedy, dim

    def encode(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        """float32 ``(n, dim)``, unit rows, in input order; one goes through the towers at a time."""
        if not len(prepared):
            return np.zeros((0, self._dim), dtype=np.float32)
        return self._head.embeddings(np.concatenate([self._run(one)[0] for one in prepared]))

    @property
    def makes_tokens(self) -> bool:
        """Whether there is a graph of media tokens."""
        return self._tokens_folder is not None

    def encode_with_tokens(self, prepared: Sequence[NDArray[Any]]) -> tuple[Embeddings, NDArray[np.float32]]:
        """As :meth:`encode`, and media tokens float32 ``(n, count, width)``, of at least one input."""
        rows, tokens = [], []
        for one in prepared:
            row, *grids = self._run(one)
            inputs = {name: source for name, source in zip(SOURCES, (row, *grids), strict=False)}
            rows.append(row)
            tokens.append(self._tokens.run(["out"], inputs)[0])
        return self._head.embeddings(np.concatenate(rows)), np.concatenate(tokens)

    def _run(self, one: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Features ``(1, width)``, and the grids that the reranker reads, each ``(1, tokens, width)``."""
        found: list[NDArray[np.float32]] = self._tower.run(None, {"x": one[None]})
        return found

    @cached_property
    def _tower(self) -> Any:
        return open_session(self._tower_folder / TOWER, self._remedy, prepack=False)

    @cached_property
    def _tokens(self) -> Any:
        assert self._tokens_folder is not None
        return open_session(self._tokens_folder / TOKENS, self._remedy, prepack=False)


def open_media_side(
    config: EncoderConfig, modality: str, grids: Sequence[int], tokens: object | None, remedy: str
) -> OnnxMediaSide | None:
    """The side of a modality, where its graphs are in the cache; ``None`` where they are not.

    ``grids``: the trunks whose grids a reranker reads; ``tokens``: what the graph of its media tokens depends on.
    Raises :class:`WeightsCorrupt` naming a damaged file of the cache, with the ``remedy``.
    """
    if not has_onnx_form(config, modality):
        return None
    where, head = tower_folder(config, modality, grids), head_folder(config, modality)
    if not has_graph(where, remedy) or not has_graph(head, remedy):
        return None
    made = None if tokens is None else tokens_folder(tokens)
    if made is not None and not has_graph(made, remedy):
        made = None
    return OnnxMediaSide(where, OnnxHead(config, modality, head, remedy), made, remedy, config.dim)


def has_onnx_form(config: EncoderConfig, modality: str) -> bool:
    """Whether the model has the modality, and says which weights its towers and heads have."""
    named = [HEADS, *(spec.weights for spec in _specs(config, modality))]
    return modality in config.heads and len(named) > 1 and all(name in config.sha256 for name in named)


def tower_folder(config: EncoderConfig, modality: str, grids: Sequence[int]) -> Path:
    """Where the graph of a modality's towers lies: by what they are, their weights, and the grids that they give."""
    specs = _specs(config, modality)
    towers = [[asdict(spec), config.sha256[spec.weights]] for spec in specs]
    return graph_folder(modality, towers, list(grids))


def tokens_folder(tokens: object) -> Path:
    """Where the graph of a modality's media tokens lies."""
    return graph_folder("tokens", tokens)


def _specs(config: EncoderConfig, modality: str) -> tuple[TrunkSpec | WhisperSpec | ClapSpec, ...]:
    if modality == "image":
        return config.image
    return () if config.audio is None or modality != "audio" else (config.audio,)
