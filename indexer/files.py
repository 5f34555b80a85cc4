"""Naming files in messages, and opening them without being harmed. Knows nothing of media formats.

A name on disk is bytes: it may hold newlines, escape codes or no valid UTF-8, and a message must stay
one printable line. A path may lead to a FIFO or a device, where a plain ``open`` waits for ever.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from indexer.errors import MediaError
from indexer.integers import LEAST_INTEGER, MOST_INTEGER
from indexer.names import on_disk

#: Of a library's message, looked at: it may quote megabytes of a file.
_MAX_MESSAGE_CHARS = 10_000
#: Longer names are shown with their middle left out.
_MAX_SHOWN_CHARS = 1000

_instead = threading.local()

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO (named pipe)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class FileId(NamedTuple):
    """Which file a name led to, and when it was last written or renamed, where the system says so.

    A program can set the time of change (mtime) back after it has written, but not these.
    """

    ctime_ns: int | None
    inode: int | None


def display_path(path: str | os.PathLike[str]) -> str:
    r"""The path as one line that any terminal and any UTF-8 file can hold.

    Newlines, control characters and bytes that are not UTF-8 become ``\n``, ``\x1b``, ``\xff``; a
    backslash stays itself, so the result is for reading, not for opening.
    """
    text = os.fspath(path)
    if len(text) > 2 * _MAX_SHOWN_CHARS:  # its middle is not shown: a cell of a table may have megabytes
        text = text[:_MAX_SHOWN_CHARS] + text[-_MAX_SHOWN_CHARS:]
    shown = printable(text)
    if len(shown) > _MAX_SHOWN_CHARS:
        half = _MAX_SHOWN_CHARS // 2
        shown = f"{shown[:half]}...{shown[-half:]}"
    return shown


def printable(text: str) -> str:
    """``text`` as :func:`display_path` shows it, whole however long it is."""
    return text if text.isprintable() else "".join(_shown(char) for char in text)


def one_line(error: object, limit_chars: int = 200) -> str:
    """A library's message, fit to stand in one line of ours."""
    line = display_path(" ".join(str(error)[:_MAX_MESSAGE_CHARS].split()))
    if len(line) > limit_chars:
        line = line[: limit_chars - 3] + "..."
    return line or type(error).__name__


def media_error(path: str | os.PathLike[str], reason: str) -> MediaError:
    """The error about ``path``, its name made printable."""
    return MediaError(display_path(path), reason)


def mtime_ns(status: os.stat_result) -> int:
    """When the file was changed, in ns since 1970: a time before 1677 or after 2262 is the nearest one between."""
    return max(LEAST_INTEGER, min(MOST_INTEGER, status.st_mtime_ns))


def file_id(status: os.stat_result) -> FileId:
    """What differs for another file of the same size and time; each as an integer of 64 bits with a sign."""
    ctime_ns, inode = status.st_ctime_ns, status.st_ino
    if inode > MOST_INTEGER:
        inode -= 2**64
    # Windows gives the time of creation as ctime
    known = os.name != "nt" and LEAST_INTEGER <= ctime_ns <= MOST_INTEGER
    return FileId(ctime_ns if known else None, inode if inode and inode >= LEAST_INTEGER else None)


def absolute(path: Path) -> Path:
    """``path`` from the root, links kept as they stand; only a path with ``..`` has its parents resolved.

    Dropping ``..`` as text would lead elsewhere behind a linked folder.
    """
    whole = path.absolute()
    if os.name == "posix" and whole.root == "//":  # the same place as one slash, under another name
        whole = Path("/", *whole.parts[1:])
    if ".." not in whole.parts:
        return whole
    return whole.resolve() if whole.name == ".." else whole.parent.resolve() / whole.name


def trouble(error: OSError | ValueError, path: Path) -> str:
    """Why the system did not give the file, and what to do: the words after ``name: ``."""
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.ENOENT, errno.ENOTDIR):
        if path.is_symlink():
            try:
                target = display_path(path.readlink())
            except OSError:
                target = "?"
            return f"is a link to {target}, which does not exist; mend or remove the link"
        return "does not exist; check the path"
    if code in (errno.EACCES, errno.EPERM):
        return "cannot be opened: permission denied; make it readable (chmod +r) or leave it out"
    if code == errno.ELOOP:
        return "is a link that leads back to itself; mend or remove the link"
    if code == errno.ENAMETOOLONG:
        return "has a name longer than the file system allows; shorten it"
    if isinstance(error, ValueError):
        return "is not a path a file can have; check it"
    return f"cannot be read ({one_line(error.strerror or error)}); check the disk or copy the file again"


def not_a_file(mode: int) -> str | None:
    """Why something of this ``st_mode`` is never opened, or None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    kind = next((name for test, name in _KINDS if test(mode)), "not a regular file")
    return f"is {kind}, not a file with media in it; it was not opened"


@contextlib.contextmanager
def instead(path: Path, handle: int) -> Iterator[None]:
    """While it lasts, :func:`open_file` gives this thread the open file ``handle`` for ``path``.

    So a decoder that opens a file by its path, be it twice, reads the bytes that were hashed: see
    :mod:`indexer.media.held`.
    """
    before = getattr(_instead, "file", None)
    _instead.file = (path, handle)
    try:
        yield
    finally:
        _instead.file = before


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading. Raises ``MediaError`` for anything else; never waits on a FIFO."""
    held = getattr(_instead, "file", None)
    if held is not None and held[0] == path:
        file = os.fdopen(os.dup(held[1]), "rb")
        file.seek(0)
        return file
    path = on_disk(path)
    try:
        # Checked before opening, because opening a device can already act on it ...
        reason = not_a_file(path.stat().st_mode)
        if reason is None:
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            file = os.fdopen(os.open(path, flags), "rb")
            # ... and again after, because the name may have come to mean something else.
            reason = not_a_file(os.fstat(file.fileno()).st_mode)
            if reason is None:
                return file
            file.close()
    except (OSError, ValueError) as error:
        raise media_error(path, trouble(error, path)) from error
    raise media_error(path, reason)


def _shown(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as os.fsdecode keeps it
        return f"\\x{code - 0xDC00:02x}"
    if char.isprintable():
        return char
    return char.encode("unicode_escape").decode("ascii")
