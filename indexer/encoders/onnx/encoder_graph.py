"""A BERT in transformers' layout as an ONNX graph: rows of its embeddings -> the states after its last layer.

Knows nothing of prompts and read-outs.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.graph import GraphBuilder, NoOnnxForm


def write_encoder(directory: Path, folder: Path, layers: int) -> None:
    """Write ``tower.onnx``, ``embeddings.npy`` and ``positions.npy`` for the first ``layers`` layers (0: all).

    Raises :class:`NoOnnxForm` for another architecture, activation or kind of positions.
    """
    from safetensors.numpy import load_file

    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "bert" or config.get("position_embedding_type", "absolute") != "absolute":
        raise NoOnnxForm(f"{directory.name}: a {config.get('model_type')} has no graph")
    if config.get("hidden_act") != "gelu":
        raise NoOnnxForm(f"{directory.name}: its activation is {config.get('hidden_act')}")
    if not layers <= config["num_hidden_layers"]:
        raise NoOnnxForm(f"{directory.name}: has {config['num_hidden_layers']} layers, not {layers}")
    loaded = load_file(directory / "model.safetensors")
    weights = {name.removeprefix("bert."): np.asarray(array, dtype=np.float32) for name, array in loaded.items()}
    width, heads, epsilon = config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]
    graph = GraphBuilder(folder / "tower.onnx")

    def norm(states: str, name: str) -> str:
        parts = [graph.weight(f"{name}.{part}", weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        return graph.node("LayerNormalization", [states, *parts], epsilon=epsilon, axis=-1)

    def linear(states: str, name: str) -> str:
        return graph.linear(states, name, weights[f"{name}.weight"], weights[f"{name}.bias"])

    x = norm(graph.input("embeddings", "float", ["texts", "tokens", width]), "embeddings.LayerNorm")
    for number in range(layers or config["num_hidden_layers"]):
        part = f"encoder.layer.{number}"
        triple = [linear(x, f"{part}.attention.self.{name}") for name in ("query", "key", "value")]
        seen = graph.fused("MultiHeadAttention", triple, num_heads=heads)
        seen = linear(seen, f"{part}.attention.output.dense")
        x = norm(graph.node("Add", [x, seen]), f"{part}.attention.output.LayerNorm")
        inner = graph.node("Gelu", [linear(x, f"{part}.intermediate.dense")])
        x = norm(graph.node("Add", [x, linear(inner, f"{part}.output.dense")]), f"{part}.output.LayerNorm")
    graph.save({"out": (x, ["texts", "tokens", width])})
    np.save(folder / "embeddings.npy", weights["embeddings.word_embeddings.weight"])
    positions: NDArray[np.float32] = weights["embeddings.position_embeddings.weight"]
    np.save(folder / "positions.npy", positions + weights["embeddings.token_type_embeddings.weight"][0])
