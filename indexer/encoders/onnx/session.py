"""Runs ONNX graphs, on the CPU. Imports no torch. Knows nothing of where a graph came from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from indexer.errors import WeightsCorrupt

#: More threads are no help for one query.
_MOST_THREADS = 8
Inputs = Mapping[str, NDArray[Any]]


class GraphSession:
    """A graph in a file; opened on first use, thread-safe after that.

    One input is computed by several threads together. Of several inputs each has a thread of its own, which wastes
    nothing on waiting for the others: the weights are then read a second time if both are done.
    """

    def __init__(self, path: Path, remedy: str, *, prepack: bool = False) -> None:
        """``prepack``: as for :func:`open_session`, where several threads work together."""
        self._path, self._remedy, self._prepack = path, remedy, prepack

    def shape(self, name: str, *, several: bool = False) -> list[Any]:
        """Of an input; sizes that vary are names. ``several``: :meth:`run_each` with several inputs will follow."""
        session = self._alone if several or "_alone" in self.__dict__ else self._together
        return next(list(one.shape) for one in session.get_inputs() if one.name == name)

    def run(self, outputs: Sequence[str] | None, inputs: Inputs) -> list[NDArray[Any]]:
        """The outputs of those names, or all. Raises :class:`WeightsCorrupt` where it is no graph."""
        found: list[NDArray[Any]] = self._together.run(outputs, inputs)
        return found

    def run_each(self, outputs: Sequence[str] | None, inputs: Sequence[Inputs]) -> list[list[NDArray[Any]]]:
        """As :meth:`run`, of each of several inputs, in their order."""
        if len(inputs) < 2:
            return [self.run(outputs, one) for one in inputs]
        session = self._alone
        with ThreadPoolExecutor(min(len(inputs), os.cpu_count() or 1)) as pool:
            return list(pool.map(lambda one: session.run(outputs, one), inputs))

    @cached_property
    def _together(self) -> Any:
        return open_session(self._path, self._remedy, prepack=self._prepack)

    @cached_property
    def _alone(self) -> Any:
        return open_session(self._path, self._remedy, threads=1)


def open_session(path: Path, remedy: str = "", *, threads: int | None = None, prepack: bool = True) -> Any:
    """A session of ONNX Runtime; threads that have nothing to do sleep.

    ``prepack``: weights are brought into the order in which they are multiplied; what runs once is quicker without.

    Raises :class:`WeightsCorrupt` for a file that is no graph for this ONNX Runtime.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or min(_MOST_THREADS, os.cpu_count() or 1)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.disable_prepacking", "0" if prepack else "1")
    # the graphs are written as they are to be run: looking for more to fuse takes longer than it saves
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own errors have no common class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise WeightsCorrupt(f"{path}: can't be run by this ONNX Runtime ({reason}); {remedy}") from error
