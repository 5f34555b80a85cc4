"""Settings and tensors of a language model in a GGUF file (llama, qwen2). Knows nothing of graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.blocks import Blocks, read_blocks

_ARCHITECTURES = ("llama", "qwen2")


class NoOnnxForm(ValueError):
    """A model that cannot be written as a graph here; the text says why."""


class GgufModel:
    """Settings and tensors of a GGUF file. Raises :class:`NoOnnxForm` for an architecture that is not known here."""

    def __init__(self, path: Path) -> None:
        import gguf

        try:
            self._reader: Any = gguf.GGUFReader(str(path))
        except (ValueError, KeyError, IndexError) as error:
            raise NoOnnxForm(f"{path.name}: can't be read as GGUF ({error})") from error
        self.name = path.name
        self._dequantize = gguf.dequantize
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self.architecture = str(self._reader.fields["general.architecture"].contents())
        if self.architecture not in _ARCHITECTURES:
            raise NoOnnxForm(f"{path.name}: a {self.architecture} has no graph")
        scaling = self.value("rope.scaling.type", "none")
        if scaling != "none" or "rope_freqs.weight" in self._tensors:
            raise NoOnnxForm(f"{path.name}: its positions are scaled")
        self.width, self.layers = int(self.value("embedding_length")), int(self.value("block_count"))
        self.heads = int(self.value("attention.head_count"))
        self.kv_heads = int(self.value("attention.head_count_kv", self.heads))
        self.per_head = int(self.value("attention.key_length", self.width // self.heads))
        self.rotary_base = float(self.value("rope.freq_base", 10_000.0))
        self.epsilon = float(self.value("attention.layer_norm_rms_epsilon"))

    def value(self, name: str, default: Any = None) -> Any:
        """A value of the architecture, as ``block_count``."""
        field = self._reader.fields.get(f"{self.architecture}.{name}")
        return default if field is None else field.contents()

    def has(self, name: str) -> bool:
        """Whether there is a tensor of that name."""
        return name in self._tensors

    def tensor(self, name: str) -> Any:
        """A tensor as :class:`gguf.GGUFReader` gives it."""
        return self._tensors[name]

    def array(self, name: str) -> NDArray[np.float32]:
        """A tensor as float32, whatever its format."""
        tensor = self._tensors[name]
        found = self._dequantize(np.asarray(tensor.data), tensor.tensor_type)
        return np.asarray(found.reshape([int(size) for size in reversed(tensor.shape)]), dtype=np.float32)

    def matrix(self, name: str) -> Blocks | NDArray[np.float32]:
        """A weight ``(n, k)`` in its blocks where they are of 4 or 6 bits, else as float32."""
        return read_blocks(self._tensors[name]) or self.array(name)

    def halves_of_pairs(self, name: str) -> NDArray[np.int64] | None:
        """The order of a weight's rows in which transformers holds them, where that is another one.

        llama.cpp rotates neighbours, everybody else halves: a head's even rows come before its odd ones.
        """
        heads = {"attn_q": self.heads, "attn_k": self.kv_heads}.get(name.rpartition(".")[2])
        if heads is None or self.architecture != "llama":
            return None
        rows = heads * self.per_head
        return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
