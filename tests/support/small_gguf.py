"""A small language model as llama.cpp writes it."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.torch import load_file


def save_gguf(path: Path, directory: Path, kind: str = "F32") -> None:
    """A small Llama or Qwen2 of the directory as llama.cpp would write it, its tokenizer inside.

    ``kind``: the format of its matrices; vectors stay float32. ``Q4_1+Q6_K``: the second one for values and the way
    down, as in a Q4_K_M.
    """
    kind, _, other = kind.partition("+")
    config = json.loads((directory / "config.json").read_text())
    vocabulary = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    tokens[-1] = "ab"  # llama.cpp's vocabularies have merges, and transformers wants one
    architecture = config["model_type"]
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(tokens))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    all_heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm", "input_layernorm": "attn_norm",
        "model.layers": "blk",
    }  # fmt: skip
    for name, tensor in load_file(directory / "model.safetensors").items():
        array = tensor.numpy()
        heads = next((count for part, count in all_heads.items() if part in name), 0)
        if heads and architecture == "llama":  # llama.cpp pairs the rotary halves in another order
            array = array.reshape(heads, 2, len(array) // heads // 2, -1).swapaxes(1, 2).reshape(array.shape)
        for theirs, its in names.items():
            name = name.replace(theirs, its)
        array = np.ascontiguousarray(array)
        own = other if other and ("attn_v" in name or "ffn_down" in name) else kind
        if own == "F32" or array.ndim == 1:
            writer.add_tensor(name, array)
        else:
            quants = gguf.GGMLQuantizationType[own]
            rows = quantize_q6_k(array) if own == "Q6_K" else gguf.quantize(array, quants)
            writer.add_tensor(name, rows, raw_dtype=quants)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize_q6_k(array: np.ndarray) -> np.ndarray:
    """Float32 ``(n, k)``, ``k`` a multiple of 256 -> the bytes of Q6_K ``(n, k / 256 * 210)``; gguf only reads them."""
    blocks = array.reshape(len(array), -1, 16, 16)
    largest = np.abs(blocks).max(axis=-1) / 31  # a scale for 16 weights
    d = np.maximum(largest.max(axis=-1, keepdims=True) / 127, 1e-8).astype("<f2")
    scales = np.clip(np.rint(largest / d.astype(np.float32)), 1, 127).astype(np.int8)
    steps = d.astype(np.float32)[..., None] * scales[..., None].astype(np.float32)
    quants = (np.clip(np.rint(blocks / steps), -32, 31) + 32).astype(np.uint8).reshape(*blocks.shape[:2], 2, 4, 32)
    low, high = quants & 15, quants >> 4
    lows = np.concatenate([low[..., 0, :] | (low[..., 2, :] << 4), low[..., 1, :] | (low[..., 3, :] << 4)], axis=-1)
    highs = sum(high[..., place, :] << (2 * place) for place in range(4))
    parts = [lows, np.asarray(highs, np.uint8), scales.view(np.uint8), d.view(np.uint8)]
    return np.concatenate([one.reshape(*blocks.shape[:2], -1) for one in parts], axis=-1).reshape(len(array), -1)
