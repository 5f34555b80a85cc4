"""The checksum of a catalog that is at rest: written when its writer closes it, compared by ``verify``.

SQLite checks the structure of its pages, not the values in them. A seal counts the commits that it is of, so that one
left behind by a writer that was killed later says nothing. A writer that finds the file changed leaves a seal that
stays broken, so that the damage is not forgotten. Knows nothing of SQL.
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

#: The checksum of nothing: no file has it.
_BROKEN = -1


@dataclass(frozen=True, slots=True)
class _Seal:
    commits: int
    crc32: int

    def text(self) -> str:
        said = {"commits": self.commits, "crc32": self.crc32}
        return json.dumps({**said, "check": crc32_of_json(said)})


def seal(path: Path, commits: int, *, broken: bool = False) -> None:
    """Leave the checksum of the database ``path`` beside it, unless its log holds what is not in it yet.

    ``broken``: one that it never has. A disk that is full, read-only by now, or fails leaves it unsealed. Where
    nothing was committed since the last one, that one stays.
    """
    with contextlib.suppress(OSError, StorageError):
        last = _read(path)
        if broken:
            replace_text(seal_of(path), _Seal(commits, _BROKEN).text())
        elif last is not None and last.commits == commits:
            return
        elif _log_is_empty(path):
            replace_text(seal_of(path), _Seal(commits, _crc32(path)).text())


def is_broken(path: Path, commits: int) -> bool:
    """Whether there is a seal of just these commits, and the file is another one.

    Raises ``StorageError`` where either cannot be read: then nothing is known of the file.
    """
    found = _read(path)
    if found is None:
        return False
    if found.crc32 == _BROKEN:
        return True
    if found.commits < commits or not _log_is_empty(path):
        return False
    return found.commits > commits or _crc32(path) != found.crc32


def seal_is_damaged(path: Path) -> bool:
    """Whether there is something in the seal's place that is none. Raises ``StorageError`` where it cannot be read."""
    there = status(seal_of(path)) is not None or lost_target(seal_of(path)) is not None
    return there and _read(path) is None


def seal_of(path: Path) -> Path:
    """The seal's file."""
    return path.with_name(path.name + ".crc")


def _read(path: Path) -> _Seal | None:
    data = read_small(seal_of(path))
    if data is None:
        return None
    try:
        text = data.decode()
        said = json.loads(text)
        found = _Seal(int(said["commits"]), int(said["crc32"]))
        return found if found.text() == text else None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _log_is_empty(path: Path) -> bool:
    log = status(path.with_name(path.name + "-wal"))
    return log is None or log.st_size == 0


def _crc32(path: Path) -> int:
    with read_errors(path), path.open("rb") as file:
        return crc32_of_file(file)
