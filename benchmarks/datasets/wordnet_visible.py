"""Say whether a name is one of a thing that can be seen, by WordNet's kinds and lexicographer files.

The rule, with the lists of `visible.toml`: a sense is seen where the nearest listed kind above it is, or where none is
listed above it and its file is that of animals, artifacts, foods, natural objects or plants. Of persons and of parts
of a body those are seen that are listed. A noun is a name of a seen thing where one of its first senses is seen and
texts use the noun so, rather than in another sense or as an adjective; a phrase where its first or last word is.
Names of people ("Martin Luther King") are none. Knows nothing of pictures or of rude words.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from captions import words
from splits import CUTS
from tables import read_tables
from wordnet_files import ANIMAL, ARTIFACT, BODY, FOOD, LOCATION, OBJECT, PERSON, PLANT, Synset, WordNet
from wordnet_words import TOO_WIDE, singular

LISTS = "visible.toml"
FILES = {"animal": ANIMAL, "artifact": ARTIFACT, "food": FOOD, "object": OBJECT, "plant": PLANT}
FIRST_SENSES = 3
LEAST_SHARE = 0.25  # of a word's counted uses that mean the seen thing
LEAST_COUNTED = 8  # fewer uses say little
SHOWN_BY_PLACE = frozenset({ARTIFACT, LOCATION, OBJECT})  # proper names of these are seen: "Eiffel Tower"
NO_NAME = re.compile(r"^(?:no|input)\b")


class Visible:
    """The rule over a WordNet in memory."""

    def __init__(self, net: WordNet, folder: Path) -> None:
        self.net = net
        self.folder = folder
        lists = read_tables(LISTS)
        self.files = frozenset(FILES[name] for name in lists["files"].split())
        self.kinds = {offset: True for offset in self._offsets(lists["seen"])}
        self.kinds.update(dict.fromkeys(self._offsets(lists["unseen"]), False))
        self.body, self.people = words(lists["body"]), words(lists["people"])
        self.also, self.left_out = words(lists["also"]), words(lists["left_out"])

    def _offsets(self, kinds: str) -> list[str]:
        """Offsets of "word#sense"; raises `KeyError` for a word or sense that WordNet lacks."""
        found = []
        for kind in kinds.split():
            word, _, number = kind.partition("#")
            senses = self.net.senses.get(word, ())
            if not 1 <= int(number) <= len(senses):
                raise KeyError(f"{LISTS}: {kind} is no sense of WordNet")
            found.append(senses[int(number) - 1])
        return found

    @cached_property
    def uses(self) -> dict[str, int]:
        """Counted uses of a word as a noun or an adjective."""
        found: dict[str, int] = {}
        for line in (self.folder / "cntlist.rev").read_text(encoding="utf-8").splitlines():
            key, _, count = line.split()
            word, _, rest = key.partition("%")
            if rest[:1] in {"1", "3", "5"}:  # nouns, adjectives, adjectives beside one
                found[word] = found.get(word, 0) + int(count)
        return found

    def sense(self, lemma: str, sense: Synset) -> bool:
        """Whether a sense of a lemma is seen."""
        if sense.instance and sense.file not in SHOWN_BY_PLACE:
            return False
        if sense.file == BODY or (sense.file == ANIMAL and self._is_part(sense)):
            return lemma in self.body
        if sense.file == PERSON:
            return lemma in self.people
        for kind in (sense, *self.net.above(sense)):
            if kind.offset in self.kinds:
                return self.kinds[kind.offset]
        return sense.file in self.files

    def _is_part(self, sense: Synset) -> bool:
        return any(kind.lemmas[0] == "body_part" for kind in self.net.above(sense))

    def noun(self, phrase: str) -> bool:
        """Whether WordNet knows a phrase as the name of a seen thing."""
        lemma = self.net.find(phrase)
        if self.also & {lemma, phrase, singular(phrase)}:
            return True
        if not lemma or lemma in self.left_out or lemma in TOO_WIDE:
            return False
        numbered = list(enumerate(self.net.senses[lemma], start=1))
        seen = [number for number, offset in numbered if self.sense(lemma, self.net.synsets[offset])]
        if not seen or seen[0] > FIRST_SENSES:
            return False
        if self.net.synsets[numbered[0][1]].instance and seen[0] != 1:
            return False
        counted = sum(self.net.counts.get((lemma, number), 0) for number in seen)
        uses = self.uses.get(lemma, 0)
        return uses < LEAST_COUNTED or counted >= LEAST_SHARE * uses

    def name(self, name: str) -> bool:
        """Whether a name, as a caption gives it, is one of a seen thing."""
        if NO_NAME.search(name):
            return False
        if self.net.find(name) or name in self.also:
            return self.noun(name)
        parts = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", name.lower())
        cut = next((place for place, word in enumerate(parts) if word in CUTS and place), len(parts))
        head = parts[:cut] or parts
        return bool(head) and any(self.noun(word) for word in {head[0], head[-1], singular(head[-1]), parts[0]})
