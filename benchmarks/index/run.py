"""The index against its peers at a million vectors, by size, and with filters: ``docs/bench/index.md`` and plots.

    python benchmarks/index/run.py DIR --peers PYTHON --peers-numpy2 PYTHON [--part engines|scale|filters]

``DIR`` takes about 12 GB; each ``PYTHON`` is that of an environment with ``benchmarks/index/peers.txt`` or
``peers-numpy2.txt``. Each engine runs in a process of its own, one after the other (``--engine NAME``: only that one);
what was measured is kept in ``DIR`` and not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
HERE = Path(__file__).parent

PEERS = ("autofaiss", "usearch", "hnswlib", "lancedb", "scann", "svs")
OURS = ("trimodal", "trimodal_unaware")
ENGINES = (*OURS, "faiss_flat", *PEERS)
TARGETS = (0.90, 0.95, 0.99)
#: Peers that need numpy 2, where the others need 1.
NUMPY2 = ("scann", "svs")
#: Of lancedb and autofaiss only what is FAISS inside is left out of "the best peer that is not FAISS".
NOT_FAISS = ("usearch", "hnswlib", "lancedb", "scann", "svs")
SIZES = (10_000, 100_000, 1_000_000)
SHARES = (0.001, 0.01, 0.1, 0.5, 0.99)


def main() -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", type=Path, default=Path(sys.executable))
    parser.add_argument("--peers-numpy2", type=Path, default=Path(sys.executable))
    parser.add_argument("--part", action="append", choices=("engines", "scale", "filters"))
    parser.add_argument("--engine", action="append", choices=ENGINES, help="only these, beside those measured before")
    parser.add_argument("-n", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench")
    options = parser.parse_args()
    parts = options.part or ["engines", "scale", "filters"]
    if not (options.folder / "vectors.npy").is_file():
        from vectors import make

        make(options.folder, options.n)
    if not (options.folder / "truth.npy").is_file():
        from indexer.ann.brute_force import ArrayRows, exact_top

        mapped = np.load(options.folder / "vectors.npy", mmap_mode="r")
        queries = np.load(options.folder / "queries.npy")
        np.save(options.folder / "truth.npy", exact_top(queries, ArrayRows(mapped), 10)[1])
    file = options.out / "index.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    if "engines" in parts:
        pythons = (options.peers, options.peers_numpy2)
        wanted = [
            name for name in ENGINES if name in (options.engine or ENGINES) or _kept(name, options.folder).is_file()
        ]
        found["engines"] = [_engine(name, options.folder, pythons) for name in wanted]
    if "scale" in parts:
        found["scale"] = [_scale(n, options.folder) for n in SIZES if n <= options.n]
    if "filters" in parts:
        found["filters"] = _filters(options.folder, max(n for n in SIZES if n <= options.n))
    found["where"] = _where(options.folder)
    file.write_text(json.dumps(found, indent=1) + "\n")
    (options.out / "index.md").write_text(page(found))
    plots(found, options.out)
    print(page(found))


def _engine(name: str, folder: Path, pythons: tuple[Path, Path]) -> dict[str, Any]:
    kept = _kept(name, folder)
    if not kept.is_file():
        python = sys.executable if name in OURS else str(pythons[name in NUMPY2])
        done = subprocess.run(
            [python, str(HERE / "engine.py"), name, str(folder)],
            stdout=subprocess.PIPE,
            check=False,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        if done.returncode:
            return {"engine": name, "failed": done.returncode, "points": []}
        kept.write_bytes(done.stdout)
    measured: dict[str, Any] = json.loads(kept.read_text())
    return measured


def _kept(name: str, folder: Path) -> Path:
    return folder / f"{name}.json"


def _entries(mapped: Any, start: int, stop: int) -> list[Any]:
    from indexer.collection.collection import Entry
    from indexer.items import Item, Modality, Segment

    made = []
    for n in range(start, stop):
        item = Item(
            key=f"/media/{n:07d}.jpg",
            path=Path(f"/media/{n:07d}.jpg"),
            modality=Modality.IMAGE,
            size_bytes=1,
            mtime_ns=n,
            metadata={"share": (n * 7919 % 1_000_003) / 1_000_003},
        )
        made.append(Entry(item, f"{n:032x}", {}, (Segment(0),), mapped[n : n + 1]))
    return made


def _scale(n: int, folder: Path) -> dict[str, Any]:
    """A collection of ``n``: time and peak memory of committing, of making the index, of opening and searching."""
    from engine import Memory, anonymous_mb

    from indexer.ann.tuning import TuningQueries
    from indexer.collection.collection import Collection
    from indexer.encoders.identity import EncoderIdentity

    kept = folder / f"scale-{n}.json"
    if kept.is_file():
        before: dict[str, Any] = json.loads(kept.read_text())
        return before
    place = folder / f"collection-{n}"
    shutil.rmtree(place, ignore_errors=True)
    mapped = np.load(folder / "vectors.npy", mmap_mode="r")
    watch = Memory()
    started = time.perf_counter()
    with Collection.create(place, EncoderIdentity("bench", "bench", mapped.shape[1])) as made:
        for start in range(0, n, 1_000):
            made.commit(_entries(mapped, start, min(n, start + 1_000)))
        committed = time.perf_counter()
        tuning_queries = TuningQueries(np.load(folder / "tune.npy"), "captions", learn=np.load(folder / "learn.npy"))
        made.save_index(tuning_queries=lambda: tuning_queries)
        saved = time.perf_counter()
        held = watch.peak_mb()
    queries = np.load(folder / "queries.npy")[:200]
    before_mb, started_open = anonymous_mb(), time.perf_counter()
    with Collection.open(place) as opened:
        index, allowed = opened.index("cpu"), opened.catalog.vector_ids()
        index.search(queries[:1], 10, allowed)
        first = time.perf_counter() - started_open
        searched = time.perf_counter()
        for query in queries:
            index.search(query[None], 10, allowed)
        each = (time.perf_counter() - searched) / len(queries)
        facts = opened.stats()
        measured = {
            "n": n,
            "kind": index.kind,
            "commit_us": 1e6 * (committed - started) / n,
            "index_us": 1e6 * (saved - committed) / n,
            "peak_mb": held,
            "open_s": first,
            "search_ms": 1e3 * each,
            "open_mb": anonymous_mb() - before_mb,
            "disk_bytes": facts["bytes"] / n,
            "recall": None if index.tuning is None else index.tuning.recall,
        }
    kept.write_text(json.dumps(measured))
    return measured


def _filters(folder: Path, n: int) -> list[dict[str, Any]]:
    """Searches of the collection of ``n`` among the rows that ``--where share < x`` leaves."""
    from indexer.ann.brute_force import exact_top
    from indexer.ann.candidates import EXACT_ROWS, EXACT_SHARE
    from indexer.collection.collection import Collection

    queries = np.load(folder / "queries.npy")[:200]
    rows = []
    with Collection.open(folder / f"collection-{n}") as opened:
        index = opened.index("cpu")
        for share in (None, *SHARES):
            started = time.perf_counter()
            where = None if share is None else opened.catalog.compile_filter(f"share < {share}")
            allowed = opened.catalog.vector_ids(None, where)
            catalog_s = time.perf_counter() - started
            index.search(queries[:1], 10, allowed)
            seconds = []
            for query in queries:
                started = time.perf_counter()
                _, ids = index.search(query[None], 10, allowed)
                seconds.append(time.perf_counter() - started)
            _, ids = index.search(queries, 10, allowed)
            _, truth = exact_top(queries, opened.vectors, 10, allowed)
            recall = np.mean([len({*a} & {*b}) / len(b) for a, b in zip(ids.tolist(), truth.tolist(), strict=True)])
            exact = len(allowed) < max(EXACT_ROWS, EXACT_SHARE[index.kind] * index.ntotal)
            rows.append(
                {
                    "share": share,
                    "rows": len(allowed),
                    "exact": exact,
                    "recall": float(recall),
                    "ms": 1e3 * float(np.median(seconds)),
                    "catalog_ms": 1e3 * catalog_s,
                }
            )
    return rows


def _where(folder: Path) -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    shape = np.load(folder / "vectors.npy", mmap_mode="r").shape
    return {
        "commit": commit.stdout.strip(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "cpu": model[0].partition(":")[2].strip() if model else platform.machine(),
        "vectors": list(shape),
        "pictures": json.loads((folder / "pictures.json").read_text()),
    }


def at_target(one: dict[str, Any], target: float) -> dict[str, Any] | None:
    """The fastest setting of an engine that finds the target; ``None`` where none does."""
    enough = [point for point in one["points"] if point["recall"] >= target]
    return max(enough, key=lambda point: point["qps_1"]) if enough else None


def page(found: dict[str, Any]) -> str:
    """``index.md``."""
    where = found["where"]
    n, dim = where["vectors"]
    lines = [
        "# The index",
        "",
        f"{n:,} vectors of {dim} dimensions made from the starter's of {where.get('pictures', 6_000):,} pictures (see "
        f"benchmarks/index/vectors.py); queries are 1,000 real captions. {where['cpu']}, {where['cores']} cores; "
        f"commit {where['commit'][:10]}.",
        "",
    ]
    if "engines" in found:
        lines += [
            "## Against its peers",
            "",
            "CPU seconds, queries a CPU second, one thread. `trimodal_unaware` learns from no queries.",
            "",
            *_engine_table(found["engines"]),
            "",
            "![recall and speed](index.svg)",
            "",
        ]
    if "scale" in found:
        lines += [
            "## By size",
            "",
            "| items | index | commit µs an item | index µs an item | peak MB | bytes on disk an item | open and first "
            "search s | search ms | recall |",
            "|---|---|---|---|---|---|---|---|---|",
            *(
                f"| {one['n']:,} | {one['kind']} | {one['commit_us']:.0f} | {one['index_us']:.0f} | "
                f"{one['peak_mb']:.0f} | {one['disk_bytes']:,.0f} | {one['open_s']:.2f} | {one['search_ms']:.2f} | "
                f"{one['recall'] or 1:.3f} |"
                for one in found["scale"]
            ),
            "",
            "![by size](index-size.svg)",
            "",
        ]
    if "filters" in found:
        lines += [
            "## With a filter",
            "",
            "| share that passes | rows | exact is promised | recall@10 | ms a search | ms for the catalog, once |",
            "|---|---|---|---|---|---|",
            *(
                f"| {'no filter' if one['share'] is None else format(one['share'], '.1%')} | {one['rows']:,} | "
                f"{'yes' if one['exact'] else 'no'} | {one['recall']:.4f} | {one['ms']:.2f} | {one['catalog_ms']:.0f} |"
                for one in found["filters"]
            ),
            "",
        ]
    return "\n".join(lines)


def _engine_table(engines: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| engine | build s | tuning s | memory MB (peak) | "
        + " | ".join(f"{target:.2f}: recall, queries/s alone / 64 at once" for target in TARGETS)
        + " |",
        "|---|---|---|---|" + "---|" * len(TARGETS),
    ]
    for one in engines:
        if not one["points"]:
            lines.append(f"| {one['engine']} | {one.get('left_out', 'failed')} |" + " |" * 5)
            continue
        cells = []
        for target in TARGETS:
            point = at_target(one, target)
            best = max(one["points"], key=lambda each: each["recall"])
            cells.append(
                f"{point['recall']:.3f}, {point['qps_1']:,.0f} / {point['qps_64']:,.0f}"
                if point
                else f"not reached ({best['recall']:.3f} at {best['qps_1']:,.0f} / {best['qps_64']:,.0f})"
            )
        tuning = f"{sum(one['tune_s']):.0f} (all three)" if "tune_s" in one else "–"
        lines.append(
            f"| {one['engine']}: {one['what']} | {one['build_s']:.0f} | {tuning} | {one['held_mb']:,.0f} "
            f"({one['peak_mb']:,.0f}) | " + " | ".join(cells) + " |"
        )
    ours = next((one for one in engines if one["engine"] == "trimodal" and one["points"]), None)
    rivals = [one for one in engines if one["engine"] in NOT_FAISS and one["points"]]
    if ours is None or not rivals:
        return lines
    lines += [
        "",
        "| target | best peer without FAISS | queries/s alone | 64 at once | its build time | its memory |",
        "|---|---|---|---|---|---|",
    ]
    for target in TARGETS:
        mine = at_target(ours, target)
        there = [(at_target(one, target), one) for one in rivals]
        held = [(point, one) for point, one in there if point is not None]
        if mine is None or not held:
            lines.append(f"| {target:.2f} | {'we do not reach it' if mine is None else 'no peer reaches it'} | | | | |")
            continue
        point, one = max(held, key=lambda pair: pair[0]["qps_1"])
        at_once = max(each["qps_64"] for each, _ in held)
        lines.append(
            f"| {target:.2f} | {one['engine']} | {mine['qps_1'] / point['qps_1']:.2f}× | "
            f"{mine['qps_64'] / at_once:.2f}× | {one['build_s'] / ours['build_s']:.1f}× ours | "
            f"{one['held_mb'] / max(1, ours['held_mb']):.2f}× ours |"
        )
    return lines


def plots(found: dict[str, Any], out: Path) -> None:
    """``index.svg``: recall and queries a second; ``index-size.svg``: time and memory an item by size."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    if "engines" in found:
        figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
        for axis, key, title in zip(axes, ("qps_1", "qps_64"), ("one query", "64 at once"), strict=True):
            for one in found["engines"]:
                points = sorted((point["recall"], point[key]) for point in one["points"])
                if points:
                    axis.plot(
                        *zip(*points, strict=True),
                        marker="o",
                        markersize=3,
                        label=one["engine"],
                        linewidth=2.4 if one["engine"] == "trimodal" else 1.2,
                    )
            axis.set(yscale="log", xlabel="recall@10", xlim=(0.6, 1.005), title=title)
            axis.grid(alpha=0.3, which="both")
        axes[0].set_ylabel("queries a second")
        axes[0].legend(fontsize=8)
        figure.tight_layout()
        figure.savefig(out / "index.svg")
    if "scale" in found:
        figure, axes = plt.subplots(1, 3, figsize=(11, 3.6))
        sizes = [one["n"] for one in found["scale"]]
        for axis, keys, label in (
            (axes[0], ("commit_us", "index_us"), "µs an item"),
            (axes[1], ("disk_bytes",), "bytes on disk an item"),
            (axes[2], ("peak_mb", "open_mb"), "MB held while indexing, and open"),
        ):
            for key in keys:
                axis.plot(sizes, [one[key] for one in found["scale"]], marker="o", label=key)
            axis.set(xscale="log", xlabel="items", title=label, ylim=(0, None))
            axis.legend(fontsize=8)
            axis.grid(alpha=0.3)
        figure.tight_layout()
        figure.savefig(out / "index-size.svg")


if __name__ == "__main__":
    main()
