"""A decoded picture of any mode and any size -> eight bits a channel, long side limited; piece by piece.

Converting and scaling a large picture as a whole would take several times its memory. Here it is done in tiles of a
few megabytes, with the very pixels that ``Image.thumbnail`` gives. Knows nothing of files or formats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Pixels of a tile.
_TILE_PX = 1 << 20
#: Pixels that are scaled as a whole: by Pillow, which chooses the order of across and down by their cost.
_WHOLE_PX = 48_000_000
#: As ``Image.thumbnail``: a box filter first shrinks to no less than this many times the wanted size.
_REDUCING_GAP = 3.0
_FILTER = Image.Resampling.LANCZOS

#: Of the 256: a picture of more than eight bits that would keep fewer is shown from its least to its most.
_LEAST_LEVELS = 4

_Box = tuple[int, int, int, int]


def eight_bits(source: Image.Image, max_side_px: int) -> Image.Image:
    """RGB, RGBA where something is transparent, or L; shrunk to ``max_side_px`` where the long side is over that.

    More than eight bits become eight: by the range that the type or the values show, black staying black.
    """
    convert = _Converter(source)
    if max(source.size) <= max_side_px:
        return convert(source)
    return _shrunk(source, convert, fitting(*source.size, max_side_px))


def side_needed(width: int, height: int, picture_px: int | None, most_px: int) -> int:
    """The long side that a picture of more than ``most_px`` is shrunk to for a tower that sees ``picture_px``.

    At most ``most_px``, where the shorter side keeps three times ``picture_px`` also less.
    """
    if picture_px is None:
        return most_px
    return min(most_px, math.ceil(_REDUCING_GAP * picture_px * max(width, height) / min(width, height)))


def fitting(width: int, height: int, side: int) -> tuple[int, int]:
    """The size that ``Image.thumbnail((side, side))`` gives to a picture that is larger."""

    def nearest(number: float, off: Any) -> int:
        return max(min(math.floor(number), math.ceil(number), key=off), 1)

    aspect = width / height
    if aspect <= 1:
        return nearest(side * aspect, lambda n: abs(aspect - n / side)), side
    return side, nearest(side / aspect, lambda n: 0 if n == 0 else abs(aspect - side / n))


class _Converter:
    """Any tile of one picture -> eight bits, by what is true of all of it."""

    def __init__(self, source: Image.Image) -> None:
        self._mode: str | None = None  # to be converted by Pillow
        self._is_flat = False
        self._low, self._full = 0.0, 255.0
        if source.mode in ("I", "F"):
            self._low, self._full = _range(source)
        elif source.mode.startswith("I;16"):
            low, high, _ = _bounds(source)
            self._is_flat = high - low > 0 and (int(high) >> 8) - (int(low) >> 8) < _LEAST_LEVELS
            if self._is_flat:
                self._low, self._full = low, high
        else:
            is_grey = source.mode in ("1", "L") and not source.has_transparency_data
            self._mode = "L" if is_grey else "RGBA" if source.has_transparency_data else "RGB"

    def __call__(self, tile: Image.Image) -> Image.Image:
        if self._mode is not None:
            return tile.convert(self._mode)  # a copy, also where the mode is the same
        values = np.asarray(tile)
        if values.dtype.kind == "u" and not self._is_flat:
            return Image.fromarray(np.right_shift(values, 8).astype(np.uint8))
        scaled = (_finite(values) - self._low) * (255.0 / max(self._full - self._low, 1e-12))
        grey: NDArray[np.uint8] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
        return Image.fromarray(grey)


def _bounds(source: Image.Image) -> tuple[float, float, str]:
    """The least and the greatest number of a picture, and the kind of its numbers."""
    low, high, kind = math.inf, -math.inf, "f"
    for box in _boxes((0, 0, *source.size), 1, 1):
        values = np.asarray(source.crop(box))
        kind = values.dtype.kind
        finite = _finite(values)
        low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return low, high, kind


def _range(source: Image.Image) -> tuple[float, float]:
    """What becomes black and what becomes white in a picture of floats or of 32-bit integers."""
    least, high, kind = _bounds(source)
    low = min(0.0, least)
    # 0..1, 0..255 and 0..65535 are what writers mean; anything else is shown from its least to its most.
    full = next((top for top in (1.0, 255.0, 65535.0) if high <= top), high) if low == 0 else high
    full = 255.0 if kind == "i" and full == 1.0 else full
    if least < high and (high - least) * 255.0 < _LEAST_LEVELS * (full - low):
        return least, high
    return low, full


def _finite(values: NDArray[Any]) -> NDArray[np.float32]:
    floats = values.astype(np.float32)
    if np.isfinite(floats.min()) and np.isfinite(floats.max()):  # a NaN anywhere makes both NaN
        return floats
    return np.asarray(np.nan_to_num(floats, nan=0.0, posinf=0.0, neginf=0.0), dtype=np.float32)


def shrinking_bytes(width: int, height: int, side: int) -> int:
    """What :func:`eight_bits` takes beside the picture itself."""
    if max(width, height) <= side:
        return 4 * width * height
    reduced_width, reduced_height = _reduced(width, height, fitting(width, height, side))
    if reduced_width * reduced_height > _WHOLE_PX:
        reduced_width = side
    return 4 * reduced_width * reduced_height + 16 * _TILE_PX


def _factors(width: int, height: int, size: tuple[int, int]) -> tuple[int, int]:
    return int(width / size[0] / _REDUCING_GAP) or 1, int(height / size[1] / _REDUCING_GAP) or 1


def _reduced(width: int, height: int, size: tuple[int, int]) -> tuple[int, int]:
    """After the box filter; the sides are below ``2 * _REDUCING_GAP`` times those of ``size``."""
    factor_x, factor_y = _factors(width, height, size)
    return -(-width // factor_x), -(-height // factor_y)


def _shrunk(source: Image.Image, convert: _Converter, size: tuple[int, int]) -> Image.Image:
    """``convert(source)`` as ``thumbnail`` would shrink it to ``size``.

    First a box filter by whole factors, tile by tile; then Lanczos, of all at once where that is small, and else
    across for some rows at a time and down at the end.
    """
    width, height = source.size
    factor_x, factor_y = _factors(width, height, size)
    reduced = _reduced(width, height, size)
    is_whole = reduced[0] * reduced[1] <= _WHOLE_PX
    gathered: Image.Image | None = None  # reduced, or (size[0], reduced[1])
    for top, bottom in _rows(0, height, width, factor_y):
        strip: Image.Image | None = None
        for box in _boxes((0, top, width, bottom), factor_x, factor_y):
            tile = convert(source.crop(box))
            if tile.mode == "RGBA":
                tile = tile.convert("RGBa")  # colours count by how much is seen of them
            tile = tile.reduce((factor_x, factor_y))
            strip = strip or Image.new(tile.mode, (reduced[0], -(-(bottom - top) // factor_y)))
            strip.paste(tile, (box[0] // factor_x, (box[1] - top) // factor_y))
        assert strip is not None
        if not is_whole:
            strip = strip.resize((size[0], strip.height), _FILTER, box=(0, 0, width / factor_x, strip.height))
        gathered = gathered or Image.new(strip.mode, (strip.width, reduced[1]))
        gathered.paste(strip, (0, top // factor_y))
    assert gathered is not None
    across = width / factor_x if is_whole else size[0]
    whole = gathered.resize(size, _FILTER, box=(0, 0, across, height / factor_y))
    return whole.convert("RGBA") if whole.mode == "RGBa" else whole


def _rows(top: int, bottom: int, width: int, factor_y: int) -> Iterator[tuple[int, int]]:
    rows = max(1, _TILE_PX // (width * factor_y)) * factor_y
    for y in range(top, bottom, rows):
        yield y, min(bottom, y + rows)


def _boxes(box: _Box, factor_x: int, factor_y: int) -> Iterator[_Box]:
    """``box`` in tiles of whole factors, row by row."""
    left, top, right, bottom = box
    columns = max(1, min(right - left, _TILE_PX // factor_y) // factor_x) * factor_x
    for y, end in _rows(top, bottom, columns, factor_y):
        for x in range(left, right, columns):
            yield x, y, min(right, x + columns), end
