"""The checksum of a catalog at rest: written beside it when its writer closes it, compared by ``verify``.

SQLite checks the structure of its pages, not the values in them. A checksum names the number of commits that it is of,
so one that a killed writer left behind proves nothing about later commits. A writer that finds the file corrupted
leaves a checksum that no file has, so that the damage stays known. Knows nothing of SQL.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from indexer.crc import crc32_of_file, crc32_of_json
from indexer.durable import replace_text
from indexer.errors import StorageError
from indexer.reading import lost_target, read_errors, read_small, status

#: The checksum of a file that was found corrupted: no file has it.
_CORRUPTED = -1


@dataclass(frozen=True, slots=True)
class _Checksum:
    commits: int
    crc32: int

    def text(self) -> str:
        values = {"commits": self.commits, "crc32": self.crc32}
        return json.dumps({**values, "check": crc32_of_json(values)})


def checksum_file(path: Path) -> Path:
    """Where the checksum of the database ``path`` is stored."""
    return path.with_name(path.name + ".crc")


def write_checksum(path: Path, commits: int, *, corrupted: bool = False) -> None:
    """Write the checksum of the database ``path``, unless its log holds what is not in it yet.

    With ``corrupted`` one that no file has. Where nothing was committed since the last checksum, that one stays. Where
    it cannot be written (a disk that is full, read-only or failing), the database is left without a new one.
    """
    with contextlib.suppress(OSError, StorageError):
        last = _read(path)
        if corrupted:
            replace_text(checksum_file(path), _Checksum(commits, _CORRUPTED).text())
        elif last is not None and last.commits == commits:
            return
        elif _log_is_empty(path):
            replace_text(checksum_file(path), _Checksum(commits, _crc32(path)).text())


def is_corrupted(path: Path, commits: int) -> bool:
    """Whether there is a checksum of just these commits, and the file has another one.

    Raises ``StorageError`` where either cannot be read: then nothing is known of the file.
    """
    found = _read(path)
    if found is None:
        return False
    if found.crc32 == _CORRUPTED:
        return True
    if found.commits < commits or not _log_is_empty(path):
        return False
    return found.commits > commits or _crc32(path) != found.crc32


def checksum_is_damaged(path: Path) -> bool:
    """Whether the file of the checksum holds something else. Raises ``StorageError`` where it cannot be read."""
    file = checksum_file(path)
    exists = status(file) is not None or lost_target(file) is not None
    return exists and _read(path) is None


def _read(path: Path) -> _Checksum | None:
    data = read_small(checksum_file(path))
    if data is None:
        return None
    try:
        text = data.decode()
        values = json.loads(text)
        found = _Checksum(int(values["commits"]), int(values["crc32"]))
        return found if found.text() == text else None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _log_is_empty(path: Path) -> bool:
    log = status(path.with_name(path.name + "-wal"))
    return log is None or log.st_size == 0


def _crc32(path: Path) -> int:
    with read_errors(path), path.open("rb") as file:
        return crc32_of_file(file)
