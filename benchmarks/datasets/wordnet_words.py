"""Words as the WordNet recipe counts them: the lists of `wordnet_words.toml`, singulars, words that carry meaning.

Knows nothing of senses.
"""

from __future__ import annotations

import re

from captions import words
from tables import read_tables

_found = read_tables("wordnet_words.toml")
_lists: dict[str, frozenset[str]] = {name: words(text) for name, text in _found["lists"].items()}

RUDE_WORDS = _lists["rude_words"]
LOOSE = _lists["loose"]
TOO_WIDE = _lists["too_wide"]
USEFUL = _lists["useful"]
UNCOUNTED = _lists["uncounted"]
COLOURS = _lists["colours"]
NOT_HEADS = _lists["not_heads"]
STYLE_WORDS = _lists["style_words"]
STOP = _lists["stop"]

PREFERRED: dict[str, str] = _found["preferred"]  # form -> words of the gloss of the sense meant
PHRASES: dict[str, str] = _found["phrases"]  # first word of a synset -> the common phrase for it
ATTRIBUTES: dict[str, str] = _found["attributes"]  # word of a gloss -> what it says


def content(text: str) -> list[str]:
    """Words that carry meaning, in a crude singular."""
    found = re.findall(r"[a-z][a-z'-]+", text.lower())
    return [singular(word) for word in found if word not in STOP]


def singular(phrase: str, irregular: dict[str, str] | None = None) -> str:
    """A phrase with its last word in the singular, by WordNet's list of exceptions and plain rules."""
    start, space, last = phrase.rpartition(" ")
    if irregular and last in irregular:
        last = irregular[last].split()[0]
    elif len(last) > 3 and last.endswith("ies"):
        last = last[:-3] + "y"
    elif last.endswith(("ches", "shes", "sses", "xes", "zes")):
        last = last[:-2]
    elif len(last) > 3 and last.endswith("s") and not last.endswith(("ss", "us", "is")):
        last = last[:-1]
    return f"{start}{space}{last}"
