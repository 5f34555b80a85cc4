"""The live rows of a collection as a new generation, without the dead ones. Knows nothing of items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexer.collection.catalog.catalog import Catalog
from indexer.collection.row_store import VectorStore
from indexer.collection.token_store import TokenStore
from indexer.errors import StorageError

#: Vectors copied at a time, and media tokens, which are wider.
_CHUNK, _TOKEN_CHUNK = 16_384, 4_096


def copy_live_rows(
    live: NDArray[np.int64], catalog: Catalog, vectors: VectorStore, tokens: TokenStore | None
) -> tuple[VectorStore, TokenStore | None]:
    """Copy rows ``live`` into a new generation, which the catalog then names in one transaction; returns its stores.

    A crash anywhere leaves one generation or the other. Raises ``StorageError`` (disk full) with nothing changed.
    """
    fresh_vectors = vectors.next_generation()
    fresh_tokens = None if tokens is None else tokens.next_generation()
    try:
        for start in range(0, len(live), _CHUNK):
            vectors.copy_to(fresh_vectors, live[start : start + _CHUNK], at=start)
        if tokens is not None and fresh_tokens is not None:
            for start in range(0, len(live), _TOKEN_CHUNK):
                tokens.copy_to(fresh_tokens, live[start : start + _TOKEN_CHUNK], at=start)
        with catalog.transaction():
            catalog.renumber(live)
            catalog.set_meta(generation=fresh_vectors.generation, vector_count=len(live), index_generation=0)
    except StorageError:
        fresh_vectors.discard()
        if fresh_tokens is not None:
            fresh_tokens.discard()
        raise
    return fresh_vectors, fresh_tokens
