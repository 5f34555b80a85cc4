"""Write other ways to say what a picture shows: definitions, kinds, synonyms and uses out of WordNet 3.0.

    python data/recipes/wordnet.py [--out DIR]

Reads the manifests of the pool and, where they are built, of the icons. Writes two files (default:
`datasets/wordnet` in the per-user cache), a JSON object a line:

- `paraphrases.jsonl`, for every distinct first caption that WordNet knows, or whose head noun it knows: `text`,
  `also` (what else is true of the picture), `lookup` and `synset` (what was looked up), `split`, and `ids` where
  only some of the rows with this caption mean this (the bird, not the machine).
- `pairs.jsonl`, texts that mean one thing, of any origin: `text`, `also`, `source`, and a row's `split`.

No word of an evaluation set is read. Knows nothing of pictures.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

import emojis
from captions import distinct, with_article, words
from packages import PackageError, cache_root, fetch
from splits import ARTICLES, CUTS, SHOWN_AS

# Senses and words that are left out, as far as WordNet marks them.
OFFENSIVE = re.compile(r"\b(offensive|derogatory|disparaging|slur|obscene|vulgar|taboo|prostitute)\b", re.I)
RUDE_WORDS = words("crapper pot can shitter bum boob tit ass arse prick whore hooker")

# Lexicographer files, by their numbers in WordNet (lexnames(5WN)).
TOPS, ACT, ANIMAL, ARTIFACT, BODY, COMMUNICATION, FOOD, LOCATION = 3, 4, 5, 6, 8, 10, 13, 15
OBJECT, PERSON, PHENOMENON, PLANT, SHAPE, SUBSTANCE = 17, 18, 19, 20, 25, 27
CONCRETE = frozenset({TOPS, ANIMAL, ARTIFACT, BODY, FOOD, OBJECT, PERSON, PHENOMENON, PLANT, SUBSTANCE})

# Weights of choosing a sense, set by reading a hundred choices.
LOG_COUNT, RANK, NOT_CONCRETE, EXPECTED, INSTANCE, SOMEONE, RUDE = 0.45, 0.5, -2.5, 2.5, -6.0, -1.2, -8.0
MARGIN = 0.8  # by which a sense must lead where only the head of a caption was found
LIMIT_SYNONYMS = 4

# Senses that pictures mostly mean, by words of their gloss, where WordNet counts other ones higher.
PREFERRED_LEAD = 6.5
PREFERRED = {
    "alien": "life assumed", "angel": "spiritual being", "barrel": "container that holds liquids",
    "bank": "a building in which the business", "bath": "relatively large open container",
    "beetle": "insect having biting", "bill": "piece of paper money", "bust": "sculpture",
    "bubble": "hollow globule", "bus": "vehicle carrying many", "cabin": "small house", "cake": "baked goods made",
    "camera": "equipment for taking", "castle": "fortified", "chain": "metal) rings", "chestnut": "edible nut of",
    "christmas_tree": "ornamented evergreen", "circus": "oval or circular area", "clove": "flower bud",
    "cloud": "visible mass of water", "clown": "amuses others", "coconut": "large hard-shelled", "corn": "ears of corn",
    "cup": "small open container", "disc": "flat circular plate", "dolphin": "toothed whales",
    "dragon": "creature of Teutonic", "earth": "planet from the sun", "fairy": "small being", "ferret": "albino",
    "family": "primary social group", "fire": "something burning", "fireman": "extinguish",
    "fleur-de-lis": "charge consisting", "ghost": "disembodied soul",
    "glove": "handwear: covers", "hand": "prehensile", "heart": "plane figure with rounded sides",
    "hedgehog": "nocturnal", "helmet": "protective headgear", "horse": "solid-hoofed",
    "hood": "protects the head", "beaver": "semiaquatic", "hut": "crude shelter",
    "hot_dog": "served hot on a bun", "iron": "home appliance", "island": "land mass", "jellyfish": "coelenterat",
    "joker": "playing card", "joystick": "manual control", "kiss": "lips", "lollipop": "hard candy",
    "monster": "imaginary creature", "moon": "natural satellite of a planet", "mug": "with handle",
    "mushroom": "fleshy body", "nurse": "skilled in caring", "ogre": "giant", "organ": "wind instrument whose sound",
    "palette": "board that provides", "park": "recreational", "plant": "lacking the power of locomotion",
    "plate": "on which food is served", "ribbon": "narrow strip", "runner": "athlete", "scale": "weigh",
    "scooter": "child's two-wheeled", "sheet": "paper used for",
    "staff": "five horizontal lines", "star": "plane figure with 5", "streamer": "long strip",
    "wizard": "practices magic", "hook": "curved or bent implement",
    "sun": "star around which", "television": "electronic device that receives",
    "toilet": "plumbing fixture", "van": "truck with an enclosed", "water_glass": "glass for drinking",
    "diamond": "four equal sides", "boot": "footwear that covers",
    "balloon": "thin inflatable", "chicken": "domestic fowl", "banana": "yellow fruit", "food": "solid substance",
    "girl": "young woman", "boy": "youthful male", "mechanic": "automobiles", "goat": "ruminants",
    "glass": "holding liquids", "blender": "electrically powered mixer", "mate": "tea-like",
    "blowfish": "marine fishes", "lamp": "artificial source", "ring": "circlet",
    "flower": "cultivated for its blooms", "rose": "shrubs of the genus", 
    "vase": "open jar", "robot": "mechanism that can move", "fork": "cutlery used",
}  # fmt: skip
# Heads that name the thing too loosely, or mean something else in captions than in WordNet.
LOOSE = words(
    "simple short light case form point need world double bass snap shot tick opening area chat quarter exchange "
    "client connection controller core roll reel print cleaner player pointer marker model outlet stamper post load "
    "slot pocket male female hash dish mail rail wedge board clip stick pin rosette base pacifier crossing stripper "
    "monitor_lizard flip effect character network index gps jack block sport works type direction access level could "
    "side stroke press stand panel unit set kit item piece frame page line bar track key game state spread cut use "
    "user end start top bottom middle centre center corner edge hanger holder figure half mode ammo suit error "
    "information back melting vertical horizontal collection landing volume low high break down treasure tear upper "
    "lower energy impact burst combination droning"
)

# Kinds too wide to help ("an artifact") or that no one says ("a placental").
TOO_WIDE = words(
    "entity physical_entity object whole artifact living_thing organism matter substance instrumentality causal_agent "
    "thing unit abstraction psychological_feature physical_object part relation attribute state event act action "
    "activity process group grouping measure communication solid fluid body_part external_body_part placental "
    "chordate vertebrate craniate vascular_plant spermatophyte angiosperm dicot_genus eutherian content signal way "
    "article commodity consumer_goods creation structure device implement equipment covering invertebrate arthropod "
    "material section area surface piece natural_object geological_formation imagination restraint male female "
    "aquatic_vertebrate bony_fish teleost_fish unguiculate ungulate even-toed_ungulate odd-toed_ungulate carnivore "
    "foodstuff nutriment food_product plant_part plant_organ natural_phenomenon physical_phenomenon location region "
    "point line extremity adult juvenile leader intellectual self-propelled_vehicle wheeled_vehicle conveyance "
    "durables wares ware passeriform_bird gallinaceous_bird neritic_zone domestic_animal_stock reproductive_structure "
    "fabrication product representation visual_communication written_communication message written_symbol diversion "
    "speech_act social_event psychological_state cognition information concept idea production worker anseriform_bird "
    "odd-toed procyonid larid threshold utensil_ware unfortunate inhabitant native organization social_group force "
    "phenomenon property quality change motion happening occurrence condition magnitude definite_quantity "
    "indefinite_quantity time_period fundamental_quantity communicator entertainer expert instrument skilled_worker "
    "professional contestant peer unskilled_person bad_person good_person acquaintance defender preserver belief duty "
    "business"
)
# Kinds that everyone says, taken from any height.
USEFUL = words(
    "mammal bird fish insect reptile amphibian fruit vegetable furniture tool hand_tool musical_instrument vehicle "
    "weapon clothing container building machine food beverage tree flower plant animal toy footwear rodent snake "
    "feline canine dessert kitchen_utensil boat ship aircraft jewelry person bird_of_prey shellfish crustacean "
    "stringed_instrument wind_instrument percussion_instrument game sport headdress room bread cake sweet meat herb "
    "shrub seafood dog cat dinosaur plaything drum furnishing lamp musician athlete mollusk spider home_appliance"
)
SAID = {
    "beverage": "drink", "clothing": "article of clothing", "furniture": "piece of furniture", "plaything": "toy",
    "headdress": "headgear", "sweet": "sweet food", "feline": "cat-like animal", "canine": "dog-like animal",
    "jewelry": "piece of jewelry", "seafood": "seafood", "furnishing": "furnishing",
}  # fmt: skip
UNCOUNTED = words(
    "footwear headgear food meat seafood bread furniture clothing jewelry equipment wear garb money transport flora "
    "life housing ammunition weaponry crockery cutlery pottery tableware glassware earthenware kitchenware underwear "
    "sportswear"
)
# What a gloss's word says of the thing, in plain words.
ATTRIBUTES = {
    "flightless": "that cannot fly", "nocturnal": "that is active at night", "aquatic": "that lives in water",
    "carnivorous": "that eats meat", "herbivorous": "that eats plants", "burrowing": "that digs burrows",
    "arboreal": "that lives in trees", "venomous": "with a poisonous bite or sting", "poisonous": "that is poisonous",
    "wingless": "without wings", "web-footed": "with webbed feet", "long-necked": "with a long neck",
    "long-legged": "with long legs", "short-legged": "with short legs", "spiny": "covered with spines",
    "woolly": "with a woolly coat", "striped": "with stripes", "spotted": "with spots", "horned": "with horns",
    "long-tailed": "with a long tail", "bushy-tailed": "with a bushy tail", "fast-running": "that runs fast",
    "swift": "that is very fast", "slow-moving": "that moves slowly", "two-wheeled": "with two wheels",
    "three-wheeled": "with three wheels", "domesticated": "kept by people", 
     "inflatable": "that can be filled with air", "brimless": "without a brim",
    "sleeveless": "without sleeves", "waterproof": "that keeps water out", "motorized": "driven by a motor",
}  # fmt: skip
# Kinds that such a word may be said of, nearest first.
KINDS = ("bird", "fish", "insect", "reptile", "snake", "vehicle", "garment", "tool", "animal", "plant", "person")
# Which lexicographer files a source's own order speaks for.
OCA_FOLDERS = {
    "animals": {ANIMAL}, "plants": {PLANT}, "food": {FOOD, PLANT}, "tools": {ARTIFACT}, "transportation": {ARTIFACT},
    "office": {ARTIFACT}, "computer": {ARTIFACT}, "household": {ARTIFACT}, "buildings": {ARTIFACT},
    "music": {ARTIFACT}, "geography": {OBJECT}, "electronics": {ARTIFACT},
}  # fmt: skip
EMOJI_GROUPS = {
    "people-body": {PERSON, BODY}, "animals-nature": {ANIMAL, PLANT}, "food-drink": {FOOD, PLANT},
    "travel-places": {ARTIFACT, OBJECT, PHENOMENON}, "objects": {ARTIFACT}, "smileys-emotion": {COMMUNICATION},
}  # fmt: skip
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
STYLE_WORDS = words(
    "silhouette cartoon drawing clipart being hit shaken struck played playing note beat loop roll bass"
)
COLOURS = words("red blue green yellow orange purple pink black white grey gray brown gold golden silver")
STOP = words(
    "a an the of with in on at and or for from to by as is are be was used using use that which who whose it its "
    "having has have not no any some one two usually often especially other etc when where into also very made small "
    "large such can may than their them they something someone more most"
)
# Nouns in form, but in a caption's end they say where or how.
NOT_HEADS = words("off on up down left right back open closed facing tilted sitting lying running side upright simple")
EXAMPLE = re.compile(r'\s*[;:,]?\s*"')
PREPOSITION = re.compile(r"\b(of|with|in|on|for|from|by|having|to|at|that|which|who|into|as|between)\b")
VERBISH = re.compile(r"(is|has|can|may|will|does|[a-z-]+[^s]s)\b")
RANKS = re.compile(r"(a |the |large |type )*(genus|family|order|class)\b")
TAXON = re.compile(r"^(genus|family|order|class|phylum|suborder|subfamily|superfamily|tribe|kingdom|division|sub\w+) ")

console = Console(stderr=True)


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
        documents = [set(content(found.gloss)) for found in self.synsets.values()]
        frequency = Counter(word for document in documents for word in document)
        self.rarity = {word: math.log(len(documents) / count) / 4 for word, count in frequency.items()}
        self._countable = countable(found.gloss for found in self.synsets.values())

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

    def choose(
        self, form: str, context: Counter[str], expected: frozenset[int] | set[int], usual: str = ""
    ) -> tuple[Synset, float, float]:
        """The likeliest sense of a form beside these words, its score, and how far it leads the next one.

        Counted are how frequent a sense is, whether it is in an expected file, whether other pictures mostly mean it
        (`usual`, its offset), and the words its gloss and kinds share with the context (Lesk).
        """
        scored: list[tuple[float, Synset]] = []
        own = set(form.replace("-", "_").split("_"))
        for rank, offset in enumerate(self.senses[form]):
            sense = self.synsets[offset]
            score = LOG_COUNT * math.log1p(self.counts.get((form, rank + 1), 0)) - RANK * min(rank, 6)
            score += EXPECTED * (sense.file in expected)
            score += 0 if sense.file in CONCRETE or sense.file in expected else NOT_CONCRETE
            score += INSTANCE if sense.instance and not (sense.file == LOCATION and LOCATION in expected) else 0
            score += RUDE if OFFENSIVE.search(sense.text) or RANKS.match(sense.gloss) else 0
            score += SOMEONE if sense.file == PERSON and PERSON not in expected else 0
            score += EXPECTED * (offset == usual)
            preferred = PREFERRED.get(form, "\n") in sense.gloss
            score += PREFERRED_LEAD - NOT_CONCRETE * (sense.file not in CONCRETE | expected) if preferred else 0
            near = set(content(sense.gloss)) | {word for lemma in sense.lemmas for word in lemma.lower().split("_")}
            chain = self.above(sense)
            kinds = {word for kind in chain for lemma in kind.lemmas for word in lemma.lower().split("_")}
            kin = {word for kind in chain[:2] for word in content(kind.gloss)}
            for word in context:
                if word not in own:
                    weight = min(2.0, self.rarity.get(word, 1.5))
                    score += weight * max(1.0 * (word in near), 1.3 * (word in kinds), 0.5 * (word in kin))
            scored.append((score, sense))
        scored.sort(key=lambda row: -row[0])
        lead = scored[0][0] - scored[1][0] if len(scored) > 1 else math.inf
        return scored[0][1], scored[0][0], lead

    def said(self, sense: Synset) -> str:
        """A sense's first word as a phrase with an article where English has one: "a hand tool", "footwear"."""
        lemma = next((word for word in sense.lemmas if re.match(r"(piece|article)_of_", word)), sense.lemmas[0])
        phrase = SAID.get(lemma, lemma.replace("_", " "))
        return self.articled(phrase, sense.file)

    def articled(self, phrase: str, file: int) -> str:
        """With "a" or "an" where WordNet's own glosses count such a thing."""
        last = re.split(r" (?:of|for|in|with) ", phrase)[0].split()[-1]
        share = self._countable.get(last.lower(), 0.0 if file in {FOOD, SUBSTANCE} else 1.0)
        mass = share < (0.12 if file not in CONCRETE or file in {FOOD, SUBSTANCE} else 0.0)
        if last in UNCOUNTED or mass or (last.endswith("ing") and file not in CONCRETE) or phrase.startswith("one "):
            return phrase
        if re.match(r"[AEFHILMNORSX][A-Z]", phrase) or re.match(r"ut[ei]", phrase):
            return f"{'an' if phrase[0].isupper() else 'a'} {phrase}"  # as they are spoken: an LCD, a utensil
        return with_article(phrase)

    def kinds(self, sense: Synset) -> list[str]:
        """Up to four phrases of what kind of thing it is, nearest first, without the too wide ones."""
        chain = [kind for kind in self.above(sense) if not kind.instance]
        near = [kind for kind in chain[:4] if not TOO_WIDE & set(kind.lemmas[:1]) and common(kind)]
        near = [kind for kind in near if self.rank(kind.lemmas[0], kind) < 3][:2]
        wide = [kind for kind in chain if kind.lemmas[0] in USEFUL]
        return distinct(self.said(kind) for kind in [*near, *wide[:2]])

    def sayings(self, sense: Synset) -> list[str]:
        """Everything said of a sense: its gloss, the gloss's first part, kinds, uses and attributes."""
        gloss = sense.gloss
        first = re.sub(r"\s*\([^)]*\)", "", gloss).split(";")[0].strip(" ,")
        texts = [gloss, first if len(first) > 8 else "", *self.kinds(sense)]
        chain = [sense, *self.above(sense)[:3]]
        kind = self.kind_word(sense)
        for level, near in enumerate(chain):
            if level < 2:
                texts += uses(near.gloss, near.file) if level == 0 or not TOO_WIDE & set(near.lemmas[:1]) else []
            if near.file in {ANIMAL, PLANT, ARTIFACT} and not TOO_WIDE & set(near.lemmas[:1]):
                opening = re.split(r"\b(?:of|with|having|in|that|which|for|to)\b|[;,(]", near.gloss)[0].split()
                texts += [f"{kind} {ATTRIBUTES[word]}" for word in opening if word in ATTRIBUTES]
        return distinct(texts)

    def kind_word(self, sense: Synset) -> str:
        """ "a bird", "an animal", "someone", else "something": what an attribute is said of."""
        if sense.file == PERSON:
            return "someone"
        above = {kind.lemmas[0] for kind in self.above(sense)}
        return next((with_article(kind) for kind in KINDS if kind in above), "something")

    def rank(self, lemma: str, sense: Synset) -> int:
        """How many senses of a word go before this one: 2 for the ocarina's "sweet potato"."""
        return self.senses.get(lemma.lower(), (sense.offset,)).index(sense.offset)

    def synonyms(self, sense: Synset, form: str) -> list[str]:
        """The other words of a sense, without Latin and proper names, with articles."""
        kept = [word for word in sense.lemmas if word.lower() != form and not latin(word, sense) and len(word) > 2]
        kept = [word for word in kept if self.rank(word, sense) < 2 and word not in RUDE_WORDS]
        texts = [word.replace("_", " ") for word in kept[:LIMIT_SYNONYMS]]
        return texts if sense.instance else [self.articled(text, sense.file) for text in texts]


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


def uses(gloss: str, file: int = ARTIFACT) -> list[str]:
    """What a gloss says a thing is for or does, as phrases of their own.

    Only where the words can be said of nothing but the thing itself: what stands before them has no preposition.

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
        found = re.search(r"\b(that|who) ([^,]+.*)$", part)
        single = re.match(r"(a|an|one|any|someone)\b", part) and not PREPOSITION.search(
            part[: found.start() if found else 0]
        )
        if found and single and VERBISH.match(found[2]):
            texts.append(f"{who} {found[1] if file == PERSON else 'that'} {found[2]}")
    return distinct(text for text in texts if 3 <= len(text.split()) <= 18 and "something" not in text[9:])


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
            sense, score, lead = net.choose(form, context, expected, (usual or {}).get(form, ""))
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


def emoji_subgroups(root: Path) -> dict[str, tuple[str, str]]:
    """Code -> (group, subgroup) of emojibase: "1f42d" -> ("animals-nature", "animal-mammal")."""
    messages = json.loads((root / "en" / "messages.json").read_text(encoding="utf-8"))
    groups = {row["order"]: row["key"] for row in messages["groups"]}
    subgroups = {row["order"]: row["key"] for row in messages["subgroups"]}
    entries = emojis.load_entries(root / "en" / "data.json")
    return {
        emojis.bare(row["hexcode"]): (groups.get(row["group"], ""), subgroups.get(row.get("subgroup"), ""))
        for row in entries
    }


def paraphrases(
    net: WordNet, rows: list[dict[str, Any]], subgroups: dict[str, tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    """A line for each first caption and sense that its rows mean, in the order of the rows."""
    by_text: dict[str, list[dict[str, Any]]] = defaultdict(list)
    known: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        by_text[row["captions"][0]].append(row)
        context, expected = context_of(row, subgroups)
        if expected and (meant := meaning(net, row["captions"][0], context, expected)) is not None:
            known[meant.form][meant.sense.offset] += 1
    usual = {form: senses.most_common(1)[0][0] for form, senses in known.items()}
    for text, mine in by_text.items():
        if flag := re.fullmatch(r"flag of (.+)|(.+) flags?", text, re.I):
            yield {"text": text, "also": flag_sayings(net, flag[1] or flag[2]), "split": mine[0]["split"]}
            continue
        by_sense: dict[str, list[dict[str, Any]]] = defaultdict(list)
        found: dict[str, Meant] = {}
        for row in mine:
            context, expected = context_of(row, subgroups)
            meant = meaning(net, text, context, expected, {} if expected else usual)
            if meant is not None:
                by_sense[meant.sense.offset].append(row)
                found[meant.sense.offset] = meant
        for offset, meant in found.items():
            also = net.sayings(meant.sense) + net.synonyms(meant.sense, meant.form if meant.whole else "")
            also = [saying for saying in distinct(also) if saying.lower() not in same_as(text)]
            line = {"text": text, "also": also, "lookup": meant.form, "synset": offset}
            line["split"] = by_sense[offset][0]["split"]
            if len(found) > 1:
                line["ids"] = [row["id"] for row in by_sense[offset]]
            if also:
                yield line


def same_as(text: str) -> set[str]:
    """A caption with and without its article, in lower case."""
    bare = re.sub(r"^(an?|the) ", "", text.lower())
    return {text.lower(), bare, with_article(bare)}


def flag_sayings(net: WordNet, place: str) -> list[str]:
    """What is said of a flag: what flags are, and of which place, by the place's gloss."""
    texts = ["a flag", "a rectangular piece of cloth of distinctive design"]
    form = net.find(place.replace("&", "and"))
    senses = [net.synsets[offset] for offset in net.senses.get(form, ())]
    country = next((sense for sense in senses if sense.file == LOCATION), None)
    if country is not None and " is a " not in country.gloss:
        gloss = re.sub(r"\s*\([^)]*\)", "", country.gloss).split(";")[0].strip(" ,")
        texts += [f"the flag of {net.articled(gloss, LOCATION)}", "a national flag" if "republic" in gloss else ""]
    return distinct(texts)


def all_pairs(net: WordNet, rows: list[dict[str, Any]], entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Texts that mean one thing: concrete synsets, emoji with their tags, pool rows with their other captions."""
    for sense in net.synsets.values():
        names = [word for word in sense.lemmas if not latin(word, sense)]
        if (
            sense.file not in CONCRETE
            or sense.instance
            or not names
            or OFFENSIVE.search(sense.text)
            or TAXON.match(sense.lemmas[0].replace("_", " "))
        ):
            continue
        if sense.file in {ANIMAL, PLANT} and re.search(r"\b(genus|family|order|taxon|class) ", sense.gloss[:40]):
            continue
        others = [net.articled(word.replace("_", " "), sense.file) for word in names[1 : 1 + LIMIT_SYNONYMS]]
        yield {"text": names[0].replace("_", " "), "also": net.sayings(sense) + others, "source": "wordnet"}
    for entry in entries:
        tags = [tag for tag in entry.get("tags", []) if tag.lower() not in entry["label"].lower()]
        groups = [", ".join(tags[i : i + 4]) for i in range(0, len(tags), 4)]
        if groups:
            yield {"text": emojis.label_phrase(entry["label"]), "also": groups, "source": "emojibase"}
    merged: dict[str, list[str]] = defaultdict(list)
    splits_of = {row["captions"][0]: row["split"] for row in rows}
    for row in rows:
        merged[row["captions"][0]] += row["captions"][1:]
    for text, others in merged.items():
        also = [other for other in distinct(others) if other.lower() not in same_as(text)]
        if also:
            yield {"text": text, "also": also, "source": "pool", "split": splits_of[text]}


def read_rows(root: Path) -> list[dict[str, Any]]:
    """Rows of the pool and, where they are built, of the icons. Raises `PackageError` where there is no pool."""
    pool = root / "datasets" / "pool" / "manifest.jsonl"
    if not pool.is_file():
        raise PackageError(f"{pool}: not there; build it with `python data/recipes/pool.py`")
    icons = root / "datasets" / "icons" / "manifest.jsonl"
    lines = [line for path in (pool, icons) if path.is_file() for line in path.read_text("utf-8").splitlines()]
    return [json.loads(line) for line in lines]


def write_lines(lines: Iterable[dict[str, Any]], path: Path) -> None:
    """Write a JSON object a line, by way of a temporary name."""
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    partial.replace(path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder to write (default: datasets/wordnet in the per-user cache)")
    options = parser.parse_args(arguments)
    out: Path = options.out or cache_root() / "datasets" / "wordnet"
    out.mkdir(parents=True, exist_ok=True)
    try:
        rows = read_rows(cache_root())
        emojibase = fetch("emojibase-data") / "package"
        net = WordNet(fetch("wordnet-base") / "usr/share/wordnet")
    except PackageError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 3
    said = list(paraphrases(net, rows, emoji_subgroups(emojibase)))
    pairs = list(all_pairs(net, rows, emojis.load_entries(emojibase / "en" / "data.json")))
    write_lines(said, out / "paraphrases.jsonl")
    write_lines(pairs, out / "pairs.jsonl")
    report(rows, said, pairs)
    return 0


def report(rows: list[dict[str, Any]], said: list[dict[str, Any]], pairs: list[dict[str, Any]]) -> None:
    """Print how many captions got other words, and how many pairs there are by source."""
    table = Table("file", "of", "lines", "other texts")
    captions = {row["captions"][0] for row in rows}
    known = {line["text"] for line in said}
    table.add_row("paraphrases", f"{len(known)} of {len(captions)} captions", str(len(said)), _texts(said))
    for source in dict.fromkeys(line["source"] for line in pairs):
        mine = [line for line in pairs if line["source"] == source]
        table.add_row("pairs", source, str(len(mine)), _texts(mine))
    Console().print(table)


def _texts(lines: list[dict[str, Any]]) -> str:
    return str(sum(len(line["also"]) for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())
