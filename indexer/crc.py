"""crc32 of files and of small JSON documents."""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

_BLOCK = 1 << 20


def crc32_of_file(file: BinaryIO, n_bytes: int | None = None) -> int:
    """Of the first ``n_bytes`` of an open file, of all of it without.

    Raises ``OSError`` also where a read ends before the file: of a part, it would be the checksum of something else.
    """
    left = os.fstat(file.fileno()).st_size if n_bytes is None else n_bytes
    file.seek(0)
    crc = 0
    while left > 0:
        block = file.read(min(left, _BLOCK))
        if not block:
            raise OSError(errno.EIO, "the read ended before the file")
        crc = zlib.crc32(block, crc)
        left -= len(block)
    return crc


def crc32_of_json(values: Mapping[str, Any]) -> int:
    """Of an object's values, whatever their order."""
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())
