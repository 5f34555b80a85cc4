"""The only file that imports faiss: choose, build, search, save and load an index over the vector store's rows.

Row ``i`` of an index is ``vector_id`` ``i``. Scores are inner products of unit vectors (cosines). FAISS finds the
candidates; their scores are then computed once more from the stored rows, in float64, because the order in
which a matrix product adds depends on where a row stands: so equal vectors have exactly equal scores, and
ties go to the lower vector_id. Knows nothing of the catalog: which rows are live is ``allowed``, and that is
applied inside the FAISS search.

``index.faiss`` is FAISS's own format with one JSON line after it (FAISS does not read that far) that says what
the file is: kind, ntotal, dim, generation, and the crc32 of all before it. One file, so one atomic replace.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from indexer.durable import replace_file
from indexer.errors import IndexDamaged, UsageError
from indexer.items import Embeddings

#: Its type stubs lack much of what it has.
faiss: Any = _faiss

Kind = Literal["Flat", "HNSW"]

#: Up to here a comparison with every vector takes a millisecond or two and is exact.
FLAT_LIMIT = 20_000
#: Fewer allowed rows than this, or a smaller share, are compared one by one: exact, and a graph walked
#: mostly over forbidden rows finds too few of the allowed ones.
EXACT_ROWS = 10_000
EXACT_SHARE = 0.05

#: HNSW: links a node, breadth while building, breadth while searching (measured in tests/test_faiss_index.py).
HNSW_LINKS = 32
HNSW_EF_CONSTRUCTION = 100
HNSW_EF_SEARCH = 512
_HNSW_EF_LIMIT = 4_096

#: Candidates fetched beyond k, to see whether the score falls after the k-th.
_MARGIN = 16
#: FAISS on a GPU gives no more candidates than this.
_GPU_MAX_K = 2_048
_TRAILER_MAX_BYTES = 1_000


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
        """``Flat`` (exact) or ``HNSW`` (approximate, exact for few allowed rows)."""

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda:N``."""

    def add(self, vectors: Embeddings) -> None:
        """Append rows ``ntotal .. ntotal + n - 1``."""

    def search(
        self, queries: Embeddings, k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The ``k`` best rows of every query, among ``allowed`` vector_ids (``None``: all rows).

        ``queries`` is float32 ``(q, dim)``. Returns scores float32 ``(q, k)``, falling, and vector_ids int64
        ``(q, k)``; of equal scores the lower id first, also where k cuts a run of equal ones. Where there are
        fewer than k rows the rest is ``-inf`` and ``-1``.
        """

    def vectors(self, ids: NDArray[np.int64]) -> Embeddings:
        """The rows as the index holds them."""

    def save(self, path: Path, *, generation: int = 0) -> None:
        """Replace ``path`` atomically; ``generation`` is that of the vector store the rows are from."""


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """What the last line of an index file says of it."""

    kind: Kind
    ntotal: int
    dim: int
    generation: int
    crc32: int


def choose_kind(n: int) -> Kind:
    """Which index a collection of ``n`` vectors gets."""
    return "Flat" if n <= FLAT_LIMIT else "HNSW"


def build_index(dim: int, n: int, device: str = "auto", *, kind: Kind | None = None) -> VectorIndex:
    """An empty index, right for ``n`` vectors (or of ``kind``), on ``device`` (auto, cpu, cuda, cuda:N).

    Raises ``UsageError`` when a GPU is asked for that FAISS does not have.
    """
    index: Any
    if (kind or choose_kind(n)) == "Flat":
        index = faiss.IndexFlatIP(dim)
    else:
        index = faiss.IndexHNSWFlat(dim, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = HNSW_EF_CONSTRUCTION
    return _on_device(index, device)


def load_index(path: Path, *, device: str = "auto") -> tuple[VectorIndex, IndexFacts]:
    """The index in ``path``, checked against its crc32. Raises ``IndexDamaged`` saying what is wrong with it."""
    facts = read_facts(path)
    try:
        index = faiss.read_index(os.fspath(path))
    except (RuntimeError, OSError) as error:
        raise _damaged(path, f"FAISS cannot read it ({_first_line(error)})") from error
    found = "HNSW" if isinstance(index, faiss.IndexHNSWFlat) else "Flat"
    if (found, index.ntotal, index.d) != (facts.kind, facts.ntotal, facts.dim):
        raise _damaged(path, "it is not the index that its last line says it is")
    return _on_device(index, device), facts


def read_facts(path: Path, *, checked: bool = True) -> IndexFacts:
    """The last line of the index file; ``checked``: after comparing the crc32 of the rest. Raises ``IndexDamaged``."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TRAILER_MAX_BYTES))
            line = file.read().rpartition(b"\n")[2]
            facts = IndexFacts(**json.loads(line))
            if checked and _crc32(file, size - len(line) - 1) != facts.crc32:
                raise _damaged(path, "its bytes are not those that were written (crc32)")
    except FileNotFoundError as error:
        raise _damaged(path, "is missing") from error
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({error.strerror})") from error
    except (ValueError, TypeError) as error:  # no JSON, other keys: cut short, or not our file
        raise _damaged(path, "it is cut short or no index of ours") from error
    return facts


class CpuIndex:
    """A Flat or HNSW index in memory."""

    def __init__(self, index: Any) -> None:
        self._index = index
        self.device = "cpu"
        # HNSW keeps its rows in a flat index, which serves exact searches
        self._flat = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index

    @property
    def ntotal(self) -> int:
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        return int(self._index.d)

    @property
    def kind(self) -> Kind:
        return "Flat" if self._flat is self._index else "HNSW"

    def add(self, vectors: Embeddings) -> None:
        self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))

    def vectors(self, ids: NDArray[np.int64]) -> Embeddings:
        return np.asarray(self._rows()[ids], dtype=np.float32)

    def save(self, path: Path, *, generation: int = 0) -> None:
        def write(file: BinaryIO) -> None:
            crc = 0

            def take(data: bytes) -> int:
                nonlocal crc
                crc = zlib.crc32(data, crc)
                return file.write(data)

            faiss.write_index(self._index, faiss.PyCallbackIOWriter(take, 1 << 20))
            facts = IndexFacts(self.kind, self.ntotal, self.dim, generation, crc)
            file.write(b"\n" + json.dumps(asdict(facts)).encode())

        replace_file(path, write)

    def search(
        self, queries: Embeddings, k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise ValueError(f"queries of shape (q, {self.dim}) expected, got {queries.shape}")
        if not np.isfinite(queries).all():
            raise ValueError("queries hold numbers that are not finite")
        scores = np.full((len(queries), max(k, 0)), -np.inf, dtype=np.float32)
        ids = np.full(scores.shape, -1, dtype=np.int64)
        rows = _Allowed.of(allowed, self.ntotal)
        if scores.size == 0 or rows.count == 0:
            return scores, ids
        graph = self.kind == "HNSW" and rows.count >= EXACT_ROWS and rows.count >= EXACT_SHARE * self.ntotal
        todo = np.arange(len(queries))
        fetch = min(rows.count, k + _MARGIN)
        while len(todo):
            raw, candidates = self._candidates(queries[todo], fetch, rows, graph=graph)
            settled = np.zeros(len(todo), dtype=bool)
            for position, query in enumerate(todo):
                found = candidates[position] >= 0
                best = self._ranked(queries[query], candidates[position][found])
                n = min(k, len(best[0]))
                scores[query, :n], ids[query, :n] = best[0][:n], best[1][:n]
                scores[query, n:], ids[query, n:] = -np.inf, -1
                settled[position] = self._falls(best[0], raw[position][found], k, rows.count, queries[query])
            if graph:
                graph = False  # a run of equal scores, or too few found: those queries are answered exactly
            elif fetch >= rows.count:
                break
            else:
                fetch = min(rows.count, fetch * 4)
            todo = todo[~settled]
        return scores, ids

    def _candidates(
        self, queries: Embeddings, fetch: int, rows: _Allowed, *, graph: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """FAISS's own top ``fetch`` among ``rows``: scores with FAISS's rounding, and ids, -1 where none."""
        selector = rows.selector()
        if graph:
            breadth = int(min(_HNSW_EF_LIMIT, max(HNSW_EF_SEARCH, 2 * fetch) * self.ntotal / rows.count))
            parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=breadth)
            return self._found(self._index.search(queries, fetch, params=parameters))
        parameters = faiss.SearchParameters(sel=selector) if selector is not None else None
        return self._found(self._flat.search(queries, fetch, params=parameters))

    @staticmethod
    def _found(pair: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return np.asarray(pair[0], dtype=np.float32), np.asarray(pair[1], dtype=np.int64)

    def _ranked(
        self, query: NDArray[np.float32], candidates: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Candidates with their scores from the stored rows, best first, the lower id first among equals."""
        rows = self._rows()[candidates].astype(np.float64)
        scores = (rows * query.astype(np.float64)).sum(axis=1).astype(np.float32)  # row by row, always alike
        order = np.lexsort((candidates, -scores))
        return scores[order], candidates[order]

    def _falls(
        self,
        ranked: NDArray[np.float32],
        raw: NDArray[np.float32],
        k: int,
        count: int,
        query: NDArray[np.float32],
    ) -> bool:
        """Whether nothing that was not fetched can belong into the top k."""
        if len(ranked) >= count:
            return True
        if len(ranked) < k:
            return False
        rounding = 2.0**-22 * max(self.dim, 16) ** 0.5 * float(np.linalg.norm(query))
        return bool(ranked[k - 1] > raw.min() + rounding)

    def _rows(self) -> NDArray[np.float32]:
        """The stored rows ``(ntotal, dim)``, not copied; good until the next ``add``."""
        if self.ntotal == 0:
            return np.zeros((0, self.dim), dtype=np.float32)
        flat = faiss.rev_swig_ptr(self._flat.get_xb(), self.ntotal * self.dim)
        return np.asarray(flat).reshape(self.ntotal, self.dim)


class GpuIndex(CpuIndex):
    """A CPU index with an exact copy on a GPU, which answers the searches over all rows.

    FAISS's GPU indexes take no selectors, so searches over some of the rows run on the CPU index.
    """

    def __init__(self, index: Any, ordinal: int) -> None:
        super().__init__(index)
        self.device = f"cuda:{ordinal}"
        self._ordinal = ordinal
        self._resources = faiss.StandardGpuResources()
        self._gpu: Any = None

    def add(self, vectors: Embeddings) -> None:
        super().add(vectors)
        self._gpu = None

    def _candidates(
        self, queries: Embeddings, fetch: int, rows: _Allowed, *, graph: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if self._gpu is None and self.device != "cpu":
            try:
                self._gpu = faiss.index_cpu_to_gpu(self._resources, self._ordinal, self._flat)
            except RuntimeError:  # the rows do not fit beside the models: slower, with the same hits
                self.device = "cpu"
        if self._gpu is None or rows.ids is not None or fetch > _GPU_MAX_K:
            return super()._candidates(queries, fetch, rows, graph=graph)
        return self._found(self._gpu.search(queries, fetch))


@dataclass(frozen=True, slots=True)
class _Allowed:
    """The rows a search may return: all of them (``ids`` None) or these, ascending, once each."""

    ids: NDArray[np.int64] | None
    count: int
    ntotal: int

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

    def selector(self) -> Any:
        """The FAISS selector, which keeps its own array alive; ``None`` for all rows."""
        if self.ids is None:
            return None
        if self.count < EXACT_ROWS:
            # a flat index reads just the rows of an array selector; a bitmap is asked about every row
            return faiss.IDSelectorArray(self.ids)
        bitmap = np.zeros(self.ntotal, dtype=bool)
        bitmap[self.ids] = True
        return faiss.IDSelectorBitmap(np.packbits(bitmap, bitorder="little"))


def _on_device(index: Any, device: str) -> VectorIndex:
    ordinal = _gpu_ordinal(device)
    return CpuIndex(index) if ordinal is None else GpuIndex(index, ordinal)


def _gpu_ordinal(device: str) -> int | None:
    """Number of the GPU for ``device``, ``None`` for the CPU."""
    if device == "cpu":
        return None
    name, _, number = device.partition(":")
    if device != "auto" and (name != "cuda" or (number and not number.isdecimal())):
        raise UsageError(f"--device {device}: is no device; use auto, cpu, cuda or cuda:N")
    gpus = int(faiss.get_num_gpus()) if hasattr(faiss, "index_cpu_to_gpu") else 0
    ordinal = int(number) if number else 0
    if ordinal < gpus:
        return ordinal
    if device == "auto":
        return None
    why = "this FAISS was built without GPUs" if gpus == 0 else f"FAISS sees {gpus} of them, counted from 0"
    raise UsageError(
        f"--device {device}: no such GPU for the search ({why}); use --device cpu, or pip install 'trimodal[gpu]'"
    )


def _crc32(file: BinaryIO, n_bytes: int) -> int:
    file.seek(0)
    crc = 0
    read: Callable[[int], bytes] = file.read
    while n_bytes > 0 and (block := read(min(n_bytes, 1 << 20))):
        crc = zlib.crc32(block, crc)
        n_bytes -= len(block)
    return crc


def _damaged(path: Path, what: str) -> IndexDamaged:
    return IndexDamaged(f"{path}: {what}; write it anew from the vectors: trimodal verify --repair")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
