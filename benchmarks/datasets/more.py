"""Build a second pool of named drawings and photographs: game sprites, buildings, wallpapers of `more.toml`.

    python benchmarks/datasets/more.py [--out DIR]

Writes `manifest.jsonl` with `images/` beside it (default: `datasets/more` in the per-user cache), in the form of the
pool and with its split by concept; all of the demo side is train here. Sprites are enlarged, on white.
"""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pool
import render
from captions import distinct, with_article, words_apart
from manifests import out_folder, write_lines
from packages import PackageError, fetch
from samples import Blob, Sample
from splits import DEMO, TRAIN, VAL, head, split_of
from tables import read_tables

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
SMALL = 160  # pixels: a smaller drawing is enlarged, as far as whole pixels allow
ENLARGED = 200

console = Console(stderr=True)


def samples(tables: dict[str, Any] | None = None) -> Iterator[Sample]:
    """Every picture of `more.toml`, in its order. Raises `PackageError` for one that its package does not hold."""
    for source, table in (tables or read_tables("more.toml")).items():
        root = fetch(table["package"]) / table["folder"]
        for folder, own in table.items():
            if isinstance(own, dict):
                for line in own["files"].split("\n"):
                    if line.strip():
                        yield sample_of(source, root, folder, line, table["license"])


def sample_of(source: str, root: Path, folder: str, line: str, license_name: str) -> Sample:
    """A line of `more.toml` as a sample: "key2 = golden key; key" is captioned "golden key", "a golden key", "key" …"""
    stem, _, given = line.strip().partition(" = ")
    names = [name.strip() for name in given.split(";") if name.strip()] or [words_apart(stem)]
    path = next((path for ending in ENDINGS if (path := root / folder / f"{stem}{ending}").is_file()), None)
    if path is None:
        raise PackageError(f"{source}: no picture {folder}/{stem}; take it out of more.toml")
    texts = distinct([names[0], with_article(names[0]), *names[1:], *map(with_article, names[1:])])
    where = f"{folder}/{stem}".removeprefix("./")
    metadata = {"title": stem, "file": path.relative_to(root).as_posix()}
    return Sample(source, where, names[0], tuple(texts), license_name, image=Blob(path), metadata=metadata)


def picture(data: bytes) -> Image.Image:
    """RGB on white, at most the pool's side; a sprite enlarged by a whole factor, its pixels kept sharp."""
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    box = image.getchannel("A").getbbox() or (0, 0, *image.size)
    image = image.crop(box)
    factor = ENLARGED // max(image.size) if max(image.size) < SMALL else 1
    if factor > 1:
        size = (image.width * factor, image.height * factor)
        image = image.convert("RGBa").resize(size, Image.Resampling.BICUBIC).convert("RGBA")
    return render.on_white(image, side=pool.SIDE)


def row_of(sample: Sample) -> dict[str, Any]:
    """A line of the manifest."""
    split = split_of(sample.concept)
    metadata = {"concept": head(sample.concept), "source": sample.source, "license": sample.license}
    return {
        "id": f"more/{sample.source}/{sample.name}",
        "image": f"images/{sample.source}/{pool.file_stem(sample)}.jpg",
        "captions": list(sample.captions),
        "split": TRAIN if split == DEMO else split,
        "metadata": metadata | sample.metadata,
    }


def main(arguments: list[str] | None = None) -> int:
    out = out_folder(__doc__, "more", arguments)
    try:
        found = list(samples())
    except PackageError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 3
    rows = [row_of(sample) for sample in found]
    for sample, row in track(list(zip(found, rows, strict=True)), "writing pictures", console=console):
        target = out / row["image"]
        if not target.is_file() and sample.image is not None:
            render.save_jpeg(picture(sample.image.read()), target)
    write_lines(rows, out / "manifest.jsonl")
    table = Table("source", TRAIN, VAL)
    counts = Counter((row["metadata"]["source"], row["split"]) for row in rows)
    for source in dict.fromkeys(source for source, _ in counts):
        table.add_row(source, str(counts[source, TRAIN]), str(counts[source, VAL]))
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
