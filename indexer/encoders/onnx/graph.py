"""Builds an ONNX graph, node by node. Imports ``onnx``, which running a graph does not. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from indexer.encoders.onnx.blocks import Blocks
from indexer.encoders.onnx.store import NoOnnxForm as NoOnnxForm

_MICROSOFT = "com.microsoft"
_OPSET, _IR = 20, 10
_TYPES = {"float": TensorProto.FLOAT, "int32": TensorProto.INT32, "int64": TensorProto.INT64}
#: Smaller weights stand in the graph itself.
_LEAST_BYTES = 1024
#: Weights begin at pages, so that each is mapped by itself and given back once it was repacked.
_PAGE = 4096


class GraphBuilder:
    """Nodes and weights; every method returns the name of what it adds.

    Weights are written to a file beside the graph as they come, so that no more than one of them is in memory.
    """

    def __init__(self, path: Path) -> None:
        """``path``: of the graph, as ``tower.onnx``; its weights are ``tower.bin``, which is mapped when it is opened.

        A file of that name is replaced.
        """
        self._path = path
        self._stored = path.with_suffix(".bin")
        self._stored.write_bytes(b"")
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
            array = np.ascontiguousarray(values)
            store = array.nbytes >= _LEAST_BYTES
            self._weights[name] = self._outside(name, array) if store else numpy_helper.from_array(array, name)
        return name

    def node(self, kind: str, inputs: list[str], *, domain: str = "", outputs: int = 1, **settings: Any) -> str:
        """A node; of several outputs the first is returned, as :meth:`output` gives the others."""
        name = f"{kind.lower()}-{len(self._nodes)}"
        names = [name, *(self.output(name, number) for number in range(1, outputs))]
        self._nodes.append(helper.make_node(kind, inputs, names, domain=domain, **settings))
        return name

    @staticmethod
    def output(node: str, number: int) -> str:
        """Of a node with several outputs, the one with a number from 1 on."""
        return f"{node}-{number}"

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

    def save(self, outputs: Mapping[str, tuple[str, list[str | int]]]) -> None:
        """Write the graph; ``outputs``: by the name that a caller uses, what it is and its shape."""
        results = []
        for name, (inner, shape) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [inner], [name]))
            results.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        weights = list(self._weights.values())
        graph = helper.make_graph(self._nodes, self._path.stem, self._inputs, results, weights)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, 1)]
        onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=_IR), self._path)

    def _blocks(self, x: str, name: str, weight: Blocks) -> str:
        """``x @ (scale * (q - 8)).T``, and of the offsets the sums of x's blocks times them: a 32nd of the work."""
        scales = self.weight(f"{name}.s", weight.scales.reshape(-1))
        found = self._multiplied(x, f"{name}.q", weight, weight.packed, scales)
        if weight.high is not None:
            upper = self._multiplied(x, f"{name}.h", weight, weight.high, scales)
            sixteen = self.weight("sixteen", np.array(16, dtype=np.float32))
            found = self.node("Add", [found, self.node("Mul", [upper, sixteen])])
        if weight.offsets is None:
            return found
        if x not in self._sums:
            k, block = weight.shape[1], weight.block
            shape = self.weight(f"blocks-of-{k}", np.array([0, 0, k // block, block], dtype=np.int64))
            blocks = self.node("Reshape", [x, shape])
            axes = self.weight("last-axis", np.array([3], dtype=np.int64))
            self._sums[x] = self.node("ReduceSum", [blocks, axes], keepdims=0)
        offsets = self.node("MatMul", [self._sums[x], self.weight(f"{name}.o", weight.offsets.T)])
        return self.node("Add", [found, offsets])

    def _multiplied(self, x: str, name: str, weight: Blocks, packed: NDArray[np.uint8], scales: str) -> str:
        n, k = weight.shape
        inputs = [x, self.weight(name, packed), scales]
        return self.fused("MatMulNBits", inputs, K=k, N=n, bits=4, block_size=weight.block)

    def _outside(self, name: str, array: NDArray[Any]) -> Any:
        """A weight in the file beside the graph."""
        with self._stored.open("ab") as file:
            start = -(-file.tell() // _PAGE) * _PAGE
            file.write(bytes(start - file.tell()))
            file.write(array.data)
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        found = TensorProto(name=name, dims=array.shape, data_type=kind, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self._stored.name), ("offset", start), ("length", array.nbytes)):
            found.external_data.add(key=key, value=str(value))
        return found
