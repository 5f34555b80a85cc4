"""A reranker's prompt in tokens, by ``tokenizers`` alone. Knows nothing of language models."""

from __future__ import annotations

from functools import cached_property

from indexer.encoders.onnx.own_tokens import OwnTokens


class TextPrompt:
    """A text in its prompt, cut to ``max_tokens``, as :meth:`retrieval.rerank.reader.Reader.token_ids`."""

    def __init__(self, tokens: OwnTokens, prompt: str, max_tokens: int) -> None:
        self._tokens = tokens
        self._before, _, self._after = prompt.partition("{text}")
        self._max_tokens = max_tokens

    @cached_property
    def before(self) -> list[int]:
        """Tokens before every text."""
        prefix, _ = self._tokens.around
        return [*prefix, *self._tokens.ids(self._before)]

    @cached_property
    def after(self) -> list[int]:
        """Tokens after every text."""
        return self._tokens.ids(self._after)

    def own(self, text: str) -> list[int]:
        """Tokens of the text itself, in lower case and without a last full stop; at least one."""
        words = " ".join(text.split()).lower().rstrip(".")
        return self._tokens.ids(words or " ")[: self._max_tokens]
