"""A reranker's prompt in tokens, by ``tokenizers`` alone. Knows nothing of language models."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from indexer.encoders.onnx.text_tower import open_tokenizer
from indexer.encoders.text_reading import special_tokens


class TextPrompt:
    """A text in its prompt, cut to ``max_tokens``, as :meth:`retrieval.rerank.reader.Reader.token_ids`."""

    def __init__(self, tokenizer_file: Path, prompt: str, max_tokens: int) -> None:
        self._file = tokenizer_file
        self._before, _, self._after = prompt.partition("{text}")
        self._max_tokens = max_tokens

    @cached_property
    def before(self) -> list[int]:
        """Tokens before every text."""
        prefix, _ = special_tokens(list(self._tokenizer.encode("a").ids), self._tokenize("a"))
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
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids) if text else []

    @cached_property
    def _tokenizer(self) -> Any:
        return open_tokenizer(self._file)
