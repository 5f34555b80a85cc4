"""Read the nouns of WordNet 3.0 out of its dict files: synsets, senses of a word, how often a sense was counted.

Knows nothing of captions, nor which sense is meant.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from captions import distinct
from wordnet_words import content, singular

# Lexicographer files, by their numbers in WordNet (lexnames(5WN)).
TOPS, ACT, ANIMAL, ARTIFACT, BODY, COMMUNICATION, FOOD, LOCATION = 3, 4, 5, 6, 8, 10, 13, 15
OBJECT, PERSON, PHENOMENON, PLANT, SHAPE, SUBSTANCE = 17, 18, 19, 20, 25, 27
CONCRETE = frozenset({TOPS, ANIMAL, ARTIFACT, BODY, FOOD, OBJECT, PERSON, PHENOMENON, PLANT, SUBSTANCE})

# Senses that are left out, as far as WordNet marks them.
OFFENSIVE = re.compile(r"\b(offensive|derogatory|disparaging|slur|obscene|vulgar|taboo|prostitute)\b", re.I)
EXAMPLE = re.compile(r'\s*[;:,]?\s*"')
TAXON = re.compile(r"^(genus|family|order|class|phylum|suborder|subfamily|superfamily|tribe|kingdom|division|sub\w+) ")


@dataclass(frozen=True)
class Synset:
    """One meaning: its words (underscores for spaces), definition with examples, and kinds (offsets)."""

    offset: str
    file: int
    lemmas: tuple[str, ...]
    text: str
    kinds: tuple[str, ...]
    instance: bool

    @cached_property
    def gloss(self) -> str:
        """The definition without examples, straightened: "a hand tool with a heavy head; used to strike"."""
        text = EXAMPLE.split(self.text, maxsplit=1)[0]
        text = re.sub(r"^\s*\([^)]*\)\s*", "", text)
        text = text.replace("`", "'").replace(" is intend to ", " is intended to ")
        return re.sub(r"\s+", " ", text).strip(" ;,.:")


class WordNet:
    """The nouns of WordNet 3.0, in memory: senses of a word, kinds above a sense. Reads the files once, 3 s."""

    def __init__(self, folder: Path) -> None:
        self.synsets = {found.offset: found for found in map(parse, _lines(folder / "data.noun"))}
        self.senses: dict[str, tuple[str, ...]] = {}
        for line in _lines(folder / "index.noun"):
            fields = line.split()
            self.senses[fields[0]] = tuple(fields[-int(fields[2]) :])
        self.irregular = {plural: single for plural, single, *_ in map(str.split, _lines(folder / "noun.exc"))}
        self.adjectives = {line.split(" ", 1)[0] for line in _lines(folder / "index.adj")}
        self.counts: dict[tuple[str, int], int] = {}
        for line in _lines(folder / "cntlist.rev"):
            key, number, count = line.split()
            lemma, _, rest = key.partition("%")
            if rest.startswith("1:"):  # nouns
                self.counts[lemma, int(number)] = int(count)

    @cached_property
    def rarity(self) -> dict[str, float]:
        """How rare a word is in glosses: a quarter of the log of one in how many has it."""
        documents = [set(content(found.gloss)) for found in self.synsets.values()]
        frequency = Counter(word for document in documents for word in document)
        return {word: math.log(len(documents) / count) / 4 for word, count in frequency.items()}

    @cached_property
    def countable(self) -> dict[str, float]:
        """In what share of the glosses where it ends a phrase a noun has "a" or "an"."""
        return countable(found.gloss for found in self.synsets.values())

    def find(self, phrase: str) -> str:
        """The form under which WordNet knows a phrase ("Alarm-clocks" -> "alarm_clock"); "" where it does not.

        A plural that means another thing counts as such only where that thing can be seen: "glasses", not "hands".
        """
        plain = phrase.lower().strip()
        if plain in self.senses and not any(self.synsets[offset].file in CONCRETE for offset in self.senses[plain]):
            plain = singular(plain, self.irregular)
        for base in distinct([plain, singular(plain, self.irregular)]):
            for form in (base.replace(" ", "_"), base.replace(" ", "-"), base.replace("-", "_"), base.replace(" ", "")):
                if form in self.senses:
                    return form
        return ""

    def above(self, sense: Synset) -> list[Synset]:
        """Kinds above a sense, nearest first, by the first parent only."""
        chain: list[Synset] = []
        while sense.kinds and len(chain) < 20:
            sense = self.synsets[sense.kinds[0]]
            chain.append(sense)
        return chain

    def rank(self, lemma: str, sense: Synset) -> int:
        """How many senses of a word go before this one: 2 for the ocarina's "sweet potato"."""
        return self.senses.get(lemma.lower(), (sense.offset,)).index(sense.offset)


def _lines(path: Path) -> Iterator[str]:
    """Lines of a WordNet file without the licence at its top, which is indented."""
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from (line for line in file if line.strip() and not line.startswith("  "))


def parse(line: str) -> Synset:
    """A line of data.noun (wndb(5WN)).

    >>> parse("02084071 05 n 02 dog 0 Canis_familiaris 0 002 @ 02083346 n 0000 ~ 1 n 0000 | a canid; \\"woof\\"").gloss
    'a canid'
    """
    data, _, gloss = line.partition(" | ")
    fields = data.split()
    count = int(fields[3], 16)
    lemmas = tuple(fields[4 : 4 + 2 * count : 2])
    pointers = fields[5 + 2 * count :]
    kinds = [(sign, offset) for sign, offset in zip(pointers[::4], pointers[1::4], strict=False) if sign in {"@", "@i"}]
    instance = any(sign == "@i" for sign, _ in kinds)
    return Synset(fields[0], int(fields[1]), lemmas, gloss.strip(), tuple(offset for _, offset in kinds), instance)


def countable(glosses: Iterable[str]) -> dict[str, float]:
    """For each word that ends a noun phrase in glosses four times or more: in what share "a" or "an" is before it."""
    ends = r"(?=\s*(?:[;,(]|$)|\s(?:of|with|that|for|in|used|or|and|to|on|having|made|which|from|by|is|are|as)\b)"
    pattern = re.compile(r"\b(?:(an?)\s)?(?:[a-z-]+\s){0,2}?([a-z]+)" + ends)
    seen: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    for gloss in glosses:
        for found in pattern.finditer(gloss):
            seen[found[2]] += 1
            counted[found[2]] += found[1] is not None
    return {word: counted[word] / count for word, count in seen.items() if count >= 4}


def common(sense: Synset) -> bool:
    """Whether its first word is one people say: no capital, no bracket, not a group of Latin names."""
    lemma = sense.lemmas[0]
    return lemma == lemma.lower() and "(" not in lemma and len(lemma.split("_")) <= 3


def latin(lemma: str, sense: Synset) -> bool:
    """Whether a lemma is a species' Latin name or a rank: "Felis_concolor", "genus_Felis"."""
    if TAXON.match(lemma.replace("_", " ")) and re.search(r"_[A-Z]", lemma):
        return True
    start, _, rest = lemma.partition("_")
    return sense.file in {ANIMAL, PLANT} and start[:1].isupper() and (rest == rest.lower()) and bool(rest)
