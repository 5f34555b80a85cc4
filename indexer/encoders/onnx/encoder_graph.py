"""A BERT in transformers' layout, or in a GGUF file, as an ONNX graph: rows of its embeddings -> states after its last
layer.

Knows nothing of prompts and read-outs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.blocks import Blocks, read_blocks
from indexer.encoders.onnx.embedding_rows import EMBEDDING_ROWS, EmbeddingRows
from indexer.encoders.onnx.graph import GraphBuilder, NoOnnxForm
from indexer.encoders.weights.gguf_model import BERT_EMBEDDINGS, BERT_PARTS, GgufModel, UnknownGguf

Weight = NDArray[np.float32] | Blocks


def write_encoder(directory: Path, folder: Path, layers: int, gguf_file: Path | None = None) -> None:
    """Write ``tower.onnx``, its embeddings and ``positions.npy`` for the first ``layers`` layers (0: all).

    The weights are ``model.safetensors`` of the directory, or those of ``gguf_file``, in whose blocks they stay.
    Raises :class:`NoOnnxForm` for another architecture, activation or kind of positions.
    """
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "bert" or config.get("position_embedding_type", "absolute") != "absolute":
        raise NoOnnxForm(f"{directory.name}: a {config.get('model_type')} has no graph")
    if config.get("hidden_act") != "gelu":
        raise NoOnnxForm(f"{directory.name}: its activation is {config.get('hidden_act')}")
    if not layers <= config["num_hidden_layers"]:
        raise NoOnnxForm(f"{directory.name}: has {config['num_hidden_layers']} layers, not {layers}")
    weight = _of_safetensors(directory, folder) if gguf_file is None else _of_gguf(gguf_file, folder)
    width, heads, epsilon = config["hidden_size"], config["num_attention_heads"], config["layer_norm_eps"]
    graph = GraphBuilder(folder / "tower.onnx")

    def dense(name: str) -> NDArray[np.float32]:
        found = weight(name)
        assert not isinstance(found, Blocks)
        return found

    def norm(states: str, name: str) -> str:
        parts = [graph.weight(f"{name}.{part}", dense(f"{name}.{part}")) for part in ("weight", "bias")]
        return graph.node("LayerNormalization", [states, *parts], epsilon=epsilon, axis=-1)

    def linear(states: str, name: str) -> str:
        return graph.linear(states, name, weight(f"{name}.weight"), dense(f"{name}.bias"))

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
    positions = dense("embeddings.position_embeddings.weight")
    np.save(folder / "positions.npy", positions + dense("embeddings.token_type_embeddings.weight")[0])


def _of_safetensors(directory: Path, folder: Path) -> Callable[[str], Weight]:
    """A weight by the name that transformers has for it; the words' embeddings are written to ``folder``."""
    from safetensors.numpy import load_file

    loaded = load_file(directory / "model.safetensors")
    weights = {name.removeprefix("bert."): np.asarray(array, dtype=np.float32) for name, array in loaded.items()}
    np.save(folder / "embeddings.npy", weights["embeddings.word_embeddings.weight"])
    return weights.__getitem__


def _of_gguf(gguf_file: Path, folder: Path) -> Callable[[str], Weight]:
    """The same of a GGUF file; where its words' embeddings lie is written to ``folder``."""
    try:
        model = GgufModel(gguf_file)
        EmbeddingRows.of(model).save(folder / EMBEDDING_ROWS)
    except (UnknownGguf, ValueError) as error:
        raise NoOnnxForm(str(error)) from error

    def weight(name: str) -> Weight:
        module, _, part = name.rpartition(".")
        own = module.removeprefix("embeddings.")
        if own != module:
            return model.array(f"{BERT_EMBEDDINGS[own]}.{part}")
        number, _, own = module.removeprefix("encoder.layer.").partition(".")
        full = f"blk.{number}.{BERT_PARTS[own]}.{part}"
        blocks = read_blocks(model.tensor(full)) if len(model.tensor(full).shape) == 2 else None
        return model.array(full) if blocks is None else blocks

    return weight
