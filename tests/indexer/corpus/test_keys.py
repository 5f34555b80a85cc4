"""Two things never share a key: rows of manifests and files whose names look like rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_media import index, new_collection

from indexer.build.run import build
from indexer.collection.collection import Collection
from indexer.corpus.keys import is_apart, key_apart, row_key
from indexer.corpus.walk import Corpus, find_items
from indexer.encoders.fake import FakeEncoder
from indexer.items import Item, Modality


def manifest(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def texts(collection: Collection) -> dict[str, str]:
    """What every item says, by its key."""
    found = {}
    for row in collection.catalog.items():
        (segment,) = collection.catalog.segments_of(row.item_id)
        found[row.key] = segment.segment.text or ""
    return found


@pytest.fixture
def rivals(tmp_path: Path) -> Path:
    """Row 1.txt of m.jsonl, and the file m.jsonl#1.txt beside it."""
    manifest(tmp_path / "d" / "m.jsonl", {"id": "1.txt", "text": "a red ball"}, {"id": "2", "text": "a blue box"})
    (tmp_path / "d" / "m.jsonl#1.txt").write_text("a green tree")
    return tmp_path / "d"


@pytest.mark.parametrize("order", [("m.jsonl", "."), (".", "m.jsonl")])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_row_and_a_file_of_its_key_are_two_items(
    rivals: Path, tmp_path: Path, order: tuple[str, str], at_once: bool
) -> None:
    paths = [rivals / name for name in order]
    with new_collection(tmp_path / "c") as collection:
        for some in [paths] if at_once else [[path] for path in paths]:
            report = index(collection, *some)
            assert report.skipped == [] or "holds nothing readable" in report.skipped[0].reason
        assert texts(collection) == {
            f"{rivals}/m.jsonl//#1.txt": "a red ball",
            f"{rivals}/m.jsonl#1.txt": "a green tree",
            f"{rivals}/m.jsonl#2": "a blue box",  # as ever
        }
        again = index(collection, *paths, prune=True)
        assert (again.unchanged, again.pruned, again.added, again.changed) == (3, 0, 0, 0)
        assert len(texts(collection)) == 3


def test_a_row_that_was_stored_first_makes_way_for_a_file_that_comes_later(tmp_path: Path) -> None:
    """As in collections from before the two had two keys."""
    place = manifest(tmp_path / "d" / "m.jsonl", {"id": "1.txt", "text": "a red ball"})
    with new_collection(tmp_path / "c") as collection:
        index(collection, place)
        assert list(texts(collection)) == [f"{place}#1.txt"]
        (tmp_path / "d" / "m.jsonl#1.txt").write_text("a green tree")
        index(collection, tmp_path / "d")  # the folder alone, which does not list the row
        assert sorted(texts(collection).values()) == ["a green tree", "a red ball"]
        report = index(collection, place)
        assert (report.unchanged, report.added) == (1, 0)
        (tmp_path / "d" / "m.jsonl#1.txt").unlink()
        index(collection, place, tmp_path / "d", prune=True)
        assert texts(collection) == {f"{place}//#1.txt": "a red ball"}  # a key that was given once stays


def test_a_row_stored_under_the_usual_key_is_known_when_a_file_of_that_name_appears(tmp_path: Path) -> None:
    place = manifest(tmp_path / "d" / "m.jsonl", {"id": "1.txt", "text": "a red ball"})
    with new_collection(tmp_path / "c") as collection:
        index(collection, place)
        (tmp_path / "d" / "m.jsonl#1.txt").write_text("a green tree")
        report = index(collection, place)
        assert (report.added, report.unchanged) == (0, 1)
        assert texts(collection) == {f"{place}//#1.txt": "a red ball"}


def test_rows_of_two_manifests_whose_names_make_one_key_are_two_items(tmp_path: Path) -> None:
    first = manifest(tmp_path / "d" / "m.jsonl", {"id": "x.jsonl#1", "text": "a red ball"})
    second = manifest(tmp_path / "d" / "m.jsonl#x.jsonl", {"id": "1", "text": "a blue box"})
    for name, groups in (("once", [[first, second]]), ("after", [[first], [second]]), ("before", [[second], [first]])):
        with new_collection(tmp_path / name) as collection:
            for paths in groups:
                index(collection, *paths)
            assert sorted(texts(collection).values()) == ["a blue box", "a red ball"], name
            index(collection, second, first)
            assert sorted(texts(collection).values()) == ["a blue box", "a red ball"], name


def test_a_picture_that_a_manifest_lists_and_a_row_of_its_name_are_two_items(tmp_path: Path) -> None:
    from small_media import picture

    picture(tmp_path / "d" / "a.png", 1).rename(tmp_path / "d" / "m.jsonl#7")
    place = manifest(tmp_path / "d" / "m.jsonl", {"id": "7", "text": "a red ball"}, {"id": "8", "image": "m.jsonl#7"})
    corpus = find_items([place])
    assert corpus.skipped == []
    assert [(item.key, item.modality) for item in corpus.items] == [
        (f"{place}//#7", Modality.TEXT),
        (f"{place}#7", Modality.IMAGE),
    ]


IDS = [
    "é",
    "e\u0301",
    "A",
    "a",
    "a ",
    "a\nb",
    "a\0b",
    "a\0c",
    "a#b",
    "a/b",
    "//#a",
    "%2F",
    "/",
    "#",
    "..",
    "ǅ",
    "ǆ",
    "ß",
]


def test_ids_that_look_alike_are_rows_of_their_own(tmp_path: Path) -> None:
    place = manifest(tmp_path / "m.jsonl", *({"id": one, "text": f"number {n}"} for n, one in enumerate(IDS)))
    with new_collection(tmp_path / "c") as collection:
        report = index(collection, place)
        assert (report.skipped, report.added) == ([], len(IDS))
        assert texts(collection) == {f"{place}#{one}": f"number {n}" for n, one in enumerate(IDS)}
        assert index(collection, place, prune=True).unchanged == len(IDS)


def test_an_id_that_is_there_twice_is_reported_and_the_first_stays(tmp_path: Path) -> None:
    place = manifest(
        tmp_path / "m.jsonl",
        {"id": "1", "text": "first"},
        {"id": 1, "text": "second"},
        {"text": "third"},
        {"id": "3", "text": "fourth"},
    )
    with new_collection(tmp_path / "c") as collection:
        report = index(collection, place)
        assert [skip.path for skip in report.skipped] == [f"{place}:2", f"{place}:4"]
        assert all("give every row its own" in skip.reason for skip in report.skipped)
        assert sorted(texts(collection).values()) == ["first", "third"]


def test_two_slashes_before_a_path_are_the_same_path(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a red ball")
    (item,) = find_items([Path(f"/{tmp_path}/a.txt")]).items
    assert item.key == str(tmp_path / "a.txt")


def test_keys_apart_differ_whenever_their_rows_do() -> None:
    rows = [(Path(f"/d/{name}"), one) for name in ("m.jsonl", "m.jsonl#x.jsonl") for one in [*IDS, "x.jsonl#a"]]
    apart = {key_apart(*row) for row in rows}
    assert len(apart) == len(rows)
    assert all(is_apart(key) for key in apart)
    assert not is_apart(row_key(*rows[0]))


def test_a_removed_row_and_its_rival_are_named_by_their_keys(rivals: Path, tmp_path: Path) -> None:
    with new_collection(tmp_path / "c") as collection:
        index(collection, rivals / "m.jsonl", rivals)
        assert collection.remove_under([f"{rivals}/m.jsonl//#1.txt"]) == 1
        assert sorted(texts(collection).values()) == ["a blue box", "a green tree"]


def test_a_file_that_takes_the_key_of_a_row_between_listing_and_storing_takes_nothing_away(tmp_path: Path) -> None:
    place = manifest(tmp_path / "d" / "m.jsonl", {"id": "1.txt", "text": "a red ball"})
    file = tmp_path / "d" / "m.jsonl#1.txt"
    with new_collection(tmp_path / "c") as collection:
        index(collection, place)
        file.write_text("a green tree")
        listed = Item(str(file), Modality.TEXT, file, size_bytes=12, mtime_ns=1)
        build(collection, Corpus([listed], [], ()), FakeEncoder())
        assert sorted(texts(collection).values()) == ["a green tree", "a red ball"]
