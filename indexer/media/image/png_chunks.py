"""The chunks of a PNG: which of them the pixels need, and whether these are whole. Decodes nothing but remarks.

A picture whose pixels fail their checksum would be given back with wrong ones, so it is refused. What stands beside the
pixels (remarks, profiles, the mark of the end) may be damaged or larger than Pillow takes: it is passed over.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import BinaryIO

from indexer.files import media_error, one_line
from indexer.limits import MediaLimits
from indexer.media.image.cost import header_bytes
from indexer.media.image.pieces import Piece, Pieces
from indexer.media.stopwatch import HEADER_TOO_LARGE, Stopwatch

CUT_SHORT = "is a PNG picture that is cut short: its end is missing; copy it again or remove it"
DAMAGED_CHUNK = "a chunk beside the pixels of a PNG is damaged; it was passed over"
LARGE_CHUNK = "a PNG holds a remark or a profile of over 1 MB; it was passed over"
NO_END = "a PNG lacks the mark of its end; its pixels are whole"

#: Of a remark or profile, unpacked: what Pillow takes. And of all of them together.
_REMARK_BYTES, _REMARKS_BYTES = 1 << 20, 32 << 20
#: Of a chunk that Pillow keeps, beside its content.
_CHUNK_BYTES = 200
#: Chunks without which the pixels are others, beside those whose name begins with a capital.
_NEEDED = frozenset((b"tRNS", b"acTL", b"fcTL", b"fdAT"))
_END = b"\0\0\0\0IEND\xaeB`\x82"


def check_png(
    path: Path, file: BinaryIO, limits: MediaLimits, watch: Stopwatch
) -> tuple[Pieces | None, tuple[str, ...]]:
    """The file without what was passed over (``None``: all of it is kept), and what was wrong.

    Raises ``MediaError`` for damage to the pixels, and for more beside them than may be kept.
    """
    size = os.fstat(file.fileno()).st_size
    remarks: dict[str, None] = {}
    pieces: list[Piece] = [(0, 8)]
    at, name, kept_bytes, remark_bytes, has_pixels = 8, b"", 0, 0, False
    while name != b"IEND":
        watch.check()
        file.seek(at)
        heading = file.read(8)
        length, name = int.from_bytes(heading[:4]), heading[4:]
        left = size - at - 12
        if has_pixels and (len(heading) < 8 or (length > left and _is_beside(name)) or (name == b"IEND" and left < 0)):
            remarks[NO_END] = None
            pieces.append(_END)
            break
        if len(heading) < 8:
            raise media_error(path, CUT_SHORT)
        if length > left:
            what = "" if name.isalpha() else " after damage"
            raise media_error(
                path,
                f"is a PNG picture that is damaged or cut short (chunk {one_line(name.decode('latin-1'))}{what}"
                f" states {length:,} bytes, {max(0, left):,} are left); copy it again or remove it",
            )
        checksum, content = zlib.crc32(name), b""
        for start in range(0, length, 1 << 20):
            block = file.read(min(1 << 20, length - start))
            checksum = zlib.crc32(block, checksum)
            content = block if start == 0 else content
        is_whole = file.read(4) == checksum.to_bytes(4)
        unpacked = _unpacked_bytes(name, length, content) if _is_beside(name) else 0
        if _is_beside(name) and not is_whole:
            remarks[DAMAGED_CHUNK] = None
        elif not is_whole:
            raise media_error(
                path,
                f"is a PNG picture that is damaged (chunk {one_line(name.decode('latin-1'))} fails its"
                " checksum); copy it again or remove it",
            )
        elif unpacked > _REMARK_BYTES or remark_bytes + unpacked > _REMARKS_BYTES:
            remarks[LARGE_CHUNK] = None
        else:
            remark_bytes += unpacked
            kept_bytes += length + _CHUNK_BYTES if name not in (b"IDAT", b"fdAT") else 0
            _append(pieces, at, length + 12)
        if kept_bytes > header_bytes(limits):
            raise media_error(path, HEADER_TOO_LARGE.format(header_bytes(limits) / 1e6))
        has_pixels = has_pixels or name == b"IDAT"
        at += length + 12
    return (Pieces(file, pieces) if remarks else None), tuple(remarks)


def _is_beside(name: bytes) -> bool:
    """Whether the pixels are the same without a chunk of this name."""
    return name.isalpha() and name[:1].islower() and name not in _NEEDED


def _unpacked_bytes(name: bytes, length: int, content: bytes) -> int:
    """What a chunk of ``length`` takes when it is unpacked, up to a little over the limit; ``content`` begins it."""
    if length > _REMARK_BYTES or name not in (b"iTXt", b"zTXt", b"iCCP"):
        return length
    _, _, rest = content.partition(b"\0")
    if name == b"iTXt":
        if rest[:1] != b"\1":
            return length
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    else:
        rest = rest[1:]
    try:
        return len(zlib.decompressobj().decompress(rest, _REMARK_BYTES + 1))
    except zlib.error:
        return length


def _append(pieces: list[Piece], start: int, length: int) -> None:
    last = pieces[-1]
    if not isinstance(last, bytes) and last[0] + last[1] == start:
        pieces[-1] = (last[0], last[1] + length)
    else:
        pieces.append((start, length))
