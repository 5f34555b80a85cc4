"""What decoding a picture takes in memory and in passes over it, by its header and before it is decoded.

The figures were measured with Pillow 13 and pillow-heif 1.8 (the most memory of a process, a picture a process).
Knows Pillow's readers; decodes nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from PIL import ImageFile, JpegImagePlugin, TiffImagePlugin

from indexer.files import media_error
from indexer.limits import MediaLimits, check_memory
from indexer.media.formats import AVIF, HEIF, Kind
from indexer.media.image.shrink import shrinking_bytes

#: Of numbers in one entry of a TIFF directory: Python makes an object of each.
MAX_TIFF_NUMBERS = 1_000_000
#: Of a JPEG in a TIFF; a progressive one has about ten. (A JPEG file itself is fed in pieces, by the clock.)
MAX_TIFF_SCANS = 50
#: Bytes that are handed to a decoder at once, so that time is looked at between them.
BLOCK_BYTES, JPEG_BLOCK_BYTES = 1 << 20, 1 << 12

_BYTES_PER_PIXEL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # all others: 4
#: Beside Pillow's own picture: planes, canvases and copies of decoders that give the picture as a whole.
_WHOLE_BYTES_PER_PIXEL = {".webp": 12, AVIF.suffix: 10, HEIF.suffix: 10}
#: Read as a whole before they are decoded.
_READ_WHOLE = frozenset(_WHOLE_BYTES_PER_PIXEL)
#: Pillow's decoders in Python, which gather bytes, copy them and then make a picture of them.
_GATHERING = frozenset(("ppm", "ppm_plain", "bmp_rle"))
ICO_BYTES_PER_PIXEL = 12
_HEADER_COPIES = 4
_PLANAR, _YCBCR = 284, 6


def header_bytes(limits: MediaLimits) -> int:
    """What may be read of a file before its pixels: remarks are kept, some of them several times."""
    return int(limits.max_decoded_mb * 1e6 / _HEADER_COPIES)


def check_before_opening(path: Path, file: BinaryIO, kind: Kind, limits: MediaLimits) -> None:
    """Raises ``MediaError`` for what would harm already while Pillow reads the header."""
    if kind.suffix in _READ_WHOLE:
        check_memory(path, _HEADER_COPIES * os.fstat(file.fileno()).st_size, limits)
    if kind.suffix == ".tif":
        _check_directory(path, file)
    file.seek(0)


def decoding_bytes(
    source: ImageFile.ImageFile, kind: Kind, stated: tuple[int, int], max_side_px: int, read_bytes: int
) -> int:
    """The most that decoding an opened picture takes, and then making it small.

    ``stated``: its size before ``draft``. ``read_bytes``: of the file so far.
    """
    width, height = source.size
    pixels = width * height
    per_pixel = _BYTES_PER_PIXEL.get(source.mode, 4) + _WHOLE_BYTES_PER_PIXEL.get(kind.suffix, 0)
    if kind.suffix == ".ico":
        per_pixel += ICO_BYTES_PER_PIXEL
    if any(tile[0] in _GATHERING for tile in source.tile):
        per_pixel += 8
    # Two rows of at most eight bytes a pixel, and a pointer a row.
    total = pixels * per_pixel + 16 * width + 8 * height + _HEADER_COPIES * read_bytes
    if isinstance(source, JpegImagePlugin.JpegImageFile):
        total += _coefficient_bytes(source, stated)
    elif isinstance(source, TiffImagePlugin.TiffImageFile):
        total += _strip_bytes(source)
    return total + shrinking_bytes(width, height, max_side_px)


def check_strips(path: Path, file: BinaryIO, source: TiffImagePlugin.TiffImageFile) -> None:
    """Raises ``MediaError`` for a TIFF whose strips are read again and again, or whose JPEGs have too many scans."""
    tags = source.tag_v2
    offsets = _numbers(tags, TiffImagePlugin.STRIPOFFSETS) or _numbers(tags, TiffImagePlugin.TILEOFFSETS)
    counts = _numbers(tags, TiffImagePlugin.STRIPBYTECOUNTS) or _numbers(tags, TiffImagePlugin.TILEBYTECOUNTS)
    size = os.fstat(file.fileno()).st_size
    if sum(min(count, size) for count in counts) > 2 * size + BLOCK_BYTES:
        raise media_error(path, "is a TIFF picture whose strips overlap; save it again")
    compression = int(tags.get(TiffImagePlugin.COMPRESSION, 1))
    if len(offsets) < _stated_strips(source) or (compression == 1 and 0 < sum(counts) < _stated_bytes(source)):
        raise media_error(
            path,
            f"is a TIFF picture that is cut short: it states {source.height:,} rows and holds fewer;"
            " copy it again or remove it",
        )
    if compression not in (6, 7):
        return
    for offset, count in zip(offsets, counts, strict=False):
        if _scans(file, offset, min(count, size)) > MAX_TIFF_SCANS:
            raise media_error(
                path, f"is a TIFF picture with more than {MAX_TIFF_SCANS} scans in a strip; save it again"
            )


def _check_directory(path: Path, file: BinaryIO) -> None:
    """The first directory's entries: how many numbers each holds."""
    file.seek(0)
    start = file.read(16)
    order = "little" if start[:2] == b"II" else "big"
    is_big = start[2:4] in (b"+\0", b"\0+")
    at = int.from_bytes(start[8:16] if is_big else start[4:8], order)  # type: ignore[arg-type]
    if at >= 1 << 63:
        return  # Pillow refuses it
    width, place, length = (20, 8, 8) if is_big else (12, 2, 4)
    file.seek(at)
    entries = min(int.from_bytes(file.read(place), order), 65_536)  # type: ignore[arg-type]
    listed = file.read(entries * width)
    for start_at in range(0, len(listed) - width + 1, width):
        entry = listed[start_at : start_at + width]
        tag, kind = (int.from_bytes(entry[i : i + 2], order) for i in (0, 2))  # type: ignore[arg-type]
        count = int.from_bytes(entry[4 : 4 + length], order)  # type: ignore[arg-type]
        if kind not in (1, 2, 6, 7) and count > MAX_TIFF_NUMBERS:
            raise media_error(
                path,
                f"is a TIFF picture with {count:,} numbers in tag {tag}, over the limit of {MAX_TIFF_NUMBERS:,};"
                " save it again in larger strips or tiles",
            )


def _coefficient_bytes(source: JpegImagePlugin.JpegImageFile, stated: tuple[int, int]) -> int:
    """A JPEG of several scans is kept as coefficients of two bytes until its last scan, whatever the draft."""
    is_progressive = bool(source.info.get("progressive"))
    if not source.layer or not (is_progressive or _is_in_several_scans(source)):
        return 0
    across, down = max(h for _, h, _, _ in source.layer), max(v for _, _, v, _ in source.layer)
    share = sum(h * v for _, h, v, _ in source.layer) / max(1, across * down)
    return int(2.1 * stated[0] * stated[1] * share)


def _is_in_several_scans(source: JpegImagePlugin.JpegImageFile) -> bool:
    """Whether the first scan lacks a component; the file is just behind its heading."""
    file = source.fp
    assert file is not None
    at = file.tell()
    for components in range(1, len(source.layer)):
        length = 6 + 2 * components
        if at >= length + 2:
            file.seek(at - length - 2)
            heading = file.read(length + 2)
            file.seek(at)
            if heading[:2] == b"\xff\xda" and heading[2:5] == length.to_bytes(2) + bytes([components]):
                return True
    return False


def _strip_bytes(source: TiffImagePlugin.TiffImageFile) -> int:
    """libtiff decodes a strip or a tile as a whole beside the picture, from all of its bytes."""
    if not source.use_load_libtiff:
        return 0
    tags = source.tag_v2
    width, height = source.size
    bits = max(_numbers(tags, TiffImagePlugin.BITSPERSAMPLE) or [1])
    samples = int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))
    if TiffImagePlugin.TILEWIDTH in tags and TiffImagePlugin.TILELENGTH in tags:
        strip = int(tags[TiffImagePlugin.TILEWIDTH]) * int(tags[TiffImagePlugin.TILELENGTH])
    else:
        strip = width * min(height, int(tags.get(TiffImagePlugin.ROWSPERSTRIP, height) or height))
    is_jpeg = int(tags.get(TiffImagePlugin.COMPRESSION, 1)) in (6, 7)
    counts = _numbers(tags, TiffImagePlugin.STRIPBYTECOUNTS) or _numbers(tags, TiffImagePlugin.TILEBYTECOUNTS) or [0]
    per_pixel = max(4.0, bits * samples / 8) + (2.1 * samples if is_jpeg else 0)
    return int(strip * per_pixel) + max(counts)


def _stated_strips(source: TiffImagePlugin.TiffImageFile) -> int:
    """How many strips or tiles a picture of this size has."""
    tags = source.tag_v2
    width, height = int(tags[TiffImagePlugin.IMAGEWIDTH]), int(tags[TiffImagePlugin.IMAGELENGTH])
    planes = int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)) if int(tags.get(_PLANAR, 1)) == 2 else 1
    if TiffImagePlugin.TILEWIDTH in tags and TiffImagePlugin.TILELENGTH in tags:
        across, down = int(tags[TiffImagePlugin.TILEWIDTH]), int(tags[TiffImagePlugin.TILELENGTH])
        return planes * -(-width // max(1, across)) * -(-height // max(1, down))
    rows = int(tags.get(TiffImagePlugin.ROWSPERSTRIP, height) or height)
    return planes * -(-height // max(1, rows))


def _stated_bytes(source: TiffImagePlugin.TiffImageFile) -> int:
    """What the pixels take where they are not packed."""
    tags = source.tag_v2
    width, height = int(tags[TiffImagePlugin.IMAGEWIDTH]), int(tags[TiffImagePlugin.IMAGELENGTH])
    bits = _numbers(tags, TiffImagePlugin.BITSPERSAMPLE) or [1]
    samples = int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))
    is_subsampled = int(tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 1)) == _YCBCR
    return 0 if is_subsampled else height * (width * min(bits) * samples // 8)


def _numbers(tags: TiffImagePlugin.ImageFileDirectory_v2, tag: int) -> list[int]:
    value = tags.get(tag, ())
    return [int(one) for one in (value if isinstance(value, tuple) else (value,))]


def _scans(file: BinaryIO, offset: int, count: int) -> int:
    """How many scans begin in a piece of a file."""
    file.seek(offset)
    found, last = 0, b""
    while count > 0 and (block := file.read(min(count, BLOCK_BYTES))):
        count -= len(block)
        found += (last + block).count(b"\xff\xda")
        last = block[-1:]
    return found
