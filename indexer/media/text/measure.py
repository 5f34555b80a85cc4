"""How much of a text a model's text towers read, counted by their own tokenizers.

A tower cuts what is longer than its limit of tokens, and a character of Russian or Chinese is more of them than one of
English. Who cuts a text beforehand finds here how much of it is read. Knows nothing of passages, files or weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable


class TextMeasure(Protocol):
    """What a model reads of a text. Thread-safe."""

    @property
    def max_tokens(self) -> int:
        """Tokens that it reads of one text, without the special ones that its tokenizer adds."""

    def read_chars(self, text: str, most: int) -> int:
        """How many leading characters of ``text`` are within ``most`` tokens, and within ``max_tokens``.

        ``len(text)`` where all of it is, which is exact; else a number from 1 to ``len(text) - 1``, which may be an
        estimate. White space in ``text`` is single spaces and line ends.
        """


@runtime_checkable
class MeasuresTexts(Protocol):
    """A dual encoder that can say what its text towers read."""

    def open_text_measure(self) -> TextMeasure:
        """Open the tokenizers. Raises ``ModelError`` where the model has no text tower, or can't be opened."""


class TokenizerMeasure:
    """By a tokenizer of transformers or tokenizers that is not set to cut or to pad, so that its backend does neither.

    The backend knows where in the text each token stands, and takes a tenth of the time of a call of the tokenizer.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, normalise: Callable[[str], str] = lambda text: text) -> None:
        """``normalise`` is what the tower does to a text before its tokenizer reads it."""
        self._tokenizer = tokenizer
        own = tokenizer if hasattr(tokenizer, "no_truncation") else None
        self._backend: Any = tokenizer.backend_tokenizer if getattr(tokenizer, "is_fast", False) else own
        self.max_tokens = max_tokens
        self._normalise = normalise

    def read_chars(self, text: str, most: int) -> int:
        """See :class:`TextMeasure`."""
        limit = min(most, self.max_tokens)
        if self._backend is None:
            return _by_count(text, limit, self._count)
        read = self._normalise(text)
        found = self._backend.encode(read, add_special_tokens=False)
        if len(found) <= limit:
            return len(text)
        end = int(found.offsets[limit - 1][1])
        longer = max(0, len(read) - len(text))  # a lower-case letter may be two characters
        return max(1, min(end - longer, len(text) - 1))

    def _count(self, text: str) -> int:
        return len(self._tokenizer(self._normalise(text), add_special_tokens=False)["input_ids"])


class CountMeasure:
    """By a function that only counts the tokens of a text."""

    def __init__(self, count: Callable[[str], int], max_tokens: int) -> None:
        self._count = count
        self.max_tokens = max_tokens

    def read_chars(self, text: str, most: int) -> int:
        """See :class:`TextMeasure`."""
        return _by_count(text, min(most, self.max_tokens), self._count)


class LeastMeasure:
    """Of several towers that read the same text: what all of them read."""

    def __init__(self, measures: Sequence[TextMeasure]) -> None:
        """At least one."""
        self._measures = tuple(measures)
        self.max_tokens = min(one.max_tokens for one in measures)

    def read_chars(self, text: str, most: int) -> int:
        """See :class:`TextMeasure`."""
        read = len(text)
        for one in self._measures:
            read = min(read, one.read_chars(text[:read], most))
        return read


def _by_count(text: str, limit: int, count: Callable[[str], int]) -> int:
    """The longest beginning of ``text`` that is found in a few steps to have ``limit`` tokens at most."""
    chars, tokens = len(text), count(text)
    while tokens > limit and chars > 1:
        chars = max(1, min(chars - 1, chars * limit // tokens))
        tokens = count(text[:chars])
    return chars
