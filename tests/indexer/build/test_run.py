"""Building: what is read, encoded, reused, skipped, removed; and what an interruption or a full disk leaves."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from PIL import Image
from small_media import found_by_itself, index, new_collection, picture, pictures, snapshot

from indexer.build.run import build
from indexer.collection.collection import Collection
from indexer.corpus.walk import Corpus, find_items
from indexer.encoders.fake import FakeEncoder
from indexer.errors import EncoderMismatch, ModelError, StorageError
from indexer.items import Embeddings, Item, Modality
from indexer.limits import MediaLimits
from indexer.media.held import Held


class Watched(FakeEncoder):
    """The fake encoder, remembering the size of every batch; may fail."""

    def __init__(self, *, fail_at: int = -1, error: BaseException | None = None) -> None:
        self.batches: list[tuple[str, int]] = []
        self.fail_at = fail_at
        self.error = error

    def encode_images(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        self._note("image", len(prepared))
        return super().encode_images(prepared)

    def encode_audio(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        self._note("audio", len(prepared))
        return super().encode_audio(prepared)

    def encode_passages(self, texts: Sequence[str]) -> Embeddings:
        self._note("text", len(texts))
        return super().encode_passages(texts)

    def _note(self, modality: str, n: int) -> None:
        if len(self.batches) == self.fail_at and self.error is not None:
            raise self.error
        self.batches.append((modality, n))

    @property
    def encoded(self) -> int:
        return sum(n for _, n in self.batches)


def run(collection: Collection, *paths: Path, encoder: FakeEncoder | None = None, **options: Any) -> Any:
    return build(collection, find_items(paths), encoder or FakeEncoder(), **options)


def sound(path: Path, seconds: float, pitch_hz: float = 440.0) -> Path:
    time_s = np.arange(int(16_000 * seconds)) / 16_000
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * (pitch_hz + 20 * time_s) * time_s), 16_000)
    return path


def manifest(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def reads_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a file that is read fails the test."""

    def read(item: Item, *_: Any) -> Held:
        raise AssertionError(f"{item.key} was read")

    monkeypatch.setattr(Held, "hold", read)


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """30 pictures, 2 sounds, 2 texts."""
    folder = tmp_path / "media"
    pictures(folder / "pictures", 30)
    sound(folder / "sounds" / "long.wav", 50)
    sound(folder / "sounds" / "short.wav", 3, 900)
    (folder / "a.txt").write_text("A red house by the sea.\n\nNobody lives there.", encoding="utf-8")
    (folder / "b.md").write_text("# Blue\n\nA blue door.", encoding="utf-8")
    return folder


# -- what is new ----------------------------------------------------------------------------------------------


def test_everything_is_indexed_and_found_by_itself(media: Path, tmp_path: Path) -> None:
    with new_collection(tmp_path / "c") as made:
        report = run(made, media)

        assert (report.added, report.changed, report.unchanged, report.moved, report.pruned) == (34, 0, 0, 0, 0)
        assert (report.skipped, report.interrupted) == ([], False)
        assert report.segments == made.count == 30 + 6 + 1 + 2
        assert made.verify() == []
        assert made.stats()["index"] == "Flat"
        for path in (media / "pictures").iterdir():
            assert found_by_itself(made, path) == [str(path)]
        row = made.catalog.find([str(media / "pictures" / "0003.png")])[str(media / "pictures" / "0003.png")]
        assert (row.width_px, row.height_px, row.size_bytes) == (16, 16, row.path.stat().st_size)
        windows = made.catalog.segments_of(made.catalog.find([str(media / "sounds" / "long.wav")]).popitem()[1].item_id)
        assert [one.segment.start_s for one in windows] == [0, 8, 16, 24, 32, 40]


def test_batches_count_segments_and_are_full_but_for_the_last_of_a_modality(media: Path, tmp_path: Path) -> None:
    encoder = Watched()
    with new_collection(tmp_path / "c") as made:
        run(made, media, encoder=encoder, batch_size=4)

    sizes = {kind: [n for k, n in encoder.batches if k == kind] for kind in ("image", "audio", "text")}
    assert sizes["image"] == [4] * 7 + [2]
    assert sizes["audio"] == [4, 3]
    assert sum(sizes["text"]) == 2 and max(sizes["text"]) <= 4


def test_threads_and_batch_sizes_change_nothing_in_the_result(media: Path, tmp_path: Path) -> None:
    made = []
    for number, (workers, batch_size, commit_every) in enumerate([(1, 1, 1), (4, 7, 3), (2, 32, 256)]):
        with new_collection(tmp_path / str(number)) as collection:
            run(collection, media, workers=workers, batch_size=batch_size, commit_every=commit_every)
            made.append(snapshot(collection))

    assert made[0] == made[1] == made[2]


# -- what is not new --------------------------------------------------------------------------------------------


def test_unchanged_files_are_not_read_at_all(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Watched()
    with new_collection(tmp_path / "c") as made:
        run(made, media)
        before = snapshot(made)
        reads_no_file(monkeypatch)

        report = run(made, media, encoder=encoder)

        assert (report.unchanged, report.added, report.changed, report.skipped) == (34, 0, 0, [])
        assert encoder.batches == []
        assert snapshot(made) == before


def test_touched_files_are_read_but_not_encoded(media: Path, tmp_path: Path) -> None:
    encoder = Watched()
    with new_collection(tmp_path / "c") as made:
        run(made, media)
        path = media / "pictures" / "0000.png"
        os.utime(path, ns=(1, 1_000))

        report = run(made, media, encoder=encoder)

        assert (report.unchanged, report.changed, report.segments) == (34, 0, 0)
        assert encoder.batches == []
        assert made.catalog.find([str(path)])[str(path)].mtime_ns == 1_000
        assert made.vectors.count == 39


def test_a_changed_file_takes_the_place_of_what_it_was(media: Path, tmp_path: Path) -> None:
    with new_collection(tmp_path / "c") as made:
        run(made, media)
        path = picture(media / "pictures" / "0007.png", 1_007)

        report = run(made, media)

        assert (report.changed, report.added, report.unchanged) == (1, 0, 33)
        assert made.count == 39
        assert found_by_itself(made, path) == [str(path)]
        assert len(made.catalog.keys()) == 34


def test_a_moved_file_keeps_its_row_and_vectors(media: Path, tmp_path: Path) -> None:
    encoder = Watched()
    with new_collection(tmp_path / "c") as made:
        run(made, media)
        before = made.catalog.find([str(media / "sounds" / "long.wav")]).popitem()[1]
        (media / "sounds" / "long.wav").rename(media / "renamed.wav")

        report = run(made, media, encoder=encoder)

        assert (report.moved, report.added, report.unchanged, report.segments) == (1, 0, 33, 0)
        assert encoder.batches == []
        after = made.catalog.find([str(media / "renamed.wav")]).popitem()[1]
        assert (after.item_id, after.added_at, after.name) == (before.item_id, before.added_at, "renamed.wav")
        assert len(made.catalog.keys()) == 34
        assert made.vectors.count == 39
        assert made.verify() == []


def test_a_copied_file_gets_the_vectors_without_encoding(media: Path, tmp_path: Path) -> None:
    encoder = Watched()
    with new_collection(tmp_path / "c") as made:
        run(made, media)
        shutil.copy(media / "sounds" / "long.wav", media / "copy.wav")

        report = run(made, media, encoder=encoder)

        assert (report.moved, report.added, report.segments) == (1, 0, 6)
        assert encoder.batches == []
        held = snapshot(made)
        assert held[str(media / "copy.wav")] == held[str(media / "sounds" / "long.wav")]
        assert made.catalog.find([str(media / "copy.wav")]).popitem()[1].duration_s == 50
        assert made.verify() == []


def test_a_file_moved_away_from_other_roots_leaves_the_old_row_alone(media: Path, tmp_path: Path) -> None:
    with new_collection(tmp_path / "c") as made:
        run(made, media)
        old = media / "pictures" / "0001.png"
        (tmp_path / "elsewhere").mkdir()
        old.rename(tmp_path / "elsewhere" / "x.png")

        report = run(made, tmp_path / "elsewhere")

        assert (report.moved, report.segments) == (1, 1)
        assert set(made.catalog.find([str(old), str(tmp_path / "elsewhere" / "x.png")])) == {
            str(old),
            str(tmp_path / "elsewhere" / "x.png"),
        }


def test_two_files_that_change_places_keep_their_vectors(media: Path, tmp_path: Path) -> None:
    encoder = Watched()
    a, b = media / "pictures" / "0001.png", media / "pictures" / "0002.png"
    with new_collection(tmp_path / "c") as made:
        run(made, media)
        before = snapshot(made)
        a.rename(media / "t")
        b.rename(a)
        (media / "t").rename(b)
        for number, path in enumerate((a, b)):
            os.utime(path, ns=(0, 10_000 + number))

        report = run(made, media, encoder=encoder)

        assert (report.moved, encoder.batches) == (2, [])
        after = snapshot(made)
        assert after[str(a)] == before[str(b)]
        assert after[str(b)] == before[str(a)]
        assert len(after) == 34


def test_a_moved_file_that_left_a_copy_at_two_places_is_renamed_once_and_copied_once(
    media: Path, tmp_path: Path
) -> None:
    encoder = Watched()
    with new_collection(tmp_path / "c") as made:
        run(made, media)
        old = media / "pictures" / "0001.png"
        shutil.copy(old, media / "first.png")
        shutil.copy(old, media / "second.png")
        old.unlink()

        report = run(made, media, encoder=encoder)

        assert (report.moved, report.segments, encoder.batches) == (2, 1, [])
        assert str(old) not in made.catalog.keys()  # noqa: SIM118 - a list, not a mapping
        assert len(made.catalog.keys()) == 35
        assert made.verify() == []


def test_a_file_moved_over_another_replaces_it(media: Path, tmp_path: Path) -> None:
    a, b = media / "pictures" / "0001.png", media / "pictures" / "0002.png"
    with new_collection(tmp_path / "c") as made:
        run(made, media)
        before = snapshot(made)
        a.replace(b)
        os.utime(b, ns=(0, 10_000))

        report = run(made, media)

        assert report.moved == 1
        assert snapshot(made)[str(b)] == before[str(a)]
        assert str(a) not in snapshot(made)
        assert len(snapshot(made)) == 33


def test_the_same_content_in_one_run_is_encoded_once(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d/e"):
        picture(tmp_path / "m" / f"{name}.png", 1)
    encoder = Watched()
    with new_collection(tmp_path / "c") as made:
        report = run(made, tmp_path / "m", encoder=encoder, workers=4)

        assert (report.added, report.moved, encoder.encoded) == (1, 3, 1)
        assert len({held[2] for held in snapshot(made).values()}) == 1
        assert made.count == 4


def test_two_copies_of_a_broken_file_are_both_told(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / "m").mkdir(exist_ok=True)
        (tmp_path / "m" / name).write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with new_collection(tmp_path / "c") as made:
        for _ in range(2):
            report = run(made, tmp_path / "m")
            told = sorted(Path(skip.path).name for skip in report.skipped)
            assert told == ["a.png", "b.png"]


# -- words of a manifest ----------------------------------------------------------------------------------------


def test_new_words_in_a_manifest_update_the_row_without_encoding(tmp_path: Path) -> None:
    picture(tmp_path / "m" / "a.png", 1)
    encoder = Watched()
    rows = tmp_path / "m" / "list.jsonl"
    with new_collection(tmp_path / "c") as made:
        manifest(rows, {"image": "a.png", "captions": ["old"], "metadata": {"year": 1}, "id": "x"})
        run(made, rows)
        manifest(rows, {"image": "a.png", "captions": ["new", "words"], "metadata": {"year": 2}, "id": "x"})

        report = run(made, rows, encoder=encoder)

        assert (report.changed, report.unchanged, encoder.batches) == (1, 0, [])
        (row,) = made.catalog.items()
        assert (row.captions, row.metadata, row.row_id) == (("new", "words"), {"year": 2}, "x")
        assert run(made, rows).unchanged == 1


def test_indexing_the_folder_afterwards_keeps_the_words_of_the_manifest(tmp_path: Path) -> None:
    picture(tmp_path / "m" / "a.png", 1)
    rows = manifest(tmp_path / "m" / "list.jsonl", {"image": "a.png", "captions": ["a cat"]})
    with new_collection(tmp_path / "c") as made:
        run(made, rows)
        assert run(made, tmp_path / "m").unchanged == 1
        assert made.catalog.items()[0].caption == "a cat"

        (tmp_path / "m" / "a.png").rename(tmp_path / "m" / "b.png")
        assert run(made, tmp_path / "m").moved == 1
        assert [(row.name, row.caption) for row in made.catalog.items()] == [("b.png", "a cat")]


def test_text_rows_are_told_apart_by_content(tmp_path: Path) -> None:
    encoder = Watched()
    rows = tmp_path / "list.jsonl"
    with new_collection(tmp_path / "c") as made:
        manifest(rows, {"text": "one red fish", "id": "1"}, {"text": "two blue fish", "id": "2"})
        run(made, rows)
        manifest(rows, {"text": "one red fish", "id": "1"}, {"text": "two green fish", "id": "2"})

        report = run(made, rows, encoder=encoder)

        assert (report.unchanged, report.changed, encoder.encoded) == (1, 1, 1)
        texts = {row.key: row.text for row in made.catalog.lookup(made.catalog.vector_ids()).values()}
        assert texts == {f"{rows}#1": "one red fish", f"{rows}#2": "two green fish"}


# -- what cannot be read ------------------------------------------------------------------------------------------


def test_bad_files_are_skipped_with_their_reason_and_move_no_neighbour(media: Path, tmp_path: Path) -> None:
    for number in (0, 7, 15, 29):
        (media / "pictures" / f"{number:04}x.png").write_bytes(b"")
        (media / "pictures" / f"{number:04}y.jpg").write_text("words")
    with new_collection(tmp_path / "c") as made:
        report = run(made, media, batch_size=8)

        assert report.added == 34
        assert len(report.skipped) == 8
        reasons = {Path(skip.path).name: skip.reason for skip in report.skipped}
        assert reasons["0007x.png"] == "is empty (0 bytes); copy it again or remove it"
        assert reasons["0007y.jpg"] == "is text, not a picture; rename it to .txt"
        for path in (media / "pictures").glob("????.png"):
            assert found_by_itself(made, path) == [str(path)]


def test_a_known_bad_file_is_told_again_without_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "m" / "bad.png"
    bad.parent.mkdir()
    bad.write_bytes(b"rubbish" * 1_000)
    with new_collection(tmp_path / "c") as made:
        first = run(made, bad.parent).skipped
        good = picture(tmp_path / "good.png", 1).read_bytes()
        with monkeypatch.context() as patched:
            reads_no_file(patched)
            assert run(made, bad.parent).skipped == first
            assert made.catalog.skipped() == first

        bad.write_bytes(good)
        report = run(made, bad.parent)
        assert (report.added, report.skipped) == (1, [])
        assert made.catalog.skipped() == []


def test_a_raised_limit_has_a_bad_file_read_again(tmp_path: Path) -> None:
    picture(tmp_path / "m" / "a.png", 1)
    with new_collection(tmp_path / "c") as made:
        tight = MediaLimits(max_megapixels=0.0001)
        assert "--max-megapixels" in run(made, tmp_path / "m", limits=tight).skipped[0].reason

        assert run(made, tmp_path / "m").added == 1


def test_a_file_that_the_system_refuses_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import indexer.build.item_reader as reader_module
    from indexer.errors import MediaError

    path = picture(tmp_path / "m" / "a.png", 1)

    def refused(item: Item, limits: MediaLimits) -> str:
        try:
            raise PermissionError(13, "Permission denied")
        except PermissionError as error:
            raise MediaError(item.path, "permission denied") from error

    with new_collection(tmp_path / "c") as made:
        with monkeypatch.context() as patched:
            patched.setattr(reader_module, "content_hash", refused)
            assert [skip.reason for skip in run(made, path.parent).skipped] == ["permission denied"]

        assert run(made, path.parent).added == 1


def test_a_file_that_went_bad_is_no_longer_found_as_what_it_was(media: Path, tmp_path: Path) -> None:
    path = media / "pictures" / "0001.png"
    with new_collection(tmp_path / "c") as made:
        run(made, media)
        path.write_bytes(b"rubbish")

        report = run(made, media)

        assert [skip.path for skip in report.skipped] == [str(path)]
        assert str(path) not in snapshot(made)
        assert run(made, media).skipped == report.skipped


def test_any_exception_of_a_worker_is_the_file_s_alone(media: Path, tmp_path: Path) -> None:
    class Picky(FakeEncoder):
        def prepare_image(self, picture: Image.Image) -> NDArray[Any]:
            prepared = super().prepare_image(picture)
            if np.allclose(prepared, reference):
                raise ZeroDivisionError("odd\npicture")
            return prepared

    with Image.open(media / "pictures" / "0011.png") as opened:
        reference = FakeEncoder().prepare_image(opened)
    with new_collection(tmp_path / "c") as made:
        report = run(made, media, encoder=Picky())

        assert [(Path(skip.path).name, skip.reason) for skip in report.skipped] == [
            ("0011.png", "cannot be read (odd picture); leave it out")
        ]
        assert report.added == 33


@pytest.mark.parametrize("how", ["raises", "nan"])
def test_a_picture_that_the_model_cannot_encode_fails_alone_in_its_batch(media: Path, tmp_path: Path, how: str) -> None:
    class Picky(FakeEncoder):
        def encode_images(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
            rows = super().encode_images(prepared)
            for position, one in enumerate(prepared):
                if np.allclose(one, reference):
                    if how == "raises":
                        raise ValueError("cannot")
                    rows[position] = np.nan
            return rows

    with Image.open(media / "pictures" / "0011.png") as opened:
        reference = FakeEncoder().prepare_image(opened)
    with new_collection(tmp_path / "c") as made:
        report = run(made, media, encoder=Picky(), batch_size=10)

        assert [Path(skip.path).name for skip in report.skipped] == ["0011.png"]
        assert report.added == 33
        for number in (10, 12, 29):
            path = media / "pictures" / f"{number:04}.png"
            assert found_by_itself(made, path) == [str(path)]


def test_a_model_that_encodes_nothing_is_an_error_and_not_a_list_of_bad_files(media: Path, tmp_path: Path) -> None:
    class Broken(FakeEncoder):
        def encode_images(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
            raise RuntimeError("no such kernel")

    with new_collection(tmp_path / "c") as made:
        with pytest.raises(ModelError, match=r"model fake: encodes no image at all \(no such kernel\)"):
            run(made, media, encoder=Broken(), batch_size=4)
        assert made.verify() == []
        assert run(made, media).skipped == []


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_model_whose_vectors_are_not_of_unit_length_is_an_error(media: Path, tmp_path: Path, factor: float) -> None:
    class Wrong(FakeEncoder):
        def encode_images(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
            return super().encode_images(prepared) * np.float32(factor)

    with new_collection(tmp_path / "c") as made, pytest.raises(ModelError, match="gave a vector of length"):
        run(made, media, encoder=Wrong())


def test_a_modality_without_a_tower_is_skipped_with_a_model_that_has_one(media: Path, tmp_path: Path) -> None:
    class Deaf(FakeEncoder):
        modalities = frozenset((Modality.IMAGE, Modality.TEXT))

    with new_collection(tmp_path / "c") as made:
        report = run(made, media, encoder=Deaf())
        assert len(report.skipped) == 2
        assert "has no audio tower" in report.skipped[0].reason
        assert made.catalog.skipped() == []

        assert run(made, media).added == 2


def test_another_encoder_is_refused_before_anything_is_read(media: Path, tmp_path: Path) -> None:
    class Other(FakeEncoder):
        fingerprint = "other"

    with new_collection(tmp_path / "c") as made, pytest.raises(EncoderMismatch):
        run(made, media, encoder=Other())


def test_windows_of_sound_are_no_longer_than_the_encoder_hears(tmp_path: Path) -> None:
    class Short(FakeEncoder):
        window_s = 5.0

        def prepare_audio(self, window: NDArray[np.float32]) -> NDArray[Any]:
            assert len(window) <= 5 * 16_000
            return super().prepare_audio(window)

    path = sound(tmp_path / "s.wav", 21)
    with new_collection(tmp_path / "c") as made:
        assert run(made, path, encoder=Short()).skipped == []
        (row,) = made.catalog.items()
        assert [one.segment.start_s for one in made.catalog.segments_of(row.item_id)] == [0, 4, 8, 12, 16]


# -- what is gone -----------------------------------------------------------------------------------------------


def test_gone_files_are_removed_only_when_asked_and_only_under_the_roots(media: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "other", 2, first=500)
    with new_collection(tmp_path / "c") as made:
        run(made, media, tmp_path / "other")
        (media / "pictures" / "0003.png").unlink()
        (tmp_path / "other" / "0500.png").unlink()

        assert run(made, media).pruned == 0
        assert len(made.catalog.keys()) == 36
        assert run(made, media, prune=True).pruned == 1
        assert str(media / "pictures" / "0003.png") not in snapshot(made)
        assert str(tmp_path / "other" / "0500.png") in snapshot(made)


def test_an_unplugged_disk_is_not_taken_for_an_empty_one(media: Path, tmp_path: Path) -> None:
    with new_collection(tmp_path / "c") as made:
        run(made, media)
        media.rename(tmp_path / "unplugged")

        report = run(made, media, prune=True)

        assert report.pruned == 0
        assert len(report.skipped) == 1
        assert len(made.catalog.keys()) == 34


def test_asking_for_one_modality_does_not_remove_the_others(media: Path, tmp_path: Path) -> None:
    with new_collection(tmp_path / "c") as made:
        run(made, media)
        corpus = find_items([media], modalities=frozenset((Modality.IMAGE,)))

        assert build(made, corpus, FakeEncoder(), prune=True).pruned == 0


def test_rows_taken_out_of_a_manifest_are_removed_with_prune(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / f"{number}.png", number)
    rows = tmp_path / "list.jsonl"
    with new_collection(tmp_path / "c") as made:
        manifest(rows, *({"image": f"{n}.png"} for n in range(3)), {"text": "a", "id": "t"}, {"text": "b", "id": "u"})
        run(made, rows)
        manifest(rows, {"image": "0.png"}, {"text": "b", "id": "u"})

        assert run(made, rows).pruned == 0
        only_pictures = find_items([rows], modalities=frozenset((Modality.IMAGE,)))
        assert build(made, only_pictures, FakeEncoder(), prune=True).pruned == 3
        assert sorted(snapshot(made)) == [str(tmp_path / "0.png"), f"{rows}#u"]


def test_what_was_recorded_of_a_bad_file_goes_with_it(tmp_path: Path) -> None:
    picture(tmp_path / "m" / "a.png", 1)
    (tmp_path / "m" / "bad.png").write_bytes(b"x")
    with new_collection(tmp_path / "c") as made:
        run(made, tmp_path / "m")
        (tmp_path / "m" / "bad.png").unlink()

        assert run(made, tmp_path / "m", prune=True).pruned == 0
        assert made.catalog.skipped() == []


# -- progress, interruption, full disks -------------------------------------------------------------------------


class Shown(NamedTuple):
    """What a progress callback gets."""

    stage: str
    done: int
    total: int
    skipped: int = 0


def test_progress_ends_with_everything_settled(media: Path, tmp_path: Path) -> None:
    (media / "bad.png").write_bytes(b"x")
    seen: list[Shown] = []
    with new_collection(tmp_path / "c") as made:
        run(made, media, on_progress=lambda *one: seen.append(Shown(*one)), prune=True)

    assert (seen[0].done, seen[0].total) == (0, 35)
    assert (seen[-1].done, seen[-1].total, seen[-1].skipped) == (35, 35, 1)
    assert list(dict.fromkeys(progress.stage for progress in seen)) == ["indexing", "removing", "saving"]
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)


def test_readers_see_a_build_grow_by_commits(media: Path, tmp_path: Path) -> None:
    class Looking(FakeEncoder):
        def encode_images(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
            with Collection.open(tmp_path / "c") as reader:
                seen.append(reader.count)
                assert reader.verify() == []
            return super().encode_images(prepared)

    seen: list[int] = []
    with new_collection(tmp_path / "c") as made:
        run(made, media / "pictures", encoder=Looking(), batch_size=5, commit_every=10)

    assert seen == [0, 0, 10, 10, 20, 20]


def test_an_interrupted_build_commits_what_is_encoded_and_is_continued(media: Path, tmp_path: Path) -> None:
    encoder = Watched(fail_at=4, error=KeyboardInterrupt())
    with new_collection(tmp_path / "whole") as made:
        run(made, media)
        whole = snapshot(made)
    with new_collection(tmp_path / "c") as made:
        report = run(made, media, encoder=encoder, batch_size=5)

        assert report.interrupted
        assert report.added == made.count - sum(n for kind, n in encoder.batches if kind == "audio")
        assert 0 < report.added < 34
        assert made.verify() == []
        kept = snapshot(made)
        assert all(whole[key] == held for key, held in kept.items())

        again = run(made, media)
        assert (again.unchanged, again.added) == (report.added, 34 - report.added)
        assert snapshot(made) == whole


def test_an_interrupted_commit_is_made_again_and_stores_nothing_twice(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_collection(tmp_path / "c") as made:
        run(made, media / "pictures" / "0001.png")
        (media / "pictures" / "0001.png").rename(media / "pictures" / "moved.png")
        real = made.catalog.set_meta
        calls: list[object] = []

        def interrupted_once(**values: Any) -> None:
            calls.append(values)
            real(**values)
            if len(calls) == 1:
                raise KeyboardInterrupt

        monkeypatch.setattr(made.catalog, "set_meta", interrupted_once)
        report = run(made, media / "pictures", commit_every=10)

        assert report.interrupted
        assert made.verify() == []
        monkeypatch.undo()
        run(made, media / "pictures")
        assert sorted(made.catalog.keys()) == sorted(map(str, (media / "pictures").iterdir()))
        assert made.verify() == []


def test_a_full_disk_is_told_with_what_is_kept_and_the_build_is_continued(media: Path, small_disk: Path) -> None:
    pictures(media / "more", 400, first=1_000)
    made = new_collection(small_disk / "c")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600_000))

    with pytest.raises(StorageError) as caught:
        run(made, media, commit_every=20)

    kept = made.count
    message = str(caught.value)
    assert message.startswith(str(small_disk))
    assert "free some space and run the same command again" in message
    assert f"({len(made.catalog.keys())} items of this run are kept)" in message
    assert kept > 0
    assert made.verify() == []
    made.close()
    ballast.unlink()
    shutil.move(small_disk / "c", media.parent / "c")
    with Collection.open(media.parent / "c", writable=True) as opened:
        report = run(opened, media)
        assert report.added + report.unchanged == 434
        assert opened.verify() == []


def test_an_empty_corpus_is_no_error(tmp_path: Path) -> None:
    with new_collection(tmp_path / "c") as made:
        report = build(made, Corpus([], [], ()), FakeEncoder(), prune=True)

        assert (report.added, report.segments, made.verify()) == (0, 0, [])


def test_the_helper_indexes_like_the_command(media: Path, tmp_path: Path) -> None:
    with new_collection(tmp_path / "c") as made:
        assert index(made, media).added == 34
