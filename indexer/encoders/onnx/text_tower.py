"""A language model's read-out in ONNX Runtime: texts -> features, as :class:`indexer.encoders.towers.text.TextTower`.

Imports no torch. Knows nothing of where the graph came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.embedding_rows import EMBEDDING_ROWS, EmbeddingRows
from indexer.encoders.onnx.own_tokens import OwnTokens
from indexer.encoders.onnx.session import GraphSession, Inputs
from indexer.encoders.specs import TextSpec
from indexer.encoders.text_reading import equal_lengths, tower_words
from indexer.encoders.weights.base_weights import GGUF_NAME
from indexer.media.text.measure import TokenizerMeasure

_BATCH_TOKENS = 4_096
_NOTHING = np.zeros(0, dtype=np.float32)


class OnnxTextTower:
    """A text tower whose graph, and the tables of its tokenizer, lie in ``folder``.

    ``tokenizer`` is ``tokenizer.json`` of the model's directory; ``remedy`` is for a graph that can't be run.

    Thread-safe after the first call. A text is cut, and its prompt put around it, as ``spec`` says.
    """

    def __init__(self, spec: TextSpec, folder: Path, tokenizer: Path, remedy: str = "") -> None:
        self.spec = spec
        self._remedy = remedy
        self._folder = folder
        self._tokenizer_file = tokenizer
        self._tokens = OwnTokens(tokenizer, folder)

    def token_ids(self, text: str) -> list[int]:
        """The tokens that the model reads for a text, prompt and special tokens included."""
        before, after = self._around
        return [*before, *self._tokens.ids(self._words(text) or " ")[: self.spec.max_tokens], *after] or [0]

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts -> float32 ``(n, width)``, not normalised, in input order."""
        sequences = [self.token_ids(text) for text in texts]
        found: list[NDArray[np.float32]] = [_NOTHING] * len(texts)
        chunks = list(equal_lengths(sequences, _BATCH_TOKENS))
        several = len(chunks) > 1
        inputs = [self._inputs(np.array([sequences[position] for position in chunk]), several) for chunk in chunks]
        for chunk, (states,) in zip(chunks, self._session.run_each(["out"], inputs), strict=True):
            for position, row in zip(chunk, self._read(states), strict=True):
                found[position] = row
        return np.stack(found) if found else np.zeros((0, self._session.shape("embeddings")[2]), dtype=np.float32)

    def measure(self) -> TokenizerMeasure:
        """What :meth:`token_ids` leaves of a text."""
        return TokenizerMeasure(self._tokens.whole, self.spec.max_tokens, self._words)

    def _inputs(self, ids: NDArray[np.int64], several: bool) -> Inputs:
        """Token ids ``(n, t)`` -> what the graph makes states ``(n, t, width)`` of."""
        count, length = ids.shape
        found = self._embedded(ids)
        if self._positions is not None:
            return {"embeddings": found + self._positions[:length]}
        _, kv_heads, _, per_head = self._session.shape("past", several=several)
        past = np.zeros((count, kv_heads, 0, per_head), dtype=np.float32)
        last, total = np.full(count, length - 1, np.int32), np.array([length], np.int32)
        return {"embeddings": found, "past": past, "last": last, "total": total}

    def _read(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """States ``(n, t, width)`` of texts of one length -> features ``(n, width)``."""
        if self.spec.readout == "last":
            return states[:, -1]
        length = states.shape[1]
        before, after = self._around
        if self._positions is not None:  # of an encoder the special tokens are read, too
            prefix, suffix = self._tokens.around
            own = [*range(len(prefix)), *range(len(before), length - len(after)), *range(length - len(suffix), length)]
        else:
            own = list(range(len(before), length - len(after)))
        return np.asarray(states[:, own or [length - 1]].mean(axis=1), dtype=np.float32)

    def _words(self, text: str) -> str:
        return tower_words(text, self.spec)

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        """Tokens before and after the text: special ones and the prompt's."""
        before, _, after = self.spec.prompt.partition("{text}")
        prefix, suffix = self._tokens.around
        return [*prefix, *self._tokens.ids(before)], [*self._tokens.ids(after), *suffix]

    def _embedded(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Token ids ``(n, t)`` -> rows ``(n, t, width)``."""
        if self._rows is not None:
            return self._rows.read(self._tokenizer_file.with_name(GGUF_NAME), ids)
        return self._embeddings[ids].astype(np.float32)

    @cached_property
    def _rows(self) -> EmbeddingRows | None:
        """Where the embeddings lie in the model's GGUF file; ``None`` where they are a file of their own."""
        path = self._folder / EMBEDDING_ROWS
        return EmbeddingRows.load(path) if path.is_file() else None

    @cached_property
    def _embeddings(self) -> NDArray[Any]:
        found: NDArray[Any] = np.load(self._folder / "embeddings.npy", mmap_mode="r", allow_pickle=False)
        return found

    @cached_property
    def _positions(self) -> NDArray[np.float32] | None:
        path = self._folder / "positions.npy"
        return np.load(path, allow_pickle=False) if path.is_file() else None

    @cached_property
    def _session(self) -> GraphSession:
        return GraphSession(self._folder / "tower.onnx", self._remedy, prepack=True)
