"""Queries as people write them, to measure an index with: captions and names of some of the collection's own files.

A picture is looked for with words, and words lie elsewhere in the space than pictures do: an index that was tuned with
pictures alone would find less than it says.
"""

from __future__ import annotations

import re
from functools import cache, partial
from pathlib import Path

import numpy as np

from indexer.ann.tuning import TuningQueries
from indexer.collection.catalog.records import Row
from indexer.collection.collection import Collection
from indexer.collection.index_file_manager import TuningQueriesOf, searched_most
from indexer.encoders.base import DualEncoder
from indexer.errors import ModelError
from indexer.items import Modality

#: Queries to measure with, others to learn from, and items whose words they are taken from.
_QUERIES, _LEARNED_FROM, _LOOKED_AT = 300, 700, 3_000
_WORD = re.compile(r"[^\W\d_]{3,}")


def caption_queries(collection: Collection, encoder: DualEncoder) -> TuningQueries | None:
    """Captions (else the words of the names) of up to 300 pictures or sounds, and of up to 700 others to learn from.

    ``None`` where there are too few.
    """
    if Modality.TEXT not in encoder.modalities:
        return None
    allowed = searched_most(collection.catalog)
    draw = np.random.default_rng(1).choice(len(allowed), min(_LOOKED_AT, len(allowed)), replace=False)
    rows = collection.catalog.lookup(allowed[draw].tolist()).values()
    words = list(dict.fromkeys(filter(None, map(_words, rows))))[: _QUERIES + _LEARNED_FROM]
    if len(words) < _QUERIES // 3:
        return None
    try:
        queries = encoder.encode_queries(words)
        return TuningQueries(queries[:_QUERIES], "captions", allowed, learn=queries[_QUERIES:])
    except ModelError:  # the text tower's weights are not on this machine
        return None


def caption_queries_of(collection: Collection, encoder: DualEncoder) -> TuningQueriesOf:
    """:func:`caption_queries` when they are needed, made once."""
    return cache(partial(caption_queries, collection, encoder))


def _words(row: Row) -> str:
    """A query that should find it; of a text none, since its own words are in the index."""
    if row.modality is Modality.TEXT:
        return ""
    return row.caption or " ".join(_WORD.findall(Path(row.path).stem if row.path is not None else ""))
