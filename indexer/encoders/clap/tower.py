"""The other sound tower: the audio half of a CLAP model (Wu et al. 2023, arXiv 2211.06687) of transformers.

One row is the projected embedding, where CLAP was trained to meet texts; not normalised. CLAP's own way of reading is
random in two places, and this tower in neither: a sound longer than the model's window is cropped at a random place
(here no sound is longer: it is cut at ``window_s``), and of a batch of short sounds a random one is marked as "longer"
and goes through the fusion branch (here none is). So a row depends on its sound alone. Shorter sounds are repeated and
padded to the model's window, as published. Knows nothing of text or of the shared space.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import nn

from indexer.encoders.specs import ClapSpec
from indexer.encoders.weights.tensor_files import first_line, read_tensors
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.encoders.weights.untrusted import clean_config, extractor_settings, read_json_object
from indexer.errors import ModelError, WeightsMissing
from indexer.items import Samples

_RATE_HZ = 16_000  # what prepare_audio is given
_FILES = ("model.safetensors", "pytorch_model.bin")
_HALF = ("audio_model.", "audio_projection.")
_SETTINGS = (
    "feature_size",
    "sampling_rate",
    "hop_length",
    "max_length_s",
    "fft_window_size",
    "padding_value",
    "frequency_min",
    "frequency_max",
    "top_db",
    "truncation",
    "padding",
)


class ClapTower(nn.Module):
    """CLAP's audio half: ``width`` features a window, its ``projection_dim``; locked and in eval mode.

    Raises :class:`ModelError` for settings that transformers refuses or that don't go together.
    """

    def __init__(self, spec: ClapSpec) -> None:
        super().__init__()
        ensure_torchvision()
        from huggingface_hub.errors import StrictDataclassError
        from transformers import ClapAudioConfig, ClapAudioModelWithProjection, ClapFeatureExtractor

        self.spec = spec
        extractor: Any = ClapFeatureExtractor
        try:
            self.extractor = extractor(**extractor_settings(spec.extractor, _SETTINGS))
            config = ClapAudioConfig(**clean_config(spec.config, Path(spec.weights), ClapAudioConfig))
            # whole samples: the extractor pads to it, and its own product may be a float
            self.limit = self.extractor.nb_max_samples = round(
                self.extractor.max_length_s * self.extractor.sampling_rate
            )
            self.model: Any = ClapAudioModelWithProjection(config)
        except (TypeError, ValueError, RuntimeError, StrictDataclassError) as error:
            raise ModelError(f"CLAP {spec.weights}: its settings are no model ({first_line(error)})") from error
        self._check(config)
        self.width = int(config.projection_dim)
        self.channels = 4 if config.enable_fusion else 1
        self.eval().requires_grad_(False)

    def _check(self, config: Any) -> None:
        name, extractor = f"CLAP {self.spec.weights}", self.extractor
        if self.spec.window_s > extractor.max_length_s:
            raise ModelError(
                f"{name}: window_s {self.spec.window_s:g} is over the {extractor.max_length_s:g} s that the model "
                f"reads at once; lower window_s"
            )
        if extractor.feature_size != config.num_mel_bins:
            raise ModelError(f"{name}: the extractor gives {extractor.feature_size} bands, not {config.num_mel_bins}")
        longest = config.spec_size * (config.spec_size // config.num_mel_bins)
        if self.limit // extractor.hop_length + 1 > longest:
            raise ModelError(f"{name}: {extractor.max_length_s:g} s are more than the model's {longest} frames")

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take weights in the names of ``ClapAudioModelWithProjection``; ``RuntimeError`` where they don't fit."""
        self.model.load_state_dict(weights)

    def prepare(self, window: Samples) -> NDArray[np.float32]:
        """Mono float32 at 16 kHz, cut to ``window_s`` -> log-mel in dB, float32 ``(frames, bands)``. Thread-safe.

        The sound is brought to the model's rate (48 kHz in published ones); what was above 8 kHz is not in it.
        """
        samples = np.asarray(window[: round(self.spec.window_s * _RATE_HZ)], dtype=np.float32)
        rate_hz = self.extractor.sampling_rate
        if rate_hz != _RATE_HZ and len(samples):
            samples = np.asarray(soxr.resample(samples, _RATE_HZ, rate_hz), dtype=np.float32)
        samples = samples[: self.limit]  # never longer, or the extractor would crop at random
        if not len(samples):
            samples = np.zeros(1, dtype=np.float32)  # silence; the extractor can't repeat nothing
        features = self.extractor(samples, sampling_rate=rate_hz, return_tensors="np").input_features[0]
        return np.asarray(features[0], dtype=np.float32)  # for fusion there are four copies of the same

    def forward(self, prepared: Sequence[NDArray[Any]]) -> torch.Tensor:
        """Prepared windows -> float32 ``(n, width)``, not normalised, on the tower's device; differentiable."""
        parameter = next(self.parameters())
        if not len(prepared):
            return torch.zeros((0, self.width), device=parameter.device)
        stacked = torch.from_numpy(np.stack(prepared)).to(parameter.device, parameter.dtype)
        mel = stacked[:, None].expand(-1, self.channels, -1, -1)  # (n, frames, bands) -> (n, 1 or 4, frames, bands)
        none_longer = torch.zeros((len(prepared), 1), dtype=torch.bool, device=parameter.device)
        rows: torch.Tensor = self.model(input_features=mel, is_longer=none_longer).audio_embeds
        return rows.float()

    @torch.inference_mode()
    def with_grids(self, prepared: Sequence[NDArray[Any]]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """As :meth:`forward`, and no grid: CLAP's embedding is all that a reranker reads of it."""
        return self(prepared), []

    @torch.inference_mode()
    def features(self, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """As :meth:`forward`, as an array, without gradients."""
        return np.asarray(self(prepared).cpu().numpy(), dtype=np.float32)


def clap_from_directory(directory: Path) -> tuple[ClapSpec, dict[str, torch.Tensor]]:
    """A CLAP model in transformers' layout -> its audio half: what it is, and float32 weights that ``load`` takes.

    ``directory`` is what ``ClapModel.save_pretrained`` or ``ClapAudioModelWithProjection.save_pretrained`` wrote, with
    or without a feature extractor's file (without: CLAP's published settings). The specification's ``weights`` is a
    name to store them under, its window the model's whole. Raises :class:`ModelError` for what is no CLAP,
    :class:`WeightsMissing`, :class:`WeightsCorrupt`.
    """
    ensure_torchvision()
    from huggingface_hub.errors import StrictDataclassError
    from transformers import ClapAudioConfig, ClapConfig, ClapFeatureExtractor

    config_path = directory / "config.json"
    try:
        document = read_json_object(config_path)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{directory}: holds no CLAP model (config.json: {first_line(error)}); give the directory that "
            f"transformers' save_pretrained wrote"
        ) from error
    kind = document.get("model_type")
    if kind not in ("clap", "clap_audio_model"):
        raise ModelError(f"{config_path}: is a {kind}, not a CLAP model")
    extractor: Any = ClapFeatureExtractor
    try:
        if kind == "clap":
            config: Any = ClapConfig(**clean_config(document, config_path, ClapConfig)).audio_config
        else:
            config = ClapAudioConfig(**clean_config(document, config_path, ClapAudioConfig))
        settings_of_sound = _extractor_of(directory)
        if settings_of_sound is None:
            settings_of_sound = {"truncation": "fusion" if config.enable_fusion else "rand_trunc"}
        published = extractor(**settings_of_sound)
    except (OSError, ValueError, TypeError, StrictDataclassError) as error:
        raise ModelError(f"{directory}: can't be read as a CLAP model ({first_line(error)})") from error
    settings = config.to_diff_dict()
    for name in ("architectures", "dtype", "model_type", "transformers_version"):
        settings.pop(name, None)
    settings["projection_dim"] = config.projection_dim  # a whole model's own says it elsewhere
    settings["projection_hidden_act"] = config.projection_hidden_act
    spec = ClapSpec(
        weights="audio-clap.safetensors",
        kind="clap",
        config=json.loads(json.dumps(settings)),
        extractor={name: getattr(published, name) for name in _SETTINGS},
        window_s=float(published.max_length_s),
    )
    return spec, _audio_half(directory)


def _extractor_of(directory: Path) -> dict[str, Any] | None:
    """The published settings of the feature extractor: the processor's if it has them, as transformers looks."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (directory / name).is_file():
            document = read_json_object(directory / name)
            if name == "preprocessor_config.json" or "feature_extractor" in document:
                return extractor_settings(document, _SETTINGS)
    return None


def _audio_half(directory: Path) -> dict[str, torch.Tensor]:
    for name in _FILES:
        if (directory / name).is_file():
            weights = read_tensors(directory / name)
            return {key: value for key, value in weights.items() if key.startswith(_HALF)}
    raise WeightsMissing(f"{directory}: holds no {' or '.join(_FILES)}; save the model with save_pretrained again")
