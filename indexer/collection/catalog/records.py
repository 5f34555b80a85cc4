"""An item as the columns of the catalog, and the rows that come back. Knows nothing of SQL."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from indexer.files import FileId
from indexer.integers import fits
from indexer.items import Item, Modality, Scalar, Segment

#: Key of the metadata that marks an item whose caption a model made; its value is the model's spec.
GENERATED_BY = "caption_generated_by"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow:
    """One row of the items."""

    item_id: int
    key: str
    modality: Modality
    path: Path
    name: str
    folder: str
    suffix: str
    size_bytes: int
    mtime_ns: int
    content_hash: str
    caption: str | None
    captions: tuple[str, ...]
    text: str | None
    metadata: Mapping[str, Scalar]
    manifest: Path | None
    row_id: str | None
    split: str | None
    added_at: str
    width_px: int | None
    height_px: int | None
    duration_s: float | None
    taken_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(ItemRow):
    """One segment with its item; ``text`` is the passage's, or the item's where a segment has none.

    ``modality`` is the segment's: text for the generated caption of a picture, else that of the item.
    """

    segment_id: int
    ordinal: int
    vector_id: int
    start_s: float | None
    end_s: float | None


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A segment and the row of its vector."""

    segment: Segment
    vector_id: int


@dataclass(frozen=True, slots=True)
class Record:
    """What :meth:`Catalog.put` stores: segment ``i`` has the vector ``first_vector_id + i``."""

    item: Item
    content_hash: str
    facts: Mapping[str, Scalar]
    segments: Sequence[Segment]
    first_vector_id: int


@dataclass(frozen=True, slots=True)
class Uncaptioned:
    """A picture without a caption: its media tokens are at ``vector_id``."""

    item_id: int
    content_hash: str
    vector_id: int


@dataclass(frozen=True, slots=True)
class GeneratedCaption:
    """The caption that a model made for a picture; ``vector_id`` is the row of the vector of its words."""

    item_id: int
    caption: str
    model: str
    vector_id: int


@dataclass(frozen=True, slots=True)
class FilterColumn:
    """Something that ``--where`` may name: a column, or a key of the metadata."""

    name: str
    where: str
    """As ``--where`` takes it."""
    metadata: bool
    count: int
    """Items that have a value."""
    example: Any
    """One of the values; ``None`` for none."""

    def to_json(self) -> dict[str, Any]:
        """One of ``"columns"`` of ``info --columns --json``."""
        return {
            "name": self.name,
            "where": self.where,
            "metadata": self.metadata,
            "count": self.count,
            "example": self.example,
        }


@dataclass(frozen=True, slots=True)
class BadFile:
    """A file that could not be read, as it was then; ``reader`` names what tried (limits, extras, version)."""

    key: str
    size_bytes: int
    mtime_ns: int
    reason: str
    reader: str
    file_id: FileId | None = None


def item_columns(item: Item) -> dict[str, Any]:
    """The columns that are known of an item without reading its file."""
    return {
        "key": item.key,
        "modality": str(item.modality),
        "path": str(item.path),
        "name": item.path.name,
        "folder": str(item.path.parent),
        "suffix": item.path.suffix.lower(),
        "size_bytes": item.size_bytes,
        "mtime_ns": item.mtime_ns,
        "caption": clean(item.captions[0]) if item.captions else None,
        "captions": json.dumps([clean(caption) for caption in item.captions], ensure_ascii=False),
        "text": clean(item.text),
        "metadata": json.dumps(_clean_metadata(item), ensure_ascii=False),
        "manifest": str(item.manifest) if item.manifest else None,
        "row_id": clean(item.row_id),
        "split": clean(item.split),
    }


def _clean_metadata(item: Item) -> dict[str, Scalar]:
    return {clean(str(key)): clean(value) for key, value in item.metadata.items()}


def describes_same(item: Item, row: ItemRow) -> bool:
    """Whether ``row`` already holds all that is known of ``item`` without reading its file."""
    columns = item_columns(item)
    stored = {
        **{name: getattr(row, name) for name in columns},
        "modality": str(row.modality),
        "path": str(row.path),
        "captions": json.dumps(list(row.captions), ensure_ascii=False),
        "metadata": json.dumps(dict(row.metadata), ensure_ascii=False),
        "manifest": str(row.manifest) if row.manifest else None,
    }
    return columns == stored


def encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def with_words_of(item: Item, row: ItemRow) -> Item:
    """``item``, with what a manifest gave for ``row`` where no manifest gives anything now.

    So a folder can be indexed again without losing the captions of a manifest that was indexed before. A model's
    caption of the picture is not in it: it may not be true of a new content.
    """
    if item.manifest is not None or row.manifest is None:
        return item
    metadata = {key: value for key, value in row.metadata.items() if key != GENERATED_BY}
    return replace(
        item,
        captions=() if GENERATED_BY in row.metadata else row.captions,
        metadata=metadata,
        row_id=row.row_id,
        split=row.split,
        manifest=row.manifest,
    )


def with_generated_caption_of(item: Item, row: ItemRow) -> Item:
    """``item``, with the caption that a model made for the same content, where it has no caption of its own."""
    if item.captions or GENERATED_BY not in row.metadata:
        return item
    return replace(item, captions=row.captions, metadata={**item.metadata, GENERATED_BY: row.metadata[GENERATED_BY]})


def clean(value: Any) -> Any:
    """``value`` as SQLite and JSON can hold it.

    A text without lone surrogates; an integer of more than 64 bits as text; no number for NaN and infinity; of
    anything that is no scalar, such as a NumPy number, its text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if fits(value) else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    text = str(value)
    return text if encodable(text) else text.encode("utf-8", "replace").decode()
