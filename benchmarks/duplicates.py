"""What ``trimodal duplicates`` finds at which threshold: copies of the demo's pictures, and pictures that are others.

    python benchmarks/duplicates.py [--out DIR]

Each picture of the demo is copied as people's copies differ: saved as a small JPEG, made half as large, cut by a
twentieth at every side, made lighter. Found is the share of copies whose cosine with their original is at least the
threshold; false alarms are the share of pictures that have another picture of the demo as near. The same for the
likeness of small forms, by which pictures that the model finds equal are compared once more, of all pairs of pictures.
Writes ``duplicates.json`` and ``duplicates.md`` into DIR (docs/bench).
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import provenance
from indexer.corpus.walk import read_manifest
from indexer.duplicates.same_content import picture_form
from indexer.encoders import open_encoder
from indexer.limits import MediaLimits
from indexer.media.decode import read_picture

ROOT = Path(__file__).resolve().parents[1]
LIKENESSES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
THRESHOLDS = (0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.99)


def jpeg(picture: Image.Image) -> Image.Image:
    """As a JPEG of quality 40."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=40)
    return Image.open(file).convert("RGB")


def half(picture: Image.Image) -> Image.Image:
    """Half as wide and high."""
    return picture.resize((max(1, picture.width // 2), max(1, picture.height // 2)), Image.Resampling.LANCZOS)


def cut(picture: Image.Image) -> Image.Image:
    """Without a twentieth at every side."""
    x, y = picture.width // 20, picture.height // 20
    return picture.crop((x, y, picture.width - x, picture.height - y))


def lighter(picture: Image.Image) -> Image.Image:
    """A fifth lighter."""
    return ImageEnhance.Brightness(picture).enhance(1.2)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 40": jpeg,
    "half as large": half,
    "cut by a twentieth": cut,
    "a fifth lighter": lighter,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "bench")
    out: Path = parser.parse_args().out
    encoder = open_encoder("starter")
    rows = read_manifest(ROOT / "data" / "demo" / "manifest.jsonl").rows
    pictures = [read_picture(row.image, MediaLimits()) for row in rows if row.image is not None]

    def encoded(change: Callable[[Image.Image], Image.Image], what: str) -> NDArray[np.float32]:
        parts = [
            encoder.encode_images([encoder.prepare_image(change(one)) for one in pictures[start : start + 32]])
            for start in track(range(0, len(pictures), 32), what)
        ]
        return np.concatenate(parts)

    own = encoded(lambda picture: picture, "as they are")
    others = own @ own.T
    np.fill_diagonal(others, -1.0)
    nearest = others.max(axis=1)
    copies = {name: (encoded(change, name) * own).sum(axis=1) for name, change in COPIES.items()}
    forms = np.stack([picture_form(one) for one in pictures])
    pairs = (forms @ forms.T)[np.triu_indices(len(forms), 1)]
    likenesses = {
        name: (np.stack([picture_form(change(one)) for one in pictures]) * forms).sum(axis=1)
        for name, change in COPIES.items()
    }
    found = {
        "pictures": len(pictures),
        "likenesses": [
            {
                "likeness": likeness,
                "copies": {name: float((like >= likeness).mean()) for name, like in likenesses.items()},
                "others": float((pairs >= likeness).mean()),
            }
            for likeness in LIKENESSES
        ],
        "thresholds": [
            {
                "threshold": threshold,
                "found": {name: float((near >= threshold).mean()) for name, near in copies.items()},
                "false_alarms": float((nearest >= threshold).mean()),
            }
            for threshold in THRESHOLDS
        ],
        "provenance": provenance.facts(encoder),
    }
    (out / "duplicates.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (out / "duplicates.md").write_text(page(found), encoding="utf-8")
    Console().print(page(found), markup=False)


def page(found: dict[str, Any]) -> str:
    """``duplicates.md``."""
    lines = [
        "# Near duplicates",
        "",
        f"Copies of the demo's {found['pictures']} pictures (benchmarks/duplicates.py), and pictures of it that are as "
        "near to another one.",
        "",
        *_table(
            ("threshold", "false alarms"),
            [(f"{one['threshold']:.2f}", one["found"], one["false_alarms"]) for one in found["thresholds"]],
        ),
        "",
        "## What the model finds equal",
        "",
        "From a cosine of 0.999 on two pictures are compared by their contents, 32 x 32 pixels: copies, and all pairs "
        "of two pictures, whose likeness is at least so much.",
        "",
        *_table(
            ("likeness", "two pictures"),
            [(f"{one['likeness']:.1f}", one["copies"], one["others"]) for one in found["likenesses"]],
        ),
    ]
    return "\n".join(lines) + "\n"


def _table(names: tuple[str, str], rows: list[tuple[str, dict[str, float], float]]) -> list[str]:
    """A row for each (bound, share of each kind of copy, share of other pictures)."""
    lines = ["| " + " | ".join([names[0], *COPIES, names[1]]) + " |", "|---" * (len(COPIES) + 2) + "|"]
    for bound, copies, others in rows:
        shares = [copies[name] for name in COPIES] + [others]
        lines.append(f"| {bound} | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    return lines


if __name__ == "__main__":
    main()
