"""Makes the graphs of a model's text side from its weights, and checks them against the torch towers.

Imports ``onnx`` and ``gguf``; the torch tower that a graph is compared with is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from indexer.encoders.onnx.decoder_graph import write_decoder
from indexer.encoders.onnx.encoder_graph import write_encoder
from indexer.encoders.onnx.head_graph import write_head
from indexer.encoders.onnx.store import NoOnnxForm
from indexer.encoders.onnx.subwords import write_subwords
from indexer.encoders.onnx.text_tower import OnnxTextTower
from indexer.encoders.specs import EncoderConfig, TextSpec
from indexer.encoders.weights.base_weights import BASE_WEIGHTS, GGUF_NAME, base_directory

__all__ = ["NoOnnxForm", "make_head", "make_tower"]

#: The least cosine of a text's features in ONNX Runtime and in torch.
LEAST_COSINE = 0.9999
_TEXTS = (
    "a red bicycle in the snow",
    "dog",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "思い出の写真, 2019!",
    "",
    "the sound of rain on a tin roof while somebody plays the piano next door, and a child laughs " * 12,
)


def make_tower(spec: TextSpec, open_torch: Callable[[TextSpec, Path], Any], folder: Path) -> None:
    """Write the graph of a tower's language model and compare what it gives with the tower of ``open_torch``.

    Raises :class:`NoOnnxForm` for a model that has no graph here, or whose graph gives something else.
    """
    directory, form = base_directory(spec.source), BASE_WEIGHTS[spec.source].form
    gguf_file = directory / GGUF_NAME
    if form != "safetensors" and not gguf_file.is_file():
        raise NoOnnxForm(f"{directory}: its {GGUF_NAME} was not kept; fetch it again")
    if form == "gguf":
        write_decoder(gguf_file, folder, spec.layers)
    else:
        write_encoder(directory, folder, spec.layers, gguf_file if form == "e5" else None)
    write_subwords(directory / "tokenizer.json", folder)
    spec = replace(spec, adapter="", lora=None)
    _check(spec, open_torch(spec, directory), folder, directory)


def make_head(directory: Path, config: EncoderConfig, folder: Path) -> None:
    """Write the graph of the head over the text towers."""
    write_head(directory, config, folder, "text")


def _check(spec: TextSpec, torchs: Any, folder: Path, directory: Path) -> None:
    ours = OnnxTextTower(spec, folder, directory / "tokenizer.json")
    if [ours.token_ids(text) for text in _TEXTS] != [torchs.token_ids(text) for text in _TEXTS]:
        raise NoOnnxForm(f"{directory}: its tokenizer reads texts otherwise than tokenizer.json says")
    rows = [np.asarray(tower.features(_TEXTS), dtype=np.float64) for tower in (ours, torchs)]
    lengths = np.linalg.norm(rows[0], axis=1) * np.linalg.norm(rows[1], axis=1)
    cosines = (rows[0] * rows[1]).sum(axis=1) / lengths
    if not cosines.min() >= LEAST_COSINE:  # NaN, too
        raise NoOnnxForm(f"{directory}: its graph gives other features (cosine {cosines.min():.6f})")
