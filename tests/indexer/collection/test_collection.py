"""A collection directory: commits, readers, damage and repair, compacting, rebuilding."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from paths import ROOT
from small_media import entry, new_collection, snapshot, unit_rows

from indexer.ann import index as faiss_index
from indexer.ann import plan as index_plan
from indexer.collection import collection as collection_module
from indexer.collection import index_file_manager as index_keeper
from indexer.collection.collection import Collection
from indexer.collection.rebuild import rebuild
from indexer.encoders.identity import EncoderIdentity
from indexer.encoders.tokens.format import TokenSpec
from indexer.errors import (
    CollectionError,
    CollectionLocked,
    CollectionMissing,
    EncoderMismatch,
    IndexDamaged,
    StorageError,
)
from indexer.items import Item, Modality


def filled(path: Path, n: int = 30, *, dim: int = 16) -> Collection:
    """``n`` pictures with a vector each, index saved; open for writing."""
    made = new_collection(path, dim)
    rows = unit_rows(n, dim)
    made.commit([entry(f"{i:03}.png", rows[i : i + 1], metadata={"n": i}) for i in range(n)])
    made.save_index()
    return made


def best(collection: Collection, query: np.ndarray[tuple[int, ...], np.dtype[np.float32]], k: int = 1) -> list[str]:
    _, ids = collection.index("cpu").search(query[None], k, collection.catalog.vector_ids())
    rows = collection.catalog.lookup(ids[0])
    return [rows[int(vector_id)].name for vector_id in ids[0] if vector_id >= 0]


# -- opening --------------------------------------------------------------------------------------------------


def test_a_new_collection_is_empty_whole_and_says_what_made_it(tmp_path: Path) -> None:
    with new_collection(tmp_path / "a" / "b") as made:
        assert (made.count, made.dim, made.encoder_spec, made.fingerprint) == (0, 64, "fake", "fake-1")
        assert made.verify() == []
        assert made.index("cpu").search(unit_rows(1, 64), 3)[1].tolist() == [[-1, -1, -1]]
    description = json.loads((tmp_path / "a" / "b" / "collection.json").read_text())
    assert description["schema_version"] == 1
    assert (description["encoder"], description["dim"], description["metric"]) == ("fake", 64, "inner product")


def test_what_was_committed_is_there_after_opening_again(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()

    with Collection.open(tmp_path / "c") as opened:
        assert opened.count == 30
        assert best(opened, unit_rows(30, 16)[17]) == ["017.png"]
        assert opened.warnings == []
        assert opened.verify() == []


def test_opening_what_is_not_there_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(CollectionMissing, match=r"no collection there; make one: trimodal index"):
        Collection.open(tmp_path / "none")
    assert not Collection.exists(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_folder_with_other_files_is_not_made_a_collection(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")

    with pytest.raises(CollectionError, match=r"holds other files \(holiday\.jpg\)"):
        new_collection(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_creating_over_a_collection_is_refused_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()

    with pytest.raises(CollectionError, match="is a collection already"):
        new_collection(tmp_path / "c")
    with Collection.create(tmp_path / "c", EncoderIdentity("fake", "other", 8), replace=True) as made:
        assert (made.count, made.dim) == (0, 8)
        assert made.verify() == []


def test_what_a_crashed_creation_left_is_no_collection_and_no_obstacle(tmp_path: Path) -> None:
    new_collection(tmp_path / "c", 16).close()  # killed before its last step
    (tmp_path / "c" / "collection.json").rename(tmp_path / "c" / "collection.json.tmp")

    with pytest.raises(CollectionMissing):
        Collection.open(tmp_path / "c")
    with Collection.open_or_create(tmp_path / "c", EncoderIdentity("fake", "fake-1", 16)) as made:
        assert made.count == 0
        made.commit([entry("a", unit_rows(1, 16))])
        assert made.verify() == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1}', '{"schema_version": 1, "dim": 0}'])
def test_a_damaged_description_is_named_with_the_remedy(tmp_path: Path, text: str) -> None:
    filled(tmp_path / "c").close()
    (tmp_path / "c" / "collection.json").write_text(text)

    with pytest.raises(IndexDamaged, match=r"collection\.json: is damaged; .*trimodal index --rebuild"):
        Collection.open(tmp_path / "c")


def test_a_collection_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    (tmp_path / "c" / "collection.json").write_text('{"schema_version": 2, "novelty": true}')

    with pytest.raises(CollectionError, match=r"newer trimodal .*pip install -U trimodal"):
        Collection.open(tmp_path / "c")


def test_another_encoder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    made = new_collection(tmp_path / "c")
    made.require_encoder(EncoderIdentity("fake", "fake-1", made.dim))

    with pytest.raises(EncoderMismatch, match=r"made by model fake, not starter; use --model fake, another --coll"):
        made.require_encoder(EncoderIdentity("starter", "abc", made.dim))
    with pytest.raises(EncoderMismatch, match=r"another version of model fake .*trimodal index --rebuild"):
        made.require_encoder(EncoderIdentity("fake", "abc", made.dim))


def test_a_collection_that_holds_nothing_takes_any_encoder(tmp_path: Path) -> None:
    with new_collection(tmp_path / "c") as wrong:  # what a first run leaves whose weights did not load
        wrong.save_index()
    tokens = TokenSpec(2, 4, "reranker-1")
    with Collection.open_or_create(tmp_path / "c", EncoderIdentity("openclip:a", "abc", 16, tokens)) as made:
        made.require_encoder(EncoderIdentity("openclip:a", "abc", made.dim))
        assert (made.dim, made.token_spec, made.count) == (16, tokens, 0)
        with pytest.raises(CollectionLocked):
            Collection.open(tmp_path / "c", writable=True)
    with Collection.open_or_create(
        tmp_path / "c", EncoderIdentity("openclip:b", "abc", 16)
    ) as moved:  # the same weights elsewhere
        assert moved.encoder_spec == "openclip:b"
        moved.commit([entry("a.png", unit_rows(1, 16))])
        moved.save_index()
        assert moved.verify() == []
    with Collection.open(tmp_path / "c") as again:
        assert best(again, unit_rows(1, 16)[0]) == ["a.png"]


@pytest.mark.parametrize("emptied", [False, True])
def test_a_collection_that_holds_something_keeps_its_encoder(tmp_path: Path, emptied: bool) -> None:
    with filled(tmp_path / "c") as made:
        if emptied:  # its vectors are dead, and still there
            made.remove(made.catalog.keys())
        before = snapshot(made)
    with Collection.open_or_create(tmp_path / "c", EncoderIdentity("starter", "abc", 16)) as found:
        assert (found.encoder_spec, found.fingerprint, found.vectors.count) == ("fake", "fake-1", 30)
        with pytest.raises(EncoderMismatch, match="made by model fake, not starter"):
            found.require_encoder(EncoderIdentity("starter", "abc", found.dim))
        assert snapshot(found) == before


# -- one writer, many readers -----------------------------------------------------------------------------------


def test_a_second_writer_is_refused_and_a_reader_is_not(tmp_path: Path) -> None:
    with filled(tmp_path / "c"):
        with pytest.raises(CollectionLocked, match="another trimodal is writing to it"):
            Collection.open(tmp_path / "c", writable=True)
        with Collection.open(tmp_path / "c") as reader:
            assert reader.count == 30
    Collection.open(tmp_path / "c", writable=True).close()


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    script = (
        "import sys, time; from pathlib import Path; from indexer.collection.collection import Collection;"
        "c = Collection.open(Path(sys.argv[1]), writable=True); print('open', flush=True); time.sleep(60)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "c")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "open\n"
    with pytest.raises(CollectionLocked):
        Collection.open(tmp_path / "c", writable=True)

    writer.send_signal(signal.SIGKILL)
    writer.wait()

    with Collection.open(tmp_path / "c", writable=True) as opened:
        assert opened.count == 30


def test_a_reader_sees_one_commit_whatever_a_writer_does(tmp_path: Path) -> None:
    writer = filled(tmp_path / "c")
    reader = Collection.open(tmp_path / "c")
    before = snapshot(reader)
    rows = unit_rows(10, 16, seed=1)

    writer.commit([entry(f"{i:03}.png", rows[i : i + 1]) for i in range(5)])
    writer.commit([entry("new.png", rows[5:])])
    writer.remove(["/media/029.png"])
    writer.save_index()
    assert snapshot(reader) == before
    assert best(reader, unit_rows(30, 16)[29]) == ["029.png"]
    assert best(reader, rows[5], k=1) != ["new.png"]

    writer.compact()
    assert snapshot(reader) == before
    assert best(reader, unit_rows(30, 16)[29]) == ["029.png"]

    assert reader.refresh()
    assert not reader.refresh()
    assert snapshot(reader) == snapshot(writer)
    assert best(reader, rows[5]) == ["new.png"]
    assert (reader.verify(), writer.verify(), reader.warnings) == ([], [], [])


def test_a_reader_opened_before_the_index_was_ever_loaded_survives_compacting(tmp_path: Path) -> None:
    writer = filled(tmp_path / "c")
    reader = Collection.open(tmp_path / "c")
    writer.remove([f"/media/{i:03}.png" for i in range(20)])
    writer.compact()

    assert best(reader, unit_rows(30, 16)[3]) == ["003.png"]
    assert reader.warnings == []


@pytest.mark.parametrize("last_writer", ["closed it", "was killed"])
def test_a_read_only_collection_is_opened_and_searched(tmp_path: Path, last_writer: str) -> None:
    if os.name == "nt" or os.geteuid() != 0:
        pytest.skip("needs root, to become a user without rights")
    if last_writer == "closed it":
        filled(tmp_path / "c").close()
    else:
        die = (
            "import os, sys; from pathlib import Path; from test_collection import filled\n"
            "kept = filled(Path(sys.argv[1])); os._exit(0)"
        )
        paths = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}{os.pathsep}{Path(__file__).parent}",
        }
        subprocess.run([sys.executable, "-c", die, str(tmp_path / "c")], env=paths, check=True)
    assert (tmp_path / "c" / "catalog.sqlite-wal").exists() == (last_writer == "was killed")
    for path in (tmp_path, *tmp_path.parents):
        if path.name.startswith(("pytest-", "popen-", "test_")):
            path.chmod(0o755)
    script = (
        "import filelock, mmap, os, sys; from pathlib import Path; import numpy as np\n"
        "from indexer.collection.collection import Collection\n"
        "from indexer.errors import StorageError\n"
        "os.setgid(65534); os.setuid(65534); path = Path(sys.argv[1]); c = Collection.open(path)\n"
        "print(c.count, c.index('cpu').search(c.vectors.get(np.array([7])), 1)[1].tolist(), c.verify(), c.warnings)\n"
        "try: Collection.open(path, writable=True)\n"
        "except StorageError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "c")], cwd=ROOT, capture_output=True, text=True, check=False
    )

    lines = [*done.stdout.splitlines(), "", ""]
    assert lines[0] == "30 [[7]] [] []", done.stderr
    assert lines[1].startswith(f"{tmp_path}/c: permission denied; use a folder that you may write to")


def test_writing_through_a_reader_is_refused(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    with Collection.open(tmp_path / "c") as reader:
        for write in (
            lambda: reader.commit([entry("x", unit_rows(1, 16))]),
            lambda: reader.remove(["/media/000.png"]),
            reader.save_index,
            reader.compact,
            reader.repair,
        ):
            with pytest.raises(CollectionError, match="open for reading only"):
                write()


# -- commits ----------------------------------------------------------------------------------------------------


def test_a_commit_replaces_an_item_of_the_same_key(tmp_path: Path) -> None:
    rows = unit_rows(10, 16, seed=5)
    with filled(tmp_path / "c") as made:
        made.commit([entry("003.png", rows[:4])])

        assert made.count == 33
        assert best(made, rows[2]) == ["003.png"]
        assert len(made.vectors.get(made.catalog.vector_ids())) == 33
        made.save_index()
        assert made.verify() == []


def test_vectors_that_are_no_embeddings_are_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    good = unit_rows(2, 16)
    with filled(tmp_path / "c") as made:
        before = snapshot(made)
        for bad in (good * 2, good * np.nan, unit_rows(2, 8), np.zeros((1, 16), np.float32)):
            with pytest.raises(ValueError, match="/media/bad"):
                made.commit([entry("good", good), entry("bad", np.asarray(bad, np.float32))])
        with pytest.raises(ValueError, match="/media/bad"):
            made.commit([entry("bad", good[:0])])

        assert snapshot(made) == before


def test_an_error_in_a_transaction_leaves_vectors_and_catalog_as_they_were(tmp_path: Path) -> None:
    rows = unit_rows(40, 16, seed=1)
    with filled(tmp_path / "c") as made:
        before = snapshot(made)
        with pytest.raises(RuntimeError), made.transaction():
            made.remove(["/media/000.png"])
            made.commit([entry("a", rows[:20])])
            made.commit([entry("b", rows[20:])])
            raise RuntimeError

        assert snapshot(made) == before
        assert made.vectors.count == 30
        made.commit([entry("c", rows[:3])])
        assert made.vectors.count == 33
        assert np.array_equal(made.vectors.get(np.arange(30, 33)), rows[:3])
        assert made.verify() == []


def test_moving_and_touching_keep_the_vectors(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as made:
        vectors = {key: held[2] for key, held in snapshot(made).items()}
        made.rename("/media/004.png", Item("/new/4.png", Modality.IMAGE, Path("/new/4.png"), size_bytes=9))
        made.touch([Item("/media/005.png", Modality.IMAGE, Path("/media/005.png"), captions=("five",))])

        after = snapshot(made)
        assert after["/new/4.png"][2] == vectors["/media/004.png"]
        assert after["/media/005.png"][2] == vectors["/media/005.png"]
        assert made.catalog.find(["/media/005.png"])["/media/005.png"].caption == "five"
        assert made.vectors.count == 30


def test_items_are_removed_by_file_folder_manifest_row_and_relative_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = unit_rows(1, 16)
    with new_collection(tmp_path / "c", 16) as made:
        names = ["a/x.png", "a/b/y.png", "ab/z.png", "w.png", "v.png", "list.jsonl#1"]
        made.commit([entry(name, rows) for name in names])

        assert made.remove_under(["/media/a"]) == 2
        assert made.remove_under(["/media/w.png", "/media/list.jsonl#1"]) == 2
        (tmp_path / "media").mkdir()
        monkeypatch.chdir("/")
        assert made.remove_under(["media/v.png", "nothing"]) == 1
        assert made.catalog.keys() == ["/media/ab/z.png"]


def test_statistics_count_items_segments_and_dead_vectors(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as made:
        made.commit([entry("s.ogg", unit_rows(5, 16), modality=Modality.AUDIO)])
        made.remove(["/media/000.png", "/media/001.png"])

        stats = json.loads(json.dumps(made.stats()))

    assert stats["items"] == {"image": 28, "audio": 1, "text": 0}
    assert stats["segments"] == {"image": 28, "audio": 5, "text": 0}
    assert stats["vectors"] == {"live": 33, "dead": 2, "generation": 1}
    assert (stats["model"], stats["dim"], stats["index"]) == ("fake", 16, "Flat")
    assert stats["bytes"] > 35 * 64


# -- the index ----------------------------------------------------------------------------------------------------


def test_an_index_that_lags_behind_is_completed_in_memory_and_is_no_problem(tmp_path: Path) -> None:
    made = filled(tmp_path / "c")
    rows = unit_rows(4, 16, seed=9)
    made.commit([entry("late.png", rows)])
    made.close()

    with Collection.open(tmp_path / "c") as opened:
        assert best(opened, rows[3]) == ["late.png"]
        assert opened.index("cpu").ntotal == 34
        assert (opened.warnings, opened.verify()) == ([], [])


def test_an_index_never_saved_is_made_in_memory_without_a_word(tmp_path: Path) -> None:
    with new_collection(tmp_path / "c", 16) as made:
        made.commit([entry("a.png", unit_rows(1, 16))])
    with Collection.open(tmp_path / "c") as opened:
        assert best(opened, unit_rows(1, 16)[0]) == ["a.png"]
        assert (opened.warnings, opened.verify()) == ([], [])


@pytest.mark.parametrize("damage", ["missing", "flipped", "cut", "foreign"])
def test_a_damaged_index_is_worked_around_told_found_and_mended(tmp_path: Path, damage: str) -> None:
    filled(tmp_path / "c").close()
    path = tmp_path / "c" / "index.faiss"
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        path.write_bytes(data[:200] + bytes([data[200] ^ 255]) + data[201:])
    elif damage == "cut":
        path.write_bytes(data[:1000])
    else:
        other = faiss_index.build_index(16, 30, "cpu")
        other.add(unit_rows(30, 16, seed=8))
        other.save(path, generation=1)

    with Collection.open(tmp_path / "c") as opened:
        assert best(opened, unit_rows(30, 16)[17]) == ["017.png"]
        assert len(opened.warnings) == 1
        assert "trimodal verify --repair" in str(opened.warnings[0])
        (problem,) = opened.verify()
        assert problem.what.startswith(f"{path}: ")
        assert problem.remedy == "trimodal verify --repair"

    with Collection.open(tmp_path / "c", writable=True) as opened:
        assert opened.repair() == ["index.faiss written anew from the vectors"]
        assert opened.repair() == []
    with Collection.open(tmp_path / "c") as opened:
        assert best(opened, unit_rows(30, 16)[17]) == ["017.png"]
        assert (opened.warnings, opened.verify()) == ([], [])


def test_saving_changes_the_kind_when_the_collection_outgrows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_plan, "FLAT_LIMIT", 40)
    monkeypatch.setattr(index_keeper, "FLAT_LIMIT", 40)
    rows = unit_rows(200, 16, seed=3)
    with filled(tmp_path / "c") as made:
        assert made.stats()["index"] == "Flat"
        made.commit([entry("many.ogg", rows[:50], modality=Modality.AUDIO)])
        made.save_index()
        assert made.stats()["index"] == "HNSW"
        assert made.index("cpu").kind == "HNSW"
        made.commit([entry("few.ogg", rows[50:80], modality=Modality.AUDIO)])
        assert (made.index("cpu").kind, made.index("cpu").ntotal) == ("HNSW", 110)
        # too many to put into the graph while a user waits
        made.commit([entry("rest.ogg", rows[80:], modality=Modality.AUDIO)])
        assert (made.index("cpu").kind, made.index("cpu").ntotal) == ("Flat", 230)
        assert best(made, rows[199]) == ["rest.ogg"]
        made.save_index()
        assert (made.index("cpu").kind, made.index("cpu").ntotal) == ("HNSW", 230)
        assert made.verify() == []


def test_saving_an_index_that_is_up_to_date_does_not_write_it(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as made:
        before = (tmp_path / "c" / "index.faiss").stat()
        made.save_index()
        after = (tmp_path / "c" / "index.faiss").stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)  # a read may change its atime


# -- damage -------------------------------------------------------------------------------------------------------


def test_lost_vectors_are_found_and_their_items_dropped_for_the_next_index_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection_module, "rows_per_shard", lambda dim: 10)
    filled(tmp_path / "c", 35).close()
    os.truncate(tmp_path / "c" / "vectors" / "000001-000001.f32", 4 * 64)
    (tmp_path / "c" / "vectors" / "000001-000002.f32").unlink()

    with Collection.open(tmp_path / "c") as reader:
        assert len(reader.warnings) == 1
        what = [problem.what for problem in reader.verify()]
        assert any("000001-000001.f32: is 256 bytes, but 640 were committed" in line for line in what)
        assert any("000001-000002.f32: is missing" in line for line in what)
        assert any("16 vectors of items are not there" in line for line in what)

    with Collection.open(tmp_path / "c", writable=True) as opened:
        done = opened.repair()
        assert "16 items without usable vectors removed (/media/014.png, /media/015.png, " in done[0]
        assert done[1] == "vectors written anew, 19 of 35 rows"
        assert opened.verify() == []
        assert opened.count == 19
        assert best(opened, unit_rows(35, 16)[34]) == ["034.png"]
        opened.commit([entry("014.png", unit_rows(35, 16)[14:15])])
        opened.save_index()
        assert opened.verify() == []


def test_vectors_that_are_no_embeddings_are_found_and_dropped(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    with (tmp_path / "c" / "vectors" / "000001-000000.f32").open("r+b") as file:
        file.seek(3 * 64)
        file.write(np.float32("nan").tobytes())
        file.seek(7 * 64)
        file.write(bytes(64))

    with Collection.open(tmp_path / "c", writable=True) as opened:
        problems = opened.verify()
        assert "2 vectors are not finite or not of unit length (of /media/003.png, /media/007.png)" in problems[0].what
        assert "2 vectors are not those that were written (crc32; of /media/003.png" in problems[1].what
        assert "rows looked at differ from the vectors" in problems[2].what
        assert opened.repair()[0].startswith("2 items without usable vectors removed")
        assert opened.verify() == []
        assert opened.count == 28


def change_a_vector(place: Path) -> None:
    """That of /media/005.png becomes another embedding."""
    with (place / "vectors" / "000001-000000.f32").open("r+b") as file:
        file.seek(5 * 64)
        file.write(unit_rows(1, 16, seed=77).tobytes())


def test_a_changed_vector_that_is_still_an_embedding_is_found_by_its_checksum(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    change_a_vector(tmp_path / "c")

    with Collection.open(tmp_path / "c", writable=True) as opened:
        changed, other = opened.verify()
        assert "1 vectors are not those that were written (crc32; of /media/005.png)" in changed.what
        assert other.what.endswith("index.faiss: 1 of 30 rows looked at differ from the vectors")
        assert opened.repair()[0].startswith("1 items without usable vectors removed (/media/005.png)")
        assert (opened.verify(), opened.count) == ([], 29)


def test_compacting_does_not_make_a_damaged_vector_look_whole(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    change_a_vector(tmp_path / "c")

    with Collection.open(tmp_path / "c", writable=True) as opened:
        opened.remove(["/media/000.png"])
        opened.compact()
        (changed,) = opened.verify()
        assert "(crc32; of /media/005.png)" in changed.what


@pytest.mark.parametrize("kept", [0, 4 * 11, 4 * 11 + 1, None])
def test_lost_checksums_are_found_and_made_anew_from_the_vectors(tmp_path: Path, kept: int | None) -> None:
    filled(tmp_path / "c").close()
    path = tmp_path / "c" / "vectors" / "000001-000000.crc"
    before = path.read_bytes()
    assert len(before) == 4 * 30
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(before[:kept])

    with Collection.open(tmp_path / "c", writable=True) as opened:
        (problem,) = opened.verify()
        assert problem.what.startswith(f"{path}: ")
        assert "vectors/000001-000000.crc written anew" in opened.repair()
        assert (opened.verify(), opened.count) == ([], 30)
    assert path.read_bytes() == before


def test_a_collection_from_before_there_were_checksums_opens_and_goes_on(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    file = tmp_path / "c" / "collection.json"
    written = json.loads(file.read_text())
    del written["checksums"], written["check"]
    file.write_text(json.dumps(written))
    (tmp_path / "c" / "vectors" / "000001-000000.crc").unlink()

    with Collection.open(tmp_path / "c", writable=True) as opened:
        opened.commit([entry("more.png", unit_rows(1, 16, seed=5))])
        opened.remove(["/media/000.png"])
        opened.compact()
        assert (opened.verify(), opened.count) == ([], 30)
    assert not list((tmp_path / "c").glob("*/*.crc"))


def test_a_changed_letter_in_the_catalog_or_the_description_is_found(tmp_path: Path) -> None:
    """SQLite looks at its pages, not at what stands in them."""
    for name, old, new in (
        ("catalog.sqlite", b"/media.png", b"/media.jpg"),
        ("collection.json", b'"rows_per_shard": ', b'"rows_per_shard": 1'),
    ):
        filled(tmp_path / name).close()
        file = tmp_path / name / name
        data = file.read_bytes()
        assert old in data
        file.write_bytes(data.replace(old, new, 1))
        if name == "catalog.sqlite":
            with Collection.open(tmp_path / name) as opened:
                (problem,) = opened.verify()
            assert problem.what.endswith("its bytes are not those that were written (crc32)")
            assert problem.remedy == "trimodal index --rebuild PATH..."
        else:
            with pytest.raises(IndexDamaged, match=r"collection\.json: is damaged.*--rebuild"):
                Collection.open(tmp_path / name)


def test_a_writer_does_not_forget_that_the_catalog_was_changed(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    file = tmp_path / "c" / "catalog.sqlite"
    file.write_bytes(file.read_bytes().replace(b"/media.png", b"/media.jpg", 1))

    for _ in range(2):
        with Collection.open(tmp_path / "c", writable=True) as opened:
            opened.repair()
            opened.commit([entry("more.png", unit_rows(1, 16, seed=5))])
        with Collection.open(tmp_path / "c") as opened:
            (problem,) = opened.verify()
            assert problem.remedy == "trimodal index --rebuild PATH..."


def test_a_damaged_checksum_is_reported_and_written_anew(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    checksum = tmp_path / "c" / "catalog.sqlite.crc"
    text = checksum.read_text()
    for damaged in (text.replace("crc32", "crc33"), text[:-5], "7", "", text.replace('"commits": ', '"commits": 1')):
        checksum.write_text(damaged)
        with Collection.open(tmp_path / "c", writable=True) as opened:
            (problem,) = opened.verify()
            assert problem.what == f"{checksum}: is damaged"
            opened.repair()
            assert opened.verify() == []
        assert checksum.read_text() != damaged


def test_compacting_a_whole_catalog_leaves_no_checksum_of_before(tmp_path: Path) -> None:
    """As if killed after the database was written and before it was closed."""
    filled(tmp_path / "c").close()
    checksum = tmp_path / "c" / "catalog.sqlite.crc"
    before = checksum.read_bytes()
    with Collection.open(tmp_path / "c", writable=True) as opened:
        opened.compact()
    checksum.write_bytes(before)
    with Collection.open(tmp_path / "c") as opened:
        assert opened.verify() == []


@pytest.mark.parametrize("text", ["null", "7", "[]", '"x"'])
def test_a_description_that_is_no_object_is_damaged(tmp_path: Path, text: str) -> None:
    filled(tmp_path / "c").close()
    (tmp_path / "c" / "collection.json").write_text(text)
    with pytest.raises(IndexDamaged, match="is damaged"):
        Collection.open(tmp_path / "c")


def test_a_checksum_of_an_earlier_commit_says_nothing(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    checksum = tmp_path / "c" / "catalog.sqlite.crc"
    before = checksum.read_bytes()
    with Collection.open(tmp_path / "c", writable=True) as opened:
        opened.remove(["/media/000.png"])
    assert checksum.read_bytes() != before
    checksum.write_bytes(before)  # as after a kill before the new one was written
    with Collection.open(tmp_path / "c") as opened:
        assert opened.verify() == []


def test_a_catalog_that_disagrees_is_found_and_mended(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    with sqlite3.connect(tmp_path / "c" / "catalog.sqlite") as raw:
        raw.execute("UPDATE segments SET vector_id = 5000 WHERE vector_id = 3")
        raw.execute("DELETE FROM segments WHERE vector_id = 4")
        raw.execute("DELETE FROM items WHERE item_id = 9")

    with Collection.open(tmp_path / "c", writable=True) as opened:
        assert len(opened.verify()) == 3
        assert {problem.remedy for problem in opened.verify()} == {"trimodal verify --repair"}
        opened.repair()
        assert opened.verify() == []
        assert opened.count == 27


def test_an_index_ahead_of_the_catalog_is_found(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as made:
        index = faiss_index.build_index(16, 40, "cpu")
        index.add(unit_rows(40, 16))
        index.save(tmp_path / "c" / "index.faiss", generation=1)

        (problem,) = made.verify()

        assert problem.what.endswith("index.faiss: holds 40 vectors, but 30 are committed")
        assert made.index("cpu").ntotal == 30


def test_a_catalog_that_sqlite_cannot_read_is_left_to_a_rebuild(tmp_path: Path) -> None:
    filled(tmp_path / "c", 400).close()
    path = tmp_path / "c" / "catalog.sqlite"
    data = bytearray(path.read_bytes())
    data[8192:40000] = b"\xa5" * (40000 - 8192)
    path.write_bytes(data)

    with Collection.open(tmp_path / "c", writable=True) as opened:
        problems = opened.verify()
        assert problems[0].remedy.startswith("trimodal index --rebuild")
        assert opened.repair() == []


# -- compacting ---------------------------------------------------------------------------------------------------


def test_compacting_drops_dead_vectors_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection_module, "rows_per_shard", lambda dim: 7)
    with filled(tmp_path / "c") as made:
        made.remove([f"/media/{i:03}.png" for i in range(0, 30, 3)])
        made.commit([entry("004.png", unit_rows(2, 16, seed=4))])
        before = snapshot(made)
        size = made.stats()["bytes"]

        assert made.compact() == (32, 21)

        assert snapshot(made) == before
        assert made.vectors.count == made.count == 21
        assert made.stats()["vectors"] == {"live": 21, "dead": 0, "generation": 2}
        assert made.stats()["bytes"] < size
        assert sorted(path.name for path in (tmp_path / "c" / "vectors").glob("*.f32")) == [
            "000002-000000.f32",
            "000002-000001.f32",
            "000002-000002.f32",
        ]
        assert made.verify() == []
        assert made.compact() == (21, 21)
        assert best(made, unit_rows(30, 16)[1]) == ["001.png"]
    with Collection.open(tmp_path / "c") as opened:
        assert snapshot(opened) == before
        assert opened.verify() == []


def test_a_collection_emptied_and_compacted_can_be_filled_again(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as made:
        made.remove(made.catalog.keys())
        assert made.compact() == (30, 0)
        assert made.verify() == []
        made.commit([entry("a.png", unit_rows(1, 16))])
        made.save_index()
        assert made.verify() == []
        assert best(made, unit_rows(1, 16)[0]) == ["a.png"]


# -- a full disk ----------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_keeps_every_earlier_commit(small_disk: Path) -> None:
    """A real file system of 1 MiB: commits until it is full, then frees some space and goes on."""
    made = new_collection(small_disk / "c", 256)
    made.save_index()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(100_000))
    rows = unit_rows(20, 256)
    kept = 0
    with pytest.raises(StorageError, match=r"the disk is full.* free some space"):
        for number in range(1_000):
            made.commit([entry(f"{number}-{i}.png", rows[i : i + 1]) for i in range(20)])
            kept += 20
    assert kept >= 100
    assert made.count == kept
    assert made.vectors.count == kept
    with pytest.raises(StorageError):  # nor is there room for the index
        made.save_index()
    made.close()

    with Collection.open(small_disk / "c") as opened:
        assert opened.count == kept
        assert opened.verify() == []
    ballast.unlink()
    with Collection.open(small_disk / "c", writable=True) as opened:
        opened.commit([entry("more.png", rows[:1])])
        assert opened.count == kept + 1
        assert opened.verify() == []


# -- rebuilding -----------------------------------------------------------------------------------------------------


def fill(target: Collection, *, interrupted: bool = False) -> SimpleNamespace:
    with target:
        target.commit([entry("new.png", unit_rows(1, target.dim, seed=6))])
        target.save_index()
    return SimpleNamespace(interrupted=interrupted)


def test_a_rebuild_takes_the_place_of_the_old_collection_when_it_is_done(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    reader = Collection.open(tmp_path / "c")

    def run(target: Collection) -> SimpleNamespace:
        with Collection.open(tmp_path / "c") as still:
            assert still.count == 30
        with pytest.raises(CollectionLocked):
            Collection.open(tmp_path / "c", writable=True)
        return fill(target)

    rebuild(tmp_path / "c", EncoderIdentity("fake", "fake-2", 24), run)

    assert best(reader, unit_rows(30, 16)[3]) == ["003.png"]
    with pytest.raises(CollectionError, match="made anew by another process; open it again"):
        reader.refresh()
    with Collection.open(tmp_path / "c", writable=True) as opened:
        assert (opened.catalog.keys(), opened.dim, opened.fingerprint) == (["/media/new.png"], 24, "fake-2")
        assert opened.verify() == []
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_an_interrupted_rebuild_keeps_the_old_collection_and_is_continued(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    rebuild(tmp_path / "c", EncoderIdentity("fake", "fake-2", 24), lambda target: fill(target, interrupted=True))
    with Collection.open(tmp_path / "c") as opened:
        assert opened.count == 30

    def go_on(target: Collection) -> SimpleNamespace:
        assert target.count == 1
        return fill(target)

    rebuild(tmp_path / "c", EncoderIdentity("fake", "fake-2", 24), go_on)

    with Collection.open(tmp_path / "c") as opened:
        assert opened.count == 1


def test_a_rebuild_with_yet_another_encoder_starts_from_nothing(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    rebuild(tmp_path / "c", EncoderIdentity("fake", "fake-2", 24), lambda target: fill(target, interrupted=True))

    def run(target: Collection) -> SimpleNamespace:
        assert (target.count, target.dim) == (0, 8)
        return fill(target)

    rebuild(tmp_path / "c", EncoderIdentity("fake", "fake-3", 8), run)


def test_a_crash_between_the_two_renames_of_a_rebuild_brings_the_old_collection_back(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    (tmp_path / "c").rename(tmp_path / "c.replaced")

    assert Collection.exists(tmp_path / "c")
    with Collection.open(tmp_path / "c") as opened:
        assert opened.count == 30


def test_a_rebuild_mends_a_collection_that_cannot_be_opened(tmp_path: Path) -> None:
    filled(tmp_path / "c").close()
    (tmp_path / "c" / "catalog.sqlite").write_bytes(b"rubbish" * 1000)

    rebuild(tmp_path / "c", EncoderIdentity("fake", "fake-1", 16), fill)

    with Collection.open(tmp_path / "c") as opened:
        assert opened.count == 1


@pytest.mark.parametrize("folder", ["c", "c.rebuilding", "c.replaced"])
def test_a_rebuild_removes_nothing_that_is_not_ours(tmp_path: Path, folder: str) -> None:
    filled(tmp_path / "c").close()
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "notes.txt").write_text("mine")

    with pytest.raises(CollectionError, match=r"holds other files \(notes\.txt\)"):
        rebuild(tmp_path / "c", EncoderIdentity("fake", "fake-1", 16), fill)

    assert (tmp_path / folder / "notes.txt").read_text() == "mine"
    with Collection.open(tmp_path / "c") as opened:
        assert opened.count == 30


def test_what_was_read_inside_a_transaction_that_failed_is_forgotten(tmp_path: Path) -> None:
    with filled(tmp_path / "c") as made:
        with pytest.raises(RuntimeError), made.transaction():
            made.remove(["/media/000.png"])
            assert len(made.catalog.vector_ids()) == 29
            raise RuntimeError

        assert len(made.catalog.vector_ids()) == 30
