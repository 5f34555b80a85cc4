"""Blocks of sound, of any rate and any channels -> mono samples at 16,000 Hz. Knows nothing of files' formats."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from indexer.files import media_error
from indexer.items import Samples
from indexer.limits import SAMPLE_RATE_HZ, MediaLimits

#: Telephones have 8,000 Hz, the finest studio files 768,000 Hz; beyond these a header is damaged.
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
MAX_CHANNELS = 64


@dataclass(slots=True)
class Collector:
    """Takes a sound block by block: ``start``, ``add`` ..., ``finish``. Raises ``MediaError`` at the first wrong thing.

    Only what is at 16,000 Hz is kept, so memory grows with the duration and not with rate or channels.
    """

    path: Path
    limits: MediaLimits
    rate_hz: int = 0
    heard: int = 0
    """Frames taken so far, at the file's rate."""
    kept: int = 0
    buffer: Samples = field(default_factory=lambda: np.empty(0, np.float32))
    resampler: Any = None

    def start(self, rate_hz: int, channels: int, promised_frames: int) -> None:
        """``promised_frames`` of the header, 0 if it has none: over the limit, nothing is read at all."""
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise media_error(
                self.path,
                f"a sample rate of {rate_hz:,} Hz is outside {MIN_RATE_HZ:,} to {MAX_RATE_HZ:,} Hz;"
                " its header is damaged: export it again",
            )
        if not 1 <= channels <= MAX_CHANNELS:
            raise media_error(
                self.path, f"{channels:,} channels are over the limit of {MAX_CHANNELS}; mix it down first"
            )
        self.rate_hz = rate_hz
        self._check_length(promised_frames)
        if rate_hz != SAMPLE_RATE_HZ:
            self.resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
        # Memory is taken when it is written to, so a header that exaggerates costs nothing.
        self.buffer = np.empty(self._resampled(promised_frames) + SAMPLE_RATE_HZ, np.float32)

    def add(self, block: Samples) -> None:
        """Float32 ``(frames, channels)``."""
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            at_s = (self.heard + int(np.argmin(np.isfinite(mono)))) / self.rate_hz
            raise media_error(
                self.path, f"holds samples that are not numbers (NaN or infinite, at {at_s:,.2f} s); export it again"
            )
        self.heard += len(mono)
        self._check_length(self.heard)
        self._keep(mono if self.resampler is None else self.resampler.resample_chunk(mono))

    def finish(self) -> Samples:
        """All of it, in [-1, 1]: a sound beyond full scale is scaled down as a whole."""
        if self.resampler is not None:
            self._keep(self.resampler.resample_chunk(np.empty(0, np.float32), last=True))
        if self.kept == 0:
            raise media_error(self.path, "holds no samples; record it again or remove it")
        samples = self.buffer[: self.kept]
        if len(self.buffer) > 2 * self.kept + SAMPLE_RATE_HZ:
            samples = samples.copy()
        peak = max(float(samples.max()), -float(samples.min()))
        if peak > 1.0:
            samples /= np.float32(peak)
            np.clip(samples, -1.0, 1.0, out=samples)  # the last bit of the division
        return samples

    def _keep(self, samples: Samples) -> None:
        end = self.kept + len(samples)
        if end > len(self.buffer):
            grown = np.empty(max(end, len(self.buffer) * 3 // 2), np.float32)
            grown[: self.kept] = self.buffer[: self.kept]
            self.buffer = grown
        self.buffer[self.kept : end] = samples
        self.kept = end

    def _resampled(self, frames: int) -> int:
        return max(0, frames) * SAMPLE_RATE_HZ // self.rate_hz

    def _check_length(self, frames: int) -> None:
        hours = frames / self.rate_hz / 3600
        if hours > self.limits.max_audio_hours:
            raise media_error(
                self.path,
                f"{hours:,.2f} h is over the {self.limits.max_audio_hours:,g} h limit;"
                " raise --max-audio-hours or cut it",
            )
