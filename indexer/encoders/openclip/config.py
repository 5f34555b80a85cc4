"""Which settings an ``open_clip_config.json`` may set, checked before open_clip sees any of them.

A setting that is not on the lists stops the model from being opened: open_clip would pass it on as an argument, and
left out without a word it would change the embeddings. Knows nothing of weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.encoders.weights.untrusted import TOKENIZER_KEYS, require_keys, require_size
from indexer.errors import ModelError

_MODEL = frozenset(
    (
        "embed_dim",
        "vision_cfg",
        "text_cfg",
        "multimodal_cfg",
        "quick_gelu",
        "custom_text",
        "init_logit_scale",
        "init_logit_bias",
        "nonscalar_logit_scale",
        "pad_id",
    )
)
_NESTED = {"act_kwargs": frozenset(("approximate",)), "norm_kwargs": frozenset(("eps", "elementwise_affine", "bias"))}
#: open_clip's own handling of a text, beside what transformers' tokenizers take.
_TOKENIZER = TOKENIZER_KEYS | {"clean", "strip_sep_token"}
_SIMPLE_TOKENIZER = frozenset(("clean", "additional_special_tokens", "reduction_mask"))
#: No published model is near these; beyond them building the towers alone would take the machine's memory.
_MOST = {
    "layers": 1_000,
    "width": 65_536,
    "vocab_size": 10_000_000,
    "context_length": 1_000_000,
    "embed_dim": 65_536,
    "image_size": 8_192,
}


def check_config(config: Mapping[str, Any], where: object) -> None:
    """Raise :class:`ModelError` naming the first setting of ``model_cfg`` that is not allowed, or not sensible."""
    ensure_torchvision()
    import timm
    from open_clip.coca_model import MultimodalCfg
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    require_keys(config, _MODEL, f"{where}: model_cfg")
    for part, kind in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg), ("multimodal_cfg", MultimodalCfg)):
        settings = config.get(part) or {}
        if not isinstance(settings, Mapping):
            raise ModelError(f"{where}: {part} is no object; fetch the model again")
        require_keys(settings, {one.name for one in dataclasses.fields(kind)}, f"{where}: {part}")
        for key, listed in _NESTED.items():
            require_keys(settings.get(key) or {}, listed, f"{where}: {part}.{key}")
        _check_numbers(settings, f"{where}: {part}")
    _check_numbers(config, f"{where}: model_cfg")
    text = config.get("text_cfg") or {}
    listed = _TOKENIZER if text.get("hf_tokenizer_name") else _SIMPLE_TOKENIZER
    require_keys(text.get("tokenizer_kwargs") or {}, listed, f"{where}: tokenizer_kwargs")
    trunk = (config.get("vision_cfg") or {}).get("timm_model_name")
    if trunk and not (isinstance(trunk, str) and timm.is_model(trunk)):  # hf-hub: and local-dir: name other models
        raise ModelError(f"{where}: timm_model_name {trunk!r} is no architecture of timm; see timm.list_models()")


@cache
def published_names() -> frozenset[str]:
    """Repositories of the hub that open_clip's own architectures name: text towers and tokenizers.

    A configuration that came with a model may name any; only these are fetched without being confirmed.
    """
    ensure_torchvision()
    import open_clip

    texts = [open_clip.get_model_config(name)["text_cfg"] for name in open_clip.list_models()]
    keys = ("hf_tokenizer_name", "hf_model_name")
    return frozenset(text[key] for text in texts for key in keys if text.get(key))


def check_size(config: Mapping[str, Any], checkpoint: Path, where: object) -> None:
    """Raise :class:`ModelError` for towers of open_clip's own that are far larger than the file of their weights."""
    numbers = sum(_transformer_size(config.get(part) or {}, part) for part in ("vision_cfg", "text_cfg"))
    require_size(numbers, checkpoint, where)


def _check_numbers(settings: Mapping[str, Any], where: str) -> None:
    for key, most in _MOST.items():
        values = settings.get(key, 1)
        for value in values if isinstance(values, list | tuple) else [values]:
            if not isinstance(value, int) or not 0 < value <= most:
                raise ModelError(f"{where}.{key} is {value!r}; it is a number from 1 to {most:,}")


def _transformer_size(settings: Mapping[str, Any], part: str) -> int:
    """About how many numbers a tower of open_clip's own has; 0 for one that another library builds."""
    layers, width = settings.get("layers", 12), settings.get("width", 768 if part == "vision_cfg" else 512)
    if settings.get("timm_model_name") or settings.get("hf_model_name") or isinstance(layers, list | tuple):
        return 0
    words = settings.get("vocab_size", 49_408) if part == "text_cfg" else 0
    return 12 * int(layers) * int(width) ** 2 + int(words) * int(width)
