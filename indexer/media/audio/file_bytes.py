"""A stretch of an open file, read from its own place. Knows nothing of formats.

Decoders share a descriptor, and each moves the one place that it has: what one of them reads must not depend on where
another stopped. A stretch has a place of its own, so each decoder is given a new one and starts at its first byte.
"""

from __future__ import annotations

import os

_has_pread = hasattr(os, "pread")


class FileBytes:
    """``size`` bytes of an open file from byte ``start`` on, as a file for reading. Does not close it."""

    def __init__(self, handle: int, start: int = 0, size: int | None = None) -> None:
        whole = os.fstat(handle).st_size
        self.handle = handle
        self.start = min(start, whole)
        self.size = whole - self.start if size is None else max(0, min(size, whole - self.start))
        self.is_whole = self.start == 0 and self.size == whole
        """Whether it is all of the file, so that a decoder may as well be given the descriptor."""
        self._at = 0

    def part(self, start: int = 0, size: int | None = None) -> FileBytes:
        """A new stretch of this one, at its own first byte."""
        left = max(0, self.size - start)
        return FileBytes(self.handle, self.start + min(start, self.size), left if size is None else min(size, left))

    def read(self, size: int = -1) -> bytes:
        """As of any file."""
        left = max(0, self.size - self._at)
        found = self._read(left if size < 0 else min(size, left), self.start + self._at)
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file. Raises ``ValueError`` for a place before the first byte."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("a place before the first byte")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """As of any file."""
        return self._at

    def _read(self, size: int, at: int) -> bytes:
        parts = []
        while size > 0:
            if _has_pread:
                found = os.pread(self.handle, size, at)
            else:  # Windows
                os.lseek(self.handle, at, os.SEEK_SET)
                found = os.read(self.handle, size)
            if not found:
                break
            parts.append(found)
            size, at = size - len(found), at + len(found)
        return parts[0] if len(parts) == 1 else b"".join(parts)
