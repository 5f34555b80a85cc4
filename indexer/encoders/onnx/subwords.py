"""A tokenizer for a few short texts, without reading its whole vocabulary, which takes a second.

Only tokens that stand in a text can be among its tokens: merging (byte-level BPE) makes no others, and neither does the
best path through a text's pieces (unigram). So the tokens among a text's substrings are looked up in sorted tables of
hashes, with the merges between them or their scores, and a tokenizer of those alone reads the text as the whole one
does. Knows nothing of models.
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

from indexer.encoders.text_reading import around_of

#: The form of the tables; another one is for another folder.
TABLES = "tables 2"
#: Longer texts have too many substrings; they are for the whole tokenizer.
MOST_CHARS = 400
_SHELL, _VOCABULARY, _MERGES, _SCORES = "subwords.json", "vocabulary.npy", "merges.npy", "scores.npy"
_TABLE = np.dtype([("key", "<u8"), ("value", "<i4")])


class Subwords:
    """What :func:`write_subwords` wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def reads(self, text: str) -> bool:
        """Whether a text is short enough, and spells no special token that only the whole tokenizer would see."""
        return len(text) <= MOST_CHARS and not any(one in text for one in self._shell["unread"])

    def ids(self, text: str) -> list[int]:
        """Tokens of a text that :meth:`reads`, without special ones around it."""
        read = self._unigram if self._shell["model"]["type"] == "Unigram" else self._byte_pairs
        return read(text) if text else []

    @property
    def around(self) -> tuple[list[int], list[int]]:
        """Special tokens before and after a text."""
        before, after = self._shell["around"]
        return before, after

    def _byte_pairs(self, text: str) -> list[int]:
        words = [text] if self._normalizer is None else [text, self._normalizer.normalize_str(text)]
        vocabulary = self._tokens_in(words)
        model = {
            **self._shell["model"],
            "vocab": {**self._shell["kept"], **vocabulary},
            "merges": self._merges_of(vocabulary),
        }
        return list(self._small(model).encode(text, add_special_tokens=False).ids)

    def _unigram(self, text: str) -> list[int]:
        normalizer, cut = self._normalizer, self._pre_tokenizer
        longest = int(self._shell["longest"])
        parts: set[str] = set()
        for piece, _ in cut.pre_tokenize_str(normalizer.normalize_str(text) if normalizer else text):
            for start in range(len(piece)):
                parts.update(piece[start:end] for end in range(start + 1, min(len(piece), start + longest) + 1))
        found = _found(self._vocabulary, parts)
        unknown, least = self._shell["model"]["unk_id"], self._shell["least"]
        # an unknown character's score depends on the least score of all, so something that occurs nowhere has it
        pieces = [["<unknown>", 0.0], ["\ue001\ue001", least]]
        pieces += [[piece, float(self._scores[number])] for piece, number in found.items()]
        numbers = [unknown, unknown, *found.values()]
        model = {**self._shell["model"], "unk_id": 0, "vocab": pieces}
        return [numbers[one] for one in self._small(model).encode(text, add_special_tokens=False).ids]

    def _small(self, model: Mapping[str, Any]) -> Any:
        from tokenizers import Tokenizer

        document = {key: value for key, value in self._shell.items() if key not in _OWN}
        if model["type"] == "Unigram":
            document |= {"added_tokens": [], "post_processor": None}
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
        return self._part("normalizer")

    @cached_property
    def _pre_tokenizer(self) -> Any:
        return self._part("pre_tokenizer")

    def _part(self, name: str) -> Any:
        """The normaliser or pre-tokenizer alone."""
        if self._shell.get(name) is None:
            return None
        from tokenizers import Tokenizer

        shell = {"version": "1.0", name: self._shell[name], "added_tokens": []}
        rest = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
        return getattr(Tokenizer.from_str(json.dumps({**rest, **shell, "model": _EMPTY})), name)

    @cached_property
    def _vocabulary(self) -> NDArray[Any]:
        return self._mapped(_VOCABULARY)

    @cached_property
    def _merges(self) -> NDArray[Any]:
        return self._mapped(_MERGES)

    @cached_property
    def _scores(self) -> NDArray[Any]:
        """Of a unigram model, by token id."""
        return self._mapped(_SCORES)

    def _mapped(self, name: str) -> NDArray[Any]:
        return np.asarray(np.load(self._folder / name, mmap_mode="r", allow_pickle=False))


def write_subwords(tokenizer_file: Path, folder: Path) -> bool:
    """Write the tables of a ``tokenizer.json``; ``False``, and nothing, where it is of another kind.

    Tables are for plain byte-level BPE, and for unigram models whose texts are cut at spaces (Metaspace).
    """
    from tokenizers import Tokenizer

    document = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    write = {"BPE": _write_byte_pairs, "Unigram": _write_unigram}.get(document["model"].get("type"))
    if write is None or not write(document, folder):
        return False
    document["around"] = around_of(Tokenizer.from_file(str(tokenizer_file)))
    document["truncation"] = document["padding"] = None
    (folder / _SHELL).write_text(json.dumps(document), encoding="utf-8")
    return True


def _write_byte_pairs(document: dict[str, Any], folder: Path) -> bool:
    """Tables of tokens and merges; what is left in ``document`` is the shell."""
    model = document["model"]
    odd = [model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")]
    cut = json.dumps(document.get("pre_tokenizer"))
    # a space before every piece makes tokens that do not stand in the text
    if any(odd) or '"ByteLevel"' not in cut or '"add_prefix_space": true' in cut:
        return False
    vocabulary: dict[str, int] = model["vocab"]
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
    np.save(folder / _VOCABULARY, _table(vocabulary))
    np.save(folder / _MERGES, _table({pair: rank for rank, pair in enumerate(merges)}))
    document["kept"] = {token["content"]: token["id"] for token in document.get("added_tokens", [])}
    document["longest"] = max(len(token) for pair in merges for token in [pair.replace(" ", "")]) if merges else 1
    document["unread"] = []
    model["vocab"], model["merges"] = {}, []
    return True


def _write_unigram(document: dict[str, Any], folder: Path) -> bool:
    """A table of pieces and their scores; what is left in ``document`` is the shell."""
    model = document["model"]
    if model.get("byte_fallback") or model.get("unk_id") is None:
        return False
    if (document.get("pre_tokenizer") or {}).get("type") != "Metaspace":
        return False
    pieces: list[tuple[str, float]] = model["vocab"]
    np.save(folder / _VOCABULARY, _table({piece: number for number, (piece, _) in enumerate(pieces)}))
    np.save(folder / _SCORES, np.array([score for _, score in pieces], dtype="<f8"))
    document["longest"] = max(len(piece) for piece, _ in pieces)
    document["least"] = min(score for _, score in pieces)
    document["unread"] = [token["content"] for token in document.get("added_tokens", [])]
    model["vocab"] = []
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
#: Of the shell, what is not the tokenizer's.
_OWN = ("kept", "longest", "least", "around", "unread")
