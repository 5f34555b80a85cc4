"""Model directories in the layouts of open_clip, CLAP and llama.cpp: real architectures, tiny, with random weights.

Those that ``trimodal train`` writes come from ``small_model.py`` in tests. Seeds of the fuzzer, and strangers' models.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

_WORDS = ["<pad>", "<unk>", "a", "dog", "cat", "on", "the", "mat", "rain", "word"]
_VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
OPENCLIP: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": _VISION,
    "text_cfg": {
        "context_length": 12,
        "vocab_size": 40,
        "width": 32,
        "heads": 2,
        "layers": 1,
        "no_causal_mask": True,
        "pool_type": "last",
        "proj_bias": True,
        "hf_tokenizer_name": "nobody/has-this",
    },
    "custom_text": True,
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and warnings of the libraries that save models."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def small_model(directory: Path) -> Path:
    """As ``trimodal train dual`` writes it."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from small_model import save_small_model

    return save_small_model(directory)


def save_tokenizer(directory: Path, **settings: Any) -> None:
    """A word tokenizer of transformers; ``settings`` go into its ``tokenizer_config.json``."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(_WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>"
    )
    made.save_pretrained(directory)
    if settings:
        path = directory / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def openclip_directory(directory: Path) -> Path:
    """``open_clip_config.json``, safetensors and a tokenizer of transformers."""
    from indexer.encoders.weights.torchvision_ops import ensure_torchvision

    ensure_torchvision()
    import open_clip
    import torch
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    document = {"model_cfg": OPENCLIP, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (directory / "open_clip_config.json").write_text(json.dumps(document))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{directory}", load_weights=False)
    save_file(model.state_dict(), directory / "open_clip_model.safetensors")
    save_tokenizer(directory)
    return directory


def clap_directory(directory: Path) -> Path:
    """A CLAP and its processor, as ``save_pretrained`` leaves them."""
    from indexer.encoders.weights.torchvision_ops import ensure_torchvision

    ensure_torchvision()
    import torch
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    torch.manual_seed(1)
    text = {
        "vocab_size": len(_WORDS),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 20,
    }
    audio = {
        "num_mel_bins": 16,
        "spec_size": 32,
        "window_size": 4,
        "patch_size": 4,
        "patch_stride": [4, 4],
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "patch_embeds_hidden_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "fusion_type": None,
    }
    ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=12)).save_pretrained(directory)
    ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=16_000,
        hop_length=320,
        max_length_s=1,
        fft_window_size=1024,
        frequency_max=7_000,
        truncation="rand_trunc",
    ).save_pretrained(directory)
    save_tokenizer(directory)
    return directory


def language_model(directory: Path) -> Path:
    """A two-layer Llama with a byte-level tokenizer, in transformers' layout."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from small_model import save_language_model

    return save_language_model(directory)


def gguf_file(path: Path) -> Path:
    """A one-layer Llama in llama.cpp's format."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(260)
    tokens = ["<unk>", "<s>", "</s>", "▁", *(f"<0x{byte:02X}>" for byte in range(256))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([2, 3, 3, 1, *[6] * 256])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    rng = np.random.default_rng(0)
    square, names = (32, 32), ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    tensors: dict[str, tuple[int, ...]] = {f"blk.0.{name}.weight": square for name in names}
    tensors |= {"blk.0.attn_norm.weight": (32,), "blk.0.ffn_norm.weight": (32,), "output_norm.weight": (32,)}
    tensors |= {"token_embd.weight": (260, 32), "output.weight": (260, 32)}
    for name, shape in tensors.items():
        writer.add_tensor(name, rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
