"""Candidates for a search: which rows FAISS finds, exactly or through a graph or lists, among the allowed ones.

Which rows are live is ``allowed``, and that is applied inside the FAISS search. The scores that FAISS gives with its
candidates are rough; :mod:`indexer.ann.index` ranks them. Knows nothing of files, of building or of the catalog.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from indexer.ann.brute_force import RowSource, exact_top
from indexer.ann.file import Tuning
from indexer.ann.lists import View, coded, compared, inner_of, ivf_of
from indexer.ann.maps import Maps
from indexer.ann.plan import IndexPlan, Kind
from indexer.items import Embeddings

#: Its type stubs lack much of what it has.
faiss: Any = _faiss

#: Fewer allowed rows than this are compared one by one: exact, and fewer than an approximate search looks at.
EXACT_ROWS = 10_000
#: So is a smaller share than this: a graph walked mostly over forbidden rows finds too few of the allowed ones.
EXACT_SHARE = {"Flat": 0.0, "HNSW": 0.05, "IVF": 0.01}

#: Breadth of a graph's walk where nothing was measured.
HNSW_EF_SEARCH = 512
_HNSW_EF_LIMIT = 4_096
#: Lists looked into, and candidates a result, where nothing was measured.
_IVF_TUNING = Tuning(breadth=32, refine=8)
#: From so many lists on their centres are found by codes.
_CENTRES_CODED = 256
#: k at which the breadth was measured, with the query itself; a larger one is searched more broadly.
_TUNED_K = 11
_KEPT_SELECTIONS = 8
#: int8 storage gives a unit vector back to within this cosine.
_LIKE = 0.98
#: Two centres are alike to a row to within this.
_ALIKE = 1e-4

#: Scores float32 ``(q, n)`` and vector_ids int64 ``(q, n)``.
Found = tuple[NDArray[np.float32], NDArray[np.int64]]


class Candidates:
    """A FAISS index in memory; other kinds than Flat also read ``rows``, the vector store.

    ``maps``: of lists of mapped vectors, which searches find with mapped queries.
    """

    device = "cpu"
    """``cpu`` or ``cuda:N``."""

    def __init__(self, index: Any, plan: IndexPlan, rows: RowSource | None = None, maps: Maps | None = None) -> None:
        self.index = index
        self.maps = maps
        # reading a number of FAISS's objects each time costs as much as some steps of a search
        self._ntotal, self._dim = int(index.ntotal), int(index.d)
        self.plan = plan
        self.source = rows
        self._selections: dict[int, tuple[NDArray[np.int64], Allowed]] = {}
        self._parameters: dict[tuple[float, ...], tuple[Any, Any]] = {}
        # Flat holds its rows as they are, and so did HNSW once
        held = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
        self.flat = held if isinstance(held, faiss.IndexFlat) else None

    @property
    def ntotal(self) -> int:
        """Rows in it, live or not."""
        return self._ntotal

    @property
    def dim(self) -> int:
        """Width of a row."""
        return self._dim

    @property
    def kind(self) -> Kind:
        """Which kind of index it is."""
        return self.plan.kind

    def add(self, vectors: Embeddings) -> None:
        """Append rows ``(n, dim)``."""
        self.index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        self._ntotal = int(self.index.ntotal)
        self._selections.clear()
        self._parameters.clear()
        for made in ("_list_of", "_compared", "_coded"):
            self.__dict__.pop(made, None)

    def best_compared_one_by_one(self, rows: Allowed) -> bool:
        """Whether comparing with each of ``rows`` is best: they are few, or the index is of no other use."""
        return self.kind == "Flat" or rows.count < max(EXACT_ROWS, EXACT_SHARE[self.kind] * self.ntotal)

    def exact(self, queries: Embeddings, fetch: int, rows: Allowed) -> Found:
        """The true top ``fetch`` among ``rows`` but for rounding: scores, and ids, -1 where none."""
        if self.flat is None:
            assert self.source is not None
            return exact_top(queries, self.source, fetch, rows.ids, ntotal=self.ntotal)
        selector = rows.selector
        parameters = faiss.SearchParameters(sel=selector) if selector is not None else None
        return as_found(self.flat.search(queries, fetch, params=parameters))

    def approximate(
        self, queries: Embeddings, fetch: int, k: int, rows: Allowed, tuning: Tuning | None
    ) -> NDArray[np.int64]:
        """Candidates ``(q, >= fetch)`` that the graph or the lists find, -1 where none."""
        wider = max(1.0, k / _TUNED_K) ** 0.5
        if self.kind == "HNSW":
            return self._walked(queries, fetch, wider, rows, tuning)
        tuning = tuning or _IVF_TUNING
        fetch = math.ceil(fetch * tuning.refine) if self.plan.storage == "disk" else fetch
        breadth = tuning.breadth * wider
        if self.maps is not None:
            queries = queries @ self.maps.queries.T  # (q, dim) @ (dim, width) -> (q, width)
        if rows.ids is None:
            index, settings = self._unfiltered(breadth, tuning.refine)
            return as_found(index.search(queries, fetch, params=settings))[1]
        settings = self._filtered(breadth, tuning.refine, rows)
        return as_found(self._compared.index.search(queries, fetch, params=settings))[1]

    def _walked(
        self, queries: Embeddings, fetch: int, wider: float, rows: Allowed, tuning: Tuning | None
    ) -> NDArray[np.int64]:
        """What a walk through the graph finds; broader, the fewer rows are allowed."""
        measured = HNSW_EF_SEARCH if tuning is None else tuning.breadth
        breadth = max(measured * wider, fetch) * self.ntotal / rows.count
        breadth = min(max(_HNSW_EF_LIMIT, fetch), math.ceil(breadth))
        parameters = faiss.SearchParametersHNSW(sel=rows.selector, efSearch=breadth)
        return as_found(self.index.search(queries, fetch, params=parameters))[1]

    def _filtered(self, breadth: float, refine: float, rows: Allowed) -> Any:
        """FAISS's parameters for a search of the lists among ``rows``.

        As many allowed rows are looked at as without a filter; lists without any are not looked into.
        """
        lists, held = self.plan.lists, rows.per_list(self)
        some = np.flatnonzero(held)
        breadth *= self.ntotal / lists / held[some].mean()
        inner: dict[str, Any] = {"sel": rows.selector, "nprobe": max(1, min(len(some), math.ceil(breadth)))}
        if len(some) < lists:
            inner["quantizer_params"] = faiss.SearchParameters(sel=rows.list_selector(some))
        return self._refined(inner, refine)

    def _unfiltered(self, breadth: float, refine: float) -> tuple[Any, Any]:
        """What to search all rows with, and FAISS's parameters, which take longer to make than some searches do."""
        nprobe = max(1, min(self.plan.lists, math.ceil(breadth)))
        if (nprobe, refine) not in self._parameters:
            inner: dict[str, Any] = {"nprobe": nprobe}
            few = self.plan.lists >= _CENTRES_CODED and nprobe <= self.plan.lists // 16
            view = (self._coded if few else None) or self._compared
            self._parameters[nprobe, refine] = view.index, self._refined(inner, refine)
        return self._parameters[nprobe, refine]

    @cached_property
    def _compared(self) -> View:
        """The lists for searches, found by comparing with every centre."""
        return compared(self.index)

    @cached_property
    def _coded(self) -> View | None:
        """The lists for searches, found by codes of the centres; ``None`` where there are no such codes."""
        return coded(self.index)

    def _refined(self, inner: dict[str, Any], refine: float) -> Any:
        parameters = faiss.SearchParametersIVF(**inner)
        if self.plan.storage == "disk":
            return parameters
        return faiss.IndexRefineSearchParameters(k_factor=refine, base_index_params=parameters)

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Stored rows ``(n, dim)``."""
        if self.flat is None:
            assert self.source is not None
            return self.source.get(ids)
        if self.ntotal == 0:
            return np.zeros((0, self.dim), dtype=np.float32)
        flat = faiss.rev_swig_ptr(self.flat.get_xb(), self.ntotal * self.dim)
        return np.asarray(flat).reshape(self.ntotal, self.dim)[ids]

    @cached_property
    def _list_of(self) -> NDArray[np.int32]:
        """Of every row, the list of the IVF index that it is in."""
        found = np.full(self.ntotal, -1, dtype=np.int32)
        inverted = ivf_of(self.index).invlists
        for number in range(self.plan.lists):
            size = inverted.list_size(number)
            if size:
                found[faiss.rev_swig_ptr(inverted.get_ids(number), size)] = number
        return found

    def selected(self, allowed: NDArray[np.int64] | None) -> Allowed:
        """``allowed``, made ready; that of an array which nobody writes into is kept."""
        if allowed is None or allowed.flags.writeable:
            return Allowed.of(allowed, self.ntotal)
        kept = self._selections.get(id(allowed))
        if kept is None:
            if len(self._selections) >= _KEPT_SELECTIONS:
                del self._selections[next(iter(self._selections))]
            kept = self._selections[id(allowed)] = (allowed, Allowed.of(allowed, self.ntotal))
        return kept[1]

    def differing(self, ids: NDArray[np.int64], rows: Embeddings) -> int:
        """How many of the rows ``ids`` it holds otherwise than as ``rows``."""
        if self.flat is not None:  # bits: NaN equals itself
            ours = self.rows(ids).view(np.uint32)
            return int((ours != np.ascontiguousarray(rows).view(np.uint32)).any(axis=1).sum())
        if not len(ids):
            return 0
        different = np.zeros(len(ids), dtype=bool)
        if self.maps is not None:
            rows = rows @ self.maps.vectors.T
        if self.plan.kind == "IVF":
            different |= self._in_other_lists(self._list_of[ids], np.ascontiguousarray(rows, dtype=np.float32))
        store = self.index.storage if self.plan.kind == "HNSW" else getattr(inner_of(self.index), "refine_index", None)
        if store is not None:
            kept = np.stack([faiss.downcast_index(store).reconstruct(int(one)) for one in ids])
            with np.errstate(all="ignore"):
                lengths = np.linalg.norm(kept, axis=1) * (np.linalg.norm(rows, axis=1) if self.maps is not None else 1)
                cosines = (kept * rows).sum(axis=1) / lengths
            different |= ~(cosines >= _LIKE)
        return int(different.sum())

    def _in_other_lists(self, held: NDArray[np.int32], rows: Embeddings) -> NDArray[np.bool_]:
        """Which rows ``(n, d)`` belong to other lists than ``held``; of two centres alike, either will do."""
        centres = ivf_of(self.index).quantizer
        best, lists = centres.search(rows, 1)
        other = lists[:, 0] != held
        for place in np.flatnonzero(other & (held >= 0)):
            centre = centres.reconstruct(int(held[place]))
            if self.maps is None:
                other[place] = not rows[place] @ centre >= best[place, 0] - _ALIKE
            else:
                other[place] = not ((rows[place] - centre) ** 2).sum() <= best[place, 0] + _ALIKE
        return np.asarray(other)


@dataclass(slots=True)
class Allowed:
    """The rows a search may return: all of them (``ids`` None) or these, ascending, once each."""

    ids: NDArray[np.int64] | None
    count: int
    ntotal: int
    _selector: Any = None
    _per_list: NDArray[np.int64] | None = None
    _lists: Any = None

    @classmethod
    def of(cls, allowed: NDArray[np.int64] | None, ntotal: int) -> Allowed:
        """From vector_ids in any order, repeated or out of range; ``None`` for all ``ntotal`` rows."""
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
                # a flat index reads just the rows of an array selector; a bitmap is looked up for every row
                self._selector = faiss.IDSelectorArray(self.ids)
            else:
                bitmap = np.zeros(self.ntotal, dtype=bool)
                bitmap[self.ids] = True
                self._selector = faiss.IDSelectorBitmap(np.packbits(bitmap, bitorder="little"))
        return self._selector

    def per_list(self, index: Candidates) -> NDArray[np.int64]:
        """How many of them are in each list of an IVF index."""
        if self._per_list is None:
            self._per_list = np.bincount(index._list_of[self.ids], minlength=index.plan.lists)
        return self._per_list

    def list_selector(self, lists: NDArray[np.int64]) -> Any:
        """The selector of the lists that hold any."""
        if self._lists is None:
            self._lists = faiss.IDSelectorArray(lists.astype(np.int64))
        return self._lists


def as_found(pair: Any) -> Found:
    return np.asarray(pair[0], dtype=np.float32), np.asarray(pair[1], dtype=np.int64)
