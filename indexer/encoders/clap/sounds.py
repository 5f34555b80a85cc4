"""CLAP's way of making a sound its tower's input, in NumPy: transformers' ``ClapFeatureExtractor`` without its chance.

Shorter sounds are repeated and padded to the model's window, as published; longer ones are cut. Thread-safe. Imports
neither torch nor transformers. Knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.encoders.log_mel import mel_bands, mel_power
from indexer.encoders.weights.untrusted import extractor_settings, read_json_object
from indexer.errors import ModelError
from indexer.items import Samples

RATE_HZ = 16_000
"""What a sound comes in."""
#: Published settings, where a model's files say nothing.
DEFAULTS: dict[str, Any] = {
    "feature_size": 64,
    "sampling_rate": 48_000,
    "hop_length": 480,
    "max_length_s": 10,
    "fft_window_size": 1_024,
    "padding_value": 0.0,
    "frequency_min": 0,
    "frequency_max": 14_000,
    "top_db": None,
    "truncation": "fusion",
    "padding": "repeatpad",
}
SETTINGS = tuple(DEFAULTS)


class ClapSounds:
    """The extractor with ``settings``; what they lack is as published. A sound is cut at ``window_s``.

    Raises :class:`ModelError` for settings that are none of an extractor.
    """

    def __init__(self, settings: Mapping[str, Any], window_s: float, name: str) -> None:
        self.settings = {**DEFAULTS, **extractor_settings(dict(settings), SETTINGS)}
        self.rate_hz: int = self.settings["sampling_rate"]
        self.max_length_s: float = self.settings["max_length_s"]
        self.hop: int = self.settings["hop_length"]
        self.bands: int = self.settings["feature_size"]
        self.limit = round(self.max_length_s * self.rate_hz)
        """Samples of the model's window, at its own rate."""
        self._cut = round(window_s * RATE_HZ)
        self._window: int = self.settings["fft_window_size"]
        if not all(isinstance(size, int) for size in (self.rate_hz, self.hop, self.bands, self._window)):
            raise ModelError(f"{name}: its settings are no model (a rate or a size is no whole number)")
        low, high = self.settings["frequency_min"], self.settings["frequency_max"]
        scale: Any = "htk" if self.settings["truncation"] == "fusion" else "slaney"
        try:
            self._filters = mel_bands((self._window >> 1) + 1, self.bands, low, high, self.rate_hz, scale)
        except (TypeError, ValueError) as error:
            raise ModelError(f"{name}: its settings are no model ({error})") from error

    def prepare(self, window: Samples) -> NDArray[np.float32]:
        """Mono float32 at 16 kHz -> log-mel in dB, float32 ``(frames, bands)``.

        The sound is brought to the model's rate (48 kHz in published ones); what was above 8 kHz is not in it.
        """
        samples = np.asarray(window[: self._cut], dtype=np.float32)
        if self.rate_hz != RATE_HZ and len(samples):
            import soxr

            samples = np.asarray(soxr.resample(samples, RATE_HZ, self.rate_hz), dtype=np.float32)
        samples = samples[: self.limit]
        if not len(samples):
            samples = np.zeros(1, dtype=np.float32)  # silence: nothing can't be repeated
        power = mel_power(self._filled(samples), self._filters, self._window, self.hop)
        return np.asarray(10.0 * np.log10(power), dtype=np.float32)

    def _filled(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """As long as the model's window."""
        if len(samples) < self.limit and self.settings["padding"] in ("repeat", "repeatpad"):
            whole = self.limit // len(samples)
            samples = np.tile(samples, whole + (self.settings["padding"] == "repeat"))[: self.limit]
        return np.pad(samples, (0, self.limit - len(samples)))


def published_settings(directory: Path) -> dict[str, Any] | None:
    """The settings of a model's directory, the processor's if it has them, as transformers looks; ``None`` for none.

    Raises :class:`ModelError` for a value that no extractor has, and as :func:`read_json_object` does.
    """
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (directory / name).is_file():
            document = read_json_object(directory / name)
            if name == "preprocessor_config.json" or "feature_extractor" in document:
                return extractor_settings(document, SETTINGS)
    return None


def settings_of(directory: Path, fuses: bool) -> dict[str, Any]:
    """All settings of a model's directory; without a file of them the published ones, by whether the model fuses."""
    found = published_settings(directory)
    return {**DEFAULTS, **({"truncation": "fusion" if fuses else "rand_trunc"} if found is None else found)}
