"""Blocks of sound, of any rate and any channels -> mono samples at 16,000 Hz. Knows nothing of files' formats."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from indexer.files import media_error
from indexer.items import Samples
from indexer.limits import SAMPLE_RATE_HZ, MediaLimits
from indexer.media.stopwatch import Stopwatch

#: Telephones have 8,000 Hz, the finest studio files 768,000 Hz; beyond these a header is damaged.
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
MAX_CHANNELS = 64
#: A sound up to this long is kept while it is decoded; a longer one is decoded twice, for its peak and its windows.
KEPT_S = 600.0
#: Of the energy of the loudest channel (-40 dB).
_LEAST_KEPT = 1e-4


@dataclass(slots=True)
class Collector:
    """Takes a sound block by block: ``start``, ``add`` ..., ``finish``. Raises ``MediaError`` at the first wrong thing.

    Only what is at 16,000 Hz is kept, so memory grows with the duration and not with rate or channels; and of a sound
    that is longer than ``keep_s`` nothing but its length and its peak.
    """

    path: Path
    limits: MediaLimits
    watch: Stopwatch
    keep_s: float = math.inf
    rate_hz: int = 0
    heard: int = 0
    """Frames taken so far, at the file's rate."""
    count: int = 0
    """Samples at 16,000 Hz so far."""
    high: float = -math.inf
    low: float = math.inf
    buffer: Samples | None = field(default_factory=lambda: np.empty(0, np.float32))
    """None for a sound that is not kept."""
    resampler: Any = None
    channel: int | None = None
    """Taken instead of the mean of all, where :attr:`louder_channel` of an earlier reading says so."""
    mixed_energy: float = 0.0
    energies: NDArray[np.float64] = field(default_factory=lambda: np.zeros(MAX_CHANNELS))
    """Sums of squares: of the mean of all channels, and of each channel."""
    before_s: float = 0.0
    """Of the sounds of a joined file that are finished."""

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
        promised = max(0, promised_frames) * SAMPLE_RATE_HZ // rate_hz
        # Memory is taken when it is written to, so a header that exaggerates costs nothing.
        if self.count == 0:
            self.buffer = np.empty(promised + SAMPLE_RATE_HZ, np.float32) if self._is_kept(promised) else None

    def add(self, block: Samples) -> Samples:
        """Float32 ``(frames, channels)``; gives what is new at 16,000 Hz, not scaled."""
        mono = self._mixed(block)
        if not np.isfinite(mono).all():
            at_s = self.before_s + (self.heard + int(np.argmin(np.isfinite(mono)))) / self.rate_hz
            raise media_error(
                self.path, f"holds samples that are not numbers (NaN or infinite, at {at_s:,.2f} s); export it again"
            )
        self.heard += len(mono)
        self._check_length(self.heard)
        self.watch.heard_s = self.before_s + self.heard / self.rate_hz
        self.watch.check()
        return self._keep(mono if self.resampler is None else self.resampler.resample_chunk(mono))

    def _mixed(self, block: Samples) -> Samples:
        channels = block.shape[1]
        if self.channel is not None:
            return np.ascontiguousarray(block[:, min(self.channel, channels - 1)])
        if channels == 1:
            return block[:, 0]
        mono: Samples = block.mean(axis=1, dtype=np.float32)
        with np.errstate(all="ignore"):  # what is no number is refused by ``add``
            energies = np.einsum("fc,fc->c", block, block, dtype=np.float64)
            self.mixed_energy += float(np.dot(mono, mono))
        self.energies[:channels] += energies
        return mono

    @property
    def louder_channel(self) -> int | None:
        """The loudest channel, where the channels cancel each other: their mean has no ``_LEAST_KEPT`` of its energy.

        A microphone wired the wrong way round, or a karaoke track, is silence when it is mixed. ``None`` otherwise.
        """
        loudest = int(np.argmax(self.energies))
        return loudest if self.mixed_energy < _LEAST_KEPT * self.energies[loudest] else None

    def end_part(self) -> Samples:
        """After the last block of one sound of a joined file: what is left of it, as ``add``. ``start`` may follow."""
        rest = np.empty(0, np.float32)
        if self.resampler is not None:
            rest = self._keep(self.resampler.resample_chunk(rest, last=True))
            self.resampler = None
        if self.rate_hz:
            self.before_s += self.heard / self.rate_hz
        self.heard = 0
        return rest

    def finish(self) -> Samples:
        """After the last block: what is left of it, as ``add``. Raises ``MediaError`` for a sound without samples."""
        rest = self.end_part()
        if self.count == 0:
            raise media_error(self.path, "holds no samples; record it again or remove it")
        return rest

    def samples(self) -> Samples | None:
        """All of a finished sound that was kept, in [-1, 1]: a sound beyond full scale is scaled down as a whole."""
        if self.buffer is None:
            return None
        samples = self.buffer[: self.count]
        if len(self.buffer) > 2 * self.count + SAMPLE_RATE_HZ:
            samples = samples.copy()
        return scaled(samples, self.peak)

    @property
    def peak(self) -> float:
        """The largest magnitude so far."""
        return max(self.high, -self.low)

    def _keep(self, samples: Samples) -> Samples:
        end = self.count + len(samples)
        if len(samples):
            self.high, self.low = max(self.high, float(samples.max())), min(self.low, float(samples.min()))
        if not self._is_kept(end):
            self.buffer = None
        if self.buffer is not None:
            if end > len(self.buffer):
                grown = np.empty(max(end, len(self.buffer) * 3 // 2), np.float32)
                grown[: self.count] = self.buffer[: self.count]
                self.buffer = grown
            self.buffer[self.count : end] = samples
        self.count = end
        return samples

    def _is_kept(self, count: int) -> bool:
        return count <= self.keep_s * SAMPLE_RATE_HZ

    def _check_length(self, frames: int) -> None:
        hours = (self.before_s + frames / self.rate_hz) / 3600
        if hours > self.limits.max_audio_hours:
            raise media_error(
                self.path,
                f"{hours:,.2f} h is over the {self.limits.max_audio_hours:,g} h limit;"
                " raise --max-audio-hours or cut it",
            )


def scaled(samples: Samples, peak: float) -> Samples:
    """Samples of a sound whose largest magnitude is ``peak``, in [-1, 1]; in place."""
    if peak > 1.0:
        samples /= np.float32(peak)
        np.clip(samples, -1.0, 1.0, out=samples)  # the last bit of the division
    return samples
