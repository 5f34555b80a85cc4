"""Builds an ONNX graph, node by node. Imports ``onnx``, which running a graph does not. Knows nothing of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from indexer.encoders.onnx.blocks import BLOCK, Blocks
from indexer.encoders.onnx.store import NoOnnxForm as NoOnnxForm

_MICROSOFT = "com.microsoft"
_OPSET, _IR = 20, 10
_TYPES = {"float": TensorProto.FLOAT, "int32": TensorProto.INT32}


class GraphBuilder:
    """Nodes and weights; every method returns the name of what it adds."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._weights: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._sums: dict[str, str] = {}

    def input(self, name: str, kind: str, shape: list[str | int]) -> str:
        """An input of the graph; sizes that vary have names."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[kind], shape))
        return name

    def weight(self, name: str, values: NDArray[Any]) -> str:
        """A constant; given again under its name it is stored once."""
        if name not in self._weights:
            self._weights[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def node(self, kind: str, inputs: list[str], *, domain: str = "", outputs: int = 1, **settings: Any) -> str:
        """A node; of several outputs the first is returned."""
        name = f"{kind.lower()}-{len(self._nodes)}"
        names = [name, *(f"{name}-{number}" for number in range(1, outputs))]
        self._nodes.append(helper.make_node(kind, inputs, names, domain=domain, **settings))
        return name

    def fused(self, kind: str, inputs: list[str], *, outputs: int = 1, **settings: Any) -> str:
        """A node of ONNX Runtime's own operators."""
        return self.node(kind, inputs, domain=_MICROSOFT, outputs=outputs, **settings)

    def linear(
        self, x: str, name: str, weight: Blocks | NDArray[np.float32], bias: NDArray[np.float32] | None = None
    ) -> str:
        """``x (..., k)`` -> ``(..., n)`` by a weight ``(n, k)``, dense or in blocks, and perhaps a bias ``(n,)``."""
        if isinstance(weight, Blocks):
            found = self._blocks(x, name, weight)
        else:
            found = self.node("MatMul", [x, self.weight(f"{name}.weight", weight.T)])
        return found if bias is None else self.node("Add", [found, self.weight(f"{name}.bias", bias)])

    def _blocks(self, x: str, name: str, weight: Blocks) -> str:
        """``x @ (scale * (q - 8)).T``, and of the offsets the sums of x's blocks times them: a 32nd of the work."""
        n, k = weight.shape
        inputs = [x, self.weight(f"{name}.q", weight.packed), self.weight(f"{name}.s", weight.scales.reshape(-1))]
        found = self.fused("MatMulNBits", inputs, K=k, N=n, bits=4, block_size=BLOCK)
        if weight.offsets is None:
            return found
        if x not in self._sums:
            shape = self.weight(f"blocks-of-{k}", np.array([0, 0, k // BLOCK, BLOCK], dtype=np.int64))
            blocks = self.node("Reshape", [x, shape])
            axes = self.weight("last-axis", np.array([3], dtype=np.int64))
            self._sums[x] = self.node("ReduceSum", [blocks, axes], keepdims=0)
        offsets = self.node("MatMul", [self._sums[x], self.weight(f"{name}.o", weight.offsets.T)])
        return self.node("Add", [found, offsets])

    def save(self, path: Path, output: str, shape: list[str | int]) -> None:
        """Write the graph; its weights lie in a file beside it, which is mapped when it is opened."""
        self._nodes.append(helper.make_node("Identity", [output], ["out"]))
        result = helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)
        graph = helper.make_graph(self._nodes, path.stem, self._inputs, [result], list(self._weights.values()))
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR)
        onnx.save_model(model, path, save_as_external_data=True, location=f"{path.stem}.bin", size_threshold=1024)
