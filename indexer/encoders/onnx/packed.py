"""Several texts one after another in a row, none of which sees the others: no token is wasted on padding.

Every text stands behind the same tokens (the beginning of its prompt), whose keys and values are read once and kept.
Knows nothing of graphs' files and of tokenizers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.session import GraphSession

#: What is added to a logit that must not count.
_NOTHING = -1e30


def run_packed(
    session: GraphSession,
    states: NDArray[np.float32],
    lengths: Sequence[int],
    past: NDArray[np.float32],
    outputs: Sequence[str] = ("out",),
) -> dict[str, NDArray[np.float32]]:
    """Run a graph of :func:`indexer.encoders.onnx.decoder_layers.write_packed`.

    ``states (tokens, width)`` of texts that have ``lengths`` tokens; ``past``: of the tokens before each text. Returns
    the outputs by name, as the graph gives them.
    """
    before, tokens = past.shape[2], len(states)
    whose = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
    positions = before + np.arange(tokens) - starts
    bias = np.zeros((1, 1, tokens, before + tokens), np.float32)
    bias[0, 0, :, before:][whose[:, None] != whose[None, :]] = _NOTHING
    total = before + tokens
    found = session.run(
        list(outputs),
        {
            "states": states[None],
            "past": past,
            "positions": positions[None],
            "bias": bias,
            "last": np.array([total - 1], np.int32),
            "total tokens": np.array([total], np.int32),
        },
    )
    return dict(zip(outputs, found, strict=True))
