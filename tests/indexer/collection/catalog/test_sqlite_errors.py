"""Errors of SQLite: each is named for what it is, and only proven damage is answered with a rebuild."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from indexer.collection.catalog.catalog import Catalog
from indexer.collection.catalog.filters import MAX_DEPTH
from indexer.collection.catalog.records import Record
from indexer.collection.catalog.sqlite_errors import proves_damage, stated
from indexer.errors import (
    CatalogRefuses,
    CollectionError,
    CollectionLocked,
    FilterError,
    IndexDamaged,
    StorageError,
    TrimodalError,
)
from indexer.items import Item, Modality, Scalar, Segment


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    made = Catalog.create(tmp_path / "catalog.sqlite")
    yield made
    made.close()


def put(catalog: Catalog, count: int, **metadata: Callable[[int], Scalar]) -> None:
    """Items ``/m/0.png`` ... of ``size_bytes`` 0 ..., with metadata by number."""
    catalog.put(
        [
            Record(
                Item(
                    f"/m/{i}.png",
                    Modality.IMAGE,
                    Path(f"/m/{i}.png"),
                    size_bytes=i,
                    metadata={key: value(i) for key, value in metadata.items()},
                ),
                str(i),
                {"duration_s": i / 7},
                (Segment(0),),
                i,
            )
            for i in range(count)
        ]
    )


def names(catalog: Catalog, where: str) -> list[str]:
    return [row.name for row in catalog.items(catalog.compile_filter(where))]


def sqlite_error(name: str, words: str = "words of SQLite", kind: type[sqlite3.Error] = sqlite3.OperationalError):  # type: ignore[no-untyped-def]
    error = kind(words)
    error.sqlite_errorname = name
    error.sqlite_errorcode = getattr(sqlite3, name)
    return error


@pytest.mark.parametrize(
    ("name", "kind", "remedy"),
    [
        ("SQLITE_CORRUPT", IndexDamaged, "--rebuild"),
        ("SQLITE_CORRUPT_INDEX", IndexDamaged, "--rebuild"),
        ("SQLITE_NOTADB", IndexDamaged, "--rebuild"),
        ("SQLITE_BUSY", CollectionLocked, "wait for it"),
        ("SQLITE_BUSY_SNAPSHOT", CollectionLocked, "wait for it"),
        ("SQLITE_LOCKED", CollectionLocked, "wait for it"),
        ("SQLITE_PROTOCOL", CollectionLocked, "wait for it"),
        ("SQLITE_FULL", StorageError, "free some space"),
        ("SQLITE_IOERR", StorageError, "check the disk"),
        ("SQLITE_IOERR_READ", StorageError, "check the disk"),
        ("SQLITE_IOERR_SHORT_READ", StorageError, "check the disk"),
        ("SQLITE_IOERR_FSYNC", StorageError, "check the disk"),
        ("SQLITE_READONLY", StorageError, "permissions"),
        ("SQLITE_READONLY_DBMOVED", StorageError, "permissions"),
        ("SQLITE_CANTOPEN", StorageError, "permissions"),
        ("SQLITE_PERM", StorageError, "permissions"),
        ("SQLITE_AUTH", StorageError, "permissions"),
        ("SQLITE_NOMEM", CollectionError, "memory ran out"),
        ("SQLITE_IOERR_NOMEM", CollectionError, "memory ran out"),
        ("SQLITE_NOLFS", StorageError, "another disk"),
        ("SQLITE_INTERRUPT", CollectionError, "run the same command again"),
        ("SQLITE_TOOBIG", CatalogRefuses, "nothing of it was stored"),
        ("SQLITE_CONSTRAINT_UNIQUE", CatalogRefuses, "nothing of it was stored"),
        ("SQLITE_MISMATCH", CatalogRefuses, "nothing of it was stored"),
        ("SQLITE_RANGE", CatalogRefuses, "nothing of it was stored"),
        ("SQLITE_ERROR", CatalogRefuses, "nothing of it was stored"),
        ("SQLITE_SCHEMA", CollectionError, "trimodal verify"),
        ("SQLITE_INTERNAL", CollectionError, "trimodal verify"),
    ],
)
def test_each_code_has_its_own_error_and_only_damage_is_answered_with_a_rebuild(
    name: str, kind: type[TrimodalError], remedy: str
) -> None:
    made = stated(Path("c/catalog.sqlite"), sqlite_error(name))

    assert type(made) is kind
    assert remedy in str(made) and "c/catalog.sqlite" in str(made)
    assert ("--rebuild" in str(made)) == (kind is IndexDamaged) == proves_damage(sqlite_error(name))
    assert "--repair" not in str(made)


def test_words_that_name_another_cause_do_not_decide() -> None:
    """'full', 'locked' and 'readonly' may stand in a file's name or in a column's."""
    made = stated(Path("c"), sqlite_error("SQLITE_CORRUPT", "malformed schema (is_full_and_locked_readonly)"))

    assert isinstance(made, IndexDamaged)


def test_a_missing_table_proves_that_it_is_no_catalog_of_ours() -> None:
    assert proves_damage(sqlite_error("SQLITE_ERROR", "no such table: items"))
    assert not proves_damage(sqlite_error("SQLITE_ERROR", "Expression tree is too large (maximum depth 1000)"))
    assert not proves_damage(sqlite3.ProgrammingError("Cannot operate on a closed database."))


def test_a_list_of_a_thousand_values_is_a_filter_like_any_other(catalog: Catalog) -> None:
    put(catalog, 30)
    some = ", ".join(str(i) for i in range(5, 2_000, 10))

    assert names(catalog, f"size_bytes in ({some})") == ["5.png", "15.png", "25.png"]
    assert len(names(catalog, f"size_bytes not in ({some})")) == 27


def test_a_list_of_thousands_of_texts_is_looked_up_in_columns_and_metadata(catalog: Catalog) -> None:
    put(catalog, 5, by=lambda i: f"Zoë {i}'s" if i else None)
    many = ", ".join(f"'{i}.png'" for i in range(3, 6_000))
    by = ", ".join(f"'Zoë {i}''s'" for i in range(2, 2_000))

    assert names(catalog, f"name in ({many})") == ["3.png", "4.png"]
    assert names(catalog, f"by in ({by})") == ["2.png", "3.png", "4.png"]
    assert names(catalog, f"by not in ({by})") == ["1.png"]  # of what has none, neither is true


def test_a_list_compares_each_value_as_a_single_comparison_does(catalog: Catalog) -> None:
    values: list[Scalar] = [2020, "2020", 2020.0, True, 1, "1", None, "x", 2**62, -1.5, 0.1, "", "a\0b", "a"]
    put(catalog, len(values), year=lambda i: values[i])
    literals = ["2020", "'2020'", "2020.0", "true", "1", "'1'", "'x'", str(2**62), "-1.5", "0.1", "''", "5", "'a'"]
    for name in ("year", "size_bytes", "name", "duration_s", "lower(year)", "length(name)", "5"):
        for literal in literals:
            single = names(catalog, f"{name} = {literal}")
            assert names(catalog, f"{name} in ({literal})") == single, (name, literal)
            assert names(catalog, f"{name} not in ({literal})") == names(catalog, f"not {name} = {literal}")
    mixed = names(catalog, "year in ('x', 1, 2020.0)")
    assert mixed == names(catalog, "year = 'x' or year = 1 or year = 2020.0")
    fractions = ", ".join(str(i / 7) for i in range(2, 900))
    assert names(catalog, f"duration_s in ({fractions})") == [f"{i}.png" for i in range(2, len(values))]


def test_the_deepest_filter_that_is_read_is_one_that_sqlite_takes(catalog: Catalog) -> None:
    put(catalog, 2, a=lambda i: i)
    for shape in ("not ({})", "(a = 5 or {})", "(a = 5 or not {})", "(a < 5 and {})", "(a < 5 and (a = 7 or {}))"):
        text = "lower(a) = '1'"
        while True:
            deeper = shape.format(text)
            try:
                catalog.compile_filter(deeper)
            except FilterError as error:
                assert f"more than {MAX_DEPTH} levels deep" in str(error)
                break
            text = deeper
            names(catalog, text)  # not refused by SQLite
        assert text.count("(") > 5
    names(catalog, "lower(" * (MAX_DEPTH - 1) + "a" + ")" * (MAX_DEPTH - 1) + " = 'x'")
    names(catalog, " or ".join(f"(a = {i} and not a in ('x', 1))" for i in range(40)))


def test_a_question_that_sqlite_refuses_is_the_filters_fault_and_nobody_elses(catalog: Catalog) -> None:
    """A database opened by SQLite with small limits, as some systems build it."""
    put(catalog, 2)
    raw = catalog._connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 20)
    condition = catalog.compile_filter(" or ".join(["size_bytes = 1"] * 100))

    for ask in (catalog.items, lambda where: catalog.vector_ids(where=where)):
        with pytest.raises(FilterError, match=r"SQLite cannot evaluate .*Expression tree is too large") as caught:
            ask(condition)
        assert "--rebuild" not in str(caught.value)
    raw.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 1_000)
    assert names(catalog, "size_bytes = 1") == ["1.png"]


def test_a_locked_catalog_is_not_damaged(catalog: Catalog) -> None:
    raw = catalog._connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(catalog.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(CollectionLocked, match="wait for it"):
        put(catalog, 1)
    other.rollback()
    other.close()
    put(catalog, 1)


def test_a_catalog_that_lacks_a_table_is_damaged(catalog: Catalog) -> None:
    with sqlite3.connect(catalog.path) as raw:
        raw.execute("DROP TABLE segments")

    with pytest.raises(IndexDamaged, match=r"no such table.*--rebuild"):
        catalog.count_segments()


def test_a_value_that_no_column_holds_is_refused_and_the_rest_stays(catalog: Catalog) -> None:
    put(catalog, 2)
    for bad in (
        Item("/m/a", Modality.IMAGE, Path("/m/a"), size_bytes=2**63),
        Item("/m/\ud800", Modality.IMAGE, Path("/m/a")),
    ):
        with pytest.raises(CatalogRefuses, match="nothing of it was stored"):
            catalog.put([Record(bad, "h", {}, (Segment(0),), 9)])
    assert len(catalog.items()) == 2
