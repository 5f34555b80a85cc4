"""Spectrograms in mel bands by NumPy, as Whisper's and CLAP's feature extractors compute them.

The formulas are those of librosa and torchaudio: a periodic Hann window, frames centred on their time, power of each
frequency, triangular bands. Imports neither torch nor transformers. Knows nothing of models or rates of sounds.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scale = Literal["htk", "slaney"]

#: Power below which there is nothing, so that its logarithm exists.
FLOOR = 1e-10
#: Slaney's scale is linear up to this frequency, which is mel 15.
_LINEAR_HZ, _LINEAR_MEL = 1_000.0, 15.0
_STEP = np.log(6.4) / 27.0
#: Frames that are transformed together: of 1,024 samples, 8 MB.
_FRAMES_AT_ONCE = 1_000


@cache
def mel_bands(bins: int, bands: int, low_hz: float, high_hz: float, rate_hz: int, scale: Scale) -> NDArray[np.float64]:
    """Triangular bands, float64 ``(bins, bands)``; Slaney's have an area of one, HTK's a height of one.

    Raises ``ValueError`` where ``low_hz`` is over ``high_hz``, or there are fewer than two frequencies.
    """
    if bins < 2:
        raise ValueError(f"a spectrum of {bins} frequencies has no bands")
    if low_hz > high_hz:
        raise ValueError(f"the lowest frequency {low_hz:g} Hz is over the highest, {high_hz:g} Hz")
    ends = np.array([low_hz, high_hz], dtype=np.float64)
    low, high = _mel(ends, scale)
    centres = _hertz(np.linspace(low, high, bands + 2), scale)
    frequencies = np.linspace(0, rate_hz // 2, bins)
    widths = np.diff(centres)
    slopes = centres[None, :] - frequencies[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # bands without a width are never reached
        found = np.maximum(0.0, np.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]))
        if scale == "slaney":
            found = found * (2.0 / (centres[2:] - centres[:-2]))
    return np.asarray(found, dtype=np.float64)


def mel_power(samples: NDArray[np.float32], bands: NDArray[np.float64], window: int, hop: int) -> NDArray[np.float64]:
    """Samples ``(n,)`` -> power in each band, float64 ``(1 + n // hop, bands)``, at least :data:`FLOOR`.

    Frames are ``window`` samples long and ``hop`` apart, the first one centred on the first sample; past its ends the
    sound is mirrored.
    """
    padded = np.pad(samples, window // 2, mode="reflect").astype(np.float64)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    shape = np.hanning(window + 1)[:-1]
    parts = []
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        spectrum = np.fft.rfft(frames[start : start + _FRAMES_AT_ONCE] * shape, axis=1)
        parts.append((spectrum.real**2 + spectrum.imag**2) @ bands)
    return np.maximum(FLOOR, np.concatenate(parts))


def _mel(hertz: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + hertz / 700.0))
    above = _LINEAR_MEL + np.log(np.maximum(hertz, _LINEAR_HZ) / _LINEAR_HZ) / _STEP
    return np.where(hertz >= _LINEAR_HZ, above, 3.0 * hertz / 200.0)


def _hertz(mels: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mels / 2595.0) - 1.0))
    above = _LINEAR_HZ * np.exp(_STEP * (np.maximum(mels, _LINEAR_MEL) - _LINEAR_MEL))
    return np.where(mels >= _LINEAR_MEL, above, 200.0 * mels / 3.0)
