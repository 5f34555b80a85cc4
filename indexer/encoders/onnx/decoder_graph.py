"""A decoder of a GGUF file (llama, qwen2) as an ONNX graph: rows of its embeddings -> the states after its last norm.

Attention is ONNX Runtime's grouped-query attention with rotary positions. The embeddings are a file of their own: of
a text a few rows are read. Knows nothing of prompts and read-outs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.blocks import Blocks, read_blocks
from indexer.encoders.onnx.graph import GraphBuilder, NoOnnxForm

_ARCHITECTURES = ("llama", "qwen2")
#: Positions that the graph has rotations for; no tower reads longer texts.
POSITIONS = 2_048


class _Gguf:
    """Values and tensors of a GGUF file."""

    def __init__(self, path: Path) -> None:
        import gguf

        try:
            self._reader: Any = gguf.GGUFReader(str(path))
        except (ValueError, KeyError, IndexError) as error:
            raise NoOnnxForm(f"{path.name}: can't be read as GGUF ({error})") from error
        self._dequantize = gguf.dequantize
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self.architecture = str(self._reader.fields["general.architecture"].contents())
        if self.architecture not in _ARCHITECTURES:
            raise NoOnnxForm(f"{path.name}: a {self.architecture} has no graph")
        scaling = self.value("rope.scaling.type", "none")
        if scaling != "none" or "rope_freqs.weight" in self._tensors:
            raise NoOnnxForm(f"{path.name}: its positions are scaled")

    def value(self, name: str, default: Any = None) -> Any:
        """A value of the architecture, as ``block_count``."""
        field = self._reader.fields.get(f"{self.architecture}.{name}")
        return default if field is None else field.contents()

    def has(self, name: str) -> bool:
        """Whether there is a tensor of that name."""
        return name in self._tensors

    def array(self, name: str) -> NDArray[np.float32]:
        """A tensor as float32, whatever its format."""
        tensor = self._tensors[name]
        found = self._dequantize(np.asarray(tensor.data), tensor.tensor_type)
        return np.asarray(found.reshape([int(size) for size in reversed(tensor.shape)]), dtype=np.float32)

    def matrix(self, name: str) -> Blocks | NDArray[np.float32]:
        """A weight ``(n, k)`` in its blocks where they are of 4 bits, else as float32."""
        return read_blocks(self._tensors[name]) or self.array(name)


def write_decoder(gguf_file: Path, folder: Path, layers: int) -> None:
    """Write ``tower.onnx`` and ``embeddings.npy`` (float16) for the first ``layers`` layers (0: all) of a GGUF file.

    Raises :class:`NoOnnxForm` for an architecture that is not known here.
    """
    file = _Gguf(gguf_file)
    width, blocks = int(file.value("embedding_length")), int(file.value("block_count"))
    heads = int(file.value("attention.head_count"))
    kv_heads = int(file.value("attention.head_count_kv", heads))
    per_head = int(file.value("attention.key_length", width // heads))
    if not layers <= blocks:
        raise NoOnnxForm(f"{gguf_file.name}: has {blocks} layers, not {layers}")
    graph = GraphBuilder()
    x = graph.input("embeddings", "float", ["texts", "tokens", width])
    attention = _Attention(graph, heads, kv_heads, per_head, float(file.value("rope.freq_base", 10_000.0)))
    epsilon = float(file.value("attention.layer_norm_rms_epsilon"))

    def norm(states: str, name: str) -> str:
        weight = graph.weight(name, file.array(f"{name}.weight"))
        return graph.node("SimplifiedLayerNormalization", [states, weight], epsilon=epsilon, axis=-1)

    def linear(states: str, name: str, heads_in_pairs: int = 0) -> str:
        weight, bias = file.matrix(f"{name}.weight"), None
        if file.has(f"{name}.bias"):
            bias = file.array(f"{name}.bias")
        if heads_in_pairs and file.architecture == "llama":  # llama.cpp rotates neighbours, everybody else halves
            order = _halves_of_pairs(weight.shape[0], heads_in_pairs)
            weight = weight.reordered(order) if isinstance(weight, Blocks) else weight[order]
            bias = None if bias is None else bias[order]
        return graph.linear(states, name, weight, bias)

    for number in range(layers or blocks):
        part = f"blk.{number}"
        states = norm(x, f"{part}.attn_norm")
        query, key = linear(states, f"{part}.attn_q", heads), linear(states, f"{part}.attn_k", kv_heads)
        seen = attention.node(query, key, linear(states, f"{part}.attn_v"))
        x = graph.node("Add", [x, linear(seen, f"{part}.attn_output")])
        states = norm(x, f"{part}.ffn_norm")
        gate = linear(states, f"{part}.ffn_gate")
        opened = graph.node("Mul", [gate, graph.node("Sigmoid", [gate])])
        inner = graph.node("Mul", [opened, linear(states, f"{part}.ffn_up")])
        x = graph.node("Add", [x, linear(inner, f"{part}.ffn_down")])
    graph.save(folder / "tower.onnx", norm(x, "output_norm"), ["texts", "tokens", width])
    np.save(folder / "embeddings.npy", file.array("token_embd.weight").astype(np.float16))


class _Attention:
    """Causal attention with rotary positions over whole texts: nothing is kept from one call to the next."""

    def __init__(self, graph: GraphBuilder, heads: int, kv_heads: int, per_head: int, base: float) -> None:
        self._graph = graph
        self._heads, self._kv_heads = heads, kv_heads
        angles = np.arange(POSITIONS)[:, None] / base ** (np.arange(0, per_head, 2) / per_head)
        past = graph.input("past", "float", ["texts", kv_heads, "none", per_head])
        last, total = graph.input("last", "int32", ["texts"]), graph.input("total", "int32", [1])
        cosines = graph.weight("cosines", np.cos(angles).astype(np.float32))
        sines = graph.weight("sines", np.sin(angles).astype(np.float32))
        self._rest = [past, past, last, total, cosines, sines]

    def node(self, query: str, key: str, value: str) -> str:
        """``(texts, tokens, width)`` each -> the same of what every token sees."""
        return self._graph.fused(
            "GroupQueryAttention",
            [query, key, value, *self._rest],
            outputs=3,
            num_heads=self._heads,
            kv_num_heads=self._kv_heads,
            do_rotary=1,
        )


def _halves_of_pairs(rows: int, heads: int) -> NDArray[np.int64]:
    """The order of rows that puts a head's even rows before its odd ones, as transformers does with a GGUF."""
    return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
