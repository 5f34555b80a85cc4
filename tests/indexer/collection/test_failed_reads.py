"""A read that fails (a failing disk, no permission, too many open files) is a StorageError, and never taken for damage.

Errors are injected into the system's calls, for files of the collection only, so that all code above them is the real
one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_media import entry, index, new_collection, picture, pictures, unit_rows

from indexer.collection.catalog.catalog import Catalog
from indexer.collection.catalog.checksum import checksum_file
from indexer.collection.collection import Collection
from indexer.collection.rebuild import rebuild
from indexer.corpus.pruning import is_gone
from indexer.encoders.fake import FakeEncoder
from indexer.encoders.identity import EncoderIdentity
from indexer.errors import CollectionError, IndexDamaged, StorageError, TrimodalError
from indexer.items import Place

PARTS = [
    "collection.json",
    "catalog.sqlite",
    "catalog.sqlite.crc",
    "vectors/000001-000000.f32",
    "vectors/000001-000000.crc",
    "tokens/000001-000000.u8",
    "tokens/000001-000000.crc",
    "index.faiss",
]


def made(path: Path, n: int = 6) -> Path:
    """A collection with tokens, of ``n`` pictures, closed."""
    pictures(path.with_name("media"), n)
    with new_collection(path, tokens=FakeEncoder.token_spec) as collection:
        index(collection, path.with_name("media"))
    return path


def contents(path: Path) -> dict[str, str]:
    """Every file of the collection by its hash, but for what opening SQLite makes and removes."""
    files = [file for file in path.rglob("*") if file.is_file() and not file.name.endswith(("-shm", "-wal", ".lock"))]
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)}


class FailingDisk:
    """Makes calls of the system fail for one file. ``times``: how often, then it works again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, target: Path, code: int, times: int, calls: str) -> None:
        self.target, self.code, self.left, self.failed = str(target), code, times, 0
        if calls == "open":
            self._wrap(monkeypatch, os, "open", lambda args: str(args[0]))
            self._wrap(monkeypatch, io, "open", lambda args: str(args[0]))
        elif calls == "read":
            self._wrap(monkeypatch, os, "preadv", lambda args: self._name(args[0]))
            self._wrap(monkeypatch, os, "pread", lambda args: self._name(args[0]))
            self._wrap(monkeypatch, os, "read", lambda args: self._name(args[0]))
        else:
            self._wrap(monkeypatch, os, "stat", lambda args: str(args[0]))

    def _name(self, handle: int) -> str:
        return str(Path(f"/proc/self/fd/{handle}").readlink())

    def _wrap(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, named: Callable[[Any], str]) -> None:
        real = getattr(module, name)

        def call(*args: Any, **options: Any) -> Any:
            if self.left and named(args) == self.target:
                self.left -= 1
                self.failed += 1
                raise OSError(self.code, os.strerror(self.code), self.target)
            return real(*args, **options)

        monkeypatch.setattr(module, name, call)


def do_everything(path: Path) -> None:
    """Look at the collection, repair it, search it, index it: whatever reads."""
    with Collection.open(path) as opened:
        opened.verify()
        opened.index("cpu")
    with Collection.open(path, writable=True) as opened:
        opened.repair()
    with Collection.open_or_create(path, EncoderIdentity("other", "other-1", 64)) as opened:
        opened.catalog.keys()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="finds the files by /proc")
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ESTALE, errno.ENOMEM])
@pytest.mark.parametrize("calls", ["open", "read", "stat"])
def test_a_file_that_cannot_be_read_is_named_and_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, calls: str
) -> None:
    path = made(tmp_path / "c")
    before = contents(path)
    reached = 0
    for part in PARTS:
        with monkeypatch.context() as patched:
            disk = FailingDisk(patched, path / part, code, 10_000, calls)
            try:
                do_everything(path)
                error = None
            except TrimodalError as found:
                error = found
        if disk.failed and not (error is None and part.endswith("sqlite.crc")):
            reached += 1
            assert isinstance(error, StorageError), (part, error)
            assert part.rpartition("/")[2] in str(error) or part.partition("/")[0] in str(error)
            assert "--repair" not in str(error)
            assert "--rebuild" not in str(error)
        assert contents(path) == before, part
        with Collection.open(path) as opened:
            assert (opened.verify(), opened.warnings, opened.count) == ([], [], 6)
    assert reached >= 2


def test_one_failed_read_while_the_catalog_opens_leaves_no_wrong_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path / "c")
    real = Catalog._reading
    failures = [1]

    def failing(self: Catalog) -> Any:
        context = real(self)
        if failures and self.writable:

            class Once:
                def __enter__(self) -> Any:
                    connection = context.__enter__()

                    class Failing:
                        def __getattr__(self, name: str) -> Any:
                            def call(query: Any, *rest: Any) -> Any:
                                if failures and "meta" in str(query):
                                    failures.pop()
                                    error = sqlite3.OperationalError("disk I/O error")
                                    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
                                    error.sqlite_errorname = "SQLITE_IOERR_READ"
                                    raise error
                                return getattr(connection, name)(query, *rest)

                            return call

                    return Failing()

                def __exit__(self, *error: Any) -> Any:
                    return context.__exit__(*error)

            return Once()
        return context

    monkeypatch.setattr(Catalog, "_reading", failing)
    with pytest.raises(StorageError, match=r"catalog\.sqlite: .*disk I/O error"):
        Collection.open(path, writable=True)
    assert not failures

    with Collection.open(path, writable=True) as opened:
        opened.commit([])
    with Collection.open(path) as opened:
        assert opened.verify() == []


def test_a_catalog_that_was_written_without_a_log_gets_one_and_is_not_taken_for_damaged(tmp_path: Path) -> None:
    """As one is left by a disk that can't have a log, or that failed while the catalog was switched to it."""
    path = made(tmp_path / "c")
    with contextlib.closing(sqlite3.connect(path / "catalog.sqlite")) as raw:
        assert raw.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    checksum_file(path / "catalog.sqlite").unlink()
    with contextlib.closing(Catalog.open(path / "catalog.sqlite", writable=True)) as catalog:
        raw_connection: Any = catalog._connection.connection.driver_connection
        raw_connection.execute("PRAGMA journal_mode = DELETE")
        with catalog.transaction():
            pass
    assert checksum_file(path / "catalog.sqlite").is_file()

    for _ in range(2):
        with Collection.open(path, writable=True) as opened:
            assert opened.catalog.is_whole
        with Collection.open(path) as opened:
            assert opened.verify() == []
    with contextlib.closing(sqlite3.connect(path / "catalog.sqlite")) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("line", ["Tree 3 page 5: unable to get the page. error code=266", "error code 3082"])
def test_a_page_that_sqlite_could_not_get_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """``integrity_check`` reports a failed read as one of its lines."""
    with Collection.open(made(tmp_path / "c")) as opened:
        real = opened.catalog._connection

        class Checking:
            closed = False

            def exec_driver_sql(self, text: str) -> Any:
                if "integrity_check" not in text:
                    return real.exec_driver_sql(text)
                return type("Rows", (), {"scalars": lambda _: iter([line])})()

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        monkeypatch.setattr(opened.catalog, "_connection", Checking())
        with pytest.raises(StorageError, match="cannot be read .*check the disk"):
            opened.catalog.check()


def test_a_short_read_is_no_short_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "c")
    before = contents(path)
    with Collection.open(path, writable=True) as opened:
        opened.vectors.open_all()
        with monkeypatch.context() as patched:
            patched.setattr(os, "preadv", lambda handle, views, offset: 0)
            patched.setattr(os, "pread", lambda handle, size, offset: b"")
            with pytest.raises(
                StorageError, match=r"000001-000000\.f32: cannot be read: the read ended before the file"
            ):
                opened.vectors.get(__import__("numpy").arange(3))
    assert contents(path) == before


def test_a_failed_read_of_an_unfinished_rebuild_does_not_throw_it_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path / "c")
    beside = made(tmp_path / "c.rebuilding")
    before = contents(beside)
    with monkeypatch.context() as patched:
        FailingDisk(patched, beside / "collection.json", errno.EIO, 10_000, "open")
        with pytest.raises(StorageError, match=r"c\.rebuilding/collection\.json: cannot be read"):
            rebuild(
                path,
                EncoderIdentity("fake", "fake-1", 64, FakeEncoder.token_spec),
                lambda one: pytest.fail("began anew"),
            )
    assert contents(beside) == before


def test_a_collection_that_cannot_be_put_back_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebuild was killed between its two renames, and the disk does not let the old collection be moved back."""
    made(tmp_path / "c").rename(tmp_path / "c.replaced")

    def refused(self: Path, target: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refused)
        with pytest.raises(StorageError, match=r"c\.replaced: "):
            Collection.exists(tmp_path / "c")
    with Collection.open(tmp_path / "c") as opened:
        assert opened.count == 6


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_file_that_the_system_does_not_show_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = picture(tmp_path / "media" / "a.png", 1)
    with monkeypatch.context() as patched:
        FailingDisk(patched, path, code, 10_000, "stat")
        assert not is_gone(Place(str(path), path, None))
    path.unlink()
    assert is_gone(Place(str(path), path, None))


def test_damage_that_was_known_is_not_forgotten_by_a_writer_that_could_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c"
    with new_collection(path, 16) as collection:
        collection.commit([entry("a.png", unit_rows(1, 16), metadata={"kind": "before"})])
    file = path / "catalog.sqlite"
    file.write_bytes(file.read_bytes().replace(b'"before"', b'"beyond"'))
    with monkeypatch.context() as patched:
        FailingDisk(patched, path / "catalog.sqlite.crc", errno.EIO, 1, "stat")
        with pytest.raises(StorageError):
            Collection.open(path, writable=True)
    with Collection.open(path) as opened:
        (problem,) = opened.verify()
        assert "its bytes are not those that were written" in problem.what


def test_number_of_vectors_that_is_no_number_is_damage_and_no_traceback(tmp_path: Path) -> None:
    path = made(tmp_path / "c")
    with sqlite3.connect(path / "catalog.sqlite") as raw:
        raw.execute("UPDATE meta SET value = 'x' WHERE key = 'vector_count'")
    with pytest.raises(IndexDamaged, match="its vector_count is no number"):
        Collection.open(path)
    assert issubclass(IndexDamaged, CollectionError)
