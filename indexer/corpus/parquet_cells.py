"""Batches of a parquet table -> rows of Python values, a bad cell at a time.

Arrow holds what Python has no value for: times with nanoseconds, dates beyond the year 9999, texts that are no UTF-8.
Such a cell is kept as Arrow's own text for it; a row with one that has none is a :class:`BadRow`. Knows nothing of
manifests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from indexer.files import one_line

#: Of a value in Python, beside its text.
_VALUE_BYTES = 60


class BadRow(ValueError):
    """A row that is skipped; the message is the reason, with its remedy."""


def rows_of(batch: Any, row_bytes: int) -> Iterator[Mapping[str, Any] | BadRow]:
    """The rows of a ``pyarrow.RecordBatch`` in their order, each a dictionary or why it is none.

    A row of more than ``row_bytes`` is none. A batch that is small in Arrow may be large in Python, where each row has
    a copy of the text that a dictionary holds once; then its rows are made some at a time.
    """
    size = sum(_expanded_bytes(column) for column in batch.columns)
    if batch.num_rows > 1 and size > row_bytes:
        half = batch.num_rows // 2
        yield from rows_of(batch.slice(0, half), row_bytes)
        yield from rows_of(batch.slice(half), row_bytes)
        return
    if batch.num_rows == 1 and size > row_bytes:
        yield BadRow(f"takes {size / 1e6:,.0f} MB, over the {row_bytes / 1e6:,g} MB limit of a row; shorten it")
        return
    try:
        rows = batch.to_pylist()
    except Exception:  # ValueError, OverflowError, ArrowInvalid: of one cell, and it does not say of which
        rows = [_row(batch, place) for place in range(batch.num_rows)]
    yield from rows


def _expanded_bytes(column: Any) -> int:
    """About what the values of a ``pyarrow.Array`` take one by one."""
    import pyarrow as pa
    from pyarrow import compute

    kind = column.type
    if pa.types.is_dictionary(kind):
        if not len(column.dictionary) or column.null_count == len(column):
            return _VALUE_BYTES * len(column)
        lengths = _lengths(column.dictionary)
        if lengths is None:
            return _VALUE_BYTES * len(column)
        return _VALUE_BYTES * len(column) + int(compute.sum(lengths.take(column.indices)).as_py() or 0)
    if pa.types.is_struct(kind):
        return _VALUE_BYTES * len(column) + sum(_expanded_bytes(part) for part in column.flatten())
    if pa.types.is_map(kind):
        first, last = int(column.offsets[0].as_py()), int(column.offsets[-1].as_py())
        parts = (column.keys.slice(first, last - first), column.items.slice(first, last - first))
        return _VALUE_BYTES * len(column) + sum(_expanded_bytes(part) for part in parts)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _VALUE_BYTES * len(column) + _expanded_bytes(column.flatten())
    lengths = _lengths(column)
    total = 0 if lengths is None else int(compute.sum(lengths).as_py() or 0)
    return _VALUE_BYTES * len(column) + total


def _lengths(column: Any) -> Any:
    """Of texts or bytes, in bytes; None for anything else."""
    import pyarrow as pa
    from pyarrow import compute

    kind = column.type
    views = (pa.types.is_string_view, pa.types.is_binary_view)
    if any(is_kind(kind) for is_kind in views):
        column = column.cast(pa.large_binary())
    elif not any(
        is_kind(kind)
        for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    ):
        return None
    return compute.cast(compute.binary_length(column), pa.int64())


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
