"""The catalog: what is in a collection, in SQLite. Opens, writes and checks it.

A transaction here is the commit point of the whole collection. A reader holds one read transaction from
:meth:`Catalog.open` until :meth:`Catalog.refresh`, so all that it sees belongs to one commit, whatever a
writer does meanwhile. The tables are in ``schema.py``. Knows nothing of vectors, FAISS or models.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from indexer.collection.catalog import inconsistencies
from indexer.collection.catalog.checksum import checksum_file, checksum_is_damaged, is_corrupted, write_checksum
from indexer.collection.catalog.reader import CatalogReader, chunks
from indexer.collection.catalog.records import GENERATED_BY, BadFile, GeneratedCaption, Record, clean, item_columns
from indexer.collection.catalog.schema import (
    COUNT_COMMIT,
    FILE_IDS,
    ITEMS,
    KEEP_DESCRIPTION,
    MAKE_FILE_IDS,
    META,
    MIGRATIONS,
    OF_ANOTHER_MODALITY,
    SEGMENTS,
    SKIPPED,
)
from indexer.collection.catalog.sqlite import USE_LOG, connect, connect_reader, is_unmade, stated_errors
from indexer.collection.catalog.sqlite_errors import REBUILD
from indexer.durable import make_way
from indexer.errors import CollectionError, IndexDamaged, StorageError, TrimodalError
from indexer.files import FileId
from indexer.items import Item, Modality
from indexer.reading import misplaced

_FACTS = ("width_px", "height_px", "duration_s", "taken_at")
#: How ``integrity_check`` names a page that it could not get, and the codes that are no damage: SQLITE_NOMEM, IOERR.
_ERROR_CODE = re.compile(r"error code[=: ]*(\d+)")
_NOT_READ = frozenset((7, 10))


class Catalog(CatalogReader):
    """One ``catalog.sqlite``, open for reading or, by the one writer, for writing. Thread-safe."""

    _corrupted: bool | None = None
    """Whether its bytes were not those that were written when it was opened for writing; ``None``: not known."""

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> Catalog:
        """Open an existing catalog; a writer first brings its tables up to date."""
        if (wrong := misplaced(path)) is not None:
            raise IndexDamaged(f"{path}: {wrong}; {REBUILD}")
        with stated_errors(path):
            connection = connect(path, "rw") if writable else connect_reader(path)
            catalog = cls(path, connection, writable=writable)
            try:
                version = catalog._schema_version()
                newest = MIGRATIONS[-1][0]
                if version == 0:
                    raise IndexDamaged(f"{path}: holds no catalog; {REBUILD}")
                if version > newest:
                    raise CollectionError(
                        f"{path}: was written by a newer trimodal (tables {version}, this one knows {newest});"
                        " upgrade: pip install -U trimodal"
                    )
                if version < newest and not writable:
                    raise CollectionError(
                        f"{path}: was written by an older trimodal (tables {version}, now {newest}); "
                        "bring it up to date: trimodal verify --repair"
                    )
                if writable:
                    catalog._corrupted = is_corrupted(path, catalog._commits())
                    catalog._use_log()
                    catalog._migrate(version)
            except BaseException:
                catalog.close()
                raise
        return catalog

    @staticmethod
    def is_unmade(path: Path) -> bool:
        """Whether the file is a database without tables, as a creation that was killed leaves it."""
        return is_unmade(path)

    @classmethod
    def create(cls, path: Path) -> Catalog:
        """Make an empty catalog, open for writing."""
        with stated_errors(path):
            connection = connect(path, "rwc")
            catalog = cls(path, connection, writable=True)
            try:
                catalog._raw().execute(USE_LOG)
                catalog._migrate(0)
                catalog._corrupted = False
            except BaseException:
                catalog.close()
                raise
        return catalog

    def close(self) -> None:
        """Let go of the file; a writer leaves its checksum, which ``check`` compares."""
        with self._lock:
            commits: int | None = None
            if self._corrupted is not None and not self._connection.closed:
                with contextlib.suppress(TrimodalError):  # uncounted, it is left without a checksum
                    commits = self._commits()
            self._disconnect()
            if commits is not None:
                write_checksum(self.path, commits, corrupted=self._corrupted is True)

    @property
    def is_whole(self) -> bool:
        """Whether it was found, when it was opened for writing, to hold the bytes that were written."""
        return self._corrupted is False

    def keep_description(self, text: str) -> None:
        """Keep a copy of ``collection.json``. The column is declared for numbers; SQLite keeps a text as it is."""
        with self.transaction():
            self._connection.execute(KEEP_DESCRIPTION, {"text": text})

    def set_meta(
        self, *, vector_count: int | None = None, generation: int | None = None, index_generation: int | None = None
    ) -> None:
        """Store the ones given."""
        values = {"vector_count": vector_count, "generation": generation, "index_generation": index_generation}
        with self.transaction():
            for key, value in values.items():
                if value is not None:
                    self._connection.execute(sa.update(META).where(META.c.key == key).values(value=value))

    # -- writing --------------------------------------------------------------------------------------------

    def put(self, records: Sequence[Record]) -> None:
        """Store items and their segments; one of the same key is replaced, and keeps id and ``added_at``."""
        by_key = {record.item.key: record for record in records}
        with self.transaction():
            before = self.find(by_key)
            self._delete(by_key)
            highest = sa.select(sa.func.coalesce(sa.func.max(ITEMS.c.item_id), 0))
            next_id = int(self._connection.execute(highest).scalar_one()) + 1
            next_id = max([next_id, *(row.item_id + 1 for row in before.values())])
            items: list[dict[str, Any]] = []
            segments: list[dict[str, Any]] = []
            for key, record in by_key.items():
                old = before.get(key)
                item_id = old.item_id if old else next_id
                next_id += 0 if old else 1
                items.append(
                    {
                        **item_columns(record.item),
                        "item_id": item_id,
                        "content_hash": record.content_hash,
                        "added_at": old.added_at if old else datetime.now(UTC).isoformat(timespec="seconds"),
                        **{fact: record.facts.get(fact) for fact in _FACTS},
                    }
                )
                for position, segment in enumerate(record.segments):
                    segments.append(
                        {
                            "item_id": item_id,
                            "ordinal": segment.ordinal,
                            "vector_id": record.first_vector_id + position,
                            "modality": str(record.item.modality),
                            "start_s": segment.start_s,
                            "end_s": segment.end_s,
                            "text": clean(segment.text),
                        }
                    )
            if items:
                self._connection.execute(sa.insert(ITEMS), items)
            if segments:
                self._connection.execute(sa.insert(SEGMENTS), segments)
            self._keep_file_ids((record.item.key, record.item.file_id) for record in by_key.values())

    def put_generated(self, captions: Iterable[GeneratedCaption]) -> None:
        """Give pictures the captions that a model made, marked as such, each with a text segment for its vector."""
        with self.transaction():
            for one in captions:
                stored = sa.select(ITEMS.c.metadata).where(ITEMS.c.item_id == one.item_id)
                metadata = json.loads(self._connection.execute(stored).scalar_one())
                words = clean(one.caption)
                values = {
                    "caption": words,
                    "captions": json.dumps([words], ensure_ascii=False),
                    "metadata": json.dumps({**metadata, GENERATED_BY: clean(one.model)}, ensure_ascii=False),
                }
                self._connection.execute(sa.update(ITEMS).where(ITEMS.c.item_id == one.item_id).values(**values))
                last = sa.select(sa.func.max(SEGMENTS.c.ordinal)).where(SEGMENTS.c.item_id == one.item_id)
                segment = {
                    "item_id": one.item_id,
                    "ordinal": int(self._connection.execute(last).scalar_one()) + 1,
                    "vector_id": one.vector_id,
                    "modality": str(Modality.TEXT),
                    "text": words,
                }
                self._connection.execute(sa.insert(SEGMENTS), [segment])

    def touch(self, items: Sequence[Item]) -> None:
        """Write again what is known of each item without reading it; content, vectors and id stay."""
        with self.transaction():
            for item in items:
                self._connection.execute(sa.update(ITEMS).where(ITEMS.c.key == item.key).values(**item_columns(item)))
            self._keep_file_ids((item.key, item.file_id) for item in items)
            self._drop_stale_captions(item.key for item in items)
            self._forget_skipped(item.key for item in items)

    def rename(self, old_key: str, item: Item) -> None:
        """The stored item ``old_key`` is ``item`` from now on, vectors and all; one at the new key goes."""
        with self.transaction():
            if old_key == item.key or not self.find([old_key]):
                return  # nothing is moved, so nothing may be replaced
            self._delete([item.key])
            self._forget_file_ids([old_key])
            self._keep_file_ids([(item.key, item.file_id)])
            self._connection.execute(sa.update(ITEMS).where(ITEMS.c.key == old_key).values(**item_columns(item)))
            self._drop_stale_captions([item.key])

    def remove(self, keys: Iterable[str]) -> int:
        """Remove items with their segments and skip records; returns how many items there were."""
        with self.transaction():
            return self._delete(keys)

    def record_skipped(self, bad: Sequence[BadFile]) -> None:
        """Remember files that could not be read."""
        with self.transaction():
            self._forget_skipped(one.key for one in bad)
            rows = {
                one.key: {
                    "key": one.key,
                    "size_bytes": one.size_bytes,
                    "mtime_ns": one.mtime_ns,
                    "reason": clean(one.reason),
                    "reader": one.reader,
                }
                for one in bad
            }
            if rows:
                self._connection.execute(sa.insert(SKIPPED), list(rows.values()))
            self._keep_file_ids((one.key, one.file_id) for one in bad)

    def renumber(self, vector_ids: NDArray[np.int64]) -> None:
        """Give the segment of ``vector_ids[i]`` the vector_id ``i``; they are all the live ones, ascending.

        In that order each new number is free when it is given: the unique constraint holds throughout.
        """
        change = (
            sa.update(SEGMENTS).where(SEGMENTS.c.vector_id == sa.bindparam("old")).values(vector_id=sa.bindparam("new"))
        )
        moves = [{"old": int(old), "new": new} for new, old in enumerate(vector_ids) if int(old) != new]
        with self.transaction():
            for chunk in chunks(moves):
                self._connection.execute(change, chunk)

    def compact(self) -> None:
        """Give the pages of removed rows back to the disk."""
        self._vacuum()

    # -- checking -------------------------------------------------------------------------------------------

    def check(self) -> list[str]:
        """What is wrong inside the catalog, one line each: pages, references, counts; and bytes that have changed."""
        with self._reading() as connection:
            pages = [str(line) for line in connection.exec_driver_sql("PRAGMA integrity_check(10)").scalars()]
            if any(int(code) & 0xFF in _NOT_READ for line in pages for code in _ERROR_CODE.findall(line)):
                raise StorageError(
                    f"{self.path}: cannot be read ({'; '.join(pages)}); nothing was changed: check the disk and "
                    "run the same command again"
                )
            if pages != ["ok"]:
                return [f"{self.path}: SQLite finds damage: {'; '.join(pages)}"]
            if checksum_is_damaged(self.path):
                return [f"{checksum_file(self.path)}: is damaged"]
            if is_corrupted(self.path, self._commits()):
                return [f"{self.path}: SQLite finds damage: its bytes are not those that were written (crc32)"]
        problems = []
        for what, query in (
            ("segments whose item is missing", inconsistencies.ORPHAN_SEGMENTS),
            ("items without segments", inconsistencies.EMPTY_ITEMS),
            ("segments with a vector_id outside the vector store", self._segments_out_of_range()),
            ("vector_ids used by two segments", inconsistencies.DOUBLE_VECTOR_IDS),
            ("segments with another modality than their item", inconsistencies.MIXED_SEGMENTS),
        ):
            if found := self._integers(query):
                problems.append(f"{self.path}: {len(found):,} {what}")
        return problems

    def _segments_out_of_range(self) -> sa.Select[Any]:
        return inconsistencies.segments_out_of_range(self.vector_count)

    def forget_damaged_checksum(self) -> None:
        """It is written anew when the catalog is closed."""
        if checksum_is_damaged(self.path):
            make_way(checksum_file(self.path))

    def drop_inconsistent(self, vector_ids: Iterable[int] = ()) -> list[str]:
        """Remove what :meth:`check` finds, and the items of ``vector_ids``; returns their keys."""
        with self.transaction():
            orphans = self._integers(inconsistencies.ORPHAN_SEGMENTS)
            for chunk in chunks(orphans):
                self._connection.execute(sa.delete(SEGMENTS).where(SEGMENTS.c.segment_id.in_(chunk)))
            bad: set[int] = set()
            for query in (
                inconsistencies.EMPTY_ITEMS,
                self._segments_out_of_range(),
                inconsistencies.MIXED_SEGMENTS,
            ):
                bad.update(self._integers(query))
            doubled = self._integers(inconsistencies.DOUBLE_VECTOR_IDS)
            for chunk in chunks([*doubled, *(int(vector_id) for vector_id in vector_ids)]):
                query = sa.select(SEGMENTS.c.item_id).where(SEGMENTS.c.vector_id.in_(chunk))
                bad.update(self._connection.execute(query).scalars())
            keys: list[str] = []
            for chunk in chunks(sorted(bad)):
                keys += self._connection.execute(sa.select(ITEMS.c.key).where(ITEMS.c.item_id.in_(chunk))).scalars()
            self._delete(keys)
            return keys

    # -- helpers --------------------------------------------------------------------------------------------

    def _schema_version(self) -> int:
        with self._reading() as connection:
            return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())

    def _before_commit(self) -> None:
        """Count the commits, so that a checksum says which one it is of."""
        self._connection.execute(COUNT_COMMIT)

    def _migrate(self, version: int) -> None:
        for number, statements in MIGRATIONS:
            if number > version:
                with self.transaction():
                    for statement in statements:
                        self._connection.exec_driver_sql(statement)
                    self._connection.exec_driver_sql(f"PRAGMA user_version = {number:d}")

    def _commits(self) -> int:
        """Transactions committed; 0 in a catalog from before they were counted."""
        with self._reading() as connection:
            query = sa.select(META.c.value).where(META.c.key == "commits")
            return self._integer("commits", connection.execute(query).scalar_one_or_none() or 0)

    def _delete(self, keys: Iterable[str]) -> int:
        """Items with ``keys``, by cascade their segments, and their skip records."""
        removed = 0
        keys = list(keys)
        for chunk in chunks(keys):
            removed += self._connection.execute(sa.delete(ITEMS).where(ITEMS.c.key.in_(chunk))).rowcount
        self._forget_skipped(keys)
        self._forget_file_ids(keys)
        return removed

    def _drop_stale_captions(self, keys: Iterable[str]) -> None:
        """Of pictures whose caption is no more the one that a model made, the segment of those words."""
        for chunk in chunks(list(keys)):
            stale = sa.select(SEGMENTS.c.segment_id).join(ITEMS).where(ITEMS.c.key.in_(chunk), OF_ANOTHER_MODALITY)
            self._connection.execute(sa.delete(SEGMENTS).where(SEGMENTS.c.segment_id.in_(stale)))

    def _forget_skipped(self, keys: Iterable[str]) -> None:
        for chunk in chunks(list(keys)):
            self._connection.execute(sa.delete(SKIPPED).where(SKIPPED.c.key.in_(chunk)))

    def _keep_file_ids(self, pairs: Iterable[tuple[str, FileId | None]]) -> None:
        """Store those that are known; what is stored of the others stays. In a transaction."""
        rows = {key: (known.ctime_ns, known.inode) for key, known in pairs if known is not None}
        if not rows:
            return
        self._connection.exec_driver_sql(MAKE_FILE_IDS)
        self._forget_file_ids(rows)
        values = [{"key": key, "ctime_ns": ctime_ns, "inode": inode} for key, (ctime_ns, inode) in rows.items()]
        self._connection.execute(sa.insert(FILE_IDS), values)

    def _forget_file_ids(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        if keys and self._has_file_ids():
            for chunk in chunks(keys):
                self._connection.execute(sa.delete(FILE_IDS).where(FILE_IDS.c.key.in_(chunk)))
