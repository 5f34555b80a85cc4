"""What ``models show`` and ``models pull`` print of models that other libraries publish: open_clip's and CLAP's.

``show`` fetches nothing: it names what is missing on this machine, with the command that gets it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from indexer.encoders.model_info import ModelInfo
from indexer.errors import WeightsMissing

_LICENCE = "its publisher's; see its card on the hub"


def describe(spec: str) -> ModelInfo:
    """What an ``openclip:`` or ``clap:`` spec names. Raises :class:`ModelError` if it names nothing."""
    return _describe_clap(spec) if spec.startswith("clap:") else _describe_openclip(spec)


def pull(spec: str, on_stage: Callable[[str], None] = lambda stage: None) -> dict[str, Path]:
    """Fetch it from the hub into the hub's own cache, unless it is there; its directory by its spec.

    The graphs that its queries run in without torch are made, too.
    """
    from indexer.encoders import open_encoder

    encoder: Any = open_encoder(spec)
    encoder.prepare_queries(on_stage, again=True)
    return {spec: encoder.directory if spec.startswith("clap:") else encoder.source.checkpoint.parent}


def _describe_openclip(spec: str) -> ModelInfo:
    from indexer.encoders.openclip.dual import OpenClipEncoder
    from indexer.encoders.openclip.source import published_config

    try:
        encoder = OpenClipEncoder(spec, fetch=False)
    except WeightsMissing:
        config = published_config(spec)
        if config is None:
            raise
        return ModelInfo(
            spec=spec,
            modalities=["image", "text"],
            dim=int(config["embed_dim"]),
            state=f"needs `trimodal models pull {spec}`",
            licence=_LICENCE,
            towers=_towers(config),
            sources={},
            size_mb=0.0,
            fingerprint="",
            directory="",
        )
    source = encoder.source
    settings = ", ".join(f"{name} {value}" for name, value in source.preprocess.items() if name != "mode")
    sources = {
        "checkpoint": str(source.checkpoint),
        "preprocessing": f"{source.preprocess_from}: {settings}",
        "tokenizer": str(source.tokenizer or "open_clip's BPE"),
    }
    return ModelInfo(
        spec=source.spec,
        modalities=sorted(encoder.modalities),
        dim=encoder.dim,
        state="ready",
        licence=_LICENCE,
        towers=_towers(source.config),
        sources=sources,
        size_mb=_megabytes(source.checkpoint),
        fingerprint=encoder.fingerprint,
        directory=str(source.checkpoint.parent),
    )


def _describe_clap(spec: str) -> ModelInfo:
    from indexer.encoders.clap.dual import ClapEncoder

    encoder = ClapEncoder(spec, fetch=False)
    towers = {"audio": f"CLAP audio encoder, windows of {encoder.window_s:g} s", "text": "CLAP text encoder"}
    card = encoder.directory / "README.md"
    return ModelInfo(
        spec=encoder.spec,
        modalities=sorted(encoder.modalities),
        dim=encoder.dim,
        state="ready",
        licence=_LICENCE,
        towers=towers,
        sources={"checkpoint": str(encoder.weights)},
        size_mb=_megabytes(encoder.weights),
        fingerprint=encoder.fingerprint,
        directory=str(encoder.directory),
        card=card if card.is_file() else None,
    )


def _towers(config: dict[str, Any]) -> dict[str, str]:
    vision, text = config["vision_cfg"], config["text_cfg"]
    side = vision.get("image_size", 224)
    image = vision.get("timm_model_name") or _stack(vision, 768)
    words = text.get("hf_model_name") or _stack(text, 512)
    return {"image": f"{image}, {side} px", "text": f"{words}, {text.get('context_length', 77)} tokens"}


def _stack(config: dict[str, Any], width: int) -> str:
    layers = config.get("layers", 12)
    if isinstance(layers, list | tuple):
        return f"ResNet of {'+'.join(map(str, layers))} blocks"
    return f"{layers} layers of {config.get('width', width)}"


def _megabytes(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 1)
