"""Media tokens on disk, row by row beside the vectors: the tokens of a segment are at its ``vector_id``.

    tokens/000001-000000.u8     generation 1, shard 0, packed rows (see indexer.encoders.tokens.format)

A text has no tokens. Its row is zeros, and left as a hole in the file, so that it takes no space on a disk whose file
system knows holes. Knows nothing of models, items or SQL.
"""

from __future__ import annotations

import contextlib
import io
import os

import numpy as np
from numpy.typing import NDArray

from indexer.collection.row_store import RowStore
from indexer.durable import make_way, storage_errors, sync_folder
from indexer.reading import misplaced


class TokenStore(RowStore[np.uint8]):
    """Packed media tokens, uint8 ``(n, row_bytes)``; a row of zeros stands for none."""

    dtype = np.dtype(np.uint8)
    suffix = ".u8"
    noun = "rows of media tokens"

    def fill_up(self) -> list[str]:
        """Make missing and short files as long as the committed count needs, with rows of zeros; returns their names.

        Only for when nothing refers to the tokens that were lost with them. Raises ``StorageError``.
        """
        mended = []
        with storage_errors(self.folder):
            self.folder.mkdir(exist_ok=True)
        for shard in range(-(-self.count // self.shard_rows)):
            path, need = self.shard_path(shard), self._rows_in(shard) * self._row_bytes
            if misplaced(path) is not None:
                make_way(path)
            with storage_errors(path), path.open("ab", buffering=0) as file:
                if os.fstat(file.fileno()).st_size < need:
                    file.truncate(need)
                    os.fsync(file.fileno())
                    mended.append(path.name)
        with storage_errors(self.folder):
            sync_folder(self.folder)
        self.close()
        return mended

    def disk_bytes(self) -> int:
        """What the files take on the disk, holes left out where the system reports them."""
        size = 0
        for path in self.folder.glob(f"*-*{self.suffix}"):
            with contextlib.suppress(OSError):
                status = path.stat()
                size += min(status.st_size, getattr(status, "st_blocks", status.st_size) * 512)
        return size

    def _put(self, file: io.FileIO, offset: int, piece: NDArray[np.uint8]) -> None:
        if os.fstat(file.fileno()).st_size > offset:
            file.truncate(offset)  # else what was never committed would show through the holes
        file.truncate(offset + len(piece) * self._row_bytes)
        held = piece.any(axis=1)
        edges = np.flatnonzero(np.diff(held, prepend=False, append=False)).reshape(-1, 2)
        for start, stop in edges.tolist():
            super()._put(file, offset + start * self._row_bytes, piece[start:stop])
