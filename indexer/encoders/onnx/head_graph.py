"""The head over a modality's towers as an ONNX graph: the steps of :mod:`indexer.encoders.towers.heads`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from indexer.encoders.onnx.graph import GraphBuilder
from indexer.encoders.onnx.head import BANKS, GATE
from indexer.encoders.specs import HEADS, EncoderConfig


def write_head(directory: Path, config: EncoderConfig, folder: Path, modality: str = "text") -> None:
    """Write ``head.onnx``: features ``(n, inputs)`` -> rows ``(n, dim)``, not yet of unit length; and the bank of the
    correction against hubs and the gate of the text towers, where there are any.
    """
    from safetensors.numpy import load_file

    weights = {name: np.asarray(array, np.float32) for name, array in load_file(directory / HEADS).items()}
    spec = config.heads[modality]
    graph = GraphBuilder(folder / "head.onnx")
    x = graph.input("features", "float", ["rows", spec.inputs])

    def linear(states: str, name: str) -> str:
        return graph.linear(states, name, weights[f"{modality}.{name}.weight"], weights[f"{modality}.{name}.bias"])

    if spec.whitened:
        x = graph.node("Sub", [x, graph.weight("mean", weights[f"{modality}.mean"])])
        x = graph.node("MatMul", [x, graph.weight("whiten", weights[f"{modality}.whiten"])])
        rows = linear(x, "linear")
        if spec.hidden:
            rows = graph.node("Add", [rows, linear(graph.node("Gelu", [linear(x, "mlp.0")]), "mlp.3")])
        x = rows
    graph.save({"out": (x, ["rows", spec.dim])})
    if modality == "text" and config.gate is not None:
        weight, bias, fill = (weights[f"gate.{name}"] for name in ("weight", "bias", "fill"))
        np.savez(folder / GATE, weight=weight, bias=bias, fill=fill)
    if config.hubness is not None:
        bank = BANKS[modality]
        np.save(folder / f"{bank}.npy", weights[f"hubness.{bank}"])
