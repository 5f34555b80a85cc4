"""A reranker as ONNX graphs: the upper layers over a text, and a text's last token with media up to the match logit.

``upper.onnx``: several texts in a row (:mod:`indexer.encoders.onnx.packed`), states after the lower layers -> normed
states, keys and values, and what the media read of them. ``judge.onnx``: pairs, each the last token of a text with
its keys and values, and media tokens -> logits. ``joint.onnx``: last tokens -> the joint space. ``compressor.onnx``:
texts -> media tokens, where texts are judged against texts. The steps are those of :mod:`retrieval.rerank.scorer`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.decoder_layers import Adapter, DecoderLayers, open_gguf, write_packed
from indexer.encoders.onnx.graph import GraphBuilder
from indexer.encoders.tokens.config import FOLDER, LORA, WEIGHTS, RerankerConfig
from indexer.encoders.weights.gguf_model import GgufModel

Weights = Mapping[str, NDArray[np.float32]]

_GATE_SPEED = 20.0  # as in the scorer
_EPSILON = 1e-5  # of PyTorch's layer norms
#: A language model's weights by the names of transformers and of GGUF.
_LAYER_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_graphs(model: Path, config: RerankerConfig, gguf_file: Path, folder: Path) -> None:
    """Write the graphs of a model directory's reranker. Raises :class:`NoOnnxForm` for what has none here."""
    from safetensors.numpy import load_file

    weights = {name: np.asarray(one, np.float32) for name, one in load_file(model / FOLDER / WEIGHTS).items()}
    language_model = open_gguf(gguf_file)
    lower = int(config.language_model["lower"])
    numbers = range(lower, int(config.language_model["layers"]) or language_model.layers)
    adapters = _adapters(weights, config, lower)
    scorer = _part(weights, "scorer")
    _write_upper(folder, language_model, numbers, adapters, scorer, config)
    _write_judge(folder, language_model, numbers, adapters, scorer, config)
    joint = _Parts(GraphBuilder(folder / "joint.onnx"), scorer)
    rows = joint.head(joint.graph.input("last", "float", ["texts", language_model.width]), "text")
    joint.graph.save({"out": (rows, ["texts", int(config.scorer["joint"])])})
    if "text" in config.compressors:
        _write_compressor(folder, _part(weights, "compressor.text"), config)


def _write_upper(
    folder: Path,
    model: GgufModel,
    numbers: range,
    adapters: Mapping[str, Adapter],
    scorer: Weights,
    config: RerankerConfig,
) -> None:
    graph = GraphBuilder(folder / "upper.onnx")
    x, present, layers = write_packed(graph, model, numbers, adapters)
    normed = layers.norm(x, "output_norm")
    every: list[str | int] = ["each", model.kv_heads, "total", model.per_head]
    outputs: dict[str, tuple[str, list[str | int]]] = {"out": (normed, [1, "tokens", model.width])}
    outputs["present"] = (present, every)
    if config.scorer["interaction"] == "bidirectional":
        parts = _Parts(graph, scorer)
        keys, values = parts.keys_values(normed, "back")
        outputs["back_keys"] = (keys, [1, "tokens", int(config.scorer["media_width"])])
        outputs["back_values"] = (values, [1, "tokens", int(config.scorer["media_width"])])
    graph.save(outputs)


def _write_judge(
    folder: Path,
    model: GgufModel,
    numbers: range,
    adapters: Mapping[str, Adapter],
    scorer: Weights,
    config: RerankerConfig,
) -> None:
    graph = GraphBuilder(folder / "judge.onnx")
    parts = _Parts(graph, scorer)
    layers = DecoderLayers(graph, model, adapters)
    sizes = config.scorer
    count, media_width, heads = int(sizes["media_count"]), int(sizes["media_width"]), int(sizes["heads"])
    x = graph.input("final", "float", ["pairs", 1, model.width])
    media = graph.input("media", "float", ["pairs", count, media_width])
    past = graph.input("past", "float", [2 * len(numbers), "pairs", model.kv_heads, "before", model.per_head])
    last, total = graph.input("last", "int32", ["pairs"]), graph.input("total tokens", "int32", [1])
    each = graph.node("Split", [past], outputs=2 * len(numbers), axis=0, num_outputs=2 * len(numbers))
    names = [each, *(graph.output(each, place) for place in range(1, 2 * len(numbers)))]
    first = graph.weight("first-axis", np.array([0], np.int64))
    kept = [graph.node("Squeeze", [name, first]) for name in names]
    for place, number in enumerate(numbers):
        own = kept[2 * place : 2 * place + 2]
        if sizes["interaction"] != "none":
            gate = _opened(scorer["gates"][place])
            x = parts.add_read(x, parts.keys_values(media, f"cross.{place}"), f"cross.{place}", gate, heads)
        x = layers.layer(number, x, lambda *triple, own=own: layers.attention(triple, own, last, total))
    one = graph.weight("second-axis", np.array([1], np.int64))
    left = parts.head(graph.node("Squeeze", [layers.norm(x, "output_norm"), one]), "text")
    seen = media
    if sizes["interaction"] == "bidirectional":
        read = [graph.input(name, "float", ["pairs", "before", media_width]) for name in ("back_keys", "back_values")]
        mask = graph.input("seen", "int32", ["pairs", "before"])
        gate = _opened(scorer["back_gate"][0])
        seen = parts.add_read(media, (read[0], read[1]), "back", gate, heads, mask)
    flat = graph.node("Reshape", [seen, graph.weight("flat", np.array([0, count * media_width], np.int64))])
    right = parts.linear(parts.layer_norm(flat, "media.0"), "media.2")
    joined = graph.node("Concat", [left, right, graph.node("Mul", [left, right])], axis=1)
    judged = parts.linear(graph.node("Gelu", [parts.linear(joined, "judge.0")]), "judge.3")
    likeness = graph.node("Mul", [parts.unit(left), parts.unit(right)])
    axis = graph.weight("second-axis", np.array([1], np.int64))
    likeness = graph.node("ReduceSum", [likeness, axis], keepdims=1)
    scale = graph.weight("scale", np.exp(scorer["scale"]).astype(np.float32))
    logits = graph.node("Add", [graph.node("Mul", [likeness, scale]), judged])
    graph.save({"out": (graph.node("Squeeze", [logits, axis]), ["pairs"])})


def _write_compressor(folder: Path, weights: Weights, config: RerankerConfig) -> None:
    """The steps of :class:`indexer.encoders.tokens.compressor.Compressor`, of rows without grids."""
    sizes = config.compressors["text"]
    graph = GraphBuilder(folder / "compressor.onnx")
    parts = _Parts(graph, weights)
    width, summary = sizes["width"], sizes["summary"]
    rows = graph.input("rows", "float", ["texts", sum(config.sources["text"].rows)])
    shape = graph.weight("summary", np.array([-1, summary, width], np.int64))
    read = graph.node("Reshape", [parts.head(rows, "head"), shape])
    texts = graph.node("Shape", [read], start=0, end=1)
    every = graph.node("Concat", [texts, graph.weight("rest", np.array([sizes["queries"], width], np.int64))], axis=0)
    queries = graph.node("Expand", [graph.weight("queries", weights["queries"][None]), every])
    queries = parts.add_read(queries, parts.keys_values(read, "attention"), "attention", 1.0, sizes["heads"])
    inner = graph.node("Gelu", [parts.linear(parts.layer_norm(queries, "mlp.0"), "mlp.1")])
    queries = graph.node("Add", [queries, parts.linear(inner, "mlp.3")])
    found = parts.layer_norm(graph.node("Concat", [read, queries], axis=1), "out")
    graph.save({"out": (found, ["texts", summary + sizes["queries"], width])})


class _Parts:
    """Parts of the scorer, by the names of its weights."""

    def __init__(self, graph: GraphBuilder, weights: Weights) -> None:
        self.graph = graph
        self._weights = weights

    def linear(self, x: str, name: str, gain: float = 1.0, rows: slice = slice(None)) -> str:
        """A linear map, its outputs ``rows`` alone, multiplied by ``gain``."""
        weight, bias = self._weights[f"{name}.weight"][rows] * gain, self._weights[f"{name}.bias"][rows] * gain
        label = name if rows == slice(None) else f"{name}.{rows.start}"
        return self.graph.linear(x, label, weight.astype(np.float32), bias.astype(np.float32))

    def layer_norm(self, x: str, name: str) -> str:
        both = [self.graph.weight(f"{name}.{part}", self._weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        return self.graph.node("LayerNormalization", [x, *both], epsilon=_EPSILON, axis=-1)

    def head(self, x: str, name: str) -> str:
        """A projection head ``(n, inputs)`` -> ``(n, dim)``, not yet of unit length."""
        x = self.graph.node("Sub", [x, self.graph.weight(f"{name}.mean", self._weights[f"{name}.mean"])])
        x = self.graph.node("MatMul", [x, self.graph.weight(f"{name}.whiten", self._weights[f"{name}.whiten"])])
        rows = self.linear(x, f"{name}.linear")
        if f"{name}.mlp.0.weight" not in self._weights:
            return rows
        inner = self.graph.node("Gelu", [self.linear(x, f"{name}.mlp.0")])
        return self.graph.node("Add", [rows, self.linear(inner, f"{name}.mlp.3")])

    def unit(self, rows: str) -> str:
        """Rows of unit length."""
        axis = self.graph.weight("second-axis", np.array([1], np.int64))
        length = self.graph.node("ReduceL2", [rows, axis], keepdims=1)
        return self.graph.node("Div", [rows, self.graph.node("Max", [length, self.graph.weight("tiny", _TINY)])])

    def keys_values(self, other: str, name: str) -> tuple[str, str]:
        """What cross-attention reads of ``(n, s, other)``: keys and values ``(n, s, inner)``."""
        normed = self.layer_norm(other, f"{name}.norm_other")
        inner = len(self._weights[f"{name}.key_value.bias"]) // 2
        keys, values = slice(0, inner), slice(inner, 2 * inner)
        return self.linear(normed, f"{name}.key_value", rows=keys), self.linear(
            normed, f"{name}.key_value", rows=values
        )

    def add_read(
        self, rows: str, read: tuple[str, str], name: str, gate: float, heads: int, mask: str | None = None
    ) -> str:
        """Rows ``(n, t, width)`` plus ``gate`` times what they read; ``mask`` int32 ``(n, s)`` is 1 where some is."""
        query = self.linear(self.layer_norm(rows, f"{name}.norm"), f"{name}.query")
        inputs = [query, *read] if mask is None else [query, *read, "", mask]
        found = self.graph.fused("MultiHeadAttention", inputs, num_heads=heads)
        return self.graph.node("Add", [rows, self.linear(found, f"{name}.out", gate)])


_TINY = np.array(1e-12, np.float32)


def _opened(gate: NDArray[np.float32]) -> float:
    return math.tanh(_GATE_SPEED * float(gate))


def _part(weights: Weights, name: str) -> dict[str, NDArray[np.float32]]:
    return {key.removeprefix(f"{name}."): one for key, one in weights.items() if key.startswith(f"{name}.")}


def _adapters(weights: Weights, config: RerankerConfig, lower: int) -> dict[str, Adapter]:
    """The low-rank branches of the upper layers, by the names of GGUF."""
    found: dict[str, Adapter] = {}
    if config.lora is None:
        return found
    scale = float(config.lora["alpha"]) / int(config.lora["rank"])
    own = _part(weights, LORA)
    for name, down in own.items():
        place, _, rest = name.partition(".")
        layer_part, is_down, _ = rest.partition(".lora_A")
        if is_down:
            up = own[name.replace(".lora_A", ".lora_B")]
            found[f"blk.{lower + int(place)}.{_LAYER_NAMES[layer_part]}"] = Adapter(down, scale * up)
    return found
