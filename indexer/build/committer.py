"""What the next commit of a build writes, and the commit: all in one transaction, or each item alone.

A value that the catalog cannot hold costs its own item alone. Knows nothing of reading or encoding.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from indexer.build.tally import Tally
from indexer.collection.catalog.records import BadFile
from indexer.collection.collection import Collection, Entry
from indexer.errors import CatalogRefuses
from indexer.files import display_path, one_line
from indexer.items import Item, Skipped

#: A commit is made at least this often while there is something to commit.
COMMIT_EVERY_S = 5.0
#: Of a transaction: a value in it that SQLite, JSON or the vector store does not hold. It does not say which one.
_CANNOT_BE_STORED = (CatalogRefuses, ArithmeticError, ValueError, TypeError, RecursionError)


@dataclass(slots=True)
class Pending:
    """What the next commit writes."""

    entries: list[Entry] = field(default_factory=list)
    touched: list[Item] = field(default_factory=list)
    renamed: dict[str, Item] = field(default_factory=dict)
    """Items under their new keys, by the old ones."""
    bad: list[BadFile] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    """Keys of items that are removed, since their new content cannot be read."""

    def apart(self) -> Iterator[Pending]:
        """The same, an item each, in the order in which they are written together."""
        yield Pending(stale=self.stale)
        yield from (Pending(renamed={old_key: item}) for old_key, item in self.renamed.items())
        yield from (Pending(touched=[item]) for item in self.touched)
        yield from (Pending(bad=[bad]) for bad in self.bad)
        yield from (Pending(entries=[entry]) for entry in self.entries)

    def keys_to_store(self) -> list[str]:
        """Keys of the items that are to be stored; what is to be removed, or was skipped before, is none of them."""
        return [item.key for item in (*self.renamed.values(), *self.touched, *(entry.item for entry in self.entries))]

    def __len__(self) -> int:
        return len(self.entries) + len(self.touched) + len(self.renamed) + len(self.bad) + len(self.stale)


class Committer:
    """Gathers what is to be written into ``collection``, and writes it."""

    def __init__(self, collection: Collection, tally: Tally) -> None:
        self.collection = collection
        self.tally = tally
        self.pending = Pending()
        self._committed_at = time.monotonic()

    def commit_if_due(self, every: int) -> None:
        """Commit where ``every`` items or more are pending, or the last commit is some seconds old."""
        if len(self.pending) >= every or time.monotonic() - self._committed_at > COMMIT_EVERY_S:
            self.commit()

    def commit(self) -> None:
        """Write all that is pending in one commit; on an error it stays pending, but for what can't be stored."""
        pending = self.pending
        if len(pending):
            try:
                self._store(pending)
            except _CANNOT_BE_STORED:
                for part in pending.apart():
                    self._store_or_skip(part)
            self.pending = Pending()
        self._committed_at = time.monotonic()

    def _store(self, pending: Pending) -> None:
        with self.collection.transaction():
            self.collection.remove(pending.stale)
            for old_key, item in pending.renamed.items():
                self.collection.rename(old_key, item)
            self.collection.touch(pending.touched)
            self.collection.record_skipped(pending.bad)
            self.collection.commit(pending.entries)
        self.tally.segments += sum(len(entry.segments) for entry in pending.entries)
        self.tally.committed += len(pending.entries) + len(pending.renamed)

    def _store_or_skip(self, part: Pending) -> None:
        """Store one item, in a commit of its own; one with a value that the catalog can't hold is skipped."""
        try:
            self._store(part)
        except _CANNOT_BE_STORED as error:
            reason = f"cannot be stored ({one_line(error)}); change it or leave it out"
            self.tally.skipped.extend(Skipped(display_path(key), reason) for key in part.keys_to_store())
            for entry in part.entries:
                self.tally.count_encoded(entry.item.key, -1)
