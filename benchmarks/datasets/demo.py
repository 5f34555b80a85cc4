"""Rebuild the demo collection that is shipped in `data/demo`: pictures, sounds and texts, checked by eye.

    python benchmarks/datasets/demo.py [--out DIR]

Takes only what may be shipped: Open Clip Art (public domain), the CC0 renders of Sweet Home 3D, Fluent emoji (MIT),
Sonic Pi samples (CC0), and texts written for it. Every picture's concept is on the split's demo side, and every
recording is of a set that is never trained on. Which pictures and sounds, and their words, are in `demo_*.toml`.
Running it twice gives the same bytes.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import struct
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import soundfile
import soxr
from PIL import Image
from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parent))

import emojis
import furniture
import openclipart
import render
import sounds
from packages import PackageError, fetch
from samples import Sample
from splits import DEMO, head, split_of
from tables import read_tables

HERE = Path(__file__).resolve().parent
SIDE = 256  # pixels
LIMIT_BYTES = 6_000_000
LIMIT_SOUND_S = 6.0
FADE_S = 0.05
RATE_HZ = 32_000
COLOURS = 128  # of a drawing's palette
FOLDERS = ("images", "audio", "texts")  # emptied and written anew; other files in the folder are left alone

# Source -> what LICENSES.md calls the package, and the licence's long name.
ORIGINS = {
    "openclipart": ("Debian openclipart-png 0.18", "public domain"),
    "sweethome3d": ("Debian sweethome3d-furniture 1.8, BlendSwap-CC-0", "CC0 1.0"),
    "emoji-fluent-3d": ("npm @lobehub/fluent-emoji-3d 1.1.0", "MIT"),
    "sonic-pi": ("Debian sonic-pi-samples 3.2.2", "CC0 1.0"),
}
FLUENT_AUTHOR = "Microsoft Corporation"
MIT = """\
Copyright (c) Microsoft Corporation.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""

console = Console(stderr=True)


def pictures(out: Path) -> Iterator[dict[str, Any]]:
    """Write the pictures of `demo_pictures.toml` and yield their rows, in its order.

    Raises `ValueError` for one that the sources do not hold or whose concept is not on the demo side.
    """
    chosen = read_tables("demo_pictures.toml")
    known = {f"{sample.source}/{sample.name}": sample for sample in shippable_pictures()}
    used: set[str] = set()
    for category, entries in chosen.items():
        for name, captions in entries.items():
            if name not in known:
                raise ValueError(f"{name}: not among the pictures that may be shipped; mend demo_pictures.toml")
            sample = known[name]
            if split_of(sample.concept) != DEMO:
                raise ValueError(f"{name}: its concept {sample.concept!r} may be trained on; mend demo_pictures.toml")
            path = write_picture(sample, out, slug(captions[0], used))
            yield row_of(sample, "image", path, captions, category)


def shippable_pictures() -> Iterator[Sample]:
    """Samples of the sources whose pictures may be shipped."""
    yield from openclipart.samples()
    yield from (sample for sample in furniture.samples() if sample.license == "CC0-1.0")
    yield from emojis.style("emoji-fluent-3d")


def write_picture(sample: Sample, out: Path, name: str) -> str:
    """Write one picture and return its path under `out`: emoji as WebP, renders as JPEG, drawings as palette PNG."""
    if sample.image is None:
        raise ValueError(f"{sample.name}: has no picture")
    image = render.open_picture(sample.image.read(), side=SIDE)
    if sample.source == "emoji-fluent-3d":
        path = f"images/{name}.webp"
        image.save(target(out, path), format="WEBP", quality=88, method=6)
    elif sample.source == "sweethome3d":
        path = f"images/{name}.jpg"
        image.save(target(out, path), format="JPEG", quality=90, optimize=True)
    else:
        path = f"images/{name}.png"
        palette = image.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        palette.save(target(out, path), format="PNG", optimize=True)
    return path


def recordings(out: Path) -> Iterator[dict[str, Any]]:
    """Write the sounds of `demo_sounds.toml` and yield their rows, in its order."""
    known = {sample.name: sample for sample in sounds.sonic_pi()}
    authors = freesound_authors()
    for category, names in read_tables("demo_sounds.toml")["categories"].items():
        for name in names:
            sample = known[name]
            path = f"audio/{slug(name, set())}.ogg"
            write_ogg(sample, target(out, path))
            yield row_of(sample, "audio", path, list(sample.captions), category, author=authors.get(name, ""))


def write_ogg(sample: Sample, path: Path) -> None:
    """Write a recording as mono Ogg Vorbis of at most `LIMIT_SOUND_S`, faded out where it is cut."""
    if sample.audio is None:
        raise ValueError(f"{sample.name}: has no sound")
    samples, rate_hz = soundfile.read(io.BytesIO(sample.audio.read()), dtype="float32", always_2d=True)
    mono = soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ)  # (n, channels) -> (n,)
    if mono.size > LIMIT_SOUND_S * RATE_HZ:
        mono = mono[: int(LIMIT_SOUND_S * RATE_HZ)].copy()
        fade = int(FADE_S * RATE_HZ)
        mono[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(mono, -1, 1), RATE_HZ, format="OGG", subtype="VORBIS", compression_level=0.6)
    path.write_bytes(with_serial(buffer.getvalue(), 1))


def with_serial(data: bytes, serial: int) -> bytes:
    """An Ogg file with this stream serial number, which libsndfile draws by lot, and the checksums made right again."""
    pages = bytearray(data)
    at = 0
    while at < len(pages):
        if pages[at : at + 4] != b"OggS":
            raise ValueError(f"no Ogg page at byte {at}")
        segments = pages[at + 26]
        size = 27 + segments + sum(pages[at + 27 : at + 27 + segments])
        struct.pack_into("<I", pages, at + 14, serial)
        struct.pack_into("<I", pages, at + 22, 0)
        struct.pack_into("<I", pages, at + 22, ogg_crc(pages[at : at + size]))
        at += size
    return bytes(pages)


def ogg_crc(page: bytes | bytearray) -> int:
    """CRC-32 of an Ogg page: polynomial 0x04C11DB7, not reflected, from 0 (RFC 3533)."""
    crc = 0
    for byte in page:
        crc = ((crc << 8) & 0xFFFFFFFF) ^ OGG_TABLE[(crc >> 24) ^ byte]
    return crc


def _ogg_table() -> tuple[int, ...]:
    rows = []
    for value in range(256):
        crc = value << 24
        for _ in range(8):
            crc = ((crc << 1) ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
        rows.append(crc)
    return tuple(rows)


OGG_TABLE = _ogg_table()


def freesound_authors() -> dict[str, str]:
    """Sonic Pi sample -> "name (Freesound number)", by the README of the samples."""
    root = fetch("sonic-pi-samples") / "usr/share/sonic-pi/samples"
    text = (root / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"`:(\w+)`\s*-\s*\S+/people/([^/\s]+)/sounds/(\d+)", text)
    by_name = {name.replace("_", ""): f"{unquote(who)} (Freesound {number})" for name, who, number in found}
    # The README writes some names with another underscore than the files: "loop_perc_1", "loop_3dprinter".
    return {path.stem: by_name.get(path.stem.replace("_", ""), "") for path in root.glob("*.flac")}


def texts(out: Path) -> Iterator[dict[str, Any]]:
    """Write the passages of `demo_texts.toml` and yield their rows, the passage in the row itself."""
    for name, entry in read_tables("demo_texts.toml").items():
        passage = " ".join(entry["text"].split())
        target(out, f"texts/{name}.txt").write_text(textwrap.fill(passage, 100) + "\n", encoding="utf-8")
        metadata = {"category": entry["category"], "source": "trimodal", "license": "Apache-2.0"}
        metadata |= {"title": name.replace("-", " "), "file": f"texts/{name}.txt"}
        yield {
            "id": f"texts/{name}",
            "text": passage,
            "captions": [entry["caption"]],
            "split": DEMO,
            "metadata": metadata,
        }


def row_of(
    sample: Sample, kind: str, path: str, captions: list[str], category: str, *, author: str = ""
) -> dict[str, Any]:
    """A manifest row with where the file is from in its metadata."""
    author = author or sample.metadata.get("author", "")
    if sample.source == "emoji-fluent-3d":
        author = FLUENT_AUTHOR
    metadata = {"category": category, "concept": head(sample.concept), "source": sample.source}
    metadata["license"] = ORIGINS[sample.source][1]
    metadata |= {"title": sample.metadata.get("title", ""), "author": author, "original": original_name(sample)}
    row = {"id": path.rpartition(".")[0], kind: path, "captions": captions, "split": DEMO}
    return row | {"metadata": {key: value for key, value in metadata.items() if value}}


def original_name(sample: Sample) -> str:
    """The file's name in its package."""
    if "file" in sample.metadata:
        return sample.metadata["file"]
    blob = sample.image or sample.audio
    return blob.path.name if blob is not None and blob.path is not None else sample.name


def slug(text: str, used: set[str]) -> str:
    """A short file name of a caption's words, unlike those in `used`, to which it is added."""
    words = [word for word in re.sub(r"[^a-z0-9]+", " ", text.lower()).split() if word not in {"a", "an", "the"}]
    stem = name = "-".join(words[:5])
    number = 2
    while name in used:
        name, number = f"{stem}-{number}", number + 1
    used.add(name)
    return name


def target(out: Path, path: str) -> Path:
    """A file to write, its folder made."""
    full = out / path
    full.parent.mkdir(parents=True, exist_ok=True)
    return full


def licenses(rows: list[dict[str, Any]]) -> str:
    """LICENSES.md: file by file where it is from, who made it, and under which licence it is."""
    lines = [
        "# Where the demo collection is from",
        "",
        "Written by `benchmarks/datasets/demo.py`. Pictures were scaled to at most 256 pixels and put on white, sounds "
        "were made mono and cut to at most 6 s. Captions and texts were written for this collection.",
        "",
        "| files | from | licence |",
        "|---|---|---|",
        "| drawings (`.png`) | Open Clip Art Library 0.18 | public domain dedication |",
        "| renders (`.jpg`) | Blend Swap models rendered for Sweet Home 3D | CC0 1.0 |",
        "| emoji (`.webp`) | Fluent Emoji | MIT, text below |",
        "| sounds (`.ogg`) | Sonic Pi's samples, from Freesound | CC0 1.0 |",
        "| texts (`.txt`), captions | this project | Apache-2.0 |",
        "",
        "| file | package | original name | author | licence |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        metadata = row["metadata"]
        if "text" in row:
            cells = [metadata["file"], "this project", "-", "the trimodal founders", "Apache-2.0"]
        else:
            package, license_name = ORIGINS[metadata["source"]]
            author = re.sub(r"\S+@\S+|https?://\S+|[|\[\]()<>]", "", metadata.get("author", "")).strip()
            author = author if metadata["source"] != "sonic-pi" else metadata.get("author", "")
            path = row.get("image") or row["audio"]
            cells = [path, package, metadata["original"].replace("|", ""), author or "not given", license_name]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", "## The MIT licence of Fluent Emoji", "", *MIT.splitlines(), ""])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=HERE.parents[1] / "data" / "demo", help="folder to write (default: data/demo)"
    )
    out: Path = parser.parse_args(arguments).out
    for folder in FOLDERS:
        if (out / folder).is_dir():
            shutil.rmtree(out / folder)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    try:
        for part in (pictures, recordings, texts):
            rows += track(part(out), f"writing {part.__name__}", console=console)
    except (PackageError, ValueError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 3
    manifest = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (out / "manifest.jsonl").write_text(manifest, encoding="utf-8")
    (out / "LICENSES.md").write_text(licenses(rows), encoding="utf-8")
    written = [path for folder in FOLDERS for path in (out / folder).iterdir()]
    size = sum(path.stat().st_size for path in [*written, out / "manifest.jsonl", out / "LICENSES.md"])
    counts = ", ".join(f"{sum(kind in row for row in rows)} {kind}" for kind in ("image", "audio", "text"))
    print(f"{counts}; {size / 1e6:.2f} MB of at most {LIMIT_BYTES / 1e6:.0f} MB")
    return 0 if size <= LIMIT_BYTES else 1


if __name__ == "__main__":
    raise SystemExit(main())
