"""Log-mel in NumPy against the feature extractors of transformers."""

from __future__ import annotations

import numpy as np
import pytest

from indexer.encoders.clap.sounds import ClapSounds
from indexer.encoders.log_mel import mel_bands
from indexer.encoders.specs import WhisperSpec
from indexer.encoders.towers.preparing import WhisperPreparing
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.errors import ModelError

ensure_torchvision()
from transformers import ClapFeatureExtractor, WhisperFeatureExtractor  # noqa: E402
from transformers.audio_utils import mel_filter_bank  # noqa: E402

RATE_HZ = 16_000


def sound(seconds: float) -> np.ndarray:
    count = round(seconds * RATE_HZ)
    noise = 0.05 * np.random.default_rng(0).standard_normal(count)
    return (0.5 * np.sin(np.arange(count) / 9) + noise).astype(np.float32)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_the_bands_are_those_of_transformers(scale: str) -> None:
    theirs = mel_filter_bank(513, 64, 50, 14_000, 48_000, norm="slaney" if scale == "slaney" else None, mel_scale=scale)
    np.testing.assert_allclose(mel_bands(513, 64, 50, 14_000, 48_000, scale), theirs, atol=1e-9)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [2.0, 0.7, 0.001])
def test_whispers_log_mel_is_its_extractors_and_sound_is_marked(seconds: float) -> None:
    prepared = WhisperPreparing(WhisperSpec("w", window_s=2.0)).prepare(sound(seconds))
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=2)
    theirs = extractor(sound(seconds), sampling_rate=RATE_HZ, return_tensors="np", device="cpu").input_features[0]
    assert prepared.shape == (81, 200) and prepared.dtype == np.float32
    np.testing.assert_allclose(prepared[:-1], theirs, atol=1e-4)
    assert prepared[-1].sum() == max(1, round(100 * seconds))


def test_a_window_of_a_part_of_a_second_has_all_its_frames() -> None:
    assert WhisperPreparing(WhisperSpec("w", window_s=2.4)).prepare(sound(2.4)).shape == (81, 240)


@pytest.mark.parametrize("truncation", ["fusion", "rand_trunc"])
@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
def test_claps_log_mel_is_its_extractors(truncation: str, padding: str) -> None:
    settings = {"truncation": truncation, "padding": padding, "sampling_rate": RATE_HZ, "max_length_s": 1}
    extractor = ClapFeatureExtractor(**settings, frequency_max=7_000)
    ours = ClapSounds({**settings, "frequency_max": 7_000}, 1.0, "it")
    for seconds in (1.0, 0.3, 0.001):
        theirs = extractor(sound(seconds), sampling_rate=RATE_HZ, return_tensors="np").input_features[0][0]
        np.testing.assert_allclose(ours.prepare(sound(seconds)), theirs, atol=1e-3)


@pytest.mark.parametrize("settings", [{"hop_length": 100.5}, {"frequency_min": 9_000.0, "frequency_max": 1_000.0}])
def test_settings_that_make_no_bands_are_named(settings: dict[str, float]) -> None:
    with pytest.raises(ModelError, match="CLAP x: its settings are no model"):
        ClapSounds(settings, 10.0, "CLAP x")
