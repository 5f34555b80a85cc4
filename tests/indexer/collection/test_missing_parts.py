"""A part of a collection that is gone or is something else: named, repaired or refused, never silent, no signal."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from small_media import index, new_collection, pictures, snapshot, unit_rows, vector_store

from indexer.collection.collection import Collection
from indexer.collection.rebuild import rebuild
from indexer.collection.token_store import TokenStore
from indexer.encoders.fake import FakeEncoder
from indexer.encoders.identity import EncoderIdentity
from indexer.errors import CollectionError, CollectionMissing, IndexDamaged, StorageError

DESCRIPTION = "collection.json"
FOLDERS = ("vectors", "tokens")
ROWS = ("vectors/000001-000000.f32", "tokens/000001-000000.u8")
DERIVED = ("vectors/000001-000000.crc", "tokens/000001-000000.crc", "catalog.sqlite.crc", "index.faiss")


def made(path: Path, n: int = 6) -> Path:
    """A collection with tokens, of the ``n`` pictures beside it, closed."""
    pictures(path.with_name("media"), n)
    with new_collection(path, tokens=FakeEncoder.token_spec) as collection:
        index(collection, path.with_name("media"))
    return path


def indexed(path: Path) -> int:
    """What ``trimodal index media`` does; returns the items that there are then."""
    with Collection.open_or_create(path, EncoderIdentity("fake", "fake-1", 64, FakeEncoder.token_spec)) as collection:
        index(collection, path.with_name("media"))
        assert collection.verify() == []
        return sum(collection.catalog.count_items().values())


def repair(path: Path) -> list[str]:
    """What ``trimodal verify --repair`` leaves to the user."""
    try:
        with Collection.open(path, writable=True) as opened:
            opened.repair()
            return [problem.remedy for problem in opened.verify()]
    except IndexDamaged as error:
        assert "move it away" in str(error)
        return [str(error)]


def take_away(part: Path) -> None:
    shutil.rmtree(part) if part.is_dir() else part.unlink()


def gone(part: Path) -> None:
    take_away(part)


def folder(part: Path) -> None:
    take_away(part)
    part.mkdir()


def empty(part: Path) -> None:
    take_away(part)
    part.touch()


def dangling(part: Path) -> None:
    take_away(part)
    part.symlink_to(part.with_name("unplugged"))


def fifo(part: Path) -> None:
    take_away(part)
    os.mkfifo(part)


def foreign(part: Path) -> None:
    folder(part)
    (part / "letter.txt").write_text("the only copy")


LOSSES: list[Callable[[Path], None]] = [gone, folder, empty, dangling, fifo, foreign]


@pytest.mark.parametrize("loss", [gone, folder, empty, dangling, fifo])
def test_a_lost_description_is_put_back_from_its_copy(tmp_path: Path, loss: Callable[[Path], None]) -> None:
    path = made(tmp_path / "c")
    with Collection.open(path) as opened:
        before = snapshot(opened)
    text = (path / DESCRIPTION).read_text()
    loss(path / DESCRIPTION)

    for attempt in (lambda: Collection.open(path), lambda: indexed(path)):
        with pytest.raises(IndexDamaged, match=r"collection\.json: .*trimodal verify --repair"):
            attempt()
    assert Collection.exists(path)
    assert Collection.restore(path) == ["collection.json put back from its copy in catalog.sqlite"]
    assert (path / DESCRIPTION).read_text() == text
    assert Collection.restore(path) == []
    with Collection.open(path) as opened:
        assert (snapshot(opened), opened.verify()) == (before, [])


def test_a_lost_description_without_a_copy_is_refused_and_nothing_is_thrown_away(tmp_path: Path) -> None:
    """Collections that were last written before there were copies."""
    path = made(tmp_path / "c")
    with sqlite3.connect(path / "catalog.sqlite") as raw:
        raw.execute("DELETE FROM meta WHERE key = 'description'")
    text = (path / DESCRIPTION).read_text()
    (path / DESCRIPTION).unlink()
    with pytest.raises(IndexDamaged, match=r"collection\.json: is missing"):
        indexed(path)
    with pytest.raises(IndexDamaged, match=r"keeps no copy of it; put it back from a backup, or .*--rebuild"):
        Collection.restore(path)
    with pytest.raises(IndexDamaged):
        Collection.create(path, EncoderIdentity("fake", "fake-1", 64))
    (path / DESCRIPTION).write_text(text)
    with Collection.open(path) as opened:
        assert opened.count == 6


def test_a_collection_from_before_there_were_copies_gets_one_from_its_next_writer(tmp_path: Path) -> None:
    path = made(tmp_path / "c")
    with sqlite3.connect(path / "catalog.sqlite") as raw:
        raw.execute("DELETE FROM meta WHERE key = 'description'")
    (path / "catalog.sqlite.crc").unlink()
    Collection.open(path, writable=True).close()
    (path / DESCRIPTION).unlink()
    assert len(Collection.restore(path)) == 1
    assert indexed(path) == 6


def test_vectors_without_catalog_and_description_are_not_taken_for_an_empty_folder(tmp_path: Path) -> None:
    path = made(tmp_path / "c")
    for part in (DESCRIPTION, "catalog.sqlite"):
        (path / part).unlink()
    with pytest.raises(IndexDamaged, match=r"collection\.json: is missing, but vectors/ is there"):
        indexed(path)
    assert (path / ROWS[0]).stat().st_size == 6 * 64 * 4


def test_a_rebuild_takes_the_place_of_a_collection_without_a_description(tmp_path: Path) -> None:
    path = made(tmp_path / "c")
    (path / DESCRIPTION).unlink()

    def run(collection: Collection) -> object:
        return index(collection, tmp_path / "media")

    rebuild(path, EncoderIdentity("fake", "fake-1", 64, FakeEncoder.token_spec), run)
    assert indexed(path) == 6


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("part", [*FOLDERS, *ROWS, *DERIVED])
def test_a_lost_part_is_named_and_repaired_or_left_to_the_user(
    tmp_path: Path, part: str, loss: Callable[[Path], None]
) -> None:
    if (part in FOLDERS and loss is folder) or (part.endswith("sqlite.crc") and loss is gone):
        pytest.skip("is as it may be")
    path = made(tmp_path / "c")
    loss(path / part)

    with Collection.open(path) as opened:
        problems = opened.verify()
    assert any(str(path / part) in problem.what for problem in problems), problems
    if repair(path):  # else it is for the user: what lies there is not ours, or may lie on a disk that is unplugged
        assert loss in (foreign, dangling)
        assert loss is dangling or part in FOLDERS or (path / part / "letter.txt").exists()
        take_away(path / part)
        assert repair(path) == []
    assert indexed(path) == 6


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_catalog_is_named_and_only_a_rebuild_replaces_it(tmp_path: Path, loss: Callable[[Path], None]) -> None:
    path = made(tmp_path / "c")
    loss(path / "catalog.sqlite")
    for attempt in (lambda: Collection.open(path), lambda: indexed(path)):
        with pytest.raises(IndexDamaged, match=r"catalog\.sqlite: .*--rebuild"):
            attempt()
    assert (path / ROWS[0]).stat().st_size == 6 * 64 * 4

    def run(collection: Collection) -> object:
        return index(collection, tmp_path / "media")

    if loss is foreign:
        with pytest.raises(CollectionError, match="a folder with files in it"):
            rebuild(path, EncoderIdentity("fake", "fake-1", 64, FakeEncoder.token_spec), run)
        return
    rebuild(path, EncoderIdentity("fake", "fake-1", 64, FakeEncoder.token_spec), run)
    assert indexed(path) == 6


@pytest.mark.parametrize("loss", [folder, dangling, fifo])
def test_something_else_in_the_place_of_the_lock_is_named(tmp_path: Path, loss: Callable[[Path], None]) -> None:
    path = made(tmp_path / "c")
    (path / "write.lock").touch()
    loss(path / "write.lock")
    with pytest.raises(CollectionError, match=r"write\.lock: is .*; remove it"):
        Collection.open(path, writable=True)
    with Collection.open(path) as opened:
        assert opened.verify() == []


def test_indexing_begins_with_naming_lost_vectors_and_writes_nothing(tmp_path: Path) -> None:
    path = made(tmp_path / "c")
    shutil.rmtree(path / "vectors")
    with pytest.raises(IndexDamaged, match=r"vectors/000001-000000\.f32: is missing; run: trimodal verify --repair"):
        indexed(path)
    assert not (path / "vectors").exists()


def test_an_empty_collection_without_its_folder_is_named_and_repaired(tmp_path: Path) -> None:
    new_collection(tmp_path / "c", 16).close()
    (tmp_path / "c" / "vectors").rmdir()
    with Collection.open(tmp_path / "c", writable=True) as opened:
        (problem,) = opened.verify()
        assert problem.what == f"{tmp_path / 'c' / 'vectors'}: is missing"
        assert opened.repair()[0] == "vectors/ made anew"
        assert opened.verify() == []


def test_the_generation_that_a_damaged_catalog_names_does_not_decide_what_is_removed(tmp_path: Path) -> None:
    path = made(tmp_path / "c")
    with sqlite3.connect(path / "catalog.sqlite") as raw:
        raw.execute("UPDATE meta SET value = 3 WHERE key = 'generation'")
    with Collection.open(path, writable=True):
        pass
    assert all((path / rows).exists() for rows in ROWS)


def test_there_is_no_collection_in_an_empty_folder(tmp_path: Path) -> None:
    assert not Collection.exists(tmp_path)
    with pytest.raises(CollectionMissing):
        Collection.open(tmp_path)
    with pytest.raises(CollectionMissing):
        Collection.restore(tmp_path)


CUT = """
import os, sys
from pathlib import Path
import numpy as np
sys.path[:0] = sys.argv[2:]
from indexer.errors import IndexDamaged
from small_media import unit_rows, vector_store
folder = Path(sys.argv[1])
vector_store(folder, shard_rows=100_000).append(unit_rows(50_000, 8), at=0)
reader = vector_store(folder, 50_000, shard_rows=100_000)
reader.open_all()
reader.get(np.arange(100))
os.truncate(folder / "000001-000000.f32", 4_096)
for read in (lambda: reader.get(np.array([40_000])), lambda: reader.get(np.arange(0, 50_000, 3)),
             lambda: reader.get(np.arange(50_000)), lambda: list(reader.chunks())):
    try:
        read()
        print("read")
    except IndexDamaged as error:
        print("shorter" in str(error))
"""


def test_a_file_that_is_cut_under_an_open_reader_is_damage_and_no_signal(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    command = [sys.executable, "-c", CUT, str(tmp_path / "v"), str(ROOT), str(ROOT / "tests" / "support")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode != -signal.SIGBUS
    assert (done.returncode, done.stdout.split()) == (0, ["True"] * 4), done.stderr


def test_empty_rows_are_read_from_a_full_disk_in_memory(small_disk: Path) -> None:
    """A hole of a file in memory gets a page when a map of it is read; there is none left."""
    tokens = TokenStore(small_disk, dim=4_096, generation=1, count=0, shard_rows=1_000)
    tokens.append(np.zeros((60, 4_096), np.uint8), at=0)
    with (small_disk / "rest").open("wb") as file, pytest.raises(OSError, match="No space"):
        file.write(bytes(2**21))
    assert not tokens.get(np.arange(60)).any()


def test_rows_come_back_in_any_order_and_density(tmp_path: Path) -> None:
    """Close rows are read in one call, others one by one: against rows in memory."""
    rows = unit_rows(5_000, 64)
    written = vector_store(tmp_path, dim=64, shard_rows=1_300)
    written.append(rows, at=0)
    chance = np.random.default_rng(0)
    wanted = [
        np.arange(5_000),
        np.arange(0, 5_000, 7),
        np.arange(100, 4_000, 90),
        chance.integers(0, 5_000, 3_000),
        np.repeat(np.arange(1_200, 1_400), 2),
        np.concatenate([np.arange(70), np.arange(4_000, 4_100)]),
    ]
    for ids in wanted:
        assert np.array_equal(written.get(ids), rows[ids])
    assert written.get(np.zeros(0, np.int64)).shape == (0, 64)


def test_a_vector_file_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    written = vector_store(tmp_path, dim=8)
    written.append(unit_rows(5, 8), at=0)
    fifo(tmp_path / "000001-000000.f32")
    with pytest.raises(IndexDamaged):
        vector_store(tmp_path, 5).get(np.arange(3))
    with pytest.raises((IndexDamaged, StorageError)):
        vector_store(tmp_path, 0).append(unit_rows(5, 8), at=0)


def trimodal(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command itself."""
    code = "import sys; from trimodal.cli import app; sys.argv[0] = 'trimodal'; app()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_the_command_refuses_a_collection_without_a_description_and_repairs_it(tmp_path: Path) -> None:
    path, media = made(tmp_path / "c"), str(tmp_path / "media")
    (path / DESCRIPTION).unlink()

    refused = trimodal("index", media, "--model", "fake", "-c", str(path))
    assert refused.returncode == 3
    assert len(refused.stderr.strip().splitlines()) == 1
    assert "collection.json: is missing, but catalog.sqlite is there" in refused.stderr
    assert trimodal("verify", "-c", str(path)).returncode == 3

    repaired = trimodal("verify", "--repair", "-c", str(path))
    assert repaired.returncode == 0
    assert "mended: collection.json put back from its copy in catalog.sqlite" in repaired.stdout
    assert indexed(path) == 6


def test_features_of_a_training_that_are_cut_under_their_reader_are_named(tmp_path: Path) -> None:
    from indexer.training.data.features import FeatureCache

    keys, rows = [f"{n:040d}" for n in range(2_000)], unit_rows(2_000, 8)
    cache = FeatureCache(tmp_path, 8)
    cache.add(keys, rows)
    assert np.array_equal(cache.get(keys[::-1]), rows[::-1])
    os.truncate(tmp_path / "rows.f32", 100)
    assert np.array_equal(cache.get(keys[:3]), rows[:3])
    with pytest.raises(StorageError, match=r"rows\.f32: was cut short meanwhile; remove its folder"):
        cache.get(keys)


def test_a_schema_that_is_no_text_is_damage(tmp_path: Path) -> None:
    """SQLite quotes it in its error, and Python's module cannot decode the quotation."""
    path = tmp_path / "c"
    new_collection(path).close()
    file = path / "catalog.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as raw:
        raw.execute("PRAGMA writable_schema = ON")
        raw.execute("UPDATE sqlite_master SET sql = CAST(x'4352454154452054' || x'80ff' AS TEXT) WHERE name = 'items'")
        raw.commit()
    with pytest.raises(IndexDamaged, match="catalog"):
        Collection.open(path)
