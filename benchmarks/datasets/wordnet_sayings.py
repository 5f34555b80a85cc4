"""Say what is true of a sense in plain phrases: its gloss, kinds, uses, attributes and other words.

Knows nothing of captions, nor how the sense was chosen.
"""

from __future__ import annotations

import re

from captions import distinct, with_article
from wordnet_files import (
    ANIMAL,
    ARTIFACT,
    CONCRETE,
    FOOD,
    LOCATION,
    PERSON,
    PLANT,
    SUBSTANCE,
    Synset,
    WordNet,
    common,
    latin,
)
from wordnet_words import ATTRIBUTES, PHRASES, RUDE_WORDS, TOO_WIDE, UNCOUNTED, USEFUL

LIMIT_SYNONYMS = 4
# Kinds that an attribute may describe, nearest first.
KINDS = ("bird", "fish", "insect", "reptile", "snake", "vehicle", "garment", "tool", "animal", "plant", "person")
PREPOSITION = re.compile(r"\b(of|with|in|on|for|from|by|having|to|at|that|which|who|into|as|between)\b")
VERBISH = re.compile(r"(is|has|can|may|will|does|[a-z-]+[^s]s)\b")


def sayings(net: WordNet, sense: Synset) -> list[str]:
    """All phrases that describe a sense: its gloss, the gloss's first part, kinds, uses and attributes."""
    gloss = sense.gloss
    first = re.sub(r"\s*\([^)]*\)", "", gloss).split(";")[0].strip(" ,")
    texts = [gloss, first if len(first) > 8 else "", *kinds(net, sense)]
    chain = [sense, *net.above(sense)[:3]]
    kind = kind_word(net, sense)
    for level, near in enumerate(chain):
        if level < 2:
            texts += uses(near.gloss, near.file) if level == 0 or not TOO_WIDE & set(near.lemmas[:1]) else []
        if near.file in {ANIMAL, PLANT, ARTIFACT} and not TOO_WIDE & set(near.lemmas[:1]):
            opening = re.split(r"\b(?:of|with|having|in|that|which|for|to)\b|[;,(]", near.gloss)[0].split()
            texts += [f"{kind} {ATTRIBUTES[word]}" for word in opening if word in ATTRIBUTES]
    return distinct(texts)


def synonyms(net: WordNet, sense: Synset, form: str) -> list[str]:
    """The other words of a sense, without Latin and proper names, with articles."""
    kept = [word for word in sense.lemmas if word.lower() != form and not latin(word, sense) and len(word) > 2]
    kept = [word for word in kept if net.rank(word, sense) < 2 and word not in RUDE_WORDS]
    texts = [word.replace("_", " ") for word in kept[:LIMIT_SYNONYMS]]
    return texts if sense.instance else [articled(net, text, sense.file) for text in texts]


def flag_sayings(net: WordNet, place: str) -> list[str]:
    """Phrases that describe a flag: what flags are, and of which place, by the place's gloss."""
    texts = ["a flag", "a rectangular piece of cloth of distinctive design"]
    form = net.find(place.replace("&", "and"))
    senses = [net.synsets[offset] for offset in net.senses.get(form, ())]
    country = next((sense for sense in senses if sense.file == LOCATION), None)
    if country is not None and " is a " not in country.gloss:
        gloss = re.sub(r"\s*\([^)]*\)", "", country.gloss).split(";")[0].strip(" ,")
        texts += [f"the flag of {articled(net, gloss, LOCATION)}", "a national flag" if "republic" in gloss else ""]
    return distinct(texts)


def kinds(net: WordNet, sense: Synset) -> list[str]:
    """Up to four phrases of what kind of thing it is, nearest first, without the too wide ones."""
    chain = [kind for kind in net.above(sense) if not kind.instance]
    near = [kind for kind in chain[:4] if not TOO_WIDE & set(kind.lemmas[:1]) and common(kind)]
    near = [kind for kind in near if net.rank(kind.lemmas[0], kind) < 3][:2]
    wide = [kind for kind in chain if kind.lemmas[0] in USEFUL]
    return distinct(phrase_of(net, kind) for kind in [*near, *wide[:2]])


def uses(gloss: str, file: int = ARTIFACT) -> list[str]:
    """What a gloss says a thing is for or does, as phrases of their own.

    Only where the words describe the thing itself and nothing else: no preposition stands before them.

    >>> uses("hand tool having a toothed blade for cutting")
    ['something for cutting']
    >>> uses("a vessel for liquids that are hot")
    []
    """
    who = (
        "someone" if file == PERSON else "an animal" if file == ANIMAL else "a plant" if file == PLANT else "something"
    )
    plain = re.sub(r"\s*\([^)]*\)", "", gloss)
    texts = []
    for part_number, part in enumerate(plain.split(";")):
        part = part.strip(" ,")
        for found in re.finditer(r"\bused (to|for|in|as|by|with) [^,]+", part):
            before = part[: found.start()]
            if not PREPOSITION.search(before) and not re.search(r"\b(not|formerly|once|and|or)\b", before):
                texts.append(f"something {found[0]}" if file != PERSON else "")
        if part_number:
            continue
        for found in re.finditer(r"\bfor ([a-z-]+ing\b[^,]*)", part):
            before = re.sub(r"\b(with|having)\b", "", part[: found.start()])
            nouns = {"morning", "evening", "clothing", "building", "everything", "something"}
            if not PREPOSITION.search(before) and " used " not in f" {before}" and found[1].split()[0] not in nouns:
                texts.append(f"{who} for {found[1]}" if file not in {PERSON, ANIMAL} else "")
        clause = re.search(r"\b(that|who) ([^,]+.*)$", part)
        single = re.match(r"(a|an|one|any|someone)\b", part)
        if clause and single and not PREPOSITION.search(part[: clause.start()]) and VERBISH.match(clause[2]):
            texts.append(f"{who} {clause[1] if file == PERSON else 'that'} {clause[2]}")
    return distinct(text for text in texts if 3 <= len(text.split()) <= 18 and "something" not in text[9:])


def phrase_of(net: WordNet, sense: Synset) -> str:
    """A sense's first word as a phrase with an article where English has one: "a hand tool", "footwear"."""
    lemma = next((word for word in sense.lemmas if re.match(r"(piece|article)_of_", word)), sense.lemmas[0])
    phrase = PHRASES.get(lemma, lemma.replace("_", " "))
    return articled(net, phrase, sense.file)


def articled(net: WordNet, phrase: str, file: int) -> str:
    """With "a" or "an" where WordNet's own glosses count such a thing."""
    last = re.split(r" (?:of|for|in|with) ", phrase)[0].split()[-1]
    share = net.countable.get(last.lower(), 0.0 if file in {FOOD, SUBSTANCE} else 1.0)
    mass = share < (0.12 if file not in CONCRETE or file in {FOOD, SUBSTANCE} else 0.0)
    if last in UNCOUNTED or mass or (last.endswith("ing") and file not in CONCRETE) or phrase.startswith("one "):
        return phrase
    if re.match(r"[AEFHILMNORSX][A-Z]", phrase) or re.match(r"ut[ei]", phrase):
        return f"{'an' if phrase[0].isupper() else 'a'} {phrase}"  # as they are spoken: an LCD, a utensil
    return with_article(phrase)


def kind_word(net: WordNet, sense: Synset) -> str:
    """ "a bird", "an animal", "someone", else "something": the noun that an attribute describes."""
    if sense.file == PERSON:
        return "someone"
    above = {kind.lemmas[0] for kind in net.above(sense)}
    return next((with_article(kind) for kind in KINDS if kind in above), "something")
