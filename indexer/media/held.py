"""One media file, held while it is hashed and decoded: what was decoded is what was hashed.

A file can change between two reads, and then its vector would be stored under another content's hash. A small file is
copied while it is hashed, and the copy is decoded. A large one is decoded from the same open file, and hashed once more
at the end. Knows nothing of formats.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator

from indexer.errors import ChangedWhileRead, MediaError
from indexer.files import display_path, file_id, instead, media_error, mtime_ns, open_file, trouble
from indexer.items import DecodedItem, Item
from indexer.limits import MediaLimits, check_size
from indexer.media.content_hash import content_hash
from indexer.media.decode import decode_parts
from indexer.media.reserve import Reserve, no_reserve
from indexer.media.text.decode import Cut, passages

#: A file up to this size is copied.
COPIED_BYTES = 32_000_000
_BLOCK_BYTES = 1 << 20
#: How often a file that changes meanwhile is begun again.
_ATTEMPTS = 3


#: What hashes an item's bytes: :func:`indexer.media.content_hash.content_hash`.
HashOf = Callable[[Item, MediaLimits | None], str]


class Held:
    """The content of an item's file. Close it, or leave its ``with``, to let go of the file."""

    def __init__(self, item: Item, handle: int, status: os.stat_result, *, is_copy: bool) -> None:
        self.digest = ""
        """The content hash of the bytes."""
        self.size_bytes = status.st_size
        self.mtime_ns = mtime_ns(status)
        self.file_id = file_id(status)
        """With ``size_bytes`` and ``mtime_ns``, of the file as it was when these bytes were read."""
        self._item = item
        self._status = status
        self._is_copy = is_copy
        self._handle: int | None = handle
        self._hash_of: HashOf = content_hash

    @classmethod
    def hold(cls, item: Item, limits: MediaLimits | None = None, hash_of: HashOf = content_hash) -> Held:
        """Read and hash an item's file. Raises ``MediaError`` where it cannot be read, and where it is over ``limits``.

        ``ChangedWhileRead`` where it changes each time that it is read.
        """
        for _ in range(_ATTEMPTS):
            held = cls._opened(item, limits)
            if held is not None:
                with contextlib.ExitStack() as unless_hashed:
                    unless_hashed.callback(held.close)
                    with held.in_use():
                        held.digest = hash_of(item, limits)
                    held._hash_of = hash_of
                    unless_hashed.pop_all()
                return held
        raise ChangedWhileRead(display_path(item.path))

    @classmethod
    def _opened(cls, item: Item, limits: MediaLimits | None) -> Held | None:
        """The file, a small one as a copy; ``None`` where it changed while it was copied."""
        with open_file(item.path) as file, contextlib.ExitStack() as unless_held:
            try:
                before = os.fstat(file.fileno())
                if limits is not None:
                    check_size(item.path, before.st_size, item.modality, limits)
                is_copy = before.st_size <= COPIED_BYTES
                handle = _anonymous_file() if is_copy else os.dup(file.fileno())
                unless_held.callback(os.close, handle)
                n_bytes = _copy(file.fileno(), handle) if is_copy else before.st_size
                if not _same(before, os.fstat(file.fileno())) or n_bytes != before.st_size:
                    return None
            except OSError as error:
                raise media_error(item.path, trouble(error, item.path)) from error
            unless_held.pop_all()
            return cls(item, handle, before, is_copy=is_copy)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """While it lasts, :func:`indexer.files.open_file` gives this thread these bytes for the path."""
        assert self._handle is not None
        with instead(self._item.path, self._handle):
            yield

    def check(self) -> None:
        """Raise ``ChangedWhileRead`` unless what was read since is what was hashed."""
        if self._is_copy or self._handle is None:
            return
        with self.in_use():
            digest = self._hash_of(self._item, None)
        if digest != self.digest or not _same(self._status, os.fstat(self._handle)):
            raise ChangedWhileRead(display_path(self._item.path))

    def decode(
        self, item: Item, limits: MediaLimits, reserve: Reserve = no_reserve, cut: Cut = passages
    ) -> Iterator[DecodedItem]:
        """As :func:`indexer.media.decode.decode_parts`, of these bytes; the last part comes when they were checked."""
        parts = decode_parts(item, limits, reserve, cut)
        is_last = False
        while not is_last:
            try:
                with self.in_use():
                    part = next(parts)
            except MediaError:
                self.check()  # it may be no fault of the file
                raise
            is_last = part.is_last
            if is_last:
                self.check()
            yield part
            del part

    def close(self) -> None:
        """Let go of the file; to be called twice does no harm."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            self.close()


def _copy(source: int, copy: int) -> int:
    """All bytes of an open file into another; returns how many. Each read starts where the last one ended."""
    n_bytes = 0
    while block := os.read(source, _BLOCK_BYTES):
        n_bytes += len(block)
        left = memoryview(block)
        while left:
            left = left[os.write(copy, left) :]
    return n_bytes


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether nothing was written in between; a time that was set back shows in the time of the change (ctime)."""
    names = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    return all(getattr(before, name) == getattr(after, name) for name in names)


def _anonymous_file() -> int:
    """A file without a name, in memory where the system has such ones: decoders need a descriptor."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("trimodal", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
