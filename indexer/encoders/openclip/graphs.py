"""Makes the graphs of an open_clip model: its picture tower from pixels on, its text tower from tokens on.

Traced from the module that open_clip built and loaded; the tokenizer is written down for ``tokenizers``. Knows nothing
of where they are kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from indexer.encoders.onnx.exporting import export_module
from indexer.encoders.onnx.library_side import TOWER
from indexer.encoders.onnx.store import NoOnnxForm
from indexer.encoders.onnx.texts import TEXTS, Reading, backend_of, write_texts
from indexer.encoders.openclip.pictures import Pictures

_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def write_pictures(model: Any, pictures: Pictures, folder: Path) -> None:
    """Write ``encode_image`` with the normalisation: uint8 ``(n, height, width, 3)`` -> ``(n, dim)``.

    Of a model that can't be traced for several at once ``n`` is 1. ``model`` is float32 on the CPU. Raises
    :class:`NoOnnxForm`.
    """
    random = np.random.default_rng(0)
    shape = (pictures.height, pictures.width, 3)
    slope = np.broadcast_to(np.linspace(0, 255, pictures.width)[None, :, None], shape)
    examples = [random.integers(0, 256, shape), slope, np.full(shape, 255)]
    inputs = [[np.ascontiguousarray(one, dtype=np.uint8)[None]] for one in examples]
    module = _Pictures(model, pictures)
    try:
        export_module(module, folder / TOWER, inputs, stacked=True)
    except NoOnnxForm:
        export_module(module, folder / TOWER, inputs)


def write_text_tower(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write ``encode_text``: token ids int64 ``(1, context)`` -> ``(1, dim)``, and the tokenizer.

    ``model`` is float32 on the CPU, ``tokenizer`` open_clip's. Raises :class:`NoOnnxForm`.
    """

    def theirs(text: str) -> list[int]:
        return [int(one) for one in tokenizer([text])[0]]

    ours, reading = (_clips_own if hasattr(tokenizer, "bpe_ranks") else _transformers)(tokenizer)
    texts = write_texts(folder, ours, reading, theirs)
    export_module(_Texts(model), folder / TOWER, [[texts.ids(text)] for text in TEXTS])


class _Pictures(nn.Module):
    def __init__(self, model: Any, pictures: Pictures) -> None:
        super().__init__()
        self.model, self.pictures = model, pictures

    def forward(self, stacked: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.model.encode_image(self.pictures.normalised(stacked))
        return rows


class _Texts(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.model.encode_text(ids)
        return rows


def _clips_own(tokenizer: Any) -> tuple[Any, Reading]:
    """CLIP's byte pairs, which open_clip reads in Python: the same words, merges and way to split."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    clean = tokenizer.clean_fn.__name__.removeprefix("_clean_")
    if tokenizer.reduction_fn is not None or clean == "whitespace" or len(tokenizer.all_special_ids) != 2:
        raise NoOnnxForm("CLIP's tokenizer with settings of its own is read by open_clip alone")
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)
    found = Tokenizer(models.BPE(vocab=tokenizer.encoder, merges=merges, end_of_word_suffix="</w>"))
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    context: int = tokenizer.context_length
    start, end = [tokenizer.sot_token_id], [tokenizer.eot_token_id]
    special = tuple(tokenizer.decoder[one] for one in tokenizer.all_special_ids)
    return found, Reading(clean, start, end, context - 2, context, unread=special)


def _transformers(tokenizer: Any) -> tuple[Any, Reading]:
    """A tokenizer of transformers in open_clip's: padded to the context, perhaps without the token that separates."""
    if tokenizer.tokenizer_mode:
        raise NoOnnxForm(f"a tokenizer in the mode {tokenizer.tokenizer_mode} is read by open_clip alone")
    inner = tokenizer.tokenizer
    backend, before, after = backend_of(inner)
    clean = tokenizer.clean_fn.__name__.removeprefix("_clean_")
    context: int = tokenizer.context_length
    zeroed = inner.sep_token_id if tokenizer.strip_sep_token else None
    most = context - len(before) - len(after)
    return backend, Reading(clean, before, after, most, context, int(inner.pad_token_id or 0), zeroed)
