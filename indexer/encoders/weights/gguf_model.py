"""Settings and tensors of a language model in a GGUF file (llama, qwen2, bert). Knows nothing of torch or of graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DECODERS = ("llama", "qwen2")
_ARCHITECTURES = (*_DECODERS, "bert")
#: Parts of a BERT's layer by the names of transformers and of GGUF, and of its embeddings.
BERT_PARTS = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
BERT_EMBEDDINGS = {
    "word_embeddings": "token_embd",
    "position_embeddings": "position_embd",
    "token_type_embeddings": "token_types",
    "LayerNorm": "token_embd_norm",
}
_AT_ONCE = 1 << 20  # weights that are dequantised together: their steps stay in the processor's cache


class UnknownGguf(ValueError):
    """A file that is not read here; the text says why."""


class GgufModel:
    """Settings and tensors of a GGUF file, which is mapped.

    Raises :class:`UnknownGguf` for a damaged file and for an architecture that is not known here.
    """

    def __init__(self, path: Path) -> None:
        import gguf

        try:
            self._reader: Any = gguf.GGUFReader(str(path))
        except (ValueError, KeyError, IndexError) as error:
            raise UnknownGguf(f"{path.name}: can't be read as GGUF ({error})") from error
        self.name = path.name
        self._dequantize = gguf.dequantize
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self.architecture = str(self._reader.fields["general.architecture"].contents())
        if self.architecture not in _ARCHITECTURES:
            raise UnknownGguf(f"{path.name}: a {self.architecture} is not read here")
        scaling = self.value("rope.scaling.type", "none")
        if scaling != "none" or "rope_freqs.weight" in self._tensors:
            raise UnknownGguf(f"{path.name}: its positions are scaled")
        self.width, self.layers = int(self.value("embedding_length")), int(self.value("block_count"))
        self.heads = int(self.value("attention.head_count"))
        self.kv_heads = int(self.value("attention.head_count_kv", self.heads))
        self.per_head = int(self.value("attention.key_length", self.width // self.heads))
        self.rotary_base = float(self.value("rope.freq_base", 10_000.0))
        kind = "layer_norm_rms_epsilon" if self.is_decoder else "layer_norm_epsilon"
        self.epsilon = float(self.value(f"attention.{kind}"))

    @property
    def is_decoder(self) -> bool:
        """Whether a token sees only those before it."""
        return self.architecture in _DECODERS

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
        found = np.empty([int(size) for size in reversed(tensor.shape)], np.float32)
        if found.ndim < 2:
            found[...] = self._dequantize(np.asarray(tensor.data), tensor.tensor_type).reshape(found.shape)
            return found
        rows = np.asarray(tensor.data).reshape(len(found), -1)
        step = max(1, _AT_ONCE // found[0].size)
        for start in range(0, len(rows), step):  # a vocabulary's at once would take several gigabytes
            part = self._dequantize(rows[start : start + step], tensor.tensor_type)
            found[start : start + step] = part.reshape(-1, *found.shape[1:])
        return found

    def halves_of_pairs(self, name: str) -> NDArray[np.int64] | None:
        """The order of a weight's rows in which transformers holds them, where that is another one.

        llama.cpp rotates neighbours, everybody else halves: a head's even rows come before its odd ones.
        """
        heads = {"attn_q": self.heads, "attn_k": self.kv_heads}.get(name.rpartition(".")[2])
        if heads is None or self.architecture != "llama":
            return None
        rows = heads * self.per_head
        return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
