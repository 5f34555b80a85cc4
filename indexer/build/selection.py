"""Which items of a corpus have to be read; all others are settled from the catalog alone. Opens no media.

An item is not read where it looks as it did (size, times, inode; a text by its hash), where it failed before and
neither it nor the reader has changed, or where the encoder has no tower for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from indexer.build.committer import Committer
from indexer.build.outcomes import ToRead
from indexer.build.tally import Tally
from indexer.collection.catalog.records import (
    BadFile,
    ItemRow,
    describes_same,
    with_generated_caption_of,
    with_words_of,
)
from indexer.collection.collection import Collection
from indexer.corpus.keys import APART, is_apart, key_apart, row_key
from indexer.encoders.base import DualEncoder, require_tower
from indexer.errors import ModelError
from indexer.files import FileId
from indexer.integers import LEAST_INTEGER, MOST_INTEGER
from indexer.items import Item
from indexer.media.content_hash import content_hash

#: Items whose rows are looked up in one go.
_CHUNK = 1_000


def once_each(items: Sequence[Item]) -> list[Item]:
    """One item a key, the last one that a manifest lists where one does."""
    by_key: dict[str, Item] = {}
    for item in items:
        if item.key not in by_key or item.manifest is not None:
            by_key[item.key] = item
    return list(by_key.values())


class Selection:
    """Compares ``items``, one a key, with the catalog. With ``verify_content`` files that look the same are read, too.

    ``reader_version``: a file that failed with another one is read again.
    """

    def __init__(
        self,
        collection: Collection,
        items: Sequence[Item],
        encoder: DualEncoder,
        committer: Committer,
        tally: Tally,
        *,
        reader_version: str,
        verify_content: bool,
    ) -> None:
        self.collection = collection
        self.catalog = collection.catalog
        self.items = items
        self.encoder = encoder
        self.committer = committer
        self.tally = tally
        self.reader_version = reader_version
        self.verify_content = verify_content
        self.keys = {item.key for item in items}
        self.keys_apart = self.catalog.keys_with(APART)
        """Of stored rows, from earlier runs."""

    def to_read(self) -> Iterator[ToRead]:
        """The items that have to be read, in order."""
        for start in range(0, len(self.items), _CHUNK):
            chunk = self.items[start : start + _CHUNK]
            keys = [item.key for item in chunk]
            rows, bad, ids = self.catalog.find(keys), self.catalog.bad_files(keys), self.catalog.file_ids(keys)
            for item in chunk:
                item, stored = self._one_name_each(item, rows.get(item.key))
                if stored is not None:
                    item = with_words_of(item, stored)
                unread = item if stored is None else with_generated_caption_of(item, stored)
                if not self._settled(unread, stored, bad.get(item.key), ids.get(item.key)):
                    if stored is not None:
                        self.tally.stored_keys.add(item.key)
                    yield ToRead(item, unread, stored)

    def _one_name_each(self, item: Item, stored: ItemRow | None) -> tuple[Item, ItemRow | None]:
        """``item`` and what is stored of it, where a file and a row, or two rows, have one key (``corpus.keys``).

        A stored row makes way for a file, under the key of a row apart; a row is given that key where another row has
        the usual one. Neither is lost.
        """
        if item.text is not None and item.manifest is not None and item.row_id is not None and self.keys_apart:
            apart = key_apart(item.manifest, item.row_id)
            if apart in self.keys_apart and apart != item.key:  # it keeps the key that it was given once
                return replace(item, key=apart), self.catalog.find([apart]).get(apart)
        if stored is None:
            if item.row_id is not None and item.manifest is not None and item.text is not None and is_apart(item.key):
                # stored under the usual key before there was another thing of that name
                usual = row_key(item.manifest, item.row_id)
                before = self.catalog.find([usual]).get(usual)
                if before is not None and before.text is not None and _is_row(item, before):
                    self.collection.rename(usual, replace(_item_of(before), key=item.key))
                    return item, self.catalog.find([item.key]).get(item.key)
            return item, stored
        if stored.text is None or stored.manifest is None or stored.row_id is None:
            return item, stored
        apart = key_apart(stored.manifest, stored.row_id)
        if item.text is None:
            if apart not in self.keys and not self.catalog.find([apart]):
                self.collection.rename(stored.key, replace(_item_of(stored), key=apart))
            return item, None
        if _is_row(item, stored) or item.manifest is None or item.row_id is None:
            return item, stored
        key = key_apart(item.manifest, item.row_id)
        return replace(item, key=key), self.catalog.find([key]).get(key)

    def _settled(self, item: Item, stored: ItemRow | None, bad: BadFile | None, before: FileId | None) -> bool:
        """Whether nothing of the item has to be read. ``before``: its file as it was when that was read last."""
        if item.modality not in self.encoder.modalities:
            try:
                require_tower(self.encoder, item.modality)
            except ModelError as error:
                self.tally.skip(item, str(error))
                return True
        if stored is not None:
            if stored.modality is not item.modality or not self._looks_unchanged(item, stored, before):
                return False
            if describes_same(item, stored):
                self.tally.unchanged += 1
            else:
                unread = replace(item, file_id=None)  # what was stored of its file stays
                self.committer.pending.touched.append(unread)
                self.tally.changed += 1
            self.tally.settle()
            return True
        same_file = bad is not None and (bad.size_bytes, bad.mtime_ns) == (item.size_bytes, item.mtime_ns)
        same_file = same_file and self._may_be_same_file(item, before)
        if bad is not None and same_file and bad.reader == self.reader_version and item.text is None:
            self.tally.skip(item, bad.reason)
            return True
        return False

    def _looks_unchanged(self, item: Item, stored: ItemRow, before: FileId | None) -> bool:
        if item.text is not None:
            return content_hash(item) == stored.content_hash
        if item.mtime_ns in (LEAST_INTEGER, MOST_INTEGER):
            return False  # its time is beyond what is stored: two times look alike, so its content decides
        same = (item.size_bytes, item.mtime_ns) == (stored.size_bytes, stored.mtime_ns)
        return same and self._may_be_same_file(item, before)

    def _may_be_same_file(self, item: Item, before: FileId | None) -> bool:
        """Of a file of the same size and time; one that was read before this was stored is taken for the same."""
        if self.verify_content:
            return False
        return before is None or item.file_id is None or item.file_id == before


def _is_row(item: Item, stored: ItemRow) -> bool:
    """Whether both are the same row of the same manifest."""
    return (item.manifest, item.row_id) == (stored.manifest, stored.row_id)


def _item_of(row: ItemRow) -> Item:
    """A stored item as it was given."""
    return Item(
        key=row.key,
        modality=row.modality,
        path=row.path,
        text=row.text,
        captions=row.captions,
        metadata=row.metadata,
        row_id=row.row_id,
        split=row.split,
        manifest=row.manifest,
        size_bytes=row.size_bytes,
        mtime_ns=row.mtime_ns,
    )
