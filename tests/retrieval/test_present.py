"""Hits as people and pipes see them."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from paths import SNAPSHOTS
from rich.cells import cell_len
from rich.console import Console

from indexer.items import Modality
from retrieval.hits import Hit, SearchResult
from retrieval.present import HitsTable, hits_table, match_in_words, path_lines, plain_rows, snippet, time_range
from retrieval.query import Query


def hit(**changes: Any) -> Hit:
    values: dict[str, Any] = {
        "rank": 1,
        "score": 0.3125,
        "cosine": 0.3125,
        "match_probability": None,
        "modality": Modality.IMAGE,
        "path": Path("/home/me/photos/door.jpg"),
        "start_s": None,
        "end_s": None,
        "text": None,
        "caption": "a red door",
        "metadata": {},
        "vector_id": 7,
        "key": "/home/me/photos/door.jpg",
    }
    return Hit(**{**values, **changes})


def result(*hits: Hit) -> SearchResult:
    return SearchResult(hits, Query.text("door"), {"encode": 1.0, "search": 2.0, "rerank": None})


def printed(found: SearchResult, cwd: str = "/home/me", width: int = 120) -> str:
    out = StringIO()
    Console(file=out, width=width, color_system=None).print(hits_table(found, cwd=Path(cwd)))
    return out.getvalue()


def test_a_row_holds_rank_kind_match_path_and_words() -> None:
    lines = printed(result(hit(standard_score=3.5))).splitlines()
    assert lines[0].split() == ["#", "kind", "match", "path", "words"]
    assert lines[1].split() == ["1", "image", "good", "photos/door.jpg", "a", "red", "door"]


@pytest.mark.parametrize(
    ("standard_score", "words"),
    [(None, ""), (9, "strong"), (4, "strong"), (3.99, "good"), (3.3, "good"), (2.5, "fair"), (2.4, "weak")],
)  # fmt: skip
def test_a_match_in_words_is_how_far_the_hit_stands_out_among_its_kind(standard_score: float, words: str) -> None:
    assert match_in_words(hit(standard_score=standard_score)) == words


@pytest.mark.parametrize(("chance", "shown"), [(0.974, "97%"), (0.001, "<1%"), (0.0, "0%"), (1.0, "100%")])
def test_a_match_is_per_cent_where_a_reranker_gave_a_probability(chance: float, shown: str) -> None:
    assert match_in_words(hit(match_probability=chance, standard_score=-1.0)) == shown


def test_a_sound_has_its_time_range_and_a_text_its_passage() -> None:
    sound = hit(modality=Modality.AUDIO, path=Path("/s/a.ogg"), start_s=3_728.0, end_s=3_738.2, caption="rain")
    note = hit(modality=Modality.TEXT, path=Path("/s/n.txt"), text="It  rained\nall day.", caption="a note")
    text = printed(result(sound, note))
    assert "/s/a.ogg  1:02:08-1:02:19" in text
    assert "It rained all day." in text
    assert "a note" not in text
    assert time_range(hit(start_s=8.0, end_s=18.0)) == "0:08-0:18"
    assert time_range(hit(start_s=0.0, end_s=0.3)) == "0:00-0:01"
    assert time_range(hit()) == ""


def test_a_text_of_a_manifest_is_shown_with_its_row() -> None:
    row = hit(modality=Modality.TEXT, path=Path("/m/notes.jsonl"), key="/m/notes.jsonl#12", text="x")
    assert "/m/notes.jsonl#12" in printed(result(row))
    assert path_lines(result(row, row), cwd=Path("/elsewhere")) == ["/m/notes.jsonl"]


def test_a_match_probability_has_a_column_only_where_there_is_one() -> None:
    assert "match" not in printed(result(hit()))
    text = printed(result(hit(match_probability=0.974), hit(rank=2)))
    assert "match" in text
    assert "97%" in text


def test_what_could_steer_a_terminal_is_shown_not_sent() -> None:
    text = printed(result(hit(path=Path("/a/\x1b[2Jx\n.jpg"), caption="[bold]no[/bold] \x1b]0;t\x07")))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert r"/a/\x1b[2Jx\n.jpg" in text
    assert r"[bold]no[/bold] \x1b]0;t\x07" in text


def test_long_words_end_in_an_ellipsis() -> None:
    assert snippet(hit(caption="word " * 50)) == ("word " * 20)[:99].rstrip() + "…"
    assert snippet(hit(caption=None)) == ""


def test_paths_are_a_line_each_relative_where_that_is_shorter() -> None:
    far = hit(path=Path("/data/x.jpg"), key="/data/x.jpg")
    dashed = hit(path=Path("/home/me/-rf.jpg"))
    assert path_lines(result(hit(), far, dashed), cwd=Path("/home/me")) == [
        "photos/door.jpg",
        "/data/x.jpg",
        "./-rf.jpg",
    ]


def test_nothing_found_says_so() -> None:
    assert printed(result()) == "nothing found\n"
    assert path_lines(result()) == []


#: What a person's collection may give: long paths, other scripts, emoji, a note, a sound, a row of a manifest.
MIXED = (
    hit(
        match_probability=0.97, path=Path("/home/me/photos/2019/summer holidays by the sea/second week/red door.jpg"),
        caption="a red door in a white wall",
    ),
    hit(
        rank=2, modality=Modality.AUDIO, path=Path("/home/me/録音/海辺の波と鳥の声、朝.ogg"), start_s=8.0, end_s=18.0,
        caption="波の音と鳥の声が聞こえる", standard_score=4.8,
    ),
    hit(
        rank=3, modality=Modality.TEXT, path=Path("/home/me/notes/old house.txt"), standard_score=3.5,
        text="The house by the lake had a red door. " * 8, caption=None,
    ),
    hit(
        rank=4, modality=Modality.TEXT, path=Path("/data/quotes/manifest.jsonl"), standard_score=2.7,
        key="/data/quotes/manifest.jsonl#quote-0012", text="Une porte rouge, entrou" + "ve\u0301rte.",
    ),
    hit(
        rank=10, path=Path("/home/me/🏖️ 2023 👍🏽/🇩🇪 sunset 🌅.jpg"), standard_score=0.5,
        caption="🌅🌅 the sun goes down",
    ),
    hit(
        rank=11, path=Path("/home/me/" + "x" * 200 + "/" + "long-" * 30 + "end.jpeg"), standard_score=-1.0,
        caption=None,
    ),
)  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_is_the_one_that_was_kept_and_fits(width: int) -> None:
    text = printed(result(*MIXED), width=width)
    assert text == (SNAPSHOTS / f"search_{width}.txt").read_text(encoding="utf-8")
    assert max(map(cell_len, text.splitlines())) <= width


def test_piped_it_is_a_line_a_hit_with_nothing_cut() -> None:
    rows = plain_rows(result(*MIXED), cwd=Path("/home/me"))
    lines = ["\t".join(row) for row in rows]
    assert "\n".join(lines) + "\n" == (SNAPSHOTS / "search_plain.txt").read_text(encoding="utf-8")
    assert rows[6][3] == "x" * 200 + "/" + "long-" * 30 + "end.jpeg"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize("kept", range(1, len(MIXED) + 1))
def test_no_line_is_wider_than_any_terminal_and_each_has_its_rank(kept: int, encoding: str) -> None:
    found = MIXED[:kept]
    for width in (1, 2, 5, *range(8, 64), 79, 81, 131, 400):
        lines = HitsTable(found, cwd=Path("/home/me")).lines(width, encoding)
        assert max(map(cell_len, lines)) <= width
        assert len(lines) == kept + 1
        if width >= 8:
            assert [line.split()[0] for line in lines[1:]] == [str(one.rank) for one in found]
        if width >= 24 and encoding == "utf-8":
            assert "red door.jpg" in lines[1]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_words_however_long_take_neither_path_nor_rank(width: int) -> None:
    note = hit(modality=Modality.TEXT, path=Path("/home/me/notes/oats.md"), key="", text="oats " * 120)
    lines = printed(result(note), width=width).splitlines()
    assert len(lines) == 2 and lines[1].startswith("1  text  notes/oats.md  oats oats") and lines[1].endswith("…")


def test_a_narrow_terminal_cuts_the_path_in_its_middle_and_keeps_the_name() -> None:
    lines = printed(result(hit(caption=None)), cwd="/", width=30).splitlines()
    assert lines == ["#  kind   path", "1  image  home/me/ph…/door.jpg"]
