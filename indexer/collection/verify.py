"""Find disagreement between the catalog, the vectors, the media tokens and the index of a collection.

What is wrong is a :class:`Problem` with the command that mends it. An index file that lags behind the
catalog, or that was never saved, is no problem: it is completed from the vectors when it is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.ann.index import load_index
from indexer.collection.catalog.catalog import Catalog
from indexer.collection.entries import UNIT_TOLERANCE
from indexer.collection.index_file_manager import rows_that_differ
from indexer.collection.row_store import RowStore, VectorStore
from indexer.collection.token_store import TokenStore
from indexer.errors import IndexDamaged
from indexer.items import Modality
from indexer.reading import misplaced, status

REPAIR = "trimodal verify --repair"
REBUILD = "trimodal index --rebuild PATH..."
#: What only the user can do.
BRING_BACK = "bring back what it leads to, or remove the link; then: trimodal verify --repair"
MOVE_AWAY = "move it away; then: trimodal verify --repair"

#: A stored embedding is of unit length to within this: a little more than what a commit takes.
_STORED_TOLERANCE = 1.1 * UNIT_TOLERANCE
#: Rows of the index that are compared with the vectors.
_SAMPLE = 256


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, in one line, and the command that mends it."""

    what: str
    remedy: str


def verify(catalog: Catalog, vectors: VectorStore, index_file: Path, tokens: TokenStore | None = None) -> list[Problem]:
    """All that is wrong, in reading order: catalog, vectors, media tokens, index."""
    try:
        problems = [Problem(what, REPAIR) for what in catalog.check()]
    except IndexDamaged as damage:
        return [Problem(_what(damage), REBUILD)]
    if any("SQLite finds damage" in problem.what for problem in problems):
        return [Problem(problem.what, REBUILD) for problem in problems]
    problems += _file_problems(vectors)
    problems += _vector_problems(catalog, vectors)
    problems += _checksum_problems(catalog, vectors, "vectors")
    if tokens is not None:
        problems += _file_problems(tokens)
        without = without_tokens(catalog, tokens)
        if without:
            problems.append(Problem(f"{tokens.folder}: {len(without):,} media tokens of items are not there", REPAIR))
        problems += _checksum_problems(catalog, tokens, "rows of media tokens")
    problems += _index_problems(catalog, vectors, index_file)
    return problems


def _file_problems(store: RowStore[Any]) -> list[Problem]:
    """Of its folder and its files. A link that leads nowhere may lead to a disk that is not there just now."""
    lines = store.short_shards()
    if (wrong := misplaced(store.folder, folder=True)) is not None:
        lines.append(f"{store.folder}: {wrong}")
        found = status(store.folder)
        if found is not None and found.st_size:
            return [Problem(lines[-1], MOVE_AWAY)]
    return [Problem(line, BRING_BACK if line.endswith("which does not exist") else REPAIR) for line in lines]


def _checksum_problems(catalog: Catalog, store: RowStore[Any], noun: str) -> list[Problem]:
    damaged = store.damaged().tolist()
    if not damaged:
        return []
    shown = ", ".join(row.key for row in catalog.lookup(damaged[:3]).values()) or "removed items"
    return [
        Problem(f"{store.folder}: {len(damaged):,} {noun} are not those that were written (crc32; of {shown})", REPAIR)
    ]


def _vector_problems(catalog: Catalog, vectors: VectorStore) -> list[Problem]:
    lost, bad = bad_vectors(catalog, vectors)
    problems = []
    if lost:
        problems.append(Problem(f"{vectors.folder}: {len(lost):,} vectors of items are not there", REPAIR))
    if bad:
        rows = catalog.lookup(bad[:3])
        shown = ", ".join(row.key for row in rows.values())
        problems.append(
            Problem(f"{vectors.folder}: {len(bad):,} vectors are not finite or not of unit length (of {shown})", REPAIR)
        )
    return problems


def bad_vectors(catalog: Catalog, vectors: VectorStore) -> tuple[list[int], list[int]]:
    """Live vector_ids whose rows are not in the files, and those whose rows are no embeddings."""
    live = catalog.vector_ids()
    live = live[(live >= 0) & (live < vectors.count)]
    lost: list[int] = []
    bad: list[int] = []
    for start in range(0, len(live), 16_384):
        ids: NDArray[np.int64] = live[start : start + 16_384]
        there = vectors.readable(ids)
        lost += ids[~there].tolist()
        with np.errstate(all="ignore"):
            lengths = np.linalg.norm(vectors.get(ids[there]).astype(np.float64), axis=1)
            unit = np.abs(lengths - 1.0) <= _STORED_TOLERANCE  # false for NaN
        bad += ids[there][~unit].tolist()
    return lost, bad


def without_tokens(catalog: Catalog, tokens: TokenStore) -> list[int]:
    """Live vector_ids of pictures and sounds whose rows of tokens are not in the files."""
    without: list[int] = []
    for modality in (Modality.IMAGE, Modality.AUDIO):
        live = catalog.vector_ids(modality)
        live = live[(live >= 0) & (live < tokens.count)]
        without += live[~tokens.readable(live)].tolist()
    return without


def _index_problems(catalog: Catalog, vectors: VectorStore, path: Path) -> list[Problem]:
    saved = catalog.index_generation == vectors.generation
    if misplaced(path) == "is missing":
        return [Problem(f"{path}: is missing", REPAIR)] if saved else []
    try:
        index, facts = load_index(path, device="cpu", rows=vectors)
    except IndexDamaged as damage:
        return [Problem(_what(damage), REPAIR)]
    if facts.dim != vectors.dim or (saved and facts.generation < vectors.generation):
        return [Problem(f"{path}: belongs to other vectors", REPAIR)]
    if facts.generation != vectors.generation:
        return []  # left by a crash after compacting, or by a writer with a newer commit
    if facts.ntotal > vectors.count:
        catalog.refresh()  # a writer may have committed and saved since this reader began
        if facts.ntotal <= catalog.vector_count:
            return []
        what = f"{path}: holds {facts.ntotal:,} vectors, but {vectors.count:,} are committed"
        return [Problem(what, REPAIR)]
    different = rows_that_differ(index, vectors, _SAMPLE)
    if different:
        looked_at = min(_SAMPLE, facts.ntotal)
        return [Problem(f"{path}: {different:,} of {looked_at} rows looked at differ from the vectors", REPAIR)]
    return []


def _what(damage: IndexDamaged) -> str:
    """The message without its remedy, which the problem names itself."""
    return str(damage).rpartition("; ")[0] or str(damage)
