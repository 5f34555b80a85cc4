"""What is hashed is what is decoded, whatever happens to a file while it is read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from small_media import found_by_itself, index, new_collection, picture, snapshot

import indexer.build.run as build_module
import indexer.media.held as held_module
from indexer.build.run import BuildReport
from indexer.collection.collection import Collection
from indexer.corpus.walk import find_items
from indexer.encoders.fake import FakeEncoder
from indexer.errors import ChangedWhileRead
from indexer.items import DecodedItem, Item, Modality
from indexer.limits import MediaLimits
from indexer.media.content_hash import content_hash
from indexer.media.held import Held
from indexer.media.text.decode import passages


def item_of(path: Path, modality: Modality = Modality.IMAGE) -> Item:
    return Item(str(path), modality, path)


def in_place(path: Path, data: bytes) -> None:
    """Written into the same file; size and time as they were."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def by_rename(path: Path, data: bytes) -> None:
    """As editors save: another file of the same name."""
    path.with_name("new").write_bytes(data)
    path.with_name("new").rename(path)


def after_hashing(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    """``change`` once, between the first file's hash and its decoding."""
    real, left = held_module.decode_parts, [1]

    def decode(*args: Any) -> Iterator[DecodedItem]:
        if left:
            left.pop()
            change()
        return real(*args)

    monkeypatch.setattr(held_module, "decode_parts", decode)


def same_size(folder: Path) -> tuple[bytes, bytes]:
    """Two pictures that differ, of the same number of bytes (BMP is not compressed)."""
    first, second = (picture(folder / f"{seed}.bmp", seed).read_bytes() for seed in (1, 2))
    assert len(first) == len(second)
    shutil.rmtree(folder)
    return first, second


def vector_of(path: Path) -> bytes:
    """The vector that belongs to the picture in ``path``."""
    from indexer.media.decode import read_picture

    encoder = FakeEncoder()
    prepared = encoder.prepare_image(read_picture(path, MediaLimits()))
    return np.asarray(encoder.encode_images([prepared]), np.float32).tobytes()


@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize("change", [in_place, by_rename])
def test_a_file_that_changes_between_hash_and_decoding_never_gives_its_twin_a_wrong_vector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path, bytes], None], copied: bool
) -> None:
    first, second = same_size(tmp_path / "made")
    media = tmp_path / "media"
    media.mkdir()
    (media / "a.bmp").write_bytes(first)
    (media / "twin.bmp").write_bytes(first)
    if not copied:
        monkeypatch.setattr(held_module, "COPIED_BYTES", 0)
    after_hashing(monkeypatch, lambda: change(media / "a.bmp", second))

    with new_collection(tmp_path / "c") as collection:
        index(collection, media, workers=1)
        for path in (media / "a.bmp", media / "twin.bmp"):
            held = snapshot(collection).get(str(path))
            if held is not None and held[0] == content_hash(item_of(path)):
                assert held[2] == vector_of(path), path
        assert snapshot(collection)[str(media / "twin.bmp")][2] == vector_of(media / "twin.bmp")

        os.utime(media / "a.bmp")  # a change that a time does not show is for the next one
        index(collection, media)
        for path in (media / "a.bmp", media / "twin.bmp"):
            assert snapshot(collection)[str(path)][::2] == (content_hash(item_of(path)), vector_of(path))
        assert found_by_itself(collection, media / "a.bmp") == [str(media / "a.bmp")]


def test_a_large_file_that_changed_while_it_was_read_is_skipped_and_read_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = same_size(tmp_path / "made")
    media = tmp_path / "media"
    media.mkdir()
    (media / "a.bmp").write_bytes(first)
    monkeypatch.setattr(held_module, "COPIED_BYTES", 0)
    with new_collection(tmp_path / "c") as collection:
        with monkeypatch.context() as patched:
            after_hashing(patched, lambda: in_place(media / "a.bmp", second))
            report = index(collection, media)
        (skip,) = report.skipped
        assert skip.reason == "changed while it was read; it is read again on the next run"
        assert collection.catalog.bad_files() == {}
        assert index(collection, media).added == 1
        assert snapshot(collection)[str(media / "a.bmp")][::2] == (
            content_hash(item_of(media / "a.bmp")),
            vector_of(media / "a.bmp"),
        )


def test_damage_that_comes_from_a_change_is_not_recorded_as_a_bad_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(tmp_path / "media" / "a.png", 1)
    monkeypatch.setattr(held_module, "COPIED_BYTES", 0)
    with new_collection(tmp_path / "c") as collection:
        with monkeypatch.context() as patched:
            after_hashing(patched, lambda: os.truncate(path, 60))
            report = index(collection, path.parent)
        assert "changed while it was read" in report.skipped[0].reason
        assert collection.catalog.bad_files() == {}


def test_a_file_that_was_put_back_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listed as A, read as B, then A again with its old time: B's vector must not stay with A's time."""
    first, second = same_size(tmp_path / "made")
    path = tmp_path / "media" / "a.bmp"
    path.parent.mkdir()
    path.write_bytes(first)
    os.utime(path, ns=(10**18, 10**18))
    corpus = find_items([path.parent])
    path.write_bytes(second)
    with new_collection(tmp_path / "c") as collection:
        build_module.build(collection, corpus, FakeEncoder())
        path.write_bytes(first)
        os.utime(path, ns=(10**18, 10**18))
        report: BuildReport = index(collection, path.parent)
        assert (report.changed, report.unchanged) == (1, 0)
        assert snapshot(collection)[str(path)][2] == vector_of(path)


def test_a_file_that_grows_with_every_read_is_skipped_for_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.txt"
    path.write_text("red ball\n")
    real = held_module._copy

    def copy(source: int, copied: int) -> int:
        n_bytes = real(source, copied)
        with path.open("a") as file:
            file.write("more\n")
        return n_bytes

    monkeypatch.setattr(held_module, "_copy", copy)
    with pytest.raises(ChangedWhileRead, match="changed while it was read"):
        Held.hold(item_of(path, Modality.TEXT))


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
@pytest.mark.parametrize("copied", [True, False])
def test_sounds_are_decoded_from_what_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, copied: bool
) -> None:
    if not copied:
        monkeypatch.setattr(held_module, "COPIED_BYTES", 0)
    path = tmp_path / f"a{suffix}"
    tone = np.sin(np.arange(16_000) / 9).astype(np.float32)
    soundfile.write(path, tone, 16_000)
    item = item_of(path, Modality.AUDIO)
    with Held.hold(item) as held:
        assert held.digest == content_hash(item)
        path.unlink()
        if copied:
            (part,) = held.decode(item, MediaLimits())
            assert len(part.segments) == 1
        else:
            with pytest.raises(ChangedWhileRead):  # its number of names has changed, which shows as a change
                list(held.decode(item, MediaLimits()))


def test_a_benchmark_keeps_a_vector_by_what_was_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from retrieval.evaluation import encoding
    from retrieval.evaluation.cache import BenchCache

    first, second = same_size(tmp_path / "made")
    path = tmp_path / "a.bmp"
    path.write_bytes(first)
    item = item_of(path)
    hashes = content_hash(item)
    real = encoding._Reading._contents

    def hashed(self: Any, items: Any) -> dict[int, str]:
        found = real(self, items)
        path.write_bytes(second)
        return found

    monkeypatch.setattr(encoding._Reading, "_contents", hashed)
    encoder = FakeEncoder()
    with BenchCache.open(tmp_path / "cache", encoder, encoder.fingerprint) as cache:
        reading = encoding._Reading(encoder, Modality.IMAGE, MediaLimits(), 2, 1, False, passages, cache)
        reading.run({0: item}, lambda *_: None)
        assert cache.known_items(Modality.IMAGE, {0: hashes}, encoder.dim, None) == {}
        found = cache.known_items(Modality.IMAGE, {0: content_hash(item)}, encoder.dim, None)
        assert found[0][0].tobytes() == vector_of(path)


def test_training_keeps_no_features_under_another_contents_key(tmp_path: Path) -> None:
    from indexer.training.data.features import FeatureCache, fill

    path = picture(tmp_path / "a.png", 1)
    key = content_hash(item_of(path))
    picture(path, 2)
    cache = FeatureCache(tmp_path / "features", 2)
    complaints = fill(
        cache,
        {key: path},
        lambda _: 0,
        lambda rows: np.zeros((len(rows), 2), np.float32),
        stage="",
        on_progress=lambda *_: None,
    )
    assert complaints == [f"{path}: changed while it was read; it is read again on the next run"]
    assert cache.missing([key]) == [key]


def test_nothing_of_a_file_stays_open(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    for seed in range(20):
        picture(folder / f"{seed}.png", seed % 10)
    (folder / "bad.png").write_bytes(b"no picture")
    with new_collection(tmp_path / "c") as collection:
        index(collection, folder)
        before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
        for path in folder.iterdir():
            os.utime(path, ns=(0, 0))
        index(collection, folder)
        after = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
    assert after <= before
    assert Collection.exists(tmp_path / "c")
