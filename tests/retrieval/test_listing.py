"""Lists without a query, what may be filtered, and --since, --until and --folder."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image
from rich.cells import cell_len
from small_media import index, new_collection
from trimodal.cli import app
from typer.testing import CliRunner

from indexer.errors import UsageError
from retrieval.listing import list_items
from retrieval.shorthands import joined

#: Name, when the file was changed, metadata.
PICTURES = (
    ("a/old.png", "2001-05-03T10:00:00", {"year": 2001, "shot by": "Ann"}),
    ("a/b/middle.png", "2010-12-31T23:59:59", {"year": 2010, "shot by": "Bo"}),
    ("a_b/new.png", "2020-02-29T00:00:00", {"year": "2020"}),
    ("A/upper.png", "2015-06-01T12:00:00", {}),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of four days, in folders whose names are alike, and one that says when it was taken."""
    folder = tmp_path_factory.mktemp("media")
    rows = []
    for number, (name, day, metadata) in enumerate(PICTURES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 12), (60 * number, 90, 10)).save(path)
        seconds = datetime.fromisoformat(day).timestamp()
        os.utime(path, (seconds, seconds))
        rows.append({"image": name, "caption": f"picture {number}", "metadata": metadata})
    exif = Image.Exif()
    exif[0x0132] = "1999:01:02 03:04:05"
    exif.get_ifd(0x8769)[0x9003] = "1999:01:02 03:04:05"
    Image.new("RGB", (16, 12), "red").save(folder / "taken.jpg", exif=exif)
    rows.append({"image": "taken.jpg"})
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    where = tmp_path_factory.mktemp("collection") / "c"
    with new_collection(where) as collection:
        assert index(collection, folder / "m.jsonl").skipped == []
    (where / "media").write_text(str(folder))
    return where


def run(home: Path, *arguments: str, columns: int | None = None) -> Result:
    env = {"COLUMNS": None if columns is None else str(columns)}
    return CliRunner().invoke(app, [arguments[0], *arguments[1:], "-c", str(home)], env=env)


def names(done: Result) -> list[str]:
    assert done.exit_code == 0, done.output
    return [Path(hit["path"]).name for hit in json.loads(done.stdout)["hits"]]


def test_a_filter_without_a_query_is_a_list_newest_first(home: Path) -> None:
    listed = run(home, "search", "--where", "modality = 'image'", "--json")
    assert names(listed) == ["new.png", "upper.png", "middle.png", "old.png", "taken.jpg"]
    document = json.loads(listed.stdout)
    assert (document["query"], document["total"], document["sort"]) == (None, 5, "date:desc")
    assert names(run(home, "search", "--where", "year > 2005", "--json")) == ["new.png", "middle.png"]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("name", ["middle.png", "new.png", "old.png", "taken.jpg", "upper.png"]),
        ("name:desc", ["upper.png", "taken.jpg", "old.png", "new.png", "middle.png"]),
        ("date:asc", ["taken.jpg", "old.png", "middle.png", "upper.png", "new.png"]),
        ("year", ["old.png", "middle.png", "new.png", "upper.png", "taken.jpg"]),  # numbers, texts, those without one
        ("SHOT BY:desc", ["middle.png", "old.png", "new.png", "upper.png", "taken.jpg"]),
    ],
)
def test_a_list_is_sorted_by_any_column_or_key(home: Path, sort: str, expected: list[str]) -> None:
    assert names(run(home, "search", "--sort", sort, "--json")) == expected


def test_a_list_is_cut_at_k_and_says_how_many_there_are(home: Path) -> None:
    done = run(home, "search", "--sort", "name", "-k", "2")
    head, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert head[0] == "rank" and [Path(row[3]).name for row in rows] == ["middle.png", "new.png"]
    assert rows[0][4] == "2010-12-31 23:59" and rows[0][5] == "picture 1"
    assert done.stderr.strip() == "trimodal: 2 of 5 items; -k shows more"
    assert len(run(home, "search", "--sort", "name", "--paths").stdout.splitlines()) == 5
    table = run(home, "search", "--sort", "name", "--table", columns=60).stdout.splitlines()
    assert len(table) == 6 and max(map(cell_len, table)) <= 60 and "middle.png" in table[1]
    assert run(home, "search", "--where", "year = 1").stdout == "nothing found\n"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--since", "2015"], {"new.png", "upper.png"}),
        (["--until", "2010"], {"old.png", "middle.png", "taken.jpg"}),
        (["--until", "2010-12-30"], {"old.png", "taken.jpg"}),
        (["--since", "2010-12-31T23:59:59", "--until", "2015-06"], {"middle.png", "upper.png"}),
        (["--since", "2015", "--where", "year = 2020 or year = 2001"], {"new.png"}),
        (["--until", "1999-01-02"], {"taken.jpg"}),
        (["--since", "1999-01-03", "--until", "2000"], set()),
    ],
)
def test_dates_are_those_of_taking_or_of_the_file_and_join_the_filter(
    home: Path, options: list[str], expected: set[str]
) -> None:
    assert set(names(run(home, "search", *options, "--json"))) == expected
    assert set(names(run(home, "search", "red", *options, "--json"))) == expected


def test_a_folder_is_itself_and_what_is_below_and_no_other_of_a_like_name(home: Path) -> None:
    media = Path((home / "media").read_text())
    assert set(names(run(home, "search", "--folder", str(media / "a"), "--json"))) == {"old.png", "middle.png"}
    assert set(names(run(home, "search", "x", "--folder", str(media / "a" / "b"), "--json"))) == {"middle.png"}
    assert len(names(run(home, "search", "--folder", str(media), "--json"))) == 5
    assert joined(None, folder=Path("/it's")) == "folder = '/it''s' or (folder >= '/it''s/' and folder < '/it''s0')"


@pytest.mark.parametrize("date", ["yesterday", "2024-13", "2024-02-30", "0000", "99999", "2024-1-1T25:00", ""])
def test_what_is_no_date_is_a_usage_error_with_the_form_that_is_one(date: str) -> None:
    with pytest.raises(UsageError, match=r"--since .* is no date; write 2024, 2024-05, 2024-05-31"):
        joined(None, since=date)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sort", "nothing"], "there is no such column"),
        (["red", "--sort", "name"], "--sort is for a list without a query"),
        (["--where", "year > 1", "--min-probability", "0.5"], "without a query nothing is scored"),
        ([], "the query is empty"),
    ],
)
def test_what_makes_no_sense_of_a_list_is_one_line(home: Path, options: list[str], message: str) -> None:
    done = run(home, "search", *options)
    assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_a_list_opens_no_model(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.encoders.open_encoder", None)
    assert list_items(home, where="year > 2005").total == 2


def test_the_columns_that_can_be_filtered_are_named_with_counts_and_examples(home: Path) -> None:
    columns = json.loads(run(home, "info", "--columns", "--json").stdout)["columns"]
    by_name = {column["where"]: column for column in columns}
    assert by_name["taken_at"] | {"example": None} == {
        "name": "taken_at",
        "where": "taken_at",
        "metadata": False,
        "count": 1,
        "example": None,
    }
    assert by_name["year"]["count"] == 3 and by_name["year"]["metadata"]
    assert by_name['metadata."shot by"']["example"] == "Ann"
    assert by_name["width_px"]["example"] == 16
    for column in columns:
        assert run(home, "search", "--where", f"{column['where']} is not null", "--json").exit_code == 0
        assert (
            json.loads(run(home, "search", "--where", f"{column['where']} is not null", "--json").stdout)["total"]
            == column["count"]
        )
    shown = run(home, "info", "--columns", columns=80).stdout.splitlines()
    assert shown[0].split() == ["column", "items", "example"] and len(shown) == len(columns) + 1
