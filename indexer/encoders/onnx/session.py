"""Opens ONNX graphs, on the CPU. Imports no torch. Knows nothing of where a graph came from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from indexer.errors import WeightsCorrupt

#: More threads are no help for a handful of queries.
_MOST_THREADS = 8
REMEDY = "make it again: trimodal models pull starter"


def open_session(path: Path, remedy: str = REMEDY, *, prepack: bool = True) -> Any:
    """An ONNX Runtime session on the CPU; threads that have nothing to do sleep.

    ``prepack``: weights are brought into the order in which they are multiplied; what runs once is quicker without.

    Raises :class:`WeightsCorrupt` for a file that is no graph for this ONNX Runtime.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(_MOST_THREADS, os.cpu_count() or 1)
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
