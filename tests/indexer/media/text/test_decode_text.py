"""indexer/media/text/decode.py: reading text files, and cutting text."""

from __future__ import annotations

import codecs
import random
from pathlib import Path

import pytest

from indexer.errors import MediaError
from indexer.items import Item, Modality
from indexer.limits import MediaLimits
from indexer.media.decode import decode
from indexer.media.text.decode import passages, read_text


def read(folder: Path, content: bytes, limits: MediaLimits | None = None) -> str:
    path = folder / "a.txt"
    path.write_bytes(content)
    return read_text(path, limits or MediaLimits())


@pytest.mark.parametrize(
    ("bom", "codec"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_unicode_text_is_read_with_and_without_its_mark(tmp_path: Path, bom: bytes, codec: str) -> None:
    assert read(tmp_path, bom + "größe 日本 🎵".encode(codec)) == "größe 日本 🎵"


def test_line_ends_of_every_system_become_one(tmp_path: Path) -> None:
    assert read(tmp_path, b"a\r\nb\rc\nd") == "a\nb\nc\nd"


def test_text_in_another_encoding_is_refused_with_the_place_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        read(tmp_path, "abc é".encode("cp1252"))
    assert "is not UTF-8 (byte 0xe9 at offset 4); convert it (iconv -f WINDOWS-1252 -t UTF-8 a.txt" in str(caught.value)


def test_markup_is_text_as_well(tmp_path: Path) -> None:
    for content in ("<html><p>words</p></html>", "<svg>words</svg>", "%PDF-1.7 is how such a file begins"):
        assert read(tmp_path, content.encode()) == content


def test_text_over_the_limit_is_refused_with_the_flag(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="2 MB is over the 1 MB limit; raise --max-text-mb"):
        read(tmp_path, b"words " * 333_334, MediaLimits(max_text_mb=1))


def test_short_paragraphs_are_packed_in_order() -> None:
    assert passages("one\n\ntwo\n \nthree", MediaLimits(passage_chars=9)) == ["one\ntwo", "three"]


def test_white_space_alone_gives_no_passage() -> None:
    assert passages("", MediaLimits()) == []
    assert passages(" \n\n\t\n", MediaLimits()) == []


def test_lines_of_a_paragraph_are_joined() -> None:
    assert passages("wrapped\nat   eighty\n\nnext", MediaLimits()) == ["wrapped at eighty\nnext"]


def test_a_long_paragraph_is_cut_at_sentence_ends() -> None:
    text = 'First one. Second "one!" Third one? Fourth.'
    assert passages(text, MediaLimits(passage_chars=26)) == ['First one. Second "one!"', "Third one? Fourth."]


def test_scripts_without_spaces_are_cut_at_their_own_stops() -> None:
    text = "これは文です。これも文です。最後の文。"
    assert passages(text, MediaLimits(passage_chars=14)) == ["これは文です。これも文です。", "最後の文。"]


def test_a_long_sentence_is_cut_at_spaces_and_a_long_word_anywhere() -> None:
    assert passages("aaa bbb ccc ddd", MediaLimits(passage_chars=8)) == ["aaa bbb", "ccc ddd"]
    assert passages("a" * 25, MediaLimits(passage_chars=10)) == ["a" * 10, "a" * 10, "a" * 5]


def test_decimal_points_and_addresses_end_no_sentence() -> None:
    assert passages("Pi is 3.14159 or so. See x.org/a now.", MediaLimits(passage_chars=20)) == [
        "Pi is 3.14159 or so.",
        "See x.org/a now.",
    ]


def test_no_passage_is_too_long_and_nothing_but_white_space_is_lost_for_any_text() -> None:
    generator = random.Random(0)
    for _ in range(300):
        text = "".join(generator.choices("ab.。!? \n\n\t\"'é", k=generator.randrange(200)))
        limit = generator.randrange(1, 40)
        found = passages(text, MediaLimits(passage_chars=limit))
        assert all(0 < len(passage) <= limit for passage in found)
        assert "".join("".join(found).split()) == "".join(text.split())
        assert passages(text, MediaLimits(passage_chars=limit)) == found


def test_a_text_file_and_a_text_row_give_the_same_passages(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("First one.\n\nSecond one.")
    limits = MediaLimits(passage_chars=12)
    file = Item(str(path), Modality.TEXT, path)
    row = Item("m.jsonl#1", Modality.TEXT, tmp_path / "m.jsonl", text=path.read_text())
    for item in (file, row):
        decoded = decode(item, limits)
        assert [(part.segment.ordinal, part.segment.text, part.payload) for part in decoded.segments] == [
            (0, "First one.", "First one."),
            (1, "Second one.", "Second one."),
        ]
        assert decoded.item is item
        assert decoded.facts == {}


def test_a_text_row_without_words_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"m\.jsonl#1: holds only white space"):
        decode(Item("m.jsonl#1", Modality.TEXT, tmp_path / "m.jsonl", text=" \n"))
