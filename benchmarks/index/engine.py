"""One engine, in a process of its own: builds over ``DIR/vectors.npy``, is searched at many settings, prints JSON.

    python benchmarks/index/engine.py NAME DIR

The peers run in environments of their own (``benchmarks/index/peers.txt``, ``peers-numpy2.txt``), so nothing of ours is
imported for them. Times are CPU seconds of all threads, of which there is one where an engine lets us say so: a busy
machine changes them less than wall time. Memory is what the process holds itself (RssAnon), above what it held before:
mapped files, which the system may drop, are not counted, for any engine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

K = 10
TARGETS = (0.90, 0.95, 0.99)
THREADS = 1
_BREADTHS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_PROBES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

Rows = NDArray[np.float32]
Search = Callable[[Rows], NDArray[Any]]
#: A setting and the search with it; what the engine did to be ready.
Settings = Iterator[tuple[str, Search]]


class LeftOut(Exception):
    """Why an engine is not measured on this machine."""


def trimodal(folder: Path, rows: Rows, note: dict[str, Any]) -> Settings:
    """The index that a collection of so many vectors gets, over its vector store, tuned to each target."""
    yield from _trimodal(folder, rows, note, np.load(folder / "learn.npy"))


def trimodal_unaware(folder: Path, rows: Rows, note: dict[str, Any]) -> Settings:
    """The same that learns from no queries, as of a collection without captions or texts."""
    yield from _trimodal(folder, rows, note, None)


def _trimodal(folder: Path, rows: Rows, note: dict[str, Any], learn: Rows | None) -> Settings:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    import faiss

    from indexer.ann.index import build_index
    from indexer.ann.plan import plan_index
    from indexer.ann.tuning import TuningQueries, broadened, own_vectors, tuned
    from indexer.collection.row_store import VectorStore, rows_per_shard

    faiss.omp_set_num_threads(THREADS)
    count, dim = rows.shape
    place = Path(tempfile.mkdtemp(dir=folder))
    store = VectorStore(place, dim=dim, generation=1, count=0, shard_rows=rows_per_shard(dim), checked=True)
    for start in range(0, count, 16_384):
        store.append(rows[start : start + 16_384], at=start)
    started = time.process_time()
    index = build_index(dim, count, "cpu", plan=plan_index(count, dim), rows=store, queries=learn)
    for _, chunk in store.chunks():
        index.add(chunk)
    plan = index.plan
    note.update(
        build_s=time.process_time() - started,
        what=f"{plan.kind}{plan.lists}, {plan.width} dimensions, {plan.storage}",
        planned_bytes=plan.memory_bytes(count, dim),
        tune_s=[],
    )
    tuning_queries = TuningQueries(np.load(folder / "tune.npy"), "captions")
    for target in TARGETS:
        started = time.process_time()
        tuned(index, store, tuning_queries, target)
        found = broadened(index, store, own_vectors(store, n=100), target)
        note["tune_s"].append(time.process_time() - started)
        yield f"target {target}: {found.breadth} lists, {found.refine:g}", lambda q: index.search(q, K)[1]


def faiss_flat(folder: Path, rows: Rows, note: dict[str, Any]) -> Settings:
    """Every vector, exactly."""
    import faiss

    started = time.process_time()
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    note.update(build_s=time.process_time() - started, what=f"faiss {faiss.__version__} IndexFlatIP")
    yield "all", lambda q: index.search(q, K)[1]


def autofaiss(folder: Path, rows: Rows, note: dict[str, Any]) -> Settings:
    """The index that autofaiss chooses when it may use as much memory as there is; its own parameters swept."""
    import autofaiss as package
    import faiss

    started = time.process_time()
    index, _ = package.build_index(
        rows,
        save_on_disk=False,
        metric_type="ip",
        max_index_memory_usage="8GB",
        current_memory_available="16GB",
        nb_cores=THREADS,
        verbose=40,
    )
    note.update(build_s=time.process_time() - started, what=f"autofaiss chose {_name_of(faiss, index)}")
    space = faiss.ParameterSpace()
    inner = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
    graph = isinstance(faiss.downcast_index(inner), faiss.IndexHNSW)
    for value in _BREADTHS if graph else _PROBES:
        name = "efSearch" if graph else "nprobe"
        space.set_index_parameter(index, name, value)
        yield f"{name}={value}", lambda q: index.search(q, K)[1]


def usearch(folder: Path, rows: Rows, note: dict[str, Any]) -> Settings:
    """HNSW of float16, connectivity 16, expansion 128 while adding: its defaults."""
    from usearch import __version__
    from usearch.index import Index

    index = Index(ndim=rows.shape[1], metric="ip", dtype="f16")
    started = time.process_time()
    index.add(np.arange(len(rows)), rows, threads=THREADS)
    note.update(build_s=time.process_time() - started, what=f"usearch {__version__} f16, defaults")
    for breadth in _BREADTHS:
        index.expansion_search = breadth
        yield f"expansion {breadth}", lambda q: np.asarray(index.search(q, K, threads=THREADS).keys).reshape(len(q), K)


def hnswlib(folder: Path, rows: Rows, note: dict[str, Any]) -> Settings:
    """HNSW of float32, M 16, ef_construction 200: the values of its README."""
    import hnswlib as package

    index = package.Index("ip", rows.shape[1])
    index.init_index(len(rows), M=16, ef_construction=200)
    index.set_num_threads(THREADS)
    started = time.process_time()
    index.add_items(rows)
    note.update(build_s=time.process_time() - started, what="hnswlib M16, ef_construction 200")
    for breadth in _BREADTHS:
        index.set_ef(breadth)
        yield f"ef {breadth}", lambda q: index.knn_query(q, K)[0]


def scann(folder: Path, rows: Rows, note: dict[str, Any]) -> Settings:
    """ScaNN as its documents set it: 2,000 leaves, anisotropic codes of 2 dimensions, float32 to rerank."""
    yield from _scann(rows, note)


def scann_soar(folder: Path, rows: Rows, note: dict[str, Any]) -> Settings:
    """The same with SOAR: each vector in a second leaf, too."""
    yield from _scann(rows, note, soar_lambda=1.5)


def _scann(rows: Rows, note: dict[str, Any], **tree: float) -> Settings:
    from importlib.metadata import version

    from scann import scann_ops_pybind

    leaves = round(2 * len(rows) ** 0.5)
    started = time.process_time()
    builder = scann_ops_pybind.builder(rows, K, "dot_product")
    builder.tree(leaves, num_leaves_to_search=100, training_sample_size=min(len(rows), 250_000), **tree)
    builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100)
    builder.set_n_training_threads(THREADS)
    index = builder.build()
    what = f"scann {version('scann')} {leaves} leaves" + (", SOAR" if tree else "")
    note.update(build_s=time.process_time() - started, what=what)
    for probed in (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256):
        for reordered in (20, 30, 45, 70, 100, 150, 250):
            sizes = {"pre_reorder_num_neighbors": reordered, "leaves_to_search": probed}

            def search(q: Rows, sizes: dict[str, int] = sizes) -> NDArray[Any]:
                if len(q) == 1:
                    return np.asarray(index.search(q[0], K, **sizes)[0])[None]
                return np.asarray(index.search_batched(q, K, **sizes)[0])

            yield f"{probed} leaves, {reordered} reordered", search


def svs(folder: Path, rows: Rows, note: dict[str, Any]) -> Settings:
    """SVS's Vamana graph of LVQ4x8 codes, which its wheels have for Intel processors alone."""
    if "GenuineIntel" not in Path("/proc/cpuinfo").read_text():
        raise LeftOut("its LVQ codes are for Intel processors, and this is none")
    import svs as package

    started = time.process_time()
    index = package.Vamana.build(
        package.VamanaBuildParameters(graph_max_degree=64, window_size=128, alpha=0.95),
        package.LVQLoader(package.VectorDataLoader.from_array(rows), primary=4, residual=8),
        package.DistanceType.MIP,
        num_threads=THREADS,
    )
    note.update(build_s=time.process_time() - started, what=f"svs {package.__version__} Vamana, LVQ4x8")
    for breadth in _BREADTHS:
        index.search_window_size = breadth
        yield f"window {breadth}", lambda q: np.asarray(index.search(q, K)[0])


def lancedb(folder: Path, rows: Rows, note: dict[str, Any]) -> Settings:
    """IVF_PQ on disk with its own number of partitions and sub-vectors; probes and the refine factor swept."""
    import lancedb as package
    import pyarrow as pa

    place = tempfile.mkdtemp(dir=folder)
    table = None
    for start in range(0, len(rows), 100_000):
        part = rows[start : start + 100_000]
        data = pa.table(
            {
                "id": pa.array(np.arange(start, start + len(part))),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), rows.shape[1]),
            }
        )
        if table is None:
            table = package.connect(place).create_table("t", data)
        else:
            table.add(data)
    assert table is not None
    started = time.process_time()
    table.create_index(metric="dot", vector_column_name="vector")
    note.update(build_s=time.process_time() - started, what=f"lancedb {package.__version__} IVF_PQ, defaults")
    for probes, refine in ((20, 5), (20, 50), (100, 50), (200, 100)):

        def one(q: Rows, probes: int = probes, refine: int = refine) -> NDArray[Any]:
            found = [
                table.search(v)
                .metric("dot")
                .nprobes(probes)
                .refine_factor(refine)
                .select(["id"])
                .limit(K)
                .to_arrow()["id"]
                .to_numpy()
                for v in q
            ]
            return np.stack([np.pad(ids[:K], (0, K - len(ids[:K])), constant_values=-1) for ids in found])

        yield f"probes {probes}, refine {refine}", one


def _name_of(faiss: Any, index: Any) -> str:
    if isinstance(index, faiss.IndexPreTransform):
        return f"{type(faiss.downcast_VectorTransform(index.chain.at(0))).__name__} + " + _name_of(faiss, index.index)
    inner = faiss.downcast_index(index)
    return f"{type(inner).__name__}" + (f" ({inner.nlist} lists)" if hasattr(inner, "nlist") else "")


ENGINES: dict[str, Callable[[Path, Rows, dict[str, Any]], Settings]] = {
    one.__name__: one
    for one in (trimodal, trimodal_unaware, faiss_flat, autofaiss, usearch, hnswlib, lancedb, scann, scann_soar, svs)
}


#: They have their own vectors on disk, and settings that do not rise in recall.
_ON_DISK = ("trimodal", "trimodal_unaware", "lancedb")


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Build, then recall@10 and queries a second (alone, and 64 at once) of every setting until 0.995 is found."""
    mapped = np.load(folder / "vectors.npy", mmap_mode="r")
    queries, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    # what a caller holds anyway; trimodal and lancedb have their own on disk
    rows = mapped if name in _ON_DISK else np.array(mapped)
    note: dict[str, Any] = {"engine": name, "points": []}
    watch = Memory()
    settings = ENGINES[name](folder, rows, note)
    try:
        first = next(settings)
    except LeftOut as why:
        return note | {"left_out": str(why)}
    for setting, search in itertools.chain([first], settings):
        if "held_mb" not in note:
            note["peak_mb"] = watch.peak_mb()
            note["held_mb"] = anonymous_mb() - watch.before_mb
        budget = 300 if name in ("lancedb", "faiss_flat") else len(queries)
        found = np.concatenate([search(queries[at : at + 64]) for at in range(0, budget, 64)])[:budget]
        recall = np.mean([len({*a.tolist()} & {*b.tolist()}) / K for a, b in zip(found, truth, strict=False)])
        some = 72 if name in ("lancedb", "faiss_flat") else 200
        point = {
            "setting": setting,
            "recall": float(recall),
            "qps_1": _rate(partial(_search_all, search, queries[:some], 1), some),
            "qps_64": _rate(partial(_search_all, search, queries[: some + 56], 64), some + 56),
        }
        note["points"].append(point)
        print(
            f"{name}: {setting}: recall {recall:.4f}, {point['qps_1']:.0f} / {point['qps_64']:.0f} a second",
            file=sys.stderr,
            flush=True,
        )
        if recall > 0.995 and name not in _ON_DISK:
            break
    return note


def _search_all(search: Search, queries: Rows, at_once: int) -> None:
    for start in range(0, len(queries), at_once):
        search(queries[start : start + at_once])


def _rate(run: Callable[[], Any], n: int) -> float:
    """Queries a CPU second: the best of five rounds, the one that other processes disturbed least."""
    seconds = []
    for _ in range(5):
        started = time.process_time()
        run()
        seconds.append(time.process_time() - started)
    return n / min(seconds)


class Memory:
    """Looks at the process's own memory ten times a second."""

    def __init__(self) -> None:
        self.before_mb = anonymous_mb()
        self._most = self.before_mb
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def peak_mb(self) -> float:
        self._done.set()
        return max(self._most, anonymous_mb()) - self.before_mb

    def _look(self) -> None:
        while not self._done.wait(0.1):
            self._most = max(self._most, anonymous_mb())


def anonymous_mb() -> float:
    """Of this process, of its own: RssAnon."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("name", choices=ENGINES)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.name, arguments.folder)))
