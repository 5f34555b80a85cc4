"""What a text tower does to texts and tokens before its model runs, in torch and in ONNX Runtime alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from indexer.encoders.specs import TextSpec


def tower_words(text: str, spec: TextSpec) -> str:
    """The text as the tower reads it: single spaces; with ``lowercase`` in lower case, without a last full stop."""
    words = " ".join(text.split())
    return words.lower().rstrip(".") if spec.lowercase else words


def special_tokens(whole: list[int], bare: list[int]) -> tuple[list[int], list[int]]:
    """What a tokenizer puts before and after a text, from its tokens with and without special ones."""
    for start in range(len(whole) - len(bare) + 1):
        if bare and whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    return [], []


def around_of(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Special tokens that a tokenizer of ``tokenizers`` puts before and after a text."""
    return special_tokens(tokenizer.encode("a").ids, tokenizer.encode("a", add_special_tokens=False).ids)


def equal_lengths(sequences: Sequence[Sequence[int]], most_tokens: int) -> Iterator[list[int]]:
    """Positions of sequences of one length, ``most_tokens`` tokens or fewer at once: no row depends on padding."""
    by_length: dict[int, list[int]] = {}
    for position, sequence in enumerate(sequences):
        by_length.setdefault(len(sequence), []).append(position)
    for length, positions in by_length.items():
        step = max(1, most_tokens // length)
        yield from (positions[start : start + step] for start in range(0, len(positions), step))
