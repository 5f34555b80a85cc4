"""The tables of ``catalog.sqlite`` and their migrations. Knows nothing of connections or of who queries them.

items      one row an item: where it is, what a manifest says of it, what was found when it was read
segments   one row a segment: its item, and the row of the vector store that holds its vector. A picture whose
           caption a model made has a second one, a text, for the words
skipped    files that could not be read, so that unchanged ones are reported again without being read
file_ids   which file each item or skipped file was, and its ctime, when it was read; made when it is first needed,
           so a catalog from before it has none
meta       how many vectors are committed, their generation, whether an index file was saved
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from indexer.collection.catalog.records import encodable
from indexer.items import Modality

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

#: Not in the migrations: a catalog that lacks it gets it with the next commit.
COUNT_COMMIT = sa.text("INSERT INTO meta VALUES ('commits', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1")
KEEP_DESCRIPTION = sa.text(
    "INSERT INTO meta VALUES ('description', :text) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
#: Not in the migrations: an older catalog can be read without it, and an older version reads one with it.
MAKE_FILE_IDS = "CREATE TABLE IF NOT EXISTS file_ids (key TEXT PRIMARY KEY, ctime_ns INTEGER, inode INTEGER)"


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


TABLES = sa.MetaData()
ITEMS = sa.Table(
    "items",
    TABLES,
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
SEGMENTS = sa.Table(
    "segments",
    TABLES,
    sa.Column("segment_id", sa.Integer, primary_key=True),
    sa.Column("item_id", sa.ForeignKey("items.item_id", ondelete="CASCADE"), nullable=False),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("vector_id", sa.Integer, nullable=False, unique=True),
    sa.Column("modality", sa.Text, nullable=False),
    sa.Column("start_s", sa.Float),
    sa.Column("end_s", sa.Float),
    sa.Column("text", sa.Text),
)
SKIPPED = sa.Table(
    "skipped",
    TABLES,
    sa.Column("key", _PathText, primary_key=True),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("mtime_ns", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("reader", sa.Text, nullable=False),
)
FILE_IDS = sa.Table(
    "file_ids",
    sa.MetaData(),  # not one of the migrations' tables
    sa.Column("key", _PathText, primary_key=True),
    sa.Column("ctime_ns", sa.Integer),
    sa.Column("inode", sa.Integer),
)
META = sa.Table(
    "meta",
    TABLES,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Integer, nullable=False),
)

#: A text of a picture: the words of its caption that a model made. Of another caption it would be stale.
IS_CAPTION = sa.and_(SEGMENTS.c.modality == "text", ITEMS.c.modality == "image")
_SAYS_THE_CAPTION = sa.and_(SEGMENTS.c.text.is_not(None), SEGMENTS.c.text.is_not_distinct_from(ITEMS.c.caption))
OF_ANOTHER_MODALITY = sa.and_(SEGMENTS.c.modality != ITEMS.c.modality, sa.not_(sa.and_(IS_CAPTION, _SAYS_THE_CAPTION)))


def item_values(values: sa.RowMapping) -> dict[str, Any]:
    """The arguments of :class:`ItemRow`. May raise ``ValueError`` for a damaged row."""
    item: dict[str, Any] = {column.name: values[column] for column in ITEMS.c}
    item["modality"] = Modality(item["modality"])
    item["path"] = Path(item["path"])
    item["captions"] = tuple(json.loads(item["captions"]))
    item["metadata"] = json.loads(item["metadata"])
    item["manifest"] = Path(item["manifest"]) if item["manifest"] else None
    return item
