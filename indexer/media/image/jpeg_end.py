"""A JPEG without the two bytes that end it: whether all of its pixels are there. Decodes nothing itself.

A decoder reads some bytes further than it needs, and fills what is missing with grey. So it is given two different
continuations: the picture is whole if both give the same pixels.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from PIL import JpegImagePlugin

from indexer.media.image.pieces import Pieces

NO_END = "a JPEG lacks the two bytes that end it; its pixels are whole"

_PADDINGS = (b"\0" * 12, b"\xaa" * 12)
#: A larger file is not looked through.
_MOST_BYTES = 100_000_000
_END = b"\xff\xd9"


def continued(file: BinaryIO) -> tuple[Pieces, Pieces]:
    """The file with its end, behind two different fillings."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - 1))
    if file.read(1) == b"\xff":  # half of the end
        size -= 1
    one, other = (Pieces(file, [(0, size), padding + _END]) for padding in _PADDINGS)
    return one, other


def has_all_scans(file: BinaryIO) -> bool:
    """Whether every coefficient of every component is there in full: scans that are missing leave no gap to see."""
    if os.fstat(file.fileno()).st_size > _MOST_BYTES:
        return False
    file.seek(0)
    with JpegImagePlugin.JpegImageFile(file, "") as opened:
        components = [component for component, _, _, _ in opened.layer]
    file.seek(0)
    data = file.read()
    full: dict[int, set[int]] = {int.from_bytes(c) if isinstance(c, bytes) else int(c): set() for c in components}
    at = 2
    while data[at : at + 2] != b"\xff\xda":  # segment by segment: a preview within one of them has scans of its own
        if len(data) < at + 4:
            return False
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    while at >= 0:
        count = data[at + 4] if at + 4 < len(data) else 0
        tail = data[at + 5 + 2 * count : at + 8 + 2 * count]
        if count > len(full) or len(tail) < 3:
            return False
        if tail[2] & 0x0F == 0:
            for number in range(count):
                full.get(data[at + 5 + 2 * number], set()).update(range(tail[0], min(tail[1], 63) + 1))
        at = data.find(b"\xff\xda", at + 2)
    return bool(full) and all(len(known) == 64 for known in full.values())
