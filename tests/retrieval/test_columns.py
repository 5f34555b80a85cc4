"""Cells of a terminal: cutting and padding texts whose characters are not one cell wide."""

from __future__ import annotations

import doctest
import unicodedata

import pytest
from rich.cells import cell_len

from retrieval import columns
from retrieval.columns import clusters, cut_end, cut_middle, encodable_in, padded

TEXTS = {
    "ascii": "/home/me/photos/2019/summer/door.jpg",
    "cjk": "/写真/夏休み/海辺の赤い扉と青い空.jpg",
    "emoji": "/holiday 🏖️/👍🏽👍🏽👍🏽/🇩🇪🇫🇷🇯🇵/sunset 🌅.jpg",
    "marks": unicodedata.normalize("NFD", "/Übergrößen/Ångström/çédille/naïveté.jpg"),
    "hangul": unicodedata.normalize("NFD", "/사진/여름/빨간문.jpg"),
    "devanagari": "/तस्वीरें/लाल दरवाज़ा.jpg",
}


def test_the_examples_are_true() -> None:
    assert doctest.testmod(columns).failed == 0


@pytest.mark.parametrize("name", TEXTS)
def test_a_cut_text_is_never_wider_and_never_cuts_what_belongs_together(name: str) -> None:
    text = TEXTS[name]
    end = text[text.rindex("/") :]
    parts = list(clusters(text))
    assert "".join(parts) == text
    for width in range(cell_len(text) + 3):
        for cut in (cut_end(text, width), cut_middle(text, width, end)):
            assert cell_len(cut) <= width
            if cell_len(text) <= width:
                assert cut == text
            elif width > 1:
                head, _, tail = cut.partition("…")
                assert all(cluster.rstrip() in parts or cluster == " " for cluster in clusters(head))
                assert all(cluster in parts for cluster in clusters(tail))
        assert cell_len(padded(cut_end(text, width), width)) == width


@pytest.mark.parametrize("name", TEXTS)
def test_a_path_that_is_cut_keeps_its_name_where_that_has_room(name: str) -> None:
    text = TEXTS[name]
    end = text[text.rindex("/") :]
    for width in range(cell_len(end) + 1, cell_len(text) + 1):
        assert cut_middle(text, width, end).endswith(end)


def test_what_the_encoding_lacks_takes_the_cells_of_its_escape() -> None:
    assert encodable_in("a日", "latin-1") == r"a\u65e5"
    assert columns.ellipsis_of("latin-1") == "..." and columns.ellipsis_of("utf-8") == "…"
    assert cut_end("abcdefgh", 5, "...") == "ab..."
