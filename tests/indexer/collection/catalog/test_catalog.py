"""The catalog: rows in and out, snapshots, filters against real SQLite."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from indexer.collection.catalog import catalog as catalog_module
from indexer.collection.catalog import schema
from indexer.collection.catalog.catalog import Catalog
from indexer.collection.catalog.filter_sql import Filter
from indexer.collection.catalog.records import BadFile, Record
from indexer.collection.catalog.schema import MIGRATIONS
from indexer.errors import CollectionError, FilterError, IndexDamaged
from indexer.items import Item, Modality, Scalar, Segment


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    made = Catalog.create(tmp_path / "catalog.sqlite")
    yield made
    made.close()


def record(key: str, first: int, n: int = 1, *, modality: Modality = Modality.IMAGE, **said: object) -> Record:
    item = Item(f"/m/{key}", modality, Path(f"/m/{key}"), **said)  # type: ignore[arg-type]
    segments = tuple(Segment(i, start_s=8.0 * i, end_s=8.0 * i + 10) for i in range(n))
    return Record(item, f"hash-{key}", {"width_px": 640}, segments, first)


def keys(catalog: Catalog, where: str) -> list[str]:
    return [row.key for row in catalog.items(catalog.compile_filter(where))]


# -- rows ---------------------------------------------------------------------------------------------------


def test_what_is_put_is_looked_up_by_vector_id(catalog: Catalog) -> None:
    item = Item(
        "/m/cats/a.PNG",
        Modality.IMAGE,
        Path("/m/cats/a.PNG"),
        captions=("a cat", "une chatte grise"),
        metadata={"year": 2020, "camera": None, "ok": True, "lens": 1.8, "by": "Zoë"},
        row_id="7",
        split="test",
        manifest=Path("/m/list.jsonl"),
        size_bytes=10**12,
        mtime_ns=1_700_000_000_123_456_789,
    )
    facts: dict[str, Scalar] = {"width_px": 640, "height_px": 480, "taken_at": "2020-01-02T03:04:05"}
    catalog.put([Record(item, "abc", facts, (Segment(0),), 41)])

    row = catalog.lookup([41, 42])[41]

    assert (row.key, row.path, row.name, row.folder, row.suffix) == (
        "/m/cats/a.PNG", Path("/m/cats/a.PNG"), "a.PNG", "/m/cats", ".png",
    )  # fmt: skip
    assert row.captions == ("a cat", "une chatte grise") and row.caption == "a cat"
    assert dict(row.metadata) == dict(item.metadata) and row.metadata["ok"] is True
    assert (row.width_px, row.height_px, row.taken_at, row.duration_s) == (640, 480, "2020-01-02T03:04:05", None)
    assert (row.size_bytes, row.mtime_ns, row.content_hash) == (10**12, 1_700_000_000_123_456_789, "abc")
    assert (row.manifest, row.row_id, row.split) == (Path("/m/list.jsonl"), "7", "test")
    assert list(catalog.lookup([42])) == []


def test_the_text_of_a_row_is_its_passage(catalog: Catalog) -> None:
    item = Item("/m/l.jsonl#1", Modality.TEXT, Path("/m/l.jsonl"), text="one. two.")
    catalog.put([Record(item, "h", {}, (Segment(0, text="one."), Segment(1, text="two.")), 0)])

    assert [row.text for row in catalog.lookup([0, 1]).values()] == ["one.", "two."]
    assert catalog.items()[0].text == "one. two."


def test_replacing_keeps_the_id_and_the_time_of_adding_and_drops_the_old_segments(catalog: Catalog) -> None:
    catalog.put([record("a", 0, 3), record("b", 3)])
    before = catalog.find(["/m/a"])["/m/a"]
    catalog.put([record("a", 4, 2)])

    after = catalog.find(["/m/a"])["/m/a"]

    assert (after.item_id, after.added_at) == (before.item_id, before.added_at)
    assert catalog.vector_ids().tolist() == [3, 4, 5]


def test_removing_takes_segments_and_skip_records_along(catalog: Catalog) -> None:
    catalog.put([record("a", 0, 3), record("b", 3)])
    catalog.record_skipped([BadFile("/m/c", 1, 2, "broken", "r")])

    assert catalog.remove(["/m/a", "/m/c", "/m/none"]) == 1
    assert catalog.vector_ids().tolist() == [3]
    assert catalog.skipped() == []


def test_renaming_onto_another_item_replaces_it_and_doing_it_twice_changes_nothing(catalog: Catalog) -> None:
    catalog.put([record("a", 0), record("b", 1)])
    moved = Item("/m/b", Modality.IMAGE, Path("/m/b"))
    catalog.rename("/m/a", moved)
    catalog.rename("/m/a", moved)

    assert catalog.keys() == ["/m/b"]
    assert catalog.vector_ids().tolist() == [0]
    assert catalog.items()[0].content_hash == "hash-a"


def test_many_keys_are_found_in_one_call(catalog: Catalog) -> None:
    catalog.put([record(str(i), i) for i in range(2_500)])

    assert len(catalog.find(f"/m/{i}" for i in range(-10, 2_600))) == 2_500
    assert len(catalog.lookup(range(2_600))) == 2_500
    assert catalog.remove(f"/m/{i}" for i in range(2_499)) == 2_499
    assert catalog.vector_ids().tolist() == [2_499]


def test_file_names_that_are_no_utf8_and_texts_with_lone_surrogates_are_kept(catalog: Catalog) -> None:
    name = os.fsdecode(b"/m/caf\xe9/\xff.png")
    item = Item(name, Modality.IMAGE, Path(name), captions=("broken \ud800 word",), metadata={"k": "\udfff"})
    catalog.put([Record(item, "h", {}, (Segment(0, text="\ud800"),), 0)])

    row = catalog.lookup([0])[0]

    assert (row.key, row.path, row.folder) == (name, Path(name), os.fsdecode(b"/m/caf\xe9"))
    assert row.captions == ("broken ? word",)
    assert list(catalog.find([name])) == [name]
    assert catalog.remove([name]) == 1


def test_renumbering_closes_the_gaps(catalog: Catalog) -> None:
    catalog.put([record("a", 2, 2), record("b", 7), record("c", 9)])
    catalog.renumber(catalog.vector_ids())

    assert catalog.vector_ids().tolist() == [0, 1, 2, 3]
    assert [row.key for row in catalog.lookup(range(4)).values()] == ["/m/a", "/m/a", "/m/b", "/m/c"]


def test_counts_are_of_every_modality(catalog: Catalog) -> None:
    catalog.put([record("a", 0, 2, modality=Modality.AUDIO), record("b", 2)])

    assert catalog.count_items() == {Modality.IMAGE: 1, Modality.AUDIO: 1, Modality.TEXT: 0}
    assert catalog.count_segments() == {Modality.IMAGE: 1, Modality.AUDIO: 2, Modality.TEXT: 0}
    assert catalog.vector_ids(Modality.AUDIO).tolist() == [0, 1]
    assert catalog.vector_ids(Modality.TEXT).dtype == np.int64


# -- commits and snapshots ------------------------------------------------------------------------------------


def test_an_error_inside_a_transaction_undoes_all_of_it(catalog: Catalog) -> None:
    with pytest.raises(KeyError), catalog.transaction():
        catalog.put([record("a", 0)])
        catalog.set_meta(vector_count=1)
        assert catalog.vector_count == 1
        raise KeyError

    assert catalog.keys() == []
    assert catalog.vector_count == 0
    assert catalog.vector_ids().tolist() == []


def test_a_reader_sees_one_commit_until_it_refreshes(catalog: Catalog) -> None:
    catalog.put([record("a", 0)])
    reader = Catalog.open(catalog.path)
    assert reader.keys() == ["/m/a"]
    catalog.put([record("b", 1)])
    catalog.remove(["/m/a"])

    assert reader.keys() == ["/m/a"]
    assert reader.vector_ids().tolist() == [0]
    assert reader.lookup([0, 1])[0].key == "/m/a"

    reader.refresh()
    assert reader.keys() == ["/m/b"]
    assert reader.vector_ids().tolist() == [1]
    reader.close()


def test_a_reader_cannot_write(catalog: Catalog) -> None:
    reader = Catalog.open(catalog.path)
    with pytest.raises(CollectionError, match="open for reading only"):
        reader.remove(["/m/a"])
    reader.close()


def test_threads_share_a_reader(catalog: Catalog) -> None:
    catalog.put([record(str(i), i) for i in range(200)])
    reader = Catalog.open(catalog.path)
    wrong: list[object] = []

    def look(start: int) -> None:
        for i in range(start, 200, 4):
            if reader.lookup([i])[i].key != f"/m/{i}" or len(reader.vector_ids(Modality.IMAGE)) != 200:
                wrong.append(i)

    threads = [threading.Thread(target=look, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader.close()

    assert wrong == []


def test_a_catalog_on_a_read_only_folder_is_read(tmp_path: Path) -> None:
    """As another user, since root may write anywhere; with and without the files of the write-ahead log."""
    if os.name == "nt" or os.geteuid() != 0:
        pytest.skip("needs root, to become a user without rights")
    folder = tmp_path / "collection"
    folder.mkdir()
    made = Catalog.create(folder / "catalog.sqlite")
    made.put([record("a", 0)])
    made.close()
    assert sorted(path.name for path in folder.iterdir()) == ["catalog.sqlite", "catalog.sqlite.crc"]
    temporary = Path(tempfile.gettempdir()).resolve()
    for path in (folder, *folder.parents):  # one level more where the tests run in several processes
        if temporary in path.parents:
            path.chmod(0o755)
    script = (
        "import sys, os; from pathlib import Path; from indexer.collection.catalog.catalog import Catalog;"
        "os.setgid(65534); os.setuid(65534); c = Catalog.open(Path(sys.argv[1])); print(c.keys()); c.close()"
    )
    command = [sys.executable, "-c", script, str(folder / "catalog.sqlite")]
    root = str(Path(catalog_module.__file__).parents[2])

    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "['/m/a']", done.stderr


# -- schema and damage ----------------------------------------------------------------------------------------


def test_the_tables_declared_are_those_that_the_migrations_make(catalog: Catalog) -> None:
    with sqlite3.connect(catalog.path) as raw:
        made = {
            table: [row[1] for row in raw.execute(f"PRAGMA table_info({table})")]
            for (table,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
    declared = {table.name: [column.name for column in table.c] for table in schema.TABLES.sorted_tables}

    assert made == declared
    assert [number for number, _ in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


def test_a_newer_schema_is_refused_with_the_remedy(catalog: Catalog) -> None:
    catalog.close()
    with sqlite3.connect(catalog.path) as raw:
        raw.execute("PRAGMA user_version = 99")

    with pytest.raises(CollectionError, match=r"newer trimodal .*pip install -U trimodal"):
        Catalog.open(catalog.path)


def test_an_older_schema_is_brought_up_to_date_by_a_writer_and_refused_by_a_reader(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.put([record("a", 0)])
    catalog.close()
    more = (*MIGRATIONS, (2, ("ALTER TABLE items ADD COLUMN colour TEXT", "UPDATE items SET colour = 'red'")))
    monkeypatch.setattr(catalog_module, "MIGRATIONS", more)

    with pytest.raises(CollectionError, match=r"older trimodal .*trimodal verify --repair"):
        Catalog.open(catalog.path)
    Catalog.open(catalog.path, writable=True).close()
    Catalog.open(catalog.path).close()

    with sqlite3.connect(catalog.path) as raw:
        assert raw.execute("SELECT key, colour FROM items").fetchall() == [("/m/a", "red")]


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000])
def test_a_file_that_is_no_catalog_is_named_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "catalog.sqlite"
    path.write_bytes(content)

    with pytest.raises(IndexDamaged, match=r"catalog\.sqlite: .*trimodal index --rebuild"):
        Catalog.open(path).vector_count  # noqa: B018


def test_damage_inside_is_found_and_dropped(catalog: Catalog) -> None:
    catalog.put([record("good", 0), record("empty", 1), record("outside", 70), record("mixed", 2)])
    catalog.set_meta(vector_count=10)
    assert len(catalog.check()) == 1  # 70 is outside
    with sqlite3.connect(catalog.path) as raw:
        raw.execute("DELETE FROM segments WHERE vector_id = 1")
        raw.execute("UPDATE segments SET modality = 'audio' WHERE vector_id = 2")
        raw.execute("INSERT INTO segments (item_id, ordinal, vector_id, modality) VALUES (99, 0, 5, 'image')")

    problems = catalog.check()

    assert [problem.split(": ")[1] for problem in problems] == [
        "1 segments whose item is missing",
        "1 items without segments",
        "1 segments with a vector_id outside the vector store",
        "1 segments with another modality than their item",
    ]
    assert sorted(catalog.drop_inconsistent()) == ["/m/empty", "/m/mixed", "/m/outside"]
    assert catalog.check() == []
    assert catalog.keys() == ["/m/good"]


# -- filters --------------------------------------------------------------------------------------------------


@pytest.fixture
def library(catalog: Catalog) -> Catalog:
    first = record(
        "cats/a.jpg", 0, captions=("A cat", "tom"),
        metadata={"year": 2021, "camera": "Leica", "gps.lat": 48.2, 'odd "key"': 1},
    )  # fmt: skip
    sound = Item("/m/e.wav", Modality.AUDIO, Path("/m/e.wav"), metadata={"year": 2020.5})
    catalog.put(
        [
            first,
            record("dogs/b.jpg", 1, metadata={"year": "2019", "camera": None, "good": True}),
            record("cats/c.png", 2, metadata={"year": "unknown", "good": False, "Shot By": "O'Neil"}),
            record("d.png", 3, mtime_ns=5),
            Record(sound, "h", {"duration_s": 20.0}, (Segment(0, 0.0, 10.0), Segment(1, 8.0, 20.0)), 4),
        ]
    )
    return catalog


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("year >= 2020 and (folder like '%/cats%' or suffix = '.jpg') and camera is not null", "cats/a.jpg"),
        ("year >= 2020", "cats/a.jpg e.wav"),  # '2019' is a number here, 'unknown' none
        ("year < 2020", "dogs/b.jpg"),
        ("year = '2021'", "cats/a.jpg"),
        ("year = 'unknown'", "cats/c.png"),
        ("2020 > year", "dogs/b.jpg"),
        ("year between 2019 and 2020.5", "dogs/b.jpg e.wav"),
        ("year in (2021, 2019, 'unknown')", "cats/a.jpg dogs/b.jpg cats/c.png"),
        ("year in ()", ""),
        ("year not in (2021)", "dogs/b.jpg e.wav"),  # absent or no number: neither true nor false
        ("not year = 2021", "dogs/b.jpg e.wav"),
        ("camera is null", "dogs/b.jpg cats/c.png d.png e.wav"),
        ("good", "dogs/b.jpg"),
        ("good = true", "dogs/b.jpg"),
        ("good is false", "cats/c.png"),
        ("good = 1", "dogs/b.jpg"),
        ("lower(camera) = 'leica'", "cats/a.jpg"),
        ("camera like 'LEI__'", "cats/a.jpg"),
        ("name like '_.png'", "cats/c.png d.png"),
        ("name like '!_.png' escape '!'", ""),
        ("name like '%''%' escape ''''", ""),
        ("folder not like '%cats%' and suffix != '.wav'", "dogs/b.jpg d.png"),
        ("\"Shot By\" = 'O''Neil'", "cats/c.png"),
        ("metadata.\"shot by\" like 'o''n%'", "cats/c.png"),
        ("gps.lat > 48 and metadata.gps.lat < 49", "cats/a.jpg"),
        ('"odd ""key""" = 1', "cats/a.jpg"),
        ("YEAR = 2021 and Suffix = '.jpg'", "cats/a.jpg"),
        ("modality = 'audio'", "e.wav"),
        ("duration_s > 10 and start_s >= 8", "e.wav"),
        ("width_px = '640'", "cats/a.jpg dogs/b.jpg cats/c.png d.png"),
        ("width_px = 640 and mtime_ns = 5", "d.png"),
        ("length(name) = 5", "cats/a.jpg dogs/b.jpg cats/c.png d.png e.wav"),
        ("captions like '%tom%' and caption = 'A cat'", "cats/a.jpg"),
        ("key = '/m/d.png'", "d.png"),
        ("year = year", "cats/a.jpg dogs/b.jpg cats/c.png e.wav"),
        ("name = 'x'' or 1=1 --'", ""),
        ("1 = 1", "cats/a.jpg dogs/b.jpg cats/c.png d.png e.wav"),
    ],
)
def test_a_filter_passes_what_it_says(library: Catalog, where: str, expected: str) -> None:
    assert keys(library, where) == [f"/m/{name}" for name in expected.split()]


def test_a_filter_may_pass_some_segments_of_an_item(library: Catalog) -> None:
    assert library.vector_ids(where=library.compile_filter("end_s > 15")).tolist() == [5]
    assert library.vector_ids(Modality.IMAGE, library.compile_filter("year > 0")).tolist() == [0, 1]


def test_an_unknown_name_is_refused_with_the_names_there_are(library: Catalog) -> None:
    with pytest.raises(FilterError) as caught:
        library.compile_filter("yaer > 2020")

    message = str(caught.value)
    assert message.startswith("--where: there is no `yaer`; columns: added_at, caption,")
    assert 'metadata keys: Shot By, camera, good, gps.lat, odd "key", year' in message


def test_metadata_dot_key_names_a_key_only(library: Catalog) -> None:
    with pytest.raises(FilterError, match=r"there is no `metadata\.folder`"):
        library.compile_filter("metadata.folder = 'x'")


@pytest.mark.parametrize(
    "hidden", ["item_id", "segment_id", "vector_id", "rowid", "sqlite_master", "items.key", "user_version"]
)
def test_what_is_the_catalogs_own_business_cannot_be_named(library: Catalog, hidden: str) -> None:
    with pytest.raises(FilterError, match="there is no"):
        library.compile_filter(f"{hidden} = 1")


def test_no_word_of_a_filter_reaches_sqlite_as_sql(library: Catalog) -> None:
    """Every value and every metadata key is bound: the compiled SQL holds none of them."""
    condition: Filter = library.compile_filter(
        "year >= 20201 and camera in ('Zweizack') and \"Shot By\" like 'Quark%' escape 'E' and length(good) = 77"
    )

    sql = str(condition.condition.compile(dialect=sa.create_engine("sqlite://").dialect))

    for word in ("20201", "Zweizack", "Quark", "Shot By", "camera", "77", "'E'"):
        assert word not in sql


def test_a_hundred_and_fifty_conditions_are_within_sqlites_depth(library: Catalog) -> None:
    where = " or ".join(f"year = {year}" for year in range(1950, 2100))

    assert keys(library, where) == ["/m/cats/a.jpg", "/m/dogs/b.jpg"]
