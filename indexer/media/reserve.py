"""How a decoder says what memory it is about to take. Knows nothing of who counts it."""

from __future__ import annotations

from typing import Protocol


class Reserve(Protocol):
    """Called by the work with the bytes that it is going to take besides its parts, in all; waits for them."""

    def __call__(self, n_bytes: int) -> None: ...


def no_reserve(n_bytes: int) -> None:
    """For work that is done outside a prefetch."""
