"""indexer/corpus/manifest.py and indexer/corpus/tables.py: rows of the three kinds, and rows that cannot be used."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pyarrow as pa
import pytest
from bad_files import make_bad_manifest, picture_bytes, sound_bytes
from pyarrow import parquet

from indexer.corpus import tables
from indexer.corpus.tables import READERS, BadRow
from indexer.corpus.walk import read_manifest
from indexer.errors import ManifestError


def jsonl(folder: Path, *rows: object) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def media(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.png", "sub/c.png"):
        (tmp_path / name).write_bytes(picture_bytes("PNG"))
    (tmp_path / "a.wav").write_bytes(sound_bytes(seconds=0.1))
    return tmp_path


def test_a_row_holds_a_picture_a_sound_a_text_captions_id_split_and_metadata(media: Path) -> None:
    path = jsonl(
        media,
        {
            "id": "x",
            "image": "a.png",
            "audio": "a.wav",
            "text": "words",
            "captions": ["one", "two"],
            "split": "test",
            "metadata": {"year": 2020},
        },
    )
    (row,) = read_manifest(path).rows
    assert (row.row_id, row.line) == ("x", 1)
    assert (row.image, row.audio, row.text) == (media / "a.png", media / "a.wav", "words")
    assert (row.captions, row.split, dict(row.metadata)) == (("one", "two"), "test", {"year": 2020})


def test_a_caption_may_be_a_single_string(media: Path) -> None:
    rows = read_manifest(jsonl(media, {"image": "a.png", "captions": "one"}, {"image": "b.png", "caption": "two"})).rows
    assert [row.captions for row in rows] == [("one",), ("two",)]


def test_empty_captions_are_dropped_and_the_rest_are_stripped(media: Path) -> None:
    (row,) = read_manifest(jsonl(media, {"image": "a.png", "captions": [" one ", "", "  ", None]})).rows
    assert row.captions == ("one",)


def test_the_line_number_is_the_id_of_a_row_without_one_and_blank_lines_count(media: Path) -> None:
    path = media / "manifest.jsonl"
    path.write_text('\n{"image": "a.png"}\n\n{"image": "b.png", "id": 7}\n')
    assert [(row.row_id, row.line) for row in read_manifest(path).rows] == [("2", 2), ("7", 4)]


def test_metadata_is_flattened_one_level_and_lists_become_json_text(media: Path) -> None:
    given = {"camera": {"make": "X", "lens": {"mm": 50}}, "tags": ["a", "ü"], "ok": True, "none": None}
    (row,) = read_manifest(jsonl(media, {"image": "a.png", "metadata": given, "folder_no": 3})).rows
    assert dict(row.metadata) == {
        "folder_no": 3,
        "camera.make": "X",
        "camera.lens": '{"mm": 50}',
        "tags": '["a", "ü"]',
        "ok": True,
        "none": None,
    }


def test_metadata_holds_only_what_a_database_can_keep(media: Path) -> None:
    path = media / "manifest.jsonl"
    path.write_text(
        '{"image": "a.png", "metadata": {"nan": NaN, "big": 99999999999999999999, "half": "\\ud800", "inf": -Infinity}}'
    )
    (row,) = read_manifest(path).rows
    assert dict(row.metadata) == {"nan": None, "big": "99999999999999999999", "half": "?", "inf": None}


def test_every_bad_row_is_named_with_its_line_and_harms_no_other(tmp_path: Path) -> None:
    path, says = make_bad_manifest(tmp_path / "rows")
    manifest = read_manifest(path)
    assert [row.line for row in manifest.rows] == [1, 20]
    assert [row.captions for row in manifest.rows] == [("one", "two"), ("last",)]
    reasons = {int(skipped.path.rpartition(":")[2]): skipped.reason for skipped in manifest.skipped}
    assert reasons.keys() == says.keys()
    for line, words in says.items():
        assert words in reasons[line], f"line {line}"
        assert "\n" not in reasons[line]
    assert manifest.skipped[0].path == f"{path}:2"


def test_an_absolute_path_within_the_folder_is_as_good_as_a_relative_one(media: Path) -> None:
    (row,) = read_manifest(jsonl(media, {"image": str(media / "sub" / "c.png")})).rows
    assert row.image == media / "sub" / "c.png"


def test_a_path_that_climbs_but_stays_within_the_folder_is_used(media: Path) -> None:
    (row,) = read_manifest(jsonl(media, {"image": "sub/../b.png"})).rows
    assert row.image is not None and row.image.samefile(media / "b.png") and ".." not in row.image.parts


def test_a_folder_link_that_leads_out_is_refused(media: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "d.png").write_bytes(picture_bytes("PNG"))
    (media / "away").symlink_to(outside)
    manifest = read_manifest(jsonl(media, {"image": "away/d.png"}, {"image": "a.png"}))
    assert [row.line for row in manifest.rows] == [2]
    assert "outside the manifest's folder" in manifest.skipped[0].reason


def test_a_manifest_in_a_linked_folder_finds_its_files(media: Path, tmp_path: Path) -> None:
    jsonl(media, {"image": "sub/c.png"})
    link = tmp_path / "link"
    link.symlink_to(media)
    manifest = read_manifest(link / "manifest.jsonl")
    assert [row.image for row in manifest.rows] == [link / "sub" / "c.png"]


def test_a_row_that_fails_gives_its_id_and_file_free(media: Path) -> None:
    manifest = read_manifest(
        jsonl(media, {"image": "a.png", "id": "x", "captions": 7}, {"image": "a.png", "id": "x", "captions": "ok"})
    )
    assert [row.line for row in manifest.rows] == [2]


def test_a_csv_has_several_caption_columns_in_order(media: Path) -> None:
    path = media / "m.csv"
    path.write_text("image,caption_10,caption,caption_2,id\na.png,ten,one,two,x\nb.png,,only,,\n")
    rows = read_manifest(path).rows
    assert [(row.row_id, row.captions) for row in rows] == [("x", ("one", "two", "ten")), ("3", ("only",))]


def test_a_csv_may_hold_captions_and_metadata_as_json(media: Path) -> None:
    path = media / "m.csv"
    path.write_text('image,captions,metadata\na.png,"[""one"", ""two, three""]","{""a"": {""b"": 1}}"\n')
    (row,) = read_manifest(path).rows
    assert row.captions == ("one", "two, three")
    assert dict(row.metadata) == {"a.b": 1}


def test_other_columns_of_a_csv_become_metadata_with_numbers_as_numbers(media: Path) -> None:
    path = media / "m.csv"
    path.write_text("image,year,score,code,empty\na.png,2020,-1.5,007,\n")
    (row,) = read_manifest(path).rows
    assert dict(row.metadata) == {"year": 2020, "score": -1.5, "code": "007", "empty": None}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_from_any_spreadsheet_is_read(media: Path, delimiter: str) -> None:
    path = media / "m.csv"
    path.write_bytes(b"\xef\xbb\xbf" + delimiter.join(("image", "caption")).encode() + b"\r\n")
    with path.open("ab") as file:
        file.write(delimiter.join(("a.png", '"two' + "\n" + 'lines"')).encode() + b"\r\n")
        file.write(delimiter.join(("b.png", "next")).encode() + b"\r\n")
    assert [(row.line, row.captions) for row in read_manifest(path).rows] == [(2, ("two\nlines",)), (4, ("next",))]


def test_csv_rows_with_too_few_fields_or_other_bytes_are_skipped_alone(media: Path) -> None:
    path = media / "m.csv"
    path.write_bytes(b"image,caption\na.png\nb.png,caf\xe9\nsub/c.png,good\n")
    manifest = read_manifest(path)
    assert [row.captions for row in manifest.rows] == [("good",)]
    assert ["1 fields where the first line names 2" in s.reason for s in manifest.skipped] == [True, False]
    assert "is not UTF-8" in manifest.skipped[1].reason


def test_a_parquet_manifest_is_read_like_the_others(media: Path) -> None:
    day = datetime.datetime(2020, 5, 1, 12)
    table = pa.table(
        {
            "image": ["a.png", None, "missing.png"],
            "text": [None, "words", None],
            "captions": [["one", "two"], [], ["x"]],
            "taken": [day, None, None],
            "place": [{"lat": 1.5}, None, None],
        }
    )
    parquet.write_table(table, media / "m.parquet")
    manifest = read_manifest(media / "m.parquet")
    assert [(row.line, row.image, row.text, row.captions) for row in manifest.rows] == [
        (1, media / "a.png", None, ("one", "two")),
        (2, None, "words", ()),
    ]
    assert dict(manifest.rows[0].metadata) == {"taken": "2020-05-01T12:00:00", "place.lat": 1.5}
    assert manifest.skipped[0].path.endswith("m.parquet:3")


def test_a_parquet_column_of_pictures_themselves_is_refused_as_a_whole(media: Path) -> None:
    parquet.write_table(pa.table({"image": [{"bytes": b"x", "path": "a.png"}]}), media / "m.parquet")
    with pytest.raises(ManifestError, match=r'column "image" holds struct.* it must hold paths'):
        read_manifest(media / "m.parquet")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("m.jsonl", b"", "holds no rows"),
        ("m.jsonl", b"\n\n", "holds no rows"),
        ("m.jsonl", '{"image": "a.png"}'.encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("m.csv", b"path,label\na.png,1\n", "no column is called image, audio or text"),
        ("m.csv", b"", "no column is called image, audio or text"),
        ("m.parquet", b"not parquet", "is not a parquet file"),
        ("m.txt", b"", "not a manifest; one ends in .jsonl, .csv, .parquet"),
    ],
)
def test_a_manifest_of_which_nothing_can_be_read_is_an_error(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ManifestError, match="m\\.") as caught:
        read_manifest(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_not_there_or_is_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no\.jsonl: does not exist"):
        read_manifest(tmp_path / "no.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ManifestError, match="is a folder"):
        read_manifest(tmp_path / "folder.jsonl")


def test_a_line_beyond_all_measure_is_skipped_and_the_next_is_read(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAX_LINE_BYTES", 1000)
    path = jsonl(media, {"text": "x" * 5000}, {"image": "a.png"})
    manifest = read_manifest(path)
    assert [row.line for row in manifest.rows] == [2]
    assert manifest.skipped[0].path.endswith(":1")


def test_a_relative_manifest_path_is_shown_as_given_and_kept_absolute(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl(media, {"image": "a.png"}, {"image": "nothing.png"})
    monkeypatch.chdir(media)
    manifest = read_manifest(Path("manifest.jsonl"))
    assert manifest.path == media / "manifest.jsonl"
    assert manifest.rows[0].image == media / "a.png"
    assert manifest.skipped[0].path == "manifest.jsonl:2"


# -- every row of a table is read or named ----------------------------------------------------------------------------

HEAD = b"text,id\n"


def rows_and_bad(content: bytes, tmp_path: Path, suffix: str = ".csv") -> tuple[list[str], list[int]]:
    """Texts of the rows that are read, and lines of those that are named."""
    path = tmp_path / f"table{suffix}"
    path.write_bytes(content)
    with path.open("rb") as file:
        found = list(READERS[suffix](file, path.name))
    good = [str(values["text"]) for _, values in found if not isinstance(values, BadRow)]
    return good, [line for line, values in found if isinstance(values, BadRow)]


@pytest.mark.parametrize(
    ("content", "good", "bad"),
    [
        (HEAD + b'one,1\ntwo,"2\nthree,3\nfour,4\nfive,5\n', ["one", "three", "four", "five"], [3]),
        (HEAD + b'one,1\ntwo,"2', ["one"], [3]),
        (HEAD + b'one,1\n"two\nand more",2\nthree,3\n', ["one", "two\nand more", "three"], []),
        (HEAD + b'"one,1\ntwo,2\nthree,3\n', ["two", "three"], [2]),
        (HEAD + b'one,"1\ntwo,2\nthree,"3"\nfour,4\n', ["two", "three", "four"], [2]),
        (b"text,id\rone,1\rtwo,2\r", ["one", "two"], []),
        (b"text,id\r\none,1\rtwo,2\nthree,3\r\n", ["one", "two", "three"], []),
        (HEAD + "a\u2028b,1\nc\x85d,2\n".encode(), ["a\u2028b", "c\x85d"], []),
    ],
)
def test_every_row_of_a_csv_is_read_or_named(content: bytes, good: list[str], bad: list[int], tmp_path: Path) -> None:
    """Before, an unclosed quote took in the rows behind it, and carriage returns alone were a traceback."""
    assert rows_and_bad(content, tmp_path) == (good, bad)


def test_lines_of_json_may_end_in_carriage_returns(tmp_path: Path) -> None:
    content = b'{"text": "a"}\r{"text": "b"}\r\n{"text": "c"}'
    assert rows_and_bad(content, tmp_path, ".jsonl") == (["a", "b", "c"], [])


def test_a_line_end_between_two_chunks_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.corpus.tables._CHUNK_BYTES", 7)
    content = b"text,id\r\n" + b"".join(b"row %d,%d\r\n" % (n, n) for n in range(50))
    good, bad = rows_and_bad(content, tmp_path)
    assert good == [f"row {n}" for n in range(50)] and bad == []


def test_odd_quotes_in_every_row_take_linear_time(tmp_path: Path) -> None:
    good, bad = rows_and_bad(HEAD + b'x,"1\n' * 20_000, tmp_path)
    assert len(good) + len(bad) >= 10_000
