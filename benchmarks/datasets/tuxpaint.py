"""Build the evaluation set of Tux Paint stamps: pictures with an English sentence, other languages, and sound effects.

    python benchmarks/datasets/tuxpaint.py [--out DIR] [--language de …]

For evaluation only: nothing of it is trained or tuned on. Writes `manifest.jsonl` with `images/` and `audio/` beside
it (default: `datasets/tuxpaint` in the per-user cache), and `manifest.<language>.jsonl` with the captions of German,
French, Spanish and Chinese, or of the languages named. A second run skips what is written.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
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

import render
from manifests import write_lines
from packages import PackageError, cache_root, fetch

SIDE = 512  # pixels, longest side
LICENSE = "GPL-2.0"
# Letters, digits, coins and operators: nothing a caption describes.
SKIPPED = "symbols/"
LANGUAGES = ("de", "fr", "es", "zh_CN")  # as Tux Paint calls them

console = Console(stderr=True)


def stamps(root: Path) -> dict[str, Path]:
    """Picture of each stamp by its path without ending, in order. Where PNG and SVG stand side by side, the SVG.

    `*_mirror.*` is left out: it is how a stamp looks when the child mirrors it, not a stamp, and has no sentence.
    """
    found: dict[str, Path] = {}
    for path in sorted([*root.rglob("*.png"), *root.rglob("*.svg")]):
        name = path.relative_to(root).with_suffix("").as_posix()
        if not name.startswith(SKIPPED) and not name.endswith("_mirror"):
            found[name] = path  # .svg sorts after .png
    return found


def read_words(path: Path) -> tuple[str, dict[str, str]]:
    """A stamp's .txt: the English sentence of its first line, and the others by language ("de", "pt_BR", …).

    >>> import tempfile; path = Path(tempfile.mkdtemp()) / "x.txt"
    >>> _ = path.write_text("A frog.\\nde.utf8=Ein Frosch.\\n", encoding="utf-8")
    >>> read_words(path)
    ('A frog.', {'de': 'Ein Frosch.'})
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    english = lines[0].strip() if lines else ""
    others = (re.fullmatch(r"([\w@]+)\.utf8=(.*)", line.strip()) for line in lines[1:])
    return english, {found.group(1): found.group(2).strip() for found in others if found and found.group(2).strip()}


def effect(picture: Path) -> Path | None:
    """The stamp's sound effect, not the spoken description (`*_desc*`) beside it; None where it has none."""
    for ending in (".ogg", ".wav"):
        sound = picture.with_suffix(ending)
        if sound.is_file():
            return sound
    return None


def rows(root: Path, out: Path) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """(name, manifest row) of each stamp, its files written under `out`; (name, reason) for one left out."""
    for name, picture in track(stamps(root).items(), "rendering stamps", console=console):
        words = root / f"{name}.txt"
        if not words.is_file():
            yield name, "no sentence"
            continue
        english, others = read_words(words)
        target = out / "images" / f"{name}.png"
        if not target.is_file():
            try:
                image = draw(picture)
            except ValueError as error:
                yield name, str(error)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".partial")
            image.save(partial, format="PNG")
            partial.replace(target)
        row: dict[str, Any] = {"id": name, "image": target.relative_to(out).as_posix()}
        if (sound := effect(picture)) is not None:
            copy = out / "audio" / f"{name}{sound.suffix}"
            if not copy.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(sound, copy)
            row["audio"] = copy.relative_to(out).as_posix()
        category = name.rpartition("/")[0]
        metadata = {"category": category, "source": "tuxpaint-stamps", "license": LICENSE, "title": Path(name).name}
        metadata |= {f"caption_{language}": text for language, text in sorted(others.items())}
        row |= {"captions": [english], "split": "test", "metadata": metadata}
        yield name, row


def in_language(kept: list[dict[str, Any]], language: str) -> list[dict[str, Any]]:
    """The rows that have a sentence in a language ("de", "pt_BR"), with it as their only caption."""
    key = f"caption_{language}"
    return [row | {"captions": [row["metadata"][key]]} for row in kept if key in row["metadata"]]


def draw(picture: Path) -> Image.Image:
    """RGB picture of a stamp on white; the PNG beside an SVG that cannot be drawn."""
    try:
        image = render.open_picture(picture.read_bytes(), side=SIDE)
        if not render.is_blank(image):
            return image
        raise ValueError("blank picture")
    except ValueError:
        beside = picture.with_suffix(".png")
        if picture.suffix == ".png" or not beside.is_file():
            raise
        return render.open_picture(beside.read_bytes(), side=SIDE)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder to write (default: datasets/tuxpaint in the per-user cache)")
    parser.add_argument(
        "--language", nargs="*", default=LANGUAGES, help=f"further manifests to write (default: {' '.join(LANGUAGES)})"
    )
    options = parser.parse_args(arguments)
    out: Path = options.out or cache_root() / "datasets" / "tuxpaint"
    out.mkdir(parents=True, exist_ok=True)
    try:
        root = fetch("tuxpaint-stamps-default") / "usr/share/tuxpaint/stamps"
    except PackageError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 3
    results = dict(rows(root, out))
    kept = [row for row in results.values() if isinstance(row, dict)]
    write_lines(kept, out / "manifest.jsonl")
    report(kept, {name: reason for name, reason in results.items() if isinstance(reason, str)}, out)
    for language in options.language:
        spoken = in_language(kept, language)
        write_lines(spoken, out / f"manifest.{language}.jsonl")
        Console().print(f"{len(spoken)} with a sentence in {language}", highlight=False)
    return 0


def report(kept: list[dict[str, Any]], left_out: dict[str, str], out: Path) -> None:
    """Print counts by top folder, distinct captions and pictures, sounds, and what was left out."""
    table = Table("category", "pictures", "with sound")
    top = Counter(row["metadata"]["category"].split("/")[0] for row in kept)
    sounding = Counter(row["metadata"]["category"].split("/")[0] for row in kept if "audio" in row)
    for name, count in sorted(top.items()):
        table.add_row(name, str(count), str(sounding[name]))
    console_out = Console()
    console_out.print(table)
    captions = len({row["captions"][0] for row in kept})
    contents = len({hashlib.sha256((out / row["image"]).read_bytes()).digest() for row in kept})
    console_out.print(
        f"{len(kept)} pictures ({contents} distinct), {captions} distinct captions, "
        f"{sum(sounding.values())} with a sound, {len(left_out)} left out"
    )
    for name, reason in left_out.items():
        console.print(f"left out: {name}: {reason}", markup=False)


if __name__ == "__main__":
    raise SystemExit(main())
