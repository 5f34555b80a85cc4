"""The index over the vector store's rows: build, search, save and load.

Row ``i`` of an index is ``vector_id`` ``i``. Scores are inner products of unit vectors (cosines). FAISS finds the
candidates (:mod:`indexer.ann.candidates`); their scores are then computed once more from the stored rows, in float64,
because the order in which a matrix product adds depends on where a row stands: so equal vectors have exactly equal
scores, and ties go to the lower vector_id. Knows nothing of the catalog. Which kind, and how broadly it is searched,
is :mod:`indexer.ann.plan` and :mod:`indexer.ann.tuning`; the file is :mod:`indexer.ann.file`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from indexer.ann.brute_force import ArrayRows, RowSource
from indexer.ann.candidates import Allowed, Candidates, Found
from indexer.ann.file import IndexFacts, Tuning, damaged, open_index_file, read_facts, write_index_file
from indexer.ann.gpu import GpuCandidates, gpu_ordinals
from indexer.ann.lists import ivf_of, mapped_lists, read_maps, transform
from indexer.ann.maps import Maps, learned_maps
from indexer.ann.plan import FLAT_LIMIT, HNSW_LINKS, IndexOptions, IndexPlan, Kind, plan_index
from indexer.items import Embeddings
from indexer.reading import read_error

__all__ = ["FLAT_LIMIT", "IndexFacts", "Kind", "VectorIndex", "build_index", "index_of", "load_index", "read_facts"]

faiss: Any = _faiss

#: Breadth while an HNSW graph is built.
HNSW_EF_CONSTRUCTION = 100
#: Vectors that lists are trained on, for each list.
TRAINED_ON = 40

#: Candidates fetched beyond k, to see whether the score falls after the k-th.
_MARGIN = 16
#: Of a run of equal scores an approximate search fetches that many times as many, once.
_TIES = 16
#: Candidates whose rows are held at once, in float64: few enough that they stay in the processor's cache.
_RANKED_AT_ONCE = 512


class VectorIndex(Protocol):
    """Rows of unit vectors, searched by inner product."""

    @property
    def ntotal(self) -> int:
        """Rows in it, live or not."""

    @property
    def dim(self) -> int:
        """Width of a row."""

    @property
    def kind(self) -> Kind:
        """``Flat`` (exact), ``HNSW`` or ``IVF`` (approximate, exact for few allowed rows)."""

    @property
    def plan(self) -> IndexPlan:
        """What it was made by."""

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda:N``."""

    tuning: Tuning | None
    """How broadly it is searched; ``None``: as nothing was measured."""
    options: IndexOptions
    """The options that it was made with."""

    def add(self, vectors: Embeddings) -> None:
        """Append rows ``ntotal .. ntotal + n - 1``."""

    def search(self, queries: Embeddings, k: int, allowed: NDArray[np.int64] | None = None) -> Found:
        """The ``k`` best rows of every query, among ``allowed`` vector_ids (``None``: all rows).

        ``queries`` is float32 ``(q, dim)``. Returns scores float32 ``(q, k)``, falling, and vector_ids int64
        ``(q, k)``; of equal scores the lower id first, in an exact search also where k cuts a run of equal ones.
        Where there are fewer than k rows the rest is ``-inf`` and ``-1``.
        """

    def differing(self, ids: NDArray[np.int64], rows: Embeddings) -> int:
        """How many of the rows ``ids`` it holds otherwise than as ``rows``."""

    def save(self, path: Path, *, generation: int = 0) -> None:
        """Replace ``path`` atomically; ``generation`` is that of the vector store the rows are from."""


def build_index(
    dim: int,
    n: int,
    device: str = "auto",
    *,
    kind: Kind | None = None,
    plan: IndexPlan | None = None,
    rows: RowSource | None = None,
    options: IndexOptions | None = None,
    queries: Embeddings | None = None,
) -> VectorIndex:
    """An empty index for ``n`` vectors, of ``plan`` or ``kind``, on ``device`` (auto, cpu, cuda, cuda:N).

    ``rows``: where the vectors stay, for every kind but Flat; an IVF index is trained on a sample of them, and on
    ``queries`` ``(q, dim)`` such as will come. Raises ``UsageError`` for a GPU that FAISS does not have.
    """
    options = options or IndexOptions()
    plan = plan or plan_index(n, dim, IndexOptions(kind, options.memory_bytes, options.target_recall))
    if plan.kind != "Flat" and rows is None:
        raise ValueError(f"an index of kind {plan.kind} needs the rows that it is of")
    if plan.kind == "IVF":
        assert rows is not None
        sample = _sample(rows, max(TRAINED_ON * plan.lists, 1_000))
        maps = learned_maps(sample, queries)
        index = mapped_lists(plan, maps)
        index.train(sample)
        return _on_device(index, replace(plan, width=maps.width), device, rows, options, maps=maps)
    if plan.kind == "Flat":
        return _on_device(faiss.IndexFlatIP(dim), plan, device, rows, options)
    codes = "SQfp16" if plan.storage == "float16" else "SQ8"
    index = faiss.index_factory(dim, f"HNSW{HNSW_LINKS},{codes}", faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = HNSW_EF_CONSTRUCTION
    if rows is not None:
        index.train(_sample(rows, 10_000))
    return _on_device(index, plan, device, rows, options)


def index_of(
    vectors: Embeddings,
    device: str = "cpu",
    *,
    options: IndexOptions | None = None,
    queries: Embeddings | None = None,
) -> VectorIndex:
    """A finished index of vectors in memory ``(n, dim)``, of the kind that a collection of them gets.

    ``queries`` ``(q, dim)``: such as will come, to learn from.
    """
    options = options or IndexOptions()
    count, dim = vectors.shape
    index = build_index(
        dim,
        count,
        device,
        plan=plan_index(count, dim, options),
        rows=ArrayRows(vectors),
        options=options,
        queries=queries,
    )
    index.add(vectors)
    return index


def load_index(path: Path, *, device: str = "auto", rows: RowSource | None = None) -> tuple[VectorIndex, IndexFacts]:
    """The index in ``path``, checked against its crc32. Raises ``IndexDamaged`` saying what is wrong with it.

    ``StorageError`` where it cannot be read, which says nothing of what is in it.
    ``rows``: the vector store, which every kind but Flat reads.
    """
    with open_index_file(path) as (file, facts):
        failed: list[OSError] = []

        def read(n_bytes: int) -> bytes:
            try:
                return file.read(n_bytes)
            except OSError as error:  # FAISS makes an error of its own of it
                failed.append(error)
                raise

        try:
            reader = faiss.PyCallbackIOReader(read, 1 << 20)
            index = faiss.read_index(reader)
            maps = read_maps(index, reader) if facts.width else None
        except MemoryError as error:
            raise read_error(path, error) from error
        except Exception as error:
            if failed:
                raise read_error(path, failed[0]) from error
            raise damaged(path, f"FAISS cannot read it ({_first_line(error)})") from error
    width = 0 if maps is None else maps.width
    if (_kind_of(index), index.ntotal, index.d, width) != (facts.kind, facts.ntotal, facts.dim, facts.width):
        raise damaged(path, "it is not the index that its last line says it is")
    if facts.kind != "Flat" and rows is None:
        raise ValueError(f"an index of kind {facts.kind} needs the rows that it is of")
    return _on_device(index, facts.plan, device, rows, facts.options, facts.tuning, maps=maps), facts


class FaissIndex:
    """A :class:`VectorIndex` of candidates from FAISS, ranked by the stored rows."""

    def __init__(
        self, candidates: Candidates, options: IndexOptions | None = None, tuning: Tuning | None = None
    ) -> None:
        self.candidates = candidates
        self.plan = candidates.plan
        self.options = options or IndexOptions()
        self.tuning = tuning

    @property
    def device(self) -> str:
        return self.candidates.device

    @property
    def ntotal(self) -> int:
        return self.candidates.ntotal

    @property
    def dim(self) -> int:
        return self.candidates.dim

    @property
    def kind(self) -> Kind:
        return self.plan.kind

    def add(self, vectors: Embeddings) -> None:
        self.candidates.add(vectors)

    def differing(self, ids: NDArray[np.int64], rows: Embeddings) -> int:
        return self.candidates.differing(ids, rows)

    def save(self, path: Path, *, generation: int = 0) -> None:
        plan = self.plan
        facts = IndexFacts(
            kind=self.kind,
            ntotal=self.ntotal,
            dim=self.dim,
            generation=generation,
            crc32=0,  # of what is written, put in by then
            storage=plan.storage,
            lists=plan.lists,
            built_for=plan.built_for,
            width=plan.width,
            options=self.options,
            tuning=self.tuning,
        )
        index, maps = self.candidates.index, self.candidates.maps

        def put(take: Callable[[bytes], int]) -> None:
            writer = faiss.PyCallbackIOWriter(take, 1 << 20)
            faiss.write_index(index, writer)
            if maps is not None:
                faiss.write_VectorTransform(transform(maps.queries), writer)

        write_index_file(path, put, facts)

    def search(self, queries: Embeddings, k: int, allowed: NDArray[np.int64] | None = None) -> Found:
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"queries of shape (q, {self.dim}) expected, got {queries.shape}")
        if not math.isfinite(float(queries.sum())) and not np.isfinite(queries).all():  # the sum is found faster
            raise ValueError("queries hold numbers that are not finite")
        rows = self.candidates.selected(allowed)
        if k < 1 or len(queries) == 0 or rows.count == 0:
            return _nothing_found(len(queries), max(k, 0))
        if self.candidates.best_compared_one_by_one(rows):
            scores, ids = _nothing_found(len(queries), k)
            self._search_exactly(queries, k, rows, scores, ids, np.arange(len(queries)))
            return scores, ids
        return self._search_approximately(queries, k, rows)

    def _search_approximately(self, queries: Embeddings, k: int, rows: Allowed) -> Found:
        """The best of the candidates that the graph or the lists find; exactly, where those are too few."""
        fetch = min(rows.count, k + (_MARGIN if self.tuning is None else self.tuning.margin))
        best, found = self._approximate(queries, fetch, k, rows)
        if best.shape[1] > k and bool((best[:, k - 1] > best[:, -1]).all()) and bool((found[:, -1] >= 0).all()):
            return best[:, :k], found[:, :k]  # enough for all, and no run of equal scores is cut
        scores, ids = _nothing_found(len(queries), k)
        _put(scores, ids, np.arange(len(queries)), best, found)
        wider = min(rows.count, fetch * _TIES)
        if best.shape[1] > k and wider > fetch:
            # runs of equal scores, cut by what was fetched
            todo = np.flatnonzero((best[:, k - 1] == best[:, -1]) & (found[:, -1] >= 0))
            if len(todo):
                _put(scores, ids, todo, *self._approximate(queries[todo], wider, k, rows))
        too_few = np.flatnonzero((ids >= 0).sum(axis=1) < min(k, rows.count))
        self._search_exactly(queries, k, rows, scores, ids, too_few)
        return scores, ids

    def _search_exactly(
        self,
        queries: Embeddings,
        k: int,
        rows: Allowed,
        scores: NDArray[np.float32],
        ids: NDArray[np.int64],
        todo: NDArray[np.int64],
    ) -> None:
        """Fill the rows ``todo`` of ``scores`` and ``ids`` with the true top ``k``, ties to the lower id.

        More candidates are fetched until nothing that was not fetched can belong to the top ``k``.
        """
        fetch = min(rows.count, k + _MARGIN)
        while len(todo):
            raw, candidates = self.candidates.exact(queries[todo], fetch, rows)
            best, found = self._ranked(queries[todo], candidates)
            _put(scores, ids, todo, best, found)
            if fetch >= rows.count:
                break
            rounding = 2.0**-22 * max(self.dim, 16) ** 0.5 * np.linalg.norm(queries[todo], axis=1)
            least = np.where(candidates >= 0, raw, np.inf).min(axis=1)
            full = (candidates >= 0).sum(axis=1)
            settled = (full >= rows.count) | ((full >= k) & (best[:, k - 1] > least + rounding))
            fetch = min(rows.count, fetch * 4)
            todo = todo[~settled]

    def _approximate(self, queries: Embeddings, fetch: int, k: int, rows: Allowed) -> Found:
        return self._ranked(queries, self.candidates.approximate(queries, fetch, k, rows, self.tuning))

    def _ranked(self, queries: Embeddings, candidates: NDArray[np.int64]) -> Found:
        """Candidates ``(q, c)`` with their scores from the stored rows, best first, the lower id first among equals."""
        step = max(1, _RANKED_AT_ONCE // max(1, candidates.shape[1]))
        if len(queries) <= step:
            return self._ranked_at_once(queries, candidates)
        parts = [
            self._ranked_at_once(queries[start : start + step], candidates[start : start + step])
            for start in range(0, len(queries), step)
        ]
        return np.concatenate([scores for scores, _ in parts]), np.concatenate([ids for _, ids in parts])

    def _ranked_at_once(self, queries: Embeddings, candidates: NDArray[np.int64]) -> Found:
        if len(queries) == 1 and candidates.size and candidates[0, -1] >= 0:  # the usual one, without detours
            ids = candidates[0]
            products = self.candidates.rows(ids).astype(np.float64) * queries[0].astype(np.float64)
            exact = products.sum(axis=1).astype(np.float32)
            best = np.lexsort((ids, -exact))
            return exact[best][None], ids[best][None]
        there = candidates >= 0
        scores = np.full(candidates.shape, -np.inf, dtype=np.float32)
        wide = queries.astype(np.float64)
        rows: NDArray[Any]
        if candidates.size and there.all():
            rows = self.candidates.rows(candidates.ravel()).reshape(*candidates.shape, -1) * wide[:, None]
        else:
            rows = self.candidates.rows(candidates[there]) * np.repeat(wide, there.sum(axis=1), axis=0)
        scores[there] = rows.sum(axis=-1).ravel().astype(np.float32)  # row by row, always alike
        order = np.lexsort((candidates, -scores), axis=1)
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(candidates, order, axis=1)


def _nothing_found(n_queries: int, k: int) -> Found:
    shape = (n_queries, k)
    return np.full(shape, -np.inf, dtype=np.float32), np.full(shape, -1, dtype=np.int64)


def _put(scores: NDArray[np.float32], ids: NDArray[np.int64], todo: NDArray[np.int64], best: Any, found: Any) -> None:
    """The first of ``best`` and ``found`` into the rows ``todo`` of ``scores`` and ``ids``."""
    n = min(scores.shape[1], best.shape[1])
    scores[todo, :n], ids[todo, :n] = best[:, :n], found[:, :n]
    scores[todo, n:], ids[todo, n:] = -np.inf, -1


def _kind_of(index: Any) -> Kind:
    if isinstance(index, faiss.IndexHNSW):
        return "HNSW"
    return "IVF" if isinstance(ivf_of(index), faiss.IndexIVF) else "Flat"


def _sample(rows: RowSource, n: int) -> NDArray[np.float32]:
    """At most ``n`` rows, drawn alike each time."""
    if rows.count <= n:
        return np.concatenate([some for _, some in rows.chunks()]) if rows.count else rows.get(np.zeros(0, np.int64))
    return rows.get(np.sort(np.random.default_rng(0).choice(rows.count, n, replace=False)))


def _on_device(
    index: Any,
    plan: IndexPlan,
    device: str,
    rows: RowSource | None,
    options: IndexOptions,
    tuning: Tuning | None = None,
    *,
    maps: Maps | None = None,
) -> VectorIndex:
    ordinals = gpu_ordinals(device)
    candidates = GpuCandidates(ordinals, index, plan, rows, maps) if ordinals else Candidates(index, plan, rows, maps)
    return FaissIndex(candidates, options, tuning)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
