"""The list of words that no caption may say: languages, inflections, separators, and what passes."""

from __future__ import annotations

import tomllib

import pytest

from indexer.unwanted_words import PASSES, UNSPACED, WORDS, build, find_unwanted, is_unwanted, read_sections, split

SECTIONS = read_sections(WORDS.read_text(encoding="utf-8").splitlines())


def test_the_list_has_words_of_many_languages() -> None:
    least = {
        "en": 400,
        "de": 50,
        "fr": 60,
        "es": 50,
        "it": 90,
        "pt": 50,
        "nl": 80,
        "ru": 80,
        "zh": 80,
        "ja": 80,
        "ar": 25,
    }
    assert {language: count for language, count in least.items() if len(SECTIONS[language]) < count} == {}
    assert "CC-BY-4.0" in WORDS.read_text(encoding="utf-8").partition("[")[0]


def test_every_entry_is_found_by_itself() -> None:
    missed = [entry for name, own in SECTIONS.items() if name != PASSES for entry in own if not is_unwanted(entry)]
    assert missed == []


@pytest.mark.parametrize(
    "text",
    [
        "rape",
        "a rape",
        "Rapes",
        "RAPED",
        "raping",
        "rapists",
        "two corpses",
        "lynchings",
        "slaves",
        "murderers",
        "suicide",
        "Suicides",
        "date-rape",
        "date_rape",
        "daterape",
        "ＲＡＰＥ",
        "ra\u200bpe",
        "ra\u00adpe",
        "Vergewaltigung",
        "Mörderin",
        "morderin",
        "violeurs",
        "cadáver",
        "assassini",
        "убийцу",
        "шлюхи",
        "强奸犯",
        "強姦される",
        "自殺の橋",
        "レイプ",
        "الاغتصاب",
        "verkrachter",
        "estuprador",
    ],
)
def test_inflections_separators_and_languages_are_found(text: str) -> None:
    assert is_unwanted(text)


@pytest.mark.parametrize(
    "text",
    [
        "cockatoo",
        "Scunthorpe",
        "analysis",
        "shiitake",
        "cocktail",
        "peacock",
        "grape",
        "drapery",
        "therapist",
        "the pen is red",
        "spiced cake",
        "pine tree",
        "ice-cream cone",
        "fan",
        "hoes",
        "bass guitar",
        "Sussex",
        "title",
        "killer whale",
        "a great tit",
        "chicken breast",
        "oilseed rape",
        "maine coon",
        "pansy",
        "finocchio",
        "собака",
        "работа",
        "труппа",
        "妈妈的帽子",
        "女の子",
        "橋",
        "",
        "42",
        "🌉",
    ],
)
def test_innocent_words_pass(text: str) -> None:
    assert find_unwanted(text) == ""


def test_a_phrase_that_passes_does_not_excuse_another_word() -> None:
    assert find_unwanted("a killer whale and a killer") == "killer"


def test_words_are_normalised_and_parted_at_all_but_letters() -> None:
    assert split("Blow\u200bing\u00adup, ＦＵＬＬ_width-Straße") == ["blowingup", "full", "width", "strasse"]
    assert split("हिन्दी اغْتِصاب") == ["हिन्दी", "اغتصاب"]


def test_a_list_finds_phrases_whole_and_far_scripts_anywhere() -> None:
    own = build({"en": ["bad thing", "worse"], "ja": ["悪"], PASSES: ["worse luck"]})
    assert [own.find(text) for text in ("a bad_thing", "badthing", "bad things", "thing bad", "worse luck")] == [
        "bad thing",
        "badthing",
        "bad things",
        "",
        "",
    ]
    assert own.find("とても悪い") == "悪" and "ja" in UNSPACED


def test_the_list_and_its_licences_are_shipped_with_the_package() -> None:
    shipped = tomllib.loads((WORDS.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert {WORDS.name, "LICENSES.md"} <= set(shipped["tool"]["setuptools"]["package-data"]["indexer"])
    assert "indexer/LICENSES.md" in shipped["project"]["license-files"]
    licences = (WORDS.parent / "LICENSES.md").read_text(encoding="utf-8")
    assert all(name in licences for name in ("CC-BY-4.0", "naughty-words", "cuss", "Titus Wormer"))
