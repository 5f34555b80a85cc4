"""The catalog: what is in a collection, in SQLite. The only file that imports SQLAlchemy.

    items      one row an item: where it is, what a manifest said of it, what reading it told
    segments   one row a segment: its item, and the row of the vector store that holds its vector. A picture whose
               caption a model made has a second one, a text, for the words
    skipped    files that could not be read, so that unchanged ones are reported again without being read
    file_ids   which file each item or skipped file was, and its ctime, when it was read; made when it is first needed,
               so a catalog from before it has none
    meta       how many vectors are committed, their generation, whether an index file was saved

A transaction here is the commit point of the whole collection. A reader holds one read transaction from
:meth:`Catalog.open` until :meth:`Catalog.refresh`, so all that it sees belongs to one commit, whatever a
writer does meanwhile. Knows nothing of vectors, FAISS or models.
"""

from __future__ import annotations

import contextlib
import json
import operator
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote_from_bytes

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import event, exc

from indexer.collection import filters
from indexer.collection.checksum import is_broken, seal, seal_is_damaged, seal_of
from indexer.collection.records import (
    GENERATED_BY,
    BadFile,
    FilterColumn,
    GeneratedCaption,
    ItemRow,
    Place,
    Record,
    Row,
    StoredSegment,
    Uncaptioned,
    clean,
    encodable,
    said,
)
from indexer.collection.sqlite_errors import REBUILD, stated
from indexer.durable import make_way
from indexer.errors import (
    CatalogRefuses,
    CollectionError,
    FilterError,
    IndexDamaged,
    StorageError,
    TrimodalError,
)
from indexer.files import FileId, display_path, one_line
from indexer.items import Item, Modality, Segment, Skipped
from indexer.names import nfc
from indexer.reading import OpenFile, misplaced, status

#: Numbered, append-only: a released one is never edited. Each is run once, in order, in one transaction.
MIGRATIONS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (
        1,
        (
            """CREATE TABLE items (
                item_id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, modality TEXT NOT NULL,
                path TEXT NOT NULL, name TEXT NOT NULL, folder TEXT NOT NULL, suffix TEXT NOT NULL,
                size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, content_hash TEXT NOT NULL,
                caption TEXT, captions TEXT NOT NULL, text TEXT, metadata TEXT NOT NULL,
                manifest TEXT, row_id TEXT, split TEXT, added_at TEXT NOT NULL,
                width_px INTEGER, height_px INTEGER, duration_s REAL, taken_at TEXT)""",
            "CREATE INDEX items_by_hash ON items (content_hash)",
            """CREATE TABLE segments (
                segment_id INTEGER PRIMARY KEY,
                item_id INTEGER NOT NULL REFERENCES items (item_id) ON DELETE CASCADE,
                ordinal INTEGER NOT NULL, vector_id INTEGER NOT NULL UNIQUE, modality TEXT NOT NULL,
                start_s REAL, end_s REAL, text TEXT)""",
            "CREATE INDEX segments_by_item ON segments (item_id)",
            "CREATE INDEX segments_by_modality ON segments (modality, vector_id)",
            """CREATE TABLE skipped (
                key TEXT PRIMARY KEY, size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
                reason TEXT NOT NULL, reader TEXT NOT NULL)""",
            "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL)",
            "INSERT INTO meta VALUES ('vector_count', 0), ('generation', 1), ('index_generation', 0)",
        ),
    ),
)

#: Filters whose rows are remembered until the next commit.
_FILTERS_KEPT = 8
_LOG = "PRAGMA journal_mode = WAL"
#: Not in the migrations: a catalog that lacks it gets it with the next commit.
_COUNT_COMMIT = sa.text("INSERT INTO meta VALUES ('commits', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1")
_KEEP_DESCRIPTION = sa.text(
    "INSERT INTO meta VALUES ('description', :text) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
#: Not in the migrations: an older catalog can be read without it, and an older version reads one with it.
_MAKE_FILE_IDS = "CREATE TABLE IF NOT EXISTS file_ids (key TEXT PRIMARY KEY, ctime_ns INTEGER, inode INTEGER)"
#: The most that a database without tables takes.
_UNMADE_BYTES = 65_536
_T = TypeVar("_T")
_FACTS = ("width_px", "height_px", "duration_s", "taken_at")
#: Values bound in one statement; SQLite takes 32,766.
_CHUNK = 1_000
#: How ``integrity_check`` names a page that it could not get, and the codes that are no damage: SQLITE_NOMEM, IOERR.
_ERROR_CODE = re.compile(r"error code[=: ]*(\d+)")
_NOT_READ = frozenset((7, 10))
#: How long SQLite waits for another program that holds the file (a backup, a browser of databases).
_BUSY_MS = 30_000
#: What Python raises for an integer of more than 64 bits, and for a text that is no UTF-8.
_NOT_FOR_SQLITE = (OverflowError, UnicodeEncodeError)


class _PathText(sa.types.TypeDecorator[str]):
    """Text that may hold a file name that is no valid UTF-8: such a one is stored as its bytes."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        if isinstance(value, str) and not encodable(value):
            return os.fsencode(value)
        return value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> str | None:
        return os.fsdecode(value) if isinstance(value, bytes) else value


_tables = sa.MetaData()
_items = sa.Table(
    "items",
    _tables,
    sa.Column("item_id", sa.Integer, primary_key=True),
    sa.Column("key", _PathText, nullable=False, unique=True),
    sa.Column("modality", sa.Text, nullable=False),
    sa.Column("path", _PathText, nullable=False),
    sa.Column("name", _PathText, nullable=False),
    sa.Column("folder", _PathText, nullable=False),
    sa.Column("suffix", _PathText, nullable=False),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("mtime_ns", sa.Integer, nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.Column("caption", sa.Text),
    sa.Column("captions", sa.Text, nullable=False),
    sa.Column("text", sa.Text),
    sa.Column("metadata", sa.Text, nullable=False),
    sa.Column("manifest", _PathText),
    sa.Column("row_id", sa.Text),
    sa.Column("split", sa.Text),
    sa.Column("added_at", sa.Text, nullable=False),
    sa.Column("width_px", sa.Integer),
    sa.Column("height_px", sa.Integer),
    sa.Column("duration_s", sa.Float),
    sa.Column("taken_at", sa.Text),
)
_segments = sa.Table(
    "segments",
    _tables,
    sa.Column("segment_id", sa.Integer, primary_key=True),
    sa.Column("item_id", sa.ForeignKey("items.item_id", ondelete="CASCADE"), nullable=False),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("vector_id", sa.Integer, nullable=False, unique=True),
    sa.Column("modality", sa.Text, nullable=False),
    sa.Column("start_s", sa.Float),
    sa.Column("end_s", sa.Float),
    sa.Column("text", sa.Text),
)
_skipped = sa.Table(
    "skipped",
    _tables,
    sa.Column("key", _PathText, primary_key=True),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("mtime_ns", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("reader", sa.Text, nullable=False),
)
_file_ids = sa.Table(
    "file_ids",
    sa.MetaData(),  # not one of the migrations' tables
    sa.Column("key", _PathText, primary_key=True),
    sa.Column("ctime_ns", sa.Integer),
    sa.Column("inode", sa.Integer),
)
_meta = sa.Table(
    "meta",
    _tables,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Integer, nullable=False),
)

#: A text of a picture: the words of its caption that a model made. Of another caption it would be stale.
_IS_CAPTION = sa.and_(_segments.c.modality == "text", _items.c.modality == "image")
_SAYS_THE_CAPTION = sa.and_(_segments.c.text.is_not(None), _segments.c.text.is_not_distinct_from(_items.c.caption))
_OF_ANOTHER_KIND = sa.and_(_segments.c.modality != _items.c.modality, sa.not_(sa.and_(_IS_CAPTION, _SAYS_THE_CAPTION)))

#: What ``--where`` may name beside the keys of the metadata.
_FILTER_COLUMNS: dict[str, sa.ColumnElement[Any]] = {
    **{column.name: column for column in _items.c if column.name not in ("item_id", "metadata", "text")},
    "start_s": _segments.c.start_s,
    "end_s": _segments.c.end_s,
    "text": sa.func.coalesce(_segments.c.text, _items.c.text),
}
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Filter:
    """A ``--where`` expression, ready for the catalog that compiled it. Opaque to everyone else."""

    text: str
    condition: sa.ColumnElement[bool]


class Catalog:
    """One ``catalog.sqlite``, open for reading or, by the one writer, for writing. Thread-safe."""

    def __init__(self, path: Path, connection: sa.Connection, *, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self._connection = connection
        self._lock = threading.RLock()
        self._depth = 0
        self._broken: bool | None = None
        """Whether its bytes were not those that were written when it was opened for writing; ``None``: not known."""
        self._cache: dict[Any, Any] = {}

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> Catalog:
        """Open an existing catalog; a writer first brings its tables up to date."""
        if (wrong := misplaced(path)) is not None:
            raise IndexDamaged(f"{path}: {wrong}; {REBUILD}")
        with _stated(path):
            connection = _connect(path, "rw") if writable else _connect_reader(path)
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
                    catalog._broken = is_broken(path, catalog._commits())
                    catalog._use_log()
                    catalog._migrate(version)
            except BaseException:
                catalog.close()
                raise
        return catalog

    @staticmethod
    def is_unmade(path: Path) -> bool:
        """Whether the file is a database without tables, as a creation that was killed leaves it."""
        file = OpenFile.open(path)
        if file is None or file.size() > _UNMADE_BYTES:
            return False
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with _stated(path), contextlib.closing(sqlite3.connect(uri, uri=True)) as raw:
            return not raw.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]

    @classmethod
    def create(cls, path: Path) -> Catalog:
        """Make an empty catalog, open for writing."""
        with _stated(path):
            connection = _connect(path, "rwc")
            catalog = cls(path, connection, writable=True)
            try:
                catalog._raw().execute(_LOG)
                catalog._migrate(0)
                catalog._broken = False
            except BaseException:
                catalog.close()
                raise
        return catalog

    def close(self) -> None:
        """Let go of the file; a writer leaves its checksum, which ``check`` compares."""
        with self._lock:
            commits: int | None = None
            if self._broken is not None and not self._connection.closed:
                with contextlib.suppress(TrimodalError):  # uncounted, it is left without a checksum
                    commits = self._commits()
            self._connection.close()
            self._connection.engine.dispose()
            if commits is not None:
                seal(self.path, commits, broken=self._broken is True)

    @property
    def is_whole(self) -> bool:
        """Whether it was found, when it was opened for writing, to hold the bytes that were written."""
        return self._broken is False

    # -- transactions ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are one commit, or none; may be nested, the outermost commits."""
        if not self.writable:
            raise CollectionError(f"{self.path}: is open for reading only")
        with self._lock, _stated(self.path):
            if self._depth == 0:
                self._connection.rollback()
                self._connection.begin()
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                self._cache.clear()
                if self._depth == 0:
                    self._connection.rollback()
                raise
            self._depth -= 1
            self._cache.clear()
            if self._depth == 0:
                try:
                    self._connection.execute(_COUNT_COMMIT)
                    self._connection.commit()
                except BaseException:
                    self._connection.rollback()
                    raise

    def refresh(self) -> None:
        """Let a reader see the newest commit."""
        with self._lock:
            self._connection.rollback()
            self._cache.clear()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._lock, _stated(self.path):
            try:
                yield self._connection
            finally:
                # a reader keeps its snapshot; a writer outside a transaction has none to keep
                if self.writable and self._depth == 0:
                    self._connection.rollback()

    @contextlib.contextmanager
    def _filtering(self, where: Filter | None) -> Iterator[sa.Connection]:
        """As :meth:`_reading`; a question that SQLite refuses is the filter's fault where there is one."""
        try:
            with self._reading() as connection:
                yield connection
        except CatalogRefuses as refused:
            if where is None:
                raise
            cause = refused.__cause__
            reason = cause.orig if isinstance(cause, exc.StatementError) else cause
            raise FilterError(
                f"--where: SQLite cannot evaluate {filters.shown(where.text)} ({one_line(reason)}); use fewer "
                "or shorter conditions, and one `in (...)` for many values"
            ) from refused

    # -- the copy of the description -------------------------------------------------------------------------

    def description(self) -> str | None:
        """The copy of ``collection.json``; ``None`` in a catalog that was last written before one was kept."""
        query = sa.select(sa.type_coerce(_meta.c.value, sa.Text)).where(_meta.c.key == "description")
        with self._reading() as connection:
            text = connection.execute(query).scalar_one_or_none()
        return None if text is None else str(text)

    def keep_description(self, text: str) -> None:
        """Keep a copy of ``collection.json``. The column is declared for numbers; SQLite keeps a text as it is."""
        with self.transaction():
            self._connection.execute(_KEEP_DESCRIPTION, {"text": text})

    # -- counts ---------------------------------------------------------------------------------------------

    @property
    def vector_count(self) -> int:
        """Committed rows of the vector store, live or not."""
        return self._get_meta("vector_count")

    @property
    def generation(self) -> int:
        """Generation of the vector store that the vector_ids belong to."""
        return self._get_meta("generation")

    @property
    def index_generation(self) -> int:
        """Generation for which an index file was saved; 0 when none was."""
        return self._get_meta("index_generation")

    def set_meta(
        self, *, vector_count: int | None = None, generation: int | None = None, index_generation: int | None = None
    ) -> None:
        """Store the ones given."""
        values = {"vector_count": vector_count, "generation": generation, "index_generation": index_generation}
        with self.transaction():
            for key, value in values.items():
                if value is not None:
                    self._connection.execute(sa.update(_meta).where(_meta.c.key == key).values(value=value))

    def count_items(self) -> dict[Modality, int]:
        """Items of every modality, 0 included."""
        return self._count_by(_items.c.modality)

    def count_segments(self) -> dict[Modality, int]:
        """Segments of every modality, 0 included."""
        return self._count_by(_segments.c.modality)

    # -- reading --------------------------------------------------------------------------------------------

    def vector_ids(self, modality: Modality | None = None, where: Filter | None = None) -> NDArray[np.int64]:
        """The live vectors that pass, ascending int64. Do not write into the array: it may be kept."""
        asked = ("vector_ids", modality, None if where is None else where.text)
        cached = self._cache.get(asked)
        if cached is not None:
            return np.asarray(cached, dtype=np.int64)
        # as one text: a million rows that come one by one take half a second
        query = sa.select(sa.func.group_concat(_segments.c.vector_id))
        if modality is not None:
            query = query.where(_segments.c.modality == str(modality))
        if where is not None:
            query = query.join_from(_segments, _items).where(where.condition)
        with self._filtering(where) as connection:
            listed = connection.execute(query).scalar_one() or ""
        try:
            ids = np.sort(np.fromstring(listed, dtype=np.int64, sep=",")) if listed else np.zeros(0, dtype=np.int64)
        except (ValueError, TypeError) as error:
            raise self._odd("a vector_id is no number", error) from error
        ids.setflags(write=False)
        # of filters the latest: many queries ask with one, and a million rows take a second to look through
        with self._lock:
            filters_kept = [key for key in self._cache if key[0] == "vector_ids" and key[2] is not None]
            if where is not None and len(filters_kept) >= _FILTERS_KEPT:
                del self._cache[filters_kept[0]]
            self._cache[asked] = ids
        return ids

    def lookup(self, vector_ids: Iterable[int]) -> dict[int, Row]:
        """The segments of ``vector_ids`` with their items; an id that no segment has is left out."""
        found: dict[int, Row] = {}
        query = sa.select(_segments, _items).join(_items)
        for chunk in _chunks([int(vector_id) for vector_id in vector_ids]):
            with self._reading() as connection, self._odd_values():
                for row in connection.execute(query.where(_segments.c.vector_id.in_(chunk))):
                    values = row._mapping
                    item = _item_values(values)
                    item["modality"] = Modality(values[_segments.c.modality])
                    if values[_segments.c.text] is not None:
                        item["text"] = values[_segments.c.text]
                    found[values[_segments.c.vector_id]] = Row(
                        **item,
                        segment_id=values[_segments.c.segment_id],
                        ordinal=values[_segments.c.ordinal],
                        vector_id=values[_segments.c.vector_id],
                        start_s=values[_segments.c.start_s],
                        end_s=values[_segments.c.end_s],
                    )
        return found

    def parts(self, modality: Modality) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
        """Of every segment of items of ``modality``, by item and place in it: vector_id, item_id, the item's hash.

        A picture's generated caption is none: its segment is text.
        """
        query = (
            sa.select(_segments.c.vector_id, _segments.c.item_id, _items.c.content_hash)
            .join(_items)
            .where(_segments.c.modality == str(modality), _items.c.modality == str(modality))
            .order_by(_segments.c.item_id, _segments.c.ordinal)
        )
        with self._reading() as connection, self._odd_values():
            rows = connection.execute(query).all()
            numbers = np.array([(row[0], row[1]) for row in rows], dtype=np.int64).reshape(-1, 2)
        return numbers[:, 0], numbers[:, 1], [row[2] for row in rows]

    def keys(self) -> list[str]:
        """The key of every item, in the order of adding."""
        with self._reading() as connection:
            return list(connection.execute(sa.select(_items.c.key).order_by(_items.c.item_id)).scalars())

    def keys_with(self, part: str) -> set[str]:
        """The keys that hold ``part``."""
        query = sa.select(_items.c.key).where(sa.func.instr(_items.c.key, part) > 0)
        with self._reading() as connection:
            return set(connection.execute(query).scalars())

    def places(self) -> list[Place]:
        """Where every item is, in the order of adding; lighter than :meth:`items`."""
        query = sa.select(_items.c.key, _items.c.path, _items.c.manifest).order_by(_items.c.item_id)
        with self._reading() as connection:
            return [
                Place(key, Path(path), Path(manifest) if manifest else None)
                for key, path, manifest in connection.execute(query)
            ]

    def items(self, where: Filter | None = None) -> list[ItemRow]:
        """The items (of which a segment passes), in the order of adding."""
        query = sa.select(_items).order_by(_items.c.item_id)
        if where is not None:
            passing = sa.select(_segments.c.item_id).join(_items).where(where.condition)
            query = query.where(_items.c.item_id.in_(passing))
        with self._filtering(where):
            return self._item_rows(query)

    def find(self, keys: Iterable[str]) -> dict[str, ItemRow]:
        """The items with these keys."""
        rows: dict[str, ItemRow] = {}
        for chunk in _chunks(list(keys)):
            query = sa.select(_items).where(_items.c.key.in_(chunk))
            rows.update((row.key, row) for row in self._item_rows(query))
        return rows

    def find_hash(self, content_hash: str, modality: Modality) -> list[ItemRow]:
        """The items with this content, in the order of adding."""
        query = sa.select(_items).where(_items.c.content_hash == content_hash, _items.c.modality == str(modality))
        return self._item_rows(query.order_by(_items.c.item_id))

    def segments_of(self, item_id: int) -> list[StoredSegment]:
        """The segments of an item's own content, by ordinal: not that of a caption that a model made."""
        query = sa.select(_segments).join(_items).where(_segments.c.item_id == item_id, sa.not_(_IS_CAPTION))
        query = query.order_by(_segments.c.ordinal)
        with self._reading() as connection:
            return [
                StoredSegment(Segment(row.ordinal, row.start_s, row.end_s, row.text), row.vector_id)
                for row in connection.execute(query)
            ]

    def uncaptioned(self) -> list[Uncaptioned]:
        """The pictures without a caption, in the order of adding."""
        query = sa.select(_items.c.item_id, _items.c.content_hash, _segments.c.vector_id).join(_segments)
        query = query.where(_segments.c.modality == str(Modality.IMAGE), _items.c.captions == "[]")
        with self._reading() as connection:
            return [Uncaptioned(*row) for row in connection.execute(query.order_by(_items.c.item_id))]

    def bad_files(self, keys: Iterable[str] | None = None) -> dict[str, BadFile]:
        """What was recorded of files that could not be read; all of them, or of these keys."""
        found: dict[str, BadFile] = {}
        for chunk in [None] if keys is None else _chunks(list(keys)):
            query = sa.select(_skipped).order_by(_skipped.c.key)
            if chunk is not None:
                query = query.where(_skipped.c.key.in_(chunk))
            with self._reading() as connection:
                for row in connection.execute(query):
                    found[row.key] = BadFile(row.key, row.size_bytes, row.mtime_ns, row.reason, row.reader)
        return found

    def file_ids(self, keys: Iterable[str]) -> dict[str, FileId]:
        """Of the items and skipped files with these keys that were read since this is stored."""
        found: dict[str, FileId] = {}
        if not self._has_file_ids():
            return found
        for chunk in _chunks(list(keys)):
            query = sa.select(_file_ids).where(_file_ids.c.key.in_(chunk))
            with self._reading() as connection:
                found.update((row.key, FileId(row.ctime_ns, row.inode)) for row in connection.execute(query))
        return found

    def skipped(self) -> list[Skipped]:
        """The same as paths and reasons."""
        return [Skipped(bad.key, bad.reason) for bad in self.bad_files().values()]

    def metadata_keys(self) -> list[str]:
        """Every key that the metadata of some item has, sorted."""
        if "metadata_keys" not in self._cache:
            each = sa.func.json_each(_items.c.metadata).table_valued("key", "value")
            query = sa.select(each.c.key).distinct().select_from(_items).join(each, sa.true())
            with self._reading() as connection:
                self._cache["metadata_keys"] = sorted(connection.execute(query).scalars())
        return list(self._cache["metadata_keys"])

    def columns(self) -> list[FilterColumn]:
        """What ``--where`` may name: columns, then keys of the metadata; with counts of items and an example."""
        found: list[FilterColumn] = []
        with self._reading() as connection:
            for name, column in sorted(_FILTER_COLUMNS.items()):
                joined = _items.outerjoin(_segments) if name in ("start_s", "end_s", "text") else _items
                counted = sa.select(sa.func.count(sa.distinct(_items.c.item_id)), sa.func.min(column))
                count, example = connection.execute(counted.select_from(joined).where(column.is_not(None))).one()
                found.append(FilterColumn(name, name, False, int(count), example))
            each = sa.func.json_each(_items.c.metadata).table_valued("key", "value")
            query = sa.select(each.c.key, sa.func.count(each.c.value), sa.func.min(each.c.value))
            query = query.select_from(_items).join(each, sa.true()).group_by(each.c.key).order_by(each.c.key)
            for key, count, example in connection.execute(query):
                found.append(FilterColumn(str(key), _named_in_a_filter(str(key)), True, int(count), example))
        return found

    # -- writing --------------------------------------------------------------------------------------------

    def put(self, records: Sequence[Record]) -> None:
        """Store items and their segments; one of the same key is replaced, and keeps id and ``added_at``."""
        by_key = {record.item.key: record for record in records}
        with self.transaction():
            before = self.find(by_key)
            self._delete(by_key)
            highest = sa.select(sa.func.coalesce(sa.func.max(_items.c.item_id), 0))
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
                        **said(record.item),
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
                self._connection.execute(sa.insert(_items), items)
            if segments:
                self._connection.execute(sa.insert(_segments), segments)
            self._keep_file_ids((record.item.key, record.item.file_id) for record in by_key.values())

    def put_generated(self, captions: Iterable[GeneratedCaption]) -> None:
        """Give pictures the captions that a model made, marked as such, each with a text segment for its vector."""
        with self.transaction():
            for one in captions:
                stored = sa.select(_items.c.metadata).where(_items.c.item_id == one.item_id)
                metadata = json.loads(self._connection.execute(stored).scalar_one())
                words = clean(one.caption)
                values = {
                    "caption": words,
                    "captions": json.dumps([words], ensure_ascii=False),
                    "metadata": json.dumps({**metadata, GENERATED_BY: clean(one.model)}, ensure_ascii=False),
                }
                self._connection.execute(sa.update(_items).where(_items.c.item_id == one.item_id).values(**values))
                last = sa.select(sa.func.max(_segments.c.ordinal)).where(_segments.c.item_id == one.item_id)
                segment = {
                    "item_id": one.item_id,
                    "ordinal": int(self._connection.execute(last).scalar_one()) + 1,
                    "vector_id": one.vector_id,
                    "modality": str(Modality.TEXT),
                    "text": words,
                }
                self._connection.execute(sa.insert(_segments), [segment])

    def touch(self, items: Sequence[Item]) -> None:
        """Write again what each item says of itself; content, vectors and id stay."""
        with self.transaction():
            for item in items:
                self._connection.execute(sa.update(_items).where(_items.c.key == item.key).values(**said(item)))
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
            self._connection.execute(sa.update(_items).where(_items.c.key == old_key).values(**said(item)))
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
                self._connection.execute(sa.insert(_skipped), list(rows.values()))
            self._keep_file_ids((one.key, one.file_id) for one in bad)

    def renumber(self, vector_ids: NDArray[np.int64]) -> None:
        """Give the segment of ``vector_ids[i]`` the vector_id ``i``; they are all the live ones, ascending.

        In that order each new number is free when it is given: the unique constraint holds throughout.
        """
        change = (
            sa.update(_segments)
            .where(_segments.c.vector_id == sa.bindparam("old"))
            .values(vector_id=sa.bindparam("new"))
        )
        moves = [{"old": int(old), "new": new} for new, old in enumerate(vector_ids) if int(old) != new]
        with self.transaction():
            for chunk in _chunks(moves):
                self._connection.execute(change, chunk)

    def compact(self) -> None:
        """Give the pages of removed rows back to the disk."""
        with self.transaction():  # counted, so that the seal of before says nothing of the file that is coming
            pass
        with self._lock, _stated(self.path):
            self._connection.rollback()
            raw = self._raw()
            raw.execute("VACUUM")
            # a reader holds the log; then it is emptied when the last one closes, and is not waited for
            raw.execute("PRAGMA busy_timeout = 0")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            raw.execute(f"PRAGMA busy_timeout = {_BUSY_MS:d}")

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
            if seal_is_damaged(self.path):
                return [f"{seal_of(self.path)}: is damaged"]
            if is_broken(self.path, self._commits()):
                return [f"{self.path}: SQLite finds damage: its bytes are not those that were written (crc32)"]
        problems = []
        for what, keys in (
            ("segments whose item is missing", self._orphan_segments()),
            ("items without segments", self._empty_items()),
            ("segments with a vector_id outside the vector store", self._segments_out_of_range()),
            ("vector_ids used by two segments", self._double_vector_ids()),
            ("segments with another modality than their item", self._mixed_segments()),
        ):
            if keys:
                problems.append(f"{self.path}: {len(keys):,} {what}")
        return problems

    def forget_damaged_seal(self) -> None:
        """It is written anew when the catalog is closed."""
        if seal_is_damaged(self.path):
            make_way(seal_of(self.path))

    def drop_inconsistent(self, vector_ids: Iterable[int] = ()) -> list[str]:
        """Remove what :meth:`check` finds, and the items of ``vector_ids``; returns their keys."""
        with self.transaction():
            orphans = self._orphan_segments()
            for chunk in _chunks(orphans):
                self._connection.execute(sa.delete(_segments).where(_segments.c.segment_id.in_(chunk)))
            bad = {*self._empty_items(), *self._segments_out_of_range(), *self._mixed_segments()}
            doubled = self._double_vector_ids()
            for chunk in _chunks([*doubled, *(int(vector_id) for vector_id in vector_ids)]):
                query = sa.select(_segments.c.item_id).where(_segments.c.vector_id.in_(chunk))
                bad.update(self._connection.execute(query).scalars())
            keys: list[str] = []
            for chunk in _chunks(sorted(bad)):
                keys += self._connection.execute(sa.select(_items.c.key).where(_items.c.item_id.in_(chunk))).scalars()
            self._delete(keys)
            return keys

    def _orphan_segments(self) -> list[int]:
        query = sa.select(_segments.c.segment_id).where(_segments.c.item_id.not_in(sa.select(_items.c.item_id)))
        return self._integers(query)

    def _empty_items(self) -> list[int]:
        return self._integers(
            sa.select(_items.c.item_id).where(_items.c.item_id.not_in(sa.select(_segments.c.item_id)))
        )

    def _segments_out_of_range(self) -> list[int]:
        outside = sa.or_(_segments.c.vector_id < 0, _segments.c.vector_id >= self.vector_count)
        return self._integers(sa.select(_segments.c.item_id).where(outside))

    def _double_vector_ids(self) -> list[int]:
        query = sa.select(_segments.c.vector_id).group_by(_segments.c.vector_id)
        return self._integers(query.having(sa.func.count() > 1))

    def _mixed_segments(self) -> list[int]:
        query = sa.select(_segments.c.item_id).join(_items).where(_OF_ANOTHER_KIND)
        return self._integers(query)

    # -- filters --------------------------------------------------------------------------------------------

    def compile_filter(self, text: str) -> Filter:
        """Read a ``--where`` text for this catalog. Raises ``FilterError`` naming what may be written.

        Names are columns of items and segments, else keys of the metadata (``metadata.key`` is always a key);
        case does not matter where it is not needed to tell names apart. Nothing of the text reaches SQLite as
        SQL. A comparison with something absent is not true, and neither is its ``not``, as in SQL.
        """
        return Filter(text, _Translator(self).condition(filters.parse_filter(nfc(text))))

    # -- helpers --------------------------------------------------------------------------------------------

    def _schema_version(self) -> int:
        with self._reading() as connection:
            return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())

    def _use_log(self) -> None:
        """Have a catalog without a log, such as one from a disk that can't have one, written with it."""
        self._connection.rollback()
        if self._raw().execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            return
        with self.transaction():  # counted, so that the seal of before says nothing of the header that is coming
            pass
        self._connection.rollback()
        self._raw().execute(_LOG)

    def _raw(self) -> Any:
        """The driver's connection, for what is no part of a transaction."""
        return self._connection.connection.driver_connection

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
            query = sa.select(_meta.c.value).where(_meta.c.key == "commits")
            return self._integer("commits", connection.execute(query).scalar_one_or_none() or 0)

    def _get_meta(self, key: str) -> int:
        with self._reading() as connection:
            value = connection.execute(sa.select(_meta.c.value).where(_meta.c.key == key)).scalar_one_or_none()
        if value is None:
            raise IndexDamaged(f"{self.path}: its {key} is missing; {REBUILD}")
        return self._integer(key, value)

    def _integer(self, key: str, value: Any) -> int:
        try:
            return int(value)
        except (TypeError, ValueError) as error:
            raise IndexDamaged(f"{self.path}: its {key} is no number; {REBUILD}") from error

    def _count_by(self, column: sa.Column[Any]) -> dict[Modality, int]:
        with self._reading() as connection:
            rows = connection.execute(sa.select(column, sa.func.count()).group_by(column))
            found = {str(name): int(count) for name, count in rows}
        return {modality: found.get(str(modality), 0) for modality in Modality}

    def _integers(self, query: sa.Select[Any]) -> list[int]:
        with self._reading() as connection:
            return [int(value) for value in connection.execute(query).scalars()]

    def _item_rows(self, query: sa.Select[Any]) -> list[ItemRow]:
        with self._reading() as connection, self._odd_values():
            return [ItemRow(**_item_values(row._mapping)) for row in connection.execute(query)]

    @contextlib.contextmanager
    def _odd_values(self) -> Iterator[None]:
        """A value that was never written: captions that are no JSON, a modality that there is none of."""
        try:
            yield
        except (ValueError, TypeError, RecursionError, AttributeError) as error:
            raise self._odd("an item holds a value that was never written", error) from error

    def _odd(self, what: str, error: Exception) -> IndexDamaged:
        return IndexDamaged(f"{self.path}: {what} ({one_line(error)}); see what is damaged: trimodal verify")

    def _delete(self, keys: Iterable[str]) -> int:
        """Items with ``keys``, by cascade their segments, and their skip records."""
        removed = 0
        keys = list(keys)
        for chunk in _chunks(keys):
            removed += self._connection.execute(sa.delete(_items).where(_items.c.key.in_(chunk))).rowcount
        self._forget_skipped(keys)
        self._forget_file_ids(keys)
        return removed

    def _drop_stale_captions(self, keys: Iterable[str]) -> None:
        """Of pictures whose caption is no more the one that a model made, the segment of those words."""
        for chunk in _chunks(list(keys)):
            stale = sa.select(_segments.c.segment_id).join(_items).where(_items.c.key.in_(chunk), _OF_ANOTHER_KIND)
            self._connection.execute(sa.delete(_segments).where(_segments.c.segment_id.in_(stale)))

    def _forget_skipped(self, keys: Iterable[str]) -> None:
        for chunk in _chunks(list(keys)):
            self._connection.execute(sa.delete(_skipped).where(_skipped.c.key.in_(chunk)))

    def _has_file_ids(self) -> bool:
        with self._reading() as connection:
            query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'file_ids'"
            return bool(connection.exec_driver_sql(query).scalar_one())

    def _keep_file_ids(self, pairs: Iterable[tuple[str, FileId | None]]) -> None:
        """Store those that are known; what is stored of the others stays. In a transaction."""
        rows = {key: (known.ctime_ns, known.inode) for key, known in pairs if known is not None}
        if not rows:
            return
        self._connection.exec_driver_sql(_MAKE_FILE_IDS)
        self._forget_file_ids(rows)
        values = [{"key": key, "ctime_ns": ctime_ns, "inode": inode} for key, (ctime_ns, inode) in rows.items()]
        self._connection.execute(sa.insert(_file_ids), values)

    def _forget_file_ids(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        if keys and self._has_file_ids():
            for chunk in _chunks(keys):
                self._connection.execute(sa.delete(_file_ids).where(_file_ids.c.key.in_(chunk)))


class _Translator:
    """A tree of :mod:`indexer.collection.filters` -> a SQLAlchemy condition with every value bound."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def condition(self, node: filters.Condition) -> sa.ColumnElement[bool]:
        match node:
            case filters.And(conditions):
                return sa.and_(*(self.condition(part) for part in conditions))
            case filters.Or(conditions):
                return sa.or_(*(self.condition(part) for part in conditions))
            case filters.Not(condition):
                return sa.not_(self.condition(condition))
            case filters.Compare(op, left, right):
                return self._compare(op, left, right)
            case filters.Between(operand, low, high):
                return sa.and_(self._compare(">=", operand, low), self._compare("<=", operand, high))
            case filters.OneOf(operand, values):
                return self._one_of(operand, values)
            case filters.IsTrue(operand, truth):
                return self._compare("=", operand, filters.Value(truth))
            case filters.IsNull(operand):
                return self._plain(operand).is_(None)
            case filters.Like(operand, pattern, escape):
                # an ASCII pattern with "_" means one character, which may be stored as two
                forms = not pattern.isascii() or "_" in pattern
                arguments = [sa.literal(pattern), _as_text(self._plain(operand, forms=forms))]
                if escape is not None:
                    arguments.append(sa.literal(escape))
                # SQLite's like(pattern, text, escape) is `text LIKE pattern ESCAPE escape`
                return sa.func.like(*arguments, type_=sa.Boolean())

    def _compare(self, op: str, left: filters.Operand, right: filters.Operand) -> sa.ColumnElement[bool]:
        forms = any(_is_in_two_forms(operand) for operand in (left, right))
        first = self._plain(left, against=right, forms=forms)
        second = self._plain(right, against=left, forms=forms)
        return sa.type_coerce(_COMPARISONS[op](first, second), sa.Boolean)

    def _one_of(self, operand: filters.Operand, values: Sequence[filters.Value]) -> sa.ColumnElement[bool]:
        """``operand in (...)``: the values are one parameter, a JSON list, however many they are."""
        texts = [value.value for value in values if isinstance(value.value, str)]
        numbers = [_number(value.value) for value in values if not isinstance(value.value, str)]
        found: list[sa.ColumnElement[bool]] = []
        for some in (texts, numbers):
            if some:
                # texts and numbers apart: a value of the metadata is read as the kind that it is compared with
                forms = any(isinstance(value, str) and not value.isascii() for value in some)
                left = self._plain(operand, against=filters.Value(some[0]), forms=forms)
                listed = sa.func.json_each(sa.literal(json.dumps(some), sa.Text())).table_valued("value")
                found.append(sa.type_coerce(left.in_(sa.select(listed.c.value)), sa.Boolean))
        return sa.or_(sa.false(), *found)

    def _plain(
        self, operand: filters.Operand, against: filters.Operand | None = None, *, forms: bool = False
    ) -> sa.ColumnElement[Any]:
        """``forms``: what is stored is compared in the composed form of Unicode, as the texts of the filter are."""
        match operand:
            case filters.Value(value):
                return _bound(value)
            case filters.Call(function, inner):
                return sa.Function(function, _as_text(self._plain(inner, forms=forms)))
            case filters.Name():
                column = self._column(operand)
                if column is not None:
                    return _composed(column) if forms else column
                key = self._metadata_key(operand)
                if isinstance(against, filters.Value):
                    # JSON keeps its types, and in SQLite every text is above every number: '1999' >= 2020
                    if not isinstance(against.value, str):
                        return _metadata_value(key, _as_number)
                    return _metadata_value(key, _as_composed_text if forms else _as_text)
                return _metadata_value(key, _composed if forms else _as_is)

    def _column(self, name: filters.Name) -> sa.ColumnElement[Any] | None:
        if name.metadata:
            return None
        column = _FILTER_COLUMNS.get(name.name.lower())
        # a plain literal type, so that values are compared as they are bound
        return None if column is None else sa.type_coerce(column, sa.types.NullType())

    def _metadata_key(self, name: filters.Name) -> str:
        keys = self.catalog.metadata_keys()
        if name.name in keys:
            return name.name
        alike = [key for key in keys if nfc(key).lower() == nfc(name.name).lower()]
        if len(alike) == 1:
            return alike[0]
        shown = ", ".join(keys[:40]) + (", ..." if len(keys) > 40 else "") if keys else "none"
        wanted = f"metadata.{name.name}" if name.metadata else name.name
        raise FilterError(
            f"--where: there is no `{one_line(wanted, 60)}`; columns: {', '.join(sorted(_FILTER_COLUMNS))}; "
            f"metadata keys: {one_line(shown, 1_000)} (put texts in single quotes)"
        )


def _named_in_a_filter(key: str) -> str:
    """A key of the metadata as ``--where`` takes it: with ``metadata.`` and quotes where they are needed."""
    plain = key.isascii() and key.isidentifier() and key.lower() not in _FILTER_COLUMNS
    return key if plain else 'metadata."' + key.replace('"', '""') + '"'


def _number(value: str | int | float | bool) -> int | float:
    """true and false are 1 and 0, as in SQLite's JSON."""
    return value if isinstance(value, float) else int(value)


def _bound(value: str | int | float | bool) -> sa.ColumnElement[Any]:
    """The value as a parameter; true and false are 1 and 0, as in SQLite's JSON."""
    if isinstance(value, str):
        return sa.literal(value, sa.Text())
    if isinstance(value, float):
        return sa.literal(value, sa.Float())
    return sa.literal(int(value), sa.Integer())


def _metadata_value(
    key: str, read: Callable[[Any], sa.ColumnElement[Any]] = lambda value: value
) -> sa.ColumnElement[Any]:
    """What ``read`` makes of the value; inside, so that the JSON is looked through once a row."""
    # not json_extract: its path syntax cannot name a key that holds a quote
    each = sa.func.json_each(_items.c.metadata).table_valued("key", "value")
    return sa.select(read(each.c.value)).where(each.c.key == sa.literal(key)).correlate(_items).scalar_subquery()


def _as_text(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.cast(value, sa.Text)


def _as_is(value: Any) -> Any:
    return value


def _as_composed_text(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return _composed(_as_text(value))


def _composed(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """In the composed form of Unicode; of bytes (a name that is no UTF-8) and numbers the value itself."""
    return sa.func.nfc(value, type_=sa.types.NullType())


def _is_in_two_forms(operand: filters.Operand) -> bool:
    if isinstance(operand, filters.Call):
        return _is_in_two_forms(operand.operand)
    return isinstance(operand, filters.Value) and isinstance(operand.value, str) and not operand.value.isascii()


def _as_number(value: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The number, also of a text that is one ('2020'); null for any other text."""
    number = sa.cast(value, sa.Numeric)
    return sa.case((number == value, number), else_=sa.null())


def _item_values(values: sa.RowMapping) -> dict[str, Any]:
    item: dict[str, Any] = {column.name: values[column] for column in _items.c}
    item["modality"] = Modality(item["modality"])
    item["path"] = Path(item["path"])
    item["captions"] = tuple(json.loads(item["captions"]))
    item["metadata"] = json.loads(item["metadata"])
    item["manifest"] = Path(item["manifest"]) if item["manifest"] else None
    return item


def _chunks(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def _connect_reader(path: Path) -> sa.Connection:
    """Read-only; on a folder that cannot be written to, also without the files of the write-ahead log."""
    connection = _connect(path, "ro")
    try:
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
        return connection
    except exc.OperationalError as error:
        connection.close()
        connection.engine.dispose()
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) or os.access(path.parent, os.W_OK):
            raise
        log = status(path.with_name(path.name + "-wal"))
        if log is not None and log.st_size > 0:
            raise StorageError(
                f"{path}: was not closed by its last writer and its folder is read-only; "
                "copy the collection to a disk that can be written to"
            ) from None
        connection = _connect(path, "ro&immutable=1")
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
        return connection


def _connect(path: Path, mode: str) -> sa.Connection:
    """One connection of its own, with transactions begun by us and not by the driver."""
    uri = f"file:{quote_from_bytes(os.fsencode(path.absolute()))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        raw = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000)
        try:
            raw.create_function("nfc", 1, _nfc, deterministic=True)
            # The file may be a stranger's: its views and triggers call nothing.
            raw.execute("PRAGMA trusted_schema = OFF")
            if not mode.startswith("ro"):
                raw.execute("PRAGMA synchronous = FULL")
                raw.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            raw.close()
            raise
        return raw

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.StaticPool)

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    try:
        return engine.connect()
    except BaseException:
        engine.dispose()
        raise


def _nfc(value: Any) -> Any:
    """For SQLite: see ``_composed``."""
    return nfc(value) if isinstance(value, str) else value


@contextlib.contextmanager
def _stated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours, each with the remedy that fits it."""
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite repeats the words of a damaged schema, and Python cannot read them
        raise IndexDamaged(f"{display_path(path)}: its tables are described in no text; {REBUILD}") from error
    except (exc.StatementError, sqlite3.Error, *_NOT_FOR_SQLITE) as error:
        cause = error.orig if isinstance(error, exc.StatementError) else error
        if isinstance(cause, sqlite3.Error):
            raise stated(path, cause) from error
        if isinstance(cause, _NOT_FOR_SQLITE):  # Python's own, before SQLite sees the value
            words = f"{display_path(path)}: cannot hold a value ({one_line(cause)}); nothing of it was stored"
            raise CatalogRefuses(words) from error
        raise
