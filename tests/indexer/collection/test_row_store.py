"""The vector store: append-only shards, garbage past the committed count, and a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from small_media import unit_rows, vector_store

from indexer.collection.row_store import SHARD_BYTES, rows_per_shard
from indexer.errors import IndexDamaged, StorageError


def test_rows_come_back_in_any_order_across_shards(tmp_path: Path) -> None:
    rows = unit_rows(37, 8)
    written = vector_store(tmp_path)
    for start in range(0, 37, 7):
        written.append(rows[start : start + 7], at=start)

    ids = np.array([36, 0, 9, 10, 10, 29, 5])

    assert np.array_equal(written.get(ids), rows[ids])
    assert np.array_equal(vector_store(tmp_path, 37).get(ids), rows[ids])
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"000001-{i:06d}.f32" for i in range(4)]
    assert (tmp_path / "000001-000000.f32").read_bytes() == rows[:10].tobytes()


def test_chunks_give_every_row_once_in_order(tmp_path: Path) -> None:
    rows = unit_rows(37, 8)
    written = vector_store(tmp_path)
    written.append(rows, at=0)

    for start, size in ((0, 4), (3, 100), (36, 1), (37, 5)):
        pieces = list(written.chunks(start, rows=size))
        assert [first for first, _ in pieces] == [
            start + sum(len(p) for _, p in pieces[:i]) for i in range(len(pieces))
        ]
        joined = np.concatenate([piece for _, piece in pieces]) if pieces else np.empty((0, 8))
        assert np.array_equal(joined, rows[start:])


def test_rows_past_the_committed_count_are_overwritten(tmp_path: Path) -> None:
    rows, garbage, more = unit_rows(15, 8), unit_rows(30, 8, seed=1), unit_rows(4, 8, seed=2)
    first = vector_store(tmp_path)
    first.append(rows, at=0)
    first.append(garbage, at=15)  # its catalog transaction never happened

    again = vector_store(tmp_path, 15)
    again.append(more, at=15)

    assert np.array_equal(again.get(np.arange(19)), np.concatenate([rows, more]))
    assert again.short_shards() == []
    with pytest.raises(IndexError):
        again.get(np.array([19]))
    with pytest.raises(IndexError):
        again.get(np.array([-1]))


def test_an_open_map_does_not_change_when_garbage_behind_it_is_overwritten(tmp_path: Path) -> None:
    rows = unit_rows(12, 8)
    writer = vector_store(tmp_path)
    writer.append(rows[:5], at=0)
    reader = vector_store(tmp_path, 5)
    reader.open_all()
    writer.append(rows[5:], at=5)

    assert np.array_equal(reader.get(np.arange(5)), rows[:5])
    with pytest.raises(IndexError):
        reader.get(np.array([5]))


def test_missing_and_short_shards_are_named_and_the_other_rows_stay_readable(tmp_path: Path) -> None:
    rows = unit_rows(35, 8)
    vector_store(tmp_path).append(rows, at=0)
    os.truncate(tmp_path / "000001-000001.f32", 3 * 32 + 5)
    (tmp_path / "000001-000002.f32").unlink()
    damaged = vector_store(tmp_path, 35)

    problems = damaged.short_shards()

    assert len(problems) == 2
    assert problems[0].endswith("000001-000001.f32: is 101 bytes, but 320 were committed")
    assert problems[1].endswith("000001-000002.f32: is missing")
    assert damaged.readable(np.arange(35)).tolist() == [True] * 13 + [False] * 17 + [True] * 5
    assert np.array_equal(damaged.get(np.array([12, 34])), rows[[12, 34]])
    for unreadable in (13, 20):
        with pytest.raises(IndexDamaged, match="trimodal verify --repair"):
            damaged.get(np.array([unreadable]))
    with pytest.raises(IndexDamaged, match=r"000001-000001\.f32"):
        damaged.open_all()
    with pytest.raises(IndexDamaged):
        list(damaged.chunks())


def test_appending_behind_lost_rows_is_refused(tmp_path: Path) -> None:
    vector_store(tmp_path).append(unit_rows(5, 8), at=0)
    os.truncate(tmp_path / "000001-000000.f32", 2 * 32)

    with pytest.raises(IndexDamaged, match="shorter than the 5 vectors"):
        vector_store(tmp_path, 5).append(unit_rows(1, 8), at=5)


def test_the_next_generation_starts_empty_and_the_old_one_goes_when_told(tmp_path: Path) -> None:
    old = vector_store(tmp_path)
    old.append(unit_rows(15, 8), at=0)
    (tmp_path / "000002-000000.f32").write_bytes(b"left by a crash")

    fresh = old.next_generation()
    fresh.append(old.get(np.array([3, 14])), at=0)

    assert np.array_equal(fresh.get(np.arange(2)), old.get(np.array([3, 14])))
    assert fresh.remove_others() == 15 * 32
    assert [path.name for path in tmp_path.iterdir()] == ["000002-000000.f32"]


def test_rows_of_another_width_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rows of 8 numbers"):
        vector_store(tmp_path).append(unit_rows(1, 9), at=0)


def test_a_shard_holds_whole_rows_and_at_least_one() -> None:
    assert rows_per_shard(512) * 512 * 4 == SHARD_BYTES
    assert rows_per_shard(SHARD_BYTES) == 1


def test_a_full_disk_keeps_the_committed_rows_and_gives_the_rest_of_the_space_back(tmp_path: Path) -> None:
    """The system's own limit on file sizes stands for a disk that fills up in the middle of an append."""
    script = """
import resource, sys
from pathlib import Path
import numpy as np
from indexer.errors import StorageError
from indexer.collection.row_store import VectorStore
store = VectorStore(Path(sys.argv[1]), dim=8, generation=1, count=0, shard_rows=1000)
store.append(np.ones((10, 8), np.float32), at=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (15 * 32 + 7, resource.RLIM_INFINITY))
try:
    store.append(np.full((10, 8), 2, np.float32), at=10)
except StorageError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print((Path(sys.argv[1]) / "000001-000000.f32").stat().st_size, store.count)
store.append(np.full((10, 8), 3, np.float32), at=10)
print(store.get(np.arange(20))[:, 0].tolist() == [1] * 10 + [3] * 10)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )

    message, size_and_count, kept = done.stdout.splitlines()
    assert message.startswith(f"{tmp_path}/000001-000000.f32: the file is over the size limit of this system; raise it")
    assert size_and_count == "320 10"
    assert kept == "True"


def test_a_small_real_disk_that_is_full_is_a_stated_error(small_disk: Path) -> None:
    small = vector_store(small_disk / "vectors", shard_rows=100_000)
    small.append(unit_rows(100, 8), at=0)

    with pytest.raises(StorageError, match="the disk is full; free some space"):
        small.append(unit_rows(100_000, 8), at=100)

    assert np.array_equal(small.get(np.arange(100)), unit_rows(100, 8))
    small.append(unit_rows(100, 8, seed=1), at=100)
