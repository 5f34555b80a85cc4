"""A reranker's prompt in tokens, by ``tokenizers`` alone. Knows nothing of language models."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from indexer.encoders.onnx.subwords import MOST_CHARS, Subwords
from indexer.encoders.onnx.text_tower import open_tokenizer
from indexer.encoders.text_reading import special_tokens

#: After so many texts the whole tokenizer is worth its second.
_FEW = 32


class TextPrompt:
    """A text in its prompt, cut to ``max_tokens``, as :meth:`retrieval.rerank.reader.Reader.token_ids`.

    ``subwords``: the tokenizer's tables, by which a few short texts are read without the whole of it.
    """

    def __init__(self, tokenizer_file: Path, prompt: str, max_tokens: int, subwords: Subwords | None = None) -> None:
        self._file = tokenizer_file
        self._subwords = subwords
        self._read = 0
        self._before, _, self._after = prompt.partition("{text}")
        self._max_tokens = max_tokens

    @cached_property
    def before(self) -> list[int]:
        """Tokens before every text."""
        prefix, _ = special_tokens(list(self._tokenizer_for("a").encode("a").ids), self._tokenize("a"))
        return [*prefix, *self._tokenize(self._before)]

    @cached_property
    def after(self) -> list[int]:
        """Tokens after every text."""
        return self._tokenize(self._after)

    def own(self, text: str) -> list[int]:
        """Tokens of the text itself, in lower case and without a last full stop; at least one."""
        words = " ".join(text.split()).lower().rstrip(".")
        return self._tokenize(words or " ")[: self._max_tokens]

    def _tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer_for(text).encode(text, add_special_tokens=False).ids) if text else []

    def _tokenizer_for(self, text: str) -> Any:
        self._read += 1
        if self._subwords is None or self._read > _FEW or len(text) > MOST_CHARS:
            return self._tokenizer
        return self._subwords.tokenizer([text])

    @cached_property
    def _tokenizer(self) -> Any:
        return open_tokenizer(self._file)
