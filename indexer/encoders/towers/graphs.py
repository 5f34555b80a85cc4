"""Makes the graphs of the picture and sound towers, their heads and their media tokens, and compares them with torch.

Each is traced from the module that torch runs, for one input at a time. Knows nothing of rerankers' languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from indexer.encoders.clap.tower import ClapTower
from indexer.encoders.onnx.exporting import LEAST_COSINE, OUTPUT, export_module, least_cosine
from indexer.encoders.onnx.head import OnnxHead
from indexer.encoders.onnx.head_graph import write_head
from indexer.encoders.onnx.media_side import SOURCES, TOKENS, TOWER
from indexer.encoders.onnx.store import NoOnnxForm
from indexer.encoders.specs import ClipSpec, EncoderConfig
from indexer.encoders.towers.audio import GRID_FRAMES, AudioTower
from indexer.encoders.towers.image import ImageTower
from indexer.encoders.towers.load import load_heads
from indexer.encoders.towers.trunk import Trunk

_RATE_HZ = 16_000


def write_image_tower(tower: ImageTower, grids: Sequence[int], folder: Path) -> None:
    """Write the trunks side by side: prepared pictures uint8 ``(1, h, w, 3)`` -> features, and the grids of ``grids``.

    ``tower`` is float32 on the CPU. Raises :class:`NoOnnxForm`.
    """
    examples = [[tower.prepare(picture)[None]] for picture in made_up_pictures()]
    names = [OUTPUT, *(f"grid-{number}" for number in grids)]
    widths = [trunk.width for trunk in tower.trunks if isinstance(trunk, Trunk)]
    export_module(_Pictures(tower, grids), folder / TOWER, examples, outputs=names, pieces=widths)


def write_audio_tower(tower: AudioTower | ClapTower, grids: Sequence[int], folder: Path) -> None:
    """Write the sound tower: a prepared window -> features, and of Whisper the grid of frames where it is wanted.

    ``tower`` is float32 on the CPU. Raises :class:`NoOnnxForm`.
    """
    examples = [[tower.prepare(sound)[None]] for sound in made_up_sounds()]
    module = tower if isinstance(tower, ClapTower) else _Whisper(tower, bool(grids))
    names = [OUTPUT, *(f"grid-{number}" for number in grids)]
    read = _Clap(module) if isinstance(module, ClapTower) else module
    export_module(read, folder / TOWER, examples, outputs=names)


def write_media_head(directory: Path, config: EncoderConfig, modality: str, folder: Path) -> None:
    """Write the head of a modality and compare it with torch's. Raises :class:`NoOnnxForm`."""
    write_head(directory, config, folder, modality)
    features = np.random.default_rng(0).normal(size=(8, config.heads[modality].inputs)).astype(np.float32)
    heads, hubness = load_heads(directory, config)
    with torch.inference_mode():
        rows = heads[modality].eval()(torch.from_numpy(features))
        rows = rows if hubness is None else hubness(rows, modality)
    least = least_cosine(OnnxHead(config, modality, folder, "").embeddings(features), rows.numpy())
    if not least >= LEAST_COSINE:
        raise NoOnnxForm(f"head of {modality}: its graph gives something else (cosine {least:.6f})")


def write_tokens(compressor: nn.Module, sources: Any, folder: Path) -> None:
    """Write the compressor: joined rows ``(1, width)`` and grids -> media tokens float32 ``(1, count, width)``.

    ``sources``: the reranker's :class:`MediaSources`. Raises :class:`NoOnnxForm`.
    """
    random = np.random.default_rng(0)
    shapes = [(1, sum(sources.rows)), *((1, *one) for one in zip(sources.tokens, sources.widths, strict=True))]
    examples = [[random.normal(size=shape).astype(np.float32) for shape in shapes] for _ in range(3)]
    export_module(_Compressor(compressor, sources), folder / TOKENS, examples, inputs=SOURCES[: len(shapes)])


def made_up_pictures() -> list[Image.Image]:
    """Squares in colours, a slope of greys, and white: an upright, a broad and a small picture."""
    squares = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    slope = np.linspace(0, 255, 300).astype(np.uint8)
    grey = np.repeat(np.tile(slope, (180, 1))[..., None], 3, axis=2)
    return [
        Image.fromarray(np.kron(squares, np.ones((30, 30, 1), dtype=np.uint8))),
        Image.fromarray(grey),
        Image.new("RGB", (20, 31), "white"),
    ]


def made_up_sounds() -> list[NDArray[np.float32]]:
    """Two tones in noise of ten seconds, a short tone that fades, and silence."""
    time = np.arange(10 * _RATE_HZ) / _RATE_HZ
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(time))
    tones = 0.4 * np.sin(2 * np.pi * 440 * time) + 0.2 * np.sin(2 * np.pi * 1_310 * time)
    fading = np.sin(2 * np.pi * 900 * time[:8_000]) * np.linspace(1, 0, 8_000)
    return [one.astype(np.float32) for one in (tones + noise, fading, np.zeros(16_000))]


class _Pictures(nn.Module):
    """Trunks side by side, with the scaling to each one's size as two matrices: ONNX has no antialiased scaling."""

    def __init__(self, tower: ImageTower, grids: Sequence[int]) -> None:
        super().__init__()
        self.trunks, self.grids = tower.trunks, tuple(grids)
        for number, trunk in enumerate(tower.trunks):
            assert isinstance(trunk, Trunk)
            side = trunk.spec.size_px
            if side != tower.size_px and not isinstance(trunk.spec, ClipSpec):
                unit = torch.eye(tower.size_px)[None, None]
                scale = nn.functional.interpolate(
                    unit, size=(side, tower.size_px), mode="bicubic", antialias=True
                )  # down the columns alone
                self.register_buffer(f"scale_{number}", scale[0, 0], persistent=False)

    def forward(self, stacked: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pictures = stacked.permute(0, 3, 1, 2).float() / 255.0
        rows, found = [], []
        for number, trunk in enumerate(self.trunks):
            assert isinstance(trunk, Trunk)
            pixels = (pictures - trunk.get_buffer("mean")) / trunk.get_buffer("std")
            scale = getattr(self, f"scale_{number}", None)
            if scale is not None:
                pixels = scale @ pixels @ scale.T
            if number in self.grids:
                row, grid = trunk.with_grid(pixels)
                found.append(grid)
            else:
                row = trunk(pixels)
            rows.append(row)
        return (torch.cat(rows, dim=1), *found)


class _Whisper(nn.Module):
    """The Whisper tower, with the means over frames as a matrix."""

    pool: torch.Tensor

    def __init__(self, tower: AudioTower, with_grid: bool) -> None:
        super().__init__()
        self.tower, self.with_grid = tower, with_grid
        frames = torch.eye(tower.frames // 2)[None]
        self.register_buffer("pool", nn.functional.adaptive_avg_pool1d(frames, GRID_FRAMES)[0].T, persistent=False)

    def forward(self, stacked: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows, last, held = self.tower.read(stacked)
        if not self.with_grid:
            return (rows,)
        return rows, (self.pool @ (last * held)) / (self.pool @ held).clamp(min=1e-3)


class _Clap(nn.Module):
    def __init__(self, tower: ClapTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, stacked: torch.Tensor) -> torch.Tensor:
        return self.tower.read(stacked)


class _Compressor(nn.Module):
    def __init__(self, compressor: nn.Module, sources: Any) -> None:
        super().__init__()
        self.compressor, self.sources = compressor, sources

    def forward(self, rows: torch.Tensor, *grids: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.compressor(self.sources.split(rows, grids))
        return tokens.float()
