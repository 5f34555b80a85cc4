"""Towers and heads with their weights, from an encoder's directory; and the heads back to it.

Every file is checked against the digest in ``encoder.json`` before it is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from indexer.encoders.specs import CONFIG, HEADS, EncoderConfig, TextSpec, WhisperSpec
from indexer.encoders.starter import weights_file
from indexer.encoders.text_gate import TextGate
from indexer.encoders.towers.audio import AudioTower
from indexer.encoders.towers.audio import open_audio_tower as open_audio_tower  # for the training code, from one door
from indexer.encoders.towers.heads import Head, open_head
from indexer.encoders.towers.hubness import EXTRA, HubnessCorrection
from indexer.encoders.towers.image import ImageTower
from indexer.encoders.towers.text import TextTower, TextTowers
from indexer.encoders.towers.trunk import Trunk
from indexer.encoders.towers.trunk_weights import load_trunk_weights as load_trunk_weights
from indexer.encoders.weights.base_weights import BASE_WEIGHTS, base_directory, check_sha256, gguf_directory, sha256_of
from indexer.encoders.weights.digests import cached_sha256
from indexer.encoders.weights.hub import PREFIX, hub_directory
from indexer.encoders.weights.untrusted import require_size
from indexer.errors import ModelError, WeightsCorrupt, WeightsMissing
from indexer.reading import failed_reads

if TYPE_CHECKING:
    from indexer.encoders.clap.tower import ClapTower


def language_model_directory(source: str, *, fetch: bool = True) -> Path:
    """Directory of a text tower's language model, in transformers' layout.

    ``source``: base weights by name, a directory, a ``.gguf`` file (converted once into the user's cache) or
    ``hub:NAME`` (with ``fetch`` downloaded into the hub's own cache). Raises :class:`WeightsMissing` or
    :class:`ModelError`.
    """
    if source in BASE_WEIGHTS:
        return base_directory(source)
    if source.startswith(PREFIX):
        return hub_directory(source, fetch=fetch)
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.suffix == ".gguf" and path.is_file():
        return gguf_directory(path)
    raise WeightsMissing(
        f"language model {source}: neither a directory, a .gguf file, {PREFIX}NAME, nor one of "
        f"{', '.join(sorted(BASE_WEIGHTS))}; correct the source"
    )


def model_digest(source: str) -> str:
    """The identity of a language model: sha256 of what it was converted from, or of its files."""
    if source in BASE_WEIGHTS:
        return BASE_WEIGHTS[source].sha256
    files = sorted(language_model_directory(source).glob("*.safetensors"))
    return hashlib.sha256("".join(cached_sha256(path) for path in files).encode()).hexdigest()


def load_text_towers(directory: Path, config: EncoderConfig) -> TextTowers:
    """The text towers with their language models and what was trained in them, float32 on the CPU."""
    towers = [_load_text_tower(directory, spec, config.sha256) for spec in config.text]
    return TextTowers(towers, load_gate(directory, config))


def load_gate(directory: Path, config: EncoderConfig) -> TextGate | None:
    """The gate of the text towers; ``None`` where there is none."""
    if config.gate is None:
        return None
    path = directory / HEADS
    weights = load_weights(path, config.sha256)
    try:
        weight, bias, fill = (weights[f"gate.{name}"].numpy() for name in ("weight", "bias", "fill"))
    except KeyError as error:
        raise WeightsCorrupt(f"{path}: holds no {error}; train or fetch the model again") from error
    return TextGate(config.gate, weight, float(bias), fill)


def _load_text_tower(directory: Path, spec: TextSpec, sha256: dict[str, str]) -> TextTower:
    path = weights_file(directory, spec.adapter)
    if spec.adapter:  # before the language model, which takes long
        if not path.is_file():
            raise WeightsMissing(f"{path}: is missing; fetch the model again, or train it again")
        if spec.adapter not in sha256:
            raise WeightsCorrupt(f"{path}: {CONFIG} promises no sha256 of it; fetch the model again")
        check_sha256(path, sha256[spec.adapter], "fetch the model again")
    promised = sha256.get(f"language model {spec.source}")
    # what a model's file names is not fetched by itself: `trimodal models pull` does that
    where = language_model_directory(spec.source, fetch=False)
    if promised is not None and not spec.source.endswith(".gguf") and model_digest(spec.source) != promised:
        raise WeightsCorrupt(
            f"language model {spec.source}: is not the one that this model was trained with, or is damaged; "
            f"fetch it again, or train {directory} again"
        )
    tower = TextTower(spec, where)
    if spec.adapter:
        tower.load_adapter(path)
    return tower


def load_image_tower(directory: Path, config: EncoderConfig) -> ImageTower:
    """The picture tower with its weights, float32 on the CPU."""
    tower = ImageTower(config.image)
    for trunk in tower.trunks:
        assert isinstance(trunk, Trunk)
        path = weights_file(directory, trunk.spec.weights)
        _load_state(trunk.model, load_weights(path, config.sha256), path)
    return tower


def load_audio_tower(directory: Path, config: EncoderConfig) -> AudioTower | ClapTower:
    """The sound tower, Whisper's or CLAP's, with its weights, float32 on the CPU."""
    assert config.audio is not None
    path = weights_file(directory, config.audio.weights)
    if isinstance(config.audio, WhisperSpec):
        require_size(12 * config.audio.layers * config.audio.width**2, path, directory / CONFIG)
    tower = open_audio_tower(config.audio)
    try:
        tower.load(load_weights(path, config.sha256))
    except (RuntimeError, KeyError) as error:
        raise WeightsCorrupt(
            f"{path}: does not fit the sound tower of {CONFIG}; train or fetch the model again"
        ) from error
    return tower


def load_heads(directory: Path, config: EncoderConfig) -> tuple[dict[str, Head], HubnessCorrection | None]:
    """The heads by modality and the correction against hubs (None where there is none), float32 on the CPU."""
    path = directory / HEADS
    weights = load_weights(path, config.sha256)

    def fill(module: torch.nn.Module, name: str) -> None:
        prefix = f"{name}."
        own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        _load_state(module, own, path)

    sizes = config.heads.values()
    numbers = sum(one.inputs * one.whitened + (one.whitened + one.hidden) * (one.hidden + one.dim) for one in sizes)
    require_size(numbers, path, directory / CONFIG)
    heads = {name: open_head(spec) for name, spec in config.heads.items()}
    for name, head in heads.items():
        fill(head, name)
    if config.hubness is None:
        return heads, None
    correction = HubnessCorrection(config.hubness, config.dim - EXTRA)
    fill(correction, "hubness")
    return heads, correction


def load_weights(path: Path, sha256: dict[str, str]) -> dict[str, torch.Tensor]:
    """A safetensors file of the directory, checked against ``encoder.json``, as float32."""
    if not path.is_file():
        raise WeightsMissing(
            f"{path}: is missing; fetch the model again, or check out the repository with all its files"
        )
    if path.name in sha256:
        check_sha256(path, sha256[path.name], "fetch the model again")
    try:
        with failed_reads(path):
            return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise WeightsCorrupt(f"{path}: is no whole safetensors file ({error}); fetch the model again") from error


def save_heads(directory: Path, heads: Mapping[str, torch.nn.Module], gate: TextGate | None = None) -> str:
    """Write ``heads.safetensors`` (float16; heads by modality, ``hubness``, ``gate``) and return its sha256.

    Raises :class:`ModelError` for what float16 can't hold.
    """
    weights = {
        f"{name}.{key}": value.half().contiguous()
        for name, head in heads.items()
        for key, value in head.state_dict().items()
    }
    if gate is not None:
        parts = {"weight": gate.weight, "bias": np.array(gate.bias), "fill": gate.fill}
        weights |= {f"gate.{name}": torch.from_numpy(np.asarray(part)).half() for name, part in parts.items()}
    not_finite = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if not_finite:
        raise ModelError(f"{directory / HEADS}: {not_finite[0]} is not finite in float16; lower the learning rate")
    path = directory / HEADS
    save_file(weights, path)
    path.chmod(0o644)
    return sha256_of(path)


def _load_state(module: torch.nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise WeightsCorrupt(
            f"{path}: does not fit the tower that {CONFIG} names; train or fetch the model again"
        ) from error
