"""What ``trimodal search`` prints, on a terminal and into a pipe, of one small collection."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import Result
from PIL import Image
from rich.cells import cell_len
from small_media import index, new_collection
from trimodal.cli import app
from typer.testing import CliRunner

COLOURS = ("red", "green", "blue", "yellow", "white", "black")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of a colour, two tones and three notes, under long names of several scripts."""
    folder = tmp_path_factory.mktemp("media") / "写真と音 🏖️" / "a folder with quite a long name for a folder"
    folder.mkdir(parents=True)
    for colour in COLOURS:
        Image.new("RGB", (16, 12), colour).save(folder / f"{colour} door.png")
    for hertz in (300, 2_500):
        tone = 0.4 * np.sin(2 * np.pi * hertz * np.arange(8_000) / 16_000)
        soundfile.write(folder / f"tone {hertz}.wav", tone.astype(np.float32), 16_000)
    for colour in COLOURS[:3]:
        (folder / f"{colour}.txt").write_text(
            f"a note of {colour} things and what I think of them " * 9, encoding="utf-8"
        )
    return folder


@pytest.fixture(scope="module")
def home(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("collection") / "c"
    with new_collection(where) as collection:
        assert index(collection, media).skipped == []
    return where


def searched(home: Path, *arguments: str, columns: int | None = None) -> Result:
    env = {"COLUMNS": None if columns is None else str(columns)}
    return CliRunner().invoke(app, ["search", *arguments, "-c", str(home)], env=env)


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 200])
def test_a_table_is_as_wide_as_the_columns_and_every_hit_has_rank_kind_and_name(home: Path, columns: int) -> None:
    done = searched(home, "red", "--table", columns=columns)
    assert done.exit_code == 0, done.output
    lines = [line for line in done.stdout.splitlines() if line]
    assert max(map(cell_len, lines)) <= columns
    for line in lines[1:]:
        rank, kind, *rest = line.split()
        assert rank.isdigit() and kind in ("image", "audio", "text")
        assert any(name in " ".join(rest) for name in ("door.png", "300.wav", "2500.wav", ".txt"))


def test_piped_it_is_lines_with_whole_paths_whatever_the_columns(home: Path, media: Path) -> None:
    done = searched(home, "red", columns=60)
    assert done.exit_code == 0, done.output
    head, *hits = [line.split("\t") for line in done.stdout.splitlines()]
    assert head == ["rank", "kind", "match", "path", "time", "words"]
    assert {len(hit) for hit in hits} == {6}
    assert {Path(hit[3]).name for hit in hits} <= {one.name for one in media.iterdir()}
    assert all(Path(hit[3]).parent == media for hit in hits)
    assert {hit[2] for hit in hits} <= {"strong", "good", "fair", "weak"} | {f"{n}%" for n in range(101)} | {"<1%"}
    assert {bool(hit[4]) for hit in hits if hit[1] == "audio"} == {True}


def ranks_and_kinds(done: Result) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in (line.split("\t") for line in done.stdout.splitlines()[1:])]


def test_by_default_each_kind_has_its_own_best_and_mixed_is_one_ranking(home: Path) -> None:
    grouped = ranks_and_kinds(searched(home, "red", "-k", "2"))
    assert sorted(grouped) == sorted((rank, kind) for kind in ("image", "audio", "text") for rank in "12")
    kinds = [kind for _, kind in grouped]
    assert kinds[0] == kinds[1] and kinds[2] == kinds[3] and kinds[4] == kinds[5]
    mixed = searched(home, "red", "-k", "2", "--mixed")
    assert [rank for rank, _ in ranks_and_kinds(mixed)] == ["1", "2"]
    table = searched(home, "red", "-k", "2", "--table", columns=80).stdout.splitlines()
    assert [bool(line) for line in table] == [True, True, True, False, True, True, False, True, True]
    assert "" not in searched(home, "red", "-k", "2", "--table", "--mixed", columns=80).stdout.splitlines()


def test_json_has_one_ranking_as_ever_and_the_groups_beside_it(home: Path) -> None:
    document = json.loads(searched(home, "red", "-k", "2", "--json").stdout)
    assert [hit["rank"] for hit in document["hits"]] == [1, 2]
    assert {group["modality"] for group in document["groups"]} == {"image", "audio", "text"}
    assert len(searched(home, "red", "-k", "2", "--paths").stdout.splitlines()) == 2


def test_the_picture_that_asks_stands_there_as_the_same_file(home: Path, media: Path) -> None:
    done = searched(home, "--image", str(media / "red door.png"), "-m", "image", "-k", "3")
    rows = [line.split("\t") for line in done.stdout.splitlines()[1:]]
    assert rows[0][:3] == ["=", "image", "same file"] and rows[0][3].endswith("red door.png")
    assert [row[0] for row in rows[1:]] == ["1", "2", "3"]
