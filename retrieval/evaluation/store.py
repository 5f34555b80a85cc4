"""Bytes by key in one SQLite file, each with its crc32: a store of what can be computed again.

Nothing that is wrong with the file is raised: what cannot be read is not there, what cannot be written is not kept, and
a damaged file is begun anew. Knows nothing of what the bytes are.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from indexer.collection.catalog.sqlite_errors import proves_damage

_KEYS_AT_ONCE = 500
_PUTS_AT_ONCE = 256
_BUSY_S = 10.0


class Store:
    """Bytes by key in one file. Nothing that happens to the file is raised."""

    def __init__(self, path: Path) -> None:
        """The file is made when something is kept; one that is no store of ours is begun anew."""
        self._path = path
        self._database: sqlite3.Connection | None = None
        self._waiting: dict[bytes, bytes] = {}
        self.works = True
        """False once the file could not be opened or written: nothing more is kept in this run."""

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """What there is of ``keys``; an entry whose crc32 is wrong is not."""
        wanted = list(dict.fromkeys(keys))
        found = {key: self._waiting[key] for key in wanted if key in self._waiting}
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            part = wanted[start : start + _KEYS_AT_ONCE]
            places = ",".join("?" * len(part))
            query = f"SELECT key, value FROM entries WHERE key IN ({places})"
            for key, value in self._run(_fetch(query, part)) or ():
                if isinstance(value, bytes) and len(value) >= 4:
                    data = value[4:]
                    if zlib.crc32(data) == struct.unpack("<I", value[:4])[0]:
                        found.setdefault(key, data)
        return found

    def put(self, key: bytes, data: bytes) -> None:
        """Keep ``data``; many are written together, the last with :meth:`close`."""
        self._waiting[key] = data
        if len(self._waiting) >= _PUTS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        rows = [(key, struct.pack("<I", zlib.crc32(data)) + data) for key, data in self._waiting.items()]
        self._waiting.clear()

        def write(database: sqlite3.Connection) -> None:
            with database:
                database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", rows)

        if rows:
            self._run(write)

    def close(self) -> None:
        """Write what waits and let go of the file."""
        self.flush()
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None

    def _run(self, act: Callable[[sqlite3.Connection], Any]) -> Any:
        """``act`` on the file; a damaged one is removed and begun anew, once. ``None`` where that fails."""
        for attempt in (0, 1):
            if not self.works:
                return None
            try:
                return act(self._open())
            except sqlite3.Error as error:
                if proves_damage(error):
                    self._forget()
                self.works = proves_damage(error) and attempt == 0  # not where it is locked, full or read-only
            except (OSError, ValueError):
                self.works = False
        return None

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self._path, timeout=_BUSY_S)
            # a crash may cost the store, which is only a store of what can be computed
            self._database.execute("PRAGMA synchronous=OFF")
            self._database.execute("CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB)")
        return self._database

    def _forget(self) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        for name in (self._path, self._path.with_name(self._path.name + "-journal")):
            with contextlib.suppress(OSError):
                name.unlink(missing_ok=True)


def _fetch(query: str, keys: Sequence[bytes]) -> Callable[[sqlite3.Connection], list[tuple[Any, Any]]]:
    return lambda database: database.execute(query, keys).fetchall()
