"""A SQLite database: connections, transactions, the write-ahead log, its errors as ours. Knows nothing of its tables.

A reader holds one read transaction from opening until :meth:`Database.refresh`, so all that it sees belongs to one
commit, whatever a writer does meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import sqlalchemy as sa
from sqlalchemy import event, exc

from indexer.collection.catalog.sqlite_errors import REBUILD, stated
from indexer.errors import CatalogRefuses, CollectionError, IndexDamaged, StorageError
from indexer.files import display_path, one_line
from indexer.names import nfc
from indexer.reading import OpenFile, status

#: The most that a database without tables takes.
_UNMADE_BYTES = 65_536
USE_LOG = "PRAGMA journal_mode = WAL"
#: How long SQLite waits for another program that holds the file (a backup, a browser of databases).
_BUSY_MS = 30_000
#: What Python raises for an integer of more than 64 bits, and for a text that is no UTF-8.
_NOT_FOR_SQLITE = (OverflowError, UnicodeEncodeError)


class Database:
    """One SQLite file, open for reading or, by the one writer, for writing. Thread-safe."""

    def __init__(self, path: Path, connection: sa.Connection, *, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self._connection = connection
        self._lock = threading.RLock()
        self._depth = 0
        self._cache: dict[Any, Any] = {}
        """What was read of the current commit."""

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are one commit, or none; may be nested, the outermost commits."""
        if not self.writable:
            raise CollectionError(f"{self.path}: is open for reading only")
        with self._lock, stated_errors(self.path):
            if self._depth == 0:
                self._connection.rollback()
                self._connection.begin()
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                self._cache.clear()
                if self._depth == 0:
                    self._connection.rollback()
                raise
            self._depth -= 1
            self._cache.clear()
            if self._depth == 0:
                try:
                    self._before_commit()
                    self._connection.commit()
                except BaseException:
                    self._connection.rollback()
                    raise

    def refresh(self) -> None:
        """Let a reader see the newest commit."""
        with self._lock:
            self._connection.rollback()
            self._cache.clear()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._lock, stated_errors(self.path):
            try:
                yield self._connection
            finally:
                # a reader keeps its snapshot; a writer outside a transaction has none to keep
                if self.writable and self._depth == 0:
                    self._connection.rollback()

    def _before_commit(self) -> None:
        """The last writes of every transaction, such as a count of them."""

    def _raw(self) -> Any:
        """The driver's connection, for what is no part of a transaction."""
        return self._connection.connection.driver_connection

    def _use_log(self) -> None:
        """Write with a log (WAL); a database that was moved from a disk that can't have one lacks it."""
        self._connection.rollback()
        if self._raw().execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            return
        with self.transaction():  # counted, so that the checksum of before says nothing of the header that is coming
            pass
        self._connection.rollback()
        self._raw().execute(USE_LOG)

    def _vacuum(self) -> None:
        """Give free pages back to the disk."""
        with self.transaction():  # counted, so that the checksum of before says nothing of the file that is coming
            pass
        with self._lock, stated_errors(self.path):
            self._connection.rollback()
            raw = self._raw()
            raw.execute("VACUUM")
            # a reader holds the log; then it is emptied when the last one closes, and is not waited for
            raw.execute("PRAGMA busy_timeout = 0")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            raw.execute(f"PRAGMA busy_timeout = {_BUSY_MS:d}")

    def _disconnect(self) -> None:
        self._connection.close()
        self._connection.engine.dispose()


def is_unmade(path: Path) -> bool:
    """Whether the file is a database without tables, as a creation that was killed leaves it."""
    file = OpenFile.open(path)
    if file is None or file.size() > _UNMADE_BYTES:
        return False
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with stated_errors(path), contextlib.closing(sqlite3.connect(uri, uri=True)) as raw:
        return not raw.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def connect_reader(path: Path) -> sa.Connection:
    """Read-only; on a folder that cannot be written to, also without the log's files."""
    connection = connect(path, "ro")
    try:
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
        return connection
    except exc.OperationalError as error:
        connection.close()
        connection.engine.dispose()
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) or os.access(path.parent, os.W_OK):
            raise
        log = status(path.with_name(path.name + "-wal"))
        if log is not None and log.st_size > 0:
            raise StorageError(
                f"{path}: was not closed by its last writer and its folder is read-only; "
                "copy the collection to a disk that can be written to"
            ) from None
        connection = connect(path, "ro&immutable=1")
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
        return connection


def connect(path: Path, mode: str) -> sa.Connection:
    """One connection of its own, with transactions begun by us and not by the driver."""
    uri = f"file:{quote_from_bytes(os.fsencode(path.absolute()))}?mode={mode}"

    def open_raw() -> sqlite3.Connection:
        raw = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000)
        try:
            raw.create_function("nfc", 1, _nfc, deterministic=True)
            # The file may be a stranger's: its views and triggers call nothing.
            raw.execute("PRAGMA trusted_schema = OFF")
            if not mode.startswith("ro"):
                raw.execute("PRAGMA synchronous = FULL")
                raw.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            raw.close()
            raise
        return raw

    engine = sa.create_engine("sqlite://", creator=open_raw, poolclass=sa.StaticPool)

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    try:
        return engine.connect()
    except BaseException:
        engine.dispose()
        raise


def _nfc(value: Any) -> Any:
    """The function ``nfc`` of SQL: of bytes and numbers the value itself."""
    return nfc(value) if isinstance(value, str) else value


@contextlib.contextmanager
def stated_errors(path: Path) -> Iterator[None]:
    """SQLite's errors as ours, each with the remedy that fits it."""
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite repeats the words of a damaged schema, and Python cannot read them
        raise IndexDamaged(f"{display_path(path)}: its tables are described in no text; {REBUILD}") from error
    except (exc.StatementError, sqlite3.Error, *_NOT_FOR_SQLITE) as error:
        cause = error.orig if isinstance(error, exc.StatementError) else error
        if isinstance(cause, sqlite3.Error):
            raise stated(path, cause) from error
        if isinstance(cause, _NOT_FOR_SQLITE):  # Python's own, before SQLite sees the value
            words = f"{display_path(path)}: cannot hold a value ({one_line(cause)}); nothing of it was stored"
            raise CatalogRefuses(words) from error
        raise
