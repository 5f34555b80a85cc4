"""What SQLite's error codes mean for a user: the stated error, with a remedy that fits what is proven.

Only ``SQLITE_CORRUPT``, ``SQLITE_NOTADB`` and a missing table prove that a catalog is damaged, and only then the
remedy is to build it anew. A lock, a full disk, a failed read or a statement that SQLite refuses proves nothing.
Knows nothing of SQLAlchemy and of what is in a catalog. https://www.sqlite.org/rescode.html
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from indexer.errors import CatalogRefuses, CollectionError, CollectionLocked, IndexDamaged, StorageError, TrimodalError
from indexer.files import display_path, one_line

REBUILD = "build the collection anew: trimodal index --rebuild PATH..."

_DAMAGED = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))
_LOCKED = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL))
_FORBIDDEN = frozenset((sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH))
_STOPPED = frozenset((sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_ABORT))
#: A value or a statement that SQLite does not take.
_REFUSED = frozenset(
    (
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_MISUSE,
    )
)
#: SQLite has read the file, and the table is not in it.
_LACKS = ("no such table", "no such column")
#: Of Python's module, for a text that is no UTF-8; what is no UTF-8 is stored as bytes.
_NO_TEXT = "Could not decode to UTF-8"


def primary_code(error: sqlite3.Error) -> int | None:
    """SQLite's result code without what extends it; ``None`` for an error of Python's own module."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def proves_damage(error: sqlite3.Error) -> bool:
    """Whether SQLite has read the file and found that it is no whole database of ours."""
    code = primary_code(error)
    lacking = code == sqlite3.SQLITE_ERROR and str(error).startswith(_LACKS)
    return code in _DAMAGED or lacking


def stated(path: Path, error: sqlite3.Error) -> TrimodalError:
    """The error to raise for one that SQLite gave while it worked on ``path``."""
    code = primary_code(error)
    shown = display_path(path)
    words = one_line(error)
    name = getattr(error, "sqlite_errorname", None)
    named = words if name is None else f"{words}, {name}"
    if proves_damage(error):
        return IndexDamaged(f"{shown}: cannot be read as a catalog ({named}); {REBUILD}")
    if code is None and words.startswith(_NO_TEXT):
        return IndexDamaged(
            f"{shown}: holds a text that was never written ({named}); see what is damaged: trimodal verify"
        )
    if code in _LOCKED:
        return CollectionLocked(f"{shown}: another program writes to it ({named}); wait for it")
    if code == sqlite3.SQLITE_NOMEM or name == "SQLITE_IOERR_NOMEM":
        return CollectionError(f"{shown}: memory ran out ({named}); close other programs and run the command again")
    if (wrong := _storage_problem(code, named)) is not None:
        return StorageError(f"{shown}: {wrong}")
    if code in _STOPPED:
        return CollectionError(f"{shown}: was interrupted ({named}); run the same command again")
    if code in _REFUSED or code is None:
        return CatalogRefuses(f"{shown}: SQLite refuses a value or a question ({named}); nothing of it was stored")
    return CollectionError(f"{shown}: SQLite reports an error ({named}); look for the cause with: trimodal verify")


def _storage_problem(code: int | None, named: str) -> str | None:
    """What is wrong with the disk or its permissions, and the remedy; ``None`` for other codes."""
    if code == sqlite3.SQLITE_FULL:
        return "the disk is full; free some space and run the same command again"
    if code == sqlite3.SQLITE_IOERR:
        return (
            f"the disk is full or failing ({named}); free some space or check the disk, and run the same command again"
        )
    if code == sqlite3.SQLITE_NOLFS:
        return f"is larger than this file system allows ({named}); move the collection to another disk"
    if code in _FORBIDDEN:
        return f"cannot be opened or written ({named}); check the permissions of the folder"
    return None
