"""Small models of open_clip in the layout that open_clip saves and the hub serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from indexer.encoders.weights.torchvision_ops import ensure_torchvision

ensure_torchvision()
import open_clip  # noqa: E402

NATIVE: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
SIGLIP: dict[str, Any] = {
    "embed_dim": 32,
    "custom_text": True,
    "init_logit_bias": -10,
    "vision_cfg": {
        "image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "pool_type": "avg",
    },
    "text_cfg": {
        "context_length": 12, "vocab_size": 40, "width": 32, "heads": 2, "layers": 2, "no_causal_mask": True,
        "proj_bias": True, "pool_type": "last", "hf_tokenizer_name": "nobody/has-this",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    },
}  # fmt: skip
HALVES = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"}


def save_tokenizer(directory: Path) -> None:
    """A word tokenizer of transformers: 40 words, those that are capital or have a comma among them unknown."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "a", "dog", "cat", "on", "the", "mat", "rain", "word"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(directory)


def save_layout(
    directory: Path, config: dict[str, Any], preprocess: dict[str, Any] | None = None, *, tokenizer: bool = True
) -> Path:
    """A directory as ``push_to_hf_hub`` leaves it: open_clip_config.json, weights, tokenizer."""
    directory.mkdir(parents=True)
    document = {"model_cfg": config, "preprocess_cfg": preprocess or {}}
    (directory / "open_clip_config.json").write_text(json.dumps(document))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{directory}", load_weights=False)
    save_file(model.state_dict(), directory / "open_clip_model.safetensors")
    if tokenizer and config["text_cfg"].get("hf_tokenizer_name"):
        save_tokenizer(directory)
    return directory
