"""Which queries a new index learns from: captions apart from those it is measured with, else texts, else none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_media import unit_rows

from indexer.ann.tuning import TuningQueries
from indexer.collection.index_file_manager import IndexFileManager
from indexer.collection.row_store import VectorStore


@pytest.mark.parametrize(
    ("captions", "texts", "expected"),
    [(150, 400, "captions"), (50, 400, "texts"), (None, 400, "texts"), (50, 60, None)],
)
def test_an_index_learns_from_captions_else_from_texts_else_from_none(
    tmp_path: Path, captions: int | None, texts: int, expected: str | None
) -> None:
    store = VectorStore(tmp_path, dim=8, generation=1, count=0, shard_rows=1_000)
    rows, others = unit_rows(500, 8), unit_rows(150, 8, seed=1)
    store.append(rows, at=0)
    catalog: Any = SimpleNamespace(vector_ids=lambda modality: np.arange(texts))
    manager = IndexFileManager(tmp_path / "index.faiss", catalog, store, [])
    queries = None if captions is None else TuningQueries(others[:10], "captions", learn=others[:captions])

    learned = manager._queries_to_learn_from(lambda: queries)

    if expected is None:
        assert learned is None
    else:
        assert learned is not None
        assert np.array_equal(learned, others if expected == "captions" else rows[:texts])
