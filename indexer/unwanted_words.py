"""Says whether a text has a word that no picture's caption may say: slurs, sex, violence against people.

Words are those of ``unwanted_words.txt`` (made by ``benchmarks/datasets/unwanted.py``; sources and licences at its
top), in 26 languages. Compared are whole words and phrases, without regard to case, width and separators, in plain
inflections; in scripts without spaces any part of the text. Knows nothing of captions, models or files of names.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WORDS = Path(__file__).with_name("unwanted_words.txt")
#: Languages whose words are found anywhere in a text, because it has no spaces between words.
UNSPACED = frozenset({"ja", "th", "zh"})
#: Section of the phrases that pass although a word of theirs is listed ("killer whale").
PASSES = "passes"

# Two words run together are a listed word only if both have as many letters: "the pen is red" has none.
_LEAST_JOINED = 3
_MOST_JOINED = 3
_ASCII_WORD = re.compile("[a-z0-9]+")
_VOWELS = frozenset("aeiou")
_FAR_SCRIPTS = re.compile("[\u0e00-\u0e7f\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_CYRILLIC_ENDINGS = (
    *("", "а", "я", "о", "е", "и", "ы", "у", "ю", "ь", "ья", "ой", "ей", "ом", "ем", "ам", "ям", "ами", "ями"),
    *("ах", "ях", "ов", "ев"),
)


@dataclass(frozen=True)
class WordList:
    """Listed words in all their forms."""

    forms: frozenset[str]
    """Words and phrases, normalised, words apart by one space."""
    joined: frozenset[str]
    """The same without spaces."""
    anywhere: re.Pattern[str] | None
    """Of languages without spaces."""
    passes: frozenset[str]
    first: frozenset[str]
    """First words of forms and of phrases that pass."""
    longest: int
    """Words in the longest of them."""

    def find(self, text: str) -> str:
        """The first listed word or phrase of a text as it stands there, normalised; "" where it has none."""
        words = split(text)
        kept = list(words)  # "" where a phrase that passes stands
        for start, stop in self._runs(words):
            if stop - start > 1 and " ".join(words[start:stop]) in self.passes:
                kept[start:stop] = [""] * (stop - start)
        for start, stop in self._runs(kept):
            phrase = " ".join(kept[start:stop])
            if phrase in self.forms:
                return phrase
        for size in range(1, _MOST_JOINED + 1):
            for start in range(len(kept) - size + 1):
                part = kept[start : start + size]
                run_together = size == 1 or all(len(word) >= _LEAST_JOINED for word in part)
                if run_together and "".join(part) in self.joined:
                    return " ".join(part)
        if self.anywhere is not None and _FAR_SCRIPTS.search(text):
            found = self.anywhere.search("".join(kept))
            return found[0] if found else ""
        return ""

    def _runs(self, words: list[str]) -> Iterator[tuple[int, int]]:
        """Ends of the runs of words that may be a form or a phrase that passes, long ones first."""
        starts = [place for place, word in enumerate(words) if word in self.first]
        for size in range(min(self.longest, len(words)), 0, -1):
            yield from ((start, start + size) for start in starts if start + size <= len(words))


def find_unwanted(text: str) -> str:
    """The first word or phrase of ``text`` that no caption may say, normalised; "" where it has none."""
    return _list().find(text)


def is_unwanted(text: str) -> bool:
    """Whether ``text`` has a word that no caption may say.

    >>> [is_unwanted(text) for text in ("a Cockatoo", "the suicide of a poet", "Suicides")]
    [False, True, True]
    """
    return bool(find_unwanted(text))


def split(text: str) -> list[str]:
    """Words of a text: NFKC, case-folded, without invisible characters; all but letters, marks and digits parts words.

    >>> split("Blow\u200bing\u00adup, ＦＵＬＬ_width Straße")
    ['blowingup', 'full', 'width', 'strasse']
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words, word = [], ""
    for character in folded:
        category = unicodedata.category(character)
        if category[0] in "LN" or (category[0] == "M" and not _stray(character)):
            word += character
        elif category != "Cf" and category[0] != "M":
            words += [word] if word else []
            word = ""
    return [*words, word] if word else words


def inflections(phrase: str, language: str) -> Iterator[str]:
    """A normalised phrase and its last word's plain inflections."""
    start, space, last = phrase.rpartition(" ")
    for form in _forms(last, language):
        yield f"{start}{space}{form}"
    if language != "en" and (plain := _without_accents(phrase)) != phrase:
        yield from inflections(plain, language)


def _stray(character: str) -> bool:
    """Whether a mark is no part of a word: what NFKC has left of Latin accents, and Arabic vowel signs."""
    return "\u0300" <= character <= "\u036f" or "\u064b" <= character <= "\u0652" or character == "\u0670"


def _forms(word: str, language: str) -> Iterator[str]:
    yield word
    if not word.isalpha() or len(word) < 3 or language in UNSPACED:
        return
    if "\u0400" <= word[0] <= "\u04ff":
        stem = word.rstrip("аяоеиыйьую") if len(word) > 3 else word
        yield from (stem + ending for ending in _CYRILLIC_ENDINGS if len(stem) >= 3)
    elif "\u0600" <= word[0] <= "\u06ff":
        yield from (before + word + after for before in ("", "ال", "و", "وال", "ب", "ل") for after in ("", "ات", "ين"))
    elif language == "en":
        yield from _english(word)
    elif word.isascii() or word[0] < "\u0250":
        yield from (word + ending for ending in ("s", "n", "en", "e", "x"))
        swapped = {"o": "i", "a": "e", "e": "i"}.get(word[-1]) if language == "it" else None
        if swapped:
            yield word[:-1] + swapped


def _english(word: str) -> Iterator[str]:
    """Plural and verb forms as they are spelled: "spic" gives "spics" but not "spiced"."""
    last, before = word[-1], word[-2]
    sibilant = word.endswith(("s", "x", "z", "ch", "sh"))
    if last == "y" and before not in _VOWELS:
        yield from (word[:-1] + "ies", word[:-1] + "ied", word + "ing")
    elif last == "e":
        yield from (word + "s", word + "d", word[:-1] + "ing")
    elif word.endswith("man"):
        yield word[:-3] + "men"
    else:
        yield word + ("es" if sibilant else "s")
        doubled = last not in _VOWELS and last not in "wxy" and before in _VOWELS and word[-3] not in _VOWELS
        stem = word + last if doubled else word
        yield from (stem + "ed", stem + "ing")


def _without_accents(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if not "\u0300" <= c <= "\u036f")


def read_sections(lines: Iterable[str]) -> dict[str, list[str]]:
    """Entries by section: ``[en]`` opens one, ``#`` a comment, any other line is an entry."""
    sections: dict[str, list[str]] = {}
    own: list[str] = []
    for line in map(str.strip, lines):
        if line.startswith("[") and line.endswith("]"):
            own = sections.setdefault(line[1:-1], [])
        elif line and not line.startswith("#"):
            own.append(line)
    return sections


def build(sections: dict[str, list[str]]) -> WordList:
    """The list of entries by language, with every form that is not itself a phrase that passes."""
    passes = frozenset(" ".join(split(phrase)) for phrase in sections.get(PASSES, ()))
    forms: set[str] = set()
    anywhere: set[str] = set()
    for language, entries in sections.items():
        if language == PASSES:
            continue
        for entry in entries:
            phrase = " ".join(split(entry))
            if language in UNSPACED and _FAR_SCRIPTS.search(phrase):
                anywhere.add(phrase.replace(" ", ""))
            elif phrase:
                forms.update(inflections(phrase, language))
    joined = frozenset(form.replace(" ", "") for form in forms) - passes
    pattern = "|".join(sorted(map(re.escape, anywhere), key=lambda each: (-len(each), each)))
    first = frozenset(phrase.partition(" ")[0] for phrase in (*forms, *passes))
    longest = max((phrase.count(" ") + 1 for phrase in (*forms, *passes)), default=1)
    found_anywhere = re.compile(pattern) if anywhere else None
    return WordList(frozenset(forms) - passes, joined, found_anywhere, passes, first, longest)


@cache
def _list() -> WordList:
    return build(read_sections(WORDS.read_text(encoding="utf-8").splitlines()))
