"""What can be read from a catalog: counts, items, segments, rows that pass a filter. Writes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import exc

from indexer.collection.catalog import filters
from indexer.collection.catalog.filter_sql import FILTER_COLUMNS, Filter, compile_filter, name_in_filter
from indexer.collection.catalog.records import BadFile, FilterColumn, ItemRow, Row, StoredSegment, Uncaptioned
from indexer.collection.catalog.schema import FILE_IDS, IS_CAPTION, ITEMS, META, SEGMENTS, SKIPPED, item_values
from indexer.collection.catalog.sqlite import Database
from indexer.collection.catalog.sqlite_errors import REBUILD
from indexer.errors import CatalogRefuses, FilterError, IndexDamaged
from indexer.files import FileId, one_line
from indexer.items import Modality, Place, Segment, Skipped

#: Filters whose rows are remembered until the next commit.
_FILTERS_KEPT = 8
#: Values bound in one statement; SQLite takes 32,766.
_CHUNK = 1_000
_T = TypeVar("_T")

#: Made once: it runs for every item that is read.
_HAS_HASH = (
    sa.select(ITEMS.c.item_id)
    .where(ITEMS.c.content_hash == sa.bindparam("content_hash"), ITEMS.c.modality == sa.bindparam("modality"))
    .limit(1)
)


class CatalogReader(Database):
    """The queries of a catalog. A reader sees one commit until it is refreshed."""

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

    def count_items(self) -> dict[Modality, int]:
        """Items of every modality, 0 included."""
        return self._count_by(ITEMS.c.modality)

    def count_segments(self) -> dict[Modality, int]:
        """Segments of every modality, 0 included."""
        return self._count_by(SEGMENTS.c.modality)

    def description(self) -> str | None:
        """The copy of ``collection.json``; ``None`` in a catalog that was last written before one was kept."""
        query = sa.select(sa.type_coerce(META.c.value, sa.Text)).where(META.c.key == "description")
        with self._reading() as connection:
            text = connection.execute(query).scalar_one_or_none()
        return None if text is None else str(text)

    # -- reading --------------------------------------------------------------------------------------------

    def vector_ids(self, modality: Modality | None = None, where: Filter | None = None) -> NDArray[np.int64]:
        """The live vectors that pass, ascending int64. Do not write into the array: it may be kept."""
        key = ("vector_ids", modality, None if where is None else where.text)
        cached = self._cache.get(key)
        if cached is not None:
            return np.asarray(cached, dtype=np.int64)
        # as one text: a million rows that come one by one take half a second
        query = sa.select(sa.func.group_concat(SEGMENTS.c.vector_id))
        if modality is not None:
            query = query.where(SEGMENTS.c.modality == str(modality))
        if where is not None:
            query = query.join_from(SEGMENTS, ITEMS).where(where.condition)
        with self._filtering(where) as connection:
            listed = connection.execute(query).scalar_one() or ""
        try:
            ids = np.sort(np.fromstring(listed, dtype=np.int64, sep=",")) if listed else np.zeros(0, dtype=np.int64)
        except (ValueError, TypeError) as error:
            raise self._odd("a vector_id is no number", error) from error
        ids.setflags(write=False)
        # of filters the latest: many queries use the same one, and a million rows take a second to look through
        with self._lock:
            filters_kept = [old for old in self._cache if old[0] == "vector_ids" and old[2] is not None]
            if where is not None and len(filters_kept) >= _FILTERS_KEPT:
                del self._cache[filters_kept[0]]
            self._cache[key] = ids
        return ids

    def lookup(self, vector_ids: Iterable[int]) -> dict[int, Row]:
        """The segments of ``vector_ids`` with their items; an id that no segment has is left out."""
        found: dict[int, Row] = {}
        query = sa.select(SEGMENTS, ITEMS).join(ITEMS)
        for chunk in chunks([int(vector_id) for vector_id in vector_ids]):
            with self._reading() as connection, self._odd_values():
                for row in connection.execute(query.where(SEGMENTS.c.vector_id.in_(chunk))):
                    values = row._mapping
                    item = item_values(values)
                    item["modality"] = Modality(values[SEGMENTS.c.modality])
                    if values[SEGMENTS.c.text] is not None:
                        item["text"] = values[SEGMENTS.c.text]
                    found[values[SEGMENTS.c.vector_id]] = Row(
                        **item,
                        segment_id=values[SEGMENTS.c.segment_id],
                        ordinal=values[SEGMENTS.c.ordinal],
                        vector_id=values[SEGMENTS.c.vector_id],
                        start_s=values[SEGMENTS.c.start_s],
                        end_s=values[SEGMENTS.c.end_s],
                    )
        return found

    def parts(self, modality: Modality) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
        """Of every segment of items of ``modality``, by item and place in it: vector_id, item_id, the item's hash.

        A picture's generated caption is none: its segment is text.
        """
        query = (
            sa.select(SEGMENTS.c.vector_id, SEGMENTS.c.item_id, ITEMS.c.content_hash)
            .join(ITEMS)
            .where(SEGMENTS.c.modality == str(modality), ITEMS.c.modality == str(modality))
            .order_by(SEGMENTS.c.item_id, SEGMENTS.c.ordinal)
        )
        with self._reading() as connection, self._odd_values():
            rows = connection.execute(query).all()
            numbers = np.array([(row[0], row[1]) for row in rows], dtype=np.int64).reshape(-1, 2)
        return numbers[:, 0], numbers[:, 1], [row[2] for row in rows]

    def keys(self) -> list[str]:
        """The key of every item, in the order of adding."""
        with self._reading() as connection:
            return list(connection.execute(sa.select(ITEMS.c.key).order_by(ITEMS.c.item_id)).scalars())

    def keys_with(self, part: str) -> set[str]:
        """The keys that hold ``part``."""
        query = sa.select(ITEMS.c.key).where(sa.func.instr(ITEMS.c.key, part) > 0)
        with self._reading() as connection:
            return set(connection.execute(query).scalars())

    def places(self) -> list[Place]:
        """Where every item is, in the order of adding; lighter than :meth:`items`."""
        query = sa.select(ITEMS.c.key, ITEMS.c.path, ITEMS.c.manifest).order_by(ITEMS.c.item_id)
        with self._reading() as connection:
            return [
                Place(key, Path(path), Path(manifest) if manifest else None)
                for key, path, manifest in connection.execute(query)
            ]

    def items(self, where: Filter | None = None) -> list[ItemRow]:
        """The items (of which a segment passes), in the order of adding."""
        query = sa.select(ITEMS).order_by(ITEMS.c.item_id)
        if where is not None:
            passing = sa.select(SEGMENTS.c.item_id).join(ITEMS).where(where.condition)
            query = query.where(ITEMS.c.item_id.in_(passing))
        with self._filtering(where):
            return self._item_rows(query)

    def find(self, keys: Iterable[str]) -> dict[str, ItemRow]:
        """The items with these keys."""
        rows: dict[str, ItemRow] = {}
        for chunk in chunks(list(keys)):
            query = sa.select(ITEMS).where(ITEMS.c.key.in_(chunk))
            rows.update((row.key, row) for row in self._item_rows(query))
        return rows

    def has_hash(self, content_hash: str, modality: Modality) -> bool:
        """Whether an item has this content."""
        with self._reading() as connection:
            values = {"content_hash": content_hash, "modality": str(modality)}
            return connection.execute(_HAS_HASH, values).first() is not None

    def find_hash(self, content_hash: str, modality: Modality) -> list[ItemRow]:
        """The items with this content, in the order of adding."""
        query = sa.select(ITEMS).where(ITEMS.c.content_hash == content_hash, ITEMS.c.modality == str(modality))
        return self._item_rows(query.order_by(ITEMS.c.item_id))

    def segments_of(self, item_id: int) -> list[StoredSegment]:
        """The segments of an item's own content, by ordinal: not that of a caption that a model made."""
        query = sa.select(SEGMENTS).join(ITEMS).where(SEGMENTS.c.item_id == item_id, sa.not_(IS_CAPTION))
        query = query.order_by(SEGMENTS.c.ordinal)
        with self._reading() as connection:
            return [
                StoredSegment(Segment(row.ordinal, row.start_s, row.end_s, row.text), row.vector_id)
                for row in connection.execute(query)
            ]

    def uncaptioned(self) -> list[Uncaptioned]:
        """The pictures without a caption, in the order of adding."""
        query = sa.select(ITEMS.c.item_id, ITEMS.c.content_hash, SEGMENTS.c.vector_id).join(SEGMENTS)
        query = query.where(SEGMENTS.c.modality == str(Modality.IMAGE), ITEMS.c.captions == "[]")
        with self._reading() as connection:
            return [Uncaptioned(*row) for row in connection.execute(query.order_by(ITEMS.c.item_id))]

    def bad_files(self, keys: Iterable[str] | None = None) -> dict[str, BadFile]:
        """What was recorded of files that could not be read; all of them, or of these keys."""
        found: dict[str, BadFile] = {}
        for chunk in [None] if keys is None else chunks(list(keys)):
            query = sa.select(SKIPPED).order_by(SKIPPED.c.key)
            if chunk is not None:
                query = query.where(SKIPPED.c.key.in_(chunk))
            with self._reading() as connection:
                for row in connection.execute(query):
                    found[row.key] = BadFile(row.key, row.size_bytes, row.mtime_ns, row.reason, row.reader)
        return found

    def file_ids(self, keys: Iterable[str]) -> dict[str, FileId]:
        """Of the items and skipped files with these keys that were read since this is stored."""
        found: dict[str, FileId] = {}
        if not self._has_file_ids():
            return found
        for chunk in chunks(list(keys)):
            query = sa.select(FILE_IDS).where(FILE_IDS.c.key.in_(chunk))
            with self._reading() as connection:
                found.update((row.key, FileId(row.ctime_ns, row.inode)) for row in connection.execute(query))
        return found

    def skipped(self) -> list[Skipped]:
        """The same as paths and reasons."""
        return [Skipped(bad.key, bad.reason) for bad in self.bad_files().values()]

    def metadata_keys(self) -> list[str]:
        """Every key that the metadata of some item has, sorted."""
        if "metadata_keys" not in self._cache:
            each = sa.func.json_each(ITEMS.c.metadata).table_valued("key", "value")
            query = sa.select(each.c.key).distinct().select_from(ITEMS).join(each, sa.true())
            with self._reading() as connection:
                self._cache["metadata_keys"] = sorted(connection.execute(query).scalars())
        return list(self._cache["metadata_keys"])

    def columns(self) -> list[FilterColumn]:
        """What ``--where`` may name: columns, then keys of the metadata; with counts of items and an example."""
        found: list[FilterColumn] = []
        with self._reading() as connection:
            for name, column in sorted(FILTER_COLUMNS.items()):
                joined = ITEMS.outerjoin(SEGMENTS) if name in ("start_s", "end_s", "text") else ITEMS
                counted = sa.select(sa.func.count(sa.distinct(ITEMS.c.item_id)), sa.func.min(column))
                count, example = connection.execute(counted.select_from(joined).where(column.is_not(None))).one()
                found.append(FilterColumn(name, name, False, int(count), example))
            each = sa.func.json_each(ITEMS.c.metadata).table_valued("key", "value")
            query = sa.select(each.c.key, sa.func.count(each.c.value), sa.func.min(each.c.value))
            query = query.select_from(ITEMS).join(each, sa.true()).group_by(each.c.key).order_by(each.c.key)
            for key, count, example in connection.execute(query):
                found.append(FilterColumn(str(key), name_in_filter(str(key)), True, int(count), example))
        return found

    # -- filters --------------------------------------------------------------------------------------------

    def compile_filter(self, text: str) -> Filter:
        """Read a ``--where`` text for this catalog. Raises ``FilterError`` naming what may be written.

        Names are columns of items and segments, else keys of the metadata (``metadata.key`` is always a key);
        case matters only where two names differ in nothing else. Nothing of the text reaches SQLite as SQL. A
        comparison with something absent is not true, and neither is its ``not``, as in SQL.
        """
        return compile_filter(text, self.metadata_keys)

    # -- helpers --------------------------------------------------------------------------------------------

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

    def _get_meta(self, key: str) -> int:
        with self._reading() as connection:
            value = connection.execute(sa.select(META.c.value).where(META.c.key == key)).scalar_one_or_none()
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
            return [ItemRow(**item_values(row._mapping)) for row in connection.execute(query)]

    @contextlib.contextmanager
    def _odd_values(self) -> Iterator[None]:
        """A value that was never written: captions that are no JSON, a modality that there is none of."""
        try:
            yield
        except (ValueError, TypeError, RecursionError, AttributeError) as error:
            raise self._odd("an item holds a value that was never written", error) from error

    def _odd(self, what: str, error: Exception) -> IndexDamaged:
        return IndexDamaged(f"{self.path}: {what} ({one_line(error)}); see what is damaged: trimodal verify")

    def _has_file_ids(self) -> bool:
        with self._reading() as connection:
            query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'file_ids'"
            return bool(connection.exec_driver_sql(query).scalar_one())


def chunks(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """``values`` in pieces, each few enough for one statement."""
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
