"""Decide the split (train, val or demo) of a concept, so that one concept is on one side in every source.

A concept's side is that of its head noun (a named list for demo, a hash for the rest): "red apple", "an apple" and
"apples" fall together, and so do an emoji's eight styles. Knows nothing of files.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from captions import words
from tables import read_tables

TRAIN, VAL, DEMO = "train", "val", "demo"
VAL_RANGE = (0.05, 0.13)  # of the hash of a head noun, in [0, 1): 8 % of the concepts
SALT = "trimodal-pool-1"

# The demo collection shows concepts that are never trained on. They are named, not drawn by lot, so that it has some
# of everything that can be shipped; those hash to no side of their own.
DEMO_HEADS = words(
    # animals
    "frog swan flamingo owl kangaroo rhinoceros giraffe scorpion snail camel dragonfly eagle lion dinosaur seagull "
    "gull bison grasshopper ostrich pig dolphin "
    # food
    "lemon croissant pancake sandwich cherry pretzel pineapple garlic pizza lollipop cupcake muffin butter cheese "
    "tomato melon waffle picnic "
    # tools and instruments
    "teapot sandglass bucket wrench saw axe broom magnet microscope telescope compass padlock screwdriver hammer "
    "anchor stapler calculator harp violin maraca dulcimer "
    # furniture, household, garden
    "radiator refrigerator stove shelf desk bench fan headphones barrel fence wheelbarrow seesaw swing comb towel "
    "brush basket dispenser crate pallet staircase railing container locker mixer dustbin extinguisher candle "
    # plants, nature, weather
    "cactus orchid rose mushroom daffodil bouquet rock rainbow snowman firework "
    # people at work and play
    "carpenter mover teacher gardening dancer farmer standing "
    # vehicles
    "ambulance tractor motorcycle wagon rocket biplane lift satellite "
    # clothing, sport, buildings, other
    "crown dress sock slipper cap handbag briefcase trophy boomerang stopwatch racket castle factory igloo school tent "
    "mermaid tooth toothbrush stethoscope printer computer joystick knight festoon katana greece togo"
)

# A third of all recordings are drums: held out, they would leave no sounds to train on.
ALWAYS_TRAIN = frozenset({"drum"})

ARTICLES = frozenset({"a", "an", "the", "some", "my", "your", "his", "her", "its", "this", "that"})
# From these words on a phrase says where, with what or doing what; its head noun stands before them.
CUTS = words(
    "of with in on at and or for from to by near under over behind after before facing drawn holding wearing "
    "playing without into onto inside between against through plus showing sitting"
)
# Heads that say how a thing is shown, not what it is; they are dropped while other words are left.
SHOWN_AS = words(
    "face button sign symbol icon flag map head silhouette picture drawing cartoon clipart logo emblem figure "
    "image outline sketch contour shape set collection side view front left right up down black white colour "
    "color bw style medium small large big one two three four five six seven eight nine ten note sound hit "
    "stroke loop"
)
#: Word -> the word that stands for it and its synonyms.
SAME: dict[str, str] = read_tables("splits.toml")["same"]
OES = words("tomatoes potatoes mangoes heroes torpedoes volcanoes echoes mosquitoes")
UNCOUNTED = words("rhinoceros glasses pants scissors binoculars headphones tongs christmas bus gas lens cactus")


def normalise(phrase: str) -> str:
    """Lower case, ASCII, no punctuation or leading articles: "The Apple (red)!" -> "apple red"."""
    plain = unicodedata.normalize("NFKD", phrase).encode("ascii", "ignore").decode().lower()
    found = re.sub(r"[^a-z0-9]+", " ", plain.replace("'s ", " ")).split()
    while len(found) > 1 and found[0] in ARTICLES:
        found = found[1:]
    return " ".join(found)


def lemma(word: str) -> str:
    """A cheap English singular, then the word that stands for its synonyms: "cherries" -> "cherry"."""
    if word in SAME:
        return SAME[word]
    if word not in UNCOUNTED and len(word) > 3:
        if word.endswith("ies") and len(word) > 4:
            word = word[:-3] + "y"
        elif word.endswith(("ches", "shes", "sses", "xes")) or word in OES:
            word = word[:-2]
        elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
            word = word[:-1]
    return SAME.get(word, word)


def head(phrase: str) -> str:
    """The lemma of a phrase's head noun; what it is hashed by.

    The last word before the first comma, preposition or "facing", "holding" …, less the words that say how a thing is
    shown. "flag of the Faroe Islands" is cut to nothing but "flag", which is shown-as; then the rest counts.
    """
    parts = [word for word in normalise(phrase.partition(",")[0]).split() if not word.isdigit()]
    if not parts:
        return normalise(phrase)
    first_cut = next((i for i, word in enumerate(parts) if word in CUTS and i > 0), len(parts))
    kept = parts[:first_cut]
    while len(kept) > 1 and lemma(kept[-1]) in SHOWN_AS:
        kept = kept[:-1]
    if lemma(kept[-1]) in SHOWN_AS and first_cut < len(parts):
        rest = [word for word in parts[first_cut:] if word not in CUTS and word not in ARTICLES]
        kept = rest or kept
    return lemma(kept[-1])


def split_of(concept: str) -> str:
    """ "train", "val" or "demo" for a concept phrase, by blake2s of its head; the same on every machine."""
    noun = head(concept)
    if noun in ALWAYS_TRAIN:
        return TRAIN
    if noun in DEMO_HEADS:
        return DEMO
    digest = hashlib.blake2s(f"{SALT}:{noun}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    return VAL if VAL_RANGE[0] <= position < VAL_RANGE[1] else TRAIN
