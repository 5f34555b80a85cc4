"""The head over the text towers as an ONNX graph: the steps of :mod:`indexer.encoders.towers.heads`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from indexer.encoders.onnx.graph import GraphBuilder
from indexer.encoders.specs import HEADS, EncoderConfig


def write_head(directory: Path, config: EncoderConfig, folder: Path) -> None:
    """Write ``head.onnx``: features ``(n, inputs)`` -> rows ``(n, dim)``, not yet of unit length; and ``pictures.npy``,
    the bank of the correction against hubs, where there is one.
    """
    from safetensors.numpy import load_file

    weights = {name: np.asarray(array, np.float32) for name, array in load_file(directory / HEADS).items()}
    spec = config.heads["text"]
    graph = GraphBuilder(folder / "head.onnx")
    x = graph.input("features", "float", ["texts", spec.inputs])

    def linear(states: str, name: str) -> str:
        return graph.linear(states, name, weights[f"text.{name}.weight"], weights[f"text.{name}.bias"])

    if spec.whitened:
        x = graph.node("Sub", [x, graph.weight("mean", weights["text.mean"])])
        x = graph.node("MatMul", [x, graph.weight("whiten", weights["text.whiten"])])
        rows = linear(x, "linear")
        if spec.hidden:
            rows = graph.node("Add", [rows, linear(graph.node("Gelu", [linear(x, "mlp.0")]), "mlp.3")])
        x = rows
    graph.save({"out": (x, ["texts", spec.dim])})
    if config.hubness is not None:
        np.save(folder / "pictures.npy", weights["hubness.pictures"])
