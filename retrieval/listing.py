"""What passes a filter, without a query: a list of items, newest first or by any column or key of the metadata.

Opens no model. Knows nothing of the terminal.
"""

from __future__ import annotations

from collections.abc import Collection as Many
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from indexer.collection.catalog.records import ItemRow
from indexer.collection.collection import Collection
from indexer.errors import UsageError
from indexer.files import one_line
from indexer.items import Modality, Scalar

#: The default order: when a picture was taken, where it says so, else when the file was changed.
NEWEST = "date:desc"
_COLUMNS = (
    "key",
    "path",
    "name",
    "folder",
    "suffix",
    "modality",
    "size_bytes",
    "mtime_ns",
    "caption",
    "text",
    "manifest",
    "row_id",
    "split",
    "added_at",
    "width_px",
    "height_px",
    "duration_s",
    "taken_at",
    "content_hash",
)


@dataclass(frozen=True, slots=True)
class Listed:
    """One item of a list."""

    rank: int
    row: ItemRow

    def to_json(self) -> dict[str, Any]:
        """One of ``"hits"`` of ``search --where … --json`` without a query."""
        row = self.row
        return {
            "rank": self.rank,
            "modality": row.modality.value,
            "path": str(row.path),
            "key": row.key,
            "date": date_of(row),
            "text": row.text,
            "caption": row.caption,
            "metadata": dict(row.metadata),
            "size_bytes": row.size_bytes,
            "duration_s": row.duration_s,
        }


@dataclass(frozen=True, slots=True)
class Listing:
    """The first ``k`` of the items that pass, and how many pass."""

    items: tuple[Listed, ...]
    total: int
    where: str | None
    sort: str

    def to_json(self) -> dict[str, Any]:
        """The document of ``search --where … --json`` without a query."""
        return {
            "query": None,
            "where": self.where,
            "sort": self.sort,
            "total": self.total,
            "hits": [one.to_json() for one in self.items],
        }


def list_items(
    place: Path,
    *,
    where: str | None = None,
    sort: str | None = None,
    k: int = 10,
    modalities: Many[Modality] | None = None,
) -> Listing:
    """The items of the collection at ``place`` that pass, by ``sort``: ``FIELD``, ``FIELD:asc`` or ``FIELD:desc``.

    ``FIELD`` is ``date``, a column or a key of the metadata. Items that lack it come last; numbers come before texts;
    equal ones in the order of adding. Raises ``FilterError`` for ``where``, ``UsageError`` for ``sort``.
    """
    field, descending = _sorting(sort or NEWEST)
    with Collection.open(place) as opened:
        catalog = opened.catalog
        condition = None if where is None else catalog.compile_filter(where)
        rows = [row for row in catalog.items(condition) if modalities is None or row.modality in modalities]
        if field != "date" and field not in _COLUMNS:
            keys = {key.lower(): key for key in catalog.metadata_keys()} | {key: key for key in catalog.metadata_keys()}
            found = keys.get(field) or keys.get(field.lower())
            if found is None:
                raise UsageError(
                    f"--sort {one_line(field, 40)}: there is no such column; there are date, {', '.join(_COLUMNS)}, "
                    f"and of the metadata: {one_line(', '.join(catalog.metadata_keys()) or 'none', 400)}"
                )
            field = found
    lacking = [row for row in rows if _value(row, field) is None]
    there = [row for row in rows if _value(row, field) is not None]
    there.sort(key=lambda row: _comparable(_value(row, field)), reverse=descending)  # stable both ways
    items = tuple(Listed(rank, row) for rank, row in enumerate((there + lacking)[:k], start=1))
    return Listing(items, len(rows), where, f"{field}:{'desc' if descending else 'asc'}")


def date_of(row: ItemRow) -> str | None:
    """When a picture was taken, where it says so; else when the file was changed, in local time; none of a row."""
    if row.taken_at is not None:
        return row.taken_at
    if row.mtime_ns <= 0:
        return None
    try:
        return datetime.fromtimestamp(row.mtime_ns // 10**9).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None


def _sorting(sort: str) -> tuple[str, bool]:
    field, colon, way = sort.rpartition(":")
    if not colon or way not in ("asc", "desc"):
        field, way = sort, "desc" if sort == "date" else "asc"
    if not field.strip():
        raise UsageError(f"--sort {one_line(sort, 40)!r}: write FIELD, FIELD:asc or FIELD:desc, such as date:desc")
    return field.strip(), way == "desc"


def _value(row: ItemRow, field: str) -> Scalar | Path:
    if field == "date":
        return date_of(row)
    if field in _COLUMNS:
        value: Scalar | Path = getattr(row, field)
        return value
    return row.metadata.get(field)


def _comparable(value: Scalar | Path) -> tuple[int, float, str]:
    if isinstance(value, bool | int | float):
        return 0, float(value), ""
    return 1, 0.0, str(value)
