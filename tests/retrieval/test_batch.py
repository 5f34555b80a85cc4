"""Many queries from a file: every row answered as if it were asked alone, bad rows told, results as they come."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image
from trimodal.cli import app
from typer.testing import CliRunner

from retrieval import Searcher
from retrieval.batch import read_queries, search_all

COLOURS = ("red", "green", "blue", "yellow", "white")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for number, colour in enumerate(COLOURS):
        (tmp_path / "media").mkdir(exist_ok=True)
        Image.new("RGB", (8 + number, 8), colour).save(tmp_path / "media" / f"{colour}.png")
    (tmp_path / "media" / "note.txt").write_text("a red letter")
    assert run("index", tmp_path / "media", "--model", "fake", "--collection", tmp_path / "c").exit_code == 0
    return tmp_path


def table(place: Path, *rows: Any) -> Path:
    path = place / "media" / "queries.jsonl"
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in rows))
    return path


def test_every_row_is_answered_as_if_it_were_asked_alone(place: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": "a", "text": "red"}, {"text": "blue", "k": 2, "modality": "image"}]
    rows += [{"image": "green.png", "where": "width_px > 8"}, {"text": "red", "minus": ["text:letter"], "k": 1}]
    rows += [{"id": n, "text": colour, "modality": ["image", "text"]} for n, colour in enumerate(COLOURS * 20)]

    with Searcher.open(place / "c") as searcher:
        answers = list(search_all(searcher, read_queries(table(place, *rows), {})))
        assert len(answers) == len(rows)
        for answer in answers:
            assert answer.row.query is not None and answer.result is not None
            alone = searcher.search(answer.row.query)
            assert [(hit.key, hit.score) for hit in answer.result] == [(hit.key, hit.score) for hit in alone]
    assert [answer.row.row_id for answer in answers[:5]] == ["a", None, None, None, "0"]
    assert [len(answer.result or ()) for answer in answers[:4]] == [6, 2, 4, 1]


def test_texts_are_encoded_together(place: Path) -> None:
    with Searcher.open(place / "c") as searcher:
        asked: list[int] = []
        encode = searcher.encoder.encode_queries
        searcher.encoder.encode_queries = lambda texts: asked.append(len(texts)) or encode(texts)  # type: ignore
        rows = [{"text": f"{COLOURS[n % 5]} {n}"} for n in range(130)]
        list(search_all(searcher, read_queries(table(place, *rows), {})))
    assert asked == [64, 64, 2]


def test_rows_that_cannot_be_asked_are_told_and_stop_nothing(place: Path) -> None:
    path = table(
        place, {"text": "red"}, "{no json", {"id": "x"}, {"text": "blue", "k": "many"}, {"text": "a", "colour": 3},
        {"image": "gone.png"}, {"text": "red", "where": "nonsense ="}, {"text": "red", "modality": "smell"},
        '{"text": "blue", "k": 1e999}', '{"text": "\\ud83d"}', {"text": "blue"},
    )  # fmt: skip

    done = run("search", "--queries", path, "--collection", place / "c", "-k", 1)

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 1
    assert [line["line"] for line in lines] == list(range(1, 12))
    assert [("hits" in line) for line in lines] == [True, *[False] * 9, True]
    for number, said in ((3, "the query is empty"), (4, '"k" is'), (5, '"colour" is no part'), (6, "gone.png"),
                         (7, "--where"), (8, "smell")):  # fmt: skip
        assert said in lines[number - 1]["error"]
        assert f"queries.jsonl:{number}: " in done.stderr
    assert lines[-1]["hits"][0]["path"].endswith("blue.png")


def test_results_go_to_a_file_as_json_lines_or_as_a_table(place: Path) -> None:
    queries = place / "media" / "q.csv"
    queries.write_text("id,text,image\none,red,\ntwo,,blue.png\n")
    for name in ("out.jsonl", "out.csv"):
        done = run("search", "--queries", queries, "--out", place / name, "--collection", place / "c", "-k", 2)
        assert done.exit_code == 0, done.output
        assert "2 queries answered" in done.stdout
    lines = [json.loads(line) for line in (place / "out.jsonl").read_text().splitlines()]
    with (place / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [line["id"] for line in lines] == ["one", "two"]
    assert [(row["id"], row["rank"], row["path"]) for row in rows] == [
        (line["id"], str(hit["rank"]), hit["path"]) for line in lines for hit in line["hits"]
    ]
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["red", "--queries", "q.jsonl"], "leave out the words"),
        (["red", "--out", "x.jsonl"], "--out is for the hits of --queries"),
        (["--queries", "q.jsonl", "--out", "x.txt"], "end it in .jsonl or .csv"),
        (["--queries", "q.toml"], "not a table of queries"),
        (["--queries", "q.jsonl", "--out", "q.jsonl"], "is the file of the queries"),
        (["--queries", "gone.jsonl"], "gone.jsonl"),
    ],
)
def test_what_makes_no_sense_is_told(place: Path, arguments: list[str], said: str) -> None:
    (place / "q.jsonl").write_text('{"text": "red"}\n')
    named = [str(place / one) if one.endswith((".jsonl", ".txt", ".toml")) else one for one in arguments]

    done = run("search", *named, "--collection", place / "c")

    assert done.exit_code in (2, 3) and said in done.stderr


def test_results_that_cannot_be_written_are_told(place: Path) -> None:
    (place / "q.jsonl").write_text('{"text": "red"}\n')
    done = run("search", "--queries", place / "q.jsonl", "--out", place / "no" / "x.jsonl", "--collection", place / "c")
    assert done.exit_code == 3 and "x.jsonl" in done.stderr
