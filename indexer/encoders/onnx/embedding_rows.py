"""Rows of a language model's embeddings, read one by one from the GGUF file itself. Knows nothing of texts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.blocks import blocks_of
from indexer.encoders.weights.gguf_model import GgufModel

#: What says where they lie, in a graph's folder.
EMBEDDING_ROWS = "embeddings.json"
_NAME = "token_embd.weight"
_PLAIN = {"F32": "<f4", "F16": "<f2"}


@dataclass(frozen=True)
class EmbeddingRows:
    """Where the rows lie in the file, and in which format."""

    kind: str
    offset: int
    count: int
    row_bytes: int

    @classmethod
    def of(cls, model: GgufModel) -> EmbeddingRows:
        """Those of a language model. ``ValueError`` for a format that is not read here."""
        tensor = model.tensor(_NAME)
        kind, count = str(tensor.tensor_type.name), int(tensor.shape[1])
        row_bytes = int(tensor.n_bytes) // count
        if kind not in _PLAIN and blocks_of(kind, np.zeros((1, row_bytes), np.uint8)) is None:
            raise ValueError(f"{model.name}: its embeddings are in {kind}, which is not read here")
        return cls(kind, int(tensor.data_offset), count, row_bytes)

    @classmethod
    def load(cls, path: Path) -> EmbeddingRows:
        """What :meth:`save` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def save(self, path: Path) -> None:
        """Write where the rows lie, as JSON."""
        path.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    def read(self, gguf_file: Path, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Token ids ``(…)`` -> float32 ``(…, width)``."""
        shape = (self.count, self.row_bytes)
        rows = np.asarray(np.memmap(gguf_file, np.uint8, "r", self.offset, shape)[ids.reshape(-1)])
        if self.kind in _PLAIN:
            found = rows.view(_PLAIN[self.kind]).astype(np.float32)
        else:
            blocks = blocks_of(self.kind, rows)
            assert blocks is not None
            found = blocks.dense()
        return found.reshape(*ids.shape, -1)
