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

    ``broken``: one that it never has. A disk that is full, or read-only by now, leaves it unsealed.
    """
    with contextlib.suppress(OSError, StorageError):
        if broken:
            replace_text(seal_of(path), _Seal(commits, _BROKEN).text())
        elif _log_is_empty(path):
            replace_text(seal_of(path), _Seal(commits, _crc32(path)).text())


def is_broken(path: Path, commits: int) -> bool:
    """Whether there is a seal of just these commits, and the file is another one."""
    found = _read(path)
    if found is None:
        return False
    if found.crc32 == _BROKEN:
        return True
    if found.commits < commits or not _log_is_empty(path):
        return False
    return found.commits > commits or _crc32(path) != found.crc32


def seal_is_damaged(path: Path) -> bool:
    """Whether there is a seal that cannot be read."""
    return seal_of(path).exists() and _read(path) is None


def seal_of(path: Path) -> Path:
    """The seal's file."""
    return path.with_name(path.name + ".crc")


def _read(path: Path) -> _Seal | None:
    try:
        text = seal_of(path).read_text(encoding="utf-8")
        said = json.loads(text)
        found = _Seal(int(said["commits"]), int(said["crc32"]))
        return found if found.text() == text else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _log_is_empty(path: Path) -> bool:
    log = path.with_name(path.name + "-wal")
    return not log.exists() or log.stat().st_size == 0


def _crc32(path: Path) -> int:
    with path.open("rb") as file:
        return crc32_of_file(file)
