"""What SQLite cannot forbid in a catalog: the queries that find it. Each selects one column of integers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from indexer.collection.catalog.schema import ITEMS, OF_ANOTHER_MODALITY, SEGMENTS

#: Segments whose item is missing -> segment_id.
ORPHAN_SEGMENTS: sa.Select[Any] = sa.select(SEGMENTS.c.segment_id).where(
    SEGMENTS.c.item_id.not_in(sa.select(ITEMS.c.item_id))
)
#: Items without segments -> item_id.
EMPTY_ITEMS: sa.Select[Any] = sa.select(ITEMS.c.item_id).where(ITEMS.c.item_id.not_in(sa.select(SEGMENTS.c.item_id)))
#: Vector_ids of two segments -> vector_id.
DOUBLE_VECTOR_IDS: sa.Select[Any] = (
    sa.select(SEGMENTS.c.vector_id).group_by(SEGMENTS.c.vector_id).having(sa.func.count() > 1)
)
#: Segments with another modality than their item, generated captions aside -> item_id.
MIXED_SEGMENTS: sa.Select[Any] = sa.select(SEGMENTS.c.item_id).join(ITEMS).where(OF_ANOTHER_MODALITY)


def segments_out_of_range(vector_count: int) -> sa.Select[Any]:
    """Segments with a vector_id outside the ``vector_count`` rows of the vector store -> item_id."""
    outside = sa.or_(SEGMENTS.c.vector_id < 0, SEGMENTS.c.vector_id >= vector_count)
    return sa.select(SEGMENTS.c.item_id).where(outside)
