"""Media tokens in a collection: stored beside the vectors, reused, compacted, checked, and mended."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_media import entry, index, new_collection, pictures, unit_rows

from indexer.build.batches import Batches, Encoded, Prepared
from indexer.build.run import build
from indexer.collection import collection as collection_module
from indexer.collection import compacting
from indexer.collection.collection import Collection
from indexer.collection.rebuild import rebuild
from indexer.collection.token_store import TokenStore
from indexer.corpus.walk import find_items
from indexer.encoders.fake import FakeEncoder
from indexer.encoders.identity import EncoderIdentity
from indexer.encoders.tokens.format import TokenRows, TokenSpec, token_encoder
from indexer.errors import CollectionError, EncoderMismatch, IndexDamaged, ModelError, StorageError
from indexer.items import Embeddings, Item, Modality, Segment
from retrieval.rerank import open_reranker
from retrieval.rerank.fake import FakeReranker

SPEC = FakeEncoder.token_spec
assert SPEC is not None
ROW = SPEC.row_bytes
FIRST = Path("tokens") / "000001-000000.u8"


def with_tokens(path: Path, dim: int = 64) -> Collection:
    """An empty collection of the fake encoder that keeps its tokens, open for writing."""
    return Collection.create(path, EncoderIdentity("fake", "fake-1", dim, SPEC))


def some_tokens(n: int, seed: int = 0) -> TokenRows:
    return np.random.default_rng(seed).integers(1, 256, (n, ROW), dtype=np.uint8)


def stored(collection: Collection) -> dict[str, TokenRows]:
    """The rows of tokens of every item, by name."""
    assert collection.tokens is not None
    held = {}
    for row in collection.catalog.items():
        ids = [one.vector_id for one in collection.catalog.segments_of(row.item_id)]
        held[Path(row.key).name] = collection.tokens.get(np.array(ids, dtype=np.int64))
    return held


def direct(path: Path) -> TokenRows:
    """The tokens of a picture, encoded here."""
    encoder = FakeEncoder()
    with Image.open(path) as opened:
        return encoder.encode_images_with_tokens([encoder.prepare_image(opened.convert("RGB"))])[1]


def assert_tokens_are_those_of(collection: Collection, folder: Path) -> None:
    held = stored(collection)
    assert sorted(held) == sorted(path.name for path in folder.iterdir())
    for name, rows in held.items():
        assert np.array_equal(rows, direct(folder / name)), name


# -- packing --------------------------------------------------------------------------------------------------


def test_packed_tokens_come_back_to_within_half_a_step_of_their_largest_component() -> None:
    spec = TokenSpec(5, 32, "x")
    tokens = np.random.default_rng(0).normal(size=(7, 5, 32)).astype(np.float32)
    tokens *= np.array([1e-2, 1, 30, 7, 1e3], dtype=np.float32)[None, :, None]
    tokens[3, 2] = 0.0

    back = spec.unpack(spec.pack(tokens))

    assert spec.pack(tokens).shape == (7, 5 * 34)
    largest = np.abs(tokens).max(axis=2, keepdims=True)
    assert np.all(np.abs(back - tokens) <= largest * (0.5 / 127 + 2**-10))  # rounding, and the scale's ten bits
    assert not back[3, 2].any()
    assert spec.unpack(np.empty((0, 5 * 34), np.uint8)).shape == (0, 5, 32)


# -- the store ------------------------------------------------------------------------------------------------


def store(folder: Path, count: int = 0, *, width: int = 6, shard_rows: int = 10) -> TokenStore:
    folder.mkdir(exist_ok=True)
    return TokenStore(folder, dim=width, generation=1, count=count, shard_rows=shard_rows)


def test_rows_with_empty_ones_between_them_come_back_across_shards(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (37, 6), dtype=np.uint8) * rng.integers(0, 2, (37, 1), dtype=np.uint8)
    rows[7:21] = 0  # a shard ends in one, the next begins with one
    written = store(tmp_path)
    for start in range(0, 37, 5):
        written.append(rows[start : start + 5], at=start)

    assert np.array_equal(store(tmp_path, 37).get(np.arange(37)), rows)
    assert b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir())) == rows.tobytes()


def test_nothing_that_was_never_committed_shows_through_empty_rows(tmp_path: Path) -> None:
    garbage = np.full((8, 6), 255, dtype=np.uint8)
    first = store(tmp_path)
    first.append(garbage[:2], at=0)
    first.append(garbage, at=2)  # its catalog transaction never happened
    rows = np.zeros((3, 6), dtype=np.uint8)
    rows[1] = 7

    again = store(tmp_path, 2)
    again.append(rows, at=2)

    assert np.array_equal(again.get(np.arange(5)), np.concatenate([garbage[:2], rows]))


@pytest.mark.skipif(sys.platform != "linux", reason="the file system decides about holes")
def test_empty_rows_take_no_space_on_the_disk(tmp_path: Path) -> None:
    written = store(tmp_path, width=8_192, shard_rows=100_000)
    rows = np.zeros((1_000, 8_192), dtype=np.uint8)
    rows[500] = 1
    written.append(rows, at=0)

    status = written.shard_path(0).stat()
    assert status.st_size == 1_000 * 8_192
    assert status.st_blocks * 512 <= 64 * 1024
    assert written.disk_bytes() <= 64 * 1024


def test_filling_up_makes_the_files_whole_and_keeps_what_is_there(tmp_path: Path) -> None:
    rows = np.arange(1, 35 * 6 + 1).reshape(35, 6).astype(np.uint8)
    store(tmp_path).append(rows, at=0)
    os.truncate(tmp_path / "000001-000001.u8", 3 * 6)
    (tmp_path / "000001-000002.u8").unlink()
    damaged = store(tmp_path, 35)
    assert len(damaged.short_shards()) == 2

    assert damaged.fill_up() == ["000001-000001.u8", "000001-000002.u8"]

    rows[13:30] = 0
    assert damaged.short_shards() == []
    assert np.array_equal(damaged.get(np.arange(35)), rows)
    assert damaged.fill_up() == []


# -- indexing -------------------------------------------------------------------------------------------------


def test_tokens_stand_at_the_vector_ids_of_their_segments(tmp_path: Path) -> None:
    pictures(tmp_path / "media", 20)
    with with_tokens(tmp_path / "c") as made:
        index(made, tmp_path / "media", batch_size=3, commit_every=4)
        assert made.token_spec == SPEC
        assert made.verify() == []
    with Collection.open(tmp_path / "c") as opened:
        assert_tokens_are_those_of(opened, tmp_path / "media")
        assert opened.tokens is not None
        assert opened.tokens.count == opened.vectors.count == 20
        assert opened.stats()["tokens"] == {"count": 4, "width": 16, "bytes_per_item": ROW}


def test_texts_have_empty_rows_and_sounds_a_row_for_every_segment(tmp_path: Path) -> None:
    with with_tokens(tmp_path / "c") as made:
        sound = some_tokens(3)
        made.commit(
            [
                entry("a.txt", unit_rows(2, 64), modality=Modality.TEXT),
                replace(entry("b.wav", unit_rows(3, 64, seed=1), modality=Modality.AUDIO), tokens=sound),
                entry("c.txt", unit_rows(1, 64, seed=2), modality=Modality.TEXT),
            ]
        )
        held = stored(made)
        assert not held["a.txt"].any()
        assert np.array_equal(held["b.wav"], sound)
        assert made.verify() == []
    assert (tmp_path / "c" / FIRST).stat().st_size == 6 * ROW


def test_a_collection_without_tokens_has_neither_folder_nor_rows(tmp_path: Path) -> None:
    pictures(tmp_path / "media", 3)
    with new_collection(tmp_path / "c") as made:
        index(made, tmp_path / "media")
        assert (made.token_spec, made.tokens, made.stats()["tokens"]) == (None, None, None)
    assert not (tmp_path / "c" / "tokens").exists()


def test_tokens_are_kept_only_by_a_collection_that_was_created_with_them(tmp_path: Path) -> None:
    pictures(tmp_path / "media", 3)
    new_collection(tmp_path / "old").close()
    with Collection.open_or_create(tmp_path / "old", EncoderIdentity("fake", "fake-1", 64, SPEC)) as old:
        index(old, tmp_path / "media")
        assert old.tokens is None
    with Collection.open_or_create(tmp_path / "new", EncoderIdentity("fake", "fake-1", 64, SPEC)) as new:
        index(new, tmp_path / "media")
        assert_tokens_are_those_of(new, tmp_path / "media")


def test_tokens_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    one = entry("a.png", unit_rows(1, 64))
    with with_tokens(tmp_path / "c") as made:
        for wrong in (None, some_tokens(2), some_tokens(1)[:, 1:], some_tokens(1).astype(np.int16)):
            with pytest.raises(ValueError, match=r"a\.png: needs media tokens, uint8 of shape \(1, 72\)"):
                made.commit([replace(one, tokens=wrong)])
        with pytest.raises(ValueError, match="no place for them"):
            made.commit([replace(entry("a.txt", unit_rows(1, 64), modality=Modality.TEXT), tokens=some_tokens(1))])
        assert made.count == 0
    with new_collection(tmp_path / "d") as without, pytest.raises(ValueError, match="no place for them"):
        without.commit([replace(one, tokens=some_tokens(1))])


def test_a_moved_and_a_copied_file_get_the_tokens_that_are_there(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "media", 6)

    class Watched(FakeEncoder):
        encoded = 0

        def encode_images(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
            Watched.encoded += len(prepared)
            return super().encode_images(prepared)

    with with_tokens(tmp_path / "c") as made:
        build(made, find_items([tmp_path / "media"]), Watched())
        paths[0].rename(tmp_path / "media" / "moved.png")
        shutil.copy(paths[1], tmp_path / "media" / "copied.png")

        report = build(made, find_items([tmp_path / "media"]), Watched())

        assert (report.moved, Watched.encoded) == (2, 6)
        assert_tokens_are_those_of(made, tmp_path / "media")
        assert made.verify() == []


# -- compacting and rebuilding --------------------------------------------------------------------------------


def test_compacting_keeps_the_tokens_of_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacting, "_TOKEN_CHUNK", 4)
    monkeypatch.setattr(collection_module, "rows_per_shard", lambda dim: 3)
    paths = pictures(tmp_path / "media", 20)
    with with_tokens(tmp_path / "c") as made:
        index(made, tmp_path / "media")
        reader = Collection.open(tmp_path / "c")
        for path in paths[::3]:
            path.unlink()
        index(made, tmp_path / "media", prune=True)
        made.compact()
        assert_tokens_are_those_of(made, tmp_path / "media")
        assert made.verify() == []
    names = [path.name for path in (tmp_path / "c" / "tokens").glob("*.u8")]
    assert names
    assert all(name.startswith("000002-") for name in names)
    with reader:  # it still has the files of its commit
        assert reader.tokens is not None
        assert len(stored(reader)) == 20
        assert reader.refresh()
        assert_tokens_are_those_of(reader, tmp_path / "media")


def test_a_compaction_that_finds_the_disk_full_leaves_the_old_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = pictures(tmp_path / "media", 5)
    with with_tokens(tmp_path / "c") as made:
        index(made, tmp_path / "media")
        paths[0].unlink()
        index(made, tmp_path / "media", prune=True)

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch, pytest.raises(StorageError, match="the disk is full"):
            patch.setattr(TokenStore, "_put", full)
            made.compact()
        assert_tokens_are_those_of(made, tmp_path / "media")
        assert [path.name for path in (tmp_path / "c" / "tokens").glob("*.u8")] == [FIRST.name]
        assert made.compact() == (5, 4)
        assert_tokens_are_those_of(made, tmp_path / "media")


def test_rebuilding_adds_tokens_and_does_not_continue_one_without_them(tmp_path: Path) -> None:
    pictures(tmp_path / "media", 5)
    with new_collection(tmp_path / "c") as made:
        index(made, tmp_path / "media")
    with new_collection(tmp_path / "c.rebuilding") as left:  # an interrupted rebuild, before there were tokens
        index(left, tmp_path / "media")

    def run(target: Collection) -> Any:
        with target:
            return index(target, tmp_path / "media")

    report = rebuild(tmp_path / "c", EncoderIdentity("fake", "fake-1", 64, SPEC), run)

    assert report.added == 5
    with Collection.open(tmp_path / "c") as opened:
        assert_tokens_are_those_of(opened, tmp_path / "media")


def test_replacing_a_collection_removes_its_tokens(tmp_path: Path) -> None:
    pictures(tmp_path / "media", 5)
    with with_tokens(tmp_path / "c") as made:
        index(made, tmp_path / "media")
    Collection.create(tmp_path / "c", EncoderIdentity("fake", "fake-1", 64), replace=True).close()

    assert not (tmp_path / "c" / FIRST).exists()


# -- crashes and damage ---------------------------------------------------------------------------------------


def test_tokens_whose_commit_did_not_happen_are_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with with_tokens(tmp_path / "c") as made:
        made.commit([replace(entry("a", unit_rows(2, 64)), tokens=some_tokens(2))])

        def dies(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(made.catalog, "put", dies)
            made.commit([replace(entry("b", unit_rows(4, 64, seed=1)), tokens=some_tokens(4, seed=1))])
        assert made.tokens is not None
        assert made.tokens.count == 2
    assert (tmp_path / "c" / FIRST).stat().st_size == 6 * ROW

    with Collection.open(tmp_path / "c", writable=True) as again:
        assert again.verify() == []
        again.commit(
            [
                entry("c", unit_rows(1, 64, seed=2), modality=Modality.TEXT),
                replace(entry("d", unit_rows(1, 64, seed=3)), tokens=some_tokens(1, seed=3)),
            ]
        )
        held = stored(again)
    assert np.array_equal(held["a"], some_tokens(2))
    assert not held["c"].any()
    assert np.array_equal(held["d"], some_tokens(1, seed=3))


@pytest.mark.parametrize("damage", ["truncated", "missing", "no folder"])
def test_lost_tokens_are_found_and_mended_by_repair_and_the_next_index(tmp_path: Path, damage: str) -> None:
    pictures(tmp_path / "media", 10)
    with with_tokens(tmp_path / "c") as made:
        index(made, tmp_path / "media")
        made.commit([entry("words", unit_rows(1, 64), modality=Modality.TEXT)])
    file = tmp_path / "c" / FIRST
    if damage == "truncated":
        os.truncate(file, 6 * ROW + 5)
    elif damage == "missing":
        file.unlink()
    else:
        shutil.rmtree(file.parent)
    lost = 4 if damage == "truncated" else 10

    with Collection.open(tmp_path / "c") as reader:
        assert FIRST.name in str(reader.warnings[0])
        assert "trimodal verify --repair" in str(reader.warnings[0])
        problems = reader.verify()
    assert str(file) in problems[0].what
    assert any(one.what.endswith(f"tokens: {lost} media tokens of items are not there") for one in problems)
    assert {problem.remedy for problem in problems} == {"trimodal verify --repair"}

    with Collection.open(tmp_path / "c", writable=True) as opened:
        assert opened.tokens is not None
        with pytest.raises(IndexDamaged, match=r"000001-000000\.u8: is missing or shorter"):
            opened.tokens.get(np.array([9]))
        with pytest.raises((IndexDamaged, StorageError)):
            opened.commit([replace(entry("more", unit_rows(1, 64)), tokens=some_tokens(1))])
    with Collection.open(tmp_path / "c", writable=True) as opened:
        done = opened.repair()
        assert done[0].startswith(f"{lost} items without usable vectors or media tokens removed")
        assert done[1] == f"tokens/{FIRST.name} filled up with empty rows"
        assert opened.verify() == []
        assert opened.count == 11 - lost
        report = index(opened, tmp_path / "media")
        assert report.added == lost
        opened.remove(["/media/words"])
        assert_tokens_are_those_of(opened, tmp_path / "media")
        opened.compact()
        assert_tokens_are_those_of(opened, tmp_path / "media")
        assert opened.repair() == []


def test_vectors_and_tokens_lost_together_are_mended_together(tmp_path: Path) -> None:
    pictures(tmp_path / "media", 10)
    with with_tokens(tmp_path / "c") as made:
        index(made, tmp_path / "media")
    os.truncate(tmp_path / "c" / "vectors" / "000001-000000.f32", 7 * 64 * 4)
    os.truncate(tmp_path / "c" / FIRST, 5 * ROW)

    with Collection.open(tmp_path / "c", writable=True) as opened:
        opened.repair()
        assert opened.verify() == []
        assert opened.count == 5
        index(opened, tmp_path / "media")
        assert_tokens_are_those_of(opened, tmp_path / "media")


# -- what it says of itself -----------------------------------------------------------------------------------


def test_a_description_from_before_there_were_tokens_opens(tmp_path: Path) -> None:
    pictures(tmp_path / "media", 3)
    with new_collection(tmp_path / "c") as made:
        index(made, tmp_path / "media")
    file = tmp_path / "c" / "collection.json"
    written = json.loads(file.read_text())
    assert written.pop("tokens", "absent") is None
    del written["checksums"], written["check"]
    file.write_text(json.dumps(written))

    with Collection.open(tmp_path / "c", writable=True) as opened:
        assert opened.token_spec is None
        assert index(opened, tmp_path / "media").unchanged == 3
        assert opened.verify() == []


@pytest.mark.parametrize("tokens", [5, [], {}, {"count": 0, "width": 16, "fingerprint": "x"}, {"count": 4}])
def test_a_damaged_entry_for_the_tokens_is_named(tmp_path: Path, tokens: object) -> None:
    with_tokens(tmp_path / "c").close()
    file = tmp_path / "c" / "collection.json"
    written = json.loads(file.read_text())
    assert written["tokens"] == {"count": 4, "width": 16, "fingerprint": "fake-tokens-1"}
    file.write_text(json.dumps({**written, "tokens": tokens}))

    with pytest.raises(IndexDamaged, match=r"collection\.json: is damaged"):
        Collection.open(tmp_path / "c")


def test_a_reranker_is_told_when_the_tokens_are_not_for_it(tmp_path: Path) -> None:
    with new_collection(tmp_path / "c") as without, pytest.raises(CollectionError) as told:
        without.require_tokens(SPEC)
    assert str(told.value) == (
        f"{tmp_path}/c: holds no media tokens, so it can't be reranked; add them: trimodal index --rebuild PATH..., "
        "or search with --no-rerank"
    )
    with with_tokens(tmp_path / "d") as made:
        made.require_tokens(SPEC)
        with pytest.raises(EncoderMismatch) as other:
            made.require_tokens(replace(SPEC, fingerprint="abc"))
    assert str(other.value) == (
        f"{tmp_path}/d: its media tokens were made by another reranker (fake-tokens-1 against abc); make them anew: "
        "trimodal index --rebuild PATH..., or search with --no-rerank"
    )


def test_tokens_of_another_reranker_are_not_mixed_in(tmp_path: Path) -> None:
    pictures(tmp_path / "media", 1)

    class Other(FakeEncoder):
        token_spec = replace(SPEC, fingerprint="other")

    class Without(FakeEncoder):
        token_spec = None

    with with_tokens(tmp_path / "c") as made:
        with pytest.raises(EncoderMismatch, match="made by another reranker"):
            build(made, find_items([tmp_path / "media"]), Other())
        with pytest.raises(CollectionError, match=r"holds media tokens, but model fake makes none; .*--rebuild"):
            build(made, find_items([tmp_path / "media"]), Without())
        assert made.count == 0


# -- batches --------------------------------------------------------------------------------------------------


def prepared(modality: Modality, *inputs: Any) -> Prepared:
    item = Item("/media/x", modality, Path("/media/x"))
    return Prepared(item, "hash", {}, tuple(Segment(number) for number in range(len(inputs))), inputs)


def test_batches_give_tokens_to_pictures_and_sounds_and_none_to_texts() -> None:
    encoder, rng = FakeEncoder(), np.random.default_rng(0)
    assert token_encoder(encoder) is encoder
    grids = [rng.random((4, 4, 3)).astype(np.float32) for _ in range(5)]
    bands = [rng.random(40).astype(np.float32) for _ in range(2)]
    for asked in (True, False):
        batches = Batches(encoder, 2, with_tokens=asked)
        done = batches.add(prepared(Modality.IMAGE, *grids))
        done += batches.add(prepared(Modality.AUDIO, *bands))
        done += batches.add(prepared(Modality.TEXT, "red", "blue"))
        done += batches.flush()
        tokens = {one.prepared.item.modality: one.tokens for one in done if isinstance(one, Encoded)}
        if asked:
            assert np.array_equal(tokens[Modality.IMAGE], encoder.encode_images_with_tokens(grids)[1])
            assert np.array_equal(tokens[Modality.AUDIO], encoder.encode_audio_with_tokens(bands)[1])
            assert tokens[Modality.TEXT] is None
        else:
            assert tokens == dict.fromkeys(Modality)


def test_tokens_of_a_wrong_shape_are_the_models_fault() -> None:
    class Narrow(FakeEncoder):
        def encode_images_with_tokens(self, prepared: Sequence[NDArray[Any]]) -> tuple[Embeddings, TokenRows]:
            vectors, tokens = super().encode_images_with_tokens(prepared)
            return vectors, tokens[:, 1:]

    batches = Batches(Narrow(), 1, with_tokens=True)
    with pytest.raises(ModelError, match=r"gave media tokens of uint8 and shape \(1, 71\) for 1 segments of image"):
        batches.add(prepared(Modality.IMAGE, np.ones((4, 4, 3), np.float32)))


# -- the fake reranker ----------------------------------------------------------------------------------------


def test_the_fake_reranker_prefers_the_picture_of_the_colour_and_says_it() -> None:
    encoder, reranker = FakeEncoder(), open_reranker(FakeEncoder())
    assert isinstance(reranker, FakeReranker)
    plain = [np.broadcast_to(np.array(rgb, np.float32), (4, 4, 3)) for rgb in ((1, 0, 0), (0, 0, 1))]
    vectors, tokens = encoder.encode_images_with_tokens(plain)

    scores = reranker.score_media("something red", tokens, Modality.IMAGE)

    cosines = (encoder.encode_queries(["something red"]) @ vectors.T)[0]
    assert scores.shape == (2,)
    assert scores.dtype == np.float32
    assert np.allclose(scores, 10 * cosines - 5, atol=0.1)
    assert scores[0] > 0 > scores[1]
    assert np.allclose(reranker.score_texts(tokens[:1], ["something red", "blue"], Modality.IMAGE)[0], scores[0])
    assert reranker.caption(tokens) == ["a red picture", "a blue picture"]
    assert reranker.probability(np.zeros(1, np.float32), Modality.IMAGE).tolist() == [0.5]
    assert reranker.supports(Modality.TEXT, Modality.AUDIO)
    assert not reranker.supports(Modality.IMAGE, Modality.AUDIO)
    assert not reranker.supports(Modality.TEXT, Modality.TEXT)
