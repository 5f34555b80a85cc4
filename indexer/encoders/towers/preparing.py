"""What stands before a tower's first layer: pictures to pixels, sounds to log-mel. NumPy and Pillow, without torch.

The same code prepares for the torch towers and for their graphs. Thread-safe. Knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexer.encoders.clap.sounds import ClapSounds
from indexer.encoders.fitting import crop_square, fit_on_white
from indexer.encoders.log_mel import mel_bands, mel_power
from indexer.encoders.openclip.pictures import Pictures
from indexer.encoders.specs import AudioSpec, ClapSpec, ClipSpec, TrunkSpec, WhisperSpec
from indexer.errors import ModelError
from indexer.items import Samples

RATE_HZ = 16_000
HOP_SAMPLES = 160
"""Whisper's: 100 mel frames a second, 50 encoder frames."""
_WINDOW_SAMPLES = 400
_FITS = {"pad": fit_on_white, "crop": crop_square}


class PicturePreparing:
    """What the trunks ``specs`` read of a picture: a square at the largest of their sizes.

    Raises :class:`ModelError` for no trunk, for trunks that fit pictures differently, and for a whole CLIP model beside
    another trunk.
    """

    def __init__(self, specs: Sequence[TrunkSpec]) -> None:
        if not specs:
            raise ModelError("picture tower: has no trunk; name at least one")
        whole = [spec for spec in specs if isinstance(spec, ClipSpec)]
        if whole and len(specs) > 1:
            raise ModelError(f"picture tower: {whole[0].arch} is a whole CLIP model; leave the other trunks out")
        fits = {spec.fit: spec.arch for spec in specs}
        if len(fits) > 1:
            named = " and ".join(f"{arch} (fit = {fit!r})" for fit, arch in fits.items())
            raise ModelError(f"picture tower: {named} fit pictures differently; give all trunks the same fit")
        if specs[0].fit not in _FITS:
            raise ModelError(f"picture tower: fit {specs[0].fit} is none of {', '.join(_FITS)}")
        self.fit = specs[0].fit
        self.size_px = max(spec.size_px for spec in specs)
        self._own = Pictures(whole[0].preprocess) if whole else None

    def prepare(self, picture: Image.Image) -> NDArray[np.uint8]:
        """RGB picture of any size -> uint8 ``(size_px, size_px, 3)``, as ``fit`` says.

        For a whole CLIP model as that prepares it, ``(height, width, 3)``.
        """
        if self._own is not None:
            return self._own.prepare(picture)
        return _FITS[self.fit](picture, self.size_px)


class WhisperPreparing:
    """Whisper's log-mel over a window of sound, with a row that marks where sound is."""

    def __init__(self, spec: WhisperSpec) -> None:
        self._limit = round(spec.window_s * RATE_HZ)
        self.frames = round(spec.window_s * RATE_HZ / HOP_SAMPLES)
        # whole seconds, as Whisper's own extractor has it
        self._seconds = max(round(spec.window_s), -(-self.frames * HOP_SAMPLES // RATE_HZ))
        self._bands = mel_bands(_WINDOW_SAMPLES // 2 + 1, spec.mel_bins, 0.0, 8_000.0, RATE_HZ, "slaney")

    def prepare(self, window: Samples) -> NDArray[np.float32]:
        """Mono float32 at 16 kHz, up to ``window_s`` -> ``(mel_bins + 1, frames)``; the last row marks sound with 1."""
        samples = np.asarray(window[: self._limit], dtype=np.float32)
        whole = np.zeros(self._seconds * RATE_HZ, dtype=np.float32)
        whole[: len(samples)] = samples
        power = mel_power(whole, self._bands, _WINDOW_SAMPLES, HOP_SAMPLES)[:-1]  # (frames, mel_bins)
        mel = np.log10(power)
        mel = (np.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0
        marks = np.zeros((1, self.frames), dtype=np.float32)
        marks[0, : max(1, -(-len(samples) // HOP_SAMPLES))] = 1.0
        return np.concatenate([mel.T[:, : self.frames].astype(np.float32), marks])


def open_sounds(spec: AudioSpec) -> Any:
    """What has ``prepare`` for the sound tower of a specification."""
    if isinstance(spec, ClapSpec):
        return ClapSounds(spec.extractor, spec.window_s, f"CLAP {spec.weights}")
    return WhisperPreparing(spec)
