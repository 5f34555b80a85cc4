"""Build the training pool: drawings, emoji, renders and recordings with captions, split by concept.

    python benchmarks/datasets/pool.py [--out DIR]

Writes `manifest.jsonl` with `images/` and `audio/` beside it (default: `datasets/pool` in the per-user cache).
A second run skips what is written. Near-duplicates of evaluation pictures are not dropped here but by training,
with the towers' features; near-duplicates of one drawing under two names across a split are dropped here.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

import emojis
import furniture
import openclipart
import qabcs
import render
import sounds
from manifests import out_folder, write_lines
from packages import PackageError
from samples import Sample
from splits import DEMO, TRAIN, VAL, head, split_of

SIDE = 320  # pixels, longest side of a picture
SVG_SIDE = 256  # towers look at 224; larger drawings cost time and disk and show nothing more
LIMIT_SOUND_S = 15.0
QUIET = 1e-3  # peak amplitude below which a recording is empty
NEAR_BITS = 20  # of 256 dHash bits: the same drawing, differently cut or coloured
NEAR_SHARE = 0.25  # and of the bits that are set: plain pictures set few, and flags are not near-copies
WORKERS = 2

Written = tuple[str | None, str | None, str | None, str]  # what write_media returns

console = Console(stderr=True)


def all_samples() -> Iterator[Sample]:
    """Every sample of every source; sources in a fixed order, so that the first of two equal pictures is stable."""
    yield from openclipart.samples()
    yield from furniture.samples()
    yield from emojis.samples()
    yield from qabcs.samples()
    yield from sounds.samples()


def file_stem(sample: Sample) -> str:
    """A file name that is safe everywhere and unique: the readable name and 8 digits of its hash."""
    digest = hashlib.blake2s(f"{sample.source}/{sample.name}".encode()).hexdigest()[:8]
    readable = re.sub(r"[^a-z0-9]+", "-", sample.name.lower()).strip("-")[-48:].strip("-")
    return f"{readable}-{digest}"


def write_media(job: tuple[Sample, Path]) -> Written:
    """Write a sample's files under `out`. Returns (image path, audio path, sha of content, what went wrong).

    Paths are relative to `out`, None where there is none. Files that exist are not written again.
    """
    sample, out = job
    image = audio = None
    digest = hashlib.blake2s()
    try:
        if sample.image is not None:
            image = f"images/{sample.source}/{file_stem(sample)}.jpg"
            target = out / image
            if not target.is_file():
                data = sample.image.read()
                vector = sample.image.path is None or sample.image.path.suffix == ".svg"
                picture = render.open_picture(data, side=SVG_SIDE if vector else SIDE)
                if render.is_blank(picture):
                    return None, None, None, "blank picture"
                render.save_jpeg(picture, target)
            digest.update(target.read_bytes())
        if sample.audio is not None:
            audio = f"audio/{sample.source}/{file_stem(sample)}.flac"
            target = out / audio
            if not target.is_file():
                write_sound(sample.audio.read(), target)
            digest.update(target.read_bytes())
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        reason = re.sub(r"<_io\.BytesIO[^>]*>: ", "", str(error))
        return None, None, None, f"{sample.source}/{sample.name}: {reason}"
    return image, audio, digest.hexdigest(), ""


def write_sound(data: bytes, path: Path) -> None:
    """Write a recording as mono 16-bit FLAC of at most `LIMIT_SOUND_S` s at its own rate, silence cut at the front.

    Raises `ValueError` for an empty or silent one.
    """
    samples, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)  # (n, channels) -> (n,)
    if mono.size == 0 or float(np.abs(mono).max()) < QUIET:
        raise ValueError("silent recording")
    start = int(np.flatnonzero(np.abs(mono) >= QUIET)[0])
    mono = mono[max(0, start - rate_hz // 100) :][: int(LIMIT_SOUND_S * rate_hz)]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    soundfile.write(partial, np.clip(mono, -1, 1), rate_hz, format="FLAC", subtype="PCM_16")
    partial.replace(path)


def rows_of(
    samples: Iterable[Sample], written: Iterable[tuple[str | None, str | None, str | None, str]]
) -> list[dict[str, Any]]:
    """Manifest rows, once for each content; the captions of a repeat go to the first where both are on one side."""
    rows: dict[str, dict[str, Any]] = {}
    for sample, (image, audio, digest, _) in zip(samples, written, strict=True):
        if digest is None:
            continue
        split = sample.split or split_of(sample.concept)
        if digest in rows:
            first = rows[digest]
            if first["split"] == split:
                known = {text.lower() for text in first["captions"]}
                first["captions"] += [text for text in sample.captions if text.lower() not in known]
            continue
        row: dict[str, Any] = {"id": f"{sample.source}/{sample.name}"}
        if image:
            row["image"] = image
        if audio:
            row["audio"] = audio
        metadata = {"concept": head(sample.concept), "source": sample.source, "license": sample.license}
        metadata |= {key: value for key, value in sample.metadata.items() if value}
        row |= {"captions": list(sample.captions), "split": split, "metadata": metadata}
        rows[digest] = row
    return list(rows.values())


def drop_across_splits(rows: list[dict[str, Any]], out: Path) -> tuple[list[dict[str, Any]], int]:
    """Drop drawings of Open Clip Art and qabcs that are near-copies of one on another side of the split.

    Of a pair the one whose side is train goes (the held-out sides are the smaller); of val and demo, val's.
    Near are two whose 16 x 16 difference hashes differ in at most `NEAR_BITS` bits and in at most `NEAR_SHARE` of
    the bits that the plainer one sets.
    """
    order = {TRAIN: 0, VAL: 1, DEMO: 2}
    drawn = [row for row in rows if row["metadata"]["source"] in {"openclipart", "qabcs"} and "image" in row]
    hashes = np.stack([render.dhash(Image.open(out / row["image"])) for row in drawn]).astype(np.float32)
    sides = np.array([order[row["split"]] for row in drawn])
    inked = hashes.sum(axis=1)
    signs = 2 * hashes - 1  # (n, bits): the product of two is bits minus twice the differing ones
    dropped: set[str] = set()
    for start in range(0, len(drawn), 1024):
        differing = (signs.shape[1] - signs[start : start + 1024] @ signs.T) / 2  # (<=1024, n)
        limits = np.minimum(NEAR_BITS, NEAR_SHARE * np.minimum(inked[start : start + 1024, None], inked))
        for i, j in np.argwhere(differing <= limits):
            i += start
            if sides[i] < sides[j]:
                dropped.add(drawn[i]["id"])
    kept = [row for row in rows if row["id"] not in dropped]
    return kept, len(dropped)


def main(arguments: list[str] | None = None) -> int:
    out = out_folder(__doc__, "pool", arguments)
    try:
        with console.status("fetching and unpacking packages"):
            samples = list(all_samples())
    except PackageError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 3
    jobs = [(replace(sample, metadata={}), out) for sample in samples]
    with ProcessPoolExecutor(WORKERS) as workers:
        results = workers.map(write_media, jobs, chunksize=32)
        written = list(track(results, "writing pictures and sounds", total=len(jobs), console=console))
    rows, dropped = drop_across_splits(rows_of(samples, written), out)
    write_lines(rows, out / "manifest.jsonl")
    problems = [problem for *_, problem in written if problem and problem != "blank picture"]
    report(rows, dropped, problems)
    return 0


def report(rows: list[dict[str, Any]], dropped: int, problems: list[str]) -> None:
    """Print counts by source and split, and what was left out."""
    table = Table("source", "pictures", "sounds", *(name for name in (TRAIN, VAL, DEMO)))
    for source in dict.fromkeys(row["metadata"]["source"] for row in rows):
        mine = [row for row in rows if row["metadata"]["source"] == source]
        splits = Counter(row["split"] for row in mine)
        counts = (sum("image" in row for row in mine), sum("audio" in row for row in mine))
        table.add_row(source, *map(str, counts), *(str(splits[name]) for name in (TRAIN, VAL, DEMO)))
    splits = Counter(row["split"] for row in rows)
    counts = (sum("image" in row for row in rows), sum("audio" in row for row in rows))
    table.add_section()
    table.add_row("all", *map(str, counts), *(str(splits[name]) for name in (TRAIN, VAL, DEMO)))
    out = Console()
    out.print(table)
    concepts = {row["metadata"]["concept"] for row in rows}
    out.print(f"{len(concepts)} concepts; {dropped} near-copies across a split dropped; {len(problems)} files left out")
    for problem in problems[:20]:
        console.print(f"left out: {problem}", markup=False)


if __name__ == "__main__":
    raise SystemExit(main())
