"""A byte-level BPE tokenizer for a few short texts, without reading its whole vocabulary, which takes a second.

Merging only ever makes tokens that stand in the text. So the tokens among a text's substrings are looked up in sorted
tables of hashes, with the merges between them, and a tokenizer of those alone reads the text as the whole one does.
Knows nothing of models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Longer texts have too many substrings; they are for the whole tokenizer.
MOST_CHARS = 400
_SHELL, _VOCABULARY, _MERGES = "subwords.json", "vocabulary.npy", "merges.npy"
_TABLE = np.dtype([("key", "<u8"), ("value", "<i4")])


class Subwords:
    """What :func:`write_subwords` wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tokenizer(self, texts: Iterable[str]) -> Any:
        """A tokenizer that reads ``texts``, each of at most :data:`MOST_CHARS`, as the whole one does."""
        from tokenizers import Tokenizer

        words = list(texts)
        if self._normalizer is not None:
            words += [self._normalizer.normalize_str(text) for text in words]
        vocabulary = self._tokens_in(words)
        shell = self._shell
        model = {**shell["model"], "vocab": {**shell["kept"], **vocabulary}, "merges": self._merges_of(vocabulary)}
        document = {key: value for key, value in shell.items() if key not in ("kept", "longest")}
        return Tokenizer.from_str(json.dumps({**document, "model": model}))

    def _tokens_in(self, texts: Iterable[str]) -> dict[str, int]:
        """Tokens that stand in texts, and all single bytes."""
        parts = set(_BYTES)
        longest = int(self._shell["longest"])
        for text in texts:
            symbols = "".join(_BYTES[byte] for byte in text.encode("utf-8", "replace"))
            for start in range(len(symbols)):
                parts.update(symbols[start:end] for end in range(start + 1, min(len(symbols), start + longest) + 1))
        return _found(self._vocabulary, parts)

    def _merges_of(self, vocabulary: Mapping[str, int]) -> list[list[str]]:
        """Merges of two tokens of the vocabulary into a third, in their order."""
        pairs = {
            f"{token[:cut]} {token[cut:]}"
            for token in vocabulary
            for cut in range(1, len(token))
            if token[:cut] in vocabulary and token[cut:] in vocabulary
        }
        ranks = _found(self._merges, pairs)
        return [pair.split(" ") for pair in sorted(ranks, key=ranks.__getitem__)]

    @cached_property
    def _shell(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._folder / _SHELL).read_text(encoding="utf-8"))
        return found

    @cached_property
    def _normalizer(self) -> Any:
        if self._shell.get("normalizer") is None:
            return None
        from tokenizers import Tokenizer

        shell = {"version": "1.0", "normalizer": self._shell["normalizer"], "added_tokens": []}
        rest = dict.fromkeys(("truncation", "padding", "pre_tokenizer", "post_processor", "decoder"))
        return Tokenizer.from_str(json.dumps({**rest, **shell, "model": _EMPTY})).normalizer

    @cached_property
    def _vocabulary(self) -> NDArray[Any]:
        return np.asarray(np.load(self._folder / _VOCABULARY, allow_pickle=False))

    @cached_property
    def _merges(self) -> NDArray[Any]:
        return np.asarray(np.load(self._folder / _MERGES, allow_pickle=False))


def write_subwords(tokenizer_file: Path, folder: Path) -> bool:
    """Write the tables of a ``tokenizer.json``; ``False``, and nothing, where it is no plain byte-level BPE."""
    document = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    model = document["model"]
    odd = [model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")]
    cut = json.dumps(document.get("pre_tokenizer"))
    # a space before every piece makes tokens that do not stand in the text
    if model.get("type") != "BPE" or any(odd) or '"ByteLevel"' not in cut or '"add_prefix_space": true' in cut:
        return False
    vocabulary: dict[str, int] = model["vocab"]
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
    np.save(folder / _VOCABULARY, _table(vocabulary))
    np.save(folder / _MERGES, _table({pair: rank for rank, pair in enumerate(merges)}))
    document["kept"] = {token["content"]: token["id"] for token in document.get("added_tokens", [])}
    document["longest"] = max(len(token) for pair in merges for token in [pair.replace(" ", "")]) if merges else 1
    document["truncation"] = document["padding"] = None
    model["vocab"], model["merges"] = {}, []
    (folder / _SHELL).write_text(json.dumps(document), encoding="utf-8")
    return True


def has_subwords(folder: Path) -> bool:
    """Whether the tables are there."""
    return (folder / _SHELL).is_file()


def _table(entries: Mapping[str, int]) -> NDArray[Any]:
    """Entries by the hash of their words, sorted."""
    found = np.zeros(len(entries), _TABLE)
    found["key"] = [_key(words) for words in entries]
    found["value"] = list(entries.values())
    return np.sort(found, order="key")


def _found(table: NDArray[Any], words: Iterable[str]) -> dict[str, int]:
    """Of ``words`` those in a table, with their values."""
    wanted = list(words)
    keys = np.array([_key(one) for one in wanted], np.uint64)
    places = np.minimum(np.searchsorted(table["key"], keys), max(0, len(table) - 1))
    if not len(table):
        return {}
    hits = np.flatnonzero(table["key"][places] == keys).tolist()
    return {wanted[hit]: int(table["value"][places[hit]]) for hit in hits}


def _key(words: str) -> int:
    return int.from_bytes(hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _byte_symbols() -> list[str]:
    """The character that byte-level BPE writes for each byte (GPT-2's table)."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


_BYTES = _byte_symbols()
_EMPTY = {"type": "BPE", "vocab": {}, "merges": []}
