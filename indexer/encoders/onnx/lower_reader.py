"""The lower layers of a language model that a reranker reads with: tokens of texts -> their states, without torch.

The layers run from the blocks of the GGUF file as it was fetched. Knows nothing of media and of match heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.embedding_rows import EMBEDDING_ROWS, EmbeddingRows
from indexer.encoders.onnx.packed import run_packed
from indexer.encoders.onnx.session import GraphSession

#: Tokens of a run: more are no faster, and every token is compared with every other.
TOKENS_AT_ONCE = 512

_GRAPH = "lower.onnx"


class LowerReader:
    """The first layers in a folder that :func:`write_lower` filled; opened on first use."""

    def __init__(self, folder: Path, gguf_file: Path, remedy: str) -> None:
        self._folder, self._gguf_file, self._remedy = folder, gguf_file, remedy

    def states(
        self, sequences: Sequence[Sequence[int]], past: NDArray[np.float32]
    ) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Token ids of texts that stand behind ``past`` -> parts of the texts, by their places, with their states
        ``(tokens, width)``, text after text."""
        for some in _parts([len(sequence) for sequence in sequences]):
            ids = np.concatenate([np.asarray(sequences[place], dtype=np.int64) for place in some])
            lengths = [len(sequences[place]) for place in some]
            yield some, run_packed(self._session, self._embedded(ids), lengths, past)["out"][0]

    def begin(self, ids: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Tokens that stand before every text -> their states ``(before, width)``, and the ``past`` that they are
        ``(2 * layers, kv_heads, before, per_head)``."""
        shape = self._session.shape("past")
        nothing = np.zeros((shape[0], shape[1], 0, shape[3]), np.float32)
        states = self._embedded(np.asarray(ids, dtype=np.int64))
        found = run_packed(self._session, states, [len(states)], nothing, ["out", "present"])
        return found["out"][0], found["present"]

    def _embedded(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._rows.read(self._gguf_file, ids)

    @cached_property
    def _rows(self) -> EmbeddingRows:
        return EmbeddingRows.load(self._folder / EMBEDDING_ROWS)

    @cached_property
    def _session(self) -> GraphSession:
        return GraphSession(self._folder / _GRAPH, self._remedy, prepack=True)


def write_lower(gguf_file: Path, folder: Path, layers: int) -> None:
    """Write the first ``layers`` layers of a GGUF file.

    Raises :class:`NoOnnxForm` for what has no graph here.
    """
    from indexer.encoders.onnx.decoder_layers import open_gguf, write_packed
    from indexer.encoders.onnx.graph import GraphBuilder, NoOnnxForm

    model = open_gguf(gguf_file)
    if not 0 < layers < model.layers:
        raise NoOnnxForm(f"{gguf_file.name}: has {model.layers} layers, it can't be cut after {layers}")
    if model.per_head % 16:
        raise NoOnnxForm(f"{gguf_file.name}: its heads are {model.per_head} wide; the graph wants multiples of 16")
    try:
        rows = EmbeddingRows.of(model)
    except ValueError as error:
        raise NoOnnxForm(str(error)) from error
    rows.save(folder / EMBEDDING_ROWS)
    graph = GraphBuilder(folder / _GRAPH)
    out, present, _ = write_packed(graph, model, range(layers))
    every: list[str | int] = ["each", model.kv_heads, "total", model.per_head]
    graph.save({"out": (out, [1, "tokens", model.width]), "present": (present, every)})


def _parts(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts that run together, in order."""
    some: list[int] = []
    tokens = 0
    for place, length in enumerate(lengths):
        if some and tokens + length > TOKENS_AT_ONCE:
            yield some
            some, tokens = [], 0
        some.append(place)
        tokens += length
    if some:
        yield some
