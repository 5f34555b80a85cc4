"""A CLAP with random weights and its processor, as transformers saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from indexer.encoders.weights.torchvision_ops import ensure_torchvision

ensure_torchvision()
from transformers import (  # noqa: E402
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    PreTrainedTokenizerFast,
)

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "a", "dog", "barks", "rain", "on"]


def processor(rate_hz: int, *, fused: bool = False, whole: bool = False) -> Any:
    """What stands before the model: one second at once and a word tokenizer, or CLAP's published settings."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    truncation = "fusion" if fused else "rand_trunc"
    settings: dict[str, Any] = {"truncation": truncation} if whole else {
        "feature_size": 16, "sampling_rate": rate_hz, "hop_length": rate_hz // 50, "max_length_s": 1,
        "fft_window_size": 1024, "frequency_max": 7_000, "truncation": truncation,
    }  # fmt: skip
    return ClapProcessor(ClapFeatureExtractor(**settings), fast)


def save_clap(directory: Path, *, rate_hz: int = 48_000, fused: bool = False, whole: bool = False) -> tuple[Any, Any]:
    """A CLAP and its processor, as save_pretrained leaves them; ``whole``: of the published size."""
    torch.manual_seed(1)
    if whole:
        config: Any = ClapConfig(audio_config={"enable_fusion": fused})
    else:
        config = ClapConfig(
            text_config={
                "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                "intermediate_size": 16, "max_position_embeddings": 20,
            },
            audio_config={
                "num_mel_bins": 16, "spec_size": 32, "window_size": 4, "patch_size": 4, "patch_stride": [4, 4],
                "depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8, "hidden_size": 16,
                "num_hidden_layers": 2, "enable_fusion": fused, "fusion_type": "none" if fused else None,
            },
            projection_dim=12,
        )  # fmt: skip
    model: Any = ClapModel(config)
    norm = model.audio_model.audio_encoder.batch_norm
    norm.running_mean.uniform_(-60, -20)
    norm.running_var.uniform_(50, 400)
    model.eval().save_pretrained(directory)
    before = processor(rate_hz, fused=fused, whole=whole)
    before.save_pretrained(directory)
    return model, before
