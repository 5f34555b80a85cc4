"""Hits as people and pipes see them."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from indexer.items import Modality
from retrieval.hits import Hit, SearchResult
from retrieval.present import hits_table, path_lines, snippet, time_range
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


def test_a_row_holds_rank_score_modality_path_and_words() -> None:
    lines = printed(result(hit())).splitlines()
    assert lines[0].split() == ["#", "score", "kind", "path", "words"]
    assert lines[1].split() == ["1", "0.312", "image", "photos/door.jpg", "a", "red", "door"]


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


def test_a_narrow_terminal_folds_the_path_and_leaves_nothing_of_it_out() -> None:
    lines = printed(result(hit(caption=None)), cwd="/", width=50).splitlines()
    start = lines[0].index("path")
    assert "".join(line[start:].strip() for line in lines[1:]) == "home/me/photos/door.jpg"
