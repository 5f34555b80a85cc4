"""How far a long run is: the one signature of everything that reports progress. Knows nothing of terminals."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with a stage, how many of its things are done, skipped ones included, and of how many.

    ``stage`` is a few words for people, such as ``indexing``; ``total`` is the stage's own.
    """

    def __call__(self, stage: str, done: int, total: int, skipped: int = 0, /) -> None:
        """Show it; called often, so it returns at once."""


def silent(stage: str, done: int, total: int, skipped: int = 0, /) -> None:
    """Progress that is shown nowhere."""
