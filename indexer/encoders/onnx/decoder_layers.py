"""The layers of a decoder (llama, qwen2), written into a graph from the blocks of a GGUF file.

Attention is ONNX Runtime's grouped-query attention with rotary positions. Knows nothing of prompts and read-outs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.blocks import Blocks, read_blocks
from indexer.encoders.onnx.graph import GraphBuilder, NoOnnxForm
from indexer.encoders.weights.gguf_model import GgufModel, UnknownGguf

#: Positions that the graph has rotations for; no tower reads longer texts.
POSITIONS = 2_048

#: Query, key, value -> what every token sees, all ``(texts, tokens, width)``.
Attend = Callable[[str, str, str], str]


@dataclass(frozen=True)
class Adapter:
    """A low-rank branch beside a weight (LoRA, Hu et al. 2021): ``x`` -> ``x @ down.T @ up.T``."""

    down: NDArray[np.float32]
    """``(rank, k)``."""
    up: NDArray[np.float32]
    """``(n, rank)``, its scale multiplied in."""


def open_gguf(path: Path) -> GgufModel:
    """The decoder of a file. Raises :class:`NoOnnxForm` where it has no graph here."""
    try:
        model = GgufModel(path)
    except UnknownGguf as error:
        raise NoOnnxForm(str(error)) from error
    if not model.is_decoder:
        raise NoOnnxForm(f"{path.name}: a {model.architecture} is no decoder")
    return model


class DecoderLayers:
    """Writes layers one by one; ``adapters`` by the name of the weight, as ``blk.26.attn_q``."""

    def __init__(self, graph: GraphBuilder, model: GgufModel, adapters: Mapping[str, Adapter] | None = None) -> None:
        self._graph, self._model = graph, model
        self._adapters = adapters or {}
        angles = np.arange(POSITIONS)[:, None] / model.rotary_base ** (np.arange(0, model.per_head, 2) / model.per_head)
        cosines = graph.weight("cosines", np.cos(angles).astype(np.float32))
        self._rotations = [cosines, graph.weight("sines", np.sin(angles).astype(np.float32))]

    def layer(self, number: int, x: str, attend: Attend) -> str:
        """States before a layer ``(texts, tokens, width)`` -> after it."""
        part = f"blk.{number}"
        states = self.norm(x, f"{part}.attn_norm")
        seen = attend(*(self._linear(states, f"{part}.attn_{name}") for name in "qkv"))
        x = self._graph.node("Add", [x, self._linear(seen, f"{part}.attn_output")])
        states = self.norm(x, f"{part}.ffn_norm")
        gate = self._linear(states, f"{part}.ffn_gate")
        opened = self._graph.node("Mul", [gate, self._graph.node("Sigmoid", [gate])])
        inner = self._graph.node("Mul", [opened, self._linear(states, f"{part}.ffn_up")])
        return self._graph.node("Add", [x, self._linear(inner, f"{part}.ffn_down")])

    def norm(self, states: str, name: str) -> str:
        """Root-mean-square norm; the last one is ``output_norm``."""
        weight = self._graph.weight(name, self._model.array(f"{name}.weight"))
        return self._graph.node("SimplifiedLayerNormalization", [states, weight], epsilon=self._model.epsilon, axis=-1)

    def attention(
        self, triple: Iterable[str], past: Iterable[str], last: str, total: str, places: Iterable[str] = ()
    ) -> str:
        """A node of grouped-query attention; its outputs 1 and 2 are the keys and values of all tokens.

        ``past``: keys and values before ``(texts, kv_heads, before, per_head)``. ``last`` int32 ``(texts,)``: position
        of each text's last token. ``total`` int32 ``(1,)``: tokens of the longest. ``places``: positions of the tokens
        int64 ``(texts, tokens)``, and what is added to the logits ``(texts, 1, tokens, total)``.
        """
        return self._graph.fused(
            "GroupQueryAttention",
            [*triple, *past, last, total, *self._rotations, *places],
            outputs=3,
            num_heads=self._model.heads,
            kv_num_heads=self._model.kv_heads,
            do_rotary=1,
        )

    def _linear(self, states: str, name: str) -> str:
        model = self._model
        weight: Blocks | NDArray[np.float32] | None = read_blocks(model.tensor(f"{name}.weight"))
        bias = None
        if weight is None:
            weight = model.array(f"{name}.weight")
        if model.has(f"{name}.bias"):
            bias = model.array(f"{name}.bias")
        order = model.halves_of_pairs(name)
        if order is not None:
            weight = weight[order] if isinstance(weight, np.ndarray) else weight.reordered(order)
            bias = None if bias is None else bias[order]
        found = self._graph.linear(states, name, weight, bias)
        adapter = self._adapters.get(name)
        if adapter is None:
            return found
        low = self._graph.linear(states, f"{name}.down", adapter.down)
        return self._graph.node("Add", [found, self._graph.linear(low, f"{name}.up", adapter.up)])


def write_packed(
    graph: GraphBuilder, model: GgufModel, numbers: range, adapters: Mapping[str, Adapter] | None = None
) -> tuple[str, str, DecoderLayers]:
    """Layers of ``numbers`` over several texts one after another in a row, none of which sees the others.

    Inputs: ``states (1, tokens, width)``; ``past (2 * layers, kv_heads, before, per_head)``, keys and values of tokens
    that stand before every text; ``positions`` int64 ``(1, tokens)``; ``bias (1, 1, tokens, before + tokens)``;
    ``last`` and ``total tokens`` int32 ``(1,)``. Returns the states after the layers, keys and values as ``past`` with
    the tokens', and the layers.
    """
    x = graph.input("states", "float", [1, "tokens", model.width])
    past = graph.input("past", "float", [2 * len(numbers), model.kv_heads, "before", model.per_head])
    places = [graph.input("positions", "int64", [1, "tokens"])]
    places.append(graph.input("bias", "float", [1, 1, "tokens", "total"]))
    last, total = graph.input("last", "int32", [1]), graph.input("total tokens", "int32", [1])
    layers = DecoderLayers(graph, model, adapters)
    first = graph.node("Split", [past], outputs=2 * len(numbers), axis=0, num_outputs=2 * len(numbers))
    each = [first, *(graph.output(first, place) for place in range(1, 2 * len(numbers)))]
    kept: list[str] = []
    for place, number in enumerate(numbers):
        own = each[2 * place : 2 * place + 2]

        def attend(query: str, key: str, value: str, own: list[str] = own) -> str:
            seen = layers.attention([query, key, value], own, last, total, places)
            kept.extend(graph.output(seen, number) for number in (1, 2))
            return seen

        x = layers.layer(number, x, attend)
    return x, graph.node("Concat", kept, axis=0), layers
