"""Turn a raster or SVG picture into an RGB picture of limited size on white, and compare pictures by hash.

Knows nothing of captions, splits or packages.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image

WHITE = (255, 255, 255)
LIMIT_SVG_BYTES = 4_000_000  # a larger drawing takes seconds to render and is never a simple one


def open_picture(data: bytes, *, side: int) -> Image.Image:
    """Decode PNG, WebP, JPEG or SVG bytes to RGB, its longest side at most `side` pixels, transparency on white.

    SVG is drawn at `side` pixels on its longest side. Raises `ValueError` for bytes that are no picture.
    """
    head = data[:1000].lstrip()
    if head.startswith((b"<svg", b"<?xml", b"<!DOCTYPE", b"<!--")) or b"<svg" in head:
        image = render_svg(data.decode("utf-8", "replace"), side=side)
    else:
        try:
            image = Image.open(io.BytesIO(data))
            image.load()
        except Exception as error:
            raise ValueError(f"not a readable picture: {error}") from error
    return on_white(image, side=side)


def render_svg(text: str, *, side: int) -> Image.Image:
    """Draw an SVG (RGBA) at `side` pixels on its longest side. Raises `ValueError` where nothing can be drawn."""
    if len(text) > LIMIT_SVG_BYTES:
        raise ValueError(f"SVG has {len(text)} characters, over the {LIMIT_SVG_BYTES} limit")
    image = _draw(text, width=side, height=None)
    return image if image.height <= side else _draw(text, width=None, height=side)


def on_white(image: Image.Image, *, side: int) -> Image.Image:
    """RGB copy on white, shrunk (never enlarged) so that its longest side is at most `side` pixels."""
    rgba = image.convert("RGBA")
    if max(rgba.size) > side:
        # Premultiplied, so that colour hidden under transparent pixels does not bleed into the edges.
        scale = side / max(rgba.size)
        size = (max(1, round(rgba.width * scale)), max(1, round(rgba.height * scale)))
        rgba = rgba.convert("RGBa").resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0).convert("RGBA")
    canvas = Image.new("RGBA", rgba.size, (*WHITE, 255))
    canvas.alpha_composite(rgba)
    return canvas.convert("RGB")


def is_blank(image: Image.Image) -> bool:
    """Whether a picture shows (nearly) nothing: its grey values spread by less than 2 of 255."""
    return float(np.asarray(image.convert("L"), dtype=np.float32).std()) < 2.0


def dhash(image: Image.Image, *, size: int = 16) -> np.ndarray:
    """Difference hash: bool `(size * size,)`, whether each grey cell is clearly brighter than its left neighbour.

    Clearly: by more than 4 of 255, so that JPEG's noise on a plain ground does not count.
    White borders are cut first, so that the same drawing with another margin hashes alike.
    """
    grey = np.asarray(image.convert("L"), dtype=np.uint8)
    ink = grey < 250
    if ink.any():
        rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
        grey = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    small = Image.fromarray(grey).resize((size + 1, size), Image.Resampling.BOX)
    cells = np.asarray(small, dtype=np.int16)
    return (cells[:, 1:] > cells[:, :-1] + 4).ravel()


def save_jpeg(image: Image.Image, path: Path) -> None:
    """Write a JPEG of quality 95 without chroma subsampling, by way of a temporary name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    image.save(partial, format="JPEG", quality=95, subsampling=0)
    partial.replace(path)


def _draw(text: str, *, width: int | None, height: int | None) -> Image.Image:
    """RGBA picture of an SVG at a width or height in pixels. Raises `ValueError` where resvg cannot draw it."""
    try:
        # At its default of 0 dots per inch resvg takes a size in pt, cm or mm for none ("SVG has an invalid size").
        data = resvg_py.svg_to_bytes(svg_string=text, width=width, height=height, dpi=96)
        image = Image.open(io.BytesIO(bytes(data)))
        image.load()
    except BaseException as error:  # a panic of resvg reaches Python as a BaseException
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise ValueError(f"SVG could not be drawn: {error}") from error
    return image.convert("RGBA")
