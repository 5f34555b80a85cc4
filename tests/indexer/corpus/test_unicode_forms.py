"""Names in the composed and the decomposed form of Unicode meet, and two files that differ only in it both live."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_media import index, new_collection, picture, snapshot
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.collection.collection import Collection
from indexer.corpus.walk import find_items
from indexer.limits import MediaLimits
from indexer.media.decode import read_picture
from indexer.names import DiskNames, on_disk
from retrieval.query import Query

NFC, NFD = "Müller café", unicodedata.normalize("NFD", "Müller café")
HANGUL = unicodedata.normalize("NFD", "한국")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Two pictures under decomposed names; skips where the disk takes both forms for one."""
    picture(tmp_path / NFD / f"{NFD}.png", 1)
    picture(tmp_path / NFD / "b.png", 2)
    if (tmp_path / NFC).exists():
        pytest.skip("this disk takes both forms for one name")
    return tmp_path


@pytest.fixture
def made(disk: Path) -> Iterator[Collection]:
    with new_collection(disk / "c") as collection:
        index(collection, disk / NFD)
        yield collection


@pytest.mark.parametrize("name", [NFC, f"{NFC}/{NFC}.png", f"{NFD}/{NFC}.png"])
def test_a_path_in_one_form_finds_the_file_in_the_other_under_its_own_name(disk: Path, name: str) -> None:
    corpus = find_items([disk / name])
    assert corpus.skipped == []
    assert str(disk / NFD / f"{NFD}.png") in [item.key for item in corpus.items]
    assert all(item.path.exists() for item in corpus.items)
    assert str(corpus.roots[0]).startswith(str(disk / NFD))


def test_a_relative_path_in_the_other_form_is_found(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(disk)
    assert on_disk(Path(NFC) / f"{NFC}.png") == Path(NFD) / f"{NFD}.png"
    assert on_disk(Path(NFC) / "none é.png") == Path(NFC) / "none é.png"


def test_other_scripts_meet_too(disk: Path) -> None:
    picture(disk / f"{HANGUL}.png", 3)
    assert on_disk(disk / "한국.png") == disk / f"{HANGUL}.png"


def test_a_row_of_a_manifest_in_the_other_form_is_the_folders_file(disk: Path) -> None:
    rows = disk / NFD / "list.jsonl"
    rows.write_text(json.dumps({"image": f"{NFC}.png", "caption": "words"}, ensure_ascii=False) + "\n")
    corpus = find_items([rows, disk / NFD])
    assert [(item.path.name, item.captions) for item in corpus.items] == [(f"{NFD}.png", ("words",)), ("b.png", ())]


def test_a_folder_is_listed_once_for_all_rows(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, real = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: listed.append(folder) or real(folder))
    names = DiskNames()
    for number in range(50):
        names.on_disk(disk / NFD / f"é{number}.png")
    assert len(listed) == 1


@pytest.mark.parametrize(
    "where",
    [
        "name = '{name}.png'",
        "path like '%{name}.png'",
        "folder like '%/{name}' and name != 'b.png'",
        "name in ('x', '{name}.png')",
        "lower(name) = lower('{name}.png')",
        "name like 'M_ller caf_.png'",
        "not name = 'b.png' and key like '%{name}%'",
        "name between '{name}' and '{name}.pnh'",
    ],
)
@pytest.mark.parametrize("form", [NFC, NFD])
def test_a_filter_in_either_form_finds_the_item(made: Collection, where: str, form: str) -> None:
    passing = made.catalog.items(made.catalog.compile_filter(where.format(name=form)))
    assert [row.name for row in passing] == [f"{NFD}.png"]


def test_a_filter_of_metadata_in_either_form_finds_the_item(disk: Path) -> None:
    rows = disk / "list.jsonl"
    given = {"text": "words", "id": "a", "metadata": {unicodedata.normalize("NFD", "größe"): NFD, "n": "x"}}
    rows.write_text(json.dumps(given) + "\n")
    with new_collection(disk / "m") as made:
        index(made, rows)
        for where in (f"größe = '{NFC}'", f"metadata.größe like '{NFC}'", f"größe in ('{NFC}')"):
            assert len(made.catalog.items(made.catalog.compile_filter(where))) == 1


def test_a_filter_passes_over_names_that_are_no_utf_8(disk: Path) -> None:
    picture(disk / NFD / os.fsdecode(b"caf\xe9.png"), 9)
    with new_collection(disk / "m") as made:
        index(made, disk / NFD)
        for where in (f"name = '{NFC}.png'", f"name like '%{NFC}%'", f"lower(name) like '%{NFC[1:]}%'"):
            assert len(made.catalog.items(made.catalog.compile_filter(where))) == 1


@pytest.mark.parametrize(("name", "removed"), [(NFC, 2), (f"{NFC}/{NFC}.png", 1), (f"{NFD}/{NFC}.png", 1)])
def test_remove_takes_a_name_in_the_other_form(made: Collection, disk: Path, name: str, removed: int) -> None:
    assert made.remove_under([str(disk / name)]) == removed


def test_two_files_that_differ_only_in_the_form_both_live(disk: Path) -> None:
    picture(disk / NFD / f"{NFC}.png", 7)
    with new_collection(disk / "m") as made:
        assert index(made, disk / NFD).added == 3
        assert index(made, disk / NFD, prune=True).unchanged == 3
        assert [item.path.name for item in find_items([disk / NFD / f"{NFC}.png"]).items] == [f"{NFC}.png"]
        assert made.remove_under([str(disk / NFD / f"{NFC}.png")]) == 1
        assert str(disk / NFD / f"{NFD}.png") in snapshot(made)


def test_prune_does_not_take_the_other_form_of_a_root_for_gone(made: Collection, disk: Path) -> None:
    report = index(made, disk / NFC, prune=True)
    assert (report.unchanged, report.pruned, report.not_pruned) == (2, 0, ())


def test_a_picture_that_asks_is_opened_by_the_name_the_disk_has(disk: Path) -> None:
    assert read_picture(disk / NFC / f"{NFC}.png", MediaLimits()).size == (16, 16)


def test_the_words_of_a_query_are_the_same_in_both_forms() -> None:
    assert Query.text(NFD).parts[0].value == Query.text(NFC).parts[0].value == NFC


def test_a_collection_is_opened_under_either_form_of_its_name(disk: Path) -> None:
    with new_collection(disk / f"{NFD} c") as made:
        index(made, disk / NFD)
    assert CliRunner().invoke(app, ["info", "-c", str(disk / f"{NFC} c")]).exit_code == 0
