"""Batches of a parquet table -> rows of Python values, a bad cell at a time.

Arrow holds what Python has no value for: times with nanoseconds, dates beyond the year 9999, texts that are no UTF-8.
Such a cell is kept as Arrow's own text for it; a row with one that has none is a :class:`BadRow`. Knows nothing of
manifests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from indexer.files import one_line


class BadRow(ValueError):
    """A row that is skipped; the message is the reason, with its remedy."""


def rows_of(batch: Any) -> Iterator[Mapping[str, Any] | BadRow]:
    """The rows of a ``pyarrow.RecordBatch`` in their order, each a dictionary or why it is none."""
    try:
        rows = batch.to_pylist()
    except Exception:  # ValueError, OverflowError, ArrowInvalid: of one cell, and it does not say of which
        rows = [_row(batch, place) for place in range(batch.num_rows)]
    yield from rows


def _row(batch: Any, place: int) -> Mapping[str, Any] | BadRow:
    values: dict[str, Any] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            values[name] = column[place].as_py()
        except Exception as error:
            try:
                values[name] = _as_text(column[place])
            except Exception:
                return BadRow(f'"{one_line(name, 60)}" holds a value that cannot be read ({one_line(error)}); mend it')
    return values


def _as_text(cell: Any) -> str:
    import pyarrow as pa

    text = cell.cast(pa.string()).as_py()
    if not isinstance(text, str) or "out of range" in text:
        raise ValueError(text)
    return text.replace(" ", "T", 1) if pa.types.is_timestamp(cell.type) else text  # as datetime.isoformat
