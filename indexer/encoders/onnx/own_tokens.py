"""A text's own tokens by ``tokenizers`` alone: of a few short texts by tables, of more by the whole tokenizer.

Imports no transformers. Knows nothing of prompts.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from indexer.encoders.onnx.subwords import Subwords, has_subwords
from indexer.encoders.text_reading import around_of

#: After so many texts the whole tokenizer is worth its second.
_FEW = 32


class OwnTokens:
    """The tokenizer of a ``tokenizer.json``; its tables lie in ``tables``, where there are some."""

    def __init__(self, file: Path, tables: Path) -> None:
        self._file = file
        self._tables = Subwords(tables) if has_subwords(tables) else None
        self._read = 0

    def ids(self, text: str) -> list[int]:
        """Without the special tokens around it; none of an empty text."""
        self._read += 1
        if self._tables is not None and self._read <= _FEW and self._tables.reads(text):
            return self._tables.ids(text)
        return list(self.whole.encode(text, add_special_tokens=False).ids) if text else []

    @cached_property
    def around(self) -> tuple[list[int], list[int]]:
        """Special tokens that the tokenizer puts before and after a text."""
        if self._tables is not None:
            return self._tables.around
        return around_of(self.whole)

    @cached_property
    def whole(self) -> Any:
        """The whole tokenizer; it cuts and pads nothing."""
        from tokenizers import Tokenizer

        found = Tokenizer.from_file(str(self._file))
        found.no_truncation()
        found.no_padding()
        return found
