"""Opens a pretrained language model of any Hugging Face architecture, decoder or BERT-family encoder, from a directory.

Recognises the two kinds, finds and cuts the stack of layers, finds the special tokens that the tokenizer puts around
a text, and gives a decoder its language-model head back when someone wants it. Code of a model's directory is never
run and pickled weights are never read. Knows nothing of prompts, read-outs or training.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from indexer.encoders.text_reading import special_tokens
from indexer.encoders.towers.gguf_weights import head_of_gguf, model_of_gguf
from indexer.encoders.weights.base_weights import GGUF_NAME
from indexer.encoders.weights.library_errors import quiet_transformers, stated_errors
from indexer.encoders.weights.torchvision_ops import ensure_torchvision
from indexer.encoders.weights.untrusted import NO_REMOTE_CODE, clean_folder
from indexer.errors import ModelError, WeightsCorrupt

_STACKS = ("layers", "h", "encoder.layer", "encoder.layers", "transformer.layer", "decoder.layers", "blocks")
_FINAL_NORMS = ("norm", "ln_f", "final_norm", "final_layer_norm", "final_layernorm", "decoder.final_layer_norm")


@dataclass
class LanguageModel:
    """An opened language model: on the CPU, in eval mode, locked."""

    directory: Path
    tokenizer: Any
    model: Any
    """The bare model of transformers: ``input_ids (n, tokens)`` -> ``last_hidden_state (n, tokens, width)``."""
    is_encoder: bool
    """BERT family: every token sees every other, and there is no next-token head."""
    stack: str
    """Where the layers are, as ``encoder.layer``; empty where that is unknown."""
    prefix: list[int]
    """Special tokens that the tokenizer puts before a text (``[CLS]``, ``<s>``); often none for a decoder."""
    suffix: list[int]
    """And after it (``[SEP]``)."""

    @property
    def width(self) -> int:
        """Components of a token's state."""
        return int(self.model.config.hidden_size)

    @property
    def layers(self) -> nn.ModuleList:
        """The layers that are kept. Raises :class:`ModelError` where they are unknown."""
        if not self.stack:
            kind = type(self.model).__name__
            raise ModelError(f"language model {self.directory}: a {kind} shows no list of layers; use layers = 0")
        found = self.model.get_submodule(self.stack)
        assert isinstance(found, nn.ModuleList)
        return found

    @property
    def max_tokens(self) -> int | None:
        """Positions that the model has embeddings for, or was made for; ``None`` where it doesn't say."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if not isinstance(limit, int) or limit <= 0:
            return None
        offset = getattr(getattr(self.model, "embeddings", None), "padding_idx", None)
        return limit - offset - 1 if isinstance(offset, int) else limit  # RoBERTa counts from its padding token on

    @property
    def pad_id(self) -> int:
        """A token id for the places after a text."""
        pad = getattr(self.model.config, "pad_token_id", None)
        return pad if isinstance(pad, int) and pad >= 0 else 0

    @property
    def takes_position_ids(self) -> bool:
        """Whether ``position_ids`` may be given; else it counts them off a two-dimensional mask."""
        return "position_ids" in inspect.signature(self.model.forward).parameters

    def keep_layers(self, count: int) -> None:
        """Drop all but the first ``count`` layers (0: keep all). Raises :class:`ModelError` if it has fewer."""
        if not count:
            return
        layers = self.layers
        if not 0 < count <= len(layers):
            raise ModelError(f"language model {self.directory}: has {len(layers)} layers, not {count}")
        parent, _, name = self.stack.rpartition(".")
        setattr(self.model.get_submodule(parent), name, layers[:count])

    def final_norm(self) -> nn.Module | None:
        """The norm after the last layer; ``None`` where each layer ends in its own (BERT)."""
        names = dict(self.model.named_modules())
        return next((names[name] for name in _FINAL_NORMS if name in names), None)

    def with_head(self) -> Any:
        """The same model inside transformers' causal LM: ``input_ids (n, t)`` -> ``logits (n, t, vocabulary)``.

        The layers are this model's own, adapters included; only the head is read anew (or tied to the embeddings).
        Raises :class:`ModelError` for an encoder, or where the directory has no head.
        """
        if self.is_encoder:
            kind = type(self.model).__name__
            raise ModelError(f"language model {self.directory}: a {kind} is an encoder, it has no next-token loss")
        whole, info = self._whole()
        head = whole.get_output_embeddings()
        tied = bool(getattr(whole.config, "tie_word_embeddings", False))
        if head is None or (info["missing_keys"] and not tied):
            raise ModelError(
                f"language model {self.directory}: holds no language-model head; use one saved as a causal LM"
            )
        embeddings = self.model.get_input_embeddings().weight
        # first without its layers: moving them too would cost their memory again, and cast the adapters
        setattr(whole, whole.base_model_prefix, nn.Identity())
        whole.eval().requires_grad_(False).to(embeddings.device, embeddings.dtype)
        setattr(whole, whole.base_model_prefix, self.model)
        if tied:
            head.weight = embeddings
        return whole

    def _whole(self) -> Any:
        """The model inside transformers' causal LM, and what transformers says of loading it."""
        from transformers import AutoModelForCausalLM

        if _only_gguf(self.directory):
            with stated_errors(self.directory), quiet_transformers():
                return head_of_gguf(self.directory / GGUF_NAME, self.model.config), {"missing_keys": []}
        with stated_errors(self.directory), quiet_transformers(), clean_folder(self.directory, weights=True) as folder:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **NO_REMOTE_CODE
            )
        return loaded


def open_language_model(
    directory: Path, dtype: torch.dtype = torch.float32, *, layers: int = 0, streamed: int = 0
) -> LanguageModel:
    """Open a directory in transformers' layout: ``config.json``, safetensors, tokenizer files; weights as ``dtype``.

    Where base weights were kept as GGUF alone, its tensors are dequantised into memory: of the first ``layers`` layers
    (0: all), the first ``streamed`` of them anew each time that they run.

    Raises :class:`ModelError` where something is missing, is pickled, needs code of its own, or is neither a causal
    LM nor a BERT-family encoder; :class:`WeightsCorrupt` where weights are lacking or damaged.
    """
    if not (directory / "config.json").is_file():
        raise ModelError(
            f"language model {directory}: has no config.json; give a directory in transformers' layout "
            "(config.json, *.safetensors, tokenizer.json), as save_pretrained writes it"
        )
    of_gguf = _only_gguf(directory)
    if not of_gguf and not any(directory.glob("*.safetensors")):
        raise ModelError(
            f"language model {directory}: has no *.safetensors; pickled weights are not read, save it as safetensors"
        )
    ensure_torchvision()
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    with stated_errors(directory), quiet_transformers(), clean_folder(directory, weights=True) as folder:
        config: Any = AutoConfig.from_pretrained(folder, **NO_REMOTE_CODE)
        is_encoder = _is_encoder(config, directory)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **NO_REMOTE_CODE)
        if of_gguf:
            loaded: Any = model_of_gguf(directory / GGUF_NAME, config, dtype, layers, streamed), {"missing_keys": []}
        else:
            loaded = AutoModel.from_pretrained(
                folder, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **NO_REMOTE_CODE
            )
    model, info = loaded
    lacking = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))  # its output is not used
    if lacking:
        raise WeightsCorrupt(
            f"language model {directory}: its weights lack {len(lacking)} tensors, as {lacking[0]}; fetch it again"
        )
    model.eval().requires_grad_(False)
    tokenizer.model_max_length = 1 << 40  # texts are cut to the tower's own limit; no warnings of the tokenizer's
    # what the tokenizer puts around a text is seen on one: no call returns it
    prefix, suffix = special_tokens(tokenizer("a").input_ids, tokenizer("a", add_special_tokens=False).input_ids)
    return LanguageModel(directory, tokenizer, model, is_encoder, _stack(model), prefix, suffix)


def _only_gguf(directory: Path) -> bool:
    """Whether its weights are a GGUF that nothing was converted from."""
    return (directory / GGUF_NAME).is_file() and not any(directory.glob("*.safetensors"))


def _is_encoder(config: Any, directory: Path) -> bool:
    from transformers.models.auto import modeling_auto

    kind = config.model_type
    if not getattr(config, "is_encoder_decoder", False):
        if kind in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
            return True
        if kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            return False
    raise ModelError(
        f"language model {directory}: a {kind} is neither a causal LM nor a BERT-family encoder; give one of these"
    )


def _stack(model: nn.Module) -> str:
    names = dict(model.named_modules())
    return next((name for name in _STACKS if isinstance(names.get(name), nn.ModuleList)), "")
