"""Rows of numbers on disk, append-only; the embeddings, which are the source of truth, are kept so.

    vectors/000001-000000.f32     generation 1, shard 0: rows 0 .. rows_per_shard - 1
    vectors/000001-000001.f32     generation 1, shard 1: the next rows

Knows nothing of items, SQL or FAISS. A shard is bare little-endian float32, row after row (:class:`RowStore` is the
same for any type; :mod:`indexer.collection.token_store` has another). How many rows count is not written here: the
catalog's transaction says it (the commit point). Bytes past that count were never committed and are overwritten by the
next append. A generation is never changed in place: ``compact`` writes the next one.
"""

from __future__ import annotations

import contextlib
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer.durable import make_way, storage_errors, sync_folder
from indexer.errors import IndexDamaged
from indexer.reading import OpenFile, misplaced, read_pieces

#: Size of a full shard: few files for a big collection, and 32-bit friendly maps.
SHARD_BYTES = 256 * 2**20
_FLOAT32 = np.dtype("<f4")
#: Rows that are read one by one: the candidates of a batch of searches.
_FEW = 2_048
#: Bytes between two wanted rows that are read over: about as fast as a call of its own for each.
_READ_OVER_BYTES = 16_384
#: Of one call where some of the rows are not wanted.
_SPAN_BYTES = 2**20
#: Rows whose checksums are computed at a time.
_CHECKED_AT_ONCE = 16_384

Number = TypeVar("Number", np.float32, np.uint8, np.uint32)
Store = TypeVar("Store", bound="RowStore[Any]")


def rows_per_shard(dim: int) -> int:
    """Rows of ``dim`` float32 in one full shard."""
    return max(1, SHARD_BYTES // (dim * _FLOAT32.itemsize))


class RowStore(Generic[Number]):
    """Rows ``0 .. count - 1`` of one generation. Read by calls, never mapped: see :class:`indexer.reading.OpenFile`."""

    dtype: ClassVar[np.dtype[Any]]
    suffix: ClassVar[str]
    """Of the files' names."""
    noun: ClassVar[str]
    """What a row is, in messages."""

    sums: Checksums | None = None
    """Of its rows, where it was created to keep them."""

    def __init__(
        self, folder: Path, *, dim: int, generation: int, count: int, shard_rows: int, checked: bool = False
    ) -> None:
        self.folder = folder
        self.dim = dim
        self.generation = generation
        self.count = count
        self.shard_rows = shard_rows
        self._files: dict[int, OpenFile] = {}
        if checked:
            self.sums = Checksums(folder, dim=1, generation=generation, count=count, shard_rows=shard_rows)

    def append(self, matrix: NDArray[Number], *, at: int, sums: NDArray[np.uint32] | None = None) -> None:
        """Write rows ``at .. at + n - 1`` and sync them; ``at`` is the committed count.

        ``sums`` ``(n, 1)``: their checksums, where they are copies of rows that have some. What stood there is garbage
        of an append that was never committed. Raises ``StorageError`` (disk full, read-only) with nothing committed
        lost, ``IndexDamaged`` when committed rows before ``at`` are missing.
        """
        rows = np.ascontiguousarray(matrix, dtype=self.dtype)
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ValueError(f"rows of {self.dim} numbers expected, got an array of shape {matrix.shape}")
        if self.sums is not None:
            self.sums.append(checksums(rows) if sums is None else sums, at=at)
        if at == 0:
            with storage_errors(self.folder):
                self.folder.mkdir(exist_ok=True)
        done = 0
        while done < len(rows):
            shard, row = divmod(at + done, self.shard_rows)
            piece = rows[done : done + self.shard_rows - row]
            self._write(shard, row, piece)
            done += len(piece)
        self.count = at + len(rows)

    def rewind(self, count: int) -> None:
        """Forget appended rows past ``count``: their transaction did not happen."""
        if self.sums is not None:
            self.sums.rewind(count)
        self.count = count

    def get(self, ids: NDArray[np.int64]) -> NDArray[Number]:
        """Rows ``ids`` (any order, repeats allowed) -> ``(n, dim)``, a copy.

        Raises ``IndexDamaged`` when one of them was committed and is not in its file.
        """
        wanted = np.asarray(ids, dtype=np.int64).reshape(-1)
        few = wanted.tolist() if len(wanted) <= _FEW else None
        least, most = (min(few, default=0), max(few, default=-1)) if few is not None else (wanted.min(), wanted.max())
        if least < 0 or most >= self.count:
            raise IndexError(f"vector_id out of range 0..{self.count - 1}")
        out: NDArray[Number] = np.empty((len(wanted), self.dim), dtype=self.dtype)
        if few is not None and self._read_few(few, out):
            return out
        order = None if bool(np.all(wanted[1:] >= wanted[:-1])) else np.argsort(wanted, kind="stable")
        ascending = wanted if order is None else wanted[order]
        rows = out if order is None else np.empty_like(out)
        self._gather(ascending, rows)
        if order is not None:
            out[order] = rows
        return out

    def chunks(self, start: int = 0, *, rows: int = 16_384) -> Iterator[tuple[int, NDArray[Number]]]:
        """``(first row, (m, dim))`` over rows ``start .. count - 1``, at most ``rows`` at a time."""
        while start < self.count:
            shard, row = divmod(start, self.shard_rows)
            stop = min(row + rows, self._rows_in(shard))
            piece = self._piece(shard, row, stop)
            if len(piece) < stop - row:
                raise self._damaged(shard)
            yield start, piece
            start += stop - row

    def readable(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the rows ``ids`` are in their files."""
        shards, rows = np.divmod(np.asarray(ids, dtype=np.int64), self.shard_rows)
        lengths = {int(shard): self._rows_there(int(shard)) for shard in np.unique(shards)}
        return rows < np.array([lengths[int(shard)] for shard in shards], dtype=np.int64)

    def open_all(self) -> None:
        """Open every shard now, so that a later ``compact`` by a writer cannot take the files from a reader.

        Raises ``IndexDamaged`` when one is missing or short.
        """
        for shard in range(-(-self.count // self.shard_rows)):
            if self._rows_there(shard) < self._rows_in(shard):
                raise self._damaged(shard)

    def close(self) -> None:
        """Let go of the files; what is read later opens them again."""
        self._files = {}
        if self.sums is not None:
            self.sums.close()

    def copy_to(self: Store, other: Store, ids: NDArray[np.int64], *, at: int) -> None:
        """Append rows ``ids`` to ``other`` with the checksums that they have, so that damage stays seen."""
        sums = None if self.sums is None or other.sums is None else self.sums.get(ids)
        other.append(self.get(ids), at=at, sums=sums)

    def damaged(self, *, rows: int = 16_384) -> NDArray[np.int64]:
        """Committed rows, live and dead, that are not those that were written; none where no checksums are kept."""
        found: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
        for start in range(0, self.count if self.sums is not None else 0, rows):
            ids = np.arange(start, min(start + rows, self.count))
            ids = ids[self.readable(ids)]
            assert self.sums is not None
            known = self.sums.readable(ids)
            wrong = checksums(self.get(ids[known])) != self.sums.get(ids[known])
            found.append(ids[known][wrong[:, 0]])
        return np.concatenate(found)

    def mend_sums(self) -> list[str]:
        """Write the checksums that are missing anew, from the rows as they are; returns the names of their files."""
        mended = []
        for shard in range(-(-self.count // self.shard_rows) if self.sums is not None else 0):
            assert self.sums is not None
            kept, there = self.sums._rows_there(shard), self._rows_there(shard)
            if kept < there:
                if misplaced(self.sums.shard_path(shard)) is not None:
                    make_way(self.sums.shard_path(shard))
                while kept < there:
                    rows = self._piece(shard, kept, min(kept + _CHECKED_AT_ONCE, there))
                    self.sums._write(shard, kept, checksums(rows))
                    kept += len(rows)
                mended.append(self.sums.shard_path(shard).name)
        if self.sums is not None:
            self.sums.rewind(self.count)
        return mended

    def short_shards(self) -> list[str]:
        """One line for every shard that is missing or shorter than the committed count needs."""
        problems = []
        for shard in range(-(-self.count // self.shard_rows)):
            path = self.shard_path(shard)
            need = self._rows_in(shard) * self._row_bytes
            wrong, file = misplaced(path), OpenFile.open(path)
            have = 0 if file is None else file.size()
            if wrong is not None:
                problems.append(f"{path}: {wrong}")
            elif have < need:
                problems.append(f"{path}: is {have:,} bytes, but {need:,} were committed")
        return problems + (self.sums.short_shards() if self.sums is not None else [])

    def next_generation(self: Store) -> Store:
        """An empty store of the next generation; what a crashed ``compact`` left of it is removed."""
        fresh = type(self)(
            self.folder,
            dim=self.dim,
            generation=self.generation + 1,
            count=0,
            shard_rows=self.shard_rows,
            checked=self.sums is not None,
        )
        fresh.discard()
        return fresh

    def discard(self) -> None:
        """Remove the files of this generation, as far as the system lets us."""
        if self.sums is not None:
            self.sums.discard()
        for path in self.folder.glob(f"{self.generation:06d}-*{self.suffix}"):
            with contextlib.suppress(OSError):
                path.unlink()

    def remove_others(self) -> int:
        """Remove the shards of every other generation; returns the bytes freed."""
        freed = self.sums.remove_others() if self.sums is not None else 0
        for path in self.folder.glob(f"*-*{self.suffix}"):
            if not path.name.startswith(f"{self.generation:06d}-"):
                # Windows keeps a file that a reader has mapped; the next writer removes it.
                with contextlib.suppress(OSError):
                    size = path.stat().st_size
                    path.unlink()
                    freed += size
        return freed

    def shard_path(self, shard: int) -> Path:
        """The file of shard number ``shard``."""
        return self.folder / f"{self.generation:06d}-{shard:06d}{self.suffix}"

    @property
    def _row_bytes(self) -> int:
        return self.dim * self.dtype.itemsize

    def _rows_in(self, shard: int) -> int:
        return min(self.shard_rows, self.count - shard * self.shard_rows)

    def _file(self, shard: int) -> OpenFile | None:
        """The open file of a shard; ``None`` where there is none. Raises ``StorageError`` when that fails."""
        files = self._files
        file = files.get(shard)
        if file is None:
            file = OpenFile.open(self.shard_path(shard))
            if file is not None:
                file = files.setdefault(shard, file)
        return file

    def _rows_there(self, shard: int) -> int:
        """How many of the committed rows of a shard are in its file: none where it is missing."""
        file = self._file(shard)
        return 0 if file is None else min(self._rows_in(shard), file.size() // self._row_bytes)

    def _read(self, shard: int, row: int, view: memoryview) -> None:
        """Fill ``view`` with the rows of a shard from ``row`` on. Raises ``IndexDamaged`` where the file ends first."""
        file = self._file(shard)
        if file is None or file.read_into(view, row * self._row_bytes) < len(view):
            raise self._damaged(shard)

    def _piece(self, shard: int, row: int, stop: int) -> NDArray[Number]:
        """Rows ``row .. stop - 1`` of a shard, ``(m, dim)``; fewer where the file ends before."""
        piece: NDArray[Number] = np.empty((stop - row, self.dim), dtype=self.dtype)
        file = self._file(shard)
        there = 0 if file is None else file.read_into(_bytes_of(piece), row * self._row_bytes)
        return piece[: there // self._row_bytes]

    def _read_each(self, shard: int, out: NDArray[Number], places: list[int], offsets: list[int]) -> None:
        """Rows that begin at ``offsets`` of a shard's file into the rows ``places`` of ``out``."""
        file = self._file(shard)
        if file is None or not file.read_each(_bytes_of(out), self._row_bytes, places, offsets):
            raise self._damaged(shard)

    def _read_few(self, ids: list[int], out: NDArray[Number]) -> bool:
        """Rows ``ids`` of a search's candidates one by one into ``out``, which is faster than sorting them.

        False where one of them is not to be had.
        """
        size, per_shard, files = self._row_bytes, self.shard_rows, self._files
        try:
            found = [files[row // per_shard] for row in ids]
        except KeyError:  # not all of them are open yet
            if None in [self._file(row // per_shard) for row in ids]:
                return False
            found = [files[row // per_shard] for row in ids]
        data = read_pieces(found, size, [row % per_shard * size for row in ids])
        if len(data) != out.nbytes:
            return False
        _bytes_of(out)[:] = data
        return True

    def _gather(self, ids: NDArray[np.int64], out: NDArray[Number]) -> None:
        """Rows ``ids``, ascending, into ``out``. Rows that lie close together are read in one call."""
        size, view = self._row_bytes, _bytes_of(out)
        shards, rows = np.divmod(ids, self.shard_rows)
        # a span ends where the next row is far, or in another shard, or would make it too long
        parted = (np.diff(ids) > max(1, _READ_OVER_BYTES // size)) | (np.diff(shards) > 0)
        begins = np.concatenate([[0], np.flatnonzero(parted) + 1])
        ends = np.append(begins[1:], len(ids))
        alone = begins[ends - begins == 1]
        for shard in np.unique(shards[alone]).tolist():
            places = alone[shards[alone] == shard]
            self._read_each(shard, out, places.tolist(), (rows[places] * size).tolist())
        longest = max(1, _SPAN_BYTES // size)
        buffer: NDArray[Number] | None = None
        for begin, end in np.stack([begins, ends], axis=1)[ends - begins > 1].tolist():
            while begin < end:
                first, shard = int(ids[begin]), int(shards[begin])
                stop = begin + int(np.searchsorted(ids[begin:end], first + longest))
                n = int(ids[stop - 1]) - first + 1
                if n == stop - begin and bool((np.diff(ids[begin:stop]) == 1).all()):
                    self._read(shard, int(rows[begin]), view[begin * size : stop * size])
                else:
                    if buffer is None:
                        buffer = np.empty((longest, self.dim), dtype=self.dtype)
                    self._read(shard, int(rows[begin]), _bytes_of(buffer)[: n * size])
                    np.take(buffer, ids[begin:stop] - first, axis=0, out=out[begin:stop], mode="clip")
                begin = stop

    def _damaged(self, shard: int) -> IndexDamaged:
        return IndexDamaged(
            f"{self.shard_path(shard)}: is missing or shorter than what was committed; run: trimodal verify --repair"
        )

    def _write(self, shard: int, row: int, piece: NDArray[Number]) -> None:
        path = self.shard_path(shard)
        offset = row * self._row_bytes
        with storage_errors(path):
            wrong = misplaced(path)
            new = wrong is not None
            if new and (row or wrong != "is missing"):  # no file is made that would look like one of ours
                raise IndexDamaged(f"{path}: {wrong}; run: trimodal verify --repair")
            with path.open("xb" if new else "r+b", buffering=0) as file:
                if os.fstat(file.fileno()).st_size < offset:
                    raise IndexDamaged(
                        f"{path}: is shorter than the {row:,} {self.noun} committed to it; "
                        "run: trimodal verify --repair"
                    )
                try:
                    self._put(file, offset, piece)
                    os.fsync(file.fileno())
                except OSError:
                    with contextlib.suppress(OSError):  # a full disk: give back what the half write took
                        file.truncate(offset)
                    raise
            if new:
                sync_folder(self.folder)

    def _put(self, file: io.FileIO, offset: int, piece: NDArray[Number]) -> None:
        """Write the rows ``piece`` from byte ``offset`` on; what stands there was never committed."""
        file.seek(offset)
        left = memoryview(piece.data).cast("B")
        while left:
            left = left[file.write(left) :]


class Checksums(RowStore[np.uint32]):
    """The crc32 of every row of another store, uint32 ``(n, 1)``, row by row beside it."""

    dtype = np.dtype("<u4")
    suffix = ".crc"
    noun = "checksums"


def _bytes_of(rows: NDArray[Any]) -> memoryview:
    """The memory of a contiguous array, as bytes."""
    return rows.reshape(-1).view(np.uint8).data


def checksums(rows: NDArray[Any]) -> NDArray[np.uint32]:
    """The crc32 of each row ``(n, dim)`` -> uint32 ``(n, 1)``."""
    rows = np.ascontiguousarray(rows)
    return np.fromiter((zlib.crc32(row.data) for row in rows), dtype=np.uint32, count=len(rows))[:, None]


class VectorStore(RowStore[np.float32]):
    """The embeddings, float32 ``(n, dim)``."""

    dtype = _FLOAT32
    suffix = ".f32"
    noun = "vectors"
