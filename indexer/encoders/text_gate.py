"""Which texts a language model can read: another tower, which reads more languages, judges by its own features.

A text that the gated tower can't read goes without it: the mean of its features over the training texts stands in their
place, so that only the other towers say what the text means. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.specs import GateSpec

Rows = NDArray[np.float32]


class ReadsTexts(Protocol):
    """A text tower."""

    def features(self, texts: Sequence[str]) -> Rows:
        """Texts -> float32 ``(n, width)``."""


@dataclass(frozen=True)
class TextGate:
    """A logistic regression over the judging tower's features, cut at one half."""

    spec: GateSpec
    weight: Rows
    """``(width of the judging tower,)``."""
    bias: float
    fill: Rows
    """What stands for the features of the gated tower, ``(its width,)``."""

    def reads(self, judging: Rows) -> NDArray[np.bool_]:
        """The judging tower's features ``(n, width)`` -> whether the gated tower can read each text."""
        found: NDArray[np.bool_] = judging @ self.weight + self.bias >= 0
        return found


def joined_features(towers: Sequence[ReadsTexts], texts: Sequence[str], gate: TextGate | None) -> Rows:
    """Features of all towers side by side, ``(n, width)``; the gated one reads only the texts that it can."""
    if gate is None:
        return np.concatenate([tower.features(texts) for tower in towers], axis=1)
    parts = {n: tower.features(texts) for n, tower in enumerate(towers) if n != gate.spec.gated}
    readable: list[int] = np.flatnonzero(gate.reads(parts[gate.spec.judge])).tolist()
    gated = np.tile(gate.fill, (len(texts), 1))
    if readable:
        gated[readable] = towers[gate.spec.gated].features([texts[place] for place in readable])
    return np.concatenate([gated if n == gate.spec.gated else parts[n] for n in range(len(towers))], axis=1)
