"""How much is read in ONNX Runtime before torch is worth its import. Knows nothing of towers."""

from __future__ import annotations

from indexer.encoders.processor import favours_graphs


class Few:
    """Up to ``at_once`` inputs together, and up to ``in_all`` that came several at once, as those of an index run do.

    Single ones, as queries are, are never too many. ``or_more``: nothing is, where ONNX Runtime is the faster one.
    """

    def __init__(self, at_once: int = 8, in_all: int = 64, *, or_more: bool = False) -> None:
        self._at_once, self._left, self._or_more = at_once, in_all, or_more

    def takes(self, count: int) -> bool:
        """Whether ``count`` inputs (at least one) are for ONNX Runtime; where only a few are, they count."""
        if self._or_more and favours_graphs():
            return count > 0
        if not 0 < count <= self._at_once:
            return False
        if count > 1:
            self._left -= count
        return self._left >= 0


def graphs_take(count: int, few: int) -> bool:
    """Whether ``count`` texts are for ONNX Runtime: a ``few`` always, more where it is the faster one here."""
    return count <= few or favours_graphs()
