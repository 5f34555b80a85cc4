"""How many scans a JPEG has. Decodes nothing.

Each scan of a progressive JPEG goes over all of the picture, and may take only some bytes: a small file can keep a
decoder busy for minutes. Cameras and programs write about ten.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

from indexer.files import media_error
from indexer.limits import MediaLimits
from indexer.media.stopwatch import Stopwatch

#: For each second of the time limit.
SCANS_PER_SECOND = 5

_BLOCK_BYTES = 1 << 16
# Neither a stuffed byte, nor a restart, nor padding: the next segment.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_ALONE = frozenset(b"\x01\xd8")  # without a length
_END, _SCAN = 0xD9, 0xDA


def check_scans(path: Path, file: BinaryIO, limits: MediaLimits, watch: Stopwatch) -> None:
    """Raises ``MediaError`` for a JPEG with more scans than the time limit allows. What follows its end is let be."""
    allowed = max(1, int(SCANS_PER_SECOND * limits.max_seconds))
    scans = 0
    at, block, start = 2, b"", 0  # in the file; the bytes from ``start`` on
    while scans <= allowed:
        found = _MARKER.search(block, max(0, at - start)) if at >= start else None
        if found is None or found.end() + 2 > len(block):
            # What was searched holds no segment, but for its last bytes.
            at = max(at, start + (found.start() if found else len(block) - 1))
            start = at
            file.seek(at)
            watch.check()
            block = file.read(_BLOCK_BYTES)
            found = _MARKER.search(block)
            if found is None and len(block) == _BLOCK_BYTES:
                continue
            if found is None or found.end() + 2 > len(block):
                return  # cut short, or its end
        name = found[0][1]
        if name == _END:
            return
        scans += name == _SCAN
        length = 0 if name in _ALONE else int.from_bytes(block[found.end() : found.end() + 2])
        at = start + found.end() + length
    raise media_error(
        path,
        f"is a JPEG picture of over {allowed:,} scans, more than the {limits.max_seconds:g} s limit allows;"
        " save it again or raise --max-seconds",
    )
