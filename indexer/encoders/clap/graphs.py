"""Makes the graphs of a CLAP model of transformers: its sound half from log-mel on, its text half from tokens on.

Traced from the modules that transformers built. Knows nothing of where they are kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from indexer.encoders.clap.tower import ClapTower
from indexer.encoders.onnx.exporting import export_module
from indexer.encoders.onnx.library_side import TOWER
from indexer.encoders.onnx.texts import TEXTS, Reading, backend_of, write_texts

_RATE_HZ = 16_000


def write_sounds(tower: ClapTower, folder: Path) -> None:
    """Write the sound half: log-mel float32 ``(1, frames, bands)`` -> ``(1, dim)``; ``tower`` is float32 on the CPU.

    Raises :class:`NoOnnxForm`.
    """
    time = np.arange(_RATE_HZ) / _RATE_HZ
    noise = 0.1 * np.random.default_rng(0).standard_normal(_RATE_HZ)
    sounds = [0.4 * np.sin(2 * np.pi * 600 * time) + noise, np.sin(2 * np.pi * 90 * time[:4_000]), 0.0 * time]
    examples = [[tower.prepare(sound.astype(np.float32))[None]] for sound in sounds]
    export_module(_Sounds(tower), folder / TOWER, examples)


def write_text_half(tokenizer: Any, model: Any, folder: Path) -> None:
    """Write the text half: token ids int64 ``(1, length)`` -> ``(1, dim)``, and the tokenizer; ``model`` as above.

    Raises :class:`NoOnnxForm`.
    """
    backend, before, after = backend_of(tokenizer)
    most = max(1, int(tokenizer.model_max_length) - len(before) - len(after))

    def theirs(text: str) -> list[int]:
        return [int(one) for one in tokenizer([text], truncation=True)["input_ids"][0]]

    texts = write_texts(folder, backend, Reading("", before, after, most), theirs)
    export_module(_Texts(model), folder / TOWER, [[texts.ids(text)] for text in TEXTS], varying=1)


class _Sounds(nn.Module):
    def __init__(self, tower: ClapTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        return self.tower.read(mel)


class _Texts(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).text_embeds
        return rows
