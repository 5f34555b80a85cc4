"""The towers of a library's model in ONNX Runtime: texts, pictures and sounds -> embeddings.

A modality has a graph of its own, kept by the model's fingerprint. Imports no torch. Knows nothing of libraries.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.few import Few
from indexer.encoders.onnx.hubness import unit
from indexer.encoders.onnx.session import GraphSession
from indexer.encoders.onnx.store import graph_folder, has_graph, make_graph, remedy_of
from indexer.encoders.onnx.texts import GraphTexts
from indexer.items import Embeddings, Modality

TOWER = "tower.onnx"
#: Graphs of larger files of weights are made by ``trimodal models pull`` alone: tracing takes their memory again.
LARGE_BYTES = 2_000_000_000
#: Inputs that go through a graph together, where it takes several: more are no faster, as a thread has as many.
_TOGETHER = 4


class TowerGraph:
    """The tower of one modality; its graph lies in ``folder``. Opened on first use, thread-safe after that."""

    def __init__(self, folder: Path, remedy: str) -> None:
        self._folder = folder
        self._session = GraphSession(folder / TOWER, remedy)

    def encode(self, inputs: Sequence[NDArray[Any]]) -> Embeddings:
        """At least one input, each ``(1, …)`` -> float32 ``(n, dim)``, unit rows, in order."""
        if len(inputs) > _TOGETHER and isinstance(self._session.shape("x", several=True)[0], str):
            inputs = [np.concatenate(inputs[at : at + _TOGETHER]) for at in range(0, len(inputs), _TOGETHER)]
        found = self._session.run_each(["out"], [{"x": one} for one in inputs])
        return unit(np.concatenate([rows for (rows,) in found]))

    @cached_property
    def texts(self) -> GraphTexts:
        """The tokenizer that lies beside a tower of texts."""
        return GraphTexts(self._folder)


class LibraryGraphs:
    """The graphs of a model by its fingerprint, opened from the cache or made; thread-safe."""

    def __init__(self, spec: str, fingerprint: Callable[[], str]) -> None:
        """``fingerprint`` is called when a graph is first looked for: weights may have to be read for it."""
        self._remedy = remedy_of(spec)
        self._fingerprint = fingerprint
        self._lock = threading.Lock()
        self._found: dict[Modality, TowerGraph | None] = {}

    def open(self, modality: Modality) -> TowerGraph | None:
        """The graph of a modality, where the cache has it. Raises :class:`WeightsCorrupt` naming a damaged file."""
        with self._lock:
            if modality not in self._found:
                folder = self._folder(modality)
                there = has_graph(folder, self._remedy)
                self._found[modality] = TowerGraph(folder, self._remedy) if there else None
            return self._found[modality]

    def make(
        self,
        writers: Mapping[Modality, Callable[[Path], None]],
        on_stage: Callable[[str], None],
        *,
        again: bool,
    ) -> None:
        """Let writers fill what the cache lacks; what had no graph before is tried ``again`` or left alone."""
        for modality, write in writers.items():
            make_graph(self._folder(modality), write, self._remedy, on_stage, again=again)
        with self._lock:
            self._found.clear()

    def _folder(self, modality: Modality) -> Path:
        return graph_folder("library", self._fingerprint(), modality.value)


def is_large(weights: Path) -> bool:
    """Whether an index run does not make the graphs of these weights by itself."""
    return weights.stat().st_size > LARGE_BYTES


def encoded_texts(graph: TowerGraph | None, texts: Sequence[str], few: int) -> Embeddings | None:
    """Texts through a graph; ``None`` where the library is to read them: without a graph, too many, or odd ones."""
    if graph is None or not 0 < len(texts) <= few or not all(graph.texts.reads(text) for text in texts):
        return None
    return graph.encode([graph.texts.ids(text) for text in texts])


def encoded_media(graph: TowerGraph | None, prepared: Sequence[NDArray[Any]], few: Few) -> Embeddings | None:
    """Prepared pictures or sounds through a graph; ``None`` where the library is to read them."""
    if graph is None or not few.takes(len(prepared)):
        return None
    return graph.encode([one[None] for one in prepared])
