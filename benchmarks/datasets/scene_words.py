"""What a scene shows, in words: relations, counts and colours, each with captions that are false of it.

A false caption differs from the first one in one word, or has two nouns swapped. The true and the false word are drawn
as an ordered pair, every pair as often as its mirror image, so that words alone do no better than chance. Knows nothing
of pictures; drawn from a `random.Random`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from captions import distinct, with_article, words
from tables import read_tables

RELATION, COUNT, COLOUR = "relation", "count", "colour"
KINDS = (RELATION, COUNT, COLOUR)

#: (true, false): left and right, above and below, and beside against the two upright ones.
RELATIONS = (
    ("left", "right"),
    ("right", "left"),
    ("above", "below"),
    ("below", "above"),
    ("beside", "above"),
    ("above", "beside"),
    ("beside", "below"),
    ("below", "beside"),
)
BETWEEN_SHARE = 0.15
TWO_KINDS_SHARE = 0.5  # of count scenes
TWO_COLOURED_SHARE = 0.6  # of colour scenes
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}
MOST_OF_TWO_KINDS = 4
PHRASES = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
    "beside": "beside",
}
TURNED = {"left": "right", "right": "left", "above": "below", "below": "above", "beside": "beside"}
OTHER_PHRASES = {
    "left": "on the left of",
    "right": "on the right of",
    "above": "over",
    "below": "under",
    "beside": "next to",
}
SAME_PLURAL = words("sheep deer fish moose bison shrimp squid aircraft angelfish blowfish swordfish")
OES = words("potato tomato hero mango echo torpedo mosquito volcano")
VES = {"leaf": "leaves", "knife": "knives", "wolf": "wolves", "loaf": "loaves", "shelf": "shelves", "scarf": "scarves"}

_TABLES = read_tables("composites.toml")
COLOURS: dict[str, tuple[float, float, float]] = {name: tuple(row) for name, row in _TABLES["colours"].items()}
NEAR = frozenset(frozenset(pair) for pair in _TABLES["near_colours"]["pairs"])
#: Ordered pairs of colours that contradict each other.
COLOUR_PAIRS = tuple(pair for pair in itertools.permutations(COLOURS, 2) if frozenset(pair) not in NEAR)


@dataclass(frozen=True)
class Part:
    """One kind of thing in a scene: by its number among the chosen things, how many, recoloured or not ("")."""

    thing: int
    count: int = 1
    colour: str = ""


@dataclass(frozen=True)
class Wording:
    """Captions of a scene, best first; captions that are false of it; its parts; how two parts lie ("" for anyhow)."""

    kind: str
    captions: tuple[str, ...]
    contradictions: tuple[str, ...]
    parts: tuple[Part, ...]
    relation: str = ""


def plural(noun: str, irregular: Mapping[str, str] | None = None) -> str:
    """A phrase with its last word in the plural; ``irregular`` has single words.

    >>> plural("police officer"), plural("strawberry"), plural("mouse", {"mouse": "mice"})
    ('police officers', 'strawberries', 'mice')
    """
    start, space, last = noun.rpartition(" ")
    return f"{start}{space}{_plural_word(last, irregular or {})}"


def _plural_word(word: str, irregular: Mapping[str, str]) -> str:
    known = VES | dict(irregular)
    if word in known or word in SAME_PLURAL:
        return known.get(word, word)
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    if word.endswith(("s", "x", "ch", "sh", "z")) or word in OES:
        return word + "es"
    if word.endswith("man") and word not in {"human", "shaman"}:
        return word[:-3] + "men"
    return word + "s"


def counted(noun: str, number: int, irregular: Mapping[str, str] | None = None) -> str:
    """ "three apples", "an apple"."""
    return with_article(noun) if number == 1 else f"{NUMBERS[number]} {plural(noun, irregular)}"


def relation(names: Sequence[str], random_: random.Random) -> Wording:
    """Two things, or three with one between the others; ``names`` has three."""
    a, b, c = (with_article(name) for name in names[:3])
    if random_.random() < BETWEEN_SHARE:
        captions = (f"{a} between {b} and {c}", f"{a} between {c} and {b}", f"{b}, {a} and {c}")
        false = (f"{b} between {a} and {c}", f"{c} between {b} and {a}")
        return Wording(RELATION, captions, false, (Part(1), Part(0), Part(2)), "between")
    true, other = random_.choice(RELATIONS)
    texts = [
        f"{a} {PHRASES[true]} {b}",
        f"{b} {PHRASES[TURNED[true]]} {a}",
        f"{a} {OTHER_PHRASES[true]} {b}",
        f"{a} and {b}",
    ]
    contradictions = [f"{a} {PHRASES[other]} {b}"]
    if true != "beside":
        contradictions.append(f"{b} {PHRASES[true]} {a}")
    return Wording(RELATION, tuple(texts), tuple(contradictions), (Part(0), Part(1)), true)


def count(names: Sequence[str], irregular: Mapping[str, str], random_: random.Random) -> Wording:
    """One thing several times, or two things of which one is there several times."""
    a, b = names[:2]
    if random_.random() >= TWO_KINDS_SHARE:
        number, *others = random_.sample(sorted(NUMBERS)[1:], 3)
        things = plural(a, irregular)
        captions = (f"{NUMBERS[number]} {things}", f"{number} {things}", f"a picture of {NUMBERS[number]} {things}")
        false = tuple(f"{NUMBERS[other]} {things}" for other in others)
        return Wording(COUNT, captions, false, (Part(0, number),))
    number, other = random_.sample(range(2, MOST_OF_TWO_KINDS + 1), 2)
    second = random_.randint(1, 2)

    def listed(first: str, first_count: int, then: str, then_count: int) -> str:
        return f"{counted(first, first_count, irregular)} and {counted(then, then_count, irregular)}"

    both = (listed(a, number, b, second), listed(b, second, a, number))
    false_both = [listed(a, other, b, second)]
    if second != number:
        false_both.append(listed(b, number, a, second))
    return Wording(COUNT, both, tuple(false_both), (Part(0, number), Part(1, second)))


def colour(names: Sequence[str], random_: random.Random) -> Wording:
    """One coloured thing, or two of different colours side by side."""
    a, b = names[:2]
    true, false = random_.choice(COLOUR_PAIRS)

    def thing(name: str, shade: str) -> str:
        return with_article(f"{shade} {name}")

    if random_.random() >= TWO_COLOURED_SHARE:
        other = random_.choice([two for one, two in COLOUR_PAIRS if one == true and two != false])
        captions = (thing(a, true), f"{with_article(a)} that is {true}", f"{true} {a}")
        return Wording(COLOUR, captions, (thing(a, false), thing(a, other)), (Part(0, 1, true),))
    shade = random_.choice([two for one, two in COLOUR_PAIRS if one == true and two != false])
    both = (
        f"{thing(a, true)} beside {thing(b, shade)}",
        f"{thing(b, shade)} next to {thing(a, true)}",
        f"{thing(a, true)} and {thing(b, shade)}",
    )
    contradictions = (
        f"{thing(a, shade)} beside {thing(b, true)}",
        f"{thing(a, false)} beside {thing(b, shade)}",
    )
    return Wording(COLOUR, both, contradictions, (Part(0, 1, true), Part(1, 1, shade)), "beside")


def wording(kind: str, names: Sequence[str], irregular: Mapping[str, str], random_: random.Random) -> Wording:
    """Draw what a scene of this kind shows of ``names``, three different things."""
    if kind == RELATION:
        found = relation(names, random_)
    elif kind == COUNT:
        found = count(names, irregular, random_)
    else:
        found = colour(names, random_)
    captions = tuple(distinct(found.captions))
    return Wording(found.kind, captions, found.contradictions, found.parts, found.relation)
