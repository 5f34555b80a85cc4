"""What is handed to the threads that read items, and what they give back. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from indexer.build.batches import Prepared
from indexer.collection.catalog.records import ItemRow
from indexer.errors import TrimodalError
from indexer.items import Item
from indexer.media.held import Held

#: Of an outcome that holds nothing that was decoded.
_OUTCOME_BYTES = 1_000


@dataclass(frozen=True, slots=True)
class ToRead:
    """An item whose file has to be read."""

    item: Item
    """As it is if its content is new."""
    same: Item
    """As it is if its content is what is stored: with the caption that a model made for that."""
    stored: ItemRow | None


@dataclass(frozen=True, slots=True)
class SameContent:
    """Read, and found to hold what is stored for it."""

    item: Item


@dataclass(frozen=True, slots=True)
class KnownContent:
    """Read, and found to hold what another item holds, stored or at work."""

    item: Item
    content_hash: str


@dataclass(frozen=True, slots=True)
class NewContent:
    """Hashed, and to be decoded."""

    item: Item
    content_hash: str
    held: Held | None
    """The bytes that were hashed; ``None`` for a text of a manifest."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Cannot be read, or not now."""

    item: Item
    reason: str
    lasting: bool
    """False when trying again may help though the file stays the same (permissions, memory)."""


@dataclass(frozen=True, slots=True)
class Fatal:
    """Not the file's fault."""

    error: TrimodalError


#: What comes of an item; of a long sound, several ``Prepared`` one after the other.
Outcome = Prepared | SameContent | KnownContent | Failed | Fatal


def size_bytes(outcome: Outcome) -> int:
    """About what an outcome takes in memory."""
    return outcome.size_bytes if isinstance(outcome, Prepared) else _OUTCOME_BYTES
