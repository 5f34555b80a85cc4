"""Dictionaries in dictd's form and CC-CEDICT: entries are read, and of many meanings those that lead back are taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("resvg_py", reason="the recipes render SVG: pip install 'trimodal[svg]'")

import dictionaries

THERE = """\
owl /aʊl/
Eule <fem> [ornith.]
 see: {owlet}

owl /aʊl/
Langschläfer <masc>, Eule <fem> [ugs.]
   Synonyms: {late riser}, {slugabed}

dog /dɔg/
Bandhaken <masc>
     Note: barrel-making
dog /dɔg/ <n>
1. Hund <masc>, Köter
2. Kerl

owlet /aʊlɪt/
Kauz <masc>
"""
BACK = """\
Eule /ɔʏlə/ <fem, n, sg>
owl <n>
     "eine Eule" - an owl

Hund /hʊnt/ <masc>
mine car <n>, dog <n>

Köter /køːtɐ/
dog, cur
"""


def test_words_that_lead_back_come_first_and_the_rest_is_left_out() -> None:
    there, back = (dictionaries.read_freedict(iter(text.splitlines(keepends=True))) for text in (THERE, BACK))
    assert there["owl"] == [["Eule"], ["Langschläfer", "Eule"]]
    assert there["dog"] == [["Bandhaken"], ["Hund", "Köter", "Kerl"]]
    assert dictionaries.translations_of("owl", there, back) == ["Eule"]
    assert dictionaries.translations_of("dog", there, back) == ["Köter", "Hund"]
    assert dictionaries.translations_of("owlet", there, back) == ["Kauz"]  # nothing leads back: the only one there is
    assert dictionaries.translations_of("dog", there, {}) == []
    assert dictionaries.translations_of("cat", there, back) == []


def test_chinese_words_are_nouns_whose_first_meaning_is_the_word(tmp_path: Path) -> None:
    entries = [
        ("犬", ["dog"]),
        ("狗", ["dog", "CL:隻|只[zhi1]"]),
        ("跟踪", ["to follow", "dog"]),
        ("3C", ["dog"]),
        ("猫头鹰", ["an owl (bird); a bird of prey"]),
    ]
    path = tmp_path / "cedict.json"
    path.write_text(json.dumps([{"simplified": word, "english": english} for word, english in entries]))
    found = dictionaries.read_cedict(path)
    assert found["dog"] == ["狗", "犬"]
    assert found["owl"] == ["猫头鹰"]
