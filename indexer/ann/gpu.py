"""Candidates from GPUs: copies of the rows there, for the searches over all of them. Knows nothing of files."""

from __future__ import annotations

from typing import Any

import faiss as _faiss
import numpy as np
from numpy.typing import NDArray

from indexer.ann.brute_force import ArrayRows, RowSource
from indexer.ann.candidates import Allowed, Candidates, Found, as_found
from indexer.ann.file import Tuning
from indexer.errors import UsageError
from indexer.items import Embeddings

faiss: Any = _faiss

#: FAISS on a GPU gives no more candidates than this.
_GPU_MAX_K = 2_048


class GpuCandidates(Candidates):
    """An index with a copy of the rows on GPUs, float16 unless it is Flat, for the searches over all rows.

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

    def exact(self, queries: Embeddings, fetch: int, rows: Allowed) -> Found:
        gpu = self._copy() if self.kind == "Flat" and rows.ids is None and fetch <= _GPU_MAX_K else None
        return super().exact(queries, fetch, rows) if gpu is None else as_found(gpu.search(queries, fetch))

    def approximate(
        self, queries: Embeddings, fetch: int, k: int, rows: Allowed, tuning: Tuning | None
    ) -> NDArray[np.int64]:
        gpu = self._copy() if rows.ids is None and fetch <= _GPU_MAX_K else None
        if gpu is None:
            return super().approximate(queries, fetch, k, rows, tuning)
        return as_found(gpu.search(queries, fetch))[1]

    def _copy(self) -> Any:
        if self._gpu is None and self.device != "cpu":
            rows = self.source if self.flat is None else ArrayRows(self.rows(np.arange(self.ntotal)))
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
