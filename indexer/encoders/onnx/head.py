"""The head over a modality's towers in ONNX Runtime: features -> embeddings. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.onnx.hubness import correct_hubness, unit
from indexer.encoders.onnx.session import open_session
from indexer.encoders.onnx.store import graph_folder
from indexer.encoders.specs import HEADS, EncoderConfig
from indexer.encoders.text_gate import TextGate
from indexer.items import Embeddings

#: The bank of the other side, by modality.
BANKS = {"text": "pictures", "image": "texts", "audio": "texts"}
#: The file of the text towers' gate.
GATE = "gate.npz"


def head_folder(config: EncoderConfig, modality: str) -> Path:
    """Where the graph of a head lies."""
    content = [config.sha256[HEADS], asdict(config.heads[modality]), config.hubness is not None]
    if modality == "text" and config.gate is not None:
        content.append("with the gate")
    return graph_folder("head", *content, *([] if modality == "text" else [modality]))


class OnnxHead:
    """The head of a modality; its graph lies in ``folder``. Opened on first use."""

    def __init__(self, config: EncoderConfig, modality: str, folder: Path, remedy: str) -> None:
        self._config, self._modality = config, modality
        self._folder, self._remedy = folder, remedy

    def embeddings(self, features: NDArray[np.float32]) -> Embeddings:
        """Features ``(n, inputs)`` -> float32 ``(n, dim)``, unit rows, corrected against hubs where the model is."""
        (rows,) = self._session.run(["out"], {"features": features})
        hubness = self._config.hubness
        if hubness is None:
            return unit(rows)
        return correct_hubness(unit(rows), self._bank, hubness, self._modality)

    @cached_property
    def gate(self) -> TextGate | None:
        """Of the text towers; ``None`` where there is none."""
        if self._config.gate is None:
            return None
        with np.load(self._folder / GATE, allow_pickle=False) as parts:
            weight, fill = (np.asarray(parts[name], dtype=np.float32) for name in ("weight", "fill"))
            return TextGate(self._config.gate, weight, float(parts["bias"]), fill)

    @cached_property
    def _session(self) -> Any:
        return open_session(self._folder / "head.onnx", self._remedy, prepack=False)

    @cached_property
    def _bank(self) -> NDArray[np.float32]:
        bank = np.load(self._folder / f"{BANKS[self._modality]}.npy", allow_pickle=False)
        return np.asarray(bank, dtype=np.float32)
