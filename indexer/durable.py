"""Files that survive a crash: atomic replacement, folder syncing, and a full disk raised as ``StorageError``.

Knows nothing of what is in the files.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from indexer.errors import IndexDamaged, StorageError

#: What a user can do about an ``OSError`` while writing.
_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EFBIG: "the file is over the size limit of this system; raise it (ulimit -f) and run the same command again",
    errno.EROFS: "the disk is read-only; use a folder that can be written to (--collection)",
    errno.EACCES: "permission denied; use a folder that you may write to (--collection)",
    errno.EPERM: "permission denied; use a folder that you may write to (--collection)",
    errno.EIO: "the disk reports an error; check it, and run the same command again",
}


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` inside into :class:`StorageError` naming ``path`` and the remedy."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """The stated error for ``error`` met while writing ``path``."""
    reason = _REMEDIES.get(error.errno or 0, f"{error.strerror or error}; check the disk and run the command again")
    return StorageError(f"{path}: {reason}")


def replace_file(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a new version of ``path`` so that a crash leaves the old one or the new one, never a part.

    Written beside it as ``<name>.tmp``, synced, renamed, and the folder synced.
    """
    temporary = path.with_name(path.name + ".tmp")
    with storage_errors(path):
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):  # gives the space back on a full disk
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def replace_text(path: Path, text: str) -> None:
    """As :func:`replace_file`, of a text in UTF-8."""

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    replace_file(path, write)


def make_way(path: Path) -> None:
    """Remove what stands in the place of a file: a file, a link, an empty folder.

    Raises ``IndexDamaged`` for a folder with files in it, which are not ours to remove.
    """
    with storage_errors(path):
        try:
            path.unlink(missing_ok=True)
        except (IsADirectoryError, PermissionError):  # systems differ in what they call it
            if not path.is_dir():
                raise
            if any(path.iterdir()):
                raise IndexDamaged(
                    f"{path}: is a folder with files in it, where a file should be; move it away, "
                    "then: trimodal verify --repair"
                ) from None
            path.rmdir()


def sync_folder(folder: Path) -> None:
    """Make names created or removed in ``folder`` durable (Windows has no such call and needs none)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
