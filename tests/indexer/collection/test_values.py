"""Values that no column holds: of files, manifests and tables. One row is skipped or kept as text, and never a run."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from small_media import new_collection, picture

from indexer.build.committer import Committer
from indexer.build.run import build
from indexer.collection.catalog.catalog import Catalog
from indexer.collection.catalog.records import Record, clean, describes_same
from indexer.collection.collection import Collection
from indexer.corpus.manifest import MAX_DEPTH, read_manifest
from indexer.corpus.walk import find_items
from indexer.encoders.fake import FakeEncoder
from indexer.errors import IndexDamaged, RecipeError, StorageError
from indexer.files import mtime_ns
from indexer.items import Item, Modality, Segment
from indexer.training.recipe import read_recipe
from retrieval.batch import read_queries
from retrieval.evaluation.datasets.karpathy import load_karpathy

YEAR_2400_NS = 13_569_465_600 * 10**9


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with new_collection(tmp_path / "collection") as made:
        yield made


def dated(path: Path, ns: int) -> Path:
    os.utime(path, ns=(0, ns))
    if path.stat().st_mtime_ns != ns:
        pytest.skip("this file system holds no such time")
    return path


def lines(path: Path, *rows: str) -> Path:
    path.write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    return path


def run(collection: Collection, *paths: Path) -> Any:
    return build(collection, find_items(paths), FakeEncoder())


def stored(collection: Collection, where: str | None = None) -> list[str]:
    catalog = collection.catalog
    return [row.name for row in catalog.items(None if where is None else catalog.compile_filter(where))]


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ns", [YEAR_2400_NS, 2**63, 2**63 - 1, 0, -1, -(2**31) * 10**9, -YEAR_2400_NS])
def test_a_file_of_any_date_is_indexed_with_its_neighbours(tmp_path: Path, collection: Collection, ns: int) -> None:
    folder = tmp_path / "media"
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        picture(folder / name, number)
    dated(folder / "b.png", ns)

    report = run(collection, folder)

    assert (report.added, report.skipped) == (3, [])
    kept = max(-(2**63), min(2**63 - 1, ns))
    assert [row.mtime_ns for row in collection.catalog.items()][1] == kept
    assert stored(collection, f"mtime_ns = {kept}") == ["b.png"]
    again = run(collection, folder)
    assert (again.unchanged, again.changed, again.added) == (3, 0, 0)


def test_a_file_beyond_the_last_date_is_told_apart_by_its_content(tmp_path: Path, collection: Collection) -> None:
    """Two times after 2262 are stored as one, so an equal size and time say nothing."""
    path = tmp_path / "media" / "a.txt"
    path.parent.mkdir()
    path.write_text("one")
    dated(path, YEAR_2400_NS)
    run(collection, path)
    path.write_text("two")
    dated(path, YEAR_2400_NS + 10**9)

    assert run(collection, path).changed == 1


@pytest.mark.parametrize(("ns", "kept"), [(YEAR_2400_NS, 2**63 - 1), (-YEAR_2400_NS, -(2**63)), (5, 5)])
def test_a_time_is_at_most_what_64_bits_hold(ns: int, kept: int) -> None:
    assert mtime_ns(SimpleNamespace(st_mtime_ns=ns)) == kept  # type: ignore[arg-type]


# -- manifests ------------------------------------------------------------------------------------------------------

DEEP = "[" * 950 + "]" * 950


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"text": "x", "metadata": {"a": ' + DEEP + "}}", "nested"),
        ('{"text": "x", "a": ' + DEEP.replace("[", '{"k":[').replace("]", "]}")[: 10**6] + "}", "nested"),
        ('{"text": "x", "a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"text": "x", "a": ' + "7" * 5_000 + "}", "a number of 5,000 digits"),
        ('{"text": "x", "a": [{"b": -' + "7" * 5_000 + "}]}", "a number of 5,001 digits"),
        ('{"text": "x", "caption_2": 5}', "it must be a string"),
        ('{"text": "x", "metadata": {"a": "' + "x" * 15_990_000 + '", "b": "' + "y" * 9_000 + '"}}', None),
        ('{"text": "x", "metadata": 1e400}', "is a number"),
    ],
)
def test_a_row_that_cannot_be_kept_is_skipped_with_its_reason(tmp_path: Path, row: str, reason: str | None) -> None:
    path = lines(tmp_path / "m.jsonl", '{"text": "before"}', row, '{"text": "after"}')

    read = read_manifest(path)

    assert [one.text for one in read.rows if one.text != "x"] == ["before", "after"]
    if reason is None:
        assert read.skipped == []
    else:
        assert [skip.path.endswith(":2") and reason in skip.reason for skip in read.skipped] == [True], read.skipped
        assert len(read.skipped[0].reason) < 300


def test_what_has_another_form_in_the_catalog_is_stored_in_it_and_found_there(
    tmp_path: Path, collection: Collection
) -> None:
    row = (
        '{"text": "hello", "big": 18446744073709551616, "small": -9223372036854775809, "inf": 1e400, "nan": NaN, '
        '"neg": -Infinity, "half": "\\ud800x", "nul": "a\\u0000b", "": "empty", "a.b": 1, "q\\"u\'o$te": 2, '
        '"twice": 1, "twice": 2, "\\u0000": 3, "\\ud800": 4, "path": "mine", "list": [1, [2, {"x": null}]], '
        '"metadata": {"o": {"p": {"q": 1}}, "t": true}, "caption_' + "9" * 5_000 + '": "last", "caption_2": "first"}'
    )
    report = run(collection, lines(tmp_path / "m.jsonl", row, '{"text": "next"}'))

    assert (report.added, report.skipped) == (2, [])
    kept = collection.catalog.items()[0]
    assert dict(kept.metadata) == {
        "big": "18446744073709551616",
        "small": "-9223372036854775809",
        "inf": None,
        "nan": None,
        "neg": None,
        "half": "?x",
        "nul": "a\0b",
        "": "empty",
        "a.b": 1,
        "q\"u'o$te": 2,
        "twice": 2,
        "\0": 3,
        "?": 4,
        "path": "mine",
        "list": '[1, [2, {"x": null}]]',
        "o.p": '{"q": 1}',
        "t": True,
    }
    assert kept.captions == ("first", "last")
    for where in (
        "big = '18446744073709551616'",
        "big > 5",
        "inf is null and twice = 2",
        "half = '?x'",
        "metadata.\"\" = 'empty'",
        "a.b = 1",
        'metadata."q""u\'o$te" = 2',
        "twice in (1, 2)",
        "metadata.path = 'mine'",
        "o.p like '%q%'",
        "t",
    ):
        assert stored(collection, where) == ["m.jsonl"], where
    assert run(collection, tmp_path / "m.jsonl").unchanged == 2
    json.loads(json.dumps(dict(kept.metadata), allow_nan=False))


def test_ten_thousand_keys_are_kept_and_named_in_one_short_line(tmp_path: Path, collection: Collection) -> None:
    row = json.dumps({"text": "x", "metadata": {f"key {i}": i for i in range(10_000)}})
    run(collection, lines(tmp_path / "m.jsonl", row))

    assert stored(collection, '"key 9999" = 9999') == ["m.jsonl"]
    with pytest.raises(Exception, match="there is no `none`") as caught:
        collection.catalog.compile_filter("none = 1")
    assert len(str(caught.value)) < 2_000


def table(path: Path, **columns: pa.Array) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (pa.array([10**18 + 1, 10**18], pa.timestamp("ns")), ["2001-09-09T01:46:40.000000001", "2001-09-09T01:46:40"]),
        (pa.array([2**60, 0], pa.timestamp("ms")), [None, "1970-01-01T00:00:00"]),
        (pa.array([2**31 - 1, 0], pa.int32()).view(pa.date32()), [None, "1970-01-01"]),
        (pa.array([[2**60], [0]], pa.list_(pa.timestamp("ms"))), [None, '["1970-01-01 00:00:00"]']),
        (
            pa.array(
                [datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=2))), None], pa.timestamp("us", tz="+02:00")
            ),
            ["2020-01-01T00:00:00+02:00", ""],
        ),
        (pa.array([b"caf\xc3\xa9", b"\xff\x00"], pa.binary()), ["café", "ff00"]),
        (pa.array([2**64 - 1, 5], pa.uint64()), ["18446744073709551615", 5]),
        (pa.array([float("nan"), float("inf")]), ["", ""]),
        (pa.array([Decimal("1.5"), Decimal("-2")], pa.decimal128(20, 3)), [1.5, -2.0]),
        (pa.array([timedelta(seconds=90), timedelta(0)]), [90.0, 0.0]),
        (pa.array([date(1, 1, 1), date(9999, 12, 31)]), ["0001-01-01", "9999-12-31"]),
        (pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())), ['[["k", 1]]', "[]"]),
    ],
    ids=("ns", "far", "far date", "far in a list", "zone", "bytes", "uint64", "nan", "decimal", "span", "dates", "map"),
)
def test_a_cell_of_parquet_that_python_or_sqlite_has_no_value_for_costs_its_row_at_most(
    tmp_path: Path, collection: Collection, values: pa.Array, wanted: list[Any]
) -> None:
    """``None``: the row is skipped with a reason; an empty text: there is no value."""
    path = table(tmp_path / "m.parquet", text=pa.array(["one", "two"]), v=values)

    report = run(collection, path)

    kept = {row.text: row.metadata["v"] for row in collection.catalog.items()}
    assert kept == {
        text: None if value == "" else value
        for text, value in zip(("one", "two"), wanted, strict=True)
        if value is not None
    }
    assert len(report.skipped) == wanted.count(None)
    assert all('"v" holds a value that cannot be read' in skip.reason for skip in report.skipped)


def test_a_number_beyond_a_float_is_text_in_csv(tmp_path: Path, collection: Collection) -> None:
    run(collection, lines(tmp_path / "m.csv", "text,v", "a,1.0e999", "b," + "9" * 5_000, "c,1.5"))

    assert [row.metadata["v"] for row in collection.catalog.items()] == ["1.0e999", "9" * 5_000, 1.5]


def test_a_table_that_its_library_chokes_on_is_one_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lines(tmp_path / "m.jsonl", '{"text": "x"}')
    monkeypatch.setattr("indexer.corpus.manifest.READERS", {".jsonl": lambda file, shown: iter((1 / 0,))})

    skips = find_items([path]).skipped

    assert len(skips) == 1 and "cannot be read (division by zero)" in skips[0].reason


def test_a_query_that_is_none_is_one_error_and_the_others_are_asked(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "q.jsonl",
        '{"text": "a", "k": 1e400}',
        '{"text": "b", "id": ' + DEEP + "}",
        '{"text": "c", "k": "' + "9" * 5_000 + '"}',
        '{"text": "d", "min_score": ' + "9" * 400 + "}",
        '{"text": "e"}',
    )

    rows = list(read_queries(path, {}))

    assert [one.error is None for one in rows][-1] and len(rows) == 5
    assert all(one.error is not None and len(one.error) < 300 for one in (rows[0], *rows[2:4]))


# -- the last line of defence ---------------------------------------------------------------------------------------


def bad_items(folder: Path) -> dict[str, Callable[[Item], Item]]:
    return {
        "size": lambda item: replace(item, size_bytes=2**63),
        "time": lambda item: replace(item, mtime_ns=2**64),
        "split": lambda item: replace(item, split=["no", "text"]),  # type: ignore[arg-type]
        "manifest": lambda item: replace(item, manifest=Path("/m/\ud800")),
    }


@pytest.mark.parametrize("kind", ["manifest"])
def test_an_item_that_the_catalog_refuses_is_skipped_and_its_batch_is_committed(
    tmp_path: Path, collection: Collection, kind: str
) -> None:
    folder = tmp_path / "media"
    for number in range(5):
        picture(folder / f"{number}.png", number)
    corpus = find_items([folder])
    corpus.items[2] = bad_items(folder)[kind](corpus.items[2])

    report = build(collection, corpus, FakeEncoder())

    assert report.added == 4
    assert [Path(skip.path).name for skip in report.skipped] == ["2.png"]
    assert "cannot be stored" in report.skipped[0].reason and "leave it out" in report.skipped[0].reason
    assert stored(collection) == ["0.png", "1.png", "3.png", "4.png"]
    assert collection.verify() == []
    rows = collection.catalog.items()
    vectors = collection.vectors.get(np.arange(4))
    for place, row in enumerate(rows):
        alone = collection.catalog.segments_of(row.item_id)[0].vector_id
        assert alone == place and np.isfinite(vectors[place]).all()
    assert run(collection, folder).added == 1


@pytest.mark.parametrize("kind", ["size", "time"])
def test_size_and_time_are_those_of_the_bytes_that_were_read(tmp_path: Path, collection: Collection, kind: str) -> None:
    folder = tmp_path / "media"
    for number in range(5):
        picture(folder / f"{number}.png", number)
    corpus = find_items([folder])
    corpus.items[2] = bad_items(folder)[kind](corpus.items[2])

    assert build(collection, corpus, FakeEncoder()).added == 5
    row = next(row for row in collection.catalog.items() if Path(row.key).name == "2.png")
    assert row.size_bytes == (folder / "2.png").stat().st_size


def test_words_that_the_catalog_refuses_leave_what_is_stored(tmp_path: Path, collection: Collection) -> None:
    """The second run changes a manifest's words for stored files; of one of them they cannot be stored."""
    folder = tmp_path / "media"
    for number in range(3):
        picture(folder / f"{number}.png", number)
    run(collection, folder)
    corpus = find_items([folder])
    corpus.items[:] = [replace(item, captions=("words",), manifest=folder / "m.jsonl") for item in corpus.items]
    corpus.items[1] = replace(corpus.items[1], size_bytes=corpus.items[1].size_bytes, manifest=Path("/m/\ud800"))

    report = build(collection, corpus, FakeEncoder())

    assert [Path(skip.path).name for skip in report.skipped] == ["1.png"]
    assert [row.caption for row in collection.catalog.items()] == ["words", None, "words"]


def test_metadata_of_a_library_is_made_storable(tmp_path: Path) -> None:
    """Items need not come from a manifest: what is no JSON there would spoil every filter."""
    values: dict[str, Any] = {
        "nan": float("nan"),
        "np": np.int64(5),
        "npf": np.float32(0.5),
        "big": 10**30,
        "when": date(2020, 1, 1),
        "flag": True,
        "none": None,
        "half": "\ud800",
    }
    item = Item("/m/a", Modality.IMAGE, Path("/m/a"), metadata=values)
    made = Catalog.create(tmp_path / "catalog.sqlite")
    made.put([Record(item, "h", {}, (), 0)])

    (row,) = made.items()
    made.close()

    assert dict(row.metadata) == {
        "nan": None,
        "np": "5",
        "npf": "0.5",
        "big": str(10**30),
        "when": "2020-01-01",
        "flag": True,
        "none": None,
        "half": "?",
    }
    assert describes_same(item, row)
    assert all(clean(clean(value)) == clean(value) for value in values.values())


def test_a_full_disk_is_still_told_as_one(
    tmp_path: Path, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storing one by one is for values, not for a disk."""
    calls: list[int] = []

    def store(self: Any, pending: Any) -> None:
        calls.append(len(pending))
        raise StorageError("full")

    monkeypatch.setattr(Committer, "_store", store)
    picture(tmp_path / "media" / "a.png", 0)

    with pytest.raises(StorageError, match="full"):
        run(collection, tmp_path / "media")
    assert len(calls) == 1


def test_the_depth_that_is_allowed_is_kept(tmp_path: Path) -> None:
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    read = read_manifest(lines(tmp_path / "m.jsonl", '{"text": "x", "a": ' + deep + "}"))

    assert read.rows[0].metadata == {"a": deep}


# -- what is read back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE segments SET vector_id = 'x'",
        "UPDATE segments SET vector_id = x'00ff'",
        "UPDATE items SET metadata = '{'",
        "UPDATE items SET captions = '5'",
        "UPDATE items SET modality = 'video'",
        f"UPDATE items SET metadata = '{'[' * 5_000}'",
    ],
)
def test_a_value_that_was_never_written_is_named_as_damage_and_not_a_traceback(tmp_path: Path, change: str) -> None:
    """SQLite holds any value in any column: a flipped bit or a stranger's collection shows when it is read."""
    made = Catalog.create(tmp_path / "catalog.sqlite")
    made.put([Record(Item("/m/a", Modality.IMAGE, Path("/m/a")), "h", {}, (Segment(0),), 0)])
    made.close()
    with sqlite3.connect(tmp_path / "catalog.sqlite") as raw:
        raw.execute(change)
    raw.close()

    opened = Catalog.open(tmp_path / "catalog.sqlite")
    reading = (opened.items, lambda: opened.lookup([0]), opened.vector_ids, lambda: opened.parts(Modality.IMAGE))
    said = []
    for read in reading:
        try:
            read()
        except IndexDamaged as damage:
            said.append(str(damage))
    opened.close()

    assert said and all("trimodal verify" in one and "--rebuild" not in one for one in said)


def test_a_recipe_with_a_number_of_thousands_of_digits_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    for text in (
        f"dim = {'9' * 5_000}",
        f"dim = {'[' * 3_000}{']' * 3_000}",
        f"[schedule]\nlearning_rate = {'9' * 400}",
    ):
        path.write_text(text)
        with pytest.raises(RecipeError, match=r"r\.toml: ") as caught:
            read_recipe(path)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("sentences", ['["two"]', "7", "null", '[{"raw": 5}, [], "x"]'])
def test_karpathys_sentences_that_are_none_are_passed_over(tmp_path: Path, sentences: str) -> None:
    picture(tmp_path / "a.png", 0)
    picture(tmp_path / "b.png", 1)
    good = '{"filename": "b.png", "split": "test", "sentences": [{"raw": "good"}]}'
    images = f'[{{"filename": "a.png", "split": "test", "sentences": {sentences}}}, {good}]'
    lines(tmp_path / "dataset_coco.json", f'{{"dataset": "coco", "images": {images}}}')

    read = load_karpathy(tmp_path / "dataset_coco.json")

    assert [row.captions for row in read.rows][1] == ("good",)
