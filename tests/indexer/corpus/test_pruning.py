"""Pruning: what cannot be seen is not gone; only what the system says does not exist is removed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_media import index, new_collection, picture, pictures, snapshot
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.collection.collection import Collection
from indexer.corpus.pruning import Kept, Roots, is_gone, kept_line
from indexer.items import Place


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Collection]:
    """A collection of 3 pictures on "disk", 2 of them in "disk/trip"."""
    picture(tmp_path / "disk" / "a.png", 1)
    pictures(tmp_path / "disk" / "trip", 2, first=10)
    with new_collection(tmp_path / "c") as collection:
        index(collection, tmp_path / "disk")
        yield collection


def emptied(disk: Path) -> None:
    shutil.rmtree(disk)
    disk.mkdir()


def with_leftovers(disk: Path) -> None:
    emptied(disk)
    (disk / ".DS_Store").write_bytes(b"x")
    (disk / "lost+found").mkdir()


def a_file(disk: Path) -> None:
    shutil.rmtree(disk)
    disk.write_bytes(b"x")


def a_dangling_link(disk: Path) -> None:
    shutil.rmtree(disk)
    disk.symlink_to(disk.with_name("away"))


AWAY = [emptied, with_leftovers, a_file, a_dangling_link, shutil.rmtree]


@pytest.mark.parametrize("leave", AWAY)
def test_a_disk_that_is_away_loses_no_item_to_prune(
    made: Collection, tmp_path: Path, leave: Callable[[Path], None]
) -> None:
    before = snapshot(made)
    leave(tmp_path / "disk")

    report = index(made, tmp_path / "disk", prune=True)

    assert (report.pruned, snapshot(made)) == (0, before)
    assert sum(kept.items for kept in report.not_pruned) == 3
    assert all(kept.may_be_lifted for kept in report.not_pruned)


@pytest.mark.parametrize("leave", AWAY)
def test_items_of_a_missing_root_are_pruned_with_the_switch_for_it(
    made: Collection, tmp_path: Path, leave: Callable[[Path], None]
) -> None:
    leave(tmp_path / "disk")

    report = index(made, tmp_path / "disk", prune_missing_roots=True)

    assert (report.pruned, report.not_pruned, snapshot(made)) == (3, (), {})


def test_an_empty_mount_point_inside_a_root_loses_no_item(made: Collection, tmp_path: Path) -> None:
    emptied(tmp_path / "disk" / "trip")

    report = index(made, tmp_path / "disk", prune=True)

    trip = Kept(str(tmp_path / "disk" / "trip"), "is empty, as a disk that is away leaves it", 2, may_be_lifted=True)
    assert (report.pruned, report.not_pruned) == (0, (trip,))


def test_a_linked_folder_whose_target_is_away_loses_no_item(tmp_path: Path) -> None:
    pictures(tmp_path / "usb" / "card", 2)
    picture(tmp_path / "disk" / "a.png", 5)
    (tmp_path / "disk" / "card").symlink_to(tmp_path / "usb" / "card")
    (tmp_path / "disk" / "one.png").symlink_to(tmp_path / "usb" / "card" / "0001.png")
    with new_collection(tmp_path / "c") as made:
        index(made, tmp_path / "disk")
        before = snapshot(made)
        shutil.rmtree(tmp_path / "usb")

        report = index(made, tmp_path / "disk", prune=True)

        assert (report.pruned, snapshot(made)) == (0, before)
        assert sum(kept.items for kept in report.not_pruned) == len(before) - 1


@pytest.mark.parametrize("gone", ["a.png", "trip/0010.png", "trip"])
def test_what_does_not_exist_in_a_folder_that_can_be_listed_is_pruned(
    made: Collection, tmp_path: Path, gone: str
) -> None:
    path = tmp_path / "disk" / gone
    expected = len(list(path.iterdir())) if path.is_dir() else 1
    shutil.rmtree(path) if path.is_dir() else path.unlink()

    report = index(made, tmp_path / "disk", prune=True)

    assert (report.pruned, report.not_pruned, len(snapshot(made))) == (expected, (), 3 - expected)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOTCONN])
@pytest.mark.parametrize("call", ["stat", "scandir"])
@pytest.mark.parametrize("switch", ["prune", "prune_missing_roots"])
def test_a_folder_that_the_system_does_not_show_loses_no_item(
    made: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str, switch: str
) -> None:
    trip, real = tmp_path / "disk" / "trip", getattr(os, call)
    (trip / "0010.png").unlink()  # even that: the folder cannot be listed

    def refusing(path: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(path, int) and str(path).startswith(str(trip)):
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refusing)
        report = index(made, tmp_path / "disk", **{switch: True})

    assert (report.pruned, len(snapshot(made))) == (0, 3)
    assert {kept.may_be_lifted for kept in report.not_pruned} == {False}


def test_a_row_whose_file_is_away_keeps_its_text_and_its_neighbours(tmp_path: Path) -> None:
    pictures(tmp_path / "disk", 2)
    rows = tmp_path / "list.jsonl"
    rows.write_text(
        "".join(json.dumps({"id": str(n), "image": f"disk/000{n}.png", "text": f"words {n}"}) + "\n" for n in range(2)),
        encoding="utf-8",
    )
    with new_collection(tmp_path / "c") as made:
        index(made, rows)
        before = snapshot(made)
        emptied(tmp_path / "disk")

        report = index(made, rows, prune=True)

        assert (report.pruned, snapshot(made)) == (0, before)
        assert len(before) == 4


def test_a_manifest_that_is_missing_keeps_its_texts_until_the_switch(tmp_path: Path) -> None:
    rows = tmp_path / "list.jsonl"
    rows.write_text('{"text": "a"}\n{"text": "b"}\n', encoding="utf-8")
    with new_collection(tmp_path / "c") as made:
        index(made, rows)
        rows.unlink()

        assert index(made, rows, prune=True).pruned == 0
        assert index(made, rows, prune_missing_roots=True).pruned == 2


def test_a_copy_elsewhere_does_not_take_the_place_of_an_item_whose_disk_is_away(
    made: Collection, tmp_path: Path
) -> None:
    (tmp_path / "copies").mkdir()
    shutil.copy(tmp_path / "disk" / "a.png", tmp_path / "copies" / "a.png")
    emptied(tmp_path / "disk")

    index(made, tmp_path / "disk", tmp_path / "copies")

    assert {str(tmp_path / "disk" / "a.png"), str(tmp_path / "copies" / "a.png")} <= snapshot(made).keys()


def test_the_last_file_that_is_moved_out_of_a_folder_is_moved(tmp_path: Path) -> None:
    path = picture(tmp_path / "media" / "inbox" / "a.png", 1)
    roots = Roots([tmp_path / "media"])
    path.unlink()

    assert is_gone(Place(str(path), path, None), roots)


def test_the_run_says_in_one_line_what_was_kept_and_how_to_lift_it(made: Collection, tmp_path: Path) -> None:
    emptied(tmp_path / "disk")
    line = kept_line(index(made, tmp_path / "disk", prune=True).not_pruned)
    assert line.startswith(f"kept, not pruned: 3 items, since {tmp_path / 'disk'} is empty")
    assert line.endswith("--prune-missing-roots")
    assert "\n" not in line


def test_the_command_says_what_it_kept_in_words_and_in_json(tmp_path: Path) -> None:
    pictures(tmp_path / "disk", 2)
    common = ["index", str(tmp_path / "disk"), "--model", "fake", "-c", str(tmp_path / "c")]
    assert CliRunner().invoke(app, common).exit_code == 0
    emptied(tmp_path / "disk")

    assert "kept, not pruned: 2 items" in CliRunner().invoke(app, [*common, "--prune"]).output
    document = json.loads(CliRunner().invoke(app, [*common, "--prune", "--json"]).stdout)
    assert [(kept["items"], kept["path"]) for kept in document["not_pruned"]] == [(2, str(tmp_path / "disk"))]
    last = CliRunner().invoke(app, [*common, "--prune-missing-roots"])
    assert (last.exit_code, "2 pruned" in last.output) == (0, True)
