"""A decoder of a GGUF file (llama, qwen2) as an ONNX graph: rows of its embeddings -> the states after its last norm.

The embeddings are a file of their own: of a text a few rows are read. Knows nothing of prompts and read-outs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from indexer.encoders.onnx.decoder_layers import DecoderLayers, open_gguf
from indexer.encoders.onnx.graph import GraphBuilder, NoOnnxForm


def write_decoder(gguf_file: Path, folder: Path, layers: int) -> None:
    """Write ``tower.onnx`` and ``embeddings.npy`` (float16) for the first ``layers`` layers (0: all) of a GGUF file.

    Raises :class:`NoOnnxForm` for an architecture that is not known here.
    """
    model = open_gguf(gguf_file)
    if not layers <= model.layers:
        raise NoOnnxForm(f"{gguf_file.name}: has {model.layers} layers, not {layers}")
    graph = GraphBuilder(folder / "tower.onnx")
    x = graph.input("embeddings", "float", ["texts", "tokens", model.width])
    # nothing is kept from one call to the next
    past = graph.input("past", "float", ["texts", model.kv_heads, "none", model.per_head])
    last, total = graph.input("last", "int32", ["texts"]), graph.input("total", "int32", [1])
    decoder = DecoderLayers(graph, model)
    for number in range(layers or model.layers):
        x = decoder.layer(number, x, lambda *triple: decoder.attention(triple, [past, past], last, total))
    graph.save({"out": (decoder.norm(x, "output_norm"), ["texts", "tokens", model.width])})
    np.save(folder / "embeddings.npy", model.array("token_embd.weight").astype(np.float16))
