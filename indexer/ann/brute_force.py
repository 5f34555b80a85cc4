"""Exact search by comparing with every row, of rows that need not fit in memory. Knows nothing of FAISS or files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.items import Embeddings

#: Rows compared at a time: few enough that the memory of the last ones is used again, and is in the cache.
_CHUNK = 2_048


class RowSource(Protocol):
    """Rows of unit vectors, wherever they are; ``indexer.collection.row_store.VectorStore`` is one."""

    @property
    def count(self) -> int:
        """How many."""

    def get(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows ``ids`` -> ``(n, dim)``, a copy."""

    def chunks(self, start: int = 0, *, rows: int = _CHUNK) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """``(first row, (m, dim))`` over all rows from ``start`` on."""


class ArrayRows:
    """Rows of an array in memory ``(n, dim)``."""

    def __init__(self, rows: Embeddings) -> None:
        self._rows = rows
        self.count = len(rows)

    def get(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.asarray(self._rows[ids], dtype=np.float32)

    def chunks(self, start: int = 0, *, rows: int = _CHUNK) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for at in range(start, self.count, rows):
            yield at, np.asarray(self._rows[at : at + rows], dtype=np.float32)


def exact_top(
    queries: Embeddings, source: RowSource, k: int, ids: NDArray[np.int64] | None = None, *, ntotal: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The ``k`` best rows of queries ``(q, dim)`` by inner product in float32, among ``ids`` (``None``: all rows).

    ``ntotal``: rows from there on are not looked at. Returns scores ``(q, min(k, rows))``, falling, and vector_ids.
    """
    scores = np.zeros((len(queries), 0), np.float32)
    found = np.zeros((len(queries), 0), np.int64)
    for here, rows in _chunks(source, ids, source.count if ntotal is None else ntotal):
        scores = np.concatenate([scores, queries @ rows.T], axis=1)
        found = np.concatenate([found, np.broadcast_to(here, (len(queries), len(here)))], axis=1)
        if scores.shape[1] > k:
            best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            scores, found = np.take_along_axis(scores, best, axis=1), np.take_along_axis(found, best, axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(found, order, axis=1)


def _chunks(
    source: RowSource, ids: NDArray[np.int64] | None, ntotal: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    if ids is not None and len(ids) < 0.5 * ntotal:
        for start in range(0, len(ids), _CHUNK):
            here = ids[start : start + _CHUNK]
            yield here, source.get(here)
        return
    wanted = None
    if ids is not None:
        wanted = np.zeros(ntotal, dtype=bool)
        wanted[ids] = True
    for first, rows in source.chunks(rows=_CHUNK):
        rows = rows[: max(0, ntotal - first)]
        here = np.arange(first, first + len(rows))
        if wanted is not None:
            kept = wanted[here]
            here, rows = here[kept], rows[kept]
        if len(here):
            yield here, rows
