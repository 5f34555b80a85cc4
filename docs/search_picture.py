"""Draw docs/search.png: three searches of the demo collection, with the hits that the program finds.

    make demo && python docs/search_picture.py [COLLECTION]

A row is a query: its three best pictures, its best text and its best sound, each with the match that `trimodal search`
prints. Nothing is chosen by hand but the queries. Reads `search --json`; knows nothing of models.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import soundfile
from PIL import Image, ImageDraw, ImageFont

from retrieval.present import MATCH_WORDS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "search.png"
QUERIES = (["a green frog"], ["a musical instrument"], ["--image", "data/demo/images/pink-rose.png"])
PICTURES = 3
CELL = 150  # pixels, width and height of a picture
GAP = 14
LABEL = 40  # pixels under a cell
WIDE = 220  # pixels, width of the cells of the query, the text and the sound
INK, FAINT, GROUND = "#1b1f24", "#667079", "#ffffff"


def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def search(query: list[str], collection: str) -> dict[str, list[dict[str, Any]]]:
    """Hits of a query by modality, best first, without the file that is the query."""
    command = [sys.executable, "-m", "trimodal.cli", "search", *query, "--collection", collection]
    done = subprocess.run(
        [*command, "-k", str(PICTURES), "--no-rerank", "--json"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    groups = json.loads(done.stdout)["groups"]
    return {group["modality"]: [hit for hit in group["hits"] if not hit["is_query"]] for group in groups}


def match(hit: Mapping[str, Any]) -> str:
    """The match in words, by the standard score."""
    return next((word for least, word in MATCH_WORDS if hit["standard_score"] >= least), "weak")


def thumbnail(path: Path) -> Image.Image:
    """A picture fitted into a cell on white: RGB, ``CELL`` x ``CELL``."""
    cell = Image.new("RGB", (CELL, CELL), GROUND)
    with Image.open(path) as opened:
        image = opened.convert("RGBA")
        image.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
        cell.paste(image, ((CELL - image.width) // 2, (CELL - image.height) // 2), image)
    return cell


def write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, width: int, lines: int, size: int = 13) -> None:
    """Text in at most ``lines`` lines of ``width`` pixels."""
    letters = int(width / (0.56 * size))
    wrapped = textwrap.wrap(text, letters, max_lines=lines, placeholder=" …")
    draw.multiline_text(at, "\n".join(wrapped), font=font(size), fill=INK, spacing=5)


def waveform(draw: ImageDraw.ImageDraw, at: tuple[int, int], path: Path) -> None:
    """The peaks of a sound, as bars in a cell."""
    samples, _ = soundfile.read(path, dtype="float32", always_2d=True)
    bars = WIDE // 4
    peaks = np.array([np.abs(part).max(initial=0.0) for part in np.array_split(samples, bars)])
    peaks /= max(float(peaks.max()), 1e-6)
    for number, peak in enumerate(peaks):
        x, half = at[0] + 4 * number, 1 + float(peak) * CELL * 0.35
        draw.line((x, at[1] + CELL / 2 - half, x, at[1] + CELL / 2 + half), fill="#0b62a4", width=2)


def label(draw: ImageDraw.ImageDraw, at: tuple[int, int], words: str, hit: Mapping[str, Any], width: int) -> None:
    """The words of a hit and its match, under its cell."""
    letters = int(width / 6.6)
    draw.text(at, textwrap.shorten(words, letters, placeholder=" …"), font=font(11), fill=INK)
    draw.text((at[0], at[1] + 16), match(hit), font=font(11), fill=FAINT)


def main() -> None:
    """Search and draw."""
    collection = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / ".demo")
    row = CELL + LABEL + 2 * GAP
    left = [GAP + WIDE + GAP + at * (CELL + GAP) for at in range(PICTURES)]
    text_at = left[-1] + CELL + 2 * GAP
    sound_at = text_at + WIDE + 2 * GAP
    sheet = Image.new("RGB", (sound_at + WIDE + GAP, len(QUERIES) * row), GROUND)
    draw = ImageDraw.Draw(sheet)
    for number, query in enumerate(QUERIES):
        found, top = search(query, collection), number * row + GAP
        if number:
            draw.line((GAP, top - GAP // 2, sheet.width - GAP, top - GAP // 2), fill="#d9dde1")
        if len(query) == 1:
            draw.multiline_text((GAP, top + 50), textwrap.fill(f"“{query[0]}”", 14), font=font(20, bold=True), fill=INK)
        else:
            sheet.paste(thumbnail(ROOT / query[-1]), (GAP, top))
            draw.text((GAP, top + CELL + 4), " ".join([query[0], Path(query[-1]).name]), font=font(11), fill=FAINT)
        for x, hit in zip(left, found["image"][:PICTURES], strict=False):
            sheet.paste(thumbnail(ROOT / hit["path"]), (x, top))
            label(draw, (x, top + CELL + 4), hit["caption"], hit, CELL)
        text, sound = found["text"][0], found["audio"][0]
        write(draw, (text_at, top + 4), text["text"], WIDE, 7)
        label(draw, (text_at, top + CELL + 4), text["key"].rpartition("/")[2], text, WIDE)
        waveform(draw, (sound_at, top), ROOT / sound["path"])
        label(draw, (sound_at, top + CELL + 4), sound["caption"], sound, WIDE)
    sheet.quantize(192, dither=Image.Dither.NONE).save(PAGE, optimize=True)


if __name__ == "__main__":
    main()
