"""The only file that imports faiss: build, search, save and load an index over the vector store's rows.

Row ``i`` of an index is ``vector_id`` ``i``. Scores are inner products of unit vectors (cosines). FAISS finds the
candidates; their scores are then computed once more from the stored rows, in float64, because the order in
which a matrix product adds depends on where a row stands: so equal vectors have exactly equal scores, and
ties go to the lower vector_id. Knows nothing of the catalog: which rows are live is ``allowed``, and that is
applied inside the FAISS search. Which kind, and how broadly it is searched, is :mod:`indexer.ann.plan` and
:mod:`indexer.ann.tuning`; the file is :mod:`indexer.ann.file`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from indexer.ann.brute_force import ArrayRows, RowSource, exact_top
from indexer.ann.file import IndexFacts, Tuning, damaged, open_index_file, read_facts, write_index_file
from indexer.ann.plan import FLAT_LIMIT, HNSW_LINKS, IndexPlan, IndexWish, Kind, plan_index
from indexer.errors import UsageError
from indexer.items import Embeddings
from indexer.reading import read_error

__all__ = ["FLAT_LIMIT", "IndexFacts", "Kind", "VectorIndex", "build_index", "index_of", "load_index", "read_facts"]

#: Its type stubs lack much of what it has.
faiss: Any = _faiss

#: Fewer allowed rows than this are compared one by one: exact, and fewer than an approximate search looks at.
EXACT_ROWS = 10_000
#: So is a smaller share than this: a graph walked mostly over forbidden rows finds too few of the allowed ones.
EXACT_SHARE = {"Flat": 0.0, "HNSW": 0.05, "IVF": 0.01}

#: HNSW: breadth while building, and while searching where nothing was measured.
HNSW_EF_CONSTRUCTION = 100
HNSW_EF_SEARCH = 512
_HNSW_EF_LIMIT = 4_096
#: IVF: rounds of k-means; lists looked into and candidates a result where nothing was measured.
_IVF_ROUNDS = 10
_IVF_TUNING = Tuning(breadth=32, refine=8)
#: From so many lists on their centres are found by a graph; how broadly it is made and, at least, searched.
_CENTRES_IN_A_GRAPH, _CENTRES_EF_CONSTRUCTION, _CENTRES_LOOKED_AT = 256, 40, 32
#: Vectors that lists are trained on, for each list.
TRAINED_ON = 40

#: Candidates fetched beyond k, to see whether the score falls after the k-th.
_MARGIN = 16
#: Of a run of equal scores an approximate search fetches that many times as many, once.
_TIES = 16
#: k at which the breadth was measured, with the query itself; a larger one is searched more broadly.
_TUNED_K = 11
#: Candidates whose rows are held at once, in float64.
_RANKED_AT_ONCE = 32_768
#: FAISS on a GPU gives no more candidates than this.
_GPU_MAX_K = 2_048
_KEPT_SELECTIONS = 8
#: int8 storage gives a unit vector back to within this cosine.
_LIKE = 0.98
#: Two centres are alike to a row to within this.
_ALIKE = 1e-4

Found = tuple[NDArray[np.float32], NDArray[np.int64]]


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
    wish: IndexWish
    """What was asked of it."""

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
    dim: int, n: int, device: str = "auto", *, kind: Kind | None = None, plan: IndexPlan | None = None,
    rows: RowSource | None = None, wish: IndexWish | None = None,
) -> VectorIndex:  # fmt: skip
    """An empty index for ``n`` vectors, of ``plan`` or ``kind``, on ``device`` (auto, cpu, cuda, cuda:N).

    ``rows``: where the vectors stay, for every kind but Flat; an IVF index is trained on a sample of them. Raises
    ``UsageError`` when a GPU is asked for that FAISS does not have.
    """
    wish = wish or IndexWish()
    plan = plan or plan_index(n, dim, IndexWish(kind, wish.memory_bytes, wish.target_recall))
    if plan.kind != "Flat" and rows is None:
        raise ValueError(f"an index of kind {plan.kind} needs the rows that it is of")
    index: Any
    if plan.kind == "Flat":
        index = faiss.IndexFlatIP(dim)
    elif plan.kind == "HNSW":
        storage = "SQfp16" if plan.storage == "float16" else "SQ8"
        index = faiss.index_factory(dim, f"HNSW{HNSW_LINKS},{storage}", faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = HNSW_EF_CONSTRUCTION
        assert rows is not None
        index.train(_sample(rows, 10_000))
    else:
        refine = ",Refine(SQ8)" if plan.storage == "int8" else ""
        # a code of four bits for each two dimensions, compared sixteen at a time in registers (fast-scan)
        codes = f"PQ{dim // 2}x4fs" if dim % 2 == 0 else "RaBitQfs"
        index = faiss.index_factory(dim, f"IVF{plan.lists},{codes}{refine}", faiss.METRIC_INNER_PRODUCT)
        _ivf(index).cp.niter = _IVF_ROUNDS
        assert rows is not None
        index.train(_sample(rows, max(TRAINED_ON * plan.lists, 1_000)))
    return _on_device(index, plan, device, rows, wish)


def index_of(vectors: Embeddings, device: str = "cpu", *, wish: IndexWish | None = None) -> VectorIndex:
    """A finished index of vectors in memory ``(n, dim)``, of the kind that a collection of them gets."""
    wish = wish or IndexWish()
    count, dim = vectors.shape
    index = build_index(dim, count, device, plan=plan_index(count, dim, wish), rows=ArrayRows(vectors), wish=wish)
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
            index = faiss.read_index(faiss.PyCallbackIOReader(read, 1 << 20))
        except MemoryError as error:
            raise read_error(path, error) from error
        except Exception as error:
            if failed:
                raise read_error(path, failed[0]) from error
            raise damaged(path, f"FAISS cannot read it ({_first_line(error)})") from error
    if (_kind_of(index), index.ntotal, index.d) != (facts.kind, facts.ntotal, facts.dim):
        raise damaged(path, "it is not the index that its last line says it is")
    if facts.kind != "Flat" and rows is None:
        raise ValueError(f"an index of kind {facts.kind} needs the rows that it is of")
    return _on_device(index, facts.plan, device, rows, facts.wish, facts.tuning), facts


class CpuIndex:
    """An index in memory; other kinds than Flat also read ``rows``, the vector store."""

    def __init__(
        self, index: Any, plan: IndexPlan, rows: RowSource | None = None, wish: IndexWish | None = None,
        tuning: Tuning | None = None,
    ) -> None:  # fmt: skip
        self._index = index
        self._source = rows
        self.plan = plan
        self.wish = wish or IndexWish()
        self.tuning = tuning
        self.device = "cpu"
        self._selections: dict[int, tuple[NDArray[np.int64], _Allowed]] = {}
        self._parameters: dict[tuple[float, ...], tuple[Any, Any]] = {}
        # Flat holds its rows as they are, and so did HNSW once
        held = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
        self._flat = held if isinstance(held, faiss.IndexFlat) else None

    @property
    def ntotal(self) -> int:
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        return int(self._index.d)

    @property
    def kind(self) -> Kind:
        return self.plan.kind

    def add(self, vectors: Embeddings) -> None:
        self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        self._selections.clear()
        self._parameters.clear()
        for made in ("_list_of", "_graphed"):
            self.__dict__.pop(made, None)

    def differing(self, ids: NDArray[np.int64], rows: Embeddings) -> int:
        if self._flat is not None:  # bits: NaN equals itself
            ours = self._rows(ids).view(np.uint32)
            return int((ours != np.ascontiguousarray(rows).view(np.uint32)).any(axis=1).sum())
        different = np.zeros(len(ids), dtype=bool)
        if self.plan.kind == "IVF":
            centres, held = _ivf(self._index).quantizer, self._list_of[ids]
            best, lists = centres.search(np.ascontiguousarray(rows), 1)
            for place in np.flatnonzero(lists[:, 0] != held):  # of two centres alike, either will do
                near = held[place] >= 0 and rows[place] @ centres.reconstruct(int(held[place]))
                different[place] = not near >= best[place, 0] - _ALIKE
        store = self._index.storage if self.plan.kind == "HNSW" else getattr(self._index, "refine_index", None)
        if store is not None and len(ids):
            kept = np.stack([faiss.downcast_index(store).reconstruct(int(one)) for one in ids])
            with np.errstate(all="ignore"):
                cosines = (kept * rows).sum(axis=1) / np.linalg.norm(kept, axis=1)
            different |= ~(cosines >= _LIKE)
        return int(different.sum())

    def save(self, path: Path, *, generation: int = 0) -> None:
        plan = self.plan
        facts = IndexFacts(
            self.kind, self.ntotal, self.dim, generation, 0, plan.storage, plan.lists, plan.built_for, self.wish,
            self.tuning,
        )  # fmt: skip
        write_index_file(path, lambda take: faiss.write_index(self._index, faiss.PyCallbackIOWriter(take, 1 << 20)),
                         facts)  # fmt: skip

    def search(self, queries: Embeddings, k: int, allowed: NDArray[np.int64] | None = None) -> Found:
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"queries of shape (q, {self.dim}) expected, got {queries.shape}")
        if not np.isfinite(queries).all():
            raise ValueError("queries hold numbers that are not finite")
        rows = self._selected(allowed)
        if k < 1 or len(queries) == 0 or rows.count == 0:
            shape = (len(queries), max(k, 0))
            return np.full(shape, -np.inf, dtype=np.float32), np.full(shape, -1, dtype=np.int64)
        looks_at_some = self.kind != "Flat" and rows.count >= max(EXACT_ROWS, EXACT_SHARE[self.kind] * self.ntotal)
        wanted = min(rows.count, k + (_MARGIN if self.tuning is None else self.tuning.margin))
        first = self._ranked(queries, self._approximate(queries, wanted, k, rows)) if looks_at_some else None
        if first is not None and first[0].shape[1] > k:
            best, found = first
            if bool(((best[:, k - 1] > best[:, -1]) & (found[:, -1] >= 0)).all()):
                return best[:, :k], found[:, :k]  # enough for all, and no run of equal scores is cut
        todo = np.arange(len(queries))
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        ids = np.full(scores.shape, -1, dtype=np.int64)
        fetch = min(rows.count, k + _MARGIN)
        if first is not None:
            best, found = first
            _put(scores, ids, todo, best, found)
            wider = min(rows.count, wanted * _TIES)
            if best.shape[1] > k and wider > wanted:
                # runs of equal scores, cut by what was fetched
                todo = np.flatnonzero((best[:, k - 1] == best[:, -1]) & (found[:, -1] >= 0))
                if len(todo):
                    candidates = self._approximate(queries[todo], wider, k, rows)
                    _put(scores, ids, todo, *self._ranked(queries[todo], candidates))
            todo = np.flatnonzero((ids >= 0).sum(axis=1) < min(k, rows.count))  # too few found: exactly, then
        while len(todo):
            raw, candidates = self._exact(queries[todo], fetch, rows)
            best, found = self._ranked(queries[todo], candidates)
            _put(scores, ids, todo, best, found)
            if fetch >= rows.count:
                break
            rounding = 2.0**-22 * max(self.dim, 16) ** 0.5 * np.linalg.norm(queries[todo], axis=1)
            least = np.where(candidates >= 0, raw, np.inf).min(axis=1)
            full = (candidates >= 0).sum(axis=1)
            # whether nothing that was not fetched can belong into the top k
            settled = (full >= rows.count) | ((full >= k) & (best[:, k - 1] > least + rounding))
            fetch = min(rows.count, fetch * 4)
            todo = todo[~settled]
        return scores, ids

    # -- candidates -----------------------------------------------------------------------------------------

    def _exact(self, queries: Embeddings, fetch: int, rows: _Allowed) -> Found:
        """The true top ``fetch`` among ``rows`` but for rounding: scores, and ids, -1 where none."""
        if self._flat is None:
            assert self._source is not None
            return exact_top(queries, self._source, fetch, rows.ids, ntotal=self.ntotal)
        selector = rows.selector
        parameters = faiss.SearchParameters(sel=selector) if selector is not None else None
        return _pair(self._flat.search(queries, fetch, params=parameters))

    def _approximate(self, queries: Embeddings, fetch: int, k: int, rows: _Allowed) -> NDArray[np.int64]:
        """Candidates ``(q, >= fetch)`` that the graph or the lists find, -1 where none."""
        wider = max(1.0, k / _TUNED_K) ** 0.5
        if self.kind == "HNSW":
            measured = HNSW_EF_SEARCH if self.tuning is None else self.tuning.breadth
            breadth = max(measured * wider, fetch) * self.ntotal / rows.count
            breadth = min(max(_HNSW_EF_LIMIT, fetch), math.ceil(breadth))
            parameters = faiss.SearchParametersHNSW(sel=rows.selector, efSearch=breadth)
            return _pair(self._index.search(queries, fetch, params=parameters))[1]
        tuning = self.tuning or _IVF_TUNING
        fetch = math.ceil(fetch * tuning.refine) if self.plan.storage == "disk" else fetch
        breadth, lists = tuning.breadth * wider, self.plan.lists
        if rows.ids is None:
            index, settings = self._unfiltered(breadth, tuning.refine)
            return _pair(index.search(queries, fetch, params=settings))[1]
        held = rows.per_list(self)
        some = np.flatnonzero(held)
        # as many allowed rows are looked at as without a filter; lists without any are not looked into
        breadth *= self.ntotal / lists / held[some].mean()
        inner: dict[str, Any] = {"sel": rows.selector, "nprobe": max(1, min(len(some), math.ceil(breadth)))}
        if len(some) < lists:
            inner["quantizer_params"] = faiss.SearchParameters(sel=rows.list_selector(some))
        return _pair(self._index.search(queries, fetch, params=self._refined(inner, tuning.refine)))[1]

    def _unfiltered(self, breadth: float, refine: float) -> tuple[Any, Any]:
        """What to search all rows with, and FAISS's parameters, which take longer to make than some searches do."""
        nprobe = max(1, min(self.plan.lists, math.ceil(breadth)))
        if (nprobe, refine) not in self._parameters:
            inner: dict[str, Any] = {"nprobe": nprobe}
            index = self._index
            if self.plan.lists >= _CENTRES_IN_A_GRAPH and nprobe <= self.plan.lists // 16 and self._graphed is not None:
                index = self._graphed[-1]
                inner["quantizer_params"] = faiss.SearchParametersHNSW(efSearch=max(_CENTRES_LOOKED_AT, nprobe))
            self._parameters[nprobe, refine] = index, self._refined(inner, refine)
        return self._parameters[nprobe, refine]

    @cached_property
    def _graphed(self) -> tuple[Any, ...] | None:
        """The same lists and codes, the lists found by a graph over their centres; last, what it is made of before it.

        To compare a query with thousands of centres takes FAISS as long as all that follows. ``None`` for other codes.
        """
        ivf = _ivf(self._index)
        if not isinstance(ivf, faiss.IndexIVFPQFastScan):
            return None
        graph = faiss.IndexHNSWFlat(ivf.d, HNSW_LINKS, ivf.metric_type)
        graph.hnsw.efConstruction = _CENTRES_EF_CONSTRUCTION
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # so that it is always the same graph
        try:
            graph.add(ivf.quantizer.reconstruct_n(0, ivf.nlist))
        finally:
            faiss.omp_set_num_threads(threads)
        seen = faiss.IndexIVFPQFastScan(graph, ivf.d, ivf.nlist, ivf.pq.M, ivf.pq.nbits, ivf.metric_type, ivf.bbs)
        seen.own_fields = False
        seen.pq, seen.by_residual, seen.is_trained = ivf.pq, ivf.by_residual, True
        seen.replace_invlists(ivf.invlists, False)
        seen.ntotal = ivf.ntotal
        if self.plan.storage == "disk":
            return graph, seen
        refined = faiss.IndexRefine(seen, self._index.refine_index)
        refined.own_fields = refined.own_refine_index = False
        refined.ntotal = ivf.ntotal
        return graph, seen, refined

    def _refined(self, inner: dict[str, Any], refine: float) -> Any:
        parameters = faiss.SearchParametersIVF(**inner)
        if self.plan.storage == "disk":
            return parameters
        return faiss.IndexRefineSearchParameters(k_factor=refine, base_index_params=parameters)

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
            exact = (self._rows(ids).astype(np.float64) * queries[0].astype(np.float64)).sum(axis=1).astype(np.float32)
            best = np.lexsort((ids, -exact))
            return exact[best][None], ids[best][None]
        there = candidates >= 0
        scores = np.full(candidates.shape, -np.inf, dtype=np.float32)
        wide = queries.astype(np.float64)
        rows: NDArray[Any]
        if candidates.size and there.all():
            rows = self._rows(candidates.ravel()).reshape(*candidates.shape, -1) * wide[:, None]
        else:
            rows = self._rows(candidates[there]) * np.repeat(wide, there.sum(axis=1), axis=0)
        scores[there] = rows.sum(axis=-1).ravel().astype(np.float32)  # row by row, always alike
        order = np.lexsort((candidates, -scores), axis=1)
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(candidates, order, axis=1)

    def _rows(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Stored rows ``(n, dim)``."""
        if self._flat is None:
            assert self._source is not None
            return self._source.get(ids)
        if self.ntotal == 0:
            return np.zeros((0, self.dim), dtype=np.float32)
        flat = faiss.rev_swig_ptr(self._flat.get_xb(), self.ntotal * self.dim)
        return np.asarray(flat).reshape(self.ntotal, self.dim)[ids]

    @cached_property
    def _list_of(self) -> NDArray[np.int32]:
        """Of every row, the list of the IVF index that it is in."""
        found = np.full(self.ntotal, -1, dtype=np.int32)
        inverted = _ivf(self._index).invlists
        for number in range(self.plan.lists):
            size = inverted.list_size(number)
            if size:
                found[faiss.rev_swig_ptr(inverted.get_ids(number), size)] = number
        return found

    def _selected(self, allowed: NDArray[np.int64] | None) -> _Allowed:
        """``allowed``, made ready; that of an array which nobody writes into is kept."""
        if allowed is None or allowed.flags.writeable:
            return _Allowed.of(allowed, self.ntotal)
        kept = self._selections.get(id(allowed))
        if kept is None:
            if len(self._selections) >= _KEPT_SELECTIONS:
                del self._selections[next(iter(self._selections))]
            kept = self._selections[id(allowed)] = (allowed, _Allowed.of(allowed, self.ntotal))
        return kept[1]


class GpuIndex(CpuIndex):
    """A CPU index with a copy of the rows on GPUs, float16 unless it is Flat, for the searches over all rows.

    Several GPUs hold a part each. FAISS's GPU indexes take no selectors, so searches over some of the rows run on the
    CPU index.
    """

    def __init__(self, ordinals: list[int], *rest: Any) -> None:
        super().__init__(*rest)
        self.device = ",".join(f"cuda:{ordinal}" for ordinal in ordinals)
        self._ordinals = ordinals
        self._resources: list[Any] = []
        self._gpu: Any = None

    def add(self, vectors: Embeddings) -> None:
        super().add(vectors)
        self._gpu = None

    def _exact(self, queries: Embeddings, fetch: int, rows: _Allowed) -> Found:
        gpu = self._copy() if self.kind == "Flat" and rows.ids is None and fetch <= _GPU_MAX_K else None
        return super()._exact(queries, fetch, rows) if gpu is None else _pair(gpu.search(queries, fetch))

    def _approximate(self, queries: Embeddings, fetch: int, k: int, rows: _Allowed) -> NDArray[np.int64]:
        gpu = self._copy() if rows.ids is None and fetch <= _GPU_MAX_K else None
        return super()._approximate(queries, fetch, k, rows) if gpu is None else _pair(gpu.search(queries, fetch))[1]

    def _copy(self) -> Any:
        if self._gpu is None and self.device != "cpu":
            rows = self._source if self._flat is None else ArrayRows(self._rows(np.arange(self.ntotal)))
            assert rows is not None
            try:
                self._gpu = spread(rows, self.ntotal, len(self._ordinals), self._empty)
            except RuntimeError:  # the rows do not fit beside the models: slower, with the same hits
                self.device = "cpu"
        return self._gpu

    def _empty(self, number: int) -> Any:
        resources = faiss.StandardGpuResources()
        self._resources.append(resources)
        settings = faiss.GpuIndexFlatConfig()
        settings.device = self._ordinals[number]
        settings.useFloat16 = self.kind != "Flat"
        return faiss.GpuIndexFlatIP(resources, self.dim, settings)


def spread(rows: RowSource, ntotal: int, parts: int, empty: Any) -> Any:
    """Rows ``0 .. ntotal - 1`` over ``parts`` indexes, in order; ``empty(number)`` makes one. One index answers."""
    bounds = [ntotal * number // parts for number in range(parts + 1)]
    indexes = [empty(number) for number in range(parts)]
    for first, some in rows.chunks():
        for number, index in enumerate(indexes):
            piece = some[max(0, bounds[number] - first) : max(0, bounds[number + 1] - first)]
            if len(piece):
                index.add(np.ascontiguousarray(piece))
    if parts == 1:
        return indexes[0]
    shards = faiss.IndexShards(indexes[0].d, True, True)
    for index in indexes:
        shards.add_shard(index)
    return shards


@dataclass(slots=True)
class _Allowed:
    """The rows a search may return: all of them (``ids`` None) or these, ascending, once each."""

    ids: NDArray[np.int64] | None
    count: int
    ntotal: int
    _selector: Any = None
    _per_list: NDArray[np.int64] | None = None
    _lists: Any = None

    @classmethod
    def of(cls, allowed: NDArray[np.int64] | None, ntotal: int) -> _Allowed:
        if allowed is None:
            return cls(None, ntotal, ntotal)
        ids = np.ascontiguousarray(allowed, dtype=np.int64).reshape(-1)
        if len(ids) > 1 and not bool(np.all(ids[1:] > ids[:-1])):
            ids = np.unique(ids)
        if len(ids) and (ids[0] < 0 or ids[-1] >= ntotal):  # FAISS would read outside its memory
            ids = ids[(ids >= 0) & (ids < ntotal)]
        if len(ids) == ntotal:
            return cls(None, ntotal, ntotal)
        return cls(ids, len(ids), ntotal)

    @property
    def selector(self) -> Any:
        """The FAISS selector, which keeps its own array alive; ``None`` for all rows."""
        if self.ids is not None and self._selector is None:
            if self.count < EXACT_ROWS:
                # a flat index reads just the rows of an array selector; a bitmap is asked about every row
                self._selector = faiss.IDSelectorArray(self.ids)
            else:
                bitmap = np.zeros(self.ntotal, dtype=bool)
                bitmap[self.ids] = True
                self._selector = faiss.IDSelectorBitmap(np.packbits(bitmap, bitorder="little"))
        return self._selector

    def per_list(self, index: CpuIndex) -> NDArray[np.int64]:
        """How many of them are in each list of an IVF index."""
        if self._per_list is None:
            self._per_list = np.bincount(index._list_of[self.ids], minlength=index.plan.lists)
        return self._per_list

    def list_selector(self, lists: NDArray[np.int64]) -> Any:
        """The selector of the lists that hold any."""
        if self._lists is None:
            self._lists = faiss.IDSelectorArray(lists.astype(np.int64))
        return self._lists


def _put(scores: NDArray[np.float32], ids: NDArray[np.int64], todo: NDArray[np.int64], best: Any, found: Any) -> None:
    """The first of ``best`` and ``found`` into the rows ``todo`` of ``scores`` and ``ids``."""
    n = min(scores.shape[1], best.shape[1])
    scores[todo, :n], ids[todo, :n] = best[:, :n], found[:, :n]
    scores[todo, n:], ids[todo, n:] = -np.inf, -1


def _pair(pair: Any) -> Found:
    return np.asarray(pair[0], dtype=np.float32), np.asarray(pair[1], dtype=np.int64)


def _ivf(index: Any) -> Any:
    """The IVF part of an index."""
    return faiss.downcast_index(index.base_index) if isinstance(index, faiss.IndexRefine) else index


def _kind_of(index: Any) -> Kind:
    if isinstance(index, faiss.IndexHNSW):
        return "HNSW"
    return "IVF" if isinstance(_ivf(index), faiss.IndexIVF) else "Flat"


def _sample(rows: RowSource, n: int) -> NDArray[np.float32]:
    """At most ``n`` rows, drawn alike each time."""
    if rows.count <= n:
        return np.concatenate([some for _, some in rows.chunks()]) if rows.count else rows.get(np.zeros(0, np.int64))
    return rows.get(np.sort(np.random.default_rng(0).choice(rows.count, n, replace=False)))


def _on_device(
    index: Any, plan: IndexPlan, device: str, rows: RowSource | None, wish: IndexWish, tuning: Tuning | None = None
) -> VectorIndex:
    ordinals = gpu_ordinals(device)
    if not ordinals:
        return CpuIndex(index, plan, rows, wish, tuning)
    return GpuIndex(ordinals, index, plan, rows, wish, tuning)


def gpu_ordinals(device: str) -> list[int]:
    """Numbers of the GPUs for ``device``: all of them for ``auto`` and ``cuda``, none for the CPU."""
    if device == "cpu":
        return []
    name, _, number = device.partition(":")
    if device != "auto" and (name != "cuda" or (number and not number.isdecimal())):
        raise UsageError(f"--device {device}: is no device; use auto, cpu, cuda or cuda:N")
    gpus = int(faiss.get_num_gpus()) if hasattr(faiss, "index_cpu_to_gpu") else 0
    wanted = [int(number)] if number else list(range(gpus))
    if wanted and wanted[-1] < gpus:
        return wanted
    if device == "auto":
        return []
    if not hasattr(faiss, "index_cpu_to_gpu"):
        why, remedy = "this FAISS was built without GPUs", "use --device cpu, or pip install 'trimodal[gpu]'"
    else:
        why = f"FAISS sees {gpus} of them, counted from 0" if gpus else "FAISS sees none"
        remedy = "use --device cpu, or check the driver (nvidia-smi)"
    raise UsageError(f"--device {device}: no such GPU for the search ({why}); {remedy}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
