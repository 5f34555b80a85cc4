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
import torch
from numpy.typing import NDArray
from torch import nn

from indexer.encoders.clap.sounds import ClapSounds, settings_of
from indexer.encoders.specs import ClapSpec
from indexer.encoders.weights.tensor_files import first_line, read_tensors
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.encoders.weights.untrusted import clean_config, read_json_object
from indexer.errors import ModelError, WeightsMissing
from indexer.items import Samples

_FILES = ("model.safetensors", "pytorch_model.bin")
_HALF = ("audio_model.", "audio_projection.")


class ClapTower(nn.Module):
    """CLAP's audio half: ``width`` features a window, its ``projection_dim``; locked and in eval mode.

    Raises :class:`ModelError` for settings that transformers refuses or that don't go together.
    """

    def __init__(self, spec: ClapSpec) -> None:
        super().__init__()
        ensure_torchvision()
        from huggingface_hub.errors import StrictDataclassError
        from transformers import ClapAudioConfig, ClapAudioModelWithProjection

        self.spec = spec
        self.sounds = ClapSounds(spec.extractor, spec.window_s, f"CLAP {spec.weights}")
        try:
            config = ClapAudioConfig(**clean_config(spec.config, Path(spec.weights), ClapAudioConfig))
            self.model: Any = ClapAudioModelWithProjection(config)
        except (TypeError, ValueError, RuntimeError, StrictDataclassError) as error:
            raise ModelError(f"CLAP {spec.weights}: its settings are no model ({first_line(error)})") from error
        self._check(config)
        self.width = int(config.projection_dim)
        self.channels = 4 if config.enable_fusion else 1
        self.eval().requires_grad_(False)

    def _check(self, config: Any) -> None:
        name, sounds = f"CLAP {self.spec.weights}", self.sounds
        if self.spec.window_s > sounds.max_length_s:
            raise ModelError(
                f"{name}: window_s {self.spec.window_s:g} is over the {sounds.max_length_s:g} s that the model "
                f"reads at once; lower window_s"
            )
        if sounds.bands != config.num_mel_bins:
            raise ModelError(f"{name}: the extractor gives {sounds.bands} bands, not {config.num_mel_bins}")
        longest = config.spec_size * (config.spec_size // config.num_mel_bins)
        if sounds.limit // sounds.hop + 1 > longest:
            raise ModelError(f"{name}: {sounds.max_length_s:g} s are more than the model's {longest} frames")

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take weights in the names of ``ClapAudioModelWithProjection``; ``RuntimeError`` where they don't fit."""
        self.model.load_state_dict(weights)

    def prepare(self, window: Samples) -> NDArray[np.float32]:
        """Mono float32 at 16 kHz, cut to ``window_s`` -> log-mel in dB, float32 ``(frames, bands)``. Thread-safe."""
        return self.sounds.prepare(window)

    def forward(self, prepared: Sequence[NDArray[Any]]) -> torch.Tensor:
        """Prepared windows -> float32 ``(n, width)``, not normalised, on the tower's device; differentiable."""
        parameter = next(self.parameters())
        if not len(prepared):
            return torch.zeros((0, self.width), device=parameter.device)
        return self.read(torch.from_numpy(np.stack(prepared)).to(parameter.device, parameter.dtype))

    def read(self, mel: torch.Tensor) -> torch.Tensor:
        """Stacked windows ``(n, frames, bands)`` -> float32 ``(n, width)``."""
        pictures = mel[:, None].expand(-1, self.channels, -1, -1)  # (n, 1 or 4, frames, bands)
        none_longer = torch.zeros((len(mel), 1), dtype=torch.bool, device=mel.device)
        rows: torch.Tensor = self.model(input_features=pictures, is_longer=none_longer).audio_embeds
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
    from transformers import ClapAudioConfig, ClapConfig

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
    try:
        if kind == "clap":
            config: Any = ClapConfig(**clean_config(document, config_path, ClapConfig)).audio_config
        else:
            config = ClapAudioConfig(**clean_config(document, config_path, ClapAudioConfig))
        sounds = settings_of(directory, bool(config.enable_fusion))
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
        extractor=sounds,
        window_s=float(sounds["max_length_s"]),
    )
    return spec, _audio_half(directory)


def _audio_half(directory: Path) -> dict[str, torch.Tensor]:
    for name in _FILES:
        if (directory / name).is_file():
            weights = read_tensors(directory / name)
            return {key: value for key, value in weights.items() if key.startswith(_HALF)}
    raise WeightsMissing(f"{directory}: holds no {' or '.join(_FILES)}; save the model with save_pretrained again")
