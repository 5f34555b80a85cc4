"""What a build has done so far, counted, and the progress that is shown of it. Used by one thread."""

from __future__ import annotations

import time
from collections.abc import Iterable

from indexer.files import display_path
from indexer.items import Item, Skipped
from indexer.progress import Progress

_PROGRESS_EVERY_S = 0.1


class Tally:
    """Counts of items (``segments``: vectors written), of ``total`` that the corpus has."""

    def __init__(self, total: int, skipped: Iterable[Skipped], on_progress: Progress) -> None:
        self.total = total
        self.skipped = list(skipped)
        """In the order in which they were met."""
        self.added = self.changed = self.unchanged = self.moved = self.pruned = 0
        self.segments = 0
        self.settled = 0
        """Items of which the outcome is known."""
        self.committed = 0
        self.stored_keys: set[str] = set()
        """Keys at work that are in the catalog already: changed, not added."""
        self._on_progress = on_progress
        self._shown_at = 0.0

    def count_encoded(self, key: str, n: int = 1) -> None:
        """Count an encoded item: changed where the catalog has its key, else added. ``n`` -1 takes it back."""
        if key in self.stored_keys:
            self.changed += n
        else:
            self.added += n

    def skip(self, item: Item, reason: str) -> None:
        """An item that is not indexed."""
        self.skipped.append(Skipped(display_path(item.key), reason))
        self.settle()

    def settle(self) -> None:
        """Count an item of which the outcome is known."""
        self.settled += 1
        self.show("indexing")

    def show(self, stage: str, *, now: bool = False) -> None:
        """Report progress, not too often unless ``now``."""
        if now or self.settled == self.total or time.monotonic() - self._shown_at > _PROGRESS_EVERY_S:
            self._shown_at = time.monotonic()
            self._on_progress(stage, self.settled, self.total, len(self.skipped))
