"""Pictures and passages to index, no two alike; the same ones each time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
_WORDS = 60


def make_pictures(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """At least ``count`` JPEGs of ``size``: smooth colours under the grain of a camera."""
    folder.mkdir(parents=True, exist_ok=True)
    width, height = size
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 6, (height, width, 1)).astype(np.float32)
    for number in range(count):
        path = folder / f"{number:06}.jpg"
        colours = np.random.default_rng(number).integers(0, 255, (9, 12, 3), dtype=np.uint8)
        if path.is_file():
            continue
        smooth = np.asarray(Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        partial = path.with_suffix(".partial")
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(partial, "JPEG", quality=90)
        partial.replace(path)
    return folder


def some_of(folder: Path, into: Path, count: int) -> Path:
    """A folder with links to the first ``count`` files of another."""
    into.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir())[:count]:
        if not (into / path.name).exists():
            os.link(path, into / path.name)
    return into


def make_texts(folder: Path, count: int) -> Path:
    """``folder/COUNT`` with a file a passage, and ``folder/COUNT.txt`` with the same, a line each.

    Of 20 to 100 words of this project's documents.
    """
    words = " ".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))).split()
    rng = np.random.default_rng(0)
    into = folder / str(count)
    into.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        start = int(rng.integers(len(words) - 100))
        lines.append(" ".join(words[start : start + int(rng.integers(20, 100))]))
        (into / f"{number:05}.txt").write_text(lines[-1], encoding="utf-8")
    into.with_suffix(".txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return into
