"""Writes a module of torch as an ONNX graph, fused for ONNX Runtime, and compares the two.

Runs torch's tracing exporter, which needs no further library. Only modules that this program built itself come here:
nothing of a model's folder is run. Knows nothing of models.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from indexer.encoders.onnx.session import open_session
from indexer.encoders.onnx.store import NoOnnxForm

#: The least cosine of what a graph gives and what torch gives.
LEAST_COSINE = 0.9999
_OPSET = 18
INPUT, OUTPUT = "x", "out"


def export_module(
    module: torch.nn.Module,
    path: Path,
    examples: Sequence[Sequence[NDArray[Any]]],
    *,
    inputs: Sequence[str] = (INPUT,),
    outputs: Sequence[str] = (OUTPUT,),
    pieces: Sequence[int] = (),
    varying: int | None = None,
    stacked: bool = False,
) -> None:
    """Write ``path`` and its weights beside it. An example has an array ``(1, …)`` for every input.

    ``varying``: an axis of the inputs whose length is free. ``stacked``: the graph takes inputs ``(n, …)``, any number
    in place of one; the examples are alike in shape. Every example is run by both: where a row of an output differs
    (cosine under :data:`LEAST_COSINE`; of the first output each of the ``pieces`` that it is joined of), or for
    a module that can't be traced, raises :class:`NoOnnxForm`.
    """
    module.eval()
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".trace-") as work:
            traced = Path(work) / "traced.onnx"
            axes = {} if varying is None else {name: {varying: "length"} for name in inputs}
            if stacked:
                axes = {name: {0: "inputs"} for name in (*inputs, *outputs)}
                examples = [*examples, [np.concatenate(arrays) for arrays in zip(*examples, strict=True)]]
            with _tracing():
                torch.onnx.export(
                    module,
                    tuple(torch.from_numpy(array) for array in examples[-1 if stacked else 0]),
                    str(traced),
                    dynamo=False,
                    opset_version=_OPSET,
                    input_names=list(inputs),
                    output_names=list(outputs),
                    dynamic_axes=axes,
                )
            _fuse(traced, path)
        for example in examples:
            _compare(module, path, dict(zip(inputs, example, strict=True)), outputs, pieces)
    except NoOnnxForm:
        raise
    except OSError:
        raise
    except Exception as error:  # tracing runs into whatever a module does
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise NoOnnxForm(f"{type(module).__name__}: can't be traced ({reason})") from error


def _fuse(traced: Path, path: Path) -> None:
    """What ONNX Runtime makes of a graph that holds on every processor; weights go into a file that can be mapped."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    entry = "session.optimized_model_external_initializers"
    options.add_session_config_entry(f"{entry}_file_name", f"{path.stem}.bin")
    options.add_session_config_entry(f"{entry}_min_size_in_bytes", "1024")
    onnxruntime.InferenceSession(str(traced), options, providers=["CPUExecutionProvider"])


def _compare(
    module: torch.nn.Module,
    path: Path,
    example: dict[str, NDArray[Any]],
    outputs: Sequence[str],
    pieces: Sequence[int],
) -> None:
    with torch.inference_mode():
        found: Any = module(*(torch.from_numpy(array) for array in example.values()))
    expected = [one.float().numpy() for one in (found if isinstance(found, tuple) else (found,))]
    ours = open_session(path).run(list(outputs), example)
    ends = np.cumsum(pieces)[:-1]
    pairs = [
        *zip(np.split(ours[0], ends, axis=-1), np.split(expected[0], ends, axis=-1), strict=True),
        *zip(ours[1:], expected[1:], strict=True),
    ]
    least = min(least_cosine(one, other) for one, other in pairs)
    if not least >= LEAST_COSINE:  # NaN, too
        raise NoOnnxForm(f"{type(module).__name__}: its graph gives something else (cosine {least:.6f})")


def least_cosine(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """The least cosine of rows ``(…, width)``; rows that are zeros in both agree."""
    one = ours.reshape(-1, ours.shape[-1]).astype(np.float64)
    other = theirs.reshape(-1, theirs.shape[-1]).astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    same = (lengths == 0) & (np.abs(one - other).max(axis=1) == 0)
    cosines = (one * other).sum(axis=1) / np.where(lengths == 0, 1.0, lengths)
    return float(np.where(same, 1.0, cosines).min())


@contextlib.contextmanager
def _tracing() -> Iterator[None]:
    """Without the remarks of the exporter, and with attention as plain operators, which alone it can write."""
    before, fast = logging.root.manager.disable, torch.backends.mha.get_fastpath_enabled()
    logging.disable(logging.WARNING)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        logging.disable(before)
