"""A language model of a GGUF file in torch: its tensors are dequantised one by one into the model, never onto a disk.

Knows nothing of tokenizers or read-outs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from indexer.encoders.weights.gguf_model import BERT_EMBEDDINGS, BERT_PARTS, GgufModel, UnknownGguf
from indexer.errors import WeightsCorrupt

#: Parts of a decoder's layer by the names of transformers and of GGUF.
_PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def model_of_gguf(file: Path, config: Any, dtype: torch.dtype, layers: int = 0, streamed: int = 0) -> Any:
    """The bare model with its first ``layers`` layers (0: all), of a ``config`` of transformers.

    Of a decoder the first ``streamed`` of them are read anew each time that they run, so that one of them is in memory.
    Raises :class:`WeightsCorrupt`.
    """
    from transformers import AutoModel

    auto: Any = AutoModel
    gguf = _open(file)
    if not gguf.is_decoder:
        return _bert(gguf, config, dtype, layers)
    with torch.device("meta"):
        model = auto.from_config(config)
    kept = [_layer(layer, gguf, number, dtype, number < streamed) for number, layer in _first(model.layers, layers)]
    model.layers = nn.ModuleList(kept)
    _fill(model.embed_tokens, gguf, "token_embd", dtype)
    _fill(model.norm, gguf, "output_norm", dtype)
    model.rotary_emb = type(model.rotary_emb)(config=model.config)  # holds no weights, but was made on no device
    return model


def _bert(gguf: GgufModel, config: Any, dtype: torch.dtype, layers: int) -> Any:
    """An encoder without its pooler, which no tower reads."""
    from transformers import AutoModel

    auto: Any = AutoModel
    with torch.device("meta"):
        model = auto.from_config(config, add_pooling_layer=False)
    if layers:
        model.encoder.layer = model.encoder.layer[:layers]
    for number, layer in enumerate(model.encoder.layer):
        _filled(layer, gguf, number, dtype, BERT_PARTS)
    for theirs, own in BERT_EMBEDDINGS.items():
        _fill(model.embeddings.get_submodule(theirs), gguf, own, dtype)
    positions = torch.arange(config.max_position_embeddings)[
        None
    ]  # buffers hold no weights, but were made on no device
    model.embeddings.position_ids = positions
    model.embeddings.token_type_ids = torch.zeros_like(positions)
    return model


def head_of_gguf(file: Path, config: Any) -> Any:
    """The model inside transformers' causal LM, its next-token head alone filled, as float32."""
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    gguf = _open(file)
    with torch.device("meta"):
        whole: Any = auto.from_config(config)
    _fill(whole.get_output_embeddings(), gguf, "output" if gguf.has("output.weight") else "token_embd", torch.float32)
    return whole


class StreamedLayer(nn.Module):
    """A layer without weights, that reads them from the file whenever it runs."""

    def __init__(self, layer: nn.Module, gguf: GgufModel, number: int, dtype: torch.dtype) -> None:
        super().__init__()
        self._make: Callable[[], nn.Module] = lambda: _filled(layer, gguf, number, dtype)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the layer."""
        layer = self._make()
        found = layer(*args, **kwargs)
        layer.to("meta")
        return found


def _open(file: Path) -> GgufModel:
    try:
        return GgufModel(file)
    except UnknownGguf as error:
        raise WeightsCorrupt(f"language model {file}: {error}; fetch it again") from error


def _first(layers: Any, count: int) -> Iterator[tuple[int, nn.Module]]:
    return enumerate(layers[:count] if count else layers)


def _layer(layer: nn.Module, gguf: GgufModel, number: int, dtype: torch.dtype, streamed: bool) -> nn.Module:
    return StreamedLayer(layer, gguf, number, dtype) if streamed else _filled(layer, gguf, number, dtype)


def _filled(
    layer: nn.Module, gguf: GgufModel, number: int, dtype: torch.dtype, parts: Mapping[str, str] = _PARTS
) -> nn.Module:
    for theirs, own in parts.items():
        _fill(layer.get_submodule(theirs), gguf, f"blk.{number}.{own}", dtype)
    return layer.eval().requires_grad_(False)


def _fill(module: nn.Module, gguf: GgufModel, name: str, dtype: torch.dtype) -> None:
    """Put the tensors of ``name`` into a module, in the order of rows that transformers has."""
    order = gguf.halves_of_pairs(name)
    for part, _ in list(module.named_parameters(recurse=False)):
        full = f"{name}.{part}"
        if not gguf.has(full):
            raise WeightsCorrupt(f"{gguf.name}: its weights lack {full}; fetch it again")
        array = gguf.array(full)
        tensor = torch.from_numpy(array if order is None else array[order]).to(dtype)
        setattr(module, part, nn.Parameter(tensor, requires_grad=False))
