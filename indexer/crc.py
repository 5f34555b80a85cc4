"""crc32 of files and of small JSON documents."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

_BLOCK = 1 << 20


def crc32_of_file(file: BinaryIO, n_bytes: int | None = None) -> int:
    """Of the first ``n_bytes`` of an open file, of all of it without."""
    file.seek(0)
    crc, left = 0, n_bytes
    while left is None or left > 0:
        block = file.read(_BLOCK if left is None else min(left, _BLOCK))
        if not block:
            break
        crc = zlib.crc32(block, crc)
        left = None if left is None else left - len(block)
    return crc


def crc32_of_json(said: Mapping[str, Any]) -> int:
    """Of an object's values, whatever their order."""
    return zlib.crc32(json.dumps(said, sort_keys=True).encode())
