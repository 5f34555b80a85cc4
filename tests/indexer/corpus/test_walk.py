"""indexer/corpus/walk.py: which items a set of paths gives, in which order, and what is said of the rest."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
from bad_files import picture_bytes, sound_bytes

from indexer.corpus.walk import find_items, modality_of
from indexer.errors import MediaError
from indexer.files import display_path
from indexer.items import Item, Modality
from indexer.limits import MediaLimits
from indexer.media.content_hash import content_hash


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def names(folder: Path, items: list[Item]) -> list[str]:
    return [str(item.path.relative_to(folder)) for item in items]


def test_a_folder_gives_its_media_by_name_at_every_depth(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a/z.txt", "a/b/c.Ogg", "z.md", "notes.docx", "code.py")
    corpus = find_items([tmp_path])
    assert names(tmp_path, corpus.items) == ["b.JPG", "z.md", "a/z.txt", "a/b/c.Ogg"]
    assert [item.modality for item in corpus.items] == [Modality.IMAGE, Modality.TEXT, Modality.TEXT, Modality.AUDIO]
    assert corpus.skipped == []
    assert corpus.roots == (tmp_path,)


def test_an_item_knows_its_key_size_and_time(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (item,) = find_items([tmp_path]).items
    status = (tmp_path / "a.jpg").stat()
    assert item.key == str(tmp_path / "a.jpg")
    assert (item.size_bytes, item.mtime_ns) == (status.st_size, status.st_mtime_ns)


def test_the_same_tree_gives_the_same_order_every_time(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{letter}/{number}.txt" for letter in "cab" for number in (3, 1, 2)))
    first = find_items([tmp_path]).items
    assert find_items([tmp_path]).items == first
    assert names(tmp_path, first) == [f"{letter}/{number}.txt" for letter in "abc" for number in (1, 2, 3)]


def test_hidden_files_and_what_systems_leave_behind_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, ".hidden.jpg", ".git/a.png", "__MACOSX/a.jpg", "Thumbs.db", ".DS_Store", "a.jpg")
    corpus = find_items([tmp_path])
    assert names(tmp_path, corpus.items) == ["a.jpg"]
    assert corpus.skipped == []


def test_a_hidden_folder_that_is_asked_for_is_searched(tmp_path: Path) -> None:
    touch(tmp_path, ".hidden/a.jpg")
    assert len(find_items([tmp_path / ".hidden"]).items) == 1


def test_only_the_modalities_asked_for_are_found(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.wav", "a.txt")
    corpus = find_items([tmp_path], modalities=frozenset((Modality.AUDIO,)))
    assert names(tmp_path, corpus.items) == ["a.wav"]
    assert corpus.skipped == []


def test_a_file_of_another_modality_that_is_asked_for_by_name_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    corpus = find_items([tmp_path / "a.jpg"], modalities=frozenset((Modality.AUDIO,)))
    assert corpus.items == []
    assert corpus.skipped[0].reason == "is a picture, and only audio is wanted"


def test_a_folder_without_media_is_reported_with_the_suffixes_that_count(tmp_path: Path) -> None:
    touch(tmp_path, "program.exe")
    (tmp_path / "empty").mkdir()
    corpus = find_items([tmp_path, tmp_path / "empty"])
    assert corpus.items == []
    assert [skipped.path for skipped in corpus.skipped] == [str(tmp_path)]
    (reason,) = {skipped.reason for skipped in corpus.skipped}
    assert reason.startswith("holds nothing readable as image or audio or text; known suffixes: ")
    assert " .jpg " in reason and " .wav " in reason and " .txt " in reason
    only = find_items([tmp_path / "empty"], modalities=frozenset((Modality.IMAGE,))).skipped[0]
    assert only.reason.startswith("holds nothing readable as image;") and ".wav" not in only.reason


def test_a_file_with_an_unknown_suffix_is_reported_when_asked_for_only(tmp_path: Path) -> None:
    touch(tmp_path, "a.xyz", "b", "c.jpg")
    corpus = find_items([tmp_path / "a.xyz", tmp_path / "b", tmp_path])
    assert names(tmp_path, corpus.items) == ["c.jpg"]
    first, second = corpus.skipped
    assert first.reason.startswith("the suffix .xyz is not known; known are .aac ")
    assert second.reason.startswith("the suffix (none) is not known")


def test_a_path_that_is_not_there_is_reported_and_is_no_root(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    corpus = find_items([tmp_path / "gone", tmp_path / "gone.jpg", tmp_path / "a.jpg"])
    assert len(corpus.items) == 1
    assert [skipped.reason for skipped in corpus.skipped] == ["does not exist; check the path"] * 2
    assert corpus.roots == (tmp_path / "a.jpg",)


def test_paths_no_file_system_takes_are_reported(tmp_path: Path) -> None:
    corpus = find_items([tmp_path / ("x" * 300 + ".jpg"), Path("a\0b.jpg")])
    assert "longer than the file system allows" in corpus.skipped[0].reason
    assert corpus.skipped[1].reason == "is not a path a file can have; check it"
    assert corpus.skipped[1].path == "a\\x00b.jpg"


def test_a_file_asked_for_twice_is_one_item(tmp_path: Path) -> None:
    touch(tmp_path, "sub/a.jpg", "sub/b.jpg")
    corpus = find_items([tmp_path / "sub" / "b.jpg", tmp_path, tmp_path / "sub", tmp_path / "sub"])
    assert names(tmp_path, corpus.items) == ["sub/b.jpg", "sub/a.jpg"]
    assert corpus.skipped == []
    assert corpus.roots == (tmp_path / "sub" / "b.jpg", tmp_path, tmp_path / "sub")


def test_a_folder_within_another_that_was_asked_for_first_leaves_no_complaint(tmp_path: Path) -> None:
    touch(tmp_path, "sub/a.jpg")
    assert find_items([tmp_path / "sub", tmp_path]).skipped == []


def test_a_relative_path_gives_absolute_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "sub/a.jpg", "other/b.jpg")
    monkeypatch.chdir(tmp_path / "sub")
    corpus = find_items([Path(), Path("../other")])
    assert [item.key for item in corpus.items] == [str(tmp_path / "sub/a.jpg"), str(tmp_path / "other/b.jpg")]
    assert corpus.roots == (tmp_path / "sub", tmp_path / "other")


def test_two_dots_behind_a_link_lead_where_the_system_says(tmp_path: Path) -> None:
    touch(tmp_path, "real/deep/x.txt", "real/a.jpg", "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    (item,) = find_items([tmp_path / "link" / ".." / "a.jpg"]).items
    assert item.path == tmp_path / "real" / "a.jpg"


def test_a_folder_that_links_to_its_parent_is_walked_once(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/c.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    corpus = find_items([tmp_path])
    assert names(tmp_path, corpus.items) == ["a/b/c.jpg"]
    assert corpus.skipped == []


def test_a_linked_folder_elsewhere_is_walked_once_under_its_linked_name(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    touch(elsewhere, "x.jpg")
    (tmp_path / "one").symlink_to(elsewhere)
    (tmp_path / "two").symlink_to(elsewhere)
    corpus = find_items([tmp_path])
    assert names(tmp_path, corpus.items) == ["one/x.jpg"]
    assert find_items([tmp_path], follow_links=False).items == []


def test_real_names_win_over_links_however_they_sort(tmp_path: Path) -> None:
    touch(tmp_path, "m/photo.jpg")
    before = find_items([tmp_path]).items
    (tmp_path / "a.jpg").symlink_to(tmp_path / "m" / "photo.jpg")
    (tmp_path / "a").symlink_to(tmp_path / "m")
    assert find_items([tmp_path]).items == before


def test_a_linked_file_is_read_through_its_link_and_keeps_its_name(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = tmp_path_factory.mktemp("store")
    touch(store, "blob-without-suffix")
    (tmp_path / "photo.jpg").symlink_to(store / "blob-without-suffix")
    (item,) = find_items([tmp_path]).items
    assert item.key == str(tmp_path / "photo.jpg")
    assert item.size_bytes == len("blob-without-suffix")


def test_two_names_of_one_file_that_are_no_links_are_two_items(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    os.link(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert names(tmp_path, find_items([tmp_path]).items) == ["a.jpg", "b.jpg"]


def test_a_very_deep_tree_is_walked_without_recursion(tmp_path: Path) -> None:
    made = [tmp_path]
    try:
        for _ in range(sys.getrecursionlimit() + 100):
            made.append(made[-1] / "d")
            made[-1].mkdir()
        touch(made[-1], "a.jpg")
        assert [item.path.name for item in find_items([tmp_path]).items] == ["a.jpg"]
    finally:  # as deep as this, neither pytest nor shutil.rmtree can remove it
        (made[-1] / "a.jpg").unlink(missing_ok=True)
        for folder in reversed(made[1:]):
            folder.rmdir()


def test_a_manifest_found_in_a_folder_is_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "manifest.jsonl").write_text('{"text": "words"}\n')
    assert names(tmp_path, find_items([tmp_path]).items) == ["a.jpg"]


def test_a_manifest_row_gives_an_item_for_each_of_its_media(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture_bytes("PNG"))
    (tmp_path / "a.wav").write_bytes(sound_bytes(seconds=0.1))
    row = {"id": "r", "image": "a.png", "audio": "a.wav", "text": "größe", "captions": ["c"], "split": "s", "k": 1}
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps(row))
    corpus = find_items([manifest])
    assert [item.modality for item in corpus.items] == [Modality.IMAGE, Modality.AUDIO, Modality.TEXT]
    assert [item.key for item in corpus.items] == [
        str(tmp_path / "a.png"),
        str(tmp_path / "a.wav"),
        f"{manifest}#r",
    ]
    for item in corpus.items:
        assert (item.row_id, item.split, item.manifest) == ("r", "s", manifest)
        assert (item.captions, dict(item.metadata)) == (("c",), {"k": 1})
    text = corpus.items[2]
    assert (text.text, text.path, text.size_bytes, text.mtime_ns) == ("größe", manifest, 7, 0)
    assert corpus.roots == (manifest,)


def test_a_file_in_a_folder_and_in_a_manifest_is_the_manifests_item(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "m.jsonl").write_text('{"image": "b.png", "captions": "words"}\n')
    for paths in ([tmp_path, tmp_path / "m.jsonl"], [tmp_path / "m.jsonl", tmp_path]):
        corpus = find_items(paths)
        assert {item.path.name: item.captions for item in corpus.items} == {"a.png": (), "b.png": ("words",)}
        assert corpus.skipped == []
        assert list(corpus.roots) == paths


def test_the_second_manifest_to_list_a_file_is_told_so(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    for name in ("one.jsonl", "two.jsonl"):
        (tmp_path / name).write_text('{"image": "a.png"}\n')
    corpus = find_items([tmp_path / "one.jsonl", tmp_path / "two.jsonl", tmp_path / "one.jsonl"])
    assert len(corpus.items) == 1
    (skipped,) = corpus.skipped
    assert skipped.path == f"{tmp_path / 'two.jsonl'}:1"
    assert skipped.reason == f"{tmp_path / 'a.png'} is listed in {tmp_path / 'one.jsonl'} already; list it once"


def test_a_manifest_that_cannot_be_read_is_skipped_and_is_no_root(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "bad.parquet").write_bytes(b"?")
    corpus = find_items([tmp_path / "bad.parquet", tmp_path / "a.png"])
    assert len(corpus.items) == 1
    assert corpus.skipped[0].path == str(tmp_path / "bad.parquet")
    assert corpus.skipped[0].reason.startswith("is not a parquet file")
    assert corpus.roots == (tmp_path / "a.png",)


def test_the_bad_rows_of_a_manifest_are_among_the_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "m.jsonl").write_text('{"image": "no.png"}\n{"image": "a.png"}\n')
    corpus = find_items([tmp_path / "m.jsonl"])
    assert names(tmp_path, corpus.items) == ["a.png"]
    assert corpus.skipped[0].path == f"{tmp_path / 'm.jsonl'}:1"


def test_the_content_hash_is_that_of_the_bytes_wherever_they_lie(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "b.jpg").write_bytes(b"a.jpg")
    first, second = find_items([tmp_path]).items
    assert content_hash(first) == content_hash(second) == hashlib.blake2b(b"a.jpg", digest_size=20).hexdigest()
    row = Item("m#1", Modality.TEXT, tmp_path / "m.jsonl", text="a.jpg")
    assert content_hash(row) == content_hash(first)


def test_hashing_reports_a_file_that_is_gone_or_too_large(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt")
    (item,) = find_items([tmp_path]).items
    with pytest.raises(MediaError, match="over the 1e-06 MB limit; raise --max-text-mb"):
        content_hash(item, MediaLimits(max_text_mb=0.000001))
    (tmp_path / "a.txt").unlink()
    with pytest.raises(MediaError, match=r"a\.txt: does not exist"):
        content_hash(item)


def test_names_are_shown_in_one_printable_line() -> None:
    assert display_path("a\nb\x1b[31m\u202e.txt") == "a\\nb\\x1b[31m\\u202e.txt"
    assert display_path(os.fsdecode(b"\xff.txt")) == "\\xff.txt"
    assert display_path("größe 日本.txt") == "größe 日本.txt"
    assert len(display_path("x" * 5000)) < 1100
    display_path("\ud800").encode()


def test_suffixes_decide_the_modality_in_either_case() -> None:
    assert modality_of(Path("a.JPEG")) is Modality.IMAGE
    assert modality_of(Path("a.m4a")) is Modality.AUDIO
    assert modality_of(Path("README.rst")) is Modality.TEXT
    assert modality_of(Path("a.mp4")) is None
    assert modality_of(Path("jpg")) is None
