"""The checksum of a catalog that is at rest: written when its writer closes it, compared by ``verify``.

SQLite checks the structure of its pages, not the values in them. A seal counts the commits that it is of, so that one
left behind by a writer that was killed later says nothing. Knows nothing of SQL.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from pathlib import Path

from indexer.durable import replace_file
from indexer.errors import StorageError

_BLOCK = 1 << 20


def seal(path: Path, commits: int) -> None:
    """Leave the checksum of the database ``path`` beside it, unless its log holds what is not in it yet.

    A disk that is full, or read-only by now, leaves it unsealed.
    """
    with contextlib.suppress(OSError, StorageError):
        if _log_is_empty(path):
            said = json.dumps({"commits": commits, "crc32": _crc32(path)})
            replace_file(seal_of(path), lambda file: _write(file, said))


def is_broken(path: Path, commits: int) -> bool:
    """Whether there is a seal of just these commits, and the file is another one."""
    try:
        said = json.loads(seal_of(path).read_text(encoding="utf-8"))
        sealed, crc32 = int(said["commits"]), int(said["crc32"])
        if sealed < commits or not _log_is_empty(path):
            return False
        return sealed > commits or _crc32(path) != crc32
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError):
        return seal_of(path).exists()


def seal_of(path: Path) -> Path:
    """The seal's file."""
    return path.with_name(path.name + ".crc")


def _log_is_empty(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return not log.exists() or log.stat().st_size == 0


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc


def _write(file: object, text: str) -> None:
    file.write(text.encode())  # type: ignore[attr-defined]
