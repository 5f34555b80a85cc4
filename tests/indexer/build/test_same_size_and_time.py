"""Files of the same size and time with another content: ctime and inode tell, and --verify-content reads them all."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray
from PIL import Image
from small_media import new_collection, picture, snapshot
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.build.run import BuildReport, build
from indexer.collection.collection import Collection
from indexer.corpus.walk import find_items
from indexer.encoders.fake import FakeEncoder
from indexer.files import FileId
from indexer.items import Embeddings


class Counting(FakeEncoder):
    """The fake encoder, counting what it encodes."""

    def __init__(self) -> None:
        self.encoded = 0

    def encode_images(self, prepared: Sequence[NDArray[Any]]) -> Embeddings:
        self.encoded += len(prepared)
        return super().encode_images(prepared)

    def encode_passages(self, texts: Sequence[str]) -> Embeddings:
        self.encoded += len(texts)
        return super().encode_passages(texts)


def run(made: Collection, path: Path, **options: Any) -> tuple[BuildReport, int]:
    encoder = Counting()
    return build(made, find_items([path]), encoder, **options), encoder.encoded


def write_keeping_mtime(path: Path, data: bytes) -> None:
    before = path.stat()
    assert len(data) == before.st_size
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_keeping_mtime(path: Path, data: bytes) -> None:
    """As editors do: another file takes the name."""
    before, beside = path.stat(), path.with_suffix(".new")
    assert len(data) == before.st_size
    beside.write_bytes(data)
    os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
    beside.replace(path)


@pytest.mark.parametrize("edit", [write_keeping_mtime, replace_keeping_mtime])
def test_a_word_that_changes_under_the_same_size_and_time_is_indexed(tmp_path: Path, edit: Any) -> None:
    path = tmp_path / "media" / "a.txt"
    path.parent.mkdir()
    path.write_bytes(b"a red door")
    with new_collection(tmp_path / "c") as made:
        run(made, path.parent)
        edit(path, b"a big door")

        report, encoded = run(made, path.parent)

        assert (report.changed, report.unchanged, encoded) == (1, 0, 1)
        (row,) = made.catalog.items()
        assert [one.segment.text for one in made.catalog.segments_of(row.item_id)] == ["a big door"]
        assert run(made, path.parent)[0].unchanged == 1


def test_an_orientation_flag_that_changes_under_the_same_size_and_time_is_indexed(tmp_path: Path) -> None:
    path = tmp_path / "media" / "a.jpg"
    path.parent.mkdir()
    flag = Image.Exif()
    for orientation in (1, 6):
        flag[0x0112] = orientation
        Image.linear_gradient("L").crop((0, 0, 60, 40)).save(tmp_path / f"{orientation}.jpg", exif=flag)
    shutil.copy(tmp_path / "1.jpg", path)
    with new_collection(tmp_path / "c") as made:
        run(made, path.parent)
        write_keeping_mtime(path, (tmp_path / "6.jpg").read_bytes())

        assert run(made, path.parent)[0].changed == 1
        (row,) = made.catalog.items()
        assert (row.width_px, row.height_px) == (40, 60)


def test_a_change_of_mode_or_a_new_link_is_hashed_and_not_encoded(tmp_path: Path) -> None:
    path = picture(tmp_path / "media" / "a.png", 1)
    with new_collection(tmp_path / "c") as made:
        run(made, path)
        before = snapshot(made)
        path.chmod(0o640)
        os.link(path, tmp_path / "media" / "b.txt.bak")

        report, encoded = run(made, path)

        assert (report.unchanged, report.changed, encoded) == (1, 0, 0)
        assert snapshot(made) == before
        status = path.stat()
        assert made.catalog.file_ids([str(path)]) == {str(path): FileId(status.st_ctime_ns, status.st_ino)}


def test_a_bad_file_that_was_mended_under_the_same_size_and_time_is_read_again(tmp_path: Path) -> None:
    good = picture(tmp_path / "good.png", 1).read_bytes()
    path = tmp_path / "media" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"x" * len(good))
    with new_collection(tmp_path / "c") as made:
        assert len(run(made, path)[0].skipped) == 1
        write_keeping_mtime(path, good)
        report, encoded = run(made, path)
        assert (report.added, report.skipped, encoded) == (1, [], 1)


def as_from_before(place: Path) -> None:
    """A collection as it was before ctime and inode were stored."""
    catalog = sqlite3.connect(place / "catalog.sqlite")
    catalog.execute("DROP TABLE file_ids")
    catalog.commit()
    catalog.close()
    (place / "catalog.sqlite.crc").unlink(missing_ok=True)


def test_a_collection_from_before_is_read_and_compared_by_size_and_time(tmp_path: Path) -> None:
    path = picture(tmp_path / "media" / "a.png", 1)
    with new_collection(tmp_path / "c") as made:
        run(made, path)
    as_from_before(tmp_path / "c")
    with Collection.open(tmp_path / "c") as opened:
        assert opened.verify() == []
        assert opened.catalog.file_ids([str(path)]) == {}
    path.chmod(0o640)
    with Collection.open(tmp_path / "c", writable=True) as opened:
        assert run(opened, path)[0].unchanged == 1
        assert opened.catalog.file_ids([str(path)]) == {}
        assert run(opened, path, verify_content=True)[0].unchanged == 1
        assert set(opened.catalog.file_ids([str(path)])) == {str(path)}


def test_verify_content_reads_every_file_and_encodes_what_changed(tmp_path: Path) -> None:
    same, other = picture(tmp_path / "media" / "a.png", 1), tmp_path / "media" / "b.txt"
    other.write_bytes(b"a red door")
    with new_collection(tmp_path / "c") as made:
        run(made, same.parent)
    as_from_before(tmp_path / "c")
    write_keeping_mtime(other, b"a big door")
    with Collection.open(tmp_path / "c", writable=True) as opened:
        assert run(opened, same.parent)[0].unchanged == 2
        report, encoded = run(opened, same.parent, verify_content=True)
        assert (report.changed, report.unchanged, encoded) == (1, 1, 1)


def test_new_words_of_a_file_that_is_not_read_do_not_vouch_for_its_content(tmp_path: Path) -> None:
    path, rows = picture(tmp_path / "media" / "a.png", 1), tmp_path / "media" / "list.jsonl"
    with new_collection(tmp_path / "c") as made:
        run(made, path.parent)
    as_from_before(tmp_path / "c")
    with Collection.open(tmp_path / "c", writable=True) as opened:
        rows.write_text(json.dumps({"image": "a.png", "caption": "words"}) + "\n")
        assert run(opened, rows)[0].changed == 1
        assert opened.catalog.file_ids([str(path)]) == {}


def test_what_is_stored_of_a_file_moves_and_goes_with_its_item(tmp_path: Path) -> None:
    path, moved = picture(tmp_path / "media" / "a.png", 1), tmp_path / "media" / "b.png"
    picture(tmp_path / "media" / "c.png", 2)
    with new_collection(tmp_path / "c") as made:
        run(made, path.parent)
        path.rename(moved)
        assert run(made, path.parent)[0].moved == 1
        assert set(made.catalog.file_ids([str(path), str(moved)])) == {str(moved)}
        made.remove([str(moved)])
        assert made.catalog.file_ids([str(path), str(moved)]) == {}


def test_the_command_verifies_content(tmp_path: Path) -> None:
    picture(tmp_path / "media" / "a.png", 1)
    command = ["index", str(tmp_path / "media"), "--model", "fake", "-c", str(tmp_path / "c"), "--verify-content"]
    assert "1 added" in CliRunner().invoke(app, command).output
    assert "1 unchanged" in CliRunner().invoke(app, command).output
