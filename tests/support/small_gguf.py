"""A small language model as llama.cpp writes it."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.torch import load_file


def save_gguf(path: Path, directory: Path, kind: str = "F32") -> None:
    """A small Llama or Qwen2 of the directory as llama.cpp would write it, its tokenizer inside.

    ``kind``: the format of its matrices; vectors stay float32.
    """
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
        if kind == "F32" or array.ndim == 1:
            writer.add_tensor(name, array)
        else:
            quants = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(name, gguf.quantize(array, quants), raw_dtype=quants)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
