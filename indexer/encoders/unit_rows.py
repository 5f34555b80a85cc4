"""Inputs through a tower of a library's own model, some at a time -> embeddings of unit length. Knows no library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from indexer.errors import ModelError
from indexer.items import Embeddings


def unit_rows(
    inputs: Sequence[Any], at_once: int, run: Callable[[Sequence[Any]], torch.Tensor], *, dim: int, spec: str
) -> Embeddings:
    """``run`` on ``at_once`` of the inputs at a time -> float32 ``(n, dim)``, unit L2 rows, in input order.

    Raises :class:`ModelError` where the model ``spec`` gives rows that are not ``dim`` wide.
    """
    if not len(inputs):
        return np.zeros((0, dim), dtype=np.float32)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(inputs), at_once):
            rows = run(inputs[start : start + at_once]).float()
            parts.append(torch.nn.functional.normalize(rows, dim=-1).cpu())  # (n, dim)
    found = np.asarray(torch.cat(parts).numpy(), dtype=np.float32)
    if found.shape[1] != dim:
        raise ModelError(f"model {spec}: gives {found.shape[1]} components, its configuration says {dim}")
    return found
