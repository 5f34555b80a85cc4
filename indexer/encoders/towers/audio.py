"""The sound tower: a locked Whisper encoder, read out over a window of sound; and the door to the other kind, CLAP.

A window of up to ``window_s`` seconds becomes a log-mel spectrogram (Whisper's own), padded with silence to the window;
the encoder's positions are cut to that length, so that a short sound does not pay for 30 s. One feature row is the
mean over the frames that hold sound of every layer's output, and their standard deviation in the last. The same
sound always gives the same row (no random cropping). Knows nothing of text or of the shared space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from indexer.encoders.specs import AudioSpec, ClapSpec, WhisperSpec
from indexer.encoders.towers.preparing import WhisperPreparing
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.items import Samples

if TYPE_CHECKING:
    from indexer.encoders.clap.tower import ClapTower

GRID_FRAMES = 50
"""Frames of a window that a reranker's compressor reads: of ten seconds, 0.2 s each."""


def open_audio_tower(spec: AudioSpec) -> AudioTower | ClapTower:
    """The tower that a specification names, with random weights: ``load`` takes the real ones."""
    if isinstance(spec, ClapSpec):
        from indexer.encoders.clap.tower import ClapTower

        return ClapTower(spec)
    return AudioTower(spec)


class AudioTower(nn.Module):
    """A Whisper encoder with its read-out: ``width`` features a window; locked and in eval mode."""

    def __init__(self, spec: WhisperSpec) -> None:
        super().__init__()
        ensure_torchvision()
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        self.spec = spec
        self.sounds = WhisperPreparing(spec)
        self.frames = self.sounds.frames  # of mel; the encoder halves them
        config = WhisperConfig(
            d_model=spec.width,
            encoder_layers=spec.layers,
            encoder_attention_heads=spec.heads,
            encoder_ffn_dim=4 * spec.width,
            num_mel_bins=spec.mel_bins,
            max_source_positions=self.frames // 2,
        )
        self.encoder = WhisperEncoder(config)
        self.width = spec.width * (spec.layers + 1)
        self.eval().requires_grad_(False)

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take a Whisper encoder's weights (transformers' names); its positions are cut to the window."""
        weights = dict(weights)
        positions = weights["embed_positions.weight"]
        weights["embed_positions.weight"] = positions[: self.frames // 2]
        self.encoder.load_state_dict(weights)

    def prepare(self, window: Samples) -> NDArray[np.float32]:
        """Mono float32 at 16 kHz, up to ``window_s`` -> ``(mel_bins + 1, frames)``; the last row marks sound with 1.

        Thread-safe.
        """
        return self.sounds.prepare(window)

    def forward(self, prepared: Sequence[NDArray[Any]]) -> torch.Tensor:
        """Prepared windows -> float32 ``(n, width)``, not normalised, on the tower's device; differentiable."""
        if not len(prepared):
            return torch.zeros((0, self.width), device=next(self.parameters()).device)
        return self.read(self._stacked(prepared))[0]

    @torch.inference_mode()
    def with_grids(self, prepared: Sequence[NDArray[Any]]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """As :meth:`forward`, and one grid: means of the last layer's frames, float32 ``(n, GRID_FRAMES, width)``.

        Frames past the sound's end are zeros.
        """
        rows, last, held = self.read(self._stacked(prepared))
        grid = nn.functional.adaptive_avg_pool1d((last * held).transpose(1, 2), GRID_FRAMES).transpose(1, 2)
        share = nn.functional.adaptive_avg_pool1d(held.transpose(1, 2), GRID_FRAMES).transpose(1, 2)
        return rows, [grid / share.clamp(min=1e-3)]

    def _stacked(self, prepared: Sequence[NDArray[Any]]) -> torch.Tensor:
        return torch.from_numpy(np.stack(prepared)).to(next(self.parameters()).device)

    def read(self, stacked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Stacked windows ``(n, mel_bins + 1, frames)`` -> feature rows ``(n, width)``, the last layer's frames
        float32 ``(n, f, width)``, and where sound is ``(n, f, 1)``.
        """
        mel, marks = stacked[:, :-1].to(next(self.parameters()).dtype), stacked[:, -1]
        output = self.encoder(mel, output_hidden_states=True)
        held = nn.functional.max_pool1d(marks[:, None], 2)[:, 0][:, :, None]  # (n, frames / 2, 1)
        count = held.sum(dim=1).clamp(min=1.0)  # (n, 1)
        layers = [*output.hidden_states[1:-1], output.last_hidden_state]
        means = [(layer.float() * held).sum(dim=1) / count for layer in layers]  # each (n, width)
        last = output.last_hidden_state.float()
        variance = (((last - means[-1][:, None]) ** 2) * held).sum(dim=1) / count
        return torch.cat([*means, variance.sqrt()], dim=1), last, held

    @torch.inference_mode()
    def features(self, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """As :meth:`forward`, as an array, without gradients."""
        return np.asarray(self(prepared).cpu().numpy(), dtype=np.float32)
