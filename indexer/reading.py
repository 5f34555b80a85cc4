"""Reading a collection's own files: what fails to be read is a ``StorageError``, never damage.

A file that is missing, of another kind or too short is damaged, and can be repaired. A file that the system did not
give (a failing disk, no permission, too many open files) may be whole: nothing may be written or removed because of it.
Knows nothing of what is in the files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from indexer.errors import StorageError

#: Nothing stands there: a plain answer, not a failure.
_ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR))
_REMEDIES = {
    errno.EACCES: "permission denied; make it readable (chmod) and run the same command again",
    errno.EPERM: "permission denied; make it readable (chmod) and run the same command again",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n) and run the same command again",
    errno.ENFILE: "too many files are open; close other programs and run the same command again",
    errno.ENOMEM: "there is too little memory; free some and run the same command again",
    errno.ESTALE: "the network disk was mounted anew; run the same command again",
}
#: The system has the file and did not give it.
_FAILURES = frozenset(
    (
        errno.EIO,
        errno.EACCES,
        errno.EPERM,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENODEV,
        errno.ENXIO,
        errno.EAGAIN,
        errno.EBUSY,
        errno.ENETDOWN,
        errno.ENOTCONN,
    )
)
_can_preadv = hasattr(os, "preadv")


@contextlib.contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` or ``MemoryError`` inside into the :class:`StorageError` of :func:`read_error`."""
    try:
        yield
    except (OSError, MemoryError) as error:
        raise read_error(path, error) from error


def read_error(path: Path, error: OSError | MemoryError) -> StorageError:
    """The stated error for ``error`` met while reading ``path``: it says that nothing was changed."""
    code = error.errno if isinstance(error, OSError) else errno.ENOMEM
    text = str(error.strerror or error) if isinstance(error, OSError) else "out of memory"
    remedy = _REMEDIES.get(code or 0, f"{text}; nothing was changed: check the disk and run the same command again")
    return StorageError(f"{path}: cannot be read: {remedy}")


@contextlib.contextmanager
def failed_reads(path: Path) -> Iterator[None]:
    """As :func:`read_errors`, for what the system did not give; that nothing is there stays an ``OSError``.

    Libraries raise an ``OSError`` without a number for files that are not what they expect: that stays one, too.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FAILURES:  # a library's seek beyond the end of a file that is cut short is EINVAL
            raise
        raise read_error(path, error) from error


def status(path: Path) -> os.stat_result | None:
    """What ``stat`` says, behind links; ``None`` where nothing is there. Raises ``StorageError`` when that fails."""
    with read_errors(path):
        try:
            return path.stat()
        except OSError as error:
            if error.errno in _ABSENT or error.errno == errno.ELOOP:
                return None
            raise


def misplaced(path: Path, *, folder: bool = False) -> str | None:
    """What is wrong with ``path`` as a file (or ``folder``): "is missing" and the like; ``None`` where nothing is.

    Looks at what stands there, not into it. Raises ``StorageError`` when the system does not say.
    """
    found = status(path)
    if found is None:
        target = lost_target(path)
        return "is missing" if target is None else f"is a link to {target}, which does not exist"
    if folder:
        return None if stat.S_ISDIR(found.st_mode) else "is no folder"
    if stat.S_ISREG(found.st_mode):
        return None
    return "is a folder, not a file" if stat.S_ISDIR(found.st_mode) else "is no regular file"


def lost_target(path: Path) -> str | None:
    """Where a link leads whose target does not exist; ``None`` for anything else."""
    with read_errors(path):
        try:
            return None if path.exists() else str(path.readlink())
        except OSError as error:
            if error.errno in _ABSENT or error.errno == errno.EINVAL:  # nothing there; no link
                return None
            raise


def read_small(path: Path) -> bytes | None:
    """All of a small file; ``None`` where there is no file. Raises ``StorageError`` when it cannot be read whole."""
    file = OpenFile.open(path)
    if file is None:
        return None
    data = bytearray(file.size())
    return bytes(data[: file.read_into(memoryview(data), 0)])


class OpenFile:
    """A regular file, open for reading at any place by any thread; closed when nothing refers to it any more.

    It is read by calls, not mapped into memory: a page of a map that the file has lost kills the process (SIGBUS).
    """

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self._handle = handle
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> OpenFile | None:
        """``path``, open; ``None`` where no regular file is there. Raises ``StorageError`` when that fails."""
        if misplaced(path) is not None:  # before opening: a FIFO would be waited for
            return None
        with read_errors(path):
            try:
                handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
            except OSError as error:
                if error.errno in _ABSENT:
                    return None
                raise
        return cls(path, handle)

    def size(self) -> int:
        """In bytes, as it is now."""
        with read_errors(self.path):
            return os.fstat(self._handle).st_size

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill ``view`` (bytes) from byte ``offset`` on; returns the bytes read, fewer only where the file ends.

        Raises ``StorageError`` when a read fails, or ends before the file does.
        """
        done = 0
        while done < len(view):
            with read_errors(self.path):
                n = self._read(view[done:], offset + done)
            if n == 0:
                if self.size() > offset + done:
                    raise read_error(self.path, OSError(errno.EIO, "the read ended before the file"))
                break
            done += n
        return done

    def read_each(self, view: memoryview, size: int, places: list[int], offsets: list[int]) -> bool:
        """Piece ``places[i]`` of ``view``, of ``size`` bytes each, from ``offsets[i]`` on; False where it ends first.

        The same as :meth:`read_into` again and again, without what calls in Python cost.
        """
        if _can_preadv:
            handle, preadv = self._handle, os.preadv
            try:
                for place, offset in zip(places, offsets, strict=True):
                    at = place * size
                    if preadv(handle, [view[at : at + size]], offset) != size:
                        break
                else:
                    return True
            except OSError as error:
                raise read_error(self.path, error) from error
        return all(
            self.read_into(view[place * size : (place + 1) * size], offset) == size
            for place, offset in zip(places, offsets, strict=True)
        )

    def _read(self, view: memoryview, offset: int) -> int:
        if _can_preadv:
            return os.preadv(self._handle, [view], offset)
        with self._lock:  # Windows
            os.lseek(self._handle, offset, os.SEEK_SET)
            data = os.read(self._handle, len(view))
        view[: len(data)] = data
        return len(data)

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._handle)


def read_pieces(files: list[OpenFile], size: int, offsets: list[int]) -> bytes:
    """The ``size`` bytes of ``files[i]`` from ``offsets[i]`` on, one after the other; fewer where a file ends first.

    The same as :meth:`OpenFile.read_into` again and again, without what calls in Python cost.
    """
    if not _can_preadv:
        data = bytearray(size * len(files))
        whole = [
            file.read_into(memoryview(data)[at * size : (at + 1) * size], offset) == size
            for at, (file, offset) in enumerate(zip(files, offsets, strict=True))
        ]
        return bytes(data) if all(whole) else b""
    pread = os.pread
    try:
        return b"".join([pread(file._handle, size, at) for file, at in zip(files, offsets, strict=True)])
    except OSError as error:
        raise read_error(files[0].path, error) from error
