"""A million vectors that lie as real embeddings do, and real questions: ``vectors.npy``, ``queries.npy``, ``tune.npy``.

The pictures of the starter's training pool are encoded by the starter (the first 512 of its dimensions, made unit
again). Each vector made is a random picture's, drawn towards one of its 32 nearest neighbours by up to a half, plus
Gaussian noise with 0.7 times the Cholesky factor of half the covariance of such neighbours' differences, made unit.
Questions are not made: they are the starter's vectors of the pool's captions, 1,000 to measure with and 300 others to
tune with. Text lies elsewhere in the space than pictures do, as in a real search.

Needs what data/recipes/starter.toml needs; the towers' features come from the cache where they were made before.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
DIM, NEAR, NOISE = 512, 32, 0.7
_CHUNK = 50_000

Rows = NDArray[np.float32]


def real() -> tuple[Rows, Rows]:
    """The starter's vectors of the pool's pictures and of their captions, ``(n, 512)`` each."""
    import torch

    from indexer.encoders.trained import TrainedDualEncoder
    from indexer.items import Modality
    from indexer.training.dual import Clock, TrainingData
    from indexer.training.recipe import load_recipe
    from indexer.training.towers import RecipeTowers

    encoder = TrainedDualEncoder(ROOT / "data" / "models" / "starter")
    recipe = load_recipe(ROOT / "data" / "recipes" / "starter.toml")
    towers = RecipeTowers(recipe, torch.device("cpu"), lambda *_: None)
    data = TrainingData(recipe, towers, Clock())
    data.prepare()
    used = data.used[Modality.IMAGE]
    examples = [*used.train, *used.heldout]
    texts = sorted({caption for one in examples for caption in one.captions})
    pictures = encoder.project_images(towers.of_media(examples))
    return unit(pictures[:, :DIM]), unit(encoder.project_texts(towers.texts(texts))[:, :DIM])


def make(folder: Path, n: int) -> None:
    """Write ``n`` vectors and the questions."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    rows, texts = real()
    likeness = rows @ rows.T
    np.fill_diagonal(likeness, -1)
    likeness[likeness > 0.9999] = -1
    near = np.argpartition(-likeness, NEAR, axis=1)[:, :NEAR]
    apart = rows - rows[near[np.arange(len(rows)), rng.integers(NEAR, size=len(rows))]]
    factor = np.linalg.cholesky(apart.T @ apart / len(apart) / 2 + 1e-9 * np.eye(DIM)).astype(np.float32)
    partial = folder / "vectors.partial.npy"
    out = np.lib.format.open_memmap(partial, "w+", np.float32, (n, DIM))
    for start in range(0, n, _CHUNK):
        size = min(_CHUNK, n - start)
        which = rng.integers(len(rows), size=size)
        towards = 0.5 * rng.random((size, 1), dtype=np.float32)
        made = (1 - towards) * rows[which] + towards * rows[near[which, rng.integers(NEAR, size=size)]]
        out[start : start + size] = unit(made + NOISE * rng.standard_normal((size, DIM), dtype=np.float32) @ factor.T)
    out.flush()
    drawn = texts[rng.permutation(len(texts))]
    np.save(folder / "queries.npy", drawn[:1_000])
    np.save(folder / "tune.npy", drawn[1_000:1_300])
    partial.replace(folder / "vectors.npy")


def unit(rows: Rows) -> Rows:
    """Rows of length 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-n", type=int, default=1_000_000)
    arguments = parser.parse_args()
    make(arguments.folder, arguments.n)
