"""Small rules that turn names into captions: words apart, articles, no repeats. Knows nothing of sources."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set: how this folder writes its word lists."""
    return frozenset(text.split())


PLURAL_ONLY = words("scissors glasses pants trousers jeans shorts binoculars headphones tongs stairs")
UNCOUNTABLE = words(
    "rice bread butter cheese milk water coffee tea juice beer wine money music rain snow fog fire smoke hair "
    "furniture luggage grass sand ice honey meat bacon popcorn corn garlic spaghetti applause wind breathing"
)


def words_apart(name: str) -> str:
    """File-name style to words: "wooden_tableLamp-2" -> "wooden table lamp 2"."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.sub(r"[\s_\-.+]+", " ", spaced).strip().lower()


def tidy(text: str) -> str:
    """Unescape HTML (also twice-escaped), straighten quotes and spaces."""
    for _ in range(2):
        text = html.unescape(text)
    text = text.replace("\u2019", "'").replace("\u201c", '"').replace("\u201d", '"')
    return re.sub(r"\s+", " ", text).strip(" ,;-")


def with_article(phrase: str) -> str:
    """ "apple" -> "an apple"; plurals, uncountables and phrases with an article or number are left alone."""
    lowered = phrase.partition(",")[0].lower().split()
    if not lowered or lowered[0] in {"a", "an", "the", "two", "three", "four", "some", "no"} or lowered[0][0].isdigit():
        return phrase
    cuts = {"of", "with", "in", "on", "for", "and", "from", "at", "to", "being", "playing"}
    first_cut = next((i for i, word in enumerate(lowered) if word in cuts), len(lowered))
    noun = lowered[max(0, first_cut - 1)]
    plural = noun.endswith("s") and not noun.endswith(("ss", "us", "is")) and len(noun) > 3
    if plural or noun in PLURAL_ONLY or noun in UNCOUNTABLE:
        return phrase
    vowel = lowered[0][0] in "aeiou" and not re.match(r"(uni|use|eu|one|ukulele)", lowered[0])
    silent_h = lowered[0].startswith(("hour", "honest"))
    return f"{'an' if vowel or silent_h else 'a'} {phrase}"


def distinct(texts: Iterable[str]) -> list[str]:
    """The texts in order, without empties and repeats (compared without case)."""
    seen: set[str] = set()
    kept = []
    for text in texts:
        if text and text.lower() not in seen:
            seen.add(text.lower())
            kept.append(text)
    return kept
