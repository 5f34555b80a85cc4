"""Choose the sense that a caption means: what to look up, and which of its senses the words beside it speak for.

Knows nothing of files, nor of the phrases that describe a sense.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from captions import distinct, words
from splits import ARTICLES, CUTS, SHOWN_AS
from wordnet_files import (
    ANIMAL,
    ARTIFACT,
    BODY,
    COMMUNICATION,
    CONCRETE,
    FOOD,
    LOCATION,
    OBJECT,
    OFFENSIVE,
    PERSON,
    PHENOMENON,
    PLANT,
    SHAPE,
    Synset,
    WordNet,
)
from wordnet_words import COLOURS, LOOSE, NOT_HEADS, PREFERRED, STOP, STYLE_WORDS, content, singular

# Weights of choosing a sense, set by reading a hundred choices.
LOG_COUNT, RANK, NOT_CONCRETE, EXPECTED, INSTANCE, SOMEONE, RUDE = 0.45, 0.5, -2.5, 2.5, -6.0, -1.2, -8.0
PREFERRED_LEAD = 6.5  # of the senses of wordnet_words.toml
MARGIN = 0.8  # by which a sense must lead where only the head of a caption was found

# Which lexicographer files a source's own order speaks for.
OCA_FOLDERS = {
    "animals": {ANIMAL},
    "plants": {PLANT},
    "food": {FOOD, PLANT},
    "tools": {ARTIFACT},
    "transportation": {ARTIFACT},
    "office": {ARTIFACT},
    "computer": {ARTIFACT},
    "household": {ARTIFACT},
    "buildings": {ARTIFACT},
    "music": {ARTIFACT},
    "geography": {OBJECT},
    "electronics": {ARTIFACT},
}
EMOJI_GROUPS = {
    "people-body": {PERSON, BODY},
    "animals-nature": {ANIMAL, PLANT},
    "food-drink": {FOOD, PLANT},
    "travel-places": {ARTIFACT, OBJECT, PHENOMENON},
    "objects": {ARTIFACT},
    "smileys-emotion": {COMMUNICATION},
}
SOURCES = {"sweethome3d": {ARTIFACT}, "midi-notes": {ARTIFACT}, "hydrogen": {ARTIFACT}}
SOUND_SOURCES = words("midi-notes hydrogen lmms sonic-pi")
QABCS = {"animals": {ANIMAL}, "food": {FOOD, PLANT}, "instrument": {ARTIFACT}}
# What a caption says beside the thing.
STYLES = re.compile(
    r"\b(black and white|cartoon|silhouette|drawing|clip ?art|being (hit|shaken|struck|played)|playing|ticking|"
    r"dark skin tone|light skin tone)\b|\([^)]*\)|(?<=\bsynthesizer) (effect|lead|pad|voice|bass|strings|choir)\b|"
    r"(?<=[a-z]) (note|beat|loop|roll)$"
)
# Captions whose head says nothing of the picture, and those that hold only where all their words were found.
NOT_SHOWN = re.compile(
    r"\b(button|arrow|letter|number|digit|keycap|ideograph|uppercase|lowercase|input|check|kanji|connector)\b|o'clock",
    re.I,
)
SIGNS = re.compile(r"\b(sign|symbol|icon|emblem|logo|map)\b", re.I)
RANKS = re.compile(r"(a |the |large |type )*(genus|family|order|class)\b")


@dataclass(frozen=True)
class Meant:
    """What a caption was taken to mean: the form looked up, the sense, and whether that is the whole caption."""

    form: str
    sense: Synset
    whole: bool


def meaning(
    net: WordNet, caption: str, context: Counter[str], expected: frozenset[int], usual: dict[str, str] | None = None
) -> Meant | None:
    """The sense of a caption, or of its head; None where WordNet has no noun for it.

    `usual` is the sense (offset) that a form mostly has elsewhere.
    """
    if NOT_SHOWN.search(caption):
        return None
    for number, phrase in enumerate(lookups(caption)):
        form = net.find(phrase)
        if form and number and (form in LOOSE or not ends_so(caption, phrase, net)):
            return None
        if form:
            sense, score, lead = choose(net, form, context, expected, (usual or {}).get(form, ""))
            if sense.instance and (number or (sense.file == PERSON and caption == caption.lower())):
                return None  # a proper name counts only as the whole caption
            if SIGNS.search(caption) and not SIGNS.search(phrase) and len(phrase.split()) < len(caption.split()) - 1:
                return None  # a road works sign shows no works
            if number and lead < MARGIN:
                return None
            if sense.file not in CONCRETE and sense.file not in expected and score < -1.5:
                continue
            return Meant(form, sense, number == 0)
    return None


def choose(
    net: WordNet,
    form: str,
    context: Counter[str],
    expected: frozenset[int] | set[int],
    usual: str = "",
) -> tuple[Synset, float, float]:
    """The likeliest sense of a form beside these words, its score, and how far it leads the next one.

    Counted are how frequent a sense is, whether it is in an expected file, whether other pictures mostly mean it
    (`usual`, its offset), and the words its gloss and kinds share with the context (Lesk).
    """
    scored: list[tuple[float, Synset]] = []
    own = set(form.replace("-", "_").split("_"))
    for rank, offset in enumerate(net.senses[form]):
        sense = net.synsets[offset]
        score = LOG_COUNT * math.log1p(net.counts.get((form, rank + 1), 0)) - RANK * min(rank, 6)
        score += EXPECTED * (sense.file in expected)
        score += 0 if sense.file in CONCRETE or sense.file in expected else NOT_CONCRETE
        score += INSTANCE if sense.instance and not (sense.file == LOCATION and LOCATION in expected) else 0
        score += RUDE if OFFENSIVE.search(sense.text) or RANKS.match(sense.gloss) else 0
        score += SOMEONE if sense.file == PERSON and PERSON not in expected else 0
        score += EXPECTED * (offset == usual)
        preferred = PREFERRED.get(form, "\n") in sense.gloss
        score += PREFERRED_LEAD - NOT_CONCRETE * (sense.file not in CONCRETE | expected) if preferred else 0
        near = set(content(sense.gloss)) | {word for lemma in sense.lemmas for word in lemma.lower().split("_")}
        chain = net.above(sense)
        kinds = {word for kind in chain for lemma in kind.lemmas for word in lemma.lower().split("_")}
        kin = {word for kind in chain[:2] for word in content(kind.gloss)}
        for word in context:
            if word not in own:
                weight = min(2.0, net.rarity.get(word, 1.5))
                score += weight * max(1.0 * (word in near), 1.3 * (word in kinds), 0.5 * (word in kin))
        scored.append((score, sense))
    scored.sort(key=lambda row: -row[0])
    lead = scored[0][0] - scored[1][0] if len(scored) > 1 else math.inf
    return scored[0][1], scored[0][0], lead


def context_of(row: dict[str, Any], subgroups: dict[str, tuple[str, str]]) -> tuple[Counter[str], frozenset[int]]:
    """Words that surround a row's first caption, and the lexicographer files its source's order speaks for."""
    metadata = row["metadata"]
    texts = [*row["captions"], metadata.get("folder", ""), metadata.get("category", ""), metadata.get("title", "")]
    texts += [metadata.get("tags", "")]
    expected: set[int] = set(SOURCES.get(metadata["source"], ()))
    if metadata["source"] in SOUND_SOURCES or metadata.get("category") == "instrument":
        texts.append("musical instrument music")
    group, subgroup = subgroups.get(metadata.get("code", ""), ("", ""))
    texts.append(subgroup.replace("-", " "))
    expected |= EMOJI_GROUPS.get(group, set()) | QABCS.get(metadata.get("category", ""), set())
    expected |= OCA_FOLDERS.get(metadata.get("folder", "").split("/")[0], set())
    files = {"food": {FOOD, PLANT}, "animal": {ANIMAL}, "plant": {PLANT}, "zodiac": {LOCATION}, "heart": {SHAPE}}
    if any(word in subgroup for word in files):
        expected = set().union(*(found for word, found in files.items() if word in subgroup))
    return Counter(content(" ".join(texts))), frozenset(expected)


def lookups(caption: str) -> list[str]:
    """Phrases to look up for a caption, best first: the whole, without styles, then ever shorter ends of it.

    >>> lookups("woman farmer")
    ['woman farmer', 'farmer', 'woman']
    >>> lookups("red alarm clock, black and white")[:2]
    ['red alarm clock', 'alarm clock']
    """
    whole = STYLES.sub(" ", caption.lower().replace("\u2019", "'"))
    whole = re.sub(r"[^a-z0-9' -]+.*", "", whole.strip()) if "," in whole else re.sub(r"[^a-z0-9' -]+", " ", whole)
    parts = whole.split()
    while len(parts) > 1 and parts[0] in ARTICLES:
        parts = parts[1:]
    if not parts:
        return []
    cut = next((i for i, word in enumerate(parts) if word in CUTS and i > 0), len(parts))
    kept = parts[:cut]
    bare = list(kept)
    while len(bare) > 1 and (singular(bare[-1]) in SHOWN_AS or bare[-1] in NOT_HEADS or bare[-1].isdigit()):
        bare.pop()
    ends = [kept[i:] for i in range(len(kept) - 1)] + [bare[i:] for i in range(len(bare))]
    shorter = [bare[i:end] for end in range(len(bare) - 1, 0, -1) for i in range(end)]
    last = [kept[-1:]]
    phrases = [" ".join(part) for part in [parts, *ends, *shorter, *last] if part]
    return [phrase for phrase in distinct(phrases) if phrase not in COLOURS and phrase not in STOP and len(phrase) > 2]


def ends_so(caption: str, phrase: str, net: WordNet) -> bool:
    """Whether a phrase ends a caption's noun phrase, or only adjectives are between: "glass tilted", not "ice cube"."""
    after = next(iter(re.split(rf"\b{re.escape(phrase)}\b", caption.lower(), maxsplit=1)[1:]), "")
    for word in re.findall(r"[a-z'-]+|,", after):
        if word in CUTS or word == ",":
            return True
        shown = singular(word) in SHOWN_AS or word in NOT_HEADS or word in STYLE_WORDS
        if not shown and word not in net.adjectives and not word.endswith(("ing", "ed")):
            return False
    return True
