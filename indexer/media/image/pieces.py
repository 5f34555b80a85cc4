"""Stretches of an open file, and bytes of our own, one behind the other as a file for reading. Knows no format."""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import BinaryIO

#: (start, length) in the file, or bytes.
Piece = tuple[int, int] | bytes


class Pieces:
    """What the pieces hold in their order; the file itself is not changed."""

    def __init__(self, file: BinaryIO, pieces: list[Piece]) -> None:
        self._file = file
        self._pieces = [piece for piece in pieces if (len(piece) if isinstance(piece, bytes) else piece[1])]
        self._starts, self.size = [], 0
        for piece in self._pieces:
            self._starts.append(self.size)
            self.size += len(piece) if isinstance(piece, bytes) else piece[1]
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """As of any file."""
        left = max(0, self.size - self._at)
        size = left if size < 0 else min(size, left)
        found = []
        while size > 0:
            number = bisect_right(self._starts, self._at) - 1
            piece, offset = self._pieces[number], self._at - self._starts[number]
            if isinstance(piece, bytes):
                block = piece[offset : offset + size]
            else:
                self._file.seek(piece[0] + offset)
                block = self._file.read(min(size, piece[1] - offset))
            if not block:
                break
            found.append(block)
            size -= len(block)
            self._at += len(block)
        return b"".join(found)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        self._at = max(0, {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence] + offset)
        return self._at

    def tell(self) -> int:
        """As of any file."""
        return self._at
