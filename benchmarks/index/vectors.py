"""A million vectors that lie as real embeddings do, and real queries, as files of NumPy.

    DIR/vectors.npy  queries.npy  tune.npy  learn.npy

6,000 pictures of the starter's training pool are encoded by the starter (the first 512 of its dimensions, made unit
again). Each vector made is a random picture's, drawn towards one of its 32 nearest neighbours by up to a half, plus
Gaussian noise with 0.7 times the Cholesky factor of half the covariance of such neighbours' differences, made unit.
Queries are not made: they are the starter's vectors of the pool's captions, 1,000 to measure with, 300 others to tune
with and 700 others to learn from, as many as `trimodal index` takes of a collection. Text lies elsewhere in the space
than pictures do, as in a real search.

Needs benchmarks/datasets/pool.py and `trimodal models pull starter`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from indexer.corpus.walk import read_manifest
from indexer.encoders import open_encoder
from indexer.encoders.base import DualEncoder
from indexer.encoders.weights.base_weights import cache_dir
from indexer.items import Item, Modality
from indexer.limits import MediaLimits
from indexer.media.content_hash import content_hash
from indexer.media.decode import read_picture
from retrieval.evaluation.cache import BenchCache
from retrieval.evaluation.encoding import encode_captions

DIM, NEAR, NOISE = 512, 32, 0.7
PICTURES, QUERIES, TUNED_WITH, LEARNED_FROM = 6_000, 1_000, 300, 700
_CHUNK = 50_000

Rows = NDArray[np.float32]


def real(rng: np.random.Generator, n_pictures: int = PICTURES) -> tuple[Rows, Rows]:
    """The starter's vectors of pictures of the pool ``(n_pictures, 512)`` and of captions ``(2000, 512)``."""
    pool = cache_dir() / "datasets" / "pool" / "manifest.jsonl"
    rows = read_manifest(pool).rows
    texts = sorted({caption for row in rows for caption in row.captions})
    paths = sorted(row.image for row in rows if row.image is not None)
    encoder = open_encoder("starter")
    some = [paths[n] for n in np.sort(rng.choice(len(paths), n_pictures, replace=False))]
    queries = [texts[n] for n in rng.choice(len(texts), QUERIES + TUNED_WITH + LEARNED_FROM, replace=False)]
    with BenchCache.open(cache_dir() / "bench", encoder, encoder.fingerprint) as cache:
        pictures = _pictures(some, encoder, cache)
        captions = encode_captions(queries, encoder, cache=cache)
    return unit(pictures[:, :DIM]), unit(np.stack([captions[query] for query in queries])[:, :DIM])


def _pictures(paths: Sequence[Path], encoder: DualEncoder, cache: BenchCache) -> Rows:
    """Vectors of pictures; what an earlier run encoded is taken from the cache of `trimodal bench`."""
    limits, image = MediaLimits(), Modality.IMAGE
    hashes = [content_hash(Item(str(path), image, path)) for path in paths]
    known = cache.known_items(image, dict(enumerate(hashes)), encoder.dim, None)
    rows = {place: vectors[0] for place, (vectors, _) in known.items()}
    missing = [place for place in range(len(paths)) if place not in rows]
    for start in track(range(0, len(missing), 32), "the starter encodes pictures"):
        places = missing[start : start + 32]
        prepared = [encoder.prepare_image(read_picture(paths[place], limits)) for place in places]
        for place, vector in zip(places, encoder.encode_images(prepared), strict=True):
            cache.keep_item(image, hashes[place], vector[None], None, None)
            rows[place] = vector
    return np.stack([rows[place] for place in range(len(paths))])


def make(folder: Path, n: int) -> None:
    """Write ``n`` vectors and the queries."""
    rng = np.random.default_rng(1)
    write(folder, n, *real(rng), rng)


def write(folder: Path, n: int, rows: Rows, texts: Rows, rng: np.random.Generator) -> None:
    """Write ``n`` vectors made from those of pictures, and those of captions."""
    folder.mkdir(parents=True, exist_ok=True)
    likeness = rows @ rows.T
    np.fill_diagonal(likeness, -1)
    likeness[likeness > 0.9999] = -1
    near = np.argpartition(-likeness, NEAR, axis=1)[:, :NEAR]
    apart = rows - rows[near[np.arange(len(rows)), rng.integers(NEAR, size=len(rows))]]
    covariance = apart.T.astype(np.float64) @ apart / len(apart) / 2
    factor = np.linalg.cholesky(covariance + 1e-9 * np.eye(DIM)).astype(np.float32)
    partial = folder / "vectors.partial.npy"
    out = np.lib.format.open_memmap(partial, "w+", np.float32, (n, DIM))
    for start in range(0, n, _CHUNK):
        size = min(_CHUNK, n - start)
        which = rng.integers(len(rows), size=size)
        towards = 0.5 * rng.random((size, 1), dtype=np.float32)
        made = (1 - towards) * rows[which] + towards * rows[near[which, rng.integers(NEAR, size=size)]]
        out[start : start + size] = unit(made + NOISE * rng.standard_normal((size, DIM), dtype=np.float32) @ factor.T)
    out.flush()
    np.save(folder / "queries.npy", texts[:QUERIES])
    np.save(folder / "tune.npy", texts[QUERIES : QUERIES + TUNED_WITH])
    np.save(folder / "learn.npy", texts[QUERIES + TUNED_WITH :])
    (folder / "pictures.json").write_text(json.dumps(len(rows)))
    partial.replace(folder / "vectors.npy")


def unit(rows: NDArray[Any]) -> Rows:
    """Rows of length 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-n", type=int, default=1_000_000)
    arguments = parser.parse_args()
    make(arguments.folder, arguments.n)
